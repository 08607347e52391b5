/* SPDX-License-Identifier: MIT */
/*
 * snapshot.c - what a child takes along of memory that it shares with its parent.
 *
 * Idea: counters and tables are pages of the live file, which parent and child both see
 * after a fork, and the parent goes on. So the last fork handler before the fork copies
 * what is in use of them into private memory, of which the child gets a copy like of all
 * else. What a child of a bare clone takes along is what it finds: its parent did not
 * say that it would fork.
 *
 * With other threads the copy is as of a moment just before the fork; with one nothing
 * happens in between. Of threads that fork at the same time one has the memory, and the
 * children of the others take what they find.
 */
#include "shim/output.h"
#include "shim/profile.h"

#include "pool/os.h"

#include <pthread.h>
#include <string.h>

enum { KEPT_MOST = 256 * 1024 };  // bytes that stay mapped for the next fork

/* A part of the copy; its bytes follow. */
struct span {
    const char *at;  // where they were
    size_t bytes;
};

static struct {
    _Atomic(bool) busy;
    uintptr_t owner;  // pthread_self() of who forks: the same in the child
    char *memory;
    size_t room;
    size_t used;
} snapshot;

static size_t size_of(size_t bytes)
{
    return sizeof(struct span) + tp_align_up(bytes, TP_MIN_ALIGN);
}

static bool is_ours(void)
{
    return atomic_load_explicit(&snapshot.busy, memory_order_acquire) &&
        snapshot.owner == (uintptr_t)pthread_self();
}

static void drop_memory(void)
{
    if (snapshot.memory) tp_os_unmap(snapshot.memory, snapshot.room);
    snapshot.memory = NULL;
    snapshot.room = 0;
}

/* Part `i` of what a child needs; empty ones too. False: there are no more. */
static bool part_of(uint32_t i, struct tp_live_bytes *out)
{
    // Of nodes and modules records are added only: what they were is still there.
    const struct tp_table *tables[] = { &tp_sites, &tp_samples };
    enum { TABLES = sizeof(tables) / sizeof(tables[0]) };
    if (i >= TABLES) return tp_live_shared(i - TABLES, out);
    *out = (struct tp_live_bytes){ tables[i]->records,
        (size_t)tp_table_used_bytes(tables[i]) };
    return true;
}

static void add(const struct tp_live_bytes *part)
{
    // There may be more now than there was when it was measured.
    if (!part->bytes || snapshot.room - snapshot.used < size_of(part->bytes)) return;
    struct span *span = (struct span *)(void *)(snapshot.memory + snapshot.used);
    *span = (struct span){ .at = part->at, .bytes = part->bytes };
    memcpy(span + 1, part->at, part->bytes);
    snapshot.used += size_of(part->bytes);
}

void tp_snapshot_take(void)
{
    struct tp_live_bytes part;
    if (!tp_live_shared(0, &part) ||
        atomic_exchange_explicit(&snapshot.busy, true, memory_order_acquire))
        return;
    size_t room = 0;
    for (uint32_t i = 0; part_of(i, &part); i++) room += size_of(part.bytes);
    if (room > snapshot.room) {
        drop_memory();
        room = tp_align_up(room, tp_os_page());
        snapshot.memory = tp_os_map(room);
        snapshot.room = snapshot.memory ? room : 0;
    }
    snapshot.used = 0;
    snapshot.owner = (uintptr_t)pthread_self();
    for (uint32_t i = 0; part_of(i, &part); i++) add(&part);
}

void tp_snapshot_read(void *out, const void *at, size_t bytes)
{
    size_t kept = 0;
    for (size_t i = 0; is_ours() && i < snapshot.used;) {
        const struct span *span =
            (const struct span *)(const void *)(snapshot.memory + i);
        if (span->at == at) {
            kept = span->bytes < bytes ? span->bytes : bytes;
            memcpy(out, span + 1, kept);
            break;
        }
        i += size_of(span->bytes);
    }
    memcpy((char *)out + kept, (const char *)at + kept, bytes - kept);
}

void tp_snapshot_end(bool child)
{
    if (!child && !is_ours()) return;
    if (!child && snapshot.room > KEPT_MOST) drop_memory();
    snapshot.owner = 0;
    atomic_store_explicit(&snapshot.busy, false, memory_order_release);
}
