/* SPDX-License-Identifier: MIT */
/*
 * malloc.c - the names that programs call; the only file that defines malloc.
 *
 * Every function has glibc's meaning to the letter: what a program got away with
 * there it gets away with here. operator new and delete are not here: libstdc++ calls
 * malloc and free, and its own new throws, which C cannot. Where another allocator
 * serves the program every call is handed on (aside.c); malloc and free learn that on
 * their slow paths.
 */
#include "pool/fast.h"
#include "pool/pool.h"
#include "shim/life.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API TP_EXPORT

API void cfree(void *p);
API void free_sized(void *p, size_t size);
API void free_aligned_sized(void *p, size_t align, size_t size);

/* The pool had no memory for a call of `entry`. */
static TP_COLD void *failed(enum tp_call entry)
{
    int saved = errno;
    tp_pool_blame(entry);
    errno = saved;
    return NULL;
}

/* A call of `entry` that no memory could satisfy. */
static TP_COLD void *refuse(enum tp_call entry, int error)
{
    tp_pool_count_failure(entry);
    errno = error;
    return NULL;
}

API TP_HOT void *malloc(size_t size)
{
    return tp_fast_alloc(size);
}

API TP_HOT void free(void *p)
{
    tp_fast_free(p);
}

API void cfree(void *p)
{
    tp_pool_free(p);
}

/* C23: the size is a promise; a block that is smaller is a bug worth a stop. */
API void free_sized(void *p, size_t size)
{
    tp_pool_free_sized(p, size);
}

API void free_aligned_sized(void *p, size_t align, size_t size)
{
    (void)align;
    tp_pool_free_sized(p, size);
}

API void *calloc(size_t n, size_t size)
{
    if (tp_is_aside()) return tp_next.calloc(n, size);
    size_t bytes;
    tp_pool_count_call(TP_CALL_CALLOC);
    if (__builtin_mul_overflow(n, size, &bytes)) return refuse(TP_CALL_CALLOC, ENOMEM);
    void *p = tp_pool_zalloc(bytes);
    return p ? p : failed(TP_CALL_CALLOC);
}

/* realloc(NULL, n) is malloc(n); realloc(p, 0) frees p and gives NULL. */
static void *resize(void *p, size_t size, enum tp_call entry)
{
    if (p && size) {
        void *to = tp_pool_realloc(p, size, entry);
        return to ? to : failed(entry);
    }
    tp_pool_count_call(entry);
    if (p) {
        tp_pool_free(p);
        struct tp_counters *counters = tp_pool_counters();
        if (counters) tp_count_of_call(counters, &counters->realloc_freed, 1);
        return NULL;
    }
    void *to = tp_pool_alloc(size);
    if (!to) return failed(entry);
    struct tp_counters *counters = tp_pool_counters();
    if (counters) tp_count_of_call(counters, &counters->realloc_fresh, 1);
    return to;
}

API void *realloc(void *p, size_t size)
{
    if (tp_is_aside()) return tp_next.realloc(p, size);
    return resize(p, size, TP_CALL_REALLOC);
}

API void *reallocarray(void *p, size_t n, size_t size)
{
    if (tp_is_aside()) return tp_next.reallocarray(p, n, size);
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) {
        tp_pool_count_call(TP_CALL_REALLOCARRAY);
        return refuse(TP_CALL_REALLOCARRAY, ENOMEM);
    }
    return resize(p, bytes, TP_CALL_REALLOCARRAY);
}

/* ---- alignment ---- */

static void *aligned(size_t align, size_t size, enum tp_call entry)
{
    tp_pool_count_call(entry);
    if (size > PTRDIFF_MAX - align) return refuse(entry, ENOMEM);
    void *p = tp_pool_aligned(align, size);
    return p ? p : failed(entry);
}

