/* SPDX-License-Identifier: MIT */
/*
 * foreign.c - blocks that libc's own malloc made come back to it, and are told.
 *
 * expect: delta.totals.allocations == 1
 * expect: delta.totals.frees == 1
 * expect: delta.coverage.foreign_frees >= 11
 */
#include "scene.h"

void *__libc_malloc(size_t size);

int main(void)
{
    void *block[11];
    dump_now();
    for (unsigned i = 0; i < 11; i++) {
        MUST((block[i] = __libc_malloc(100 + i * 30011)));
        MUST(malloc_usable_size(block[i]) >= 100 + i * 30011 || i == 0);
    }
    for (unsigned i = 0; i < 11; i++) free(block[i]);
    char *text = __libc_malloc(40);
    strcpy(text, "made elsewhere");
    text = realloc(text, 4000);
    MUST(text && !strcmp(text, "made elsewhere"));
    free(text);
    dump_now();
    return 0;
}
