/* SPDX-License-Identifier: MIT */
/*
 * size.c - the table of small requests, computed by the compiler.
 */
#include "pool/size.h"

#define ROW1(i) (uint8_t) TP_CLASS_OF((i)*TP_MIN_ALIGN)
#define ROW8(i)                                                               \
    ROW1(i), ROW1(i + 1), ROW1(i + 2), ROW1(i + 3), ROW1(i + 4), ROW1(i + 5), \
        ROW1(i + 6), ROW1(i + 7)
#define ROW64(i)                                                                  \
    ROW8(i), ROW8(i + 8), ROW8(i + 16), ROW8(i + 24), ROW8(i + 32), ROW8(i + 40), \
        ROW8(i + 48), ROW8(i + 56)

const uint8_t tp_class_table[TP_TABLE_MAX / TP_MIN_ALIGN + 1] = {
    ROW64(0),
    ROW64(64),
    ROW64(128),
    ROW64(192),
    ROW64(256),
    ROW64(320),
    ROW64(384),
    ROW64(448),
    ROW1(512),
};

static_assert(TP_CLASS_OF(0) == 0 && TP_CLASS_OF(16) == 0 && TP_CLASS_OF(17) == 1,
    "the first class ends at 16");
static_assert(TP_CLASS_OF(TP_LINEAR_MAX + 1) == TP_LINEAR_CLASSES, "no gap at 128");
static_assert(TP_CLASS_OF(TP_POOL_MAX) == TP_CLASSES - 1, "the last class is the last");
