// SPDX-License-Identifier: MIT
/*
 * random.c - random sizes and random lifetimes in one thread.
 *
 * Imitates: a long-running program whose heap has lost all order: an editor, a
 * browser's document tree, a cache. Any block may be freed at any time; sizes are
 * 16 bytes to 32 KiB, small ones far more often.
 *
 * Why: free meets slabs that are cold in the cache and lists in no order; the heap
 * fragments, so peak memory tells as much as time.
 */
#include "tests/bench/bench.h"

enum {
    STEPS = 4000000,
    SLOTS = 60000,
    SMALL_MAX = 512,
    LARGE_MAX = 32768,
    LARGE_ONE_IN = 32
};

struct slot {
    void *block;
    size_t size;
};

int main(int argc, char **argv)
{
    struct slot *slots = bench_must(calloc(SLOTS, sizeof *slots));
    struct bench_rng rng = { 2 };
    size_t steps = bench_steps(argc, argv, STEPS);
    uint64_t checksum = 0;

    for (size_t step = 0; step < steps; step++) {
        struct slot *slot = &slots[bench_below(&rng, SLOTS)];
        if (slot->block) {
            checksum += bench_read(slot->block, slot->size, BENCH_LINE);
            free(slot->block);
        }
        size_t high = bench_below(&rng, LARGE_ONE_IN) ? SMALL_MAX : LARGE_MAX;
        slot->size = bench_size(&rng, 16, high);
        slot->block = bench_must(malloc(slot->size));
        bench_touch(slot->block, slot->size, BENCH_LINE, step);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        if (!slots[i].block) continue;
        checksum += bench_read(slots[i].block, slots[i].size, BENCH_LINE);
        free(slots[i].block);
    }
    free(slots);
    return bench_report("random", checksum);
}
