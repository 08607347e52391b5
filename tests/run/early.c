/* SPDX-License-Identifier: MIT */
/*
 * early.c - another preloaded library: its constructor uses every entry point.
 *
 * Built as libearly.so, not as a scene. Whichever of the two libraries starts
 * first, nothing may be lost: a constructor here may run before ours. It also
 * installs a handler for SIGUSR1, and says in EARLY_HANDLED how often that ran. With
 * EARLY_ATFORK in the environment its fork handlers allocate, before any other's.
 */
#include "scene.h"

#include <pthread.h>

static char handled[] = "EARLY_HANDLED=0";

static void on_signal(int number_)
{
    (void)number_;
    handled[sizeof handled - 2]++;
}

static void in_child(void)
{
    for (size_t i = 0; i < 1000; i++) free(malloc(i));
}

__attribute__((constructor)) static void start(void)
{
    if (getenv("EARLY_ATFORK")) pthread_atfork(NULL, NULL, in_child);
    void *block[9] = { malloc(17), calloc(3, 7), realloc(NULL, 33),
        reallocarray(NULL, 3, 17), aligned_alloc(64, 64), memalign(128, 65),
        valloc(129), pvalloc(4097), NULL };
    MUST(!posix_memalign(&block[8], 256, 257));
    block[0] = realloc(block[0], 70001);
    for (unsigned i = 0; i < 9; i++) {
        MUST(block[i] && malloc_usable_size(block[i]) >= 17);
        free(block[i]);
    }
    free(NULL);
    MUST(!realloc(malloc(5), 0));
    malloc_trim(0);
    mallinfo2();
    putenv(handled);
    struct sigaction action = { .sa_handler = on_signal };
    sigaction(SIGUSR1, &action, NULL);
}
