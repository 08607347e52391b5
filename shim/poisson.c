/* SPDX-License-Identifier: MIT */
/*
 * poisson.c - when the next sample is due, and what a sample stands for.
 *
 * Idea: the samples of a heap are a Poisson process over the bytes that it allocates,
 * with a mean distance of T. The distance to the next one is exponential and has no
 * memory, so it is drawn anew at the end of each sampled block, and every block of s
 * bytes is sampled with p = 1 - exp(-s / T), whatever was sampled before. A sample
 * stands for w = 1 / p blocks like it (Horvitz and Thompson).
 *
 * T may change from sample to sample as long as only the past decides: a block's chance
 * is then known before the block is, and the weights stay free of bias. What decides
 * here is the time since the sample before. It is never shorter than what was asked for:
 * that would cost the program time, and make weights unlike that could be alike.
 *
 * Holds always:
 *   - the distance is D cut to a whole number, D exponential, and the block with which
 *     *more* bytes than that were allocated is the sample: for whole s that is D < s
 *     with exactly p;
 *   - nothing here is seen by the program: the floating point state is put back as it
 *     was, flags and rounding included, and no trap is taken;
 *   - all results are finite and fit their type, whatever the arguments are.
 *
 * Knows nothing of: the pool, sites, files.
 */
#include "pool/os.h"
#include "shim/profile.h"

enum { BITS = 53 };  // of randomness in a uniform number

static const int64_t NEVER = INT64_MAX / 4;
static const uint64_t MOST = (uint64_t)1 << 50;  // bytes: the longest interval

static struct {
    _Atomic(uint64_t) seeds;  // given out so far; each heap adds one
    _Atomic(uint64_t) salt;   // 0, or what sets this process apart from its parent
} poisson;

/* ---- the program's floating point state ---- */

#if defined(__x86_64__)
struct tp_floats tp_floats_hold(void)
{
    struct tp_floats held = { __builtin_ia32_stmxcsr() };
    __builtin_ia32_ldmxcsr(0x1f80);  // round to nearest, no traps, no flags
    __asm__ volatile("" ::: "memory");
    return held;
}

void tp_floats_return(struct tp_floats held)
{
    __asm__ volatile("" ::: "memory");
    __builtin_ia32_ldmxcsr((unsigned)held.state);
}
#elif defined(__aarch64__)
struct tp_floats tp_floats_hold(void)
{
    uint64_t control, status;
    __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(control), "=r"(status));
    __asm__ volatile("msr fpcr, xzr\n\tmsr fpsr, xzr" ::: "memory");
    return (struct tp_floats){ control << 32 | (uint32_t)status };
}

void tp_floats_return(struct tp_floats held)
{
    uint64_t control = held.state >> 32, status = (uint32_t)held.state;
    __asm__ volatile("msr fpcr, %0\n\tmsr fpsr, %1" ::"r"(control), "r"(status)
                     : "memory");
}
#else
struct tp_floats tp_floats_hold(void)
{
    return (struct tp_floats){ 0 };
}

void tp_floats_return(struct tp_floats held)
{
    (void)held;
}
#endif

/* The compiler moves no arithmetic on `x` across this: it may not know the state. */
#define TP_KEEP(x) __asm__ volatile("" : "+m"(x)::"memory")

/* ---- random numbers ---- */

/* splitmix64 (Steele, Lea and Flood 2014): a counter, and a function that mixes it. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/*
 * Neighbours in time, threads of one number in two processes, and heaps seeded within
 * one tick differ in at least one of these.
 */
static uint64_t seed(const struct tp_sampler *sampler)
{
    uint64_t nth =
        atomic_fetch_add_explicit(&poisson.seeds, 1, memory_order_relaxed) + 1;
    uint64_t x = mix(tp_os_ticks()) ^ mix((uint64_t)tp_os_tid() << 32 | nth);
    x = mix(x ^ mix((uintptr_t)sampler));
    return x ? x : 1;
}

/* 1 .. 2^53, each as likely. */
static uint64_t draw(struct tp_sampler *sampler)
{
    if (!sampler->generator) sampler->generator = seed(sampler);
    sampler->generator += 0x9e3779b97f4a7c15u;
    uint64_t salt = atomic_load_explicit(&poisson.salt, memory_order_relaxed);
    return (mix(sampler->generator ^ salt) >> (64 - BITS)) + 1;
}

void tp_poisson_forked(void)
{
    uint64_t salt = mix(tp_os_ticks()) ^ mix(tp_os_tid());
    atomic_store_explicit(&poisson.salt, salt ? salt : 1, memory_order_relaxed);
}

/* ---- logarithm and exponential; libm may not be there ---- */

static const double LN2 = 0.69314718055994530942;

/*
 * -ln(n / 2^53) for 1 <= n <= 2^53: n = m 2^e with m in [3/4, 3/2), and
 * ln m = 2 atanh((m - 1) / (m + 1)) by its series. Relative error below 1e-12.
 */
static double minus_log(uint64_t n)
{
    unsigned e = tp_log2(n);
    double m = (double)n / (double)((uint64_t)1 << e);
    if (m >= 1.5) {
        m /= 2;
        e++;
    }
    double t = (m - 1) / (m + 1), t2 = t * t, sum = 0;
    for (int k = 19; k >= 1; k -= 2) sum = sum * t2 + 1.0 / k;
    return (double)(BITS - (int)e) * LN2 - 2 * t * sum;
}

