/* SPDX-License-Identifier: MIT */
/*
 * layout.c - the pool's counters and the records of the file are the same bytes.
 *
 * The pool knows no file and the format knows no pool; live.c maps the one over the
 * other. That they agree is proven here, when this is compiled. There is no code.
 */
#include "shim/format.h"

#include "pool/counters.h"

#include <stddef.h>

static_assert(
    sizeof(struct tp_counters) == sizeof(struct tp_thread_slot), "one layout");
#define SAME(pool_field, file_field)                          \
    static_assert(offsetof(struct tp_counters, pool_field) == \
            offsetof(struct tp_thread_slot, file_field),      \
        "one layout")
SAME(room, room);
SAME(limit, limit);
SAME(state, state);
SAME(tid, tid);
SAME(epoch, epoch);
SAME(started_ns, started_ns);
SAME(remote_frees, remote_frees);
SAME(frees, frees);
SAME(taken, taken);
SAME(large_allocated_bytes, large_allocated_bytes);
SAME(large_freed_bytes, large_freed_bytes);
SAME(calls, calls);
SAME(failed, failed);
SAME(realloc_freed, realloc_freed);
SAME(zeroed_for_free, zeroed_for_free);
SAME(name, name);
SAME(base, base);
static_assert(
    sizeof(struct tp_totals) == sizeof(struct tp_totals_record), "one layout");
static_assert(offsetof(struct tp_totals, foreign_frees) ==
        offsetof(struct tp_totals_record, foreign_frees),
    "one layout");
static_assert(
    sizeof(struct tp_latency) == sizeof(struct tp_latency_record), "one layout");
static_assert(
    offsetof(struct tp_latency, buckets) == offsetof(struct tp_latency_record, buckets),
    "one layout");
static_assert(
    sizeof(struct tp_class_count) == sizeof(struct tp_class_record), "layout");
static_assert((int)TP_CALLS == (int)TP_ENTRIES, "one list of entry points");
static_assert((int)TP_CLASSES == (int)TP_FORMAT_POOL_CLASSES, "one list of classes");
static_assert((int)TP_BUCKETS == (int)TP_FORMAT_BUCKETS, "one kind of histogram");
static_assert((int)TP_FOLDED == (int)TP_SLOT_FOLDED, "one list of states");
static_assert((int)TP_SUM_SLOT == (int)TP_FORMAT_SUM_SLOT, "one place for sums");
static_assert(
    offsetof(struct tp_totals, folded) == offsetof(struct tp_totals_record, folded),
    "one layout");
static_assert(sizeof(struct tp_sums) == sizeof(struct tp_thread_sums), "one layout");
