// SPDX-License-Identifier: MIT
/*
 * sharing.c - threads that write to small blocks of their own, again and again.
 *
 * Imitates: counters and small states of threads. Each thread begins with a block that
 * the main thread made beside those of the others and frees it; from then on it
 * allocates small blocks, writes to each many times, frees it and takes the next.
 *
 * Why: an allocator that gives two threads blocks of one cache line makes them slow
 * though they share nothing: at once (active false sharing), or when a thread reuses the
 * block that another one made (passive). It is the only thing that is timed here.
 */
#include <pthread.h>

#include "tests/bench/bench.h"

enum { THREADS = 2, ROUNDS = 4000000, WRITES = 120, SIZE = 16 };

struct worker {
    pthread_t thread;
    void *given;  // main made it; the thread frees it
    size_t n_rounds;
    uint64_t checksum;  // the thread writes, main reads after the join
};

static void *work(void *arg)
{
    struct worker *self = arg;
    uint64_t sum = 0;
    free(self->given);
    for (size_t i = 0; i < self->n_rounds; i++) {
        volatile uint64_t *block = bench_must(malloc(SIZE));
        block[0] = i;
        for (size_t n = 0; n < WRITES; n++) block[0] += n;
        sum += block[0];
        free((void *)(uintptr_t)block);
    }
    self->checksum = sum;
    return NULL;
}

int main(int argc, char **argv)
{
    static struct worker worker[BENCH_THREADS];
    size_t n_threads = bench_threads(argc, argv, THREADS);
    uint64_t checksum = 0;

    for (size_t i = 0; i < n_threads; i++) worker[i].given = bench_must(malloc(SIZE));
    for (size_t i = 0; i < n_threads; i++) {
        worker[i].n_rounds = bench_steps(argc, argv, ROUNDS / n_threads);
        if (pthread_create(&worker[i].thread, NULL, work, &worker[i])) return 2;
    }
    for (size_t i = 0; i < n_threads; i++) {
        pthread_join(worker[i].thread, NULL);
        checksum += worker[i].checksum;
    }
    return bench_report("sharing", checksum);
}
