/* SPDX-License-Identifier: MIT */
/*
 * known_sites.c - call sites of which every figure is known, for sites.py.
 *
 *   known_sites alone    one thread: leaks, a peak, temporary blocks, realloc, recursion
 *   known_sites eight    eight threads that are at the peak together
 *   known_sites mixed N  N rounds of a mixture, for the sampler
 *
 * All sizes are size classes of both allocators that are compared, so requested bytes
 * are usable bytes. The functions may not be merged or inlined: they are the sites.
 */
#include "scene.h"

#include <pthread.h>

enum { KEPT = 101, PEAK = 1009, LATER = 499, BRIEF = 2003, THREADS = 8 };

static void *kept[KEPT], *high[PEAK], *later[LATER];

SITE static void *leak(void)
{
    void *p = malloc(48);
    STAYS(p);
    return p;
}

SITE static void *at_peak(void)
{
    void *p = malloc(1024);
    STAYS(p);
    return p;
}

SITE static void *after_peak(void)
{
    void *p = malloc(512);
    STAYS(p);
    return p;
}

SITE static void *large(void)
{
    void *p = malloc(1 << 20);
    STAYS(p);
    return p;
}

SITE static void brief(void)
{
    void *p = calloc(1, 96);
    STAYS(p);
    free(p);
}

SITE static void *grow(void *p, size_t size)
{
    p = realloc(p, size);
    STAYS(p);
    return p;
}

/* The same site from two callers, and below itself. */
SITE static void *deep(unsigned depth)
{
    void *p = depth ? deep(depth - 1) : leak();
    STAYS(p);
    return p;
}

SITE static void run_alone(void)
{
    for (unsigned i = 0; i < KEPT; i++) kept[i] = i % 2 ? leak() : deep(5);
    void *big = large();
    for (unsigned i = 0; i < PEAK; i++) high[i] = at_peak();
    for (unsigned i = 0; i < BRIEF; i++) brief();
    free(big);
    for (unsigned i = 0; i < PEAK; i++) free(high[i]);
    for (unsigned i = 0; i < LATER; i++) later[i] = after_peak();
    void *p = NULL;
    for (size_t size = 64; size <= 8192; size *= 2) p = grow(p, size);
    for (unsigned i = 0; i < LATER; i++)
        if (i % 7) free(later[i]);
    free(p);
}

static pthread_barrier_t barrier;

SITE static void *in_thread(size_t size)
{
    void *p = malloc(size);
    STAYS(p);
    return p;
}

SITE static void *in_thread_too(size_t size)
{
    void *p = malloc(size);
    STAYS(p);
    return p;
}

static void *be_one_of_eight(void *argument)
{
    (void)argument;
    void **mine = calloc(2 * PEAK, sizeof(void *));
    for (unsigned round = 0; round < 3; round++) {
        unsigned n = round == 1 ? PEAK : PEAK / 3;
        for (unsigned i = 0; i < n; i++) {
            mine[2 * i] = in_thread(512);
            mine[2 * i + 1] = in_thread_too(256);
            brief();
        }
        pthread_barrier_wait(&barrier);
        for (unsigned i = 0; i < 2 * n; i++) free(mine[i]);
        pthread_barrier_wait(&barrier);
    }
    free(mine);
    return NULL;
}

static void run_eight(void)
{
    pthread_t threads[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (unsigned i = 0; i < THREADS; i++)
        MUST(pthread_create(&threads[i], NULL, be_one_of_eight, NULL) == 0);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

static void run_mixed(unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        brief();
        void *a = at_peak(), *b = i % 100 ? NULL : after_peak();
        void *c = i % 1000 ? NULL : large();
        if (i % 50 == 0) leak();
        free(a);
        free(b);
        free(c);
    }
}

int main(int argc, char **argv)
{
    MUST(argc > 1);
    if (!strcmp(argv[1], "alone"))
        run_alone();
    else if (!strcmp(argv[1], "eight"))
        run_eight();
    else if (!strcmp(argv[1], "mixed") && argc > 2)
        run_mixed((unsigned)atoi(argv[2]));
    else
        return 2;
    return 0;
}
