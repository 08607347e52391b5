/* SPDX-License-Identifier: MIT */
/*
 * secured.c - linked with the library, so that it is there even in a setuid program.
 *
 * guards.py runs a setuid copy as another user; plainly it is an ordinary program.
 *
 * status: 4
 * expect: last.calls.malloc >= 997
 */
#include "scene.h"

int main(void)
{
    for (size_t i = 0; i < 997; i++) free(malloc(i));
    put_text(STDOUT_FILENO, "done 1\n");
    return 4;
}
