/* SPDX-License-Identifier: MIT */
/*
 * heap.c - the cold twins of take and put: refill, shelves, empty and full slabs.
 */
#include "pool/heap.h"

#include <string.h>

enum {
    CARVE_BYTES = 4096,   // cut at once: few enough pages touched ahead of need
    CARVE_MOST = 64,      // blocks
    ENOUGH_BYTES = 4096,  // a list worth taking without a look around: so many bytes,
    ENOUGH_MOST = 8,      // or so many blocks
    LOOK = 8,             // slabs looked at for a longer list
    LEND_LEAST = 256,  // bytes of a block: smaller ones are carved 16 at once, or more
    SPARES = 2,        // empty slabs of one granule kept by a heap for each class
    SPARES_LONG = 1,   // longer ones
};

uintptr_t tp_heap_watch;

void tp_heap_init(struct tp_heap *heap, uint32_t index)
{
    memset(heap, 0, sizeof(*heap));
    for (unsigned c = 0; c < TP_CLASSES; c++) heap->bins[c].bytes = tp_class_bytes(c);
    heap->index = index;
    heap->alive = true;
}

/* ---- shelves: rings, the slab in use first ---- */

static void enlist(struct tp_heap *heap, struct tp_slab *slab)
{
    struct tp_slab **shelf = &heap->shelf[slab->class];
    struct tp_slab *first = *shelf;
    if (!first) {
        slab->next = slab->prev = slab;
        *shelf = slab;
    } else {
        slab->next = first;
        slab->prev = first->prev;
        first->prev->next = slab;
        first->prev = slab;
    }
    slab->listed = true;
}

static void delist(struct tp_heap *heap, struct tp_slab *slab)
{
    struct tp_slab **shelf = &heap->shelf[slab->class];
    if (slab->next == slab) {
        *shelf = NULL;
    } else {
        slab->next->prev = slab->prev;
        slab->prev->next = slab->next;
        if (*shelf == slab) *shelf = slab->next;
    }
    slab->next = slab->prev = NULL;
    slab->listed = false;
}

static void set_owner(struct tp_heap *heap, struct tp_slab *slab, bool full)
{
    uintptr_t watched = tp_slab_owner(slab) & TP_SLAB_WATCHED;
    tp_slab_set_owner(slab, (uintptr_t)heap | watched | (full ? TP_SLAB_FULL : 0));
}

/*
 * Nothing is left to hand out: off the shelf, and the next stranger shall ring.
 * False when one has pushed meanwhile, or when an earlier call is still on its way.
 */
static bool shut(struct tp_heap *heap, struct tp_slab *slab)
{
    if (slab->awaited) return false;
    set_owner(heap, slab, true);
    if (!tp_remote_ring(&slab->remote)) {
        set_owner(heap, slab, false);
        return false;
    }
    delist(heap, slab);
    return true;
}

static void reopen(struct tp_heap *heap, struct tp_slab *slab)
{
    set_owner(heap, slab, false);
    if (!slab->listed) enlist(heap, slab);
}

/* Sees to full slabs that strangers gave a block back to. */
static void answer_callers(struct tp_heap *heap)
{
    if (!atomic_load_explicit(&heap->callers, memory_order_relaxed)) return;
    // Meets the release in tp_heap_send().
    struct tp_slab *slab =
        atomic_exchange_explicit(&heap->callers, NULL, memory_order_acquire);
    while (slab) {
        struct tp_slab *next = slab->caller;
        slab->caller = NULL;
        slab->awaited = false;
        reopen(heap, slab);
        slab = next;
    }
}

