/* SPDX-License-Identifier: MIT */
/*
 * sized_free.c - cfree, free_sized and free_aligned_sized free as free does.
 *
 * They are found with dlsym: no header of glibc 2.36 declares them, and without
 * the library they are not there (then there is nothing to check).
 *
 * expect: delta.totals.allocations == 23
 * expect: delta.totals.frees == 23
 * expect: delta.calls.free == 23
 */
#include "scene.h"

#include <dlfcn.h>

typedef void (*cfree_function)(void *);
typedef void (*free_sized_function)(void *, size_t);
typedef void (*free_aligned_sized_function)(void *, size_t, size_t);

int main(void)
{
    cfree_function old = (cfree_function)dlsym(RTLD_DEFAULT, "cfree");
    free_sized_function sized = (free_sized_function)dlsym(RTLD_DEFAULT, "free_sized");
    free_aligned_sized_function aligned =
        (free_aligned_sized_function)dlsym(RTLD_DEFAULT, "free_aligned_sized");
    if (!sized) return *getenv("SCENE_PLAIN") == 0;
    MUST(old && aligned);
    errno = 31;
    dump_now();
    for (size_t i = 0; i < 7; i++) old(malloc(100 + i * 9001));
    for (size_t i = 0; i < 11; i++) sized(malloc(100 + i * 19001), 100 + i * 19001);
    for (size_t i = 0; i < 5; i++) aligned(aligned_alloc(256, 100 + i), 256, 100 + i);
    old(NULL);
    sized(NULL, 0);
    aligned(NULL, 64, 0);
    dump_now();
    MUST(errno == 31);
    return 0;
}
