/* SPDX-License-Identifier: MIT */
/*
 * own_malloc.c - an executable that defines malloc itself: the library stands aside.
 *
 * The program's functions win in every lookup, so nothing of ours serves it; mixing
 * the two would be a crash. The verdict is in the account, and on one line.
 *
 * status: 4
 * stderr: ^tidepool: [^\n]+\n$
 * expect: last.coverage.allocator == 'inert'
 * expect: len(last.coverage.reasons) >= 1
 * expect: last.totals.allocations == 0
 * expect: last.coverage.reasons == ['own_malloc']
 * case: pie
 * case: no_pie
 * program: own_malloc_no_pie
 */
#include "scene.h"

static _Alignas(16) unsigned char arena[1 << 22];
static size_t used;

/* Never gives anything back; the size stands before each block. */
void *malloc(size_t size)
{
    size_t room = (size + 31) & ~(size_t)15;
    if (size > sizeof arena || used + room > sizeof arena) return NULL;
    unsigned char *block = arena + used + 16;
    memcpy(block - 16, &size, sizeof size);
    used += room;
    return block;
}

void free(void *block)
{
    unsigned char *at = block;
    MUST(!at || (at >= arena && at < arena + sizeof arena));  // only what was ours
}

void *calloc(size_t count, size_t size)
{
    return malloc(count * size);  // the arena is fresh memory
}

void *realloc(void *old, size_t size)
{
    unsigned char *block = malloc(size);
    size_t before = 0;
    if (!old || !block) return block;
    memcpy(&before, (unsigned char *)old - 16, sizeof before);
    memcpy(block, old, before < size ? before : size);
    return block;
}

int main(void)
{
    char *text = strdup("made by libc with our malloc"), *line = NULL;
    MUST((unsigned char *)text > arena && (unsigned char *)text < arena + sizeof arena);
    free(text);
    MUST(asprintf(&line, "%0300d", 7) == 300);
    free(line);
    free(realloc(malloc(100), 1000));
    free(reallocarray(malloc(100), 10, 100));  // the C library's, with our realloc
    return 4;
}
