/* SPDX-License-Identifier: MIT */
/*
 * sixteen.c - every block of every size is aligned to 16 bytes and wholly writable.
 *
 * The usable size may be filled; realloc keeps what the program put there.
 *
 * expect: delta.totals.live_blocks == 0
 * expect: delta.calls.malloc == 100000
 */
#include "scene.h"

int main(void)
{
    dump_now();
    for (size_t size = 1; size <= 100000; size++) {
        unsigned char *block = malloc(size);
        MUST(block && (uintptr_t)block % 16 == 0);
        size_t usable = malloc_usable_size(block);
        MUST(usable >= size);
        if (size < 2000 || size % 97 == 0) {
            memset(block, (int)size, usable);
            unsigned char *more = realloc(block, usable + 1 + size / 3);
            MUST(more && (uintptr_t)more % 16 == 0);
            for (size_t i = 0; i < usable; i++) MUST(more[i] == (unsigned char)size);
            block = realloc(more, 1 + size / 2);
            MUST(block && block[0] == (unsigned char)size);
        }
        free(block);
    }
    dump_now();
    return 0;
}
