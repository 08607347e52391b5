/* SPDX-License-Identifier: MIT */
/*
 * remote.h - blocks on their way home.
 *
 * Idea: any thread may free a block, but only the owner of its slab may reuse it.
 * Strangers push the block here; the owner takes the whole list at once. An owner
 * that has given up on a slab (no free block left) asks for a call: the word then
 * holds RING, and the first stranger to push learns that the owner must be told.
 *
 * Order of memory:
 *   push  releases: what the stranger did to the block happens before the owner
 *         reuses it. A failed exchange reads nothing through the pointer it got,
 *         so the retry is relaxed.
 *   take  acquires, and one acquire covers every block in the list: each push is
 *         a read-modify-write and continues the release sequence before it.
 *
 * There is no ABA trap: no one removes a single block, and a push is correct
 * whenever its `next` equals the head at the moment of the exchange.
 */
#ifndef TP_POOL_REMOTE_H
#define TP_POOL_REMOTE_H

#include "pool/base.h"

#include <stdatomic.h>

struct tp_remote {
    _Atomic(uintptr_t) head;  // newest block, or RING; blocks are 16-byte aligned
};

enum { TP_REMOTE_RING = 1 };

/* ThreadSanitizer knows of no fences, as the one in tp_heap_send(). */
#if defined(__SANITIZE_THREAD__)
#define TP_REMOTE_PUSHED memory_order_acq_rel
#else
#define TP_REMOTE_PUSHED memory_order_release
#endif

/* Sends `block` home; true when the owner asked to be told. Context: any thread. */
static inline bool tp_remote_push(struct tp_remote *remote, struct tp_block *block)
{
    uintptr_t head = atomic_load_explicit(&remote->head, memory_order_relaxed);
    do {
        block->next = (struct tp_block *)(head & ~(uintptr_t)TP_REMOTE_RING);
    } while (!atomic_compare_exchange_weak_explicit(&remote->head, &head,
        (uintptr_t)block, TP_REMOTE_PUSHED, memory_order_relaxed));
    return head & TP_REMOTE_RING;
}

/* Every block pushed so far, newest first, or NULL. Context: the owner. */
static inline struct tp_block *tp_remote_take(struct tp_remote *remote)
{
    if (!atomic_load_explicit(&remote->head, memory_order_relaxed)) return NULL;
    uintptr_t head = atomic_exchange_explicit(&remote->head, 0, memory_order_acquire);
    return (struct tp_block *)(head & ~(uintptr_t)TP_REMOTE_RING);
}

/* Asks for a call, and releases who asks: see tp_heap_send(). False when blocks have come meanwhile. Context: the owner. */
static inline bool tp_remote_ring(struct tp_remote *remote)
{
    uintptr_t empty = 0;
    return atomic_compare_exchange_strong_explicit(&remote->head, &empty,
        TP_REMOTE_RING, memory_order_release, memory_order_relaxed);
}

/* Takes the request back; false when a stranger has already answered it. */
static inline bool tp_remote_unring(struct tp_remote *remote)
{
    uintptr_t ring = TP_REMOTE_RING;
    return atomic_compare_exchange_strong_explicit(
        &remote->head, &ring, 0, memory_order_relaxed, memory_order_relaxed);
}

#endif
