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

/* What is kept of a block. */
struct tp_note {
    uint32_t mark;     // 0: the host does not want to hear of its end
    size_t requested;  // by the program; 0: not known
};

/* ---- the side array ---- */

/* Maps it for a range of `bytes`; false without memory. Context: once, at start. */
bool tp_ledger_open(size_t bytes);

struct tp_slab;

/* True when blocks of the run that `slab` is the head of have entries. */
bool tp_ledger_covers(const struct tp_slab *slab);

/* Needs, all three: tp_ledger_covers(slab), a block of that run. */
void tp_ledger_write(const struct tp_slab *slab, const void *p, struct tp_note note);
struct tp_note tp_ledger_read(const struct tp_slab *slab, const void *p);

/* The same, and forgets it: the block is about to be freed. */
struct tp_note tp_ledger_take(const struct tp_slab *slab, const void *p);

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
