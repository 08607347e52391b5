// SPDX-License-Identifier: MIT
/*
 * handover.c - some threads only allocate, others only free.
 *
 * usage: bench-handover [PERCENT [THREADS [pairs | in | out]]]
 *
 * Imitates: `pairs` is a producer with a consumer of its own, as often as threads allow;
 * `in` is many producers that feed one consumer, as a logger; `out` is one producer that
 * feeds many consumers, as an event loop with workers. Rings of pointers between them.
 *
 * Why: the purest case of memory that must find its way home: nobody frees a block of
 * his own, so whatever a thread caches is of no use to itself.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "tests/bench/bench.h"

enum { BLOCKS = 4000000, RING = 4096, TURNS = 16 };

/*
 * One producer, one consumer. Whoever writes an index releases it, and the other side
 * acquires it: what is in the slots below is then visible.
 */
struct ring {
    _Alignas(BENCH_LINE) _Atomic size_t n_put;    // the producer writes
    _Alignas(BENCH_LINE) _Atomic size_t n_taken;  // the consumer writes
    void *slot[RING];
};

struct side {
    pthread_t thread;
    struct ring *ring;  // the first of n_rings
    size_t n_rings;
    size_t n_blocks;  // through each ring
    uint64_t checksum;
};

static struct ring rings[BENCH_THREADS];

/* Waits for the other side: a few turns on the processor, then it yields. */
static void wait_a_little(size_t *turn)
{
    if (++*turn % TURNS == 0) sched_yield();
}

static void put(struct ring *ring, void *block)
{
    size_t n = atomic_load_explicit(&ring->n_put, memory_order_relaxed), turn = 0;
    while (n - atomic_load_explicit(&ring->n_taken, memory_order_acquire) == RING)
        wait_a_little(&turn);
    ring->slot[n % RING] = block;
    atomic_store_explicit(&ring->n_put, n + 1, memory_order_release);
}

static void *take(struct ring *ring)
{
    size_t n = atomic_load_explicit(&ring->n_taken, memory_order_relaxed), turn = 0;
    while (atomic_load_explicit(&ring->n_put, memory_order_acquire) == n)
        wait_a_little(&turn);
    void *block = ring->slot[n % RING];
    atomic_store_explicit(&ring->n_taken, n + 1, memory_order_release);
    return block;
}

static void *produce(void *arg)
{
    struct side *self = arg;
    struct bench_rng rng = { (uint64_t)(self->ring - rings) + 40 };
    for (size_t i = 0; i < self->n_blocks * self->n_rings; i++) {
        size_t size = bench_size(&rng, 24, 512);
        uint64_t *block = bench_must(malloc(size));
        bench_touch(block, size, BENCH_LINE, i);
        block[0] = size;
        put(self->ring + i % self->n_rings, block);
    }
    return NULL;
}

static void *consume(void *arg)
{
    struct side *self = arg;
    for (size_t i = 0; i < self->n_blocks * self->n_rings; i++) {
        uint64_t *block = take(self->ring + i % self->n_rings);
        self->checksum += bench_read(block, block[0], BENCH_LINE);
        free(block);
    }
    return NULL;
}

/* Gives each of `n_sides` sides its share of the rings and starts it. */
static bool start(
    struct side *side, size_t n_sides, const struct side *whole, void *(*work)(void *))
{
    for (size_t i = 0; i < n_sides; i++) {
        side[i].n_rings = whole->n_rings / n_sides;
        side[i].ring = rings + i * side[i].n_rings;
        side[i].n_blocks = whole->n_blocks;
        if (pthread_create(&side[i].thread, NULL, work, &side[i])) return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    static struct side producer[BENCH_THREADS], consumer[BENCH_THREADS];
    size_t n_threads = bench_threads(argc, argv, 2);
    const char *shape = argc > 3 ? argv[3] : "pairs";
    bool in = !strcmp(shape, "in"), out = !strcmp(shape, "out");
    if (n_threads < 2) n_threads = 2;
    size_t n_rings = in || out ? n_threads - 1 : n_threads / 2;
    size_t n_producers = out ? 1 : n_rings, n_consumers = in ? 1 : n_rings;
    struct side whole = { .n_rings = n_rings,
        .n_blocks = bench_steps(argc, argv, BLOCKS / n_rings) };
    uint64_t checksum = 0;

    if (!start(consumer, n_consumers, &whole, consume)) return 2;
    if (!start(producer, n_producers, &whole, produce)) return 2;
    for (size_t i = 0; i < n_producers; i++) pthread_join(producer[i].thread, NULL);
    for (size_t i = 0; i < n_consumers; i++) {
        pthread_join(consumer[i].thread, NULL);
        checksum += consumer[i].checksum;
    }
    return bench_report("handover", checksum);
}
