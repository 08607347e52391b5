/* SPDX-License-Identifier: MIT */
/*
 * pool.c - dispatch: by size on the way out, by address on the way in.
 *
 * The hot halves of alloc and free are in fast.h; here is what they fall to.
 */
#include "pool/pool.h"

#include "pool/check.h"
#include "pool/exact.h"
#include "pool/fast.h"
#include "pool/follow.h"
#include "pool/marks.h"
#include "pool/nearby.h"
#include "pool/slow.h"

#include <string.h>

enum { DIRECT_MOST = 16 };  // blocks that go back to a bin between two refills

/* ---- taking ---- */

/* A large block goes to the program. */
static inline void count_large(struct tp_heap *heap, void *p, size_t size, size_t bytes)
{
    if (TP_UNLIKELY(tp_slow_options.exact))
        tp_follow_taken(heap, p, TP_LARGE_CLASS, size, bytes);
    tp_slow_count_large(heap, size, bytes);
    struct tp_counters *counters = tp_heap_counters(heap);
    if (heap->countdown < 0)
        tp_slow_any_event(heap, p, TP_LARGE_CLASS, size, bytes);
    else if (tp_peak_is_due(counters))
        tp_peak_flush(counters);
}

/* Timed: where nothing is at hand. To read the clock costs half as much as the rest. */
static TP_SLOW void *alloc_far(
    struct tp_heap *heap, size_t size, size_t align, bool zero)
{
    uint64_t begin = tp_os_ticks();
    void *p = tp_large_alloc(size, align, zero);
    if (p) count_large(heap, p, size, tp_large_bytes(p));
    uint32_t shard = heap->index;
    tp_slow_leave_quick(heap);
    tp_latency_record(TP_OP_LARGE_MALLOC, shard, tp_os_ticks() - begin);
    return p ? p : tp_slow_fail();
}

static TP_SLOW void *alloc_large(size_t size, size_t align, bool zero)
{
    struct tp_heap *heap = size > PTRDIFF_MAX ? NULL : tp_slow_enter_quick();
    if (!heap) return tp_slow_without_heap(size);
    bool usual = size >= TP_HUGE_MIN && align <= TP_GRANULE;
    struct tp_slab *slab = usual ? tp_nearby_take(heap->index, size) : NULL;
    if (!slab) return alloc_far(heap, size, align, zero);
    void *p = slab->large_start;
    if (zero) tp_huge_clear(p, size);
    count_large(heap, p, size, slab->large_bytes);
    tp_slow_leave_quick(heap);
    return p;
}

/* Where in the program we are, with check=on. Needs: entered. */
static uint32_t place_of(struct tp_heap *heap)
{
    return tp_follow_is_nested(heap) ? 0 : tp_host_place();
}

/*
 * The bin is empty, or nobody's: the whole story. Blocks of the class have the
 * alignment; where there is no room for one, a large one must be given it.
 */
static TP_SLOW void *alloc_slow(size_t size, unsigned c, size_t align)
{
    struct tp_heap *heap = tp_slow_enter_quick();
    if (!heap) return tp_slow_without_heap(size);
    struct tp_bin *bin = &heap->bins[c];
    size_t bytes = (size_t)bin->bytes;
    struct tp_block *block;
    if (TP_UNLIKELY(tp_slow_every)) {
        block = tp_heap_take_one(heap, c);
    } else {
        block = bin->free || tp_heap_refill(heap, c) ? bin->free : NULL;
        if (block) bin->free = block->next;
    }
    uint32_t place = 0;
    if (block) {
        if (TP_UNLIKELY(tp_slow_checks)) {
            place = place_of(heap);
            // Now: a sampled block may take its place, and its slab's pages go.
            tp_check_unused(block, bytes);
        }
        if (tp_slow_options.exact) tp_follow_taken(heap, block, c, size, bytes);
        tp_heap_count_taken(heap, c, size);
        if (tp_slow_options.exact) tp_peak_settle(tp_heap_counters(heap));
        if (heap->countdown < 0) block = tp_slow_any_event(heap, block, c, size, bytes);
    }
    tp_slow_leave_quick(heap);
    if (TP_UNLIKELY(tp_slow_checks) && block) tp_check_taken(block, size, bytes, place);
    return block ? block : alloc_large(size, align, false);
}

