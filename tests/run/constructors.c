/* SPDX-License-Identifier: MIT */
/*
 * constructors.c - constructors and destructors allocate; the exit dump saw both.
 *
 * expect: first.calls.calloc - last.calls.calloc == -101
 * expect: first.calls.valloc == 13
 * expect: last.calls.free - first.calls.free == 499 + 101 + 7
 * expect: last.calls.malloc - first.calls.malloc == 7
 */
#include "scene.h"

static void *kept[499];

__attribute__((constructor(101))) static void early(void)
{
    for (unsigned i = 0; i < 13; i++) MUST(valloc(17));
}

__attribute__((constructor)) static void start(void)
{
    for (unsigned i = 0; i < 499; i++) MUST((kept[i] = malloc(173)));
}

__attribute__((destructor)) static void end(void)
{
    for (unsigned i = 0; i < 499; i++) free(kept[i]);
    for (unsigned i = 0; i < 101; i++) free(calloc(3, 11));
}

static void at_exit(void)
{
    for (unsigned i = 0; i < 7; i++) free(malloc(1009));
}

int main(void)
{
    MUST(!atexit(at_exit));
    dump_now();
    return 0;
}
