/* SPDX-License-Identifier: MIT */
/*
 * memalign_rules.c - alignments as glibc 2.36 treats them, good and bad.
 *
 * memalign and aligned_alloc round an alignment that is no power of two up;
 * posix_memalign refuses it with EINVAL and leaves errno and *memptr alone.
 *
 * expect: delta.totals.live_blocks == 0
 */
#include "scene.h"

static size_t up(size_t alignment)
{
    size_t power = 16;
    while (power < alignment) power *= 2;
    return power;
}

int main(void)
{
    dump_now();
    for (size_t alignment = 0; alignment < 5000; alignment += 7) {
        void *a = memalign(alignment, 173), *b = aligned_alloc(alignment, 173);
        MUST(a && (uintptr_t)a % up(alignment) == 0);
        MUST(b && (uintptr_t)b % up(alignment) == 0);
        free(a);
        free(b);
    }
    volatile size_t bad[] = { 0, 1, 2, 4, 3, 7, 12, 24, 48, 100, 1000, 4097, SIZE_MAX,
        ((size_t)1 << 63) + 8 };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        void *block = &block;
        errno = 55;
        MUST(posix_memalign(&block, bad[i], 100) == EINVAL);
        MUST(errno == 55 && block == (void *)&block);
    }
    for (size_t alignment = 8; alignment <= (size_t)1 << 22; alignment *= 2) {
        void *block = NULL;
        errno = 56;
        MUST(!posix_memalign(&block, alignment, 100) && errno == 56);
        MUST((uintptr_t)block % alignment == 0 && malloc_usable_size(block) >= 100);
        memset(block, 1, malloc_usable_size(block));
        free(block);
    }
    volatile size_t huge = ((size_t)1 << 63) + 1;
    errno = 0;
    MUST(!memalign(huge, 1) && errno == EINVAL);
    long page = sysconf(_SC_PAGESIZE);
    void *whole = pvalloc(1), *v = valloc(1);
    MUST((uintptr_t)whole % (size_t)page == 0 && (uintptr_t)v % (size_t)page == 0);
    MUST(malloc_usable_size(whole) >= (size_t)page);
    memset(whole, 2, (size_t)page);
    free(whole);
    free(v);
    dump_now();
    return 0;
}