void *tp_cold_alloc(size_t size, unsigned c)
{
    return alloc_slow(size, c, 0);
}

/* A handler may have come between, and gone to where the heap is another one. */
static unsigned class_of_bin(const struct tp_bin *bin)
{
    const struct tp_heap *const heaps[] = { tp_heap_self, &tp_heap_aside,
        tp_slow_now.aside.heap, &tp_heap_none, &tp_heap_gone };
    uintptr_t c = TP_CLASSES;
    for (unsigned i = 0; i < sizeof(heaps) / sizeof(heaps[0]) && c >= TP_CLASSES; i++)
        if (heaps[i]) c = ((uintptr_t)bin - (uintptr_t)heaps[i]->bins) / sizeof(*bin);
    return (unsigned)c;
}

void *tp_cold_refill(size_t size, struct tp_bin *bin)
{
    if (tp_exact_is_on()) return tp_exact_alloc(size, class_of_bin(bin));
    return alloc_slow(size, class_of_bin(bin), 0);
}

void *tp_cold_event(size_t size, struct tp_bin *bin, struct tp_block *block)
{
    struct tp_heap *heap = tp_slow_enter_plain();
    if (heap) {
        // Of small blocks one in hundreds comes here: for them each event is a whole one.
        bool passes = bin->bytes > TP_SMALL_SLAB_MAX && tp_slow_event_passes(heap);
        tp_slow_leave_plain();
        if (passes) return block;
    }
    heap = tp_heap_self;
    if (tp_slow_is_busy()) return block;
    unsigned c = class_of_bin(bin);
    void *p = tp_slow_fast_event(heap, c, block, size);
    if (TP_LIKELY(p)) return p;
    size_t bytes = tp_class_bytes(c);
    return alloc_slow(size, c, bytes & -bytes);  // who asks may want as much
}

/* Requests above the table: the class is computed. */
void *tp_cold_medium(size_t size)
{
    if (size > TP_POOL_MAX) return alloc_large(size, 0, false);
    return tp_fast_take(tp_class_of(size), size);
}

TP_HOT void *tp_pool_alloc(size_t size)
{
    return tp_fast_alloc(size);
}

void *tp_pool_zalloc(size_t size)
{
    if (size > TP_POOL_MAX) return alloc_large(size, 0, true);
    unsigned c = tp_class_of(size);
    struct tp_heap *heap = tp_heap_self;
    // A fresh bin is clean to the last block, but for the links; the block must be the
    // one that was seen there: a refill, or a handler, may have come between.
    struct tp_block *clean = heap->fresh >> c & 1 ? heap->bins[c].free : NULL;
    void *p = tp_fast_take(c, size);
    if (TP_UNLIKELY(!p)) return NULL;
    if (p == clean && size >= sizeof(struct tp_block) && !tp_slow_checks) {
        tp_count_add(&tp_heap_counters(heap)->zeroed_for_free, 1);
        ((struct tp_block *)p)->next = NULL;
        return p;
    }
    return memset(p, 0, size);
}

void *tp_pool_aligned(size_t align, size_t size)
{
    if (align <= TP_MIN_ALIGN) return tp_pool_alloc(size);
    size_t least = size > align ? size : align;
    if (least > TP_POOL_MAX) return alloc_large(size, align, false);
    // Slabs are aligned to their run, blocks to the power of two in their size.
    unsigned c = tp_class_of(least);
    while (tp_class_bytes(c) & (align - 1)) c++;
    bool ready = tp_heap_self->bins[c].free != NULL;
    return ready ? tp_fast_take(c, size) : alloc_slow(size, c, align);
}

/* ---- giving back ---- */

