/* SPDX-License-Identifier: MIT */
/*
 * size.h - size classes: request -> class -> block size, arithmetic only.
 *
 * Idea: steps of 16 bytes to 128, then four steps per doubling to 128 KiB. A block
 * wastes less than 20 % of itself, 12 % on average; a class that is a power of two
 * is aligned to it, because slabs carry no header.
 *
 * Holds always: tp_class_of(tp_class_bytes(c)) == c, and
 * tp_class_of(tp_class_bytes(c) + 1) == c + 1.
 */
#ifndef TP_POOL_SIZE_H
#define TP_POOL_SIZE_H

#include "pool/base.h"

enum {
    TP_CLASSES = 48,
    TP_LARGE_CLASS = TP_CLASSES,  // counts blocks above the pools
    TP_POOL_MAX = 128 * 1024,     // largest block of the pools
    TP_TABLE_MAX = 8 * 1024,      // requests up to here find their class in the table
    TP_LINEAR_MAX = 128,          // up to here the classes are 16 bytes apart
    TP_LINEAR_CLASSES = TP_LINEAR_MAX / TP_MIN_ALIGN,
    TP_SMALL_SLAB_MAX = 8 * 1024,  // blocks up to here live in slabs of one granule
};

/* A constant expression for constant `n`; n == 0 is served like 1. */
#define TP_CLASS_OF(n)                                                     \
    ((n) <= TP_LINEAR_MAX ? (unsigned)((n) ? ((n)-1) / TP_MIN_ALIGN : 0)   \
                          : TP_LINEAR_CLASSES + 4 * (TP_LOG2((n)-1) - 7) + \
                (unsigned)((((uint64_t)(n)-1) >> (TP_LOG2((n)-1) - 2)) & 3))
#define TP_LOG2(n) (63u - (unsigned)__builtin_clzll((uint64_t)(n) | 1))

/* Class of every request up to TP_TABLE_MAX, by (request + 15) / 16. */
extern const uint8_t tp_class_table[TP_TABLE_MAX / TP_MIN_ALIGN + 1];

/* Class that serves `bytes`. Needs: bytes <= TP_POOL_MAX. */
static inline unsigned tp_class_of(size_t bytes)
{
    return TP_CLASS_OF(bytes);
}

/* Bytes of every block of class `c`. Needs: c < TP_CLASSES. */
static inline uint32_t tp_class_bytes(unsigned c)
{
    if (c < TP_LINEAR_CLASSES) return (c + 1) * TP_MIN_ALIGN;
    unsigned step = c - TP_LINEAR_CLASSES;
    return (5 + step % 4) << (step / 4 + 5);
}

/*
 * log2 of the granules in a slab of class `c`: one granule to 8 KiB, above that at
 * least eight blocks a slab, so that a slab's tail wastes at most an eighth of it
 * (address space only: a tail is never touched).
 */
static inline unsigned tp_class_order(unsigned c)
{
    uint32_t bytes = tp_class_bytes(c);
    if (bytes <= TP_SMALL_SLAB_MAX) return 0;
    return TP_LOG2(bytes - 1) + 4 - TP_GRANULE_SHIFT;
}

enum { TP_ORDERS = 5 };  // slabs of 1, 2, 4, 8 and 16 granules

#endif
