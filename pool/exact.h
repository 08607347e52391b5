/* SPDX-License-Identifier: MIT */
/*
 * exact.h - malloc and free when the host is told of every block: the usual case.
 *
 * Idea: with `exact` no block takes the fast path, so what a slow path costs is what a
 * program pays. Here is that path for a thread with a heap of its own, a block of a slab
 * of its own and nothing else going on, in straight lines; whatever is not so takes the
 * long way, which can do everything. Both tell, count and move in the same order, see
 * follow.h.
 *
 * Knows nothing of: large blocks, other threads' blocks, check and zero.
 */
#ifndef TP_POOL_EXACT_H
#define TP_POOL_EXACT_H

#include "pool/heap.h"

/*
 * Set when the pool is opened: `exact`, and neither `check` nor `zero`. A thread may ask
 * before that, relaxed: it has no heap yet, and is told so further on.
 */
extern _Atomic(bool) tp_exact_on;

static inline bool tp_exact_is_on(void)
{
    return atomic_load_explicit(&tp_exact_on, memory_order_relaxed);
}

/* A block of class `c`. The cold exit of malloc jumps here when tp_exact_on. */
TP_SLOW void *tp_exact_alloc(size_t size, unsigned c);

/* Frees the block at `p` in the run of `slab`; false: nothing was done, take the long way. */
TP_SLOW bool tp_exact_free(void *p, struct tp_slab *slab);

#endif