/* `slab`: the descriptor of a huge block; NULL: jemalloc's, or it is not told yet. */
static TP_SLOW void free_large(void *p, struct tp_slab *slab, size_t bytes)
{
    struct tp_heap *heap = tp_slow_enter_quick();
    uint32_t shard = heap ? heap->index : 0;
    if (!slab || slab->mark) tp_follow_freed(heap, p, TP_LARGE_CLASS, bytes);
    if (heap) tp_slow_count_large_freed(heap, bytes);
    if (TP_UNLIKELY(tp_slow_options.zero)) memset(p, 0, bytes);
    if (heap && slab && tp_nearby_keep(shard, slab)) {
        tp_slow_leave_quick(heap);
        return;
    }
    uint64_t begin = tp_os_ticks();
    tp_large_free(p);
    if (heap) tp_slow_leave_quick(heap);
    tp_latency_record(TP_OP_LARGE_FREE, shard, tp_os_ticks() - begin);
}

/*
 * A block of our own that took the slow path anyway, because it is above 8 KiB or its
 * slab is full, goes straight back to its bin: the next malloc of its class is then a
 * fast one, and the slab need not change lists. A few only, so that slabs do empty.
 */
static bool put_in_bin(
    struct tp_heap *heap, struct tp_slab *slab, struct tp_block *block)
{
    struct tp_bin *bin = &heap->bins[slab->class];
    bool full = tp_slab_owner(slab) & TP_SLAB_FULL;
    if ((!slab->order && !full) || tp_heap_watch) return false;
    if (slab->order ? bin->free != NULL : heap->direct[slab->class] >= DIRECT_MOST)
        return false;
    heap->direct[slab->class]++;
    tp_heap_put_in_bin(heap, slab->class, block);
    return true;
}

/* Puts a block on its slab, or sends it there; true when it was our own. */
static bool put_home(struct tp_heap *heap, struct tp_slab *slab, void *p)
{
    bool own = (tp_slab_owner(slab) & ~(uintptr_t)TP_SLAB_FLAGS) == (uintptr_t)heap;
    if (!own)
        tp_heap_send(slab, p);
    else if (!put_in_bin(heap, slab, p))
        tp_heap_put(heap, slab, p);
    return own;
}

/* Needs: entered; `heap` is NULL where none could be had, and nothing is counted. */
static void free_marked(struct tp_heap *heap, struct tp_slab *slab, void *p)
{
    struct tp_marked was;
    if (!tp_follow_ended(heap, p, slab, &was)) tp_die("double free of %p", p);
    if (heap) {
        tp_slow_count_freed(heap, slab);
        if (was.slot != heap->index)
            tp_count_add(&tp_heap_counters(heap)->remote_frees, 1);
    }
    struct tp_slab *home = was.proxy ? tp_slab_head(tp_slab_at(was.proxy)) : NULL;
    if (home && heap)
        put_home(heap, home, was.proxy);
    else if (home)
        tp_heap_send(home, was.proxy);
    tp_marks_put(p, !tp_follow_is_nested(heap));
}

/* Looks at what is to be freed; does not return when it shows that something is wrong. */
static void look_at(void *p, struct tp_slab *slab)
{
    uint32_t place = tp_slow_checks ? tp_slow_place() : 0;
    if (!tp_slab_is_block(slab, p)) {
        if (tp_slow_checks)
            tp_check_inside(
                "free", p, tp_slab_block_around(slab, p), slab->bytes, place);
        tp_die("invalid free of %p: inside a block of %u bytes", p, slab->bytes);
    }
    if (tp_slow_checks)
        tp_check_freed(p, slab->bytes, place);
    else if (tp_slow_options.zero)
        memset(p, 0, slab->bytes);
}

