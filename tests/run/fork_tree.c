/* SPDX-License-Identifier: MIT */
/*
 * fork_tree.c - a child's account is its own; the parent's does not move.
 *
 * case: exits
 * arg: exits
 * expect: delta.totals.allocations == 0
 * expect: delta.totals.frees == 0
 * expect: delta.totals.live_bytes == 0
 * expect: len(children) == 2
 * expect: children[0].dump.reason == 'signal' and children[1].dump.reason == 'exit'
 * expect: children[1].process.ppid == first.process.pid
 * expect: children[1].calls.malloc - children[0].calls.malloc == 1009
 * expect: children[1].totals.requested_bytes - children[0].totals.requested_bytes
 *         == 1009 * 173
 * expect: children[1].calls.free - children[0].calls.free == 499
 * expect: children[0].totals.live_bytes == first.totals.live_bytes
 * case: killed
 * arg: killed
 * expect: delta.totals.allocations == 0
 * expect: delta.totals.frees == 0
 * case: thread
 * arg: thread
 * expect: delta.totals.frees == 0
 * expect: len(children) == 2
 * expect: children[1].calls.malloc - children[0].calls.malloc == 1009
 * case: many
 * arg: many
 * expect: delta.totals.allocations == 0
 * expect: len(children) == 2 * 20
 * case: raw
 * arg: raw
 * expect: -4096 <= delta.totals.allocations <= 4096
 * expect: delta.totals.live_blocks <= 4096
 */
#include "scene.h"

#include <pthread.h>
#include <sys/wait.h>

static char mode;

static void child(void)
{
    static void *block[1009];
    if (mode != 'r') dump_now();
    for (unsigned i = 0; i < 1009; i++) MUST((block[i] = malloc(173)));
    for (unsigned i = 0; i < 499; i++) free(block[i]);
    if (mode == 'k' || mode == 'r') {
        for (unsigned i = 0; i < 1000000; i++) free(malloc(i % 1000));
        kill(getpid(), SIGKILL);
    }
    exit(5);
}

static void bring_up(void)
{
    int status = 0;
    pid_t pid = mode == 'r' ? _Fork() : fork();
    if (pid == 0) child();
    MUST(waitpid(pid, &status, 0) == pid);
    if (mode == 'k' || mode == 'r')
        MUST(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    else
        MUST(WIFEXITED(status) && WEXITSTATUS(status) == 5);
}

static void *in_thread(void *unused)
{
    bring_up();
    return unused;
}

int main(int argc, char **argv)
{
    void *held[101];
    mode = argc > 1 ? argv[1][0] : 'e';
    for (unsigned i = 0; i < 101; i++) held[i] = malloc(i * 97);
    dump_now();
    if (mode == 't') {
        pthread_t thread;
        MUST(!pthread_create(&thread, NULL, in_thread, NULL));
        pthread_join(thread, NULL);
    } else {
        for (int i = 0; i < (mode == 'm' ? 20 : 1); i++) bring_up();
    }
    dump_now();
    for (unsigned i = 0; i < 101; i++) free(held[i]);
    return 0;
}
