/* SPDX-License-Identifier: MIT */
/*
 * fallow.c - parts of the range where nothing is left, not even in the books.
 *
 * A run that was purged has no pages, but its descriptor has: 128 bytes for 64 KiB that
 * may never be wanted again, 16 MiB after ten thousand threads with a dozen slabs each.
 * Where all granules whose descriptors share a page are clean, their runs leave the
 * depot's lists and the page of descriptors goes back: the area lies fallow. It is cut
 * up anew before new address space is.
 *
 * A number for each area counts its clean granules: two bytes for 2 MiB of the range,
 * in memory that is touched where it is used. All of it is under the depot's lock.
 */
#include "pool/counters.h"
#include "pool/slab.h"

enum { FALLOW = UINT16_MAX };

static struct {
    uint16_t *clean;  // granules of each area, or FALLOW; NULL until it is needed
    size_t areas;
    size_t n_fallow;
    size_t lowest;  // no fallow area below this one
} fallow;

size_t tp_fallow_granules(void)
{
    return tp_os_page() / sizeof(struct tp_slab);
}

static size_t area_of(const struct tp_slab *slab)
{
    return (size_t)(slab - tp_range.slabs) / tp_fallow_granules();
}

static struct tp_slab *first_of(size_t area)
{
    return tp_range.slabs + area * tp_fallow_granules();
}

/* Without memory nothing ever lies fallow. */
static bool open_once(void)
{
    if (fallow.clean) return true;
    fallow.areas = tp_range.span / sizeof(struct tp_slab) / tp_fallow_granules();
    size_t bytes = tp_align_up(fallow.areas * sizeof(uint16_t), tp_os_page());
    fallow.clean = fallow.areas ? tp_os_map(bytes) : NULL;
    if (fallow.clean) tp_os_no_huge(fallow.clean, bytes);
    return fallow.clean != NULL;
}

struct tp_slab *tp_fallow_cleaned(const struct tp_slab *slab)
{
    if (!slab->fresh || !open_once() || area_of(slab) >= fallow.areas) return NULL;
    size_t area = area_of(slab);
    fallow.clean[area] = (uint16_t)(fallow.clean[area] + (1u << slab->order));
    return fallow.clean[area] == tp_fallow_granules() ? first_of(area) : NULL;
}

void tp_fallow_taken(const struct tp_slab *slab)
{
    if (!slab->fresh || !fallow.clean || area_of(slab) >= fallow.areas) return;
    // An area may have been counted in part only: before a fork.
    uint16_t *clean = &fallow.clean[area_of(slab)];
    *clean = (uint16_t)(*clean > 1u << slab->order ? *clean - (1u << slab->order) : 0);
}

static void note_own(int64_t bytes)
{
    atomic_fetch_add_explicit(
        &tp_account.totals.self_bytes, (uint64_t)bytes, memory_order_relaxed);
}

void tp_fallow_begin(struct tp_slab *first)
{
    size_t area = area_of(first);
    if (tp_os_purge(first, tp_os_page())) note_own(-(int64_t)tp_os_page());
    fallow.clean[area] = FALLOW;
    if (!fallow.n_fallow++ || area < fallow.lowest) fallow.lowest = area;
}

struct tp_slab *tp_fallow_end(void)
{
    if (!fallow.n_fallow) return NULL;
    size_t area = fallow.lowest;
    while (fallow.clean[area] != FALLOW) area++;
    fallow.clean[area] = 0;
    fallow.n_fallow--;
    fallow.lowest = area + 1;
    note_own((int64_t)tp_os_page());
    return first_of(area);
}

void tp_fallow_forked(void)
{
    fallow.clean = NULL;
    fallow.n_fallow = 0;
}
