/* SPDX-License-Identifier: MIT */
/*
 * recall.c - the tree of frames, and the index that finds a frame in it.
 *
 * The index is by (pc, sp) and the return address, as far as that can be had from the
 * row alone: one helper called from everywhere at one depth is many frames. Within a
 * bucket the newest frame comes first. When the tree is full all of it is forgotten: what
 * the program still does comes back at the price of a walk each.
 *
 * A stack that was cut at the depth ends where it did only when it begins where it did:
 * of such a one only the innermost frame is in the index.
 */
#include "shim/recall.h"

#include "pool/os.h"

#include <string.h>

enum {
    KNOWN = 1024,
    BUCKETS = 1024,
    TRIES = 8,  // frames looked at in a bucket
};

/* Its first line is all that a comparison touches. */
struct known {
    const uintptr_t *ra_at;
    uintptr_t ra;
    const uintptr_t *fp_at;
    uintptr_t old_fp;
    const struct known *out;  // the frame outside of it; NULL: none
    uint16_t depth;
    bool needs_fp;
    uintptr_t pc;
    uintptr_t sp;
    uintptr_t fp;   // if that is needed
    uint32_t next;  // in its bucket
    struct tp_stack_note note;
};

struct tp_recall {
    uint64_t salt;
    uintptr_t low;  // of what is known to be stack
    uintptr_t high;
    uint32_t depth;
    uint32_t n;  // known[1 .. n - 1] are in use; 0: nothing was kept yet
    uint16_t bucket[BUCKETS];
    struct known known[KNOWN];
};

/* Where a word that never changes is: for frames that read none. */
static const uintptr_t nothing;

struct tp_recall *tp_recall_make(void)
{
    return tp_os_map(sizeof(struct tp_recall));
}

void tp_recall_forget(struct tp_recall *recall)
{
    recall->n = 0;
    recall->high = 0;
}

static void clear(struct tp_recall *recall)
{
    memset(recall->bucket, 0, sizeof(recall->bucket));
    recall->n = 1;
}

void tp_recall_begin(
    struct tp_recall *recall, uint64_t salt, uint32_t depth, uintptr_t high)
{
    if (TP_LIKELY(recall->n && recall->salt == salt && recall->depth == depth &&
            recall->high == high))
        return;
    clear(recall);
    recall->salt = salt;
    recall->depth = depth;
    recall->low = recall->high = high;
}

/* ---- the index ---- */

/* The return address, when the stack pointer alone leads there; else 0. */
static inline TP_NOT_SANITIZED uintptr_t hint_of(
    const struct tp_recall *recall, uint64_t row, uintptr_t sp)
{
    if (tp_packed_kind(row) != TP_PACKED_SP) return 0;
    uintptr_t cfa = sp + tp_packed_offset(row);
#if defined(__aarch64__)
    uintptr_t at = cfa - tp_packed_ra(row);
#else
    uintptr_t at = cfa - sizeof(uintptr_t);
#endif
    if (at < sp || at % sizeof(uintptr_t) || at > recall->high - sizeof(uintptr_t))
        return 0;
    return tp_reach_load(at);
}

static inline uint64_t key_of(uintptr_t pc, uintptr_t sp, uintptr_t hint)
{
    return (pc + sp * 8 + hint * 64) * 0x9e3779b97f4a7c15u;
}

static inline uint16_t *bucket_of(struct tp_recall *recall, uint64_t key)
{
    static_assert(BUCKETS == 1 << 10 && KNOWN <= UINT16_MAX, "ten bits of the key");
    return &recall->bucket[key >> 54];
}

/* All words from `at` outwards are as they were. */
static inline TP_NOT_SANITIZED bool stands(const struct known *at)
{
    for (;;) {
        if ((*(const volatile uintptr_t *)at->ra_at ^ at->ra) |
            (*(const volatile uintptr_t *)at->fp_at ^ at->old_fp))
            return false;
        const struct known *out = at->out;
        if (!out) return true;
        // Nearly always its neighbour, which need not wait for the load.
        at--;
        __asm__("" : "+r"(at));
        if (TP_UNLIKELY(at != out)) at = out;
    }
}