void tp_heap_send(struct tp_slab *slab, void *p)
{
    if (!tp_remote_push(&slab->remote, p)) return;
    // The slab cannot change hands before its owner has answered. Meets the release of
    // tp_remote_ring(): we see the owner that rang, not the one before.
    atomic_thread_fence(memory_order_acquire);
    struct tp_heap *owner =
        (struct tp_heap *)(tp_slab_owner(slab) & ~(uintptr_t)TP_SLAB_FLAGS);
    struct tp_slab *first = atomic_load_explicit(&owner->callers, memory_order_relaxed);
    do {
        slab->caller = first;
    } while (!atomic_compare_exchange_weak_explicit(
        &owner->callers, &first, slab, memory_order_release, memory_order_relaxed));
}

/* ---- handing lists to bins ---- */

static void fill(struct tp_heap *heap, unsigned c, struct tp_block *list, bool fresh)
{
    uint64_t bit = (uint64_t)1 << c;
    heap->fresh = fresh ? heap->fresh | bit : heap->fresh & ~bit;
    heap->direct[c] = 0;
    heap->bins[c].free = list;
}

static void no_longer_spare(struct tp_heap *heap, struct tp_slab *slab)
{
    if (!slab->spare) return;
    slab->spare = false;
    heap->spares[slab->class]--;
}

static uint32_t on_local(const struct tp_slab *slab)
{
    return slab->carved - (uint32_t)slab->used;
}

static bool has_enough(const struct tp_slab *slab)
{
    uint32_t n = on_local(slab);
    return n >= ENOUGH_MOST || (n && n * slab->bytes >= ENOUGH_BYTES);
}

static bool take_local(struct tp_heap *heap, struct tp_slab *slab)
{
    struct tp_block *list = slab->local;
    if (!list) return false;
    tp_slab_verify(slab, list);
    tp_slab_verify(slab, list->next);
    no_longer_spare(heap, slab);
    slab->local = NULL;
    slab->used = (int32_t)slab->carved;
    fill(heap, slab->class, list, false);
    return true;
}

/* In a forked child a list begun before the fork may be torn: let it go. */
static struct tp_block *take_remote(struct tp_slab *slab)
{
    struct tp_block *list = tp_remote_take(&slab->remote);
    if (TP_LIKELY(slab->fork_era == tp_fork_era)) return list;
    slab->fork_era = tp_fork_era;
    return NULL;
}

static bool take_carved(struct tp_heap *heap, struct tp_slab *slab)
{
    uint32_t n = CARVE_BYTES / slab->bytes;
    n = n < 1 ? 1 : n > CARVE_MOST ? CARVE_MOST : n;
    no_longer_spare(heap, slab);
    struct tp_block *list = tp_slab_carve(slab, n, &n);
    if (!list) return false;
    fill(heap, slab->class, list, slab->fresh);
    return true;
}

/*
 * Takes in what strangers freed. A list that is long enough fills the bin as it is;
 * a short one joins the local list, so that a refill is worth its cost. True when the
 * bin is filled.
 */
static bool take_in_remote(struct tp_heap *heap, struct tp_slab *slab)
{
    struct tp_block *list = take_remote(slab);
    uint32_t n = 0;
    for (struct tp_block *block = list; block && n < ENOUGH_MOST; block = block->next) {
        tp_slab_verify(slab, block);
        n++;
    }
    if (n >= ENOUGH_MOST || (n && n * slab->bytes >= ENOUGH_BYTES)) {
        fill(heap, slab->class, list, false);
        return true;
    }
    for (struct tp_block *next; list; list = next) {
        next = list->next;
        list->next = slab->local;
        slab->local = list;
        slab->used--;
    }
    return false;
}

/*
 * Looks along the shelf for freed blocks: the first list that is long enough, else
 * the longest of the first few. Slabs found to have nothing leave the shelf.
 */
