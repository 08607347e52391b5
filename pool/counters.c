/* SPDX-License-Identifier: MIT */
/*
 * counters.c - sums, and where latencies go.
 */
#include "pool/counters.h"

#include <string.h>

struct tp_account tp_account;

static const char names[TP_OPERATIONS][16] = {
    [TP_OP_MALLOC] = "malloc",
    [TP_OP_REFILL] = "refill",
    [TP_OP_NEW_SLAB] = "new_slab",
    [TP_OP_LARGE_MALLOC] = "large_malloc",
    [TP_OP_LARGE_FREE] = "large_free",
    [TP_OP_LARGE_REALLOC] = "large_realloc",
    [TP_OP_PURGE] = "purge",
    [TP_OP_THREAD_START] = "thread_start",
    [TP_OP_THREAD_END] = "thread_end",
};

void tp_counters_init(void)
{
    for (unsigned c = 0; c < TP_CLASSES; c++)
        tp_account.classes[c].bytes = tp_class_bytes(c);
}

static void raise_to(_Atomic(uint64_t) *high, uint64_t value)
{
    uint64_t seen = atomic_load_explicit(high, memory_order_relaxed);
    while (seen < value &&
        !atomic_compare_exchange_weak_explicit(
            high, &seen, value, memory_order_relaxed, memory_order_relaxed)) {
    }
}

/* As raise_to(), for a minimum kept as its complement would be: 0 means none yet. */
static void lower_to(_Atomic(uint64_t) *low, uint64_t value)
{
    uint64_t seen = atomic_load_explicit(low, memory_order_relaxed);
    while ((!seen || seen > value) &&
        !atomic_compare_exchange_weak_explicit(
            low, &seen, value, memory_order_relaxed, memory_order_relaxed)) {
    }
}

void tp_latency_record(enum tp_operation op, unsigned shard, uint64_t ticks)
{
    struct tp_latency *latency = &tp_account.latency[op][shard % TP_SHARDS];
    // A record is named when it is first used: untouched pages stay untouched.
    uint64_t *name = (uint64_t *)(void *)latency->name, words[2];
    if (!__atomic_load_n(&name[0], __ATOMIC_RELAXED)) {
        memcpy(words, names[op], sizeof(words));
        __atomic_store_n(&name[1], words[1], __ATOMIC_RELAXED);
        __atomic_store_n(&name[0], words[0], __ATOMIC_RELAXED);
    }
    atomic_fetch_add_explicit(&latency->total, ticks, memory_order_relaxed);
    atomic_fetch_add_explicit(
        &latency->buckets[tp_bucket_of(ticks)], 1, memory_order_relaxed);
    lower_to(&latency->min, ticks ? ticks : 1);
    raise_to(&latency->max, ticks);
    atomic_fetch_add_explicit(&latency->count, 1, memory_order_relaxed);
}

struct tp_sums tp_counters_sums(const struct tp_counters *counters)
{
    struct tp_sums sums = { 0 };
    for (unsigned c = 0; c <= TP_CLASSES; c++) {
        uint64_t bytes = c < TP_CLASSES ? tp_class_bytes(c) : 0;
        uint64_t frees = tp_count_read(&counters->frees[c]);
        uint64_t allocations = tp_count_read(&counters->taken[c].allocations);
        sums.frees += frees;
        sums.freed_bytes += frees * bytes;
        sums.allocations += allocations;
        sums.allocated_bytes += allocations * bytes;
        sums.requested_bytes += tp_count_read(&counters->taken[c].requested_bytes);
    }
    sums.allocated_bytes += tp_count_read(&counters->large_allocated_bytes);
    sums.freed_bytes += tp_count_read(&counters->large_freed_bytes);
    sums.remote_frees = tp_count_read(&counters->remote_frees);
    return sums;
}
