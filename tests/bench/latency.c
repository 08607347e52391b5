// SPDX-License-Identifier: MIT
/*
 * latency.c - how long single calls of malloc and free take, the slowest included.
 *
 * usage: bench-latency [PERCENT [THREADS]]
 *
 * Idea: a mean hides what a user waits for. Each call is timed on its own with the time
 * stamp counter, fenced on both sides so that nothing of the call is outside; what the
 * reading itself costs is measured and taken off. Times go to a log-linear histogram
 * (32 steps for each doubling, so within 3 %) in static memory of each thread.
 *
 * The work: each thread keeps some thousand blocks and replaces a random one at a time.
 * Nine in ten are below 1 KiB, one in a thousand is between 32 and 256 KiB. Every eighth
 * goes to a table that all threads share, whence another thread may free it.
 * The first fill is not counted: this is the steady state. Touching a new block is not
 * timed either; whoever hands out fresh pages pays in scripts/bench's wall times.
 *
 * Output: `malloc COUNT P50 P99 P99.99 MAX` and the same for free, in nanoseconds.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "tests/bench/bench.h"

enum { STEPS = 3000000, SLOTS = 8000, SHARED = 1024, PROBES = 100000 };
enum {
    STEP_BITS = 5,
    STEPS_EACH = 1 << STEP_BITS,
    BUCKETS = (64 - STEP_BITS) * STEPS_EACH
};
enum call { MALLOC, FREE, CALLS };

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#if defined __x86_64__

/* The clock, in ticks; calls before are done and calls after have not begun. */
static inline uint64_t ticks(void)
{
    __builtin_ia32_lfence();
    uint64_t t = __builtin_ia32_rdtsc();
    __builtin_ia32_lfence();
    return t;
}

#else

static inline uint64_t ticks(void)
{
    return now_ns();
}

#endif

struct histogram {
    uint64_t count[BUCKETS];
};

struct worker {
    pthread_t thread;
    uint64_t seed;
    size_t n_steps;
    bool counted;
    uint64_t checksum;
    size_t size[SLOTS];
    void *block[SLOTS];
    struct histogram times[CALLS];
};

static struct worker workers[BENCH_THREADS];
static _Atomic(void *)
    shared[SHARED];    // exchanged: release what was written, acquire it
static uint64_t cost;  // of ticks() itself, in ticks

/* Below 32 each value has a bucket; from there on each doubling has 32. */
static size_t bucket_of(uint64_t value)
{
    if (value < STEPS_EACH) return (size_t)value;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - STEP_BITS;
    return (size_t)(shift + 1) * STEPS_EACH + (size_t)(value >> shift) - STEPS_EACH;
}

/* The middle of what falls into a bucket. */
static double value_of(size_t bucket)
{
    if (bucket < STEPS_EACH) return (double)bucket;
    size_t shift = bucket / STEPS_EACH - 1;
    uint64_t low = (uint64_t)(STEPS_EACH + bucket % STEPS_EACH) << shift;
    return (double)low + (double)((uint64_t)1 << shift) / 2 - 0.5;
}

static void count(struct worker *self, enum call call, uint64_t begin, uint64_t end)
{
    uint64_t spent = end - begin;
    if (self->counted)
        self->times[call].count[bucket_of(spent > cost ? spent - cost : 0)]++;
}

static void timed_free(struct worker *self, void *block)
{
    uint64_t begin = ticks();
    free(block);
    count(self, FREE, begin, ticks());
}

static void *timed_malloc(struct worker *self, size_t size)
{
    uint64_t begin = ticks();
    void *block = malloc(size);
    count(self, MALLOC, begin, ticks());
    return bench_must(block);
}

static size_t any_size(struct bench_rng *rng)
{
    size_t chance = bench_below(rng, 1000);
    if (chance == 0) return bench_size(rng, 32768, 262144);
    if (chance < 100) return bench_size(rng, 1024, 32768);
    return bench_size(rng, 16, 1024);
}

/* Replaces the block in one slot. */
static void step(struct worker *self, struct bench_rng *rng, size_t slot)
{
    if (self->block[slot]) timed_free(self, self->block[slot]);
    size_t size = any_size(rng);
    unsigned char *block = timed_malloc(self, size);
    bench_touch(block, size, size > BENCH_PAGE ? BENCH_PAGE : BENCH_LINE, slot);
    self->checksum += size;
    if (slot % 8 == 0)
        block = atomic_exchange_explicit(
            &shared[bench_below(rng, SHARED)], block, memory_order_acq_rel);
    self->block[slot] = block;
}

static void *work(void *arg)
{
    struct worker *self = arg;
    struct bench_rng rng = { self->seed };
    for (size_t slot = 0; slot < SLOTS; slot++) step(self, &rng, slot);
    self->counted = true;
    for (size_t i = 0; i < self->n_steps; i++)
        step(self, &rng, bench_below(&rng, SLOTS));
    return NULL;
}

/* What two readings in a row are apart, most often: the median of many. */
static uint64_t cost_of_ticks(void)
{
    static struct histogram probes;
    for (size_t i = 0; i < PROBES; i++) {
        uint64_t begin = ticks();
        probes.count[bucket_of(ticks() - begin)]++;
    }
    size_t bucket = 0;
    for (uint64_t seen = probes.count[0]; seen < PROBES / 2;)
        seen += probes.count[++bucket];
    return (uint64_t)value_of(bucket);
}

/* The time that `share` of all calls keep to, in ticks. Needs: total > 0. */
static double percentile(const struct histogram *times, uint64_t total, double share)
{
    uint64_t rank = (uint64_t)((double)total * share), seen = times->count[0];
    size_t bucket = 0;
    while (seen <= rank && bucket + 1 < BUCKETS) seen += times->count[++bucket];
    return value_of(bucket);
}

static void print(const char *name, enum call call, size_t n_threads, double ns)
{
    static struct histogram sum;
    uint64_t total = 0;
    size_t last = 0;
    memset(&sum, 0, sizeof sum);
    for (size_t i = 0; i < BUCKETS; i++) {
        for (size_t t = 0; t < n_threads; t++)
            sum.count[i] += workers[t].times[call].count[i];
        total += sum.count[i];
        if (sum.count[i]) last = i;
    }
    if (!total) return;
    printf("%s %" PRIu64 " %.1f %.1f %.1f %.1f\n", name, total,
        ns * percentile(&sum, total, 0.5), ns * percentile(&sum, total, 0.99),
        ns * percentile(&sum, total, 0.9999), ns * value_of(last));
}

int main(int argc, char **argv)
{
    size_t n_threads = bench_threads(argc, argv, 1);
    uint64_t begin_ns = now_ns(), begin = ticks(), checksum = 0;
    cost = cost_of_ticks();

    for (size_t i = 0; i < n_threads; i++) {
        workers[i].seed = 500 + i;
        workers[i].n_steps = bench_steps(argc, argv, STEPS / n_threads);
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i])) return 2;
    }
    for (size_t i = 0; i < n_threads; i++) {
        pthread_join(workers[i].thread, NULL);
        checksum += workers[i].checksum;
    }
    double ns = (double)(now_ns() - begin_ns) / (double)(ticks() - begin);
    print("malloc", MALLOC, n_threads, ns);
    print("free", FREE, n_threads, ns);
    return bench_report("latency", checksum);
}
