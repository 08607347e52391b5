/* SPDX-License-Identifier: MIT */
/*
 * ledger.h - what is kept of followed blocks that have no better place for it.
 *
 * Idea: a block that the host wants to hear of again has a mark (host.h). Blocks above
 * the pools keep it in their descriptor, blocks of marked slabs beside the slab. Two
 * kinds remain:
 *   - with `exact`, every block of the pools: a side array, 8 bytes for each block that a
 *     slab can have, side by side, so that a free is an array lookup;
 *   - blocks of jemalloc without a descriptor of their own: where there is no range, or
 *     it is used up. They are in a table by address, of bounded size; when it is full,
 *     blocks are not followed.
 *
 * Knows nothing of: what a mark means; heaps, counters per thread.
 */
#ifndef TP_POOL_LEDGER_H
#define TP_POOL_LEDGER_H

#include "pool/base.h"

#include <stdatomic.h>

/* What is kept of a block. */
struct tp_note {
    uint32_t mark;     // 0: the host does not want to hear of its end
    size_t requested;  // by the program; 0: not known
};

/* ---- the side array ---- */

/* Maps it for a range of `bytes`; false without memory. Context: once, at start. */
bool tp_ledger_open(size_t bytes);

struct tp_slab;

/* Where the note is of a block of the run that `slab` is the head of; NULL: nowhere. */
_Atomic(uint64_t) *tp_ledger_entry(const struct tp_slab *slab, const void *p);

/* The mark above, the request below; all zero: none. */
static inline void tp_ledger_write(_Atomic(uint64_t) *entry, struct tp_note note)
{
    atomic_store_explicit(entry, (uint64_t)note.mark << 32 | (uint32_t)note.requested,
        memory_order_relaxed);
}

static inline struct tp_note tp_ledger_read(const _Atomic(uint64_t) *entry)
{
    uint64_t word = atomic_load_explicit(entry, memory_order_relaxed);
    return (
        struct tp_note){ .mark = (uint32_t)(word >> 32), .requested = (uint32_t)word };
}

/*
 * The same, and forgets it: the block is about to be freed. No exchange: two threads that
 * free one block at once break more than this.
 */
static inline struct tp_note tp_ledger_take(_Atomic(uint64_t) *entry)
{
    struct tp_note note = tp_ledger_read(entry);
    atomic_store_explicit(entry, 0, memory_order_relaxed);
    return note;
}

/* ---- the table ---- */

/*
 * Keeps a note of the block at `p`, in place of one that is there. False: no room.
 * Context of all: cold; a lock for a few lines.
 */
TP_COLD bool tp_ledger_add(const void *p, struct tp_note note);

/* The note of the block at `p`; all zero when there is none. */
TP_COLD struct tp_note tp_ledger_find(const void *p);

/* The same, and forgets it. */
TP_COLD struct tp_note tp_ledger_remove(const void *p);

/* Notes that the table has room for; for tests to lower, before the first one. */
extern uint32_t tp_ledger_room;

/*
 * In a forked child: locks are free. Not `alone`: the table may have been caught in the
 * middle of a change, and is forgotten.
 */
void tp_ledger_forked(bool alone);

#endif
