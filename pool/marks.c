/* SPDX-License-Identifier: MIT */
/*
 * marks.c - lists of marked slabs, and blocks that come back.
 *
 * Blocks are carved one by one, lowest first: a slab touches no page before it needs it,
 * and neither does what is kept beside it.
 */
#include "pool/marks.h"

#include "pool/counters.h"

static struct {
    struct tp_lock lock;
    struct tp_slab *shelf[TP_CLASSES];  // with something to hand out, newest first
    struct tp_slab *spare[TP_CLASSES];  // empty
    struct tp_remote late;              // blocks of any class
} marks;

/* ---- slabs ---- */

static size_t beside(const struct tp_slab *slab)
{
    return tp_align_up(slab->capacity * sizeof(struct tp_marked), tp_os_page());
}

static void note_own(int64_t bytes)
{
    atomic_fetch_add_explicit(
        &tp_account.totals.self_bytes, (uint64_t)bytes, memory_order_relaxed);
}

static struct tp_slab *open_slab(unsigned c)
{
    struct tp_slab *slab = tp_slab_take(c);
    if (!slab) return NULL;
    slab->marked = tp_os_map(beside(slab));
    if (!slab->marked) {
        tp_slab_put(slab);
        return NULL;
    }
    tp_os_no_huge(slab->marked, beside(slab));
    tp_slab_set_owner(slab, TP_MARKS_OWNER);
    return slab;
}

static void close_slab(struct tp_slab *slab)
{
    note_own(-(int64_t)(slab->carved * sizeof(struct tp_marked)));
    tp_slab_set_owner(slab, 0);  // a second free of its blocks finds nothing
    tp_os_unmap(slab->marked, beside(slab));
    slab->marked = NULL;
    tp_slab_put(slab);
}

/* Closes a list of slabs. Context: without the lock. */
static void close_all(struct tp_slab *slab)
{
    while (slab) {
        struct tp_slab *next = slab->next;
        close_slab(slab);
        slab = next;
    }
}

/* ---- lists: all of this needs the lock ---- */

static void enlist(struct tp_slab *slab)
{
    struct tp_slab **shelf = &marks.shelf[slab->class];
    slab->prev = NULL;
    slab->next = *shelf;
    if (*shelf) (*shelf)->prev = slab;
    *shelf = slab;
    slab->listed = true;
}

static void delist(struct tp_slab *slab)
{
    *(slab->prev ? &slab->prev->next : &marks.shelf[slab->class]) = slab->next;
    if (slab->next) slab->next->prev = slab->prev;
    slab->next = slab->prev = NULL;
    slab->listed = false;
}

/* The slab to take from; NULL: a new one is needed. */
static struct tp_slab *slab_with_room(unsigned c)
{
    struct tp_slab *slab = marks.shelf[c];
    if (!slab && (slab = marks.spare[c])) {
        marks.spare[c] = NULL;
        enlist(slab);
    }
    return slab;
}

static struct tp_block *take_from(struct tp_slab *slab)
{
    struct tp_block *block = slab->local;
    if (block) {
        tp_slab_verify(slab, block->next);
        slab->local = block->next;
        slab->used++;
    } else {
        uint32_t n;
        block = tp_slab_carve(slab, 1, &n);
        note_own(sizeof(struct tp_marked));
    }
    if (!slab->local && slab->carved == slab->capacity) delist(slab);
    return block;
}

/* Puts a block back; a slab that is to be closed goes to the front of `closing`. */
static void put_back(
    struct tp_slab *slab, struct tp_block *block, struct tp_slab **closing)
{
    // One from before a fork was perhaps caught in the middle of a change.
    if (slab->fork_era != tp_fork_era) return;
    block->next = slab->local;
    slab->local = block;
    slab->used--;
    if (!slab->listed) enlist(slab);
    if (slab->used) return;
    delist(slab);
    if (!marks.spare[slab->class] && tp_idle != TP_IDLE_NONE) {
        marks.spare[slab->class] = slab;
        slab->emptied_ticks = tp_os_ticks();
    } else {
        slab->next = *closing;
        *closing = slab;
    }
}

/* The marked slab that `block` is a block of; NULL: its link was written over. */
static struct tp_slab *slab_of(const void *block)
{
    struct tp_slab *slab = tp_slab_at(block);
    if (!slab) return NULL;
    slab = tp_slab_head(slab);
    bool good = tp_slab_owner(slab) == TP_MARKS_OWNER && tp_slab_is_block(slab, block);
    return good ? slab : NULL;
}

static void put_late(struct tp_slab **closing)
{
    struct tp_block *block = tp_remote_take(&marks.late);
    struct tp_slab *slab;
    while (block && (slab = slab_of(block))) {
        struct tp_block *next = block->next;
        put_back(slab, block, closing);
        block = next;
    }
}

/* ---- blocks ---- */

void *tp_marks_take(unsigned c)
{
    struct tp_slab *closing = NULL;
    tp_lock_enter(&marks.lock);
    put_late(&closing);
    struct tp_slab *slab = slab_with_room(c);
    if (!slab) {
        // The depot has a lock of its own, and may have to ask the kernel.
        tp_lock_leave(&marks.lock);
        slab = open_slab(c);
        tp_lock_enter(&marks.lock);
        if (slab) enlist(slab);
    }
    struct tp_block *block = slab ? take_from(slab) : NULL;
    tp_lock_leave(&marks.lock);
    close_all(closing);
    return block;
}

static struct tp_marked *entry_of(const void *p)
{
    const struct tp_slab *slab = tp_slab_head(tp_slab_at(p));
    return &slab->marked[(size_t)((const char *)p - tp_slab_start(slab)) / slab->bytes];
}

void tp_marks_keep(void *p, uint32_t mark, uint32_t slot, void *proxy)
{
    struct tp_marked *entry = entry_of(p);
    entry->slot = slot;
    entry->proxy = proxy;
    atomic_store_explicit(&entry->mark, mark, memory_order_relaxed);
}

const struct tp_marked *tp_marks_read(const void *p)
{
    return entry_of(p);
}

uint32_t tp_marks_end(void *p)
{
    // Of two threads that free one block only one gets the mark.
    return atomic_exchange_explicit(&entry_of(p)->mark, 0, memory_order_relaxed);
}

void tp_marks_put(void *p, bool patient)
{
    if (!patient) {
        tp_remote_push(&marks.late, p);
        return;
    }
    struct tp_slab *closing = NULL;
    tp_lock_enter(&marks.lock);
    put_late(&closing);
    put_back(tp_slab_head(tp_slab_at(p)), p, &closing);
    tp_lock_leave(&marks.lock);
    close_all(closing);
}

void tp_marks_trim(uint64_t age_ticks)
{
    struct tp_slab *closing = NULL;
    uint64_t now = tp_os_ticks();
    tp_lock_enter(&marks.lock);
    put_late(&closing);
    for (unsigned c = 0; c < TP_CLASSES; c++) {
        struct tp_slab *slab = marks.spare[c];
        if (!slab || now - slab->emptied_ticks < age_ticks) continue;
        marks.spare[c] = NULL;
        slab->next = closing;
        closing = slab;
    }
    tp_lock_leave(&marks.lock);
    close_all(closing);
}

void tp_marks_forked(bool alone)
{
    atomic_store_explicit(&marks.lock.word, 0, memory_order_relaxed);
    if (alone) return;
    for (unsigned c = 0; c < TP_CLASSES; c++) marks.shelf[c] = marks.spare[c] = NULL;
    atomic_store_explicit(&marks.late.head, 0, memory_order_relaxed);
}
