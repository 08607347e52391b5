// SPDX-License-Identifier: MIT
/*
 * zeroed.c - a program that gets nearly all of its memory from calloc.
 *
 * Imitates: codecs, simulators, C programs written with care. Objects of 16 bytes to
 * 2 KiB, tables of 4 to 64 KiB, and now and then one of 1 to 4 MB, of which only a
 * part is ever used. Each block is checked to be zero where it is used.
 *
 * Why: zeroing small blocks again is cheap, zeroing fresh pages from the kernel again
 * is not; and a wrong zero shows in the checksum.
 */
#include "tests/bench/bench.h"

enum {
    STEPS = 2000000,
    SLOTS = 4000,
    TABLE_ONE_IN = 24,
    HUGE_ONE_IN = 4000,
    READ_STRIDE = 4 * BENCH_LINE
};

struct slot {
    void *block;
    size_t used;  // bytes read and written
};

static size_t draw_size(struct bench_rng *rng)
{
    if (!bench_below(rng, HUGE_ONE_IN)) return bench_size(rng, 1 << 20, 4 << 20);
    if (!bench_below(rng, TABLE_ONE_IN)) return bench_size(rng, 4096, 65536);
    return bench_size(rng, 16, 2048);
}

int main(int argc, char **argv)
{
    static struct slot slots[SLOTS];
    struct bench_rng rng = { 6 };
    size_t steps = bench_steps(argc, argv, STEPS);
    uint64_t checksum = 0;

    for (size_t step = 0; step < steps; step++) {
        struct slot *slot = &slots[bench_below(&rng, SLOTS)];
        free(slot->block);
        size_t size = draw_size(&rng);
        size_t width = step & 1 ? 8 : 4;
        slot->block = bench_must(calloc((size + width - 1) / width, width));
        slot->used = size < 65536 ? size : size / 3;
        checksum += bench_read(slot->block, slot->used, BENCH_LINE);  // adds zeros
        bench_touch(slot->block, slot->used, BENCH_LINE, ~step);
        checksum += bench_read(slot->block, slot->used, READ_STRIDE);
    }
    for (size_t i = 0; i < SLOTS; i++) free(slots[i].block);
    return bench_report("zeroed", checksum);
}