static bool refill_from_shelf(struct tp_heap *heap, unsigned c)
{
    struct tp_slab *best = NULL, *room = NULL, *slab = heap->shelf[c];
    struct tp_slab *last = slab ? slab->prev : NULL;
    for (unsigned looked = 0; slab; looked++) {
        struct tp_slab *next = slab == last ? NULL : slab->next;
        if (take_in_remote(heap, slab)) {
            heap->shelf[c] = slab;
            return true;
        }
        if (slab->local) {
            if (!best || on_local(slab) > on_local(best)) best = slab;
            if (has_enough(slab)) break;
        } else if (slab->carved < slab->capacity) {
            room = slab;
        } else {
            shut(heap, slab);
        }
        if (looked >= LOOK && (best || room)) break;
        slab = next;
    }
    if (best) {
        heap->shelf[c] = best;
        return take_local(heap, best);
    }
    if (room) {
        heap->shelf[c] = room;
        return take_carved(heap, room);
    }
    return false;
}

static bool refill_from_depot(struct tp_heap *heap, unsigned c)
{
    uint64_t begin = tp_os_ticks();
    bool good = tp_park_steal(heap, c);
    if (!good) {
        struct tp_slab *slab = tp_slab_take(c);
        if (slab) {
            tp_slab_set_owner(slab, (uintptr_t)heap | tp_heap_watch);
            enlist(heap, slab);
            heap->slabs++;
            good = true;
        }
    }
    tp_latency_record(TP_OP_NEW_SLAB, heap->index, tp_os_ticks() - begin);
    return good;
}

bool tp_heap_refill(struct tp_heap *heap, unsigned c)
{
    // The common case is a swap of lists; it costs less than to read the clock.
    struct tp_slab *first = heap->shelf[c];
    if (first && has_enough(first)) return take_local(heap, first);

    uint64_t begin = tp_os_ticks();
    answer_callers(heap);
    bool good = refill_from_shelf(heap, c);
    while (!good && refill_from_depot(heap, c)) good = refill_from_shelf(heap, c);
    tp_latency_record(TP_OP_REFILL, heap->index, tp_os_ticks() - begin);
    return good;
}

void *tp_heap_take_one(struct tp_heap *heap, unsigned c)
{
    struct tp_slab *slab = heap->shelf[c];
    if (!slab || !slab->local) {
        if (!tp_heap_refill(heap, c)) return NULL;
        struct tp_block *block = heap->bins[c].free;
        heap->bins[c].free = NULL;
        slab = heap->shelf[c];
        for (struct tp_block *next; block; block = next) {
            next = block->next;
            block->next = slab->local;
            slab->local = block;
            slab->used--;
        }
    }
    struct tp_block *block = slab->local;
    tp_slab_verify(slab, block->next);
    no_longer_spare(heap, slab);
    slab->local = block->next;
    slab->used++;
    return block;
}

/* ---- blocks and slabs that come back ---- */

static void release(struct tp_heap *heap, struct tp_slab *slab)
{
    no_longer_spare(heap, slab);
    delist(heap, slab);
    heap->slabs--;
    tp_slab_put(slab);
}

void tp_heap_emptied(struct tp_heap *heap, struct tp_slab *slab)
{
    if (slab->used < 0)
        tp_die(
            "double free: a slab of %u-byte blocks got more than it gave", slab->bytes);
    if (slab->spare || slab->awaited) return;
    if (heap->spares[slab->class] < (slab->order ? SPARES_LONG : SPARES)) {
        slab->spare = true;
        heap->spares[slab->class]++;
        return;
    }
    release(heap, slab);
}

void tp_heap_lend(struct tp_heap *heap, struct tp_slab *slab)
{
    // Bins of small blocks are filled with many at a time: nobody waits for these.
    bool lends = slab->used == 0 && slab->bytes >= LEND_LEAST && !slab->awaited &&
        !heap->bins[slab->class].free && !heap->spares[slab->class];
    if (!lends || !take_local(heap, slab)) {
        tp_heap_emptied(heap, slab);
        return;
    }
    heap->lent |= (uint64_t)1 << slab->class;
}

