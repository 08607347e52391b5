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

/* glibc's free under its other name, which nobody interposes. */
extern void __libc_free(void *p);

void tp_host_foreign_free(void *p)
{
    __libc_free(p);
}

size_t tp_host_foreign_bytes(const void *p)
{
    // Rare enough for a look-up; glibc has no other name for it.
    size_t (*usable)(const void *) =
        (size_t(*)(const void *))dlsym(RTLD_NEXT, "malloc_usable_size");
    return usable ? usable(p) : 0;
}
