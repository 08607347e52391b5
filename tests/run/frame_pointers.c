/* SPDX-License-Identifier: MIT */
/*
 * frame_pointers.c - four builds of one program, and three ways to walk it.
 *
 *   frame_pointers          frame pointers and unwind information
 *   frame_pointers_only     frame pointers, no unwind information
 *   frame_pointers_none     unwind information; the register is one like any other
 *   frame_pointers_neither  none of both, and nobody can walk it
 *
 * Where a way can be gone, every call path is there with its exact count. Where it
 * cannot, the innermost frame is, the stack ends there for a reason that is counted, and
 * nothing is read of what the register happens to hold: `over` puts into it what looks
 * like a frame and is none.
 *
 * plain: no
 * let: paths = {('leak',) + ('through',) * 4 + ('left', 'main'): 101,
 *         ('leak',) + ('through',) * 6 + ('right', 'main'): 211}
 * case: fp
 * options: sample=all,unwind=fp
 * expect: stacks(last) == paths
 * case: auto
 * options: sample=all
 * expect: stacks(last) == paths
 * expect: last.sampling.stacks_failed == 0
 * case: dwarf
 * options: sample=all,unwind=dwarf
 * expect: stacks(last) == paths
 * expect: last.sampling.stacks_failed == 0
 * case: fp_sampled
 * options: sample=1,unwind=fp
 * expect: set(stacks(last)) == set(paths)
 *
 * case: only_fp
 * program: frame_pointers_only
 * options: sample=all,unwind=fp
 * expect: stacks(last) == paths
 * case: only_auto
 * program: frame_pointers_only
 * options: sample=all
 * expect: stacks(last) == paths
 * expect: last.sampling.stacks_failed == 0
 * case: only_dwarf
 * program: frame_pointers_only
 * options: sample=all,unwind=dwarf
 * expect: stacks(last) == {('leak',): 312}
 * expect: last.sampling.stack_ends.no_rule == 312
 *
 * case: none_fp
 * program: frame_pointers_none
 * options: sample=all,unwind=fp
 * expect: innermost(stacks(last)) == {'leak': 312, 'over': said.over}
 * expect: last.sampling.stacks_failed >= 312 + said.over
 * case: none_fp_sampled
 * program: frame_pointers_none
 * options: sample=1,unwind=fp
 * expect: set(innermost(stacks(last))) == {'leak', 'over'}
 * case: none_auto
 * program: frame_pointers_none
 * options: sample=all
 * expect: stacks(last) == paths | {('over', 'run_over', 'main'): said.over}
 * expect: last.sampling.stacks_failed == 0
 * case: none_dwarf
 * program: frame_pointers_none
 * options: sample=all,unwind=dwarf
 * expect: stacks(last) == paths | {('over', 'run_over', 'main'): said.over}
 * expect: last.sampling.stacks_failed == 0
 *
 * case: neither_auto
 * program: frame_pointers_neither
 * options: sample=all
 * expect: innermost(stacks(last)) == {'leak': 312, 'over': said.over}
 * expect: last.sampling.stacks_failed >= 312 + said.over
 * case: neither_sampled
 * program: frame_pointers_neither
 * options: sample=1
 * expect: set(innermost(stacks(last))) == {'leak', 'over'}
 * case: neither_dwarf
 * program: frame_pointers_neither
 * options: sample=all,unwind=dwarf
 * expect: stacks(last) == {('leak',): 312, ('over',): said.over}
 * expect: last.sampling.stack_ends.no_rule == 312 + said.over
 */
#include "scene.h"

#include <sys/mman.h>

static void *block;

SITE static void *leak(size_t size)
{
    void *p = malloc(size);
    STAYS(p);
    return p;
}

SITE static void *through(unsigned depth)
{
    void *p = depth ? through(depth - 1) : leak(48);
    STAYS(p);
    return p;
}

SITE static void *left(void)
{
    void *p = through(3);
    STAYS(p);
    return p;
}

SITE static void *right(void)
{
    void *p = through(5);
    STAYS(p);
    return p;
}

#if defined(NO_FRAME_POINTER)
#if defined(__aarch64__)
#define FRAME_POINTER "x29"
#else
#define FRAME_POINTER "rbp"
#endif

/* A block, with `value` where a frame pointer would be. */
SITE static void *over(uintptr_t value)
{
    register uintptr_t held __asm__(FRAME_POINTER) = value;
    __asm__ volatile("" : "+r"(held));
    void *p = malloc(32);
    __asm__ volatile("" : "+r"(held), "+r"(p));
    return p;
}

SITE static void run_over(void)
{
    uintptr_t frame[4] = { 0 }, page = (uintptr_t)sysconf(_SC_PAGESIZE);
    char *away = mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(away != MAP_FAILED);
    frame[0] = (uintptr_t)&frame[0];  // its own caller, as far as that word goes
    frame[1] = 16;
    frame[2] = (uintptr_t)&frame[0];  // back to one further in
    frame[3] = (uintptr_t)away;
    uintptr_t values[] = { 1, 7, 8, page, (uintptr_t)&frame[0], (uintptr_t)&frame[2],
        (uintptr_t)&frame[1] + 1, (uintptr_t)away, (uintptr_t)away + page - 8,
        (uintptr_t)block, (uintptr_t)block + 4, (uintptr_t)1 << 63, (uintptr_t)1 << 47,
        UINTPTR_MAX & ~(uintptr_t)7, UINTPTR_MAX - 4, (uintptr_t)run_over };
    number n = sizeof values / sizeof values[0];
    for (number i = 0; i < n; i++) MUST(over(values[i]));
    say("over", n);
}
#else
SITE static void run_over(void)
{
}
#endif

int main(void)
{
    for (unsigned i = 0; i < 101; i++) MUST((block = left()));
    for (unsigned i = 0; i < 211; i++) MUST(right());
    run_over();
    return 0;
}
