/* SPDX-License-Identifier: MIT */
/*
 * tenant.c - one of two libraries that are alike but for a name: what one is loaded
 * where the other was, every function stands where the other's stood.
 */
#include <stdlib.h>

void *TENANT(size_t size);

__attribute__((noinline)) void *TENANT(size_t size)
{
    void *p = malloc(size);
    __asm__ volatile("" : "+r"(p));
    return p;
}
