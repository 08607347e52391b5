/* SPDX-License-Identifier: MIT */
/*
 * intern.h - equal bytes get equal numbers, from 0 on in the order of their coming.
 *
 * Idea: names, places, addresses and whole call stacks are all told apart by their bytes.
 * A table that numbers them makes the tables of strings, functions, locations and stacks
 * that the formats of other tools are made of.
 *
 * Knows nothing of: what the bytes are.
 */
#ifndef TP_REPORT_INTERN_H
#define TP_REPORT_INTERN_H

#include <stddef.h>
#include <stdint.h>

/* All zero is an empty table. */
struct tp_intern {
    unsigned char *bytes;
    size_t n_bytes;
    size_t room;
    struct tp_interned *items;
    uint32_t n_items;
    uint32_t *slots;  // hash table of item + 1; 0: free
    size_t n_slots;   // a power of two, or 0
};

#define TP_INTERN_NONE UINT32_MAX

/* The number of these bytes, a new one if need be. TP_INTERN_NONE: without memory. */
uint32_t tp_intern(struct tp_intern *table, const void *bytes, size_t n);

/* The same of a terminated text. */
uint32_t tp_intern_text(struct tp_intern *table, const char *text);

/*
 * The bytes of a number that was given, aligned to 8 and followed by a NUL. They live
 * until the next call of tp_intern(). `out_n` may be NULL.
 */
const void *tp_intern_at(const struct tp_intern *table, uint32_t item, size_t *out_n);

void tp_intern_fini(struct tp_intern *table);

#endif
