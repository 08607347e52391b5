/* SPDX-License-Identifier: MIT */
/*
 * frozen.c - the counters of all threads as of one moment, for a dump.
 *
 * Frees are copied before allocations, of all threads, so that nothing seems freed
 * before it was allocated. Only slots that hold something are kept: a process that
 * had thousands of threads dumps no more than one that never had. That changes their
 * numbers, so each ended record is judged here, and says from then on that it counts.
 *
 * The copy is sparse: a slot goes to the place of its number in memory that has no
 * pages yet, and all of them move together at the end.
 */
#include "shim/output.h"

#include "pool/host.h"
#include "pool/pool.h"

#include <string.h>

enum {
    NEWCOMERS = 64,  // slots that may come into use meanwhile
    TRIES = 100,     // while slots are folded, which ticks do, or threads that end
};

static void copy_frees(struct tp_counters *to, const struct tp_counters *from)
{
    // What derives calls of free goes with the frees.
    to->realloc_moved = tp_count_read(&from->realloc_moved);
    to->realloc_freed = tp_count_read(&from->realloc_freed);
    memcpy(to->frees, from->frees, sizeof(from->frees));
    to->large_freed_bytes = tp_count_read(&from->large_freed_bytes);
}

/* Everything else. */
static void copy_rest(struct tp_counters *to, const struct tp_counters *from)
{
    uint64_t moved = to->realloc_moved, freed = to->realloc_freed;
    uint64_t large = to->large_freed_bytes;
    memcpy(to, from, offsetof(struct tp_counters, frees));
    memcpy(to->taken, from->taken, sizeof(*to) - offsetof(struct tp_counters, taken));
    to->realloc_moved = moved;
    to->realloc_freed = freed;
    to->large_freed_bytes = large;
}

/* Both passes; false when slots were folded between the first word and the last. */
static bool copy_slots(struct tp_frozen *frozen)
{
    struct tp_walk first = tp_pool_walk(), second = first;
    const struct tp_counters *from;
    while ((from = tp_pool_next(&first)))
        if (first.index < frozen->room) copy_frees(&frozen->slots[first.index], from);
#if !defined(__SANITIZE_THREAD__)  // which knows of no fences
    atomic_thread_fence(memory_order_acquire);
#endif
    while ((from = tp_pool_next(&second)))
        if (second.index < frozen->room) {
            copy_rest(&frozen->slots[second.index], from);
            frozen->slots[second.index].reserved[0] = 1;  // it is here
            if (second.index >= frozen->n_slots) frozen->n_slots = second.index + 1;
        }
    return tp_pool_walked(&second);
}

/* The rule stands beside struct tp_ended_record in the format. */
static bool has_ended(
    const struct tp_frozen *frozen, const struct tp_ended_record *record)
{
    if (record->slot >= frozen->n_slots) return true;
    const struct tp_counters *slot = &frozen->slots[record->slot];
    return slot->state != TP_RUNNING || slot->epoch > record->epoch;
}

static void copy_ended(struct tp_frozen *frozen, const struct tp_live_view *view)
{
    for (uint64_t i = 0; i < view->n_ended; i++) {
        const struct tp_ended_record *from = &view->ended[i];
        // Written last; meets the release in tp_live_thread_ended().
        if (!__atomic_load_n(&from->tid, __ATOMIC_ACQUIRE)) continue;
        if (!has_ended(frozen, from)) continue;
        struct tp_ended_record *to = &frozen->ended[frozen->n_ended++];
        *to = *from;
        to->slot = (uint32_t)TP_ENDED_FOR_GOOD;
    }
}

/* Moves the slots that are there to the front. */
static void close_ranks(struct tp_frozen *frozen)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < frozen->n_slots; i++) {
        struct tp_counters *slot = &frozen->slots[i];
        if (!slot->reserved[0]) continue;
        slot->reserved[0] = 0;
        if (slot->state == TP_UNUSED) continue;
        if (n != i) frozen->slots[n] = *slot;
        n++;
    }
    frozen->n_slots = n;
}

bool tp_frozen_take(struct tp_frozen *out, const struct tp_live_view *view)
{
    uint32_t room = tp_pool_slots() + NEWCOMERS;
    size_t ended = view->n_ended * sizeof(struct tp_ended_record);
    size_t bytes = room * sizeof(struct tp_counters) + ended;
    for (unsigned tries = 0; tries < TRIES; tries++) {
        *out = (struct tp_frozen){ .room = room, .bytes = bytes };
        out->slots = tp_os_map(bytes);
        if (!out->slots) return false;
        if (copy_slots(out)) break;
        if (tries + 1 < TRIES) tp_os_unmap(out->slots, bytes);
    }
    out->ended = (struct tp_ended_record *)(void *)(out->slots + room);
    copy_ended(out, view);
    close_ranks(out);
    return true;
}

void tp_frozen_drop(struct tp_frozen *frozen)
{
    if (frozen->slots) tp_os_unmap(frozen->slots, frozen->bytes);
    *frozen = (struct tp_frozen){ 0 };
}
