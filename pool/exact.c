/* SPDX-License-Identifier: MIT */
/*
 * exact.c - a block is taken and given back, and the host told.
 */
#include "pool/exact.h"

#include "pool/fast.h"
#include "pool/follow.h"
#include "pool/pool.h"

_Atomic(bool) tp_exact_on;

static inline struct tp_told tell_of(
    struct tp_heap *heap, void *p, unsigned c, size_t requested, size_t bytes)
{
    return (struct tp_told){ .p = p,
        .requested = requested,
        .bytes = bytes,
        .class = c,
        .slot = heap->index,
        .counters = tp_heap_counters(heap) };
}

/* ---- taking ---- */

/* The block that the shelf offers, still there; NULL: the long way finds one. */
static inline struct tp_block *offer(const struct tp_slab *slab)
{
    if (TP_UNLIKELY(!slab || !slab->local || slab->spare)) return NULL;
    tp_slab_verify(slab, slab->local->next);
    return slab->local;
}

void *tp_exact_alloc(size_t size, unsigned c)
{
    // All calls up to here were jumps: what called us has called malloc.
    const uintptr_t *frame = __builtin_frame_address(0);
    struct tp_caller caller = { .pc = (uintptr_t)__builtin_return_address(0),
        .sp = (uintptr_t)__builtin_dwarf_cfa(),
        .fp = frame[0] };
    struct tp_heap *heap = tp_slow_enter_plain();
    if (TP_UNLIKELY(!heap)) return tp_cold_alloc(size, c);
    struct tp_slab *slab = heap->shelf[c];
    struct tp_block *block = offer(slab);
    _Atomic(uint64_t) *entry = block ? tp_ledger_entry(slab, block) : NULL;
    if (TP_UNLIKELY(!entry)) {
        tp_slow_leave_plain();
        return tp_cold_alloc(size, c);
    }

    int64_t bytes = heap->bins[c].bytes;
    struct tp_told told = tell_of(heap, block, c, size, (size_t)bytes);
    told.caller = &caller;
    tp_follow_catch_up();
    struct tp_note note = { .mark = tp_host_taken(&told), .requested = size };
    tp_ledger_write(entry, note);

    struct tp_counters *counters = tp_heap_counters(heap);
    tp_count_add(&counters->taken[c].allocations, 1);
    tp_count_add(&counters->taken[c].requested_bytes, size);
    tp_peak_every_add(bytes);
    slab->local = block->next;
    slab->used++;
    heap->countdown -= bytes;
    if (TP_UNLIKELY(heap->countdown < 0))
        tp_slow_event(heap, block, c, size, (size_t)bytes);
    tp_slow_leave_plain();
    return block;
}

/* ---- giving back ---- */

bool tp_exact_free(void *p, struct tp_slab *slab)
{
    struct tp_heap *heap = tp_slow_enter_plain();
    if (TP_UNLIKELY(!heap)) return false;
    uintptr_t owner = tp_slab_owner(slab) & ~(uintptr_t)TP_SLAB_FULL;
    bool plain =
        owner == ((uintptr_t)heap | TP_SLAB_WATCHED) && tp_slab_is_block(slab, p);
    _Atomic(uint64_t) *entry = plain ? tp_ledger_entry(slab, p) : NULL;
    struct tp_note note = entry ? tp_ledger_read(entry) : (struct tp_note){ 0 };
    if (TP_UNLIKELY(!note.mark)) {
        tp_slow_leave_plain();
        return false;
    }

    struct tp_told told = tell_of(heap, p, slab->class, note.requested, slab->bytes);
    tp_follow_catch_up();
    tp_ledger_write(entry, (struct tp_note){ 0 });
    tp_host_freed(note.mark, &told);
    tp_count_add(&tp_heap_counters(heap)->frees[slab->class], 1);
    tp_peak_every_add(-(int64_t)slab->bytes);
    tp_heap_put(heap, slab, p);
    tp_slow_leave_plain();
    return true;
}
