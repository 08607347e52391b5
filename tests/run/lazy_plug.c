/* SPDX-License-Identifier: MIT */
/*
 * lazy_plug.c - a plugin that chooses a function when it is first called, and allocates
 * while it does: below the loader's way from a PLT entry to the function.
 */
#include <stdlib.h>

enum { CHOICES = 17 };

typedef void *take_function(size_t size);
void *lazy_take(size_t size) __attribute__((ifunc("choose")));
void *lazy_work(size_t size);

static void *kept[CHOICES];

__attribute__((noinline)) static void *take_plainly(size_t size)
{
    void *p = malloc(size);
    __asm__ volatile("" : "+r"(p));
    return p;
}

__attribute__((used)) static take_function *choose(void)
{
    for (unsigned i = 0; i < CHOICES; i++) kept[i] = malloc(64);
    return take_plainly;
}

__attribute__((noinline)) void *lazy_work(size_t size)
{
    void *p = lazy_take(size);
    __asm__ volatile("" : "+r"(p));
    return p;
}
