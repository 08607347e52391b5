/* SPDX-License-Identifier: MIT */
/*
 * stack_frames.c - frames whose size is not a constant, or is too large for one.
 *
 * Of alloca and arrays of variable length the frame pointer knows where they end; a
 * frame that is realigned keeps where its caller's begins in memory; 1 MiB does not fit
 * in a row of the table; all of them on top of each other, on the main thread's stack and
 * on another's.
 *
 * plain: no
 * let: tower = ('take_one', 'with_array', 'realigned_by_much', 'with_alloca', 'huge', 'with_alloca',
 *         'realigned', 'start')
 * case: auto
 * options: sample=all
 * expect: stacks(last) == {tower + ('main',): 53, tower + ('in_thread',): 59}
 * expect: last.sampling.stacks_failed == 0
 * case: dwarf
 * options: sample=all,unwind=dwarf
 * expect: stacks(last) == {tower + ('main',): 53, tower + ('in_thread',): 59}
 * case: sampled
 * options: sample=1
 * expect: set(stacks(last)) == {tower + ('main',), tower + ('in_thread',)}
 * expect: last.sampling.stacks_failed == 0
 */
#include "scene.h"

#include <alloca.h>
#include <pthread.h>

static volatile unsigned n = 3;  // unknown to the compiler
static void *kept;

SITE static void take_one(void)
{
    kept = malloc(48);
    STAYS(kept);
}

SITE static void with_array(unsigned size)
{
    volatile char array[size * 100 + 1];
    array[size] = 1;
    take_one();
    array[0] = array[size];
}

SITE static void realigned_by_much(unsigned size)
{
    _Alignas(4096) volatile char here[64];
    here[size] = (char)size;
    MUST((uintptr_t)here % 4096 == 0);
    with_array(size);
    here[0] = here[size];
}

SITE static void huge(unsigned size);

SITE static void with_alloca(unsigned size, bool first)
{
    volatile char *here = alloca(size * 1000 + 1);
    here[size] = 1;
    if (first)
        huge(size);
    else
        realigned_by_much(size);
    here[0] = here[size];
}

/* Realigned and of variable size: its caller's frame is known by a word in memory. */
SITE static void realigned(unsigned size)
{
    _Alignas(64) volatile char here[64];
    volatile char *more = alloca(size * 10 + 1);
    here[size] = more[size] = 1;
    with_alloca(size, true);
    here[0] = (char)(here[size] + more[size]);
    MUST((uintptr_t)here % 64 == 0);
}

/* More than the offset of a row in the table can be. */
SITE static void huge(unsigned size)
{
    volatile char here[1 << 20];
    here[size] = 1;
    with_alloca(size, false);
    here[0] = here[size];
}

SITE static void start(void)
{
    realigned(n);
    STAYS(kept);
}

static void *in_thread(void *argument)
{
    for (unsigned i = 0; i < 59; i++) start();
    return argument;
}

int main(void)
{
    pthread_t thread;
    for (unsigned i = 0; i < 53; i++) start();
    MUST(!pthread_create(&thread, NULL, in_thread, NULL));
    MUST(!pthread_join(thread, NULL));
    return 0;
}
