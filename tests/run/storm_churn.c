/* SPDX-License-Identifier: MIT */
/*
 * storm_churn.c SECONDS - eight threads churn and hand blocks to each other.
 *
 * Every block carries a word derived from its size and address, checked before it is
 * freed; the sum of all checks must be the number of blocks. Prints "right" and ends
 * with 0 when no block was ever spoiled. Used by storm.py.
 */
#include "scene.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { THREADS = 8, SLOTS = 211, MAILBOXES = 64 };

struct parcel {
    size_t size;
    uintptr_t seal;
};

static _Atomic(struct parcel *) mailbox[MAILBOXES];
static _Atomic bool over;
static _Atomic unsigned long long made, checked;

static uintptr_t seal_of(const struct parcel *parcel)
{
    return (uintptr_t)parcel ^ parcel->size * 0x9e3779b97f4a7c15U;
}

static void finish(struct parcel *parcel)
{
    if (!parcel) return;
    MUST(parcel->seal == seal_of(parcel));
    MUST(((unsigned char *)parcel)[parcel->size - 1] == (unsigned char)parcel->size);
    free(parcel);
    atomic_fetch_add_explicit(&checked, 1, memory_order_relaxed);
}

static struct parcel *start(size_t size)
{
    struct parcel *parcel = size % 7 ? malloc(size) : memalign(64, size);
    MUST(parcel);
    parcel->size = size;
    parcel->seal = seal_of(parcel);
    ((unsigned char *)parcel)[size - 1] = (unsigned char)size;
    atomic_fetch_add_explicit(&made, 1, memory_order_relaxed);
    return parcel;
}

static void *work(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument * 7919 + 1;
    struct parcel *slot[SLOTS] = { 0 };
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        for (unsigned n = 0; n < 1000; n++) {
            uint64_t dice = draw(&state);
            unsigned i = (unsigned)(dice % SLOTS);
            size_t scale = dice >> 20 & 255 ? 2000 : 300000;
            finish(slot[i]);
            slot[i] = start(sizeof **slot + 1 + (size_t)(dice >> 32) % scale);
            if (dice >> 12 & 3) continue;
            slot[i] = atomic_exchange(&mailbox[dice >> 16 & (MAILBOXES - 1)], slot[i]);
        }
    }
    for (unsigned i = 0; i < SLOTS; i++) finish(slot[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    struct timespec start_time, now;
    clock_gettime(CLOCK_MONOTONIC, &start_time);
    for (uintptr_t i = 0; i < THREADS; i++)
        MUST(!pthread_create(&threads[i], NULL, work, (void *)(i + 1)));
    put_text(STDOUT_FILENO, "started\n");
    do {
        struct timespec pause = { .tv_nsec = 10000000 };
        nanosleep(&pause, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - start_time.tv_sec) +
            (double)(now.tv_nsec - start_time.tv_nsec) * 1e-9 <
        seconds);
    atomic_store(&over, true);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < MAILBOXES; i++) finish(atomic_load(&mailbox[i]));
    MUST(made == checked);
    put_text(STDOUT_FILENO, "right\n");
    return 0;
}
