/* SPDX-License-Identifier: MIT */
/*
 * slab.h - one reserved range, its slabs, their shared store, and what lies above.
 *
 * Idea: address space is reserved once. A dense array of descriptors, one for every
 * 64 KiB granule, tells everything about a pointer; no block has a header, so what
 * overflows in a block cannot reach our books, and free needs one subtraction to
 * know whether a pointer is ours at all. Headers inside slabs would alias in the
 * caches: 8-10 ns a touch beyond 64 slabs, against 1.1 ns for a dense array.
 *
 *   base                       zone                                        end
 *    +--------------------------+------------------+-----------+------------+
 *    | descriptors, 128 bytes   | slabs -->        |  nothing  | <-- large  |
 *    | each, read-only until    | carved in runs   |   yet     |   blocks'  |
 *    | their granule is in use  | of 1..16 granules|           |   extents  |
 *    +--------------------------+------------------+-----------+------------+
 *
 * A slab is a run of blocks of one class. Its blocks are, at any time,
 *
 *   carved = used + on `local`        used = with programs, on lists of heaps,
 *                                            or on `remote`
 *
 * Holds always:
 *   - `owner` is the owning heap's address plus flags, or flags alone. Any flag, and
 *     any other heap, makes the one comparison in free fail;
 *   - only the owner writes the first line; strangers push to `remote` and, when it
 *     rings, put the slab on the owner's list of callers;
 *   - descriptors of a run's other granules are TP_SLAB_INSIDE and point back.
 *
 * Knows nothing of: threads, counters per thread, files, samples.
 */
#ifndef TP_POOL_SLAB_H
#define TP_POOL_SLAB_H

#include "pool/ledger.h"
#include "pool/os.h"
#include "pool/remote.h"
#include "pool/size.h"

enum tp_slab_flags {      // in the low bits of `owner`
    TP_SLAB_FULL = 1,     // on no list: nothing to hand out until a block returns
    TP_SLAB_WATCHED = 2,  // frees must take the slow path: check, zero
    TP_SLAB_INSIDE = 4,   // not the first granule of its run
    TP_SLAB_LARGE = 8,    // a block above the pools begins in this granule
    TP_SLAB_IDLE = 16,    // first or last granule of a free run; see huge.h
    TP_SLAB_MARKED = 32,  // its blocks are followed until they are freed; see marks.h
    TP_SLAB_FLAGS = 2047,
};

struct tp_slab {
    _Atomic(uintptr_t) owner;  // heap | flags; see above
    struct tp_block *local;    // freed by the owner, newest first
    int32_t used;              // see above
    uint32_t bytes;            // of every block
    uint32_t carved;           // blocks ever cut from the run
    uint32_t back;             // TP_SLAB_INSIDE: granules to the first one
    uint64_t inverse;          // ceil(2^64 / bytes): block starts without a division
    struct tp_slab *next;      // on its heap's shelf, or in the depot
    struct tp_slab *prev;
    uint8_t class;
    uint8_t order;  // log2 of the run's granules
    bool listed;    // on its heap's shelf
    bool fresh;     // pages never written since the kernel gave them
    bool awaited;   // a stranger is about to put it on the list of callers
    bool spare;     // empty, kept on the shelf and counted in heap->spares
    bool huge;      // TP_SLAB_LARGE: a run of huge.h, not jemalloc's
    uint8_t unused;

    _Alignas(TP_CACHE_LINE) struct tp_remote remote;
    uint32_t capacity;  // blocks that the run can hold
    uint32_t fork_era;  // forks survived when `remote` was last trusted
    union {
        struct tp_slab *caller;  // next on the owner's list of callers
        size_t requested;        // TP_SLAB_LARGE: see struct tp_note
    };
    uint64_t emptied_ticks;  // in the depot: since when
    union {
        char *large_start;         // TP_SLAB_LARGE: the block
        struct tp_marked *marked;  // TP_SLAB_MARKED: what is kept of its blocks
    };
    size_t large_bytes;  // TP_SLAB_LARGE: its usable bytes
    size_t granules;     // of a huge block or a free run
    uint32_t dirty_at;   // of a free run: granules [dirty_at, dirty_at + dirty)
    union {
        uint32_t dirty;  // may have pages, the others have none
        uint32_t mark;   // TP_SLAB_LARGE: see struct tp_note
    };
};
static_assert(sizeof(struct tp_slab) == 128, "two lines: owner's and strangers'");

