/* SPDX-License-Identifier: MIT */
/*
 * check.c - what is on the books of check=on, and the bytes that tell on writers.
 */
#include "pool/check.h"

#include "pool/host.h"
#include "pool/slab.h"

#include <stdlib.h>
#include <string.h>

enum {
    NEVER = 0,           // no block has begun here
    FREED = 0x7fffffff,  // else: 1 + what the program asked for
    PAST_END = 0xa5,     // fills what was not asked for
    AFTER_FREE = 0xdf,   // fills a freed block behind its link
    LINK = sizeof(struct tp_block),
};

/* Where in the program, see host.h; 0: not known. */
struct places {
    uint32_t taken;
    uint32_t freed;
};

static struct {
    _Atomic(int32_t) *asked;  // by (p - zone) / TP_MIN_ALIGN
    struct places *places;    // likewise; NULL: could not be had
} check;

bool tp_check_open(void)
{
    size_t units = (size_t)(tp_range.end - tp_range.zone) / TP_MIN_ALIGN;
    if (!tp_range.span) return false;
    check.asked = tp_os_map_sparse(units * sizeof(*check.asked));
    if (check.asked) check.places = tp_os_map_sparse(units * sizeof(*check.places));
    return check.asked != NULL;
}

bool tp_check_is_on(void)
{
    return check.asked != NULL;
}

static size_t index_of(const void *p)
{
    return (size_t)((const char *)p - tp_range.zone) / TP_MIN_ALIGN;
}

static _Atomic(int32_t) *entry_of(const void *p)
{
    return &check.asked[index_of(p)];
}

static struct places places_of(const void *p)
{
    return check.places ? check.places[index_of(p)] : (struct places){ 0, 0 };
}

static void say_place(const char *heading, uint32_t place)
{
    if (place) tp_host_say_place(heading, place);
}

/* After the line that says what is wrong: what is known of the block at `p`, the end. */
static _Noreturn void stop(struct places places, uint32_t again)
{
    say_place("allocated here", places.taken);
    say_place("freed here", places.freed);
    say_place("freed again here", again);
    abort();
}

/* Offset of the first byte that is not `filler`, or `end`. */
static size_t first_change(const void *p, size_t begin, size_t end, uint8_t filler)
{
    const uint8_t *bytes = p;
    while (begin < end && bytes[begin] == filler) begin++;
    return begin;
}

void tp_check_unused(const void *p, size_t bytes)
{
    if (atomic_load_explicit(entry_of(p), memory_order_relaxed) != FREED) return;
    size_t at = first_change(p, LINK, bytes, AFTER_FREE);
    if (at >= bytes) return;
    tp_say_last("write after free: byte %lu of the %lu-byte block at %p has changed",
        (unsigned long)at, (unsigned long)bytes, p);
    stop(places_of(p), 0);
}

void tp_check_taken(void *p, size_t size, size_t bytes, uint32_t place)
{
    _Atomic(int32_t) *entry = entry_of(p);
    tp_check_unused(p, bytes);
    memset((char *)p + size, PAST_END, bytes - size);
    if (check.places) check.places[index_of(p)] = (struct places){ place, 0 };
    atomic_store_explicit(entry, (int32_t)size + 1, memory_order_relaxed);
}

void tp_check_freed(void *p, size_t bytes, uint32_t place)
{
    int32_t asked = atomic_exchange_explicit(entry_of(p), FREED, memory_order_relaxed);
    struct places places = places_of(p);
    if (asked == FREED) {
        tp_say_last("double free of the %lu-byte block at %p", (unsigned long)bytes, p);
        stop(places, place);
    }
    places.freed = place;
    if (asked == NEVER) {
        tp_say_last("invalid free of %p: no block was given out there", p);
        stop((struct places){ .freed = place }, 0);
    }
    size_t size = (size_t)asked - 1;
    size_t at = first_change(p, size, bytes, PAST_END);
    if (at < bytes) {
        tp_say_last(
            "write past the end: byte %lu of the block of %lu bytes at %p has changed",
            (unsigned long)at, (unsigned long)size, p);
        stop(places, 0);
    }
    if (check.places) check.places[index_of(p)] = places;
    memset((char *)p + LINK, AFTER_FREE, bytes - LINK);
}

void tp_check_inside(
    const char *what, const void *p, const void *start, size_t bytes, uint32_t place)
{
    tp_say_last(
        "invalid %s of %p: inside a block of %lu bytes", what, p, (unsigned long)bytes);
    struct places places = places_of(start);
    say_place("allocated here", places.taken);
    say_place("freed here", places.freed);
    say_place(what[0] == 'f' ? "invalid free here" : "invalid realloc here", place);
    abort();
}

void tp_check_forget(const void *start, size_t bytes)
{
    _Atomic(int32_t) *entry = entry_of(start);
    for (size_t i = 0; i < bytes / TP_MIN_ALIGN; i++)
        atomic_store_explicit(&entry[i], NEVER, memory_order_relaxed);
}

size_t tp_check_asked(const void *p)
{
    int32_t asked = atomic_load_explicit(entry_of(p), memory_order_relaxed);
    return asked == FREED || asked == NEVER ? 0 : (size_t)asked - 1;
}
