/* SPDX-License-Identifier: MIT */
/*
 * heap.h - one thread's private store of small blocks.
 *
 * Idea: a thread that allocates and frees its own blocks touches nothing another
 * thread can see. malloc pops from a list per class (a bin); free pushes on the
 * local list of the block's slab; when a bin runs dry the whole list of a slab moves
 * over at once. A slab's `used` is charged when the list is handed over, so malloc
 * keeps no such count.
 *
 * A heap's counters stand at a fixed distance behind it, in memory of their own:
 * one register reaches both, and a file can be mapped over the counters alone.
 *
 *      +---------------- one bay, 128 KiB -----------------+
 *      | heap 0 | heap 1 | ... 31 | counters 0 | ... 31     |
 *      +---------------------------------------------------+
 *
 * Holds always:
 *   - every block in bins[c] has exactly bins[c].bytes usable bytes;
 *   - a slab with something to hand out is on shelf[c] (a ring, the slab in use
 *     first); one without is TP_SLAB_FULL, on no list, and its `remote` rings;
 *   - only the owner touches any of it, except `callers`; the owner of a parked heap
 *     is whoever holds the lock of park.c;
 *   - who pushes to `callers` has taken the ring from one of the heap's full slabs, and
 *     no slab leaves before its ring is answered: a heap without slabs is nobody's
 *     business but its owner's, and its pages may go.
 *
 * Knows nothing of: files, samples, signals.
 */
#ifndef TP_POOL_HEAP_H
#define TP_POOL_HEAP_H

#include "pool/host.h"
#include "pool/peak.h"
#include "pool/slab.h"

enum {
    TP_BAY_HALF = 64 * 1024,  // from a heap to its counters
    TP_BAYS = 1024,
};

struct tp_bin {
    struct tp_block *free;  // ready to hand out
    int64_t bytes;          // of every block
};

struct tp_heap {
    int64_t countdown;  // bytes until tp_pool's next event
    int64_t armed;      // what countdown began with
    struct tp_bin bins[TP_CLASSES];
    struct tp_slab *shelf[TP_CLASSES];
    uint8_t spares[TP_CLASSES];  // empty slabs kept on the shelf
    uint8_t direct[TP_CLASSES];  // blocks put into bins since they were filled
    uint64_t fresh;              // bit c: the blocks in bins[c] were never written
    uint64_t lent;  // bit c: bins[c] got blocks that a slab would do without
    _Atomic(struct tp_slab *) callers;  // full slabs that got a block back
    uintptr_t outer;                    // of a shared heap: what tp_slow_end() wants
    struct tp_sampler sampler;          // when the next sample is due
    uint64_t next_tick;                 // cycle counter
    uint32_t index;  // slot: its place in the bays, and in the live file
    uint32_t slabs;  // owned, full ones included
    uint8_t rounds;  // of thread destructors seen
    uint8_t passes;  // events since the last whole one, see slow.h
    bool alive;      // false: the placeholders of threads without a heap
    bool shared;     // used by many threads, under a lock
};
static_assert(sizeof(struct tp_heap) <= 2048, "two to a page");

/* What bays are made of: heaps keep their distance whatever their size. */
union tp_heap_room {
    struct tp_heap heap;
    uint8_t bytes[2048];
};

/* The caller's heap; a placeholder that owns nothing before attach, after detach. */
extern TP_THREAD struct tp_heap *tp_heap_self;
extern struct tp_heap tp_heap_none;   // not attached yet
extern struct tp_heap tp_heap_gone;   // detached: the thread is about to end
extern struct tp_heap tp_heap_aside;  // in a signal handler; see tp_pool_step_aside()

/* Needs: heap->alive. Context: hot. */
static inline struct tp_counters *tp_heap_counters(struct tp_heap *heap)
{
    return (struct tp_counters *)(void *)((char *)heap + TP_BAY_HALF);
}

/*
 * Counts one block of class `c` as taken. Context: hot; the owner. The caller looks
 * at heap->countdown afterwards.
 */
static inline void tp_heap_count_taken(struct tp_heap *heap, unsigned c, size_t size)
{
    struct tp_counters *counters = tp_heap_counters(heap);
    int64_t bytes = heap->bins[c].bytes;
    tp_count_add(&counters->taken[c].allocations, 1);
    tp_count_add(&counters->taken[c].requested_bytes, size);
    tp_count_add_signed(&counters->room, -bytes);
    heap->countdown -= bytes;
}

/* heap.c */

/* Flags that new slabs get: TP_SLAB_WATCHED or 0. Set before the first slab exists. */
extern uintptr_t tp_heap_watch;

void tp_heap_init(struct tp_heap *heap, uint32_t index);

/* Fills the empty bin `c`; false when there is no memory. Context: cold; the owner. */
TP_SLOW bool tp_heap_refill(struct tp_heap *heap, unsigned c);

/* One block of class `c`, leaving the bin empty; NULL without memory. */
TP_SLOW void *tp_heap_take_one(struct tp_heap *heap, unsigned c);

/* Puts a block on its slab's local list; any flags. Context: cold; the owner. */
TP_SLOW void tp_heap_put(struct tp_heap *heap, struct tp_slab *slab, void *p);

