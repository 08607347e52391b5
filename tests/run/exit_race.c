/* SPDX-License-Identifier: MIT */
/*
 * exit_race.c - the program ends while another thread is in the middle of a dump.
 *
 * The last word is the exit dump all the same, and it is whole.
 *
 * case: first
 * plain: no
 * expect: last.dump.reason == 'exit' and last.dump.complete
 * expect: not [n for n in files if n.endswith('.part')]
 * case: again
 * arg: 3
 * plain: no
 * expect: last.dump.reason == 'exit' and last.dump.complete
 * expect: not [n for n in files if n.endswith('.part')]
 * case: once_more
 * arg: 7
 * plain: no
 * expect: last.dump.reason == 'exit' and last.dump.complete
 * expect: not [n for n in files if n.endswith('.part')]
 */
#include "scene.h"

#include <pthread.h>

static void *dump_on(void *unused)
{
    for (;;) raise(SIGUSR1);
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    MUST(!pthread_create(&thread, NULL, dump_on, NULL));
    usleep(20000 + (argc > 1 ? 137U * (unsigned)atoi(argv[1]) : 0));
    return 0;
}
