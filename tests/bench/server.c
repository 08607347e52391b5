// SPDX-License-Identifier: MIT
/*
 * server.c - a server whose threads hand blocks to each other.
 *
 * Imitates: a web or database server. Each of its threads takes requests; a request
 * allocates a session, a few headers and a buffer, frees most of it at once, and
 * leaves its answer in a table that all threads share. Whoever uses that place next
 * frees the answer, so about one block in nine dies in another thread than its own.
 *
 * Why: mixes the private fast path with frees from strangers, more threads than
 * processors included.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/bench/bench.h"

enum { THREADS = 4, REQUESTS = 1600000, SHARED = 8192, HEADERS = 4 };

struct answer {
    uint64_t tag;
    size_t size;  // of the whole block
};

/* Every thread exchanges answers here: release what was written, acquire it. */
static _Atomic(struct answer *) shared[SHARED];

struct worker {
    pthread_t thread;
    uint64_t seed;
    size_t n_requests;
    uint64_t checksum;  // the worker writes, main reads after the join
};

/* Frees an answer, which any thread may have made; returns its part of the sum. */
static uint64_t drop(struct answer *answer)
{
    if (!answer) return 0;
    uint64_t part = answer->tag + answer->size;
    free(answer);
    return part;
}

static uint64_t serve(struct bench_rng *rng, uint64_t tag)
{
    char *session = bench_must(calloc(1, 264));
    void *header[HEADERS];
    size_t size[HEADERS];
    for (size_t i = 0; i < HEADERS; i++) {
        size[i] = bench_size(rng, 16, 160);
        header[i] = bench_must(malloc(size[i]));
        bench_touch(header[i], size[i], 8, tag);
    }
    size_t buffer_size = bench_size(rng, 512, 8192);
    void *buffer = bench_must(malloc(buffer_size));
    bench_touch(buffer, buffer_size, BENCH_LINE, tag);

    struct answer *answer;
    size_t answer_size = sizeof *answer + bench_size(rng, 32, 2048);
    answer = bench_must(malloc(answer_size));
    bench_touch(answer, answer_size, BENCH_LINE, tag);
    answer->tag = tag;
    answer->size = answer_size;

    uint64_t sum = bench_read(buffer, buffer_size, BENCH_LINE) + (uint64_t)session[263];
    for (size_t i = 0; i < HEADERS; i++) {
        sum += bench_read(header[i], size[i], 8);
        free(header[i]);
    }
    free(buffer);
    free(session);
    _Atomic(struct answer *) *place = &shared[bench_below(rng, SHARED)];
    return sum + drop(atomic_exchange_explicit(place, answer, memory_order_acq_rel));
}

static void *work(void *arg)
{
    struct worker *self = arg;
    struct bench_rng rng = { self->seed };
    uint64_t sum = 0;
    for (size_t i = 0; i < self->n_requests; i++) sum += serve(&rng, i);
    self->checksum = sum;
    return NULL;
}

int main(int argc, char **argv)
{
    static struct worker worker[BENCH_THREADS];
    size_t n_threads = bench_threads(argc, argv, THREADS);
    uint64_t checksum = 0;

    for (size_t i = 0; i < n_threads; i++) {
        worker[i].seed = 300 + i;
        worker[i].n_requests = bench_steps(argc, argv, REQUESTS / n_threads);
        if (pthread_create(&worker[i].thread, NULL, work, &worker[i])) return 2;
    }
    for (size_t i = 0; i < n_threads; i++) {
        pthread_join(worker[i].thread, NULL);
        checksum += worker[i].checksum;
    }
    for (size_t i = 0; i < SHARED; i++)
        checksum += drop(atomic_load_explicit(&shared[i], memory_order_relaxed));
    return bench_report("server", checksum);
}
