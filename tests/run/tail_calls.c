/* SPDX-License-Identifier: MIT */
/*
 * tail_calls.c - functions that leave no frame, and calls that nothing follows.
 *
 * `jumps` and `hands_on` go on by a jump: their caller is the next frame, and nothing
 * stands in their place. `ends_with_call` is left by a function that never returns: the
 * return address is the first byte of whatever function comes next, which is another
 * one's, with another frame. Built with -O2, functions packed without a gap.
 *
 * plain: no
 * case: auto
 * options: sample=all
 * expect: stacks(last) == {('take_one', 'calls', 'main'): 31, ('calls_malloc', 'main'): 37,
 *         ('leaves', 'ends_with_call', 'main'): 41}
 * expect: last.sampling.stacks_failed == 0
 * case: dwarf
 * options: sample=all,unwind=dwarf
 * expect: stacks(last) == {('take_one', 'calls', 'main'): 31, ('calls_malloc', 'main'): 37,
 *         ('leaves', 'ends_with_call', 'main'): 41}
 * case: sampled
 * options: sample=1
 * expect: set(stacks(last)) == {('take_one', 'calls', 'main'), ('calls_malloc', 'main'),
 *         ('leaves', 'ends_with_call', 'main')}
 */
#include "scene.h"

#include <setjmp.h>

static jmp_buf back;
static void *kept;

SITE static void *take_one(size_t size)
{
    void *p = malloc(size);
    STAYS(p);
    return p;
}

SITE static void *jumps(size_t size)
{
    return take_one(size + 1);
}

SITE static void *hands_on(size_t size)
{
    return malloc(size + 3);
}

SITE static void *calls(size_t size)
{
    void *p = jumps(size);
    STAYS(p);
    return p;
}

SITE static void *calls_malloc(size_t size)
{
    void *p = hands_on(size);
    STAYS(p);
    return p;
}

SITE static _Noreturn void leaves(void)
{
    kept = malloc(40);
    longjmp(back, 1);
}

SITE static void ends_with_call(void)
{
    leaves();
}

/* Another frame than the one before: were its rules taken, nothing would be right. */
SITE static void *comes_next(unsigned n)
{
    volatile char large[5000];
    for (unsigned i = 0; i < n; i++) large[i] = (char)n;
    void *p = n ? (void *)(uintptr_t)large[n / 2] : NULL;
    STAYS(p);
    return p;
}

int main(void)
{
    for (unsigned i = 0; i < 31; i++) MUST(calls(i));
    for (unsigned i = 0; i < 37; i++) MUST(calls_malloc(i));
    for (volatile unsigned i = 0; i < 41; i++)
        if (!setjmp(back)) ends_with_call();
    return comes_next(0) != NULL;
}
