/* SPDX-License-Identifier: MIT */
/*
 * fold.c - the figures of slots that are given up, added to one that stays.
 *
 * Ten thousand threads at once leave twenty megabytes of counters. Two slots of the
 * first bay hold sums, one of them at a time: `from`, which counts, and `to`. With the
 * slots to be folded at rest,
 *
 *   1.  to = from + those slots          `to` does not count yet
 *   2.  folded = {to, those slots}       one store: `to` counts, `from` and they do not
 *   3.  those slots = 0
 *   4.  folded = {to, none}              they count again, and are zero
 *
 * so that whoever reads the file after a kill between any two stores, and applies the
 * one word, finds every count once. A process reads the word before and after its
 * walk over the slots, and walks again when it has changed; so does the command. The
 * word holds a sequence number, its lowest bit says which slot the sums are in.
 *
 * Order of memory: the stores of 2 and 4 release what stands above them; the fence
 * after 2 keeps those of 3 below it. Readers acquire the word, and fence before they
 * read it again: who has seen a zero of 3 sees that the word is no longer the same.
 */
#include "pool/heap.h"

/* All that adds up stands in one row of words. */
enum {
    FIRST_WORD = offsetof(struct tp_counters, remote_frees) / sizeof(uint64_t),
    LAST_WORD = offsetof(struct tp_counters, zeroed_for_free) / sizeof(uint64_t),
    WORDS = sizeof(struct tp_counters) / sizeof(uint64_t),
};
static_assert(LAST_WORD - FIRST_WORD ==
        TP_CLASSES + 1 + 2 * (TP_CLASSES + 1) + 2 + 2 * TP_CALLS + 5,
    "nothing between the counters is anything else");
static_assert(TP_SUM_SLOT % 2 == 0 && TP_SUM_SLOT + TP_SUM_SLOTS <= TP_BAY_SLOTS,
    "the slots of the sums are in the first bay, which is never given up");

static uint64_t *words_of(uint32_t index)
{
    return (uint64_t *)(void *)tp_heap_counters(tp_park_at(index));
}

static void clear(uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i < first + n; i++) {
        uint64_t *words = words_of(i);
        for (unsigned w = 0; w < WORDS; w++)
            __atomic_store_n(&words[w], 0, __ATOMIC_RELAXED);
    }
}

static uint64_t folded(void)
{
    return atomic_load_explicit(&tp_account.totals.folded, memory_order_acquire);
}

/* The word's sequence number alone: all slots count. */
static void set_none_left_out(uint64_t word)
{
    atomic_store_explicit(
        &tp_account.totals.folded, word & ~(uint64_t)0xffffffff, memory_order_release);
}

void tp_fold_slots(uint32_t first, uint32_t n)
{
    uint64_t before = folded();
    uint64_t after = ((before >> 32) + 1) << 32 | (uint64_t)n << 16 | first;
    uint64_t *from = words_of(tp_fold_of(before).sums);
    uint64_t *to = words_of(tp_fold_of(after).sums);
    for (unsigned w = FIRST_WORD; w <= LAST_WORD; w++) {
        uint64_t sum = tp_count_read(&from[w]);
        for (uint32_t i = first; i < first + n; i++)
            sum += tp_count_read(&words_of(i)[w]);
        __atomic_store_n(&to[w], sum, __ATOMIC_RELAXED);
    }
    ((struct tp_counters *)(void *)to)->state = TP_FOLDED;
    atomic_store_explicit(&tp_account.totals.folded, after, memory_order_release);
    atomic_thread_fence(memory_order_release);
    clear(first, n);
    set_none_left_out(after);
}

void tp_fold_finish(void)
{
    uint64_t word = folded();
    struct tp_fold fold = tp_fold_of(word);
    if (!fold.n) return;
    clear(fold.first, fold.n);
    set_none_left_out(word);
}
