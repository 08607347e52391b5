/* SPDX-License-Identifier: MIT */
/*
 * entry_points.c - each way to ask for memory is counted under its own name.
 *
 * expect: delta.calls.malloc == 2
 * expect: delta.calls.calloc == 3
 * expect: delta.calls.realloc == 4
 * expect: delta.calls.reallocarray == 5
 * expect: delta.calls.aligned_alloc == 7
 * expect: delta.calls.posix_memalign == 11
 * expect: delta.calls.memalign == 13
 * expect: delta.calls.valloc == 17
 * expect: delta.calls.pvalloc == 19
 * expect: delta.calls.free == 23
 * expect: delta.calls.failed == 0
 * expect: delta.calls.realloc_moved == 0
 * expect: delta.totals.allocations == 2 + 3 + 4 + 5 + 7 + 11 + 13 + 17 + 19
 * expect: delta.totals.frees == 23
 * expect: matches(delta, said)
 */
#include "scene.h"

static struct book book;

int main(void)
{
    static void *b[81];
    unsigned n = 0;
    dump_now();
    for (int i = 0; i < 2; i++) b[n++] = took(&book, malloc(33), 33);
    for (int i = 0; i < 3; i++) b[n++] = took(&book, calloc(3, 67), 201);
    for (int i = 0; i < 4; i++) b[n++] = took(&book, realloc(NULL, 129), 129);
    for (int i = 0; i < 5; i++) b[n++] = took(&book, reallocarray(NULL, 5, 53), 265);
    for (int i = 0; i < 7; i++) b[n++] = took(&book, aligned_alloc(64, 577), 577);
    for (int i = 0; i < 11; i++) {
        void *p = NULL;
        MUST(posix_memalign(&p, 128, 1021) == 0);
        b[n++] = took(&book, p, 1021);
    }
    for (int i = 0; i < 13; i++) b[n++] = took(&book, memalign(256, 2039), 2039);
    for (int i = 0; i < 17; i++) b[n++] = took(&book, valloc(4099), 4099);
    for (int i = 0; i < 19; i++) {
        b[n] = pvalloc(8191);
        took(&book, b[n++], 8192);  // a pvalloc asks for whole pages
    }
    MUST(n == 81);
    for (unsigned i = 0; i < 23; i++) give(&book, b[i * 3]);
    free(NULL);  // no block: not counted
    MUST(malloc_usable_size(b[1]) >= 33 && malloc_usable_size(NULL) == 0);
    dump_now();
    say_book(&book);
    return 0;
}
