/* SPDX-License-Identifier: MIT */
/*
 * calloc_zero.c - calloc gives zeros, of fresh and of used memory of every size.
 *
 * expect: delta.calls.calloc == 3 * 1200 + 3 * 24
 * expect: delta.totals.live_blocks == 0
 * case: plain
 * case: dirty
 * options: zero=on
 */
#include "scene.h"

static void check_size(size_t size)
{
    unsigned char *block[3];
    for (unsigned i = 0; i < 3; i++) {
        block[i] = calloc(i == 1 ? size : 1, i == 1 ? 1 : size);
        MUST(block[i] && (uintptr_t)block[i] % 16 == 0);
        for (size_t at = 0; at < size; at++) MUST(!block[i][at]);
        memset(block[i], 0xa5, malloc_usable_size(block[i]));
    }
    for (unsigned i = 0; i < 3; i++) free(block[i]);
}

int main(void)
{
    dump_now();
    for (size_t i = 0; i < 1200; i++) check_size(i % 2 ? i * 3 + 1 : i % 100 * 509 + 1);
    for (size_t i = 0; i < 24; i++) check_size(100003 + i % 6 * 300007);
    dump_now();
    return 0;
}
