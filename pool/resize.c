/* SPDX-License-Identifier: MIT */
/*
 * resize.c - realloc, and questions about a block's size.
 *
 * A pool block stays where it is while it fits and would be at least half used. A
 * large one is grown into the free run behind it or moved page by page; only what is
 * left is copied. A move is one allocation and one free on the books, a change in
 * place is the difference in bytes.
 */
#include "pool/check.h"
#include "pool/follow.h"
#include "pool/pool.h"
#include "pool/slow.h"

#include <string.h>

static void count_resized(struct tp_heap *heap, size_t size, size_t old, size_t now)
{
    struct tp_counters *counters = tp_heap_counters(heap);
    tp_count_of_call(counters, &counters->realloc_in_place, 1);
    if (now > old) {
        size_t more = size > old ? size - old : 0;
        tp_count_add(&counters->taken[TP_LARGE_CLASS].requested_bytes, more);
        tp_count_add(&counters->large_allocated_bytes, now - old);
        tp_count_add_signed(&counters->room, -(int64_t)(now - old));
        heap->countdown -= (int64_t)(now - old);
    } else if (now < old) {
        if (!tp_peak_calm(counters)) tp_peak_edge(counters);
        tp_count_add(&counters->large_freed_bytes, old - now);
        tp_count_add_signed(&counters->room, (int64_t)(old - now));
    }
    tp_peak_settle(counters);
}

/* True when the large block could be made `size` bytes long where it stands. */
static bool resize_large(void *p, size_t size, size_t old)
{
    if (size <= TP_POOL_MAX) return false;
    uint64_t begin = tp_os_ticks();
    struct tp_heap *heap = tp_slow_enter();
    if (!heap) return false;
    bool good = tp_large_resize(p, size);
    if (good) {
        size_t now = tp_large_bytes(p);
        heap->sampler.to_sample +=
            tp_follow_resized(heap, p, TP_LARGE_CLASS, size, old, now);
        count_resized(heap, size, old, now);
        if (heap->countdown < 0) tp_slow_event(heap, NULL, TP_LARGE_CLASS, 0, 0);
    }
    uint32_t shard = heap->index;
    tp_slow_leave(heap);
    tp_latency_record(TP_OP_LARGE_REALLOC, shard, tp_os_ticks() - begin);
    return good;
}

static void count_moved(void)
{
    struct tp_counters *counters = tp_pool_counters();
    if (counters) tp_count_of_call(counters, &counters->realloc_moved, 1);
}

/* A block that could not be made smaller is large enough as it is. */
static void *keep(void *p)
{
    struct tp_counters *counters = tp_pool_counters();
    if (counters) {
        tp_count_of_call(counters, &counters->failed[TP_CALL_MALLOC], (uint64_t)-1);
        tp_count_of_call(counters, &counters->realloc_in_place, 1);
    }
    return p;
}

static void *copy_over(void *p, size_t size, size_t old)
{
    void *to = tp_pool_alloc(size);
    if (!to) return size <= old ? keep(p) : NULL;
    memcpy(to, p, size < old ? size : old);
    tp_pool_free(p);
    count_moved();
    return to;
}

/* A large block whose pages can move: one allocation and one free, no copy. */
static void *move_large(void *p, size_t size, size_t old)
{
    uint64_t begin = tp_os_ticks();
    struct tp_heap *heap = size > TP_POOL_MAX ? tp_slow_enter() : NULL;
    if (!heap) return NULL;
    struct tp_note note = tp_large_note(p);  // gone with the block
    void *to = tp_large_move(p, size);
    if (to) {
        // The order of the books: both blocks are there while the content moves.
        size_t now = tp_large_bytes(to);
        if (tp_slow_options.exact) tp_follow_taken(heap, to, TP_LARGE_CLASS, size, now);
        tp_slow_count_large(heap, size, now);
        if (heap->countdown < 0) tp_slow_event(heap, to, TP_LARGE_CLASS, size, now);
        tp_peak_settle(tp_heap_counters(heap));
        tp_follow_gone(heap, p, note, old);
        tp_slow_count_large_freed(heap, old);
        count_moved();
    }
    uint32_t shard = heap->index;
    tp_slow_leave(heap);
    if (to) tp_latency_record(TP_OP_LARGE_REALLOC, shard, tp_os_ticks() - begin);
    return to;
}

