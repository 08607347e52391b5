/* SPDX-License-Identifier: MIT */
/*
 * prints.c - an ordinary program: works on its heap, prints, and ends with 7.
 *
 * Its output is compared in places where the library cannot do all it wants: see
 * places.py.
 *
 * status: 7
 * expect: said.sum == 25032004
 */
#include "scene.h"

int main(void)
{
    enum { WORDS = 5003 };
    static char *word[WORDS];
    size_t sum = 0;
    for (unsigned i = 0; i < WORDS; i++) {
        word[i] = malloc(i + 7);
        MUST(word[i]);
        memset(word[i], 'x', i + 6);
        word[i][i + 6] = 0;
    }
    for (unsigned i = 0; i < WORDS; i += 2) {
        word[i] = realloc(word[i], 2 * i + 7);
        MUST(word[i]);
    }
    for (unsigned i = 0; i < WORDS; i++) {
        sum += 2 * strlen(word[i]) - 12 + (i ? 0U : 6998U);
        free(word[i]);
    }
    printf("sum %zu\n", sum);
    return 7;
}
