/* SPDX-License-Identifier: MIT */
/*
 * nearby.c - lines of words, each of them a run of granules or nothing.
 */
#include "pool/nearby.h"

enum {
    LINES = 16,
    ENTRIES = 4,       // of a line
    SLACK_SHIFT = 4,   // a block may have 1/16 more granules than were asked for
    AGE_SHIFT = 32,    // of an entry: the granules' place, 16 bits of when,
    SIZE_SHIFT = 48,   // and how many
    NONE = 1 << 16,    // no time at which an entry was put there
    BIG_MOST = 65535,  // granules, of the one that all share
};

/*
 * Granules that each entry of a line may have: 2 MiB in all, without a sum to keep, and
 * a small block does not keep a large one out for long.
 */
static const uint8_t most[ENTRIES] = { TP_NEARBY_LINE_MOST / TP_GRANULE, 6, 4, 4 };

static struct {
    struct {
        _Alignas(TP_CACHE_LINE) _Atomic(uint64_t) entry[ENTRIES];
    } line[LINES];
    _Alignas(TP_CACHE_LINE) _Atomic(uint64_t) big;
    _Atomic(uint32_t) now;  // calls of tp_nearby_age()
} nearby;

static size_t granules_in(uint64_t entry)
{
    return entry >> SIZE_SHIFT;
}

static struct tp_slab *slab_of(uint64_t entry)
{
    return tp_range.slabs + (uint32_t)entry;
}

static uint16_t now(void)
{
    return (uint16_t)atomic_load_explicit(&nearby.now, memory_order_relaxed);
}

/* True: the run of `entry`, which was read from there, is the caller's. */
static bool take(_Atomic(uint64_t) *at, uint64_t entry)
{
    // Meets the release in tp_nearby_keep().
    return atomic_compare_exchange_strong_explicit(
        at, &entry, 0, memory_order_acquire, memory_order_relaxed);
}

/* Frees an entry, unless it was put there at `but`. Returns the granules. */
static size_t drop(_Atomic(uint64_t) *at, uint32_t but)
{
    uint64_t entry = atomic_load_explicit(at, memory_order_relaxed);
    if (!entry || (uint16_t)(entry >> AGE_SHIFT) == but || !take(at, entry)) return 0;
    tp_huge_free(slab_of(entry));
    return granules_in(entry);
}

static size_t drop_line(unsigned line, uint32_t but)
{
    size_t granules = 0;
    for (unsigned i = 0; i < ENTRIES; i++)
        granules += drop(&nearby.line[line].entry[i], but);
    return granules;
}

static size_t drop_all(uint32_t but)
{
    size_t granules = drop(&nearby.big, but);
    for (unsigned line = 0; line < LINES; line++) granules += drop_line(line, but);
    return granules << TP_GRANULE_SHIFT;
}

/* The run at `at`, made a block of `bytes`; NULL: it is another size, or none. */
static inline struct tp_slab *reuse(_Atomic(uint64_t) *at, size_t bytes)
{
    size_t granules = (bytes + TP_GRANULE - 1) >> TP_GRANULE_SHIFT;
    uint64_t entry = atomic_load_explicit(at, memory_order_relaxed);
    // What is too short wraps around.
    if (granules_in(entry) - granules > granules >> SLACK_SHIFT || !take(at, entry))
        return NULL;
    struct tp_slab *slab = slab_of(entry);
    slab->requested = 0;
    // The usual case: as large as it was.
    if (bytes > slab->large_bytes || slab->large_bytes - bytes >= TP_PAGE)
        slab->large_bytes = tp_align_up(bytes, tp_os_page());
    tp_slab_set_owner(slab, TP_SLAB_LARGE);
    return slab;
}

struct tp_slab *tp_nearby_take(unsigned line, size_t bytes)
{
    line %= LINES;
    bool big = bytes > TP_NEARBY_LINE_MOST;
    _Atomic(uint64_t) *at = big ? &nearby.big : nearby.line[line].entry;
    for (unsigned n = big ? 1 : ENTRIES; n--; at++) {
        struct tp_slab *slab = reuse(at, bytes);
        if (slab) return slab;
    }
    drop(&nearby.big, NONE);
    drop_line(line, NONE);
    return NULL;
}

/* The first free entry of a line if a run of `granules` may be there, or NULL. */
static _Atomic(uint64_t) *place_for(unsigned line, size_t granules)
{
    _Atomic(uint64_t) *at = nearby.line[line].entry;
    for (unsigned i = 0; i < ENTRIES; i++, at++)
        if (!atomic_load_explicit(at, memory_order_relaxed))
            return granules <= most[i] ? at : NULL;
    return NULL;
}

bool tp_nearby_keep(unsigned line, struct tp_slab *slab)
{
    size_t granules = slab->granules;
    _Atomic(uint64_t) *place =
        granules > most[0] ? &nearby.big : place_for(line % LINES, granules);
    if (!place || granules > BIG_MOST || tp_idle == TP_IDLE_NONE) return false;

    tp_slab_set_owner(slab, 0);
    uint64_t none = 0, when = now();
    uint64_t entry = (uint64_t)granules << SIZE_SHIFT | when << AGE_SHIFT |
        (uint64_t)(slab - tp_range.slabs);
    if (atomic_compare_exchange_strong_explicit(
            place, &none, entry, memory_order_release, memory_order_relaxed))
        return true;
    tp_slab_set_owner(slab, TP_SLAB_LARGE);
    return false;
}

size_t tp_nearby_age(void)
{
    uint16_t last = now();
    size_t bytes = drop_all(last);
    atomic_store_explicit(&nearby.now, last + 1u, memory_order_relaxed);
    return bytes;
}

size_t tp_nearby_empty(void)
{
    return drop_all(NONE);
}
