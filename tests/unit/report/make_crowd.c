/* SPDX-License-Identifier: MIT */
/*
 * make_crowd.c - writes the recording of crowd.h: make_crowd STACKS [exact] [RUN] >FILE
 *
 * For measuring: `make_crowd 1000000 >/tmp/million.tide`, then `tidepool report` of it
 * under perf or /usr/bin/time -v. RUN makes other figures of the same program, for a
 * difference.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/report/crowd.h"

int main(int argc, char **argv)
{
    struct crowd_wish wish = { .seed = 1009 };
    size_t n = 0;
    if (argc > 1) wish.n_stacks = strtoull(argv[1], NULL, 10);
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "exact") == 0)
            wish.exact = true;
        else
            wish.run = strtoull(argv[i], NULL, 10);
    }
    if (argc < 2 || !wish.n_stacks) {
        fprintf(stderr, "usage: make_crowd STACKS [exact] [RUN] >FILE\n");
        return 2;
    }
    unsigned char *bytes = crowd_make(&wish, &n);
    bool good = bytes && fwrite(bytes, 1, n, stdout) == n && fflush(stdout) == 0;
    free(bytes);
    if (good) return 0;
    fprintf(stderr, "make_crowd: cannot write\n");
    return 1;
}
