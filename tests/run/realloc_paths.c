/* SPDX-License-Identifier: MIT */
/*
 * realloc_paths.c - in place, moved, fresh, freed and failed are told apart.
 *
 * case: small
 * expect: delta.calls.realloc == 3 + 5 + 7 + 11 + 1
 * expect: delta.calls.realloc_in_place == 3
 * expect: delta.calls.realloc_moved == 5
 * expect: delta.calls.failed == 1
 * expect: delta.totals.allocations == 5 + 7 + 5 + 11 + 1
 * expect: delta.totals.frees == 5 + 11 + 7 + 5 + 1
 * expect: delta.calls.malloc == 5 + 1
 * expect: delta.calls.free == 7 + 5 + 1
 * expect: delta.totals.live_bytes == 0
 * case: large
 * arg: large
 * expect: delta.calls.realloc == 40
 * expect: delta.calls.realloc_in_place + delta.calls.realloc_moved == 40
 * expect: delta.totals.allocations == 1 + delta.calls.realloc_moved
 * expect: delta.totals.frees == delta.calls.realloc_moved
 * expect: delta.totals.live_bytes == said.live_bytes
 * expect: delta.large.live_bytes == said.live_bytes
 * expect: delta.large.live_blocks == 1
 */
#include "scene.h"

static void large(void)
{
    dump_now();
    size_t size = 1000003;
    char *block = malloc(size);
    MUST(block);
    for (int i = 0; i < 40; i++) {
        block[size - 1] = (char)i;
        size_t next = i % 3 == 2 ? size / 2 : size + size / 3;
        block = realloc(block, next);
        MUST(block && (next < size || block[size - 1] == (char)i));
        size = next;
    }
    dump_now();
    say("live_bytes", malloc_usable_size(block));
    free(block);
}

static void small(void)
{
    void *b[11], *fresh[7], *in_place = NULL;
    dump_now();
    for (int i = 0; i < 5; i++) MUST((b[i] = malloc(40)));
    in_place = malloc(100);
    for (size_t i = 0; i < 3; i++)  // the same class: 97 to 112 bytes
        MUST(realloc(in_place, 101 + i) == in_place);
    for (int i = 0; i < 5; i++) {
        void *old = b[i];
        b[i] = realloc(old, 4000);
        MUST(b[i] && b[i] != old);
    }
    for (int i = 0; i < 7; i++) MUST((fresh[i] = realloc(NULL, 50)));
    volatile size_t too_much = SIZE_MAX / 2 + 9;
    MUST(!realloc(in_place, too_much) && errno == ENOMEM);
    for (int i = 0; i < 5; i++) free(b[i]);
    for (int i = 0; i < 11; i++) MUST((b[i] = aligned_alloc(16, 30)));
    for (int i = 0; i < 11; i++) MUST(!realloc(b[i], 0));
    for (int i = 0; i < 7; i++) free(fresh[i]);
    free(in_place);
    dump_now();
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        large();
    else
        small();
    return 0;
}
