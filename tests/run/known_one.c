/* SPDX-License-Identifier: MIT */
/*
 * known_one.c - one thread, prime counts of odd sizes: every figure is known.
 *
 * 997 of 173, 499 of 1009, 211 of 4567, 101 of 12289, 13 of 100003, 7 of 300007;
 * then every third block is freed, the rest stays.
 *
 * expect: delta.totals.allocations == 997 + 499 + 211 + 101 + 13 + 7
 * expect: delta.totals.requested_bytes == 997 * 173 + 499 * 1009 + 211 * 4567
 *         + 101 * 12289 + 13 * 100003 + 7 * 300007
 * expect: delta.totals.frees == 333 + 167 + 71 + 34 + 5 + 3
 * expect: delta.calls.malloc == 1828
 * expect: delta.calls.free == 613
 * expect: delta.large.allocations == 7
 * expect: delta.large.frees == 3
 * expect: matches(delta, said)
 * expect: threads_match(delta, said, 'allocations', 'thread_allocations')
 * expect: last.totals.peak_exact == True
 * expect: last.totals.peak_bytes == first.totals.live_bytes + said.peak_bytes
 * expect: first.threads[0].tid == first.process.pid
 * expect: sum(1 for r in last.threads if r.running) == 1
 * case: pie
 * case: no_pie
 * program: known_one_no_pie
 */
#include "scene.h"

static const struct {
    unsigned count;
    size_t size;
} plan[] = { { 997, 173 }, { 499, 1009 }, { 211, 4567 }, { 101, 12289 }, { 13, 100003 },
    { 7, 300007 } };

int main(void)
{
    static struct book book;
    static void *blocks[6][997];
    // In a program without PIE an address of malloc is an entry of its own table, which
    // the look-up finds first.
    void *(*volatile taken)(size_t) = malloc;
    MUST(taken);
    dump_now();
    for (unsigned i = 0; i < 6; i++)
        for (unsigned n = 0; n < plan[i].count; n++)
            blocks[i][n] = take(&book, plan[i].size);
    for (unsigned i = 0; i < 6; i++)
        for (unsigned n = 0; n < plan[i].count; n += 3) give(&book, blocks[i][n]);
    dump_now();
    say_book(&book);
    say_of("thread_allocations", (number)getpid(), book.allocations);
    return 0;
}
