/* SPDX-License-Identifier: MIT */
/*
 * huge.h - blocks so large that their pages cost more than all our bookkeeping.
 *
 * Idea: a huge block is a run of whole granules in the range's far part. Free runs
 * are joined with their neighbours at once and reused best-fit, dirty pages first.
 * Idle pages may stay while they and what is in use make no more than what was in
 * use lately: that cannot raise the peak. What is beyond goes back run by run.
 * Blocks grow into the free run behind them, or by moving their pages.
 *
 * Why not jemalloc for these: it purges all that is idle or nothing. With nothing
 * purged "blocks of 1-25 MB" peaked at 1.46 of glibc's memory; purging at half of
 * what is in use took 4.0 times glibc's time and 4.6 times its page faults. Here it is
 * 1.05 and 1.07. A pair of 200 KB took it 480-600 ns, a pair of 1 MB takes us 350-450;
 * and a program with one such block need not start it: 0.2 ms and half a megabyte.
 *
 * Holds always:
 *   - the first granule's descriptor of a block is TP_SLAB_LARGE with `huge` set,
 *     those of the first and the last granule of a free run are TP_SLAB_IDLE;
 *   - no two free runs touch;
 *   - a free run reads as zeros outside its `dirty` granules.
 */
#ifndef TP_POOL_HUGE_H
#define TP_POOL_HUGE_H

#include "pool/slab.h"

enum { TP_HUGE_MIN = TP_POOL_MAX + 1 };  // bytes, or alignment, served here

/*
 * A block of at least `bytes`; `zero`: cleared. Fails: NULL, the range has no room.
 * Needs: bytes >= TP_HUGE_MIN; align is 0 or a power of two.
 */
TP_COLD void *tp_huge_alloc(size_t bytes, size_t align, bool zero);

/* Clears a block whose pages may all be there and hold anything. */
TP_SLOW void tp_huge_clear(void *p, size_t bytes);

/*
 * Says that a block of `bytes` begins at the run of `slab`, of slab->granules. Who takes
 * a new block starts a note of it (tp_note) too.
 */
static inline void tp_huge_describe(struct tp_slab *slab, size_t bytes)
{
    slab->huge = true;
    slab->large_start = tp_slab_start(slab);
    slab->large_bytes = tp_align_up(bytes, tp_os_page());
    tp_slab_set_owner(slab, TP_SLAB_LARGE);
}

/*
 * Needs: the descriptor of a huge block's first granule, or of a run that was one, with
 * its granules (nearby.h).
 */
TP_COLD void tp_huge_free(struct tp_slab *slab);

/* Grows or shrinks in place; true when the block now has `bytes`. Needs: as above. */
TP_COLD bool tp_huge_resize(struct tp_slab *slab, size_t bytes);

/*
 * Moves a huge block to a place where it can have `bytes`, its pages included; the
 * old block is gone. Returns the new one, or NULL with nothing changed.
 */
TP_COLD void *tp_huge_move(struct tp_slab *slab, size_t bytes);

/*
 * Gives back what has been idle since the last call or, with `now`, all that is.
 * Returns the bytes.
 */
TP_COLD size_t tp_huge_purge(bool now);

/* In a forked child; see tp_depot_forked(). */
void tp_huge_forked(bool alone);

#endif
