/* SPDX-License-Identifier: MIT */
/*
 * thread_last.c - what allocates while a thread dies: thread_local objects of C++, keys
 * that arm themselves four times, keys made before ours and after, in joined and in
 * detached threads. All of it is counted.
 *
 * expect: delta.calls.malloc == 16 * (3 + 5 * 11 + 2 * 4 * 23)
 * expect: delta.calls.free >= 16 * (3 + 5 * 11 + 2 * 4 * 23)
 * expect: delta.calls.realloc == 16 * 5
 * expect: delta.totals.live_blocks <= 0
 * expect: sum(1 for r in dumps[1].threads if r.running and r.tid) == 1
 */
#include "scene.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

enum { THREADS = 16, OBJECTS = 5, ROUNDS = 4 };

/* What a C++ compiler calls for a thread_local object with a destructor. */
extern int __cxa_thread_atexit_impl(
    void (*destroy)(void *), void *object, void *library);
extern void *__dso_handle;

static pthread_key_t early, late;
static pthread_barrier_t barrier;
static _Thread_local unsigned rounds[2];
static _Atomic unsigned over;

static void destroy_object(void *object)
{
    void *block[10];
    for (unsigned i = 0; i < 10; i++) MUST((block[i] = malloc(61 + 1000 * i)));
    for (unsigned i = 0; i < 10; i++) free(block[i]);
    MUST((object = realloc(object, 200001)));
    free(object);
}

static void churn(unsigned which, pthread_key_t key, void *value)
{
    for (unsigned i = 0; i < 23; i++) free(malloc(67 + i * 9001));
    if (++rounds[which] < ROUNDS)
        pthread_setspecific(key, value);
    else
        atomic_fetch_add(&over, 1);
}

static void destroy_early(void *value)
{
    churn(0, early, value);
}

static void destroy_late(void *value)
{
    churn(1, late, value);
}

static void *work(void *argument)
{
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < 3; i++) free(malloc(173));
    for (unsigned i = 0; i < OBJECTS; i++)
        MUST(!__cxa_thread_atexit_impl(destroy_object, malloc(99), &__dso_handle));
    pthread_setspecific(early, argument);
    pthread_setspecific(late, argument);
    return NULL;
}

/* Its keys are the lowest: this runs before the library makes its own, or right after. */
static __attribute__((constructor)) void make_key(void)
{
    pthread_key_create(&early, destroy_early);
}

int main(void)
{
    pthread_t thread[THREADS];
    pthread_attr_t attributes;
    pthread_key_create(&late, destroy_late);
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(
            &attributes, i % 2 ? PTHREAD_CREATE_DETACHED : PTHREAD_CREATE_JOINABLE);
        MUST(!pthread_create(&thread[i], &attributes, work, &barrier));
    }
    pthread_barrier_wait(&barrier);
    dump_now();
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < THREADS; i += 2) MUST(!pthread_join(thread[i], NULL));
    // A detached thread is gone when the kernel says so, a bit after its destructors.
    while (atomic_load(&over) < 2 * THREADS) usleep(1000);
    for (unsigned i = 0; i < 10000; i++) {
        char text[512];
        int threads = 0, file = open("/proc/self/stat", O_RDONLY);
        ssize_t n = read(file, text, sizeof text - 1);
        MUST(n > 0 && close(file) == 0);
        text[n] = '\0';
        char *at = strrchr(text, ')');
        for (unsigned field = 2; at && field < 20; field++) at = strchr(at + 1, ' ');
        MUST(at && (threads = atoi(at)) > 0);
        if (threads == 1) break;
        usleep(1000);
    }
    dump_now();
    return 0;
}
