/* SPDX-License-Identifier: MIT */
/*
 * realloc_storm.c - 20000 reallocs over all sizes: contents and live bytes survive.
 *
 * expect: delta.calls.realloc == 20000
 * expect: delta.totals.live_blocks == 37
 * expect: delta.totals.live_bytes == said.live_bytes
 * expect: delta.calls.malloc == 37
 * expect: delta.calls.free == 0
 * expect: delta.totals.allocations == 37 + delta.calls.realloc_moved
 * expect: delta.calls.realloc_moved + delta.calls.realloc_in_place == 20000
 */
#include "scene.h"

enum { BLOCKS = 37, STEPS = 20000 };

int main(void)
{
    static unsigned char *block[BLOCKS];
    static size_t size[BLOCKS];
    uint64_t state = 20250301;
    dump_now();
    for (unsigned i = 0; i < BLOCKS; i++) {
        size[i] = 17;
        MUST((block[i] = malloc(size[i])));
        memset(block[i], (int)i, size[i]);
    }
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned i = (unsigned)(draw(&state) % BLOCKS);
        size_t next = 1 + (size_t)(draw(&state) % ((size_t)1 << draw(&state) % 20));
        unsigned char *moved = realloc(block[i], next);
        size_t kept = next < size[i] ? next : size[i];
        MUST(moved && moved[0] == i && moved[kept - 1] == i && moved[kept / 2] == i);
        memset(moved, (int)i, next);
        block[i] = moved;
        size[i] = next;
    }
    dump_now();
    number live = 0;
    for (unsigned i = 0; i < BLOCKS; i++) live += malloc_usable_size(block[i]);
    say("live_bytes", live);
    return 0;
}
