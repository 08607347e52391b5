/* SPDX-License-Identifier: MIT */
/*
 * tls_threads.c - two dozen libraries with thread-local storage, opened while threads
 * run; the loader's own tables come from malloc, and some from before.
 *
 * LD_AUDIT puts a namespace of its own beside ours, whose blocks are not ours.
 *
 * case: default
 * expect: last.coverage.foreign_frees == 0
 * case: checked
 * options: check=on
 * expect: last.coverage.foreign_frees == 0
 * case: audited
 * audit: auditor
 * env: GLIBC_TUNABLES=glibc.rtld.optional_static_tls=4096
 * expect: last.coverage.allocator == 'active'
 */
#include "scene.h"

#include <dlfcn.h>
#include <pthread.h>

enum { LIBRARIES = 24, THREADS = 8 };

static int *(*counter[LIBRARIES])(void);
static pthread_barrier_t opened;

static void *use(void *unused)
{
    for (unsigned round = 1; round <= 3; round++) {
        for (unsigned i = 0; i < LIBRARIES / 2; i++) MUST(*counter[i]() == (int)round);
    }
    pthread_barrier_wait(&opened);
    pthread_barrier_wait(&opened);
    for (unsigned i = LIBRARIES / 2; i < LIBRARIES; i++) MUST(*counter[i]() == 1);
    for (unsigned i = 0; i < LIBRARIES / 2; i++) MUST(*counter[i]() == 4);
    return unused;
}

static void open_some(unsigned from, unsigned to)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 64);
    MUST(n > 0);
    path[n] = 0;
    char *name = strrchr(path, '/') + 1;
    for (unsigned i = from; i < to; i++) {
        snprintf(name, 32, "libtls%u.so", i);
        void *library = dlopen(path, RTLD_NOW);
        MUST(library);
        counter[i] = (int *(*)(void))dlsym(library, "tls_counter");
        MUST(counter[i]);
    }
}

int main(void)
{
    pthread_t threads[THREADS];
    MUST(!pthread_barrier_init(&opened, NULL, THREADS + 1));
    open_some(0, LIBRARIES / 2);
    for (unsigned i = 0; i < THREADS; i++)
        MUST(!pthread_create(&threads[i], NULL, use, NULL));
    pthread_barrier_wait(&opened);
    open_some(LIBRARIES / 2, LIBRARIES);
    pthread_barrier_wait(&opened);
    for (unsigned i = 0; i < THREADS; i++) MUST(!pthread_join(threads[i], NULL));
    for (unsigned i = 0; i < LIBRARIES; i++) MUST(*counter[i]() == 1);
    return 0;
}