void tp_heap_put(struct tp_heap *heap, struct tp_slab *slab, void *p)
{
    struct tp_block *block = p;
    if (slab->local == block) tp_die("double free of %p", p);
    block->next = slab->local;
    slab->local = block;
    slab->used--;
    if (tp_slab_owner(slab) & TP_SLAB_FULL) {
        slab->awaited = !tp_remote_unring(&slab->remote);
        reopen(heap, slab);
    }
    if (slab->used <= 0) tp_heap_emptied(heap, slab);
}

static void empty_bin(struct tp_heap *heap, unsigned c)
{
    struct tp_block *block = heap->bins[c].free;
    heap->bins[c].free = NULL;
    while (block) {
        struct tp_block *next = block->next;
        struct tp_slab *slab = tp_slab_at(block);
        if (!slab) break;
        tp_heap_put(heap, tp_slab_head(slab), block);
        block = next;
    }
}

void tp_heap_empty_bins(struct tp_heap *heap)
{
    for (unsigned c = 0; c < TP_CLASSES; c++) empty_bin(heap, c);
    heap->lent = 0;
}

void tp_heap_empty_lent(struct tp_heap *heap)
{
    for (uint64_t lent = heap->lent; lent; lent &= lent - 1)
        empty_bin(heap, (unsigned)__builtin_ctzll(lent));
    heap->lent = 0;
}

static void collect_slab(struct tp_heap *heap, struct tp_slab *slab)
{
    struct tp_block *block = take_remote(slab);
    while (block) {
        struct tp_block *next = block->next;
        tp_slab_verify(slab, next);
        block->next = slab->local;
        slab->local = block;
        slab->used--;
        block = next;
    }
    if (slab->used <= 0) tp_heap_emptied(heap, slab);
}

void tp_heap_collect_class(struct tp_heap *heap, unsigned c)
{
    answer_callers(heap);
    struct tp_slab *slab = heap->shelf[c];
    struct tp_slab *last = slab ? slab->prev : NULL;
    while (slab) {
        struct tp_slab *next = slab == last ? NULL : slab->next;
        collect_slab(heap, slab);
        slab = next;
    }
}

void tp_heap_collect(struct tp_heap *heap)
{
    for (unsigned c = 0; c < TP_CLASSES; c++) tp_heap_collect_class(heap, c);
}

void tp_heap_drop_spares(struct tp_heap *heap)
{
    for (unsigned c = 0; c < TP_CLASSES; c++) {
        struct tp_slab *slab = heap->shelf[c];
        struct tp_slab *last = slab ? slab->prev : NULL;
        while (slab && heap->spares[c]) {
            struct tp_slab *next = slab == last ? NULL : slab->next;
            if (slab->spare) release(heap, slab);
            slab = next;
        }
    }
}

/* Needs: a slab on `heap`'s shelf that no stranger is about to tell of. */
static void hand_over(struct tp_heap *heap, struct tp_slab *slab, struct tp_heap *heir)
{
    no_longer_spare(heap, slab);
    delist(heap, slab);
    heap->slabs--;
    set_owner(heir, slab, false);
    enlist(heir, slab);
    heir->slabs++;
}

unsigned tp_heap_steal(
    struct tp_heap *heap, struct tp_heap *parked, unsigned c, unsigned most)
{
    unsigned n = 0;
    while (n < most && parked->shelf[c] && !parked->shelf[c]->awaited) {
        hand_over(parked, parked->shelf[c], heap);
        n++;
    }
    return n;
}

void tp_heap_bequeath(struct tp_heap *heap, struct tp_heap *heir)
{
    for (unsigned c = 0; c < TP_CLASSES; c++) {
        struct tp_slab *slab = heap->shelf[c];
        struct tp_slab *last = slab ? slab->prev : NULL;
        while (slab) {
            struct tp_slab *next = slab == last ? NULL : slab->next;
            if (!slab->awaited) hand_over(heap, slab, heir);
            slab = next;
        }
    }
}
