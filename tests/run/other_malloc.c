/* SPDX-License-Identifier: MIT */
/*
 * other_malloc.c - another preloaded allocator: gives, and never takes back.
 *
 * Built as libother_malloc.so, not as a scene. It has neither reallocarray nor the
 * aligned functions of old; what is not its own ends the program.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Alignas(4096) unsigned char arena[1 << 26];
static size_t used;

/* The size stands before each block. */
static void *take(size_t align, size_t size)
{
    size_t begin = __atomic_fetch_add(&used, size + align + 32, __ATOMIC_RELAXED);
    if (size > sizeof arena || begin + size + align + 32 > sizeof arena) {
        errno = ENOMEM;
        return NULL;
    }
    uintptr_t at =
        ((uintptr_t)arena + begin + 32 + align - 1) & ~(uintptr_t)(align - 1);
    memcpy((void *)(at - 8), &size, sizeof size);
    return (void *)at;
}

static void check(const unsigned char *block)
{
    if (block && (block < arena || block >= arena + sizeof arena)) _exit(94);
}

void *malloc(size_t size)
{
    return take(16, size);
}

void free(void *block)
{
    check(block);
}

void *calloc(size_t count, size_t size)
{
    return take(16, count * size);  // the arena is fresh memory
}

void *realloc(void *old, size_t size)
{
    size_t before = 0;
    check(old);
    void *block = take(16, size);
    if (!old || !block) return block;
    memcpy(&before, (char *)old - 8, sizeof before);
    return memcpy(block, old, before < size ? before : size);
}

void *aligned_alloc(size_t align, size_t size)
{
    return take(align, size);
}

int posix_memalign(void **out, size_t align, size_t size)
{
    *out = take(align, size);
    return *out ? 0 : ENOMEM;
}