/* glibc rounds an alignment that is no power of two up; one too large is EINVAL. */
static void *align_up(size_t align, size_t size, enum tp_call entry)
{
    if (align > SIZE_MAX / 2 + 1) {
        tp_pool_count_call(entry);
        return refuse(entry, EINVAL);
    }
    size_t power = TP_MIN_ALIGN;
    while (power < align) power *= 2;
    return aligned(power, size, entry);
}

API void *memalign(size_t align, size_t size)
{
    if (tp_is_aside()) return tp_next.memalign(align, size);
    return align_up(align, size, TP_CALL_MEMALIGN);
}

/* In glibc 2.36 another name of memalign. */
API void *aligned_alloc(size_t align, size_t size)
{
    if (tp_is_aside()) return tp_next.aligned_alloc(align, size);
    return align_up(align, size, TP_CALL_ALIGNED_ALLOC);
}

/* Returns an errno and leaves errno itself and *out alone when it fails. */
API int posix_memalign(void **out, size_t align, size_t size)
{
    if (tp_is_aside()) return tp_next.posix_memalign(out, align, size);
    int saved = errno;
    if (align % sizeof(void *) != 0 || !tp_is_pow2(align)) {
        tp_pool_count_call(TP_CALL_POSIX_MEMALIGN);
        tp_pool_count_failure(TP_CALL_POSIX_MEMALIGN);
        return EINVAL;
    }
    void *p = aligned(align, size, TP_CALL_POSIX_MEMALIGN);
    errno = saved;
    if (!p) return ENOMEM;
    *out = p;
    return 0;
}

API void *valloc(size_t size)
{
    if (tp_is_aside()) return tp_next.valloc(size);
    return aligned((size_t)sysconf(_SC_PAGESIZE), size, TP_CALL_VALLOC);
}

API void *pvalloc(size_t size)
{
    if (tp_is_aside()) return tp_next.pvalloc(size);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (size > PTRDIFF_MAX - page) {
        tp_pool_count_call(TP_CALL_PVALLOC);
        return refuse(TP_CALL_PVALLOC, ENOMEM);
    }
    return aligned(page, tp_align_up(size, page), TP_CALL_PVALLOC);
}

/* ---- questions ---- */

API size_t malloc_usable_size(void *p)
{
    if (tp_is_aside()) return tp_next.malloc_usable_size(p);
    return tp_pool_usable(p);
}

API int malloc_trim(size_t pad)
{
    if (tp_is_aside()) return tp_next.malloc_trim(pad);
    (void)pad;
    int saved = errno;
    bool gave = tp_pool_trim();
    errno = saved;
    return gave;
}

/* There is nothing to tune; glibc answers 1 for what it accepts. */
API int mallopt(int parameter, int value)
{
    if (tp_is_aside()) return tp_next.mallopt(parameter, value);
    (void)parameter;
    (void)value;
    return 1;
}

struct figures {
    uint64_t live_bytes;
    uint64_t live_blocks;
    uint64_t large_bytes;
    uint64_t large_blocks;
    uint64_t held_bytes;  // from the kernel, for slabs and large blocks
    uint64_t empty_bytes;
};

/* False when it is to be done again: slots were folded meanwhile. */
static bool read_slots(struct figures *out)
{
    struct figures figures = { 0 };
    struct tp_walk walk = tp_pool_walk();
    const struct tp_counters *counters;
    while ((counters = tp_pool_next(&walk))) {
        struct tp_sums sums = tp_counters_sums(counters);
        figures.live_bytes += sums.allocated_bytes - sums.freed_bytes;
        figures.live_blocks += sums.allocations - sums.frees;
        figures.large_bytes += counters->large_allocated_bytes;
        figures.large_bytes -= counters->large_freed_bytes;
        figures.large_blocks += counters->taken[TP_LARGE_CLASS].allocations;
        figures.large_blocks -= counters->frees[TP_LARGE_CLASS];
    }
    *out = figures;
    return tp_pool_walked(&walk);
}

