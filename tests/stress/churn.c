/* SPDX-License-Identifier: MIT */
/*
 * churn.c SECONDS SEED - random calls of every kind from threads that come and go.
 *
 * A block lies in one of many shared boxes or with one thread; whoever draws a box
 * takes what is in it and puts something else there. Each block is sealed (size,
 * address, and its bytes at both ends) and checked before it is resized or freed. A
 * wrong seal is a block that was handed out twice, or spoiled.
 */
#include "tests/run/scene.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { WORKERS = 6, BOXES = 997, STEPS = 20000 };

struct seal {
    size_t size;
    uintptr_t word;
};

static _Atomic(struct seal *) box[BOXES];
static _Atomic uint64_t seeds;
static time_t end;

static struct seal *sealed(void *block, size_t size)
{
    struct seal *seal = block;
    if (!block) return NULL;  // no memory is an answer too
    seal->size = size;
    seal->word = (uintptr_t)block ^ (size * 0x9e3779b97f4a7c15U);
    ((unsigned char *)block)[size - 1] = (unsigned char)(seal->word >> 8);
    return seal;
}

static void check(const struct seal *seal, uintptr_t address)
{
    MUST(seal->word == (address ^ (seal->size * 0x9e3779b97f4a7c15U)));
    if (seal->size > sizeof *seal)
        MUST(((const unsigned char *)seal)[seal->size - 1] ==
            (unsigned char)(seal->word >> 8));
}

static size_t some_size(uint64_t *state)
{
    size_t bits = 5 + draw(state) % (draw(state) % 50 ? 9 : 17);
    return sizeof(struct seal) + 1 + draw(state) % ((size_t)1 << bits);
}

static struct seal *fresh(uint64_t *state)
{
    size_t size = some_size(state), alignment = (size_t)16 << draw(state) % 9;
    void *block = NULL;
    switch (draw(state) % 8) {
    case 0:
        block = calloc(1, size);
        break;
    case 1:
        block = memalign(alignment, size);
        break;
    case 2:
        block = aligned_alloc(alignment, size);
        break;
    case 3:
        block = posix_memalign(&block, alignment, size) ? NULL : block;
        break;
    case 4:
        block = realloc(NULL, size);
        break;
    default:
        block = malloc(size);
    }
    MUST((uintptr_t)block % 16 == 0);
    return sealed(block, size);
}

static void step(uint64_t *state)
{
    unsigned i = (unsigned)(draw(state) % BOXES);
    struct seal *seal = atomic_exchange(&box[i], NULL);
    if (!seal) {
        seal = fresh(state);
    } else {
        check(seal, (uintptr_t)seal);
        if (draw(state) % 3 == 0) {
            size_t size = some_size(state), old = seal->size;
            uintptr_t address = (uintptr_t)seal;
            struct seal *moved = realloc(seal, size);
            if (moved) {
                if (size >= old) check(moved, address);
                seal = sealed(moved, size);
            }
        } else {
            free(seal);
            seal = NULL;
        }
    }
    seal = atomic_exchange(&box[i], seal);
    if (!seal) return;
    check(seal, (uintptr_t)seal);
    free(seal);
}

static void *work(void *unused)
{
    uint64_t state = atomic_fetch_add(&seeds, 1) * 7919 + 1;
    (void)unused;
    for (unsigned n = 0; n < STEPS; n++) step(&state);
    if (draw(&state) % 8 == 0) malloc_trim(0);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[WORKERS];
    number rounds = 0;
    end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 5);
    atomic_store(&seeds, argc > 2 ? strtoull(argv[2], NULL, 10) * 1000003 : 1);
    do {
        for (unsigned i = 0; i < WORKERS; i++)
            MUST(!pthread_create(&threads[i], NULL, work, NULL));
        for (unsigned i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
        rounds++;
    } while (time(NULL) < end);
    for (unsigned i = 0; i < BOXES; i++) free(atomic_load(&box[i]));
    say("steps", rounds * WORKERS * STEPS);
    return 0;
}
