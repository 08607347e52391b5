/* SPDX-License-Identifier: MIT */
/*
 * parts.c - what stands where in the live file, and the rows that say so.
 *
 *     head ... | bay 0 | bay 1 | sites | nodes |  claimed  | bay 2 | sites | ...
 *                `--one row--'                   no row yet
 *
 * Idea: a part of the file is claimed first, given memory next, and listed last, so that
 * a reader sees only what can be read. Claims are a counter that goes up; rows are
 * written under a lock, for a few stores and no system call.
 *
 * How many rows there can be: a table claims places that double (table.c), so modules
 * have at most 6 of them, nodes 9, sites 10, samples 11 and the timeline 1, 37 together.
 * Bays are neighbours unless a place lies between, so they have at most 38 rows. With
 * the 8 rows of the head that is 83; TP_FORMAT_REGIONS is 120.
 *
 * Knows nothing of: how parts get their memory, and what is in them.
 */
#include "shim/output.h"

#include "pool/os.h"

enum { TRIES = 200 };  // of 50 us each; the lock is held for a few stores

void tp_parts_init(struct tp_parts *parts, uint64_t end)
{
    __atomic_store_n(&parts->header->n_regions, 0, __ATOMIC_RELEASE);
    parts->header->total_bytes = end;
    parts->n_rows = 0;
    atomic_store_explicit(&parts->lock.word, 0, memory_order_relaxed);
    atomic_store_explicit(&parts->end, end, memory_order_relaxed);
}

uint64_t tp_parts_claim(struct tp_parts *parts, uint64_t bytes)
{
    return atomic_fetch_add_explicit(&parts->end, bytes, memory_order_relaxed);
}

/* The last row of that kind when `row` goes on where it ends; else NULL. */
static struct tp_region *neighbour_of(
    const struct tp_parts *parts, const struct tp_region *row)
{
    for (uint32_t i = parts->n_rows; i-- > 0;) {
        struct tp_region *last = &parts->rows[i];
        if (last->kind != row->kind) continue;
        uint64_t end = last->offset + last->count * last->record_bytes;
        bool same = last->record_bytes == row->record_bytes && end == row->offset;
        return same ? last : NULL;
    }
    return NULL;
}

/* Needs: the lock. */
static bool list(struct tp_parts *parts, const struct tp_region *row)
{
    uint64_t end = row->offset + row->count * row->record_bytes;
    struct tp_region *last = neighbour_of(parts, row);
    uint32_t n = parts->n_rows;
    if (!last && n >= TP_FORMAT_REGIONS) return false;
    if (last) {
        __atomic_store_n(&last->count, last->count + row->count, __ATOMIC_RELEASE);
    } else {
        parts->rows[n] = *row;
        parts->n_rows = n + 1;
        __atomic_store_n(&parts->header->n_regions, n + 1, __ATOMIC_RELEASE);
    }
    if (end > parts->header->total_bytes)
        __atomic_store_n(&parts->header->total_bytes, end, __ATOMIC_RELEASE);
    return true;
}

bool tp_parts_list(struct tp_parts *parts, const struct tp_region *row)
{
    bool held = tp_lock_try(&parts->lock);
    for (unsigned tries = 0; !held && tries < TRIES; tries++) {
        tp_os_pause();
        held = tp_lock_try(&parts->lock);
    }
    bool good = held && list(parts, row);
    if (held) tp_lock_leave(&parts->lock);
    return good;
}
