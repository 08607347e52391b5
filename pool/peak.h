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

/* Flushes if |x| has passed the limit. Context: the owner. */
TP_SLOW void tp_peak_settle(struct tp_counters *counters);

/*
 * The highest number of live bytes so far, the caller's open epoch included; with
 * several threads the best that is known, with `tp_peak_every` exact.
 */
TP_COLD int64_t tp_peak_now(const struct tp_counters *counters);

/* A thread begins to count here, or has ended and counts no more here. */
TP_COLD void tp_peak_attach(struct tp_counters *counters);
TP_COLD void tp_peak_detach(struct tp_counters *counters);

#endif
