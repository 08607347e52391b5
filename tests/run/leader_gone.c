/* SPDX-License-Identifier: MIT */
/*
 * leader_gone.c - the first thread ends, the process goes on: by its number a zombie.
 *
 * Prints "on" from the second thread, which allocates until its input ends. Used by ls.py.
 */
#include "scene.h"

#include <pthread.h>

static void *go_on(void *leader)
{
    char byte;
    pthread_join(*(pthread_t *)leader, NULL);
    for (unsigned i = 0; i < 997; i++) MUST(malloc(173));
    put_text(STDOUT_FILENO, "on\n");
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    _exit(0);
}

int main(void)
{
    static pthread_t leader;
    pthread_t thread;
    leader = pthread_self();
    MUST(!pthread_create(&thread, NULL, go_on, &leader));
    pthread_exit(NULL);
}
