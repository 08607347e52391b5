/* SPDX-License-Identifier: MIT */
/*
 * names.c - a table of addresses and their functions, in memory.
 *
 * Idea: a module has few source files and functions but many addresses, so each text is
 * kept once. Symbols and texts come from pieces of memory that never move: who was given
 * one may keep it while the table grows.
 */
#include "report/symbols.h"

#include <stdlib.h>
#include <string.h>

enum {
    PIECE_BYTES = 64 * 1024,
    ROWS_FIRST = 64,
    TEXTS_FIRST = 256,
};

struct tp_names_piece {
    struct tp_names_piece *next;
    size_t used;
    size_t bytes;
    _Alignas(16) unsigned char memory[];
};

struct tp_names_text {
    const char *text;  // NULL: unused
    uint64_t hash;
};

/* ---- memory ------------------------------------------------------------------------ */

static void *take_memory(struct tp_names *names, size_t bytes, size_t align)
{
    struct tp_names_piece *piece = names->pieces;
    size_t at = piece ? (piece->used + align - 1) & ~(align - 1) : 0;
    if (!piece || at > piece->bytes || bytes > piece->bytes - at) {
        size_t size = bytes > PIECE_BYTES ? bytes : PIECE_BYTES;
        piece = malloc(sizeof(*piece) + size);
        if (!piece) return NULL;
        piece->next = names->pieces;
        piece->bytes = size;
        names->pieces = piece;
        at = 0;
    }
    piece->used = at + bytes;
    return piece->memory + at;
}

/* ---- texts -------------------------------------------------------------------------- */

/* FNV-1a, 64 bits (Fowler, Noll, Vo). */
static uint64_t hash_of(const char *text, size_t n)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
    return hash;
}

static bool grow_texts(struct tp_names *names)
{
    size_t room = names->texts_room ? 2 * names->texts_room : TEXTS_FIRST;
    struct tp_names_text *texts = calloc(room, sizeof(texts[0]));
    if (!texts) return false;
    for (size_t i = 0; i < names->texts_room; i++) {
        if (!names->texts[i].text) continue;
        size_t at = names->texts[i].hash & (room - 1);
        while (texts[at].text) at = (at + 1) & (room - 1);
        texts[at] = names->texts[i];
    }
    free(names->texts);
    names->texts = texts;
    names->texts_room = room;
    return true;
}

const char *tp_names_text(struct tp_names *names, const char *text, size_t n)
{
    if (!n) return "";
    if (n > TP_NAMES_TEXT) n = TP_NAMES_TEXT;
    if (2 * names->n_texts >= names->texts_room && !grow_texts(names)) return NULL;
    uint64_t hash = hash_of(text, n);
    size_t at = hash & (names->texts_room - 1);
    while (names->texts[at].text) {
        const char *known = names->texts[at].text;
        if (names->texts[at].hash == hash && strncmp(known, text, n) == 0 && !known[n])
            return known;
        at = (at + 1) & (names->texts_room - 1);
    }
    char *copy = take_memory(names, n + 1, 1);
    if (!copy) return NULL;
    memcpy(copy, text, n);
    copy[n] = '\0';
    names->texts[at].text = copy;
    names->texts[at].hash = hash;
    names->n_texts++;
    return copy;
}

/* ---- rows ------------------------------------------------------------------------------ */

bool tp_names_add(
    struct tp_names *names, uint64_t offset, const struct tp_symbol *symbols, size_t n)
{
    if (n > TP_NAMES_CHAIN) n = TP_NAMES_CHAIN;
    if (names->n_rows == names->room) {
        size_t room = names->room ? 2 * names->room : ROWS_FIRST;
        void *rows = realloc(names->rows, room * sizeof(names->rows[0]));
        if (!rows) return false;
        names->rows = rows;
        names->room = room;
    }
    struct tp_symbol *copy =
        take_memory(names, n * sizeof(copy[0]), _Alignof(struct tp_symbol));
    if (!copy) return false;
    for (size_t i = 0; i < n; i++) {
        copy[i] = symbols[i];
        copy[i].function =
            tp_names_text(names, symbols[i].function, strlen(symbols[i].function));
        copy[i].file = tp_names_text(names, symbols[i].file, strlen(symbols[i].file));
        if (!copy[i].function || !copy[i].file) return false;
    }
    copy[n - 1].inlined = false;  // also where the chain was cut
    names->rows[names->n_rows++] =
        (struct tp_named){ .offset = offset, .symbols = copy, .n = (uint32_t)n };
    names->n_symbols += n;
    return true;
}

/* Ties keep the order in which they were added: their symbols cannot tell it. */
static void merge_sort(struct tp_named *rows, struct tp_named *spare, size_t n)
{
    if (n < 2) return;
    size_t half = n / 2, a = 0, b = half, out = 0;
    merge_sort(rows, spare, half);
    merge_sort(rows + half, spare, n - half);
    if (rows[half - 1].offset <= rows[half].offset) return;
    memcpy(spare, rows, n * sizeof(rows[0]));
    while (out < n) {
        bool left = b == n || (a < half && spare[a].offset <= spare[b].offset);
        rows[out++] = spare[left ? a++ : b++];
    }
}

/* Without memory to sort with: slow, but as good. */
static void insertion_sort(struct tp_named *rows, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct tp_named row = rows[i];
        size_t at = i;
        for (; at > 0 && rows[at - 1].offset > row.offset; at--)
            rows[at] = rows[at - 1];
        rows[at] = row;
    }
}

void tp_names_sort(struct tp_names *names)
{
    bool ordered = true;
    for (size_t i = 1; i < names->n_rows && ordered; i++)
        ordered = names->rows[i - 1].offset < names->rows[i].offset;
    if (ordered) return;

    struct tp_named *spare = malloc(names->n_rows * sizeof(spare[0]));
    if (spare)
        merge_sort(names->rows, spare, names->n_rows);
    else
        insertion_sort(names->rows, names->n_rows);
    free(spare);
    size_t n = 0;
    for (size_t i = 0; i < names->n_rows; i++) {
        if (n && names->rows[n - 1].offset == names->rows[i].offset)
            names->n_symbols -= names->rows[i].n;
        else
            names->rows[n++] = names->rows[i];
    }
    names->n_rows = n;
}

const struct tp_named *tp_names_find(const struct tp_names *names, uint64_t offset)
{
    size_t low = 0, high = names->n_rows;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (names->rows[middle].offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == names->n_rows || names->rows[low].offset != offset) return NULL;
    return &names->rows[low];
}

void tp_names_fini(struct tp_names *names)
{
    while (names->pieces) {
        struct tp_names_piece *next = names->pieces->next;
        free(names->pieces);
        names->pieces = next;
    }
    free(names->rows);
    free(names->texts);
    memset(names, 0, sizeof(*names));
}