/* Written once before the first block exists. */
struct tp_range {
    uintptr_t first;        // descriptor offset that the base would have, see below
    size_t span;            // bytes of descriptors; 0 when there is no range
    struct tp_slab *slabs;  // descriptor of the base's granule
    char *base;
    char *zone;  // first granule for slabs
    char *end;
};
extern struct tp_range tp_range;

/* Descriptor of the granule that holds `p`; NULL outside the range. Context: hot. */
static inline struct tp_slab *tp_slab_at(const void *p)
{
    uintptr_t offset =
        ((uintptr_t)p >> TP_GRANULE_SHIFT) * sizeof(struct tp_slab) - tp_range.first;
    if (TP_UNLIKELY(offset >= tp_range.span)) return NULL;
    return (struct tp_slab *)(void *)((char *)tp_range.slabs + offset);
}

/* True when `owner` is exactly this heap, without a flag. Context: hot. */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
static inline bool tp_slab_is_plain(struct tp_slab *slab, const void *heap)
{
    bool same;  // compares in memory: one instruction less than a relaxed load
    __asm__("cmpq %2, %1" : "=@cce"(same) : "m"(slab->owner), "r"(heap));
    return same;
}
#else
static inline bool tp_slab_is_plain(struct tp_slab *slab, const void *heap)
{
    return atomic_load_explicit(&slab->owner, memory_order_relaxed) == (uintptr_t)heap;
}
#endif

static inline uintptr_t tp_slab_owner(struct tp_slab *slab)
{
    return atomic_load_explicit(&slab->owner, memory_order_relaxed);
}

static inline void tp_slab_set_owner(struct tp_slab *slab, uintptr_t owner)
{
    atomic_store_explicit(&slab->owner, owner, memory_order_relaxed);
}

/* First byte of a slab's run. */
static inline char *tp_slab_start(const struct tp_slab *slab)
{
    return tp_range.base + ((size_t)(slab - tp_range.slabs) << TP_GRANULE_SHIFT);
}

/* First granule's descriptor of the run that `slab` belongs to. */
static inline struct tp_slab *tp_slab_head(struct tp_slab *slab)
{
    return tp_slab_owner(slab) & TP_SLAB_INSIDE ? slab - slab->back : slab;
}

/* Where the block begins that `p`, in the run of `slab`, lies in. */
static inline void *tp_slab_block_around(const struct tp_slab *slab, const void *p)
{
    size_t offset = (size_t)((const char *)p - tp_slab_start(slab));
    return tp_slab_start(slab) + offset / slab->bytes * slab->bytes;
}

/*
 * True when a block begins `offset` bytes into the slab: d divides n exactly when
 * n * ceil(2^64 / d) mod 2^64 < ceil(2^64 / d), for all n, d < 2^32 (Lemire, Kaser,
 * Kurz: Faster remainder by direct computation, 2019).
 */
static inline bool tp_slab_is_start(const struct tp_slab *slab, size_t offset)
{
    return offset * slab->inverse < slab->inverse;
}

/* True when `p` is the first byte of a carved block of `slab` (a run's head). */
static inline bool tp_slab_is_block(const struct tp_slab *slab, const void *p)
{
    size_t offset = (size_t)((const char *)p - tp_slab_start(slab));
    uint64_t carved = __atomic_load_n(&slab->carved, __ATOMIC_RELAXED);
    return offset < carved * slab->bytes && tp_slab_is_start(slab, offset);
}

/* Says that the slab's blocks were written to after they were freed, and dies. */
_Noreturn TP_COLD void tp_slab_corrupted(const struct tp_slab *slab);

/* Dies when `block`, the next of a list or NULL, is no block start of `slab`. */
static inline void tp_slab_verify(
    const struct tp_slab *slab, const struct tp_block *block)
{
    if (!block) return;
    size_t offset = (size_t)((const char *)block - tp_slab_start(slab));
    if (TP_UNLIKELY(offset >= (size_t)TP_GRANULE << slab->order ||
            !tp_slab_is_start(slab, offset)))
        tp_slab_corrupted(slab);
}

/* slab.c */

/*
 * Reserves the range: `wanted` bytes, or with 0 the first of 1 TiB, 256, 64, 16, 4,
 * 1 GiB, ... that the system grants and that is at most a quarter of RLIMIT_AS.
 * Fails: false; tp_slab_at() then knows no pointer and all blocks are large.
 */
bool tp_range_open(size_t wanted);

/* Sets up the run at `slab` for blocks of `class`, nothing carved, no owner. */
void tp_slab_prepare(struct tp_slab *slab, unsigned class);