/* The slab whose block begins at `p`; NULL when there is none. */
static struct tp_slab *slab_of_block(const void *p)
{
    struct tp_slab *slab = tp_slab_at(p);
    if (!slab) return NULL;
    slab = tp_slab_head(slab);
    return tp_slab_owner(slab) & ~(uintptr_t)TP_SLAB_FLAGS ? slab : NULL;
}

/* A block of someone else's becomes one of ours. */
static void *bring_home(void *p, size_t size)
{
    size_t old = tp_host_foreign_bytes(p);
    if (!old) tp_die("invalid realloc of %p: no block begins there", p);
    tp_slow_meet_foreign();
    void *to = tp_pool_alloc(size);
    if (!to) return NULL;
    memcpy(to, p, size < old ? size : old);
    tp_host_foreign_free(p);
    struct tp_counters *counters = tp_pool_counters();
    if (counters) tp_count_of_call(counters, &counters->realloc_fresh, 1);
    return to;
}

/* Another size is asked for, the block is as it was. */
static void tell_of_request(void *p, const struct tp_slab *slab, size_t size)
{
    struct tp_heap *heap = tp_slow_enter();
    if (!heap) return;
    tp_follow_resized(heap, p, slab->class, size, slab->bytes, slab->bytes);
    tp_slow_leave(heap);
}

void *tp_pool_realloc(void *p, size_t size, enum tp_call entry)
{
    tp_pool_count_call(entry);
    if (size > PTRDIFF_MAX) return tp_slow_fail();
    struct tp_slab *slab = slab_of_block(p);
    if (!slab) {
        size_t old = tp_large_bytes(p);
        if (!old) {
            return bring_home(p, size);
        }
        if (resize_large(p, size, old)) return p;
        void *to = move_large(p, size, old);
        return to ? to : copy_over(p, size, old);
    }
    if (!tp_slab_is_block(slab, p) && tp_slow_checks)
        tp_check_inside(
            "realloc", p, tp_slab_block_around(slab, p), slab->bytes, tp_slow_place());
    if (!tp_slab_is_block(slab, p))
        tp_die("invalid realloc of %p: inside a block of %u bytes", p, slab->bytes);
    if (tp_slow_checks) return copy_over(p, size, tp_check_asked(p));

    // A block that would be less than half used moves, so that memory can go back.
    size_t old = slab->bytes;
    if (size > old || (size < old / 2 && tp_class_of(size) != slab->class))
        return copy_over(p, size, old);
    if (tp_slow_options.exact) tell_of_request(p, slab, size);
    struct tp_counters *counters = tp_pool_counters();
    if (counters) tp_count_of_call(counters, &counters->realloc_in_place, 1);
    return p;
}

void tp_pool_free_sized(void *p, size_t size)
{
    if (!p) return;
    // What realloc shrank in place may be larger than promised, never smaller.
    size_t bytes = tp_pool_usable(p);
    if (bytes && size > bytes)
        tp_die("free of %p with size %lu: the block has %lu bytes", p,
            (unsigned long)size, (unsigned long)bytes);
    tp_pool_free(p);
}

size_t tp_pool_usable(const void *p)
{
    struct tp_slab *slab = p ? slab_of_block(p) : NULL;
    if (!slab) {
        size_t bytes = p ? tp_large_bytes(p) : 0;
        return bytes || !p || tp_slab_at(p) ? bytes : tp_host_foreign_bytes(p);
    }
    return tp_slow_checks ? tp_check_asked(p) : slab->bytes;
}
