/* SPDX-License-Identifier: MIT */
/*
 * partial_malloc.c - an executable that defines some of malloc, free, calloc, realloc.
 *
 * Built fifteen times, for each choice of them (OWN: bits 1, 2, 4, 8). What it defines
 * leads to the C library's own heap, so under glibc everything fits together. So it
 * must with us: blocks of every entry point come to every way of giving back.
 *
 * stderr: ^tidepool: (malloc|free|calloc|realloc) of [^\n]+_malloc_\d+ serves [^\n]+\n$
 * expect: last.coverage.allocator == 'inert'
 * expect: last.coverage.reasons == ['own_malloc']
 * expect: last.coverage.foreign_frees == 0
 * expect: last.totals.allocations == 0
 * case: 1
 * program: partial_malloc_1
 * case: 2
 * program: partial_malloc_2
 * case: 3
 * program: partial_malloc_3
 * case: 4
 * program: partial_malloc_4
 * case: 5
 * program: partial_malloc_5
 * case: 6
 * program: partial_malloc_6
 * case: 7
 * program: partial_malloc_7
 * case: 8
 * program: partial_malloc_8
 * case: 9
 * program: partial_malloc_9
 * case: 10
 * program: partial_malloc_10
 * case: 11
 * program: partial_malloc_11
 * case: 12
 * program: partial_malloc_12
 * case: 13
 * program: partial_malloc_13
 * case: 14
 * program: partial_malloc_14
 * case: 15
 * program: partial_malloc_15
 */
#include "scene.h"

#include <malloc.h>
#include <pthread.h>

#ifndef OWN
#define OWN 15
#endif

void *__libc_malloc(size_t size);
void __libc_free(void *block);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);

static volatile unsigned calls;  // of our own

#if OWN & 1
void *malloc(size_t size)
{
    calls++;
    return __libc_malloc(size);
}
#endif

#if OWN & 2
void free(void *block)
{
    calls++;
    __libc_free(block);
}
#endif

#if OWN & 4
void *calloc(size_t count, size_t size)
{
    calls++;
    return __libc_calloc(count, size);
}
#endif

#if OWN & 8
void *realloc(void *block, size_t size)
{
    calls++;
    return __libc_realloc(block, size);
}
#endif

/* A block of entry point number `i`; all of them end with it. */
static void *make(unsigned i, size_t size)
{
    void *block = NULL;
    char *line = NULL;
    switch (i) {
    case 0:
        return malloc(size);
    case 1:
        return calloc(1, size);
    case 2:
        return realloc(NULL, size);
    case 3:
        return reallocarray(NULL, 3, size);
    case 4:
        return aligned_alloc(64, size);
    case 5:
        MUST(!posix_memalign(&block, 4096, size));
        return block;
    case 6:
        return memalign(256, size);
    case 7:
        return valloc(size);
    case 8:
        return pvalloc(size);
    case 9:
        line = malloc(size);
        MUST(line);
        memset(line, 'x', size - 1);
        line[size - 1] = 0;
        block = strdup(line);
        free(line);
        return block;
    case 10:
        MUST(asprintf(&line, "%0*d", (int)size, 7) == (int)size);
        return line;
    default:
        return NULL;
    }
}

/* Gives it back in way number `i`. */
static bool drop(unsigned i, void *block)
{
    switch (i) {
    case 0:
        free(block);
        return true;
    case 1:
        MUST((block = realloc(block, 70001)));
        free(block);
        return true;
    case 2:
        MUST((block = reallocarray(block, 7, 1009)));
        free(block);
        return true;
    case 3:
        MUST(!realloc(block, 0));
        return true;
    default:
        return false;
    }
}

static void *mix(void *unused)
{
    for (size_t size = 1; size < 300000; size = size * 2 + 17) {
        void *block;
        for (unsigned i = 0; (block = make(i, size)); i++) {
            MUST(malloc_usable_size(block) >= size);
            memset(block, 0x5a, size);
            for (unsigned way = 0; drop(way, block); way++)
                MUST((block = make(i, size)));
            free(block);
        }
    }
    return unused;
}

int main(void)
{
    pthread_t threads[2];
    mix(NULL);
    for (unsigned i = 0; i < 2; i++)
        MUST(!pthread_create(&threads[i], NULL, mix, NULL));
    for (unsigned i = 0; i < 2; i++) MUST(!pthread_join(threads[i], NULL));
    MUST(calls > 0);
    MUST(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
    malloc_trim(0);
    MUST(mallinfo2().uordblks > 0);
    return 0;
}
