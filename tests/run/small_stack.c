/* SPDX-License-Identifier: MIT */
/*
 * small_stack.c - every path fits on the smallest stacks: threads and coroutines of
 * 16 KiB, and a signal stack of 8 KiB on which a handler allocates and the dump is made.
 *
 * expect: delta.calls.malloc == 9 * 499
 * expect: [r.dump.reason for r in dumps] == ['signal'] * (2 + 8 + 1) + ['exit']
 */
#include "scene.h"

#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>

static void *work(void *again)
{
    void *block[99];
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < 99; i++) MUST((block[i] = malloc(i * 4099)));
        for (unsigned i = 0; i < 99; i++) free(block[i]);
        if (round) free(malloc(7));
    }
    if (again) dump_now();
    return NULL;
}

static void run_threads(void *again)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    MUST(!pthread_attr_setstacksize(&attributes, (size_t)PTHREAD_STACK_MIN));
    for (unsigned i = 0; i < 8; i++) {
        pthread_t thread;
        MUST(!pthread_create(&thread, &attributes, work, again));
        pthread_join(thread, NULL);
    }
}

/* The coroutine's stack ends at a page that nobody may touch, on either side. */
enum { COROUTINE = 16 * 1024, GUARD = 64 * 1024 };
static ucontext_t outside, coroutine;

static void be_coroutine(void)
{
    work(NULL);
    MUST(!swapcontext(&coroutine, &outside));
    free(malloc(11));
}

static char *start_coroutine(void)
{
    char *place = mmap(
        NULL, COROUTINE + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(place != MAP_FAILED);
    MUST(!mprotect(place + GUARD, COROUTINE, PROT_READ | PROT_WRITE));
    MUST(!getcontext(&coroutine));
    coroutine.uc_stack.ss_sp = place + GUARD;
    coroutine.uc_stack.ss_size = COROUTINE;
    coroutine.uc_link = &outside;
    makecontext(&coroutine, be_coroutine, 0);
    MUST(!swapcontext(&outside, &coroutine));
    return place;
}

static void on_signal(int number_)
{
    void *block[31];
    for (unsigned i = 0; i < 31; i++) block[i] = malloc((size_t)number_ * i * 1009);
    for (unsigned i = 0; i < 31; i++) free(block[i]);
}

int main(void)
{
    static char stack[8192];
    dump_now();
    run_threads(NULL);
    char *place = start_coroutine();
    dump_now();
    MUST(!swapcontext(&outside, &coroutine));
    MUST(!munmap(place, COROUTINE + 2 * GUARD));
    run_threads(stack);
    MUST(!sigaltstack(&(stack_t){ .ss_sp = stack, .ss_size = sizeof stack }, NULL));
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
    MUST(!sigaction(SIGUSR1, &action, NULL));
    MUST(!sigaction(SIGUSR2, &action, NULL));
    MUST(!raise(SIGUSR2));
    dump_now();
    return 0;
}
