/* SPDX-License-Identifier: MIT */
/*
 * signal_storm.c SECONDS SEED - the dump signal hits every thread at any moment.
 *
 * Workers allocate, resize and free; the main thread sends SIGUSR1 to one of them, as
 * fast as it can, so that dumps begin inside every path of the allocator. A handler
 * of the program's own runs too. Under glibc alone only that handler runs.
 */
#include "tests/run/scene.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { WORKERS = 6, SLOTS = 499 };

static _Atomic bool over;
static _Atomic number handled;

static void on_signal(int number_)
{
    (void)number_;
    atomic_fetch_add(&handled, 1);
}

static void *work(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument;
    unsigned char *slot[SLOTS] = { 0 };
    while (!atomic_load(&over)) {
        unsigned i = (unsigned)(draw(&state) % SLOTS);
        size_t size = 1 + draw(&state) % (draw(&state) % 99 ? 2000 : 500000);
        MUST(!slot[i] || slot[i][0] == (unsigned char)i);
        if (draw(&state) % 3) {
            free(slot[i]);
            slot[i] = draw(&state) % 4 ? malloc(size) : calloc(1, size);
        } else {
            slot[i] = realloc(slot[i], size);
        }
        MUST(slot[i]);
        slot[i][0] = (unsigned char)i;
    }
    for (unsigned i = 0; i < SLOTS; i++) free(slot[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[WORKERS];
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    uint64_t state = argc > 2 ? strtoull(argv[2], NULL, 10) * 2 + 1 : 1;
    number sent = 0;
    time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 5);
    MUST(!sigaction(SIGUSR1, &action, NULL));
    for (uintptr_t i = 0; i < WORKERS; i++)
        MUST(!pthread_create(&threads[i], NULL, work, (void *)(i + state)));
    do {
        struct timespec pause = { .tv_nsec = (long)(draw(&state) % 5000000) };
        pthread_kill(threads[draw(&state) % WORKERS], SIGUSR1);
        nanosleep(&pause, NULL);
        sent++;
    } while (time(NULL) < end);
    atomic_store(&over, true);
    for (unsigned i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
    MUST(handled > 0 && handled <= sent);
    say("signals", sent);
    return 0;
}
