/* SPDX-License-Identifier: MIT */
/*
 * nearby.c - lines of words, each of them a run of granules or nothing.
 */
#include "pool/nearby.h"

enum {
    LINES = 16,
    ENTRIES = 4,      // of a line
    SLACK_SHIFT = 3,  // a block may have an eighth more granules than were asked for
    AGE_SHIFT = 32,   // of an entry: the granules' place, 16 bits of when,
    SIZE_SHIFT = 48,  // and how many
};

/*
 * Granules that each entry of a line may have: 2 MiB in all, without a sum to keep, and
 * a small block does not keep a large one out for long.
 */
static const uint8_t most[ENTRIES] = { TP_NEARBY_MOST / TP_GRANULE, 6, 4, 4 };

static struct {
    struct {
        _Alignas(TP_CACHE_LINE) _Atomic(uint64_t) entry[ENTRIES];
    } line[LINES];
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

/* Frees the entries of a line that were not put there at `but`. */
static size_t empty_line(unsigned line, uint32_t but)
{
    size_t granules = 0;
    for (unsigned i = 0; i < ENTRIES; i++) {
        _Atomic(uint64_t) *at = &nearby.line[line].entry[i];
        uint64_t entry = atomic_load_explicit(at, memory_order_relaxed);
        if (!entry || (uint16_t)(entry >> AGE_SHIFT) == but || !take(at, entry))
            continue;
        granules += granules_in(entry);
        tp_huge_free(slab_of(entry));
    }
    return granules << TP_GRANULE_SHIFT;
}

struct tp_slab *tp_nearby_take(unsigned line, size_t bytes)
{
    size_t granules = (bytes + TP_GRANULE - 1) >> TP_GRANULE_SHIFT;
    size_t slack = granules >> SLACK_SHIFT;
    bool any = false;
    line %= LINES;
    for (unsigned i = 0; i < ENTRIES; i++) {
        _Atomic(uint64_t) *at = &nearby.line[line].entry[i];
        uint64_t entry = atomic_load_explicit(at, memory_order_relaxed);
        any |= entry != 0;
        // What is too short wraps around.
        if (granules_in(entry) - granules > slack || !take(at, entry)) continue;
        struct tp_slab *slab = slab_of(entry);
        slab->requested = 0;
        // The usual case: as large as it was.
        if (bytes > slab->large_bytes || slab->large_bytes - bytes >= TP_PAGE)
            slab->large_bytes = tp_align_up(bytes, tp_os_page());
        tp_slab_set_owner(slab, TP_SLAB_LARGE);
        return slab;
    }
    if (any) empty_line(line, UINT32_MAX);
    return NULL;
}

bool tp_nearby_keep(unsigned line, struct tp_slab *slab)
{
    size_t granules = slab->granules;
    _Atomic(uint64_t) *place = nearby.line[line % LINES].entry;
    unsigned i = 0;
    while (atomic_load_explicit(place, memory_order_relaxed))
        if (++i < ENTRIES)
            place++;
        else
            return false;
    if (granules > most[i] || tp_idle == TP_IDLE_NONE) return false;

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
    size_t bytes = 0;
    uint16_t last = now();
    for (unsigned line = 0; line < LINES; line++) bytes += empty_line(line, last);
    atomic_store_explicit(&nearby.now, last + 1u, memory_order_relaxed);
    return bytes;
}

size_t tp_nearby_empty(void)
{
    size_t bytes = 0;
    for (unsigned line = 0; line < LINES; line++) bytes += empty_line(line, UINT32_MAX);
    return bytes;
}