static inline uint32_t look_up(struct tp_recall *recall, uint64_t key, uintptr_t pc,
    uintptr_t sp, uintptr_t fp, uint32_t inner)
{
    uint32_t i = *bucket_of(recall, key);
    for (unsigned tries = TRIES; i && tries; tries--) {
        struct known *known = &recall->known[i];
        if (TP_LIKELY(known->pc == pc && known->sp == sp) &&
            (!known->needs_fp || known->fp == fp) && stands(known))
            break;
        i = known->next;
        if (tries == 1) i = 0;
    }
    if (!i) return 0;
    const struct known *known = &recall->known[i];
    bool cut = known->note.end == TP_STACK_DEPTH;
    return cut ? (inner ? 0 : i) : inner + known->depth <= recall->depth ? i : 0;
}

uint32_t tp_recall_find(struct tp_recall *recall, uint64_t row, uintptr_t pc,
    uintptr_t sp, uintptr_t fp, uint32_t inner, uint64_t *out_key)
{
    *out_key = key_of(pc, sp, hint_of(recall, row, sp));
    return look_up(recall, *out_key, pc, sp, fp, inner);
}

struct tp_stack_note *tp_recall_note(
    struct tp_recall *recall, const struct tp_caller *caller)
{
    uintptr_t pc = caller->pc, sp = caller->sp;
    uint64_t salt = tp_rows_salt();
    if (TP_UNLIKELY(!recall->n || recall->salt != salt || sp < recall->low ||
            sp >= recall->high || sp % sizeof(uintptr_t)))
        return NULL;
    uint64_t row = tp_rows_peek(pc - 1, salt);
    if (TP_UNLIKELY(!row)) return NULL;
    uint64_t key = key_of(pc, sp, hint_of(recall, row, sp));
    uint32_t i = look_up(recall, key, pc, sp, caller->fp, 0);
    return i ? &recall->known[i].note : NULL;
}

/* ---- the tree ---- */

uint32_t tp_recall_depth(const struct tp_recall *recall, uint32_t known)
{
    return recall->known[known].depth;
}

const struct tp_stack_note *tp_recall_note_of(
    const struct tp_recall *recall, uint32_t known)
{
    return &recall->known[known].note;
}

static uint32_t add(struct tp_recall *recall, const struct tp_met *met, uint32_t out)
{
    uint32_t i = recall->n++;
    const struct known *outer = out ? &recall->known[out] : NULL;
    bool outer_needs = outer && outer->needs_fp;
    recall->known[i] = (struct known){ .ra_at = met->ra_at ? met->ra_at : &nothing,
        .ra = met->ra_at ? met->ra : 0,
        .fp_at = met->fp_at && outer_needs ? met->fp_at : &nothing,
        .old_fp = met->fp_at && outer_needs ? met->old_fp : 0,
        .out = outer,
        .depth = (uint16_t)(outer ? outer->depth + 1 : 1),
        .needs_fp = met->by_fp || (!met->fp_at && outer_needs),
        .pc = met->pc,
        .sp = met->sp,
        .fp = met->fp };
    return i;
}

struct tp_stack_note *tp_recall_keep(struct tp_recall *recall,
    const struct tp_stack *stack, const struct tp_met *met, uint32_t first, uint32_t n,
    uint32_t known)
{
    if (recall->n + n - first > KNOWN) {
        clear(recall);
        if (known) return NULL;  // the next walk brings all of it
    }
    for (uint32_t i = n; i-- > first;) {
        known = add(recall, &met[i], known);
        struct known *at = &recall->known[known];
        at->note = (struct tp_stack_note){ .node = stack->nodes[i], .end = stack->end };
        if (stack->end == TP_STACK_DEPTH && i > 0) continue;
        uint16_t *bucket = bucket_of(recall, met[i].key);
        at->next = *bucket;
        *bucket = (uint16_t)known;
    }
    if (first < n && met[first].sp < recall->low) recall->low = met[first].sp;
    return known ? &recall->known[known].note : NULL;
}
