/* SPDX-License-Identifier: MIT */
/*
 * many_tls.c - one of many libraries with variables of each thread.
 *
 * Built as libtls0.so, libtls1.so, ...: enough of them make the loader enlarge the
 * table of a thread that it allocated before any malloc was there.
 */
#include <stdlib.h>

int *tls_counter(void);

static _Thread_local int counter;
static _Thread_local char room[997];

int *tls_counter(void)
{
    room[counter % 997]++;
    counter++;
    free(malloc((size_t)counter));
    return &counter;
}