/*
 * Fills 1 - exp(-x) and exp(-x), each with a relative error below 1e-13; x > 0.
 * x = k ln 2 + r with |r| <= ln 2 / 2, and exp(-r) - 1 by its series.
 */
static void chance(double x, double *out_p, double *out_rest)
{
    *out_p = 1;
    *out_rest = 0;
    if (!(x < 700)) return;
    int k = (int)(x / LN2 + 0.5);
    double r = x - (double)k * LN2, less_one = 0;
    for (int i = 15; i >= 1; i--) less_one = (less_one + 1) * -r / i;
    union {
        uint64_t bits;
        double value;
    } scale = { .bits = (uint64_t)(1023 - k) << 52 };  // 2^-k, not denormal: k <= 1010
    *out_p = (1 - scale.value) - scale.value * less_one;
    *out_rest = scale.value * (1 + less_one);
}

/* To the nearest, and the largest when it is larger. */
static uint64_t whole(double value)
{
    return value < 9e18 ? (uint64_t)(value + 0.5) : (uint64_t)9e18;
}

/* ---- distances ---- */

static uint64_t clamp(uint64_t interval, uint64_t least, uint64_t most)
{
    if (interval < least) interval = least;
    return interval > most ? most : interval;
}

/* Draws the next distance with sampler->interval. */
static void aim(struct tp_sampler *sampler)
{
    uint64_t interval = sampler->interval;
    if (interval <= 1) {  // all of them, or none
        sampler->to_sample = interval ? 1 : NEVER;
        return;
    }
    uint64_t n = draw(sampler);
    struct tp_floats held = tp_floats_hold();
    TP_KEEP(n);
    int64_t distance = (int64_t)(minus_log(n) * (double)interval);
    TP_KEEP(distance);
    tp_floats_return(held);
    sampler->to_sample = tp_max_i64(distance, 1);
}

void tp_poisson_arm(struct tp_sampler *sampler, uint64_t base)
{
    sampler->interval = clamp(base, 0, MOST);
    sampler->last_ticks = 0;
    aim(sampler);
}

void tp_poisson_next(struct tp_sampler *sampler, uint64_t base, uint64_t now_ticks,
    uint64_t ticks_per_ms)
{
    uint64_t last = sampler->last_ticks, interval = sampler->interval;
    base = clamp(base, 0, MOST);
    // Counters of two processors may differ by a little: the past is before now.
    if (last && now_ticks > last && ticks_per_ms && base > 1) {
        uint64_t passed = now_ticks - last;
        if (passed < ticks_per_ms)
            interval *= 2;
        else if (passed / 10 > ticks_per_ms)
            interval /= 2;
    }
    uint64_t most = base > MOST / 32 ? MOST : base > 1 ? base * 32 : base;
    sampler->interval = clamp(interval, base, most);
    sampler->last_ticks = now_ticks;
    aim(sampler);
}

bool tp_poisson_hits(struct tp_sampler *sampler, uint64_t interval, size_t bytes)
{
    if (interval <= 1) return interval == 1;
    uint64_t n = draw(sampler);
    struct tp_floats held = tp_floats_hold();
    TP_KEEP(n);
    TP_KEEP(interval);
    TP_KEEP(bytes);
    bool hit = minus_log(n) * (double)clamp(interval, 0, MOST) < (double)bytes;
    TP_KEEP(hit);
    tp_floats_return(held);
    return hit;
}

/* ---- weights ---- */

struct tp_weight tp_weight_one(size_t bytes, size_t requested, bool large)
{
    return (struct tp_weight){
        .blocks = TP_FORMAT_ONE,
        .requested = requested,
        .bytes = large ? bytes : 0,
    };
}

/* The weight with the floating point state held. */
static struct tp_weight weigh(
    uint64_t interval, size_t bytes, size_t requested, bool large)
{
    double p, rest, size = (double)(bytes ? bytes : 1);
    chance(size / (double)clamp(interval, 1, MOST), &p, &rest);
    struct tp_weight weight = tp_weight_one(bytes, requested, large);
    weight.samples = 1;
    if (p >= 1) return weight;
    double w = 1 / p;
    weight.blocks = whole(w * TP_FORMAT_ONE);
    weight.requested = whole(w * (double)requested);
    weight.block_variance = w * w * rest;  // w - 1 = rest / p, without cancellation
    if (!large) return weight;
    weight.bytes = whole(w * size);
    weight.byte_variance = size * size * weight.block_variance;
    return weight;
}

struct tp_weight tp_poisson_weight(
    uint64_t interval, size_t bytes, size_t requested, bool large)
{
    if (interval <= 1) {
        struct tp_weight certain = tp_weight_one(bytes, requested, large);
        certain.samples = 1;  // taken as one, and on record as one
        return certain;
    }
    struct tp_floats held = tp_floats_hold();
    TP_KEEP(interval);
    TP_KEEP(bytes);
    TP_KEEP(requested);
    struct tp_weight weight = weigh(interval, bytes, requested, large);
    TP_KEEP(weight);
    tp_floats_return(held);
    return weight;
}