static struct figures read_figures(void)
{
    struct figures figures;
    while (!read_slots(&figures)) {
    }
    for (unsigned c = 0; c < TP_CLASSES; c++)
        figures.held_bytes += atomic_load_explicit(
            &tp_account.classes[c].slab_bytes, memory_order_relaxed);
    figures.empty_bytes =
        atomic_load_explicit(&tp_account.totals.empty_bytes, memory_order_relaxed);
    figures.held_bytes += figures.empty_bytes + figures.large_bytes;
    return figures;
}

API struct mallinfo2 mallinfo2(void)
{
    if (tp_is_aside()) return tp_next.mallinfo2();
    struct figures figures = read_figures();
    uint64_t pool = figures.live_bytes - figures.large_bytes;
    return (struct mallinfo2){ .arena = figures.held_bytes - figures.large_bytes,
        .ordblks = 1,
        .hblks = figures.large_blocks,
        .hblkhd = figures.large_bytes,
        .uordblks = figures.live_bytes,
        .fordblks = figures.held_bytes - figures.large_bytes - pool,
        .keepcost = figures.empty_bytes };
}

API struct mallinfo mallinfo(void)
{
    if (tp_is_aside()) return tp_next.mallinfo();
    struct mallinfo2 wide = mallinfo2();
    return (struct mallinfo){ .arena = (int)wide.arena,
        .ordblks = (int)wide.ordblks,
        .hblks = (int)wide.hblks,
        .hblkhd = (int)wide.hblkhd,
        .uordblks = (int)wide.uordblks,
        .fordblks = (int)wide.fordblks,
        .keepcost = (int)wide.keepcost };
}

/* The shape that glibc's readers expect, with the pool as its one heap. */
API int malloc_info(int options, FILE *stream)
{
    if (tp_is_aside()) return tp_next.malloc_info(options, stream);
    if (options != 0) return EINVAL;
    struct figures figures = read_figures();
    uint64_t unused = figures.held_bytes - figures.live_bytes;
    fprintf(stream,
        "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n</sizes>\n"
        "<total type=\"fast\" count=\"0\" size=\"0\"/>\n"
        "<total type=\"rest\" count=\"1\" size=\"%lu\"/>\n"
        "<system type=\"current\" size=\"%lu\"/>\n"
        "<system type=\"max\" size=\"%lu\"/>\n"
        "<aspace type=\"total\" size=\"%lu\"/>\n"
        "<aspace type=\"mprotect\" size=\"%lu\"/>\n</heap>\n"
        "<total type=\"fast\" count=\"0\" size=\"0\"/>\n"
        "<total type=\"rest\" count=\"1\" size=\"%lu\"/>\n"
        "<total type=\"mmap\" count=\"%lu\" size=\"%lu\"/>\n"
        "<system type=\"current\" size=\"%lu\"/>\n"
        "<system type=\"max\" size=\"%lu\"/>\n"
        "<aspace type=\"total\" size=\"%lu\"/>\n"
        "<aspace type=\"mprotect\" size=\"%lu\"/>\n</malloc>\n",
        unused, figures.held_bytes, figures.held_bytes, figures.held_bytes,
        figures.held_bytes, unused, figures.large_blocks, figures.large_bytes,
        figures.held_bytes, figures.held_bytes, figures.held_bytes, figures.held_bytes);
    return 0;
}

API void malloc_stats(void)
{
    if (tp_is_aside()) {
        tp_next.malloc_stats();
        return;
    }
    struct figures figures = read_figures();
    fprintf(stderr,
        "Arena 0:\n"
        "system bytes     = %10lu\n"
        "in use bytes     = %10lu\n"
        "Total (incl. mmap):\n"
        "system bytes     = %10lu\n"
        "in use bytes     = %10lu\n"
        "max mmap regions = %10lu\n"
        "max mmap bytes   = %10lu\n",
        figures.held_bytes - figures.large_bytes,
        figures.live_bytes - figures.large_bytes, figures.held_bytes,
        figures.live_bytes, figures.large_blocks, figures.large_bytes);
}
