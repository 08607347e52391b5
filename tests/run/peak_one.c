/* SPDX-License-Identifier: MIT */
/*
 * peak_one.c - with one thread the peak is exact, wherever it lies.
 *
 * Random blocks come and go; the highest sum is in the middle, seen by no dump.
 *
 * expect: delta.totals.allocations == said.allocations
 * expect: matches(delta, said)
 * expect: last.totals.peak_exact == True
 * expect: last.totals.peak_bytes == first.totals.live_bytes + said.peak_bytes
 * expect: last.totals.peak_bytes_low == last.totals.peak_bytes_high
 */
#include "scene.h"

enum { SLOTS = 512, STEPS = 100000 };

int main(void)
{
    static struct book book;
    static void *slot[SLOTS];
    uint64_t state = 7919;
    dump_now();
    for (unsigned step = 0; step < STEPS; step++) {
        size_t scale = step < STEPS / 2 ? step : STEPS - step;
        unsigned i = (unsigned)(draw(&state) % SLOTS);
        if (slot[i]) give(&book, slot[i]);
        slot[i] = draw(&state) % 5 ? take(&book, draw(&state) % (1 + scale)) : NULL;
    }
    for (unsigned i = 0; i < SLOTS; i++)
        if (slot[i]) give(&book, slot[i]);
    dump_now();
    say_book(&book);
    return 0;
}
