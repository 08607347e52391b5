/* SPDX-License-Identifier: MIT */
/*
 * foreign.c - pointers that are not ours, passed on to the C library's own malloc.
 *
 * They come from libraries that were linked past us (RTLD_DEEPBIND, dlmopen) and from
 * the loader's first allocations; nonsense comes too. glibc knows its own blocks and
 * stops the program on the rest, which is what would have happened without us.
 */
#include "pool/host.h"

#include <dlfcn.h>

/* glibc's malloc under its other names; not interposed by anyone. */
extern void __libc_free(void *p);
extern void *__libc_realloc(void *p, size_t size);

void tp_host_foreign_free(void *p)
{
    __libc_free(p);
}

void *tp_host_foreign_realloc(void *p, size_t size)
{
    return __libc_realloc(p, size);
}

size_t tp_host_foreign_bytes(const void *p)
{
    // Rare enough for a look-up; glibc has no other name for it.
    size_t (*usable)(const void *) =
        (size_t(*)(const void *))dlsym(RTLD_NEXT, "malloc_usable_size");
    return usable ? usable(p) : 0;
}
