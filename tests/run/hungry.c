/* SPDX-License-Identifier: MIT */
/*
 * hungry.c - takes a mebibyte after the other, and touches it, until it is stopped.
 *
 * Says how many it has, a line each, before it takes the next. Not a scene by itself:
 * deaths.py starts it where memory ends.
 */
#include "scene.h"

int main(void)
{
    for (unsigned n = 0; n < 4096; n++) {
        say("have", n);
        char *block = malloc(1 << 20);
        if (!block) return 9;
        memset(block, 1, 1 << 20);
    }
    return 0;
}
