/* SPDX-License-Identifier: MIT */
/*
 * zero_on_free.c - zero=on leaves nothing of the content in a freed block.
 *
 * Read through the old pointer, as an attacker would; the first 16 bytes may hold
 * the allocator's own link.
 *
 * options: zero=on
 * plain: no
 * expect: said.seen == 0
 * expect: delta.totals.live_blocks == 0
 */
#include "scene.h"

int main(void)
{
    static const size_t sizes[] = { 48, 100, 173, 1009, 4567, 20011, 100003 };
    number seen = 0;
    dump_now();
    for (unsigned i = 0; i < 7; i++) {
        char *hold = malloc(sizes[i]);  // keeps the slab from becoming empty
        char *volatile block = malloc(sizes[i]);
        MUST(hold && block);
        memset(block, 0xa5, malloc_usable_size(block));
        size_t usable = malloc_usable_size(block);
        free(block);
        for (size_t at = 16; at < usable; at++)
            seen += ((volatile char *)block)[at] != 0;
        free(hold);
    }
    dump_now();
    say("seen", seen);
    return 0;
}
