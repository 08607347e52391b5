// SPDX-License-Identifier: MIT
/*
 * bench.h - what the allocation patterns share: chance, touching, one checksum.
 *
 * Idea: a pattern is worth timing only if it does the same work each time and under
 * each allocator. So every random choice comes from a generator with a fixed seed,
 * every block is written as a real program would write it and read back before it
 * is freed, and what was read is folded into one line of output. Equal lines mean
 * equal work and whole memory.
 *
 * Holds always: the checksum depends on the scale and the number of threads only, never
 * on addresses, on the order of threads or on time.
 *
 * Knows nothing of: any allocator beyond malloc, calloc, realloc and free.
 */
#ifndef TP_TESTS_BENCH_BENCH_H
#define TP_TESTS_BENCH_BENCH_H

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BENCH_LINE = 64,    // bytes a cache line holds
    BENCH_PAGE = 4096,  // bytes the kernel hands out on first touch
    BENCH_THREADS = 16  // at most
};

struct bench_rng {
    uint64_t state;  // any value will do
};

/* Returns 64 well mixed bits (splitmix64). */
static inline uint64_t bench_next(struct bench_rng *rng)
{
    uint64_t z = (rng->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Returns a number below `limit`. Needs: 0 < limit <= 2^32. */
static inline size_t bench_below(struct bench_rng *rng, size_t limit)
{
    return (size_t)(((bench_next(rng) >> 32) * (uint64_t)limit) >> 32);
}

/*
 * Returns a size between `low` and `high`, each doubling as likely as the next: so
 * small sizes are common and large ones rare, as in most programs.
 */
static inline size_t bench_size(struct bench_rng *rng, size_t low, size_t high)
{
    unsigned doublings = 0;
    while ((low << doublings) < high) doublings++;
    size_t floor = low << bench_below(rng, doublings);
    size_t size = floor + bench_below(rng, floor);
    return size < high ? size : high;
}

/* Returns `block`, or ends the program when memory ran out. */
static inline void *bench_must(void *block)
{
    if (block) return block;
    fputs("bench: out of memory\n", stderr);
    exit(2);
}

/* Writes one word at each `stride`th byte of the block, and the last byte. */
static inline void bench_touch(void *block, size_t size, size_t stride, uint64_t tag)
{
    unsigned char *at = block;
    for (size_t i = 0; i + sizeof tag <= size; i += stride)
        memcpy(at + i, &tag, sizeof tag);
    at[size - 1] = (unsigned char)tag;
}

/* Reads what bench_touch() wrote and returns a sum of it. */
static inline uint64_t bench_read(const void *block, size_t size, size_t stride)
{
    const unsigned char *at = block;
    uint64_t sum = at[size - 1];
    for (size_t i = 0; i + sizeof sum <= size; i += stride) {
        uint64_t word;
        memcpy(&word, at + i, sizeof word);
        sum += word & 0xffffffu;
    }
    return sum;
}

/*
 * Returns how many of `full` steps to do: the first argument is a percentage, 100
 * when absent; at least one step.
 */
static inline size_t bench_steps(int argc, char **argv, size_t full)
{
    unsigned long percent = argc > 1 ? strtoul(argv[1], NULL, 10) : 100;
    size_t steps = full * percent / 100;
    return steps ? steps : 1;
}

/*
 * Returns how many threads share the work: the second argument, `usual` when absent.
 * The work as a whole stays the same. Result: 1 to BENCH_THREADS.
 */
static inline size_t bench_threads(int argc, char **argv, size_t usual)
{
    unsigned long n = argc > 2 ? strtoul(argv[2], NULL, 10) : usual;
    if (n < 1) return 1;
    return n < BENCH_THREADS ? n : BENCH_THREADS;
}

/* Prints the one line of output; returns the exit status for main(). */
static inline int bench_report(const char *name, uint64_t checksum)
{
    printf("%s %016" PRIx64 "\n", name, checksum);
    return fflush(stdout) ? 2 : 0;
}

#endif
