/* SPDX-License-Identifier: MIT */
/*
 * fork_loop.c - forks one after another while 32 threads allocate.
 *
 * Half of the threads hold stdio's locks while they want memory: whoever takes locks
 * before a fork in another order than they do waits for ever, which the alarm turns
 * into a failure. Each child works with the heap that it got in the middle of
 * everything, and leaves by another door. The parent's account knows of none of it.
 * SCENE_FORKS in the environment says how many, if not 200.
 *
 * options: exit=off
 * expect: said.forks >= 200
 * expect: delta.calls.malloc == said.mallocs and delta.calls.free == said.frees
 * expect: delta.totals.live_blocks == 0
 */
#include "scene.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { THREADS = 32, BLOCKS = 20 };

static _Atomic bool over;
static _Atomic number mallocs, frees;
static pthread_barrier_t all_there;
static FILE *sink[THREADS];

static void *work(void *argument)
{
    size_t self = (size_t)(uintptr_t)argument;
    uint64_t state = self + 1;
    number taken = 0, given = 0;
    pthread_barrier_wait(&all_there);
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        void *block[BLOCKS];
        bool writes = self % 2;
        if (writes) flockfile(sink[self]);
        for (unsigned i = 0; i < BLOCKS; i++)
            MUST((block[i] = malloc(1 + draw(&state) % (i ? 3000 : 200000))));
        for (unsigned i = 0; i < BLOCKS; i++) free(block[i]);
        if (writes) funlockfile(sink[self]);
        taken += BLOCKS;
        given += BLOCKS;
        if (draw(&state) % 64 == 0) sched_yield();
    }
    mallocs += taken;
    frees += given;
    pthread_barrier_wait(&all_there);
    return NULL;
}

static _Noreturn void child(unsigned n)
{
    void *block[400];
    uint64_t state = n + 1;
    alarm(60);
    for (unsigned i = 0; i < 400; i++)
        MUST((block[i] = malloc(draw(&state) % (i % 50 ? 3000 : 300000))));
    for (unsigned i = 0; i < 400; i++) free(block[i]);
    switch (n % 4) {
    case 0:
        exit(3);
    case 1:
        quick_exit(3);
    case 2:
        kill(getpid(), SIGKILL);
        break;
    default:
        break;
    }
    _exit(3);
}

int main(void)
{
    pthread_t thread[THREADS];
    const char *wish = getenv("SCENE_FORKS");
    unsigned forks = wish ? (unsigned)atoi(wish) : 200;
    alarm(60 + forks / 20);
    pthread_barrier_init(&all_there, NULL, THREADS + 1);
    for (size_t i = 0; i < THREADS; i++) MUST((sink[i] = fopen("/dev/null", "w")));
    for (size_t i = 0; i < THREADS; i++)
        MUST(!pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)i));
    dump_now();
    pthread_barrier_wait(&all_there);
    for (unsigned n = 0; n < forks; n++) {
        int status = 0;
        pid_t pid = fork();
        if (pid == 0) child(n);
        MUST(pid > 0 && waitpid(pid, &status, 0) == pid);
        MUST(
            WIFEXITED(status) ? WEXITSTATUS(status) == 3 : WTERMSIG(status) == SIGKILL);
    }
    atomic_store(&over, true);
    pthread_barrier_wait(&all_there);
    dump_now();
    for (size_t i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    say("forks", forks);
    say("mallocs", mallocs);
    say("frees", frees);
    return 0;
}