/* A block of a slab, whoever owns it. `slab` is the head of its run. */
static TP_SLOW void free_block(void *p, struct tp_slab *slab)
{
    look_at(p, slab);
    struct tp_heap *heap = tp_slow_enter();
    if (tp_slab_owner(slab) & TP_SLAB_MARKED) {
        free_marked(heap, slab, p);
    } else {
        if (tp_slow_options.exact) tp_follow_freed(heap, p, slab->class, slab->bytes);
        if (heap) tp_slow_count_freed(heap, slab);
        if (!heap)
            tp_heap_send(slab, p);
        else if (!put_home(heap, slab, p))
            tp_count_add(&tp_heap_counters(heap)->remote_frees, 1);
    }
    if (heap) tp_slow_leave(heap);
}

/*
 * The usual block that the fast path does not see to the end: our own, in a slab of
 * several granules and not in the first one. False: free_block() knows what to do.
 */
static TP_SLOW bool free_own(void *p, struct tp_slab *slab)
{
    struct tp_heap *heap = tp_slow_enter_plain();
    if (TP_UNLIKELY(!heap)) return false;
    if (TP_UNLIKELY(!tp_slab_is_plain(slab, heap) || !tp_slab_is_block(slab, p))) {
        tp_slow_leave_plain();
        return false;
    }
    struct tp_counters *counters = tp_heap_counters(heap);
    if (TP_UNLIKELY(!tp_peak_calm(counters))) tp_peak_edge(counters);
    tp_count_add(&counters->frees[slab->class], 1);
    tp_count_add_signed(&counters->room, slab->bytes);
    struct tp_block *block = p, *ready = heap->bins[slab->class].free;
    if (TP_UNLIKELY(block == ready || block == slab->local))
        tp_die("double free of %p", p);
    if (!ready) {
        tp_heap_put_in_bin(heap, slab->class, block);
    } else {
        block->next = slab->local;
        slab->local = block;
        if (TP_UNLIKELY(tp_count_down(&slab->used))) tp_heap_emptied(heap, slab);
    }
    tp_slow_leave_plain();
    return true;
}

/* A pointer outside of all that is ours. */
static void free_foreign(void *p)
{
    // The first call of all may be this one: only then is it known who serves.
    tp_pool_start();
    if (tp_slow_options.inert) {
        tp_host_next_free(p);
    } else {
        tp_slow_meet_foreign();
        tp_host_foreign_free(p);
    }
}

void tp_cold_free(void *p)
{
    if (!p) return;
    struct tp_slab *slab = tp_slab_at(p);
    if (slab) {
        uintptr_t owner = tp_slab_owner(slab);
        if (owner & TP_SLAB_INSIDE) owner = tp_slab_owner(slab = slab - slab->back);
        if (tp_exact_is_on() && tp_exact_free(p, slab)) return;
        if (owner & ~(uintptr_t)TP_SLAB_FLAGS) {
            if (!free_own(p, slab)) free_block(p, slab);
            return;
        }
        if (owner == TP_SLAB_LARGE && slab->large_start == p && slab->huge) {
            free_large(p, slab, slab->large_bytes);
            return;
        }
    }
    size_t bytes = tp_large_bytes(p);
    if (bytes) {
        free_large(p, NULL, bytes);
    } else if (slab) {
        tp_die("double free or invalid pointer: %p holds no block", p);
    } else {
        free_foreign(p);
    }
}

/* The net is at a new high, or has fallen far: see to it, then go on as usual. */
void tp_cold_edge(void *p)
{
    tp_peak_edge(tp_heap_counters(tp_heap_self));
    tp_pool_free(p);
}

void tp_cold_emptied(struct tp_slab *slab)
{
    struct tp_heap *heap = tp_slow_enter_plain();
    if (TP_LIKELY(heap)) {
        // A handler may have used the slab before we got here.
        if (slab->used <= 0) tp_heap_lend(heap, slab);
        tp_slow_leave_plain();
        return;
    }
    if (tp_slow_is_busy()) return;
    uintptr_t outer = tp_slow_begin();
    if (slab->used <= 0) tp_heap_emptied(tp_heap_self, slab);
    tp_slow_end(outer);
}

void tp_cold_double_free(void *p)
{
    tp_die("double free of %p", p);
}

TP_HOT void tp_pool_free(void *p)
{
    tp_fast_free(p);
}

