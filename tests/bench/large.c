// SPDX-License-Identifier: MIT
/*
 * large.c - blocks of 1 to 25 MB that come and go.
 *
 * Imitates: image and array programs. A handful of large blocks is alive at a time;
 * each is written once from end to end (here: one word in each page, which costs the
 * page fault and leaves out the arithmetic), read back, and replaced by another of
 * an unrelated size.
 *
 * Why: page faults decide. An allocator that returns pages at once pays for them
 * again with the next block; one that keeps everything shows in the peak.
 */
#include "tests/bench/bench.h"

enum { STEPS = 700, SLOTS = 6, SIZE_LOW = 1 << 20, SIZE_HIGH = 25 << 20 };

struct slot {
    void *block;
    size_t size;
};

int main(int argc, char **argv)
{
    static struct slot slots[SLOTS];
    struct bench_rng rng = { 5 };
    size_t steps = bench_steps(argc, argv, STEPS);
    uint64_t checksum = 0;

    for (size_t step = 0; step < steps; step++) {
        struct slot *slot = &slots[bench_below(&rng, SLOTS)];
        if (slot->block) {
            checksum += bench_read(slot->block, slot->size, BENCH_PAGE);
            free(slot->block);
        }
        slot->size = SIZE_LOW + bench_below(&rng, SIZE_HIGH - SIZE_LOW);
        slot->block = bench_must(malloc(slot->size));
        bench_touch(slot->block, slot->size, BENCH_PAGE, step);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        if (slots[i].block)
            checksum += bench_read(slots[i].block, slots[i].size, BENCH_PAGE);
        free(slots[i].block);
    }
    return bench_report("large", checksum);
}
