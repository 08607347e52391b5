/* SPDX-License-Identifier: MIT */
/*
 * crowd.c SECONDS SEED - crowds of threads come and go, thousands at a time, and leave
 * blocks to later ones: heaps are given up while their blocks live, and begun again.
 *
 * A block is sealed with its size and address; whoever draws its box checks the seal.
 * A lone reader asks for sums meanwhile, which must never show more bytes freed than
 * taken beyond what is under way.
 */
#include "tests/run/scene.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

enum { BOXES = 9973, MOST = 3000, STACK = 32 * 1024, HUGE_SUM = 1 << 30 };

static _Atomic(uint64_t *) box[BOXES];
static _Atomic uint64_t seeds;
static _Atomic bool over;
static pthread_barrier_t barrier;
static pthread_t thread[MOST];

static uint64_t *sealed(uint64_t *block, size_t size)
{
    MUST(block);
    block[0] = size;
    block[1] = (uintptr_t)block ^ size;
    ((unsigned char *)block)[size - 1] = (unsigned char)size;
    return block;
}

static void checked_free(uint64_t *block)
{
    if (!block) return;
    size_t size = block[0];
    MUST(block[1] == ((uintptr_t)block ^ size));
    MUST(((unsigned char *)block)[size - 1] == (unsigned char)size);
    free(block);
}

static void *work(void *wait)
{
    uint64_t state = atomic_fetch_add(&seeds, 2);
    unsigned n = 1 + (unsigned)(draw(&state) % 40);
    for (unsigned i = 0; i < n; i++) {
        size_t size = 17 + draw(&state) % (draw(&state) % 50 ? 1500 : 200000);
        uint64_t *block = sealed(malloc(size), size);
        checked_free(atomic_exchange(&box[draw(&state) % BOXES], block));
    }
    if (wait) pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < n / 2; i++)
        checked_free(atomic_exchange(&box[draw(&state) % BOXES], NULL));
    return NULL;
}

static void *ask(void *unused)
{
    while (!atomic_load(&over)) {
        struct timespec pause = { .tv_nsec = 200 * 1000 };
        struct mallinfo2 info = mallinfo2();
        MUST(info.uordblks < HUGE_SUM || info.uordblks > (size_t)-HUGE_SUM);
        nanosleep(&pause, NULL);
    }
    return unused;
}

int main(int argc, char **argv)
{
    pthread_attr_t attributes;
    pthread_t asker;
    uint64_t state = argc > 2 ? strtoull(argv[2], NULL, 10) * 2 + 1 : 1;
    time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 5);
    number threads = 0;
    char *stacks = mmap(NULL, (size_t)MOST * STACK, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MUST(stacks != MAP_FAILED);
    atomic_store(&seeds, state);
    pthread_attr_init(&attributes);
    MUST(!pthread_create(&asker, NULL, ask, NULL));
    do {
        unsigned n = 1 + (unsigned)(draw(&state) % (draw(&state) % 2 ? 50 : MOST));
        bool together = draw(&state) % 3;
        pthread_barrier_init(&barrier, NULL, n);
        for (unsigned i = 0; i < n; i++) {
            pthread_attr_setstack(&attributes, stacks + (size_t)i * STACK, STACK);
            MUST(!pthread_create(
                &thread[i], &attributes, work, together ? &barrier : NULL));
        }
        for (unsigned i = 0; i < n; i++) pthread_join(thread[i], NULL);
        pthread_barrier_destroy(&barrier);
        threads += n;
        if (draw(&state) % 4 == 0) dump_now();
    } while (time(NULL) < end);
    atomic_store(&over, true);
    pthread_join(asker, NULL);
    for (unsigned i = 0; i < BOXES; i++) checked_free(atomic_load(&box[i]));
    say("threads", threads);
    return 0;
}
