/* SPDX-License-Identifier: MIT */
/*
 * large_blocks.c - blocks of 1 to 25 MB, whole and writable, counted one by one.
 *
 * expect: matches(delta, said)
 * expect: delta.large.allocations == 41 + 29
 * expect: delta.large.live_blocks == 0
 * expect: last.totals.peak_bytes == first.totals.live_bytes + said.peak_bytes
 */
#include "scene.h"

int main(void)
{
    static struct book book;
    char *held[4] = { 0 };
    uint64_t state = 104729;
    dump_now();
    for (unsigned i = 0; i < 41; i++) {
        if (held[i % 4]) give(&book, held[i % 4]);
        size_t size = 1000003 + (size_t)(draw(&state) % 24000000);
        held[i % 4] = take(&book, size);
        for (size_t at = 0; at < size; at += 65536) held[i % 4][at] = 1;
        held[i % 4][malloc_usable_size(held[i % 4]) - 1] = 1;
    }
    for (unsigned i = 0; i < 4; i++) give(&book, held[i]);
    for (size_t i = 0; i < 29; i++) {  // around the border of the pools
        char *block = take(&book, 128 * 1024 + 1 + i * 4099);
        memset(block, 7, malloc_usable_size(block));
        give(&book, block);
    }
    dump_now();
    say_book(&book);
    return 0;
}
