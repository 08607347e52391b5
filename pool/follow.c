/* SPDX-License-Identifier: MIT */
/*
 * follow.c - telling the host, and what had to wait.
 */
#include "pool/follow.h"

enum { WAITING = 64 };

enum state { FREE, FILLING, READY };

static struct {
    struct {
        _Atomic(uint32_t) state;  // enum state
        uint32_t mark;
        struct tp_told block;
    } row[WAITING];
    _Atomic(uint32_t) n;  // rows that are ready, or about to be
} waiting;

static struct tp_told tell_of(
    struct tp_heap *heap, void *p, unsigned c, size_t size, size_t bytes)
{
    if (!heap) heap = tp_park_at(0);
    return (struct tp_told){ .p = p,
        .requested = size,
        .bytes = bytes,
        .class = c,
        .slot = heap->index,
        .counters = tp_heap_counters(heap) };
}

/* ---- what had to wait ---- */

static void wait_with(uint32_t mark, const struct tp_told *block)
{
    for (unsigned i = 0; i < WAITING; i++) {
        uint32_t free = FREE;
        if (!atomic_compare_exchange_strong_explicit(&waiting.row[i].state, &free,
                FILLING, memory_order_relaxed, memory_order_relaxed))
            continue;
        waiting.row[i].mark = mark;
        waiting.row[i].block = *block;
        // Meets the acquire in tp_follow_catch_up().
        atomic_store_explicit(&waiting.row[i].state, READY, memory_order_release);
        atomic_fetch_add_explicit(&waiting.n, 1, memory_order_relaxed);
        return;
    }
}

void tp_follow_catch_up(void)
{
    if (TP_LIKELY(!atomic_load_explicit(&waiting.n, memory_order_relaxed))) return;
    for (unsigned i = 0; i < WAITING; i++) {
        uint32_t ready = READY;
        if (!atomic_compare_exchange_strong_explicit(&waiting.row[i].state, &ready,
                FILLING, memory_order_acquire, memory_order_relaxed))
            continue;
        uint32_t mark = waiting.row[i].mark;
        struct tp_told block = waiting.row[i].block;
        atomic_fetch_sub_explicit(&waiting.n, 1, memory_order_relaxed);
        atomic_store_explicit(&waiting.row[i].state, FREE, memory_order_release);
        tp_host_freed(mark, &block);
    }
}

void tp_follow_forked(void)
{
    for (unsigned i = 0; i < WAITING; i++)
        atomic_store_explicit(&waiting.row[i].state, FREE, memory_order_relaxed);
    atomic_store_explicit(&waiting.n, 0, memory_order_relaxed);
}

static void tell_end(struct tp_heap *heap, uint32_t mark, const struct tp_told *block)
{
    if (!mark) return;
    if (tp_follow_is_nested(heap)) {
        wait_with(mark, block);
    } else {
        tp_follow_catch_up();
        tp_host_freed(mark, block);
    }
}

/* ---- samples ---- */

/* Asks the host as if the block were not on the books: a peak must not be its doing. */
static uint32_t ask(struct tp_heap *heap, const struct tp_told *block)
{
    struct tp_counters *counters = tp_heap_counters(heap);
    tp_follow_catch_up();
    tp_count_add_signed(&counters->room, (int64_t)block->bytes);
    uint32_t mark = tp_host_sampled(&heap->sampler, block);
    tp_count_sub_signed(&counters->room, (int64_t)block->bytes);
    return mark;
}

static void sample_large(struct tp_heap *heap, void *p, size_t size, size_t bytes)
{
    struct tp_note note = { .requested = size };
    bool good = tp_large_keep(p, note);
    struct tp_told block = tell_of(heap, good ? p : NULL, TP_LARGE_CLASS, size, bytes);
    note.mark = ask(heap, &block);
    if (!good) return;
    if (note.mark)
        tp_large_keep(p, note);  // there is room, where the first one is
    else
        tp_large_end(p);
}

/* Back to where it has just come from. */
static void put_back(struct tp_heap *heap, struct tp_block *block, unsigned c)
{
    if (tp_heap_watch) {
        tp_heap_put(heap, tp_slab_head(tp_slab_at(block)), block);
        return;
    }
    block->next = heap->bins[c].free;
    heap->bins[c].free = block;
}

