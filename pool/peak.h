/* SPDX-License-Identifier: MIT */
/*
 * peak.h - the highest number of live bytes, without a shared counter per call.
 *
 * Idea: a thread keeps its net x (bytes taken minus bytes freed) since its last
 * flush to the global net G, and flushes when |x| passes its limit B. Inside such
 * an epoch x is highest just before a free, so only free compares:
 *
 *      room  = high - x     how far x is below the epoch's high, negative above it
 *      width = high + B     room > width  <=>  x < -B: fallen far enough to flush
 *
 * and one unsigned comparison, room > width, sees both a new high and a deep fall.
 *
 * Holds always:
 *   - live bytes = G + sum of all x;
 *   - with one thread P = max over its epochs of (G before + high): exact;
 *   - with several max(G) - sum(B) <= P <= max(G) + sum(B), the maxima over flushes.
 *
 * Knows nothing of: heaps, blocks.
 */
#ifndef TP_POOL_PEAK_H
#define TP_POOL_PEAK_H

#include "pool/counters.h"

#include <sys/single_threaded.h>

/*
 * Set before anything counts: every slow path flushes, so that the global net is the
 * live bytes at every instant and the peak is exact with any number of threads. Needs:
 * nothing counts on a fast path.
 */
extern bool tp_peak_every;

/* True while a free need not look closer. Context: hot; the owner. */
static inline bool tp_peak_calm(const struct tp_counters *counters)
{
    return (uint64_t)counters->room <= (uint64_t)counters->width;
}

/* Net bytes of this thread since its last flush. */
static inline int64_t tp_peak_net(const struct tp_counters *counters)
{
    return counters->high - counters->room;
}

/* Bytes that may still be taken before a flush is due; 1 or more. */
static inline int64_t tp_peak_headroom(const struct tp_counters *counters)
{
    return tp_max_i64(counters->limit - tp_peak_net(counters), 1);
}

/* Sees to a new high or a deep fall; afterwards tp_peak_calm() holds. */
TP_COLD void tp_peak_edge(struct tp_counters *counters);

/* Adds x to the global net, raises the peak, begins an epoch. Context: the owner. */
TP_SLOW void tp_peak_flush(struct tp_counters *counters);

/* With `tp_peak_every`: live bytes are at `net`, which is more than ever. */
TP_SLOW void tp_peak_every_raise(int64_t net);

/* True when |x| has passed the limit. */
static inline bool tp_peak_is_due(const struct tp_counters *counters)
{
    int64_t net = tp_peak_net(counters);
    return net >= counters->limit || net <= -counters->limit;
}

/* Flushes if |x| has passed the limit. Context: the owner. */
TP_SLOW void tp_peak_settle(struct tp_counters *counters);

/*
 * The highest number of live bytes so far, the caller's open epoch included; with
 * several threads the best that is known, with `tp_peak_every` exact.
 */
TP_COLD int64_t tp_peak_now(const struct tp_counters *counters);

/*
 * With `tp_peak_every`, in place of room and flush: `bytes` were taken, or, when it is
 * below 0, given back. And the highest number of live bytes so far. Context: entered.
 */
static inline void tp_peak_every_add(int64_t bytes)
{
    struct tp_totals *totals = &tp_account.totals;
    int64_t net;
    if (__libc_single_threaded) {  // nobody else can: see add_to() in shim/sites.c
        net = atomic_load_explicit(&totals->net, memory_order_relaxed) + bytes;
        atomic_store_explicit(&totals->net, net, memory_order_relaxed);
    } else {
        net = bytes +
            atomic_fetch_add_explicit(&totals->net, bytes, memory_order_relaxed);
    }
    if (net > atomic_load_explicit(&totals->peak_single, memory_order_relaxed))
        tp_peak_every_raise(net);
}

static inline int64_t tp_peak_every_now(void)
{
    const struct tp_totals *totals = &tp_account.totals;
    return tp_max_i64(
        atomic_load_explicit(&totals->peak_estimate, memory_order_relaxed),
        atomic_load_explicit(&totals->net, memory_order_relaxed));
}

/* A thread begins to count here, or has ended and counts no more here. */
TP_COLD void tp_peak_attach(struct tp_counters *counters);
TP_COLD void tp_peak_detach(struct tp_counters *counters);

#endif