/* ---- counters, memory ---- */

struct tp_counters *tp_pool_counters(void)
{
    struct tp_heap *heap = tp_heap_self;
    if (TP_UNLIKELY(!heap->alive)) heap = tp_thread_begin();
    if (TP_UNLIKELY(!heap)) heap = tp_park_at(0);
    return heap ? tp_heap_counters(heap) : NULL;
}

int64_t tp_pool_peak_now(const struct tp_counters *counters)
{
    return tp_peak_now(counters);
}

int64_t tp_pool_peak_exact(void)
{
    return tp_peak_every_now();
}

void tp_pool_count_call(enum tp_call entry)
{
    struct tp_counters *counters = tp_pool_counters();
    if (counters) tp_count_of_call(counters, &counters->calls[entry], 1);
}

void tp_pool_count_failure(enum tp_call entry)
{
    struct tp_counters *counters = tp_pool_counters();
    if (counters) tp_count_of_call(counters, &counters->failed[entry], 1);
}

void tp_pool_blame(enum tp_call entry)
{
    struct tp_counters *counters = tp_pool_counters();
    if (!counters) return;
    tp_count_of_call(counters, &counters->failed[TP_CALL_MALLOC], (uint64_t)-1);
    tp_count_of_call(counters, &counters->failed[entry], 1);
}

struct tp_counters *tp_pool_slot(uint32_t index)
{
    struct tp_heap *heap = tp_park_at(index);
    return heap ? tp_heap_counters(heap) : NULL;
}

uint32_t tp_pool_slots(void)
{
    return tp_park_count();
}

struct tp_walk tp_pool_walk(void)
{
    return (struct tp_walk){ .folded = atomic_load_explicit(
                                 &tp_account.totals.folded, memory_order_acquire) };
}

const struct tp_counters *tp_pool_next(struct tp_walk *walk)
{
    uint32_t slots = tp_park_count();
    struct tp_fold fold = tp_fold_of(walk->folded);
    while (walk->next < slots) {
        uint32_t i = walk->index = walk->next++;
        bool bare = tp_park_bare(i / TP_BAY_SLOTS) >> i % TP_BAY_SLOTS & 1;
        if (!bare && tp_fold_counts(fold, i)) return tp_heap_counters(tp_park_at(i));
    }
    return NULL;
}

bool tp_pool_walked(const struct tp_walk *walk)
{
    // See fold.c.
#if !defined(__SANITIZE_THREAD__)  // which knows of no fences
    atomic_thread_fence(memory_order_acquire);
#endif
    return atomic_load_explicit(&tp_account.totals.folded, memory_order_relaxed) ==
        walk->folded;
}

bool tp_pool_sums(struct tp_sums *out)
{
    struct tp_walk walk = tp_pool_walk();
    const struct tp_counters *counters;
    *out = (struct tp_sums){ 0 };
    while ((counters = tp_pool_next(&walk))) {
        struct tp_sums sums = tp_counters_sums(counters);
        out->allocations += sums.allocations;
        out->frees += sums.frees;
        out->requested_bytes += sums.requested_bytes;
        out->allocated_bytes += sums.allocated_bytes;
        out->freed_bytes += sums.freed_bytes;
        out->remote_frees += sums.remote_frees;
    }
    return tp_pool_walked(&walk);
}

bool tp_pool_is_gone(uint32_t bay)
{
    return tp_park_gone(bay) == UINT32_MAX;
}

bool tp_pool_trim(void)
{
    struct tp_heap *heap = tp_slow_enter();
    if (!heap) return false;
    tp_heap_empty_bins(heap);
    tp_heap_collect(heap);
    tp_heap_drop_spares(heap);
    tp_slow_leave(heap);
    uintptr_t outer = tp_slow_begin();
    tp_park_collect_all();
    tp_marks_trim(0);
    tp_nearby_empty();
    size_t purged = tp_depot_purge(0) + tp_large_purge(true);
    tp_slow_end(outer);
    return purged > 0;
}
