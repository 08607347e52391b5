/* SPDX-License-Identifier: MIT */
/*
 * ledger.c - the side array, and the table by address.
 *
 * The table is open addressing with linear probing in stripes, each with a lock of its
 * own; a removed note is closed up by moving later ones back (Knuth, The Art of Computer
 * Programming 3, 6.4, algorithm R), so that nothing ever needs to be swept.
 */
#include "pool/ledger.h"

#include "pool/slab.h"

enum {
    STRIPES = 16,
    FILL = 4,  // a stripe is full when 1/4 of it is free
    PER_GRANULE = TP_GRANULE / TP_MIN_ALIGN,
    STAGGER = 33 * TP_CACHE_LINE / sizeof(uint64_t),
};

struct row {
    uintptr_t address;  // 0: free
    uint32_t mark;
    size_t requested;
};

struct stripe {
    struct tp_lock lock;
    _Atomic(uint32_t) n;
    uint32_t rows;  // a power of two
    struct row *row;
};

uint32_t tp_ledger_room = 1 << 16;

static struct {
    _Atomic(uint64_t) *entry;  // PER_GRANULE for each
    size_t granules;
    struct stripe stripe[STRIPES];
} ledger;

/* ---- the side array ---- */

bool tp_ledger_open(size_t bytes)
{
    size_t granules = bytes / TP_GRANULE;
    ledger.entry = tp_os_map_sparse(granules * PER_GRANULE * sizeof(*ledger.entry));
    ledger.granules = ledger.entry ? granules : 0;
    return ledger.entry != NULL;
}

/*
 * By the number of the block in its slab, not by its address: what is in use lies in a
 * few lines and pages, however large the blocks are. Runs of several granules have fewer
 * blocks than one has entries. Slabs begin at different lines, or all of them would
 * meet in the same sets of the caches.
 */
_Atomic(uint64_t) *tp_ledger_entry(const struct tp_slab *slab, const void *p)
{
    static_assert(TP_POOL_MAX < UINT32_MAX, "a request for a pool block fits");
    size_t granule = (size_t)(slab - tp_range.slabs);
    if (TP_UNLIKELY(granule >= ledger.granules)) return NULL;
    uint64_t offset = (uint64_t)((const char *)p - tp_slab_start(slab));
    size_t number = (size_t)((unsigned __int128)offset * slab->inverse >> 64);
    size_t at = (number + granule * STAGGER) % PER_GRANULE;
    return &ledger.entry[granule * PER_GRANULE + at];
}

/* ---- the table ---- */

static uint64_t hash_of(const void *p)
{
    return ((uintptr_t)p >> 4) * 0x9e3779b97f4a7c15u;  // Fibonacci hashing, same volume
}

static struct stripe *stripe_of(uint64_t hash)
{
    return &ledger.stripe[hash >> 60];
}
static_assert(STRIPES == 16, "four bits of the hash");

static uint32_t home_of(const struct stripe *stripe, uintptr_t address)
{
    return (uint32_t)(hash_of((const void *)address) >> 28) & (stripe->rows - 1);
}

/* Row of `p`, or the free one where it belongs. Needs: the lock, and rows. */
static struct row *row_of(struct stripe *stripe, const void *p)
{
    uint32_t i = home_of(stripe, (uintptr_t)p);
    while (stripe->row[i].address && stripe->row[i].address != (uintptr_t)p)
        i = (i + 1) & (stripe->rows - 1);
    return &stripe->row[i];
}

/* Needs: the lock. */
static bool open_stripe(struct stripe *stripe)
{
    if (stripe->row) return true;
    uint32_t rows = 4;
    while (rows < tp_ledger_room / STRIPES) rows *= 2;
    size_t bytes = tp_align_up(rows * sizeof(struct row), tp_os_page());
    stripe->row = tp_os_map(bytes);
    if (!stripe->row) return false;
    tp_os_no_huge(stripe->row, bytes);
    stripe->rows = rows;
    return true;
}

static uint32_t n_of(const struct stripe *stripe)
{
    return atomic_load_explicit(&stripe->n, memory_order_relaxed);
}

/* Changes under the lock; who has put a note in before has seen to being seen. */
static void set_n(struct stripe *stripe, uint32_t n)
{
    atomic_store_explicit(&stripe->n, n, memory_order_relaxed);
}

bool tp_ledger_add(const void *p, struct tp_note note)
{
    struct stripe *stripe = stripe_of(hash_of(p));
    bool good = false;
    tp_lock_enter(&stripe->lock);
    if (open_stripe(stripe)) {
        struct row *row = row_of(stripe, p);
        good = row->address || n_of(stripe) < stripe->rows - stripe->rows / FILL;
        if (good && !row->address) set_n(stripe, n_of(stripe) + 1);
        if (good)
            *row = (struct row){
                .address = (uintptr_t)p, .mark = note.mark, .requested = note.requested
            };
    }
    tp_lock_leave(&stripe->lock);
    return good;
}

struct tp_note tp_ledger_find(const void *p)
{
    struct stripe *stripe = stripe_of(hash_of(p));
    struct tp_note note = { 0 };
    if (!n_of(stripe)) return note;
    tp_lock_enter(&stripe->lock);
    if (stripe->row) {
        const struct row *row = row_of(stripe, p);
        note = (struct tp_note){ .mark = row->mark, .requested = row->requested };
    }
    tp_lock_leave(&stripe->lock);
    return note;
}

/* Frees a row and moves back those that were kept from it. Needs: the lock. */
static void close_up(struct stripe *stripe, struct row *row)
{
    uint32_t mask = stripe->rows - 1, hole = (uint32_t)(row - stripe->row), i = hole;
    for (;;) {
        i = (i + 1) & mask;
        if (!stripe->row[i].address) break;
        uint32_t home = home_of(stripe, stripe->row[i].address);
        // It stays when its home lies behind the hole, on the way to where it stands.
        if (((i - home) & mask) < ((i - hole) & mask)) continue;
        stripe->row[hole] = stripe->row[i];
        hole = i;
    }
    stripe->row[hole] = (struct row){ 0 };
}

struct tp_note tp_ledger_remove(const void *p)
{
    struct stripe *stripe = stripe_of(hash_of(p));
    struct tp_note note = { 0 };
    if (!n_of(stripe)) return note;
    tp_lock_enter(&stripe->lock);
    struct row *row = stripe->row ? row_of(stripe, p) : NULL;
    if (row && row->address) {
        note = (struct tp_note){ .mark = row->mark, .requested = row->requested };
        close_up(stripe, row);
        set_n(stripe, n_of(stripe) - 1);
    }
    tp_lock_leave(&stripe->lock);
    return note;
}

void tp_ledger_forked(bool alone)
{
    for (unsigned i = 0; i < STRIPES; i++) {
        struct stripe *stripe = &ledger.stripe[i];
        atomic_store_explicit(&stripe->lock.word, 0, memory_order_relaxed);
        if (alone) continue;
        stripe->row = NULL;
        set_n(stripe, 0);
    }
}
