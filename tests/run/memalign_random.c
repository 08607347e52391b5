/* SPDX-License-Identifier: MIT */
/*
 * memalign_random.c - 100000 random (alignment, size) pairs keep what they promise.
 *
 * Blocks live on for a while, are filled to their usable size, grown and freed in
 * another order: an alignment must survive free and reuse, contents must not mix.
 *
 * expect: delta.totals.live_blocks == 0
 * expect: delta.totals.live_bytes == 0
 * expect: delta.calls.malloc == 0
 * expect: delta.calls.memalign + delta.calls.posix_memalign
 *         + delta.calls.aligned_alloc == 100000
 */
#include "scene.h"

enum { STEPS = 100000, SLOTS = 257 };

static struct {
    unsigned char *block;
    size_t usable;
} slot[SLOTS];

static void *ask(unsigned how, size_t alignment, size_t size)
{
    void *block = NULL;
    switch (how) {
    case 0:
        return memalign(alignment, size);
    case 1:
        return aligned_alloc(alignment, size);
    default:
        return posix_memalign(&block, alignment, size) ? NULL : block;
    }
}

static void drop(unsigned i)
{
    unsigned char *block = slot[i].block;
    if (!block) return;
    size_t usable = slot[i].usable;
    MUST(malloc_usable_size(block) == usable);
    MUST(!usable ||
        (block[0] == (unsigned char)i && block[usable / 2] == (unsigned char)i &&
            block[usable - 1] == (unsigned char)i));
    free(block);
    slot[i].block = NULL;
}

int main(void)
{
    uint64_t state = 1299709;
    dump_now();
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned i = (unsigned)(draw(&state) % SLOTS);
        drop(i);
        size_t alignment = (size_t)8 << draw(&state) % 14;
        size_t size = (size_t)(draw(&state) % ((size_t)1 << draw(&state) % 18));
        errno = 99;
        unsigned char *block = ask((unsigned)(draw(&state) % 3), alignment, size);
        MUST(block && errno == 99);
        MUST((uintptr_t)block % alignment == 0 && (uintptr_t)block % 16 == 0);
        size_t usable = malloc_usable_size(block);
        MUST(usable >= size);
        memset(block, (int)i, usable);
        slot[i].block = block;
        slot[i].usable = usable;
    }
    for (unsigned i = 0; i < SLOTS; i++) drop(i);
    dump_now();
    return 0;
}
