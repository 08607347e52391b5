/* SPDX-License-Identifier: MIT */
/*
 * sample.c - when the next sample is due.
 *
 * A thread's samples are a Poisson process over the bytes that it allocates: the
 * distance to the next one is exponential with mean T, drawn as -ln(u) T from a
 * uniform u in (0, 1]. Each thread has a generator and a seed of its own. A sampled
 * malloc also measures the fast path (pool.c), and asks whether a dump is due.
 */
#include "pool/host.h"
#include "pool/pool.h"
#include "shim/output.h"

enum { LOG2_BITS = 53 };  // of randomness in u

static const int64_t NEVER = INT64_MAX / 4;

static TP_THREAD uint64_t generator;  // xorshift64*; 0: not seeded

static struct {
    _Atomic(uint64_t) next_dump_ns;
    _Atomic(uint64_t) next_dump_bytes;
} sample;

static uint64_t draw(void)
{
    uint64_t x = generator;
    if (!x) {
        x = tp_os_ticks() ^ ((uint64_t)tp_os_tid() << 32) ^ (uintptr_t)&generator;
        x *= 0x9e3779b97f4a7c15u;  // spreads neighbouring seeds; the golden ratio
        if (!x) x = 1;
    }
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    generator = x;
    return x * 0x2545f4914f6cdd1du;
}

/*
 * -ln(n / 2^53) for 1 <= n <= 2^53, without libm: n = m 2^e with m in [1, 2), and
 * ln m = 2 atanh((m - 1) / (m + 1)) by its series; error below 1e-9.
 */
static double minus_log(uint64_t n)
{
    unsigned e = tp_log2(n);
    double m = (double)n / (double)((uint64_t)1 << e);
    double t = (m - 1) / (m + 1), t2 = t * t, sum = 0;
    for (int k = 17; k >= 1; k -= 2) sum = sum * t2 + 1.0 / k;
    return (double)(LOG2_BITS - (int)e) * 0.69314718055994531 - 2 * t * sum;
}

static int64_t next_distance(void)
{
    if (!tp_options.sample) return NEVER;
    if (tp_options.sample == 1) return 1;
    uint64_t n = (draw() >> (64 - LOG2_BITS)) + 1;
    double distance = minus_log(n) * (double)tp_options.sample;
    return distance < 1 ? 1 : distance > 1e15 ? NEVER : (int64_t)distance;
}

/* True for one caller when the limit is passed; moves it on by `step`. */
static bool passed(_Atomic(uint64_t) *limit, uint64_t now, uint64_t step)
{
    uint64_t due = atomic_load_explicit(limit, memory_order_relaxed);
    if (!step || now < due) return false;
    return atomic_compare_exchange_strong_explicit(
               limit, &due, now + step, memory_order_relaxed, memory_order_relaxed) &&
        due;
}

static uint64_t allocated_bytes(void)
{
    uint64_t bytes;
    struct tp_walk walk;
    do {
        const struct tp_counters *counters;
        bytes = 0;
        walk = tp_pool_walk();
        while ((counters = tp_pool_next(&walk)))
            bytes += tp_counters_sums(counters).allocated_bytes;
    } while (!tp_pool_walked(&walk));
    return bytes;
}

void tp_host_arm(struct tp_sampler *sampler)
{
    sampler->interval = tp_options.sample;
    sampler->to_sample = next_distance();
}

uint32_t tp_host_sampled(struct tp_sampler *sampler, const struct tp_told *block)
{
    if (block->p && tp_options.interval_bytes) tp_host_tick();
    tp_host_arm(sampler);
    return 0;
}

uint32_t tp_host_taken(const struct tp_told *block)
{
    (void)block;
    return 0;
}

void tp_host_freed(uint32_t mark, const struct tp_told *block)
{
    (void)mark;
    (void)block;
}

uint32_t tp_host_resized(
    uint32_t mark, const struct tp_told *block, size_t old_bytes, size_t old_requested)
{
    (void)block;
    (void)old_bytes;
    (void)old_requested;
    return mark;
}

uint32_t tp_host_place(void)
{
    return 0;
}

void tp_host_say_place(const char *heading, uint32_t place)
{
    (void)heading;
    (void)place;
}

void tp_host_tick(void)
{
    tp_live_settle();
    tp_timeline_tick();
    bool due = passed(&sample.next_dump_ns, tp_os_now_ns(), tp_options.interval_ns);
    if (tp_options.interval_bytes && !due)
        due = passed(
            &sample.next_dump_bytes, allocated_bytes(), tp_options.interval_bytes);
    if (due) tp_dump_write(TP_REASON_INTERVAL);
}
