/* SPDX-License-Identifier: MIT */
/*
 * intern.c - the table behind intern.h: open addressing over one growing store.
 */
#include "report/intern.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct tp_interned {
    size_t at;  // in bytes[]
    size_t n;
    uint64_t hash;
};

static uint64_t hash_of(const unsigned char *bytes, size_t n)
{
    uint64_t hash = 14695981039346656037U;  // FNV-1a
    for (size_t i = 0; i < n; i++) hash = (hash ^ bytes[i]) * 1099511628211U;
    return hash ^ hash >> 29;
}

/* The slot of these bytes: theirs, or the free one that they would get. */
static size_t slot_of(
    const struct tp_intern *table, const void *bytes, size_t n, uint64_t hash)
{
    size_t at = (size_t)hash & (table->n_slots - 1);
    for (; table->slots[at]; at = (at + 1) & (table->n_slots - 1)) {
        const struct tp_interned *item = &table->items[table->slots[at] - 1];
        if (item->hash == hash && item->n == n &&
            (n == 0 || memcmp(table->bytes + item->at, bytes, n) == 0))
            break;
    }
    return at;
}

/* Twice the slots, and items for half of them. */
static bool grow(struct tp_intern *table)
{
    size_t n_slots = table->n_slots ? 2 * table->n_slots : 64;
    if (n_slots > UINT32_MAX) return false;
    struct tp_interned *items =
        realloc(table->items, n_slots / 2 * sizeof(table->items[0]));
    if (!items) return false;
    table->items = items;
    uint32_t *slots = calloc(n_slots, sizeof(slots[0]));
    if (!slots) return false;
    free(table->slots);
    table->slots = slots;
    table->n_slots = n_slots;
    for (uint32_t i = 0; i < table->n_items; i++) {
        size_t at = (size_t)items[i].hash & (n_slots - 1);
        while (slots[at]) at = (at + 1) & (n_slots - 1);
        slots[at] = i + 1;
    }
    return true;
}

static bool make_room(struct tp_intern *table, size_t n)
{
    size_t room = table->room ? table->room : 1024;
    while (room - table->n_bytes < n) room *= 2;
    if (room == table->room) return true;
    unsigned char *bytes = realloc(table->bytes, room);
    if (!bytes) return false;
    table->bytes = bytes;
    table->room = room;
    return true;
}

uint32_t tp_intern(struct tp_intern *table, const void *bytes, size_t n)
{
    if (table->n_items >= table->n_slots / 2 && !grow(table)) return TP_INTERN_NONE;
    uint64_t hash = hash_of(bytes, n);
    size_t slot = slot_of(table, bytes, n, hash);
    if (table->slots[slot]) return table->slots[slot] - 1;
    size_t whole = n + 8 - n % 8;  // with a NUL, or more of them
    if (!make_room(table, whole)) return TP_INTERN_NONE;
    unsigned char *to = table->bytes + table->n_bytes;
    if (n) memcpy(to, bytes, n);
    memset(to + n, 0, whole - n);
    table->items[table->n_items] = (struct tp_interned){ table->n_bytes, n, hash };
    table->n_bytes += whole;
    table->slots[slot] = ++table->n_items;
    return table->n_items - 1;
}

uint32_t tp_intern_text(struct tp_intern *table, const char *text)
{
    return tp_intern(table, text, strlen(text));
}

const void *tp_intern_at(const struct tp_intern *table, uint32_t item, size_t *out_n)
{
    if (out_n) *out_n = table->items[item].n;
    return table->bytes + table->items[item].at;
}

void tp_intern_fini(struct tp_intern *table)
{
    free(table->bytes);
    free(table->items);
    free(table->slots);
    memset(table, 0, sizeof(*table));
}
