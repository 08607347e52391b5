// SPDX-License-Identifier: MIT
/*
 * sparse.c - a gigabyte of small blocks, of which one in a thousand stays; then quiet.
 *
 * Imitates: a server after a burst, or a compiler after its largest file. What stays is
 * spread over everything that was used. The process then does next to nothing for two
 * seconds, or its share of them: a hundred times a second a handful of blocks comes and
 * goes.
 *
 * Why: what an allocator gives back, and when. The answer is the resident memory at
 * the end, and its mean over time; the time of rest is no part of the wall time that
 * scripts/bench compares.
 */
#include <time.h>

#include "tests/bench/bench.h"

enum {
    TOTAL_KIB = 1 << 20,
    STAYS_ONE_IN = 1000,
    BEATS = 200,
    HANDFUL = 16,
    BEAT_NS = 10000000
};

struct block {
    struct block *next;  // in the order in which they were made
    size_t size;
};

int main(int argc, char **argv)
{
    size_t left = bench_steps(argc, argv, TOTAL_KIB) * 1024;
    struct bench_rng rng = { 12 };
    struct block *first = NULL, **end = &first;
    uint64_t checksum = 0;

    while (left) {
        size_t size = bench_size(&rng, 32, 1024);
        struct block *block = bench_must(malloc(size));
        bench_touch(block, size, BENCH_LINE, left);
        block->size = size;
        block->next = NULL;
        *end = block;
        end = &block->next;
        left -= size < left ? size : left;
    }
    struct block **place = &first;
    for (size_t i = 0; *place; i++) {
        struct block *block = *place;
        checksum += block->size;
        if (i % STAYS_ONE_IN == 0) {
            place = &block->next;
        } else {
            *place = block->next;
            free(block);
        }
    }
    size_t n_beats = bench_steps(argc, argv, BEATS);
    for (size_t i = 0; i < n_beats; i++) {
        struct timespec beat = { .tv_nsec = BEAT_NS };
        nanosleep(&beat, NULL);
        void *block[HANDFUL];
        for (size_t n = 0; n < HANDFUL; n++) {
            size_t size = bench_size(&rng, 32, 1024);
            block[n] = bench_must(malloc(size));
            bench_touch(block[n], size, BENCH_LINE, i);
        }
        for (size_t n = 0; n < HANDFUL; n++) free(block[n]);
    }
    for (struct block *block = first; block; block = block->next)
        checksum += block->size;
    return bench_report("sparse", checksum);
}