/* The owner has freed the last used block of `slab`. Context: cold; the owner. */
TP_SLOW void tp_heap_emptied(struct tp_heap *heap, struct tp_slab *slab);

/*
 * The same, where the bin may have the slab's blocks once more: the next request is
 * then a fast one. Until the next tick: tp_heap_empty_lent().
 */
TP_SLOW void tp_heap_lend(struct tp_heap *heap, struct tp_slab *slab);

/* Puts a block straight into its bin. Needs: one of the heap's own. */
static inline void tp_heap_put_in_bin(struct tp_heap *heap, unsigned c, void *p)
{
    struct tp_block *block = p;
    struct tp_bin *bin = &heap->bins[c];
    block->next = bin->free;
    bin->free = block;
    heap->fresh &= ~((uint64_t)1 << c);
    heap->lent |= (uint64_t)1 << c;
}

/* Sends a block to the heap that owns its slab. Context: cold; any thread. */
TP_COLD void tp_heap_send(struct tp_slab *slab, void *p);

/* Puts the blocks in the bins back on their slabs: all, or those of lent slabs. */
TP_COLD void tp_heap_empty_bins(struct tp_heap *heap);
TP_COLD void tp_heap_empty_lent(struct tp_heap *heap);

/* Takes home what strangers freed; gives empty slabs to the depot. One class, or all. */
TP_COLD void tp_heap_collect_class(struct tp_heap *heap, unsigned c);
TP_COLD void tp_heap_collect(struct tp_heap *heap);

/* Gives the spare empty slabs of every class to the depot. */
TP_COLD void tp_heap_drop_spares(struct tp_heap *heap);

/* Moves up to `most` slabs of class `c` from a parked heap to a live one. */
TP_COLD unsigned tp_heap_steal(
    struct tp_heap *heap, struct tp_heap *parked, unsigned c, unsigned most);

/*
 * Moves what slabs it can from one heap to another: all but full ones, and those that
 * a stranger is about to put on the list of callers. Context: the owner of both.
 */
TP_COLD void tp_heap_bequeath(struct tp_heap *heap, struct tp_heap *heir);

/* fold.c: the figures of slots that are given up. */

/*
 * Adds what slots first .. first + n - 1 counted to the sums of folded slots, and sets
 * them to zero. Needs: nobody counts in them; n <= TP_BAY_SLOTS, in one bay; the
 * park's lock. Exact at every instant for whoever reads the live file.
 */
TP_COLD void tp_fold_slots(uint32_t first, uint32_t n);

/* Ends what tp_fold_slots() had begun in a thread that a fork has left behind. */
TP_COLD void tp_fold_finish(void);

/* park.c: bays, and the heaps of threads that ended. */

/* Heaps that there may be, TP_BAYS * TP_BAY_SLOTS at most; for tests to lower. */
extern uint32_t tp_park_most;

/* Makes the first bay and the shared heap; false without memory. */
TP_COLD bool tp_park_open(void);

/*
 * A heap for a new thread: a parked one, else one that was given up or is new; NULL
 * when there is none.
 */
TP_COLD struct tp_heap *tp_park_take(void);

/* Parks the heap of a thread that ends; gives up some, when many are parked. */
TP_COLD void tp_park_put(struct tp_heap *heap);

/* Takes slabs of class `c` from some parked heap; true when it got any. */
TP_COLD bool tp_park_steal(struct tp_heap *heap, unsigned c);

/*
 * Collects parked heaps, in turn, and gives back pages of bays where nobody counts.
 * Context: cold; try-lock, may do nothing.
 */
TP_COLD void tp_park_collect(void);

/* The same for all parked heaps and all bays: for malloc_trim(). */
TP_COLD void tp_park_collect_all(void);

/* Heap `index`; NULL when no thread ever had it. */
struct tp_heap *tp_park_at(uint32_t index);

/* Heaps ever made: indexes 0 .. n - 1; 0 is the shared one. */
uint32_t tp_park_count(void);

/* Bits of `bay`: slots that hold nothing but zeros; and of these, those without pages. */
uint32_t tp_park_bare(uint32_t bay);
uint32_t tp_park_gone(uint32_t bay);

/*
 * The heap that threads without one share, entered under its lock; NULL when the lock
 * cannot be had, because a signal handler stands on top of its holder. Who is not
 * `patient` waits a short while only: a handler on top of a slow path, which may hold
 * what the holder of the lock waits for.
 */
TP_COLD struct tp_heap *tp_park_enter_shared(bool patient);
TP_COLD void tp_park_leave_shared(struct tp_heap *heap);

/*
 * Keeps all others from counting until tp_park_end_alone(); false when another thread
 * has a heap, or is at the shared one.
 */
TP_COLD bool tp_park_begin_alone(void);
TP_COLD void tp_park_end_alone(void);

/* In a forked child: `self` survives, see tp_depot_forked(). */
void tp_park_forked(struct tp_heap *self, bool alone);

/* thread.c: a thread meets its heap. */

/* Gives the calling thread a heap; NULL when it is about to end, or no memory. */
TP_COLD struct tp_heap *tp_thread_begin(void);

/* Bytes until heap's next event: a sample, a flush, at the latest. */
void tp_thread_arm(struct tp_heap *heap);

#endif
