/* SPDX-License-Identifier: MIT */
/*
 * big_alignment.c - any power of two up to 1 GiB, small and odd sizes, exact books.
 *
 * expect: matches(delta, said)
 * expect: delta.totals.allocations == 3 * 31
 * expect: delta.totals.requested_bytes == 31 * (17 + 4567 + 300007)
 * expect: delta.totals.live_bytes == 0
 * expect: delta.calls.memalign == 93
 */
#include "scene.h"

int main(void)
{
    static struct book book;
    static const size_t sizes[] = { 17, 4567, 300007 };
    dump_now();
    for (unsigned power = 0; power <= 30; power++) {
        void *block[3];
        for (unsigned i = 0; i < 3; i++) {
            block[i] = took(&book, memalign((size_t)1 << power, sizes[i]), sizes[i]);
            MUST((uintptr_t)block[i] % ((size_t)1 << power) == 0);
            MUST(malloc_usable_size(block[i]) >= sizes[i]);
            memset(block[i], 5, sizes[i]);
        }
        for (unsigned i = 0; i < 3; i++) give(&book, block[i]);
    }
    dump_now();
    say_book(&book);
    return 0;
}