/*
 * A slab for blocks of `class`, from the depot and on the books, without an owner; NULL
 * without memory. The second gives it back. Needs: none of its blocks is in use.
 */
TP_COLD struct tp_slab *tp_slab_take(unsigned class);
TP_COLD void tp_slab_put(struct tp_slab *slab);

/* Cuts up to `n` new blocks; the list ends with NULL. `out_n` may be 0. */
struct tp_block *tp_slab_carve(struct tp_slab *slab, uint32_t n, uint32_t *out_n);

/* How much memory may lie idle; set once, before the first block. */
enum tp_idle {
    TP_IDLE_SHARE,  // with what is in use no more than was in use lately, and a bit
    TP_IDLE_NONE,   // purge=0
    TP_IDLE_ALL,    // purge=off
};
extern enum tp_idle tp_idle;

/* depot.c: the shared store of runs, by order. One lock, held for a few lines. */

/* A run of 1 << order granules, or NULL. `fresh` tells whether it is zeroed. */
TP_COLD struct tp_slab *tp_depot_take(unsigned order);

/* Gives a run back. Needs: nothing refers to it any more. */
TP_COLD void tp_depot_put(struct tp_slab *slab);

/*
 * Returns the pages of runs that have been empty for `age_ticks` to the kernel;
 * 0: of all. Returns the bytes given back.
 */
TP_COLD size_t tp_depot_purge(uint64_t age_ticks);

/* Address space for large extents, from the range's far end; NULL: exhausted. */
TP_COLD void *tp_depot_extent(size_t bytes);

/* True for addresses that tp_depot_extent() has handed out. */
bool tp_depot_is_extent(const void *p);

/*
 * In a forked child. `alone`: the parent had one thread; otherwise other threads
 * were caught anywhere and what they shared is forgotten: addresses, not pages.
 */
void tp_depot_forked(bool alone);

/* Forks survived; a remote list from before the last one is not to be followed. */
extern uint32_t tp_fork_era;

/* fallow.c: areas, the granules of one page of descriptors. Under the depot's lock. */

/* Granules of an area. */
size_t tp_fallow_granules(void);

/*
 * A run has become clean; its area's first descriptor when it was the last there: its
 * runs then leave all lists, and tp_fallow_begin() gives the descriptors' page back.
 */
struct tp_slab *tp_fallow_cleaned(const struct tp_slab *slab);
void tp_fallow_begin(struct tp_slab *first);

/* A clean run is about to be used. */
void tp_fallow_taken(const struct tp_slab *slab);

/* The first descriptor, all zero, of an area that is fallow no more; NULL: none was. */
struct tp_slab *tp_fallow_end(void);

/* In a forked child that forgets its lists; see tp_depot_forked(). */
void tp_fallow_forked(void);

/* large.c: the door to the private jemalloc. */

/* A block of at least `bytes`, aligned to `align` (a power of two; 0: 16). */
TP_COLD void *tp_large_alloc(size_t bytes, size_t align, bool zero);

/*
 * The block that begins at `p`: its usable bytes, or 0 when `p` is no large block.
 * Context: any thread.
 */
size_t tp_large_bytes(const void *p);

/* Needs: tp_large_bytes(p) > 0. */
TP_COLD void tp_large_free(void *p);

/*
 * Keeps a note with a large block, in place of one that is there. False: the block has
 * no descriptor of its own, and the table of those is full. The second tells it, the
 * third also takes it away. Needs: tp_large_bytes(p) > 0.
 */
TP_COLD bool tp_large_keep(void *p, struct tp_note note);
TP_COLD struct tp_note tp_large_note(const void *p);
TP_COLD struct tp_note tp_large_end(void *p);

/*
 * Tries to make the block `bytes` long where it stands; true when it is (the usable
 * bytes may still be more). Needs: tp_large_bytes(p) > 0.
 */
TP_COLD bool tp_large_resize(void *p, size_t bytes);

/*
 * Moves a large block to where it can have `bytes`, by moving its pages where that
 * pays; the old block is gone. NULL: nothing changed, the caller copies.
 */
TP_COLD void *tp_large_move(void *p, size_t bytes);

/* Gives unused pages back: when they have lain idle since the last call, or now. */
TP_COLD size_t tp_large_purge(bool now);

/* Around fork: locks of the private jemalloc, if it has ever started. */
void tp_large_before_fork(void);
void tp_large_after_fork(bool child);

#endif
