/* SPDX-License-Identifier: MIT */
/*
 * base.h - what every file of the library may assume.
 *
 * Idea: words the C language lacks (hot, cold, likely, trap), the few sizes that
 * everything else is built from, and arithmetic that cannot overflow in silence.
 * Knows nothing of: anything else.
 */
#ifndef TP_POOL_BASE_H
#define TP_POOL_BASE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TP_HOT __attribute__((hot))
#define TP_COLD __attribute__((cold, noinline))
#define TP_SLOW __attribute__((noinline))  // a slow path, but not a rare one
#define TP_EXPORT __attribute__((visibility("default")))
#define TP_LIKELY(x) __builtin_expect(!!(x), 1)
#define TP_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define TP_THREAD _Thread_local __attribute__((tls_model("initial-exec")))

/* A broken invariant of our own: stop at once, print nothing, allocate nothing. */
#define TP_ASSERT(x) ((void)(TP_LIKELY(x) || (__builtin_trap(), 0)))

enum {
    TP_CACHE_LINE = 64,
    TP_MIN_ALIGN = 16,  // of every block, as on every 64-bit glibc
    TP_PAGE = 4096,     // smallest page of the machines we serve; see tp_os_page()
    TP_GRANULE_SHIFT = 16,
    TP_GRANULE = 1 << TP_GRANULE_SHIFT,  // slabs are made of these
};

/* What a free block holds: the way to the next one. */
struct tp_block {
    struct tp_block *next;
};

/* Rounds up to a power of two `align`; the caller knows that it cannot overflow. */
static inline size_t tp_align_up(size_t n, size_t align)
{
    return (n + align - 1) & ~(align - 1);
}

static inline bool tp_is_pow2(size_t n)
{
    return n && !(n & (n - 1));
}

/* Index of the highest bit. Needs: n > 0. */
static inline unsigned tp_log2(uint64_t n)
{
    return 63u - (unsigned)__builtin_clzll(n);
}

static inline int64_t tp_min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t tp_max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

#endif
