/* SPDX-License-Identifier: MIT */
/*
 * small_stack.c - every path fits on the smallest stacks: threads of 16 KiB, and a
 * signal stack of 8 KiB on which a handler allocates and the dump is made.
 *
 * expect: delta.calls.malloc == 8 * 499
 * expect: [r.dump.reason for r in dumps] == ['signal'] * (2 + 8 + 1) + ['exit']
 */
#include "scene.h"

#include <limits.h>
#include <pthread.h>

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
    dump_now();
    run_threads(stack);
    MUST(!sigaltstack(&(stack_t){ .ss_sp = stack, .ss_size = sizeof stack }, NULL));
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
    MUST(!sigaction(SIGUSR1, &action, NULL));
    dump_now();
    return 0;
}
