/* SPDX-License-Identifier: MIT */
/*
 * slab.c - the reserved range, and runs of blocks in it.
 *
 * Reserving costs 1-3 us whatever the size; only what is touched is ever paid for.
 * Descriptors of granules not yet in use are readable (they share the zero page),
 * so that free may ask about any pointer without a second bound.
 */
#include "pool/slab.h"

#include "pool/check.h"
#include "pool/counters.h"

struct tp_range tp_range;

enum { AREA = 2 * 1024 * 1024 };  // alignment of the range: a huge page

static bool open_at(size_t bytes)
{
    size_t descriptors = bytes / TP_GRANULE * sizeof(struct tp_slab);
    char *base = tp_os_reserve(bytes, AREA);
    if (!base) return false;
    if (!tp_os_show(base, tp_align_up(descriptors, tp_os_page()))) {
        tp_os_unmap(base, bytes);
        return false;
    }

    tp_range.base = base;
    tp_range.zone = base + tp_align_up(descriptors, AREA);
    tp_range.end = base + bytes;
    tp_range.slabs = (struct tp_slab *)(void *)base;
    tp_range.first = ((uintptr_t)base >> TP_GRANULE_SHIFT) * sizeof(struct tp_slab);
    tp_range.span = descriptors;
    atomic_store_explicit(&tp_account.totals.range_bytes, bytes, memory_order_relaxed);
    return true;
}

bool tp_range_open(size_t wanted)
{
    static const uint64_t ladder[] = { 1ull << 40, 1ull << 38, 1ull << 36, 1ull << 34,
        1ull << 32, 1ull << 30, 1ull << 28, 1ull << 26, 1ull << 24 };
    size_t most = tp_os_address_limit();
    if (most != SIZE_MAX) most /= 4;

    wanted = wanted & ~(size_t)(AREA - 1);
    if (wanted && wanted <= most && wanted >= 4 * AREA && open_at(wanted)) return true;
    for (size_t i = 0; i < sizeof(ladder) / sizeof(ladder[0]); i++) {
        if (ladder[i] > most || (wanted && ladder[i] > wanted)) continue;
        if (open_at(ladder[i])) return true;
    }
    return false;
}

void tp_slab_prepare(struct tp_slab *slab, unsigned class)
{
    uint32_t granules = 1u << slab->order;
    slab->class = (uint8_t) class;
    slab->bytes = tp_class_bytes(class);
    slab->capacity = granules * TP_GRANULE / slab->bytes;
    slab->inverse = UINT64_MAX / slab->bytes + 1;
    slab->carved = 0;
    slab->used = 0;
    slab->local = NULL;
    slab->listed = slab->awaited = slab->spare = false;
    slab->next = slab->prev = slab->caller = NULL;
    slab->fork_era = tp_fork_era;
    atomic_store_explicit(&slab->remote.head, 0, memory_order_relaxed);
    for (uint32_t i = 1; i < granules; i++) {
        slab[i].back = i;
        tp_slab_set_owner(&slab[i], TP_SLAB_INSIDE);
    }
}

static void count(const struct tp_slab *slab, int64_t n)
{
    struct tp_class_count *class = &tp_account.classes[slab->class];
    uint64_t bytes = (uint64_t)TP_GRANULE << slab->order;
    atomic_fetch_add_explicit(&class->slabs, (uint64_t)n, memory_order_relaxed);
    atomic_fetch_add_explicit(
        &class->slab_bytes, (uint64_t)n * bytes, memory_order_relaxed);
}

struct tp_slab *tp_slab_take(unsigned class)
{
    struct tp_slab *slab = tp_depot_take(tp_class_order(class));
    if (!slab) return NULL;
    tp_slab_prepare(slab, class);
    if (tp_check_is_on())
        tp_check_forget(tp_slab_start(slab), (size_t)TP_GRANULE << slab->order);
    count(slab, 1);
    return slab;
}

void tp_slab_put(struct tp_slab *slab)
{
    count(slab, -1);
    tp_depot_put(slab);
}

void tp_slab_corrupted(const struct tp_slab *slab)
{
    tp_die(
        "heap corrupted: a freed block of %u bytes was written to, or a pointer into "
        "one was freed",
        slab->bytes);
}

struct tp_block *tp_slab_carve(struct tp_slab *slab, uint32_t n, uint32_t *out_n)
{
    uint32_t left = slab->capacity - slab->carved;
    if (n > left) n = left;
    *out_n = n;
    if (!n) return NULL;

    char *at = tp_slab_start(slab) + (size_t)slab->carved * slab->bytes;
    struct tp_block *first = (struct tp_block *)(void *)at;
    for (uint32_t i = 1; i < n; i++, at += slab->bytes)
        ((struct tp_block *)(void *)at)->next =
            (struct tp_block *)(void *)(at + slab->bytes);
    ((struct tp_block *)(void *)at)->next = NULL;
    // Strangers read it in tp_slab_is_block().
    __atomic_store_n(&slab->carved, slab->carved + n, __ATOMIC_RELAXED);
    slab->used += (int32_t)n;
    return first;
}