void *tp_follow_sampled(
    struct tp_heap *heap, void *p, unsigned c, size_t size, size_t bytes)
{
    if (c == TP_LARGE_CLASS) {
        sample_large(heap, p, size, bytes);
        return p;
    }
    void *marked = tp_marks_take(c);
    struct tp_told block = tell_of(heap, marked, c, size, bytes);
    uint32_t mark = ask(heap, &block);
    if (!marked) return p;
    if (!mark) {
        tp_marks_put(marked, true);
        return p;
    }
    bool stays = bytes <= TP_PROXY_MAX;
    tp_marks_keep(marked, mark, heap->index, stays ? p : NULL);
    if (!stays) put_back(heap, p, c);
    return marked;
}

bool tp_follow_ended(
    struct tp_heap *heap, void *p, struct tp_slab *slab, struct tp_marked *out)
{
    const struct tp_marked *kept = tp_marks_read(p);
    out->slot = kept->slot;
    out->proxy = kept->proxy;
    uint32_t mark = tp_marks_end(p);
    struct tp_told block = tell_of(heap, p, slab->class, 0, slab->bytes);
    tell_end(heap, mark, &block);
    return mark != 0;
}

/* ---- every block, and the end of large ones ---- */

/* Where the note is of a block of the pools; NULL: nowhere. */
static _Atomic(uint64_t) *entry_of(const void *p)
{
    return tp_ledger_entry(tp_slab_head(tp_slab_at(p)), p);
}

void tp_follow_taken(
    struct tp_heap *heap, void *p, unsigned c, size_t size, size_t bytes)
{
    struct tp_note note = { .requested = size };
    bool large = c == TP_LARGE_CLASS;
    _Atomic(uint64_t) *entry = large ? NULL : entry_of(p);
    bool good = large ? tp_large_keep(p, note) : entry != NULL;
    if (!tp_follow_is_nested(heap)) {
        tp_follow_catch_up();
        struct tp_told block = tell_of(heap, good ? p : NULL, c, size, bytes);
        note.mark = tp_host_taken(&block);
    }
    if (!good) return;
    if (!large)
        tp_ledger_write(entry, note);
    else if (note.mark)
        tp_large_keep(p, note);
}

void tp_follow_freed(struct tp_heap *heap, void *p, unsigned c, size_t bytes)
{
    struct tp_note note = { 0 };
    _Atomic(uint64_t) *entry = c == TP_LARGE_CLASS ? NULL : entry_of(p);
    if (c == TP_LARGE_CLASS)
        note = tp_large_end(p);
    else if (entry)
        note = tp_ledger_take(entry);
    struct tp_told block = tell_of(heap, p, c, note.requested, bytes);
    tell_end(heap, note.mark, &block);
}

void tp_follow_gone(struct tp_heap *heap, void *p, struct tp_note note, size_t bytes)
{
    struct tp_told block = tell_of(heap, p, TP_LARGE_CLASS, note.requested, bytes);
    tell_end(heap, note.mark, &block);
}

int64_t tp_follow_resized(
    struct tp_heap *heap, void *p, unsigned c, size_t size, size_t old, size_t now)
{
    bool large = c == TP_LARGE_CLASS, exact = tp_slow_options.exact;
    _Atomic(uint64_t) *entry = large ? NULL : entry_of(p);
    if (tp_follow_is_nested(heap) || (!large && !entry)) return 0;
    struct tp_note note = large ? tp_large_note(p) : tp_ledger_read(entry);
    bool told = exact ? now != old || size != note.requested
                      : now > old || (note.mark && now < old);
    if (!told) return 0;

    struct tp_told block = tell_of(heap, p, c, size, now);
    tp_follow_catch_up();
    uint32_t mark = tp_host_resized(note.mark, &block, old, note.requested);
    struct tp_note after = { .mark = mark, .requested = size };
    if (!large)
        tp_ledger_write(entry, after);
    else if (!mark && !exact)
        tp_large_end(p);
    else if (!tp_large_keep(p, after))
        tell_end(heap, mark, &block);
    return now > old ? (int64_t)(now - old) : 0;
}
