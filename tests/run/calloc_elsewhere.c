/* SPDX-License-Identifier: MIT */
/*
 * calloc_elsewhere.c - calloc gives zeros also when the pools' range is used up, and
 * when the memory comes from slabs that other classes have used before.
 *
 * expect: delta.totals.live_blocks == 0
 * expect: delta.calls.calloc == 3 * 60013
 * case: default
 * case: small
 * options: reserve=16m
 * case: at_once
 * options: purge=0
 */
#include "scene.h"

enum { BLOCKS = 60013 };

int main(void)
{
    static unsigned char *block[BLOCKS];
    dump_now();
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < BLOCKS; i++) {
            size_t size = 17 + (i + round * 131) % 997;
            MUST((block[i] = calloc(1, size)));
            for (size_t at = 0; at < size; at++) MUST(!block[i][at]);
            memset(block[i], 0xa5, malloc_usable_size(block[i]));
        }
        for (unsigned i = 0; i < BLOCKS; i++) free(block[i]);
    }
    dump_now();
    return 0;
}
