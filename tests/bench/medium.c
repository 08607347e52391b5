// SPDX-License-Identifier: MIT
/*
 * medium.c - buffers of 8 KiB to 1 MiB.
 *
 * Imitates: network and file buffers, compression windows, tiles of images. A hundred
 * or two are alive; each is written in full once (here: a word in each cache line),
 * partly read, and replaced. Sizes of each doubling are equally common.
 *
 * Why: above the small classes and below where mmap is affordable. Here allocators
 * differ most: some keep such blocks, others pay the kernel for every single one.
 */
#include "tests/bench/bench.h"

enum {
    STEPS = 36000,
    SLOTS = 160,
    SIZE_LOW = 8 << 10,
    SIZE_HIGH = 1 << 20,
    READ_STRIDE = 8 * BENCH_LINE
};

struct slot {
    void *block;
    size_t size;
};

int main(int argc, char **argv)
{
    static struct slot slots[SLOTS];
    struct bench_rng rng = { 9 };
    size_t steps = bench_steps(argc, argv, STEPS);
    uint64_t checksum = 0;

    for (size_t step = 0; step < steps; step++) {
        struct slot *slot = &slots[bench_below(&rng, SLOTS)];
        if (slot->block) {
            checksum += bench_read(slot->block, slot->size, READ_STRIDE);
            free(slot->block);
        }
        slot->size = bench_size(&rng, SIZE_LOW, SIZE_HIGH);
        slot->block = bench_must(malloc(slot->size));
        bench_touch(slot->block, slot->size, BENCH_LINE, step);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        if (slots[i].block)
            checksum += bench_read(slots[i].block, slots[i].size, READ_STRIDE);
        free(slots[i].block);
    }
    return bench_report("medium", checksum);
}
