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

WEAK uint32_t tp_host_sampled(struct tp_sampler *sampler, const struct tp_told *block)
{
    (void)block;
    count(&test_host.n_samples);
    sampler->to_sample = test_host.to_sample;
    return 0;
}

WEAK uint32_t tp_host_taken(const struct tp_told *block)
{
    (void)block;
    return 0;
}

WEAK void tp_host_freed(uint32_t mark, const struct tp_told *block)
{
    (void)mark;
    (void)block;
}

WEAK uint32_t tp_host_resized(
    uint32_t mark, const struct tp_told *block, size_t old_bytes, size_t old_requested)
{
    (void)block;
    (void)old_bytes;
    (void)old_requested;
    return mark;
}

WEAK uint32_t tp_host_place(void)
{
    return 0;
}

WEAK void tp_host_say_place(const char *heading, uint32_t place)
{
    (void)heading;
    (void)place;
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
