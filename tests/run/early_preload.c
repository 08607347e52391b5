/* SPDX-License-Identifier: MIT */
/*
 * early_preload.c - with another preloaded library, before or after, all is counted.
 *
 * The other library makes 11 blocks in its constructor and frees them: see early.c.
 *
 * case: before
 * preload: early
 * expect: first.calls.pvalloc == 1
 * expect: first.calls.valloc == 1
 * expect: first.calls.memalign == 1
 * expect: first.calls.posix_memalign == 1
 * expect: first.calls.aligned_alloc == 1
 * expect: first.calls.reallocarray == 1
 * expect: first.coverage.foreign_frees == 0
 * expect: matches(delta, said)
 * case: after
 * preload_after: early
 * expect: first.calls.pvalloc == 1
 * expect: first.calls.reallocarray == 1
 * expect: first.coverage.foreign_frees == 0
 * expect: matches(delta, said)
 */
#include "scene.h"

int main(void)
{
    static struct book book;
    dump_now();
    for (unsigned i = 0; i < 499; i++) give(&book, take(&book, 31 + i * 37));
    dump_now();
    say_book(&book);
    return 0;
}
