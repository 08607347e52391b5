/* SPDX-License-Identifier: MIT */
/*
 * marks.h - slabs of their own for blocks that are followed until they are freed.
 *
 * Idea: a sampled block must be recognised when it is freed, and nobody else's free may
 * pay for that. So it is not a block like others: it comes from a marked slab, whose
 * `owner` is no heap's. The comparison that every free makes anyway fails, and the slow
 * path finds what is kept of the block by its number in the slab. Marked slabs belong
 * to the process; one lock guards their lists. A page per sample, which is what it costs
 * to give each an area of its own, is not needed (jemalloc and tcmalloc pay that).
 *
 * The block that the program would have got, the proxy, stays allocated in its place
 * while classes are small: it lies where blocks of that site would lie, so that what
 * they pin in half-empty slabs can be told.
 *
 *     slab of a heap     [ ][x][x][proxy][ ][x]      used by the program: x
 *                                   ^
 *     marked slab        [x][x][ ][x]|               what is kept of each, beside the
 *                         0  1  2  3 |               slab: { mark, slot, proxy }
 *                                  3: { mark, slot, -+ }
 *
 * Holds always:
 *   - `owner` of a marked slab is TP_MARKS_OWNER;
 *   - a block is with the program exactly when its mark is not 0;
 *   - carved = used + on `local`; used = with programs, on their way there or back,
 *     or on the list of late ones;
 *   - a slab with something to hand out is on a list of its class, an empty one is its
 *     class's spare or goes back to the depot.
 *
 * Knows nothing of: heaps, counters, what a mark means.
 */
#ifndef TP_POOL_MARKS_H
#define TP_POOL_MARKS_H

#include "pool/slab.h"

/* No heap has this address: the lowest page is never mapped. */
static const uintptr_t TP_MARKS_OWNER = (TP_SLAB_FLAGS + 1) | TP_SLAB_MARKED;

/* Blocks of up to so many bytes leave a proxy behind: of larger ones it costs pages. */
enum { TP_PROXY_MAX = 1024 };

/* What is kept of a block. */
struct tp_marked {
    _Atomic(uint32_t) mark;  // 0: not with the program
    uint32_t slot;           // of the thread that took it
    void *proxy;             // NULL: none
};

/*
 * A block of class `c` that nobody else knows yet; NULL without memory.
 * Context of all: cold; not in a signal handler on top of a slow path, where not told.
 */
TP_COLD void *tp_marks_take(unsigned c);

/* It goes to the program. Needs: mark is not 0. */
void tp_marks_keep(void *p, uint32_t mark, uint32_t slot, void *proxy);

/* What is kept of the block at `p`; Needs: tp_slab_is_block() of a marked slab. */
const struct tp_marked *tp_marks_read(const void *p);

/*
 * The program gives it back: it is unmarked from here on. Returns the mark it had, 0
 * when it had none: it was freed before. Context: anywhere.
 */
uint32_t tp_marks_end(void *p);

/*
 * Takes back a block without a mark. Who is not `patient` takes no lock: the block is
 * late, and put back with the next one. Context: anywhere, when not patient.
 */
TP_COLD void tp_marks_put(void *p, bool patient);

/* Gives slabs to the depot that have been empty for `age_ticks`; 0: all empty ones. */
TP_COLD void tp_marks_trim(uint64_t age_ticks);

/*
 * In a forked child. Not `alone`: the lists are forgotten; blocks that are out can be
 * freed, but not used again.
 */
void tp_marks_forked(bool alone);

#endif
