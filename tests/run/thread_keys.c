/* SPDX-License-Identifier: MIT */
/*
 * thread_keys.c - destructors of thread keys allocate and free while threads die.
 *
 * Four rounds of destructors, the most that POSIX promises; then the last blocks of
 * each thread are freed by the main thread.
 *
 * expect: delta.calls.malloc == 8 * (11 + 4 * 23)
 * expect: delta.calls.free >= 8 * (11 + 4 * 23)
 * expect: delta.totals.requested_bytes == 8 * (11 * 173 + 4 * 23 * 67)
 * expect: delta.totals.live_blocks <= 0
 */
#include "scene.h"

#include <pthread.h>

enum { THREADS = 8 };

static pthread_key_t key;
static pthread_barrier_t barrier;
static void *left[THREADS][11];
static _Thread_local unsigned rounds;

static void destroy(void *value)
{
    for (unsigned i = 0; i < 23; i++) free(malloc(67));
    if (++rounds < 4) pthread_setspecific(key, value);
}

static void *work(void *argument)
{
    void **mine = argument;
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < 11; i++) MUST((mine[i] = malloc(173)));
    pthread_setspecific(key, mine);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    pthread_key_create(&key, destroy);
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, left[i]);
    pthread_barrier_wait(&barrier);
    dump_now();
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < THREADS; i++)
        for (unsigned n = 0; n < 11; n++) free(left[i][n]);
    dump_now();
    return 0;
}
