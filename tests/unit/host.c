/* SPDX-License-Identifier: MIT */
/*
 * host.c - the seam of pool/host.h, closed with constants.
 *
 * All of it is weak: a test that links the real answer of the shim gets that.
 */
#include "pool/host.h"

#include "pool/pool.h"
#include "tests/unit/tp_test.h"

#include <malloc.h>
#include <stdlib.h>

#define WEAK __attribute__((weak))

struct test_host test_host = {
    .options = { .reserve = (size_t)1 << 30, .purge_ns = UINT64_MAX },
    .to_sample = INT64_MAX / 4,
};

static uint32_t count(_Atomic(uint32_t) *counter)
{
    return atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

WEAK void tp_host_start(struct tp_pool_options *out_options)
{
    *out_options = test_host.options;
}

WEAK void tp_host_started(void)
{
}

WEAK void tp_host_bay(struct tp_counters *counters, uint32_t first)
{
    (void)counters;
    (void)first;
}

WEAK void tp_host_signal_due(void)
{
    count(&test_host.n_signals_due);
}

WEAK bool tp_host_release(struct tp_counters *counters, uint32_t first, uint32_t n)
{
    (void)first;
    atomic_fetch_add_explicit(&test_host.n_released, n, memory_order_relaxed);
    return tp_os_purge(counters, n * sizeof(*counters));
}

WEAK void tp_host_restore(struct tp_counters *counters, uint32_t first, uint32_t n)
{
    (void)counters;
    (void)first;
    atomic_fetch_add_explicit(&test_host.n_restored, n, memory_order_relaxed);
}

WEAK void tp_host_arm(struct tp_sampler *sampler)
{
    count(&test_host.n_samples);
    sampler->to_sample = test_host.to_sample;
}

/* ---- marks ---- */

enum { MARKS = 1 << 22 };

/* By mark: the block that it was handed out for. */
static struct {
    _Atomic(uintptr_t) p;  // 0: it is not out
    size_t bytes;
    size_t requested;
} marks[MARKS];

static void note(const struct tp_told *block)
{
    // Only tests with one thread read it.
    if (atomic_load_explicit(&tp_account.totals.running, memory_order_relaxed) > 1)
        return;
    test_host.last = *block;
    test_host.last_peak = tp_pool_peak_now(block->counters);
}

static void add_live(int64_t bytes, int64_t requested)
{
    atomic_fetch_add_explicit(&test_host.live_bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(
        &test_host.live_requested, requested, memory_order_relaxed);
}

static uint32_t hand_out(const struct tp_told *block)
{
    note(block);
    uint32_t n = count(&test_host.n_told);
    if (!test_host.follow || n % test_host.follow) return 0;
    if (!block->p) {
        count(&test_host.n_lost);
        return 0;
    }
    uint32_t mark = count(&test_host.n_marks) + 1;
    if (mark >= MARKS) abort();
    marks[mark].bytes = block->bytes;
    marks[mark].requested = block->requested;
    atomic_store_explicit(&marks[mark].p, (uintptr_t)block->p, memory_order_relaxed);
    add_live((int64_t)block->bytes, (int64_t)block->requested);
    return mark;
}

static bool is_right(uint32_t mark, const struct tp_told *block, size_t bytes)
{
    return mark < MARKS && marks[mark].bytes == bytes &&
        atomic_load_explicit(&marks[mark].p, memory_order_relaxed) ==
        (uintptr_t)block->p;
}

uint32_t test_mark_of(const void *p)
{
    for (uint32_t mark = test_host.n_marks; p && mark > 0; mark--)
        if (marks[mark].p == (uintptr_t)p) return mark;
    return 0;
}

WEAK uint32_t tp_host_sampled(struct tp_sampler *sampler, const struct tp_told *block)
{
    count(&test_host.n_samples);
    sampler->to_sample = test_host.to_sample;
    return hand_out(block);
}

WEAK uint32_t tp_host_taken(const struct tp_told *block)
{
    return hand_out(block);
}

WEAK void tp_host_freed(uint32_t mark, const struct tp_told *block)
{
    note(block);
    bool known = block->requested != 0;
    bool good = is_right(mark, block, block->bytes) &&
        (!known || block->requested == marks[mark].requested);
    if (!good) {
        count(&test_host.n_wrong);
        return;
    }
    add_live(-(int64_t)marks[mark].bytes, -(int64_t)marks[mark].requested);
    count(&test_host.n_back);
    if (!atomic_exchange_explicit(&marks[mark].p, 0, memory_order_relaxed))
        count(&test_host.n_wrong);
}

/* A block keeps the mark that it has, and gets none by growing. */
WEAK uint32_t tp_host_resized(
    uint32_t mark, const struct tp_told *block, size_t old_bytes, size_t old_requested)
{
    note(block);
    count(&test_host.n_resized);
    if (!mark) return 0;
    if (!is_right(mark, block, old_bytes) ||
        (old_requested && old_requested != marks[mark].requested)) {
        count(&test_host.n_wrong);
        return mark;
    }
    add_live((int64_t)block->bytes - (int64_t)old_bytes,
        (int64_t)block->requested - (int64_t)marks[mark].requested);
    marks[mark].bytes = block->bytes;
    marks[mark].requested = block->requested;
    return mark;
}

WEAK uint32_t tp_host_place(void)
{
    return test_host.place;
}

WEAK void tp_host_say_place(const char *heading, uint32_t place)
{
    if (test_host.say_places) tp_say("%s: %u", heading, place);
}

WEAK void tp_host_foreign_free(void *p)
{
    count(&test_host.n_foreign);
    free(p);
}

WEAK size_t tp_host_foreign_bytes(const void *p)
{
    return malloc_usable_size((void *)(uintptr_t)p);
}

WEAK void *tp_host_next_alloc(size_t size)
{
    count(&test_host.n_handed_on);
    return malloc(size);
}

WEAK void tp_host_next_free(void *p)
{
    count(&test_host.n_handed_on);
    free(p);
}

WEAK void tp_host_forked(void)
{
    count(&test_host.n_forked);
    tp_pool_forked();
}

WEAK bool tp_host_settle(void)
{
    return true;
}

WEAK void tp_host_tick(void)
{
    count(&test_host.n_ticks);
}

WEAK void tp_host_thread_ended(
    const struct tp_counters *counters, uint32_t index, const struct tp_sums *did)
{
    (void)counters;
    uint32_t n = count(&test_host.n_ended);
    if (n >= TEST_ENDED) return;
    test_host.did[n] = *did;
    test_host.slot[n] = index;
}
