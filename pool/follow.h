/* SPDX-License-Identifier: MIT */
/*
 * follow.h - blocks from the moment the host is told of them until it is told of their
 * end.
 *
 * Idea: everything that passes between the pool and the host's profile goes through
 * here, in one order: the host is told first, then the books change, then the block
 * moves. Two ways to be told of blocks exclude each other: samples, and with `exact` all.
 *
 * The host must not be called on top of another slow path of the same thread: it may be
 * the one that was interrupted. There blocks are not followed; what a signal handler
 * frees there waits in a short row until the next call from firm ground. When the row is
 * full, the end of a block is lost to the host, never the block to the pool.
 *
 * Knows nothing of: which call led here.
 */
#ifndef TP_POOL_FOLLOW_H
#define TP_POOL_FOLLOW_H

#include "pool/marks.h"
#include "pool/slow.h"

/*
 * The block at `p`, on the books already, holds the byte that the sampler waits for.
 * Returns the block that the program gets. Needs: heap is entered, not on top of
 * another slow path.
 */
TP_COLD void *tp_follow_sampled(
    struct tp_heap *heap, void *p, unsigned c, size_t size, size_t bytes);

/*
 * With `exact`: a block, not yet on the books, goes to the program. Needs: entered.
 */
TP_SLOW void tp_follow_taken(
    struct tp_heap *heap, void *p, unsigned c, size_t size, size_t bytes);

/*
 * A block, still on the books, is about to be freed; not one of a marked slab. `heap`
 * may be NULL: none could be had.
 */
TP_SLOW void tp_follow_freed(struct tp_heap *heap, void *p, unsigned c, size_t bytes);

/* The same for a large block that is gone already; `note` is what was kept of it. */
TP_COLD void tp_follow_gone(
    struct tp_heap *heap, void *p, struct tp_note note, size_t bytes);

/*
 * The same for a block of a marked slab. Takes it off the program; false when the
 * program does not have it: a double free. Afterwards the block is to be put back
 * (tp_marks_put()), and `out` tells from which thread it came, and its proxy.
 */
TP_COLD bool tp_follow_ended(
    struct tp_heap *heap, void *p, struct tp_slab *slab, struct tp_marked *out);

/*
 * A block was resized where it stands from `old` to `now` bytes, which is not on the
 * books yet, or another size is asked for. Returns the bytes that the countdown must
 * not see. Needs: entered.
 */
TP_COLD int64_t tp_follow_resized(
    struct tp_heap *heap, void *p, unsigned c, size_t size, size_t old, size_t now);

/* Tells what had to wait. Needs: entered, not on top of another slow path. */
void tp_follow_catch_up(void);

/* True when a block may not be told of now. `heap` may be NULL. */
static inline bool tp_follow_is_nested(const struct tp_heap *heap)
{
    return !heap || (heap->shared && heap->outer);
}

/* In a forked child. */
void tp_follow_forked(void);

#endif
