/* SPDX-License-Identifier: MIT */
/*
 * too_large.c - sizes above PTRDIFF_MAX and products that overflow give ENOMEM.
 *
 * expect: delta.totals.allocations == 1
 * expect: delta.totals.frees == 1
 * expect: delta.calls.failed == 23
 */
#include "scene.h"

#define FAILS(call)                       \
    do {                                  \
        errno = 0;                        \
        MUST(!(call) && errno == ENOMEM); \
    } while (0)

int main(void)
{
    volatile size_t over = (size_t)PTRDIFF_MAX + 1, all = SIZE_MAX, half = SIZE_MAX / 2;
    volatile size_t big = (size_t)1 << 33;
    dump_now();
    char *kept = malloc(173);
    MUST(kept);
    memset(kept, 'k', 173);
    FAILS(malloc(over));
    FAILS(malloc(all));
    FAILS(malloc(all - 15));
    FAILS(calloc(1, over));
    FAILS(calloc(all, all));
    FAILS(calloc(all, 2));
    FAILS(calloc(big, big));
    FAILS(calloc(3, half));
    FAILS(realloc(kept, over));
    FAILS(realloc(kept, all));
    FAILS(realloc(NULL, all));
    FAILS(reallocarray(kept, all, 2));
    FAILS(reallocarray(kept, big, big));
    FAILS(reallocarray(NULL, over, 1));
    FAILS(memalign(64, over));
    FAILS(memalign(4096, all - 4096));
    FAILS(aligned_alloc(64, all));
    FAILS(valloc(all));
    FAILS(valloc(over));
    FAILS(pvalloc(all));
    FAILS(pvalloc(over));
    void *block = kept;
    errno = 77;
    MUST(posix_memalign(&block, 64, over) == ENOMEM && block == kept);
    MUST(posix_memalign(&block, 4096, all) == ENOMEM && block == kept);
    for (unsigned i = 0; i < 173; i++) MUST(kept[i] == 'k');
    free(kept);
    dump_now();
    return 0;
}
