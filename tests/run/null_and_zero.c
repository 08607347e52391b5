/* SPDX-License-Identifier: MIT */
/*
 * null_and_zero.c - malloc(0), free(NULL), realloc(NULL, n), realloc(p, 0), as glibc.
 *
 * expect: delta.totals.live_blocks == 0
 * expect: delta.totals.allocations == 1009 + 1 + 4 + 1
 */
#include "scene.h"

int main(void)
{
    static void *empty[1009];
    volatile size_t none = 0;
    dump_now();
    for (unsigned i = 0; i < 1009; i++) {
        empty[i] = malloc(none);
        MUST(empty[i] && (uintptr_t)empty[i] % 16 == 0);
        for (unsigned j = 0; j < i; j++) MUST(empty[j] != empty[i]);
    }
    for (unsigned i = 0; i < 1009; i++) free(empty[i]);
    free(NULL);

    void *block = realloc(NULL, 173);
    MUST(block);
    errno = 1234;
    MUST(!realloc(block, none) && errno == 1234);  // frees, and that is no failure

    void *nothing[] = { calloc(none, 7), calloc(7, none), realloc(NULL, none),
        reallocarray(NULL, none, 5) };
    for (unsigned i = 0; i < 4; i++) {
        MUST(nothing[i]);
        free(nothing[i]);
    }
    void *aligned = memalign(64, none);
    MUST(aligned && (uintptr_t)aligned % 64 == 0);
    free(aligned);
    MUST(malloc_usable_size(NULL) == 0);
    dump_now();
    return 0;
}
