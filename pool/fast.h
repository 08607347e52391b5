/* SPDX-License-Identifier: MIT */
/*
 * fast.h - the hot halves of malloc and free, for whoever defines those names.
 *
 * Idea: straight lines with cold exits, each exit a tail call. They stand in a header
 * because a jump from free to a function elsewhere would be one instruction in 27.
 * Counted on x86-64 (gcc 12, -O2, ret included): 24 to take a block, 26 to give one
 * back, counters, peak and the sampler's countdown included. A test keeps it so.
 *
 * Cost by line: every operation touches the heap's first line, its bin, one line of
 * its counters and the block; a free also the slab's descriptor. Nothing else.
 */
#ifndef TP_POOL_FAST_H
#define TP_POOL_FAST_H

#include "pool/heap.h"

/* pool.c: the cold exits of tp_fast_alloc(). `bin` tells the class. */
TP_SLOW void *tp_cold_refill(size_t size, struct tp_bin *bin);
TP_SLOW void *tp_cold_event(size_t size, struct tp_bin *bin, struct tp_block *block);
void *tp_cold_medium(size_t size);
TP_SLOW void *tp_cold_alloc(size_t size, unsigned c);

/* pool.c: the cold exits of tp_fast_free(). */
TP_SLOW void tp_cold_free(void *p);
TP_SLOW void tp_cold_edge(void *p);
TP_SLOW void tp_cold_emptied(struct tp_slab *slab);
_Noreturn TP_COLD void tp_cold_double_free(void *p);

/* Takes a block of class `c`, on the books as a request of `size`. Context: hot. */
static inline void *tp_fast_take(unsigned c, size_t size)
{
    struct tp_heap *heap = tp_heap_self;
    // Bins and taken[] have the same stride: one scaled index serves both.
    char *line = (char *)heap + (size_t)c * sizeof(struct tp_bin);
    struct tp_bin *bin = (void *)(line + offsetof(struct tp_heap, bins));
    struct tp_block *block = bin->free;
    if (TP_UNLIKELY(!block)) return tp_cold_refill(size, bin);

    struct tp_class_taken *taken =
        (void *)(line + TP_BAY_HALF + offsetof(struct tp_counters, taken));
    int64_t bytes = bin->bytes;
    bin->free = block->next;
    tp_count_add(&taken->allocations, 1);
    tp_count_add(&taken->requested_bytes, size);
    tp_count_sub_signed(&tp_heap_counters(heap)->room, bytes);
    heap->countdown -= bytes;
    if (TP_UNLIKELY(heap->countdown < 0)) return tp_cold_event(size, bin, block);
    return block;
}

/* malloc: see tp_pool_alloc(). Context: hot. */
static inline void *tp_fast_alloc(size_t size)
{
    if (TP_UNLIKELY(size > TP_TABLE_MAX)) return tp_cold_medium(size);
    return tp_fast_take(tp_class_table[(size + TP_MIN_ALIGN - 1) / TP_MIN_ALIGN], size);
}

/* free: see tp_pool_free(). Context: hot. */
static inline void tp_fast_free(void *p)
{
    struct tp_heap *heap = tp_heap_self;
    uintptr_t offset =
        ((uintptr_t)p >> TP_GRANULE_SHIFT) * sizeof(struct tp_slab) - tp_range.first;
    if (TP_UNLIKELY(offset >= tp_range.span)) return tp_cold_free(p);
    struct tp_slab *slab = (void *)((char *)tp_range.slabs + offset);
    if (TP_UNLIKELY(!tp_slab_is_plain(slab, heap))) return tp_cold_free(p);
    struct tp_counters *counters = tp_heap_counters(heap);
    if (TP_UNLIKELY(!tp_peak_calm(counters))) return tp_cold_edge(p);
    struct tp_block *block = p;
    if (TP_UNLIKELY(slab->local == block)) tp_cold_double_free(p);

    block->next = slab->local;
    slab->local = block;
    tp_count_add(&counters->frees[slab->class], 1);
    tp_count_add_signed(&counters->room, slab->bytes);
    if (TP_UNLIKELY(tp_count_down(&slab->used))) return tp_cold_emptied(slab);
}

#endif
