// SPDX-License-Identifier: MIT
/*
 * pairs.c - malloc and free of one size, so often; for counting instructions.
 *
 * usage: bench-pairs SIZE COUNT; SIZE 0 goes round the loop without the two calls
 *
 * Idea: the instructions of 2 N pairs less those of N pairs are N pairs in the steady
 * state: start, warm-up and end fall out, and those of SIZE 0 are the loop's own.
 */
#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc < 3) return 2;
    size_t size = strtoul(argv[1], NULL, 10), n_pairs = strtoul(argv[2], NULL, 10);
    char none = 0;

    for (size_t i = 0; i < n_pairs; i++) {
        volatile char *block = size ? malloc(size) : &none;
        if (!block) return 2;
        *block = 1;
        if (size) free((void *)(size_t)block);
    }
    return 0;
}
