// SPDX-License-Identifier: MIT
/*
 * threads.c - threads that start, work a little and end.
 *
 * Imitates: a server with a thread for each connection, or a library that starts
 * threads for every parallel loop. Two run at a time, unless the second argument says
 * another number. Each allocates some hundred blocks, frees nine tenths and leaves the rest to the thread that joins it.
 *
 * The main thread holds some megabytes all the while, as the state of a server.
 *
 * Why: what an allocator sets up for a thread and leaves behind after it is paid
 * here ten thousand times; what it leaves behind shows in the peak.
 */
#include <pthread.h>

#include "tests/bench/bench.h"

enum { VISITS = 10000, ABREAST = 2, BLOCKS = 400, LEFT_ONE_IN = 10, STATE = 16000 };

struct visitor {
    pthread_t thread;
    uint64_t seed;
    uint64_t checksum;  // the thread writes, main reads after the join
    size_t n_left;
    void *left[BLOCKS / LEFT_ONE_IN + 1];
};

static void *visit(void *arg)
{
    struct visitor *self = arg;
    struct bench_rng rng = { self->seed };
    void *block[BLOCKS];
    size_t size[BLOCKS];
    self->n_left = 0;
    for (size_t i = 0; i < BLOCKS; i++) {
        size[i] = bench_size(&rng, 16, 2048);
        block[i] = bench_must(malloc(size[i]));
        bench_touch(block[i], size[i], BENCH_LINE, i);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        self->checksum += bench_read(block[i], size[i], BENCH_LINE);
        if (i % LEFT_ONE_IN)
            free(block[i]);
        else
            self->left[self->n_left++] = block[i];
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static struct visitor visitor[BENCH_THREADS];
    static void *state[STATE];
    struct bench_rng rng = { 10 };
    size_t abreast = bench_threads(argc, argv, ABREAST);
    size_t rounds = bench_steps(argc, argv, VISITS / abreast);
    uint64_t checksum = 0;

    for (size_t i = 0; i < STATE; i++) {
        size_t size = bench_size(&rng, 64, 2048);
        state[i] = bench_must(malloc(size));
        bench_touch(state[i], size, BENCH_LINE, i);
    }

    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < abreast; i++) {
            struct visitor *v = &visitor[i];
            v->seed = round * abreast + i;
            v->checksum = 0;
            if (pthread_create(&v->thread, NULL, visit, v)) return 2;
        }
        for (size_t i = 0; i < abreast; i++) {
            struct visitor *v = &visitor[i];
            pthread_join(v->thread, NULL);
            checksum += v->checksum;
            for (size_t k = 0; k < v->n_left; k++) free(v->left[k]);
        }
    }
    for (size_t i = 0; i < STATE; i++) free(state[i]);
    return bench_report("threads", checksum);
}
