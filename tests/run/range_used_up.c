/* SPDX-License-Identifier: MIT */
/*
 * range_used_up.c - when the pools' range is full, or was never to be had, the blocks
 * come from elsewhere, and all are counted.
 *
 * expect: totals_match(delta, said)
 * expect: delta.totals.live_blocks == 0
 * expect: delta.calls.malloc == 200003
 * expect: last.totals.peak_bytes == first.totals.live_bytes + said.peak_bytes
 * case: default
 * case: small
 * options: reserve=16m
 * expect: delta.large.allocations > 100000
 * case: smallest
 * options: reserve=8m
 * expect: delta.large.allocations > 100000
 * case: limited
 * limit: RLIMIT_AS 200m
 */
#include "scene.h"

enum { BLOCKS = 200003 };

int main(void)
{
    static struct book book;
    static unsigned char *block[BLOCKS];
    dump_now();
    for (unsigned i = 0; i < BLOCKS; i++) {
        block[i] = take(&book, 173 + i % 7 * 97);
        block[i][0] = block[i][172] = (unsigned char)i;
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        MUST(block[i][0] == (unsigned char)i && block[i][172] == (unsigned char)i);
        give(&book, block[i]);
    }
    dump_now();
    say_book(&book);
    return 0;
}
