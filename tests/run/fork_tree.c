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
 * expect: delta.totals.allocations == 0 and delta.totals.frees == 0
 * case: bare
 * arg: bare
 * expect: delta.totals.allocations == 0 and delta.totals.frees == 0
 * case: three
 * arg: 3
 * expect: delta.totals.allocations == 0 and delta.totals.frees == 0
 * case: clone
 * arg: clone
 * expect: delta.totals.allocations == 0 and delta.totals.frees == 0
 * case: handlers
 * arg: handlers
 * preload_after: early
 * env: EARLY_ATFORK=1
 * expect: delta.totals.allocations == 0 and delta.totals.frees == 0
 */
#include "scene.h"

#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static char mode;  // first letter of the argument

static bool is_bare(void)
{
    return strchr("rb3c", mode) != NULL;
}

static void child(void)
{
    static void *block[1009];
    if (!is_bare()) dump_now();
    for (unsigned i = 0; i < 1009; i++) MUST((block[i] = malloc(173)));
    for (unsigned i = 0; i < 499; i++) free(block[i]);
    if (mode == 'k' || is_bare()) {
        for (unsigned i = 0; i < 1000000; i++) free(malloc(i % 1000));
        kill(getpid(), SIGKILL);
    }
    exit(5);
}

static int clone_child(void *unused)
{
    (void)unused;
    child();
    return 0;
}

/* By every way that there is to a process with memory of its own. */
static pid_t begin_child(void)
{
    static char stack[256 * 1024] __attribute__((aligned(16)));
    struct clone_args wish = { .exit_signal = SIGCHLD };
    if (mode == 'r') return _Fork();
    if (mode == 'b') return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (mode == '3') return (pid_t)syscall(SYS_clone3, &wish, sizeof wish);
    if (mode == 'c') return clone(clone_child, stack + sizeof stack, SIGCHLD, NULL);
    return fork();
}

static void bring_up(void)
{
    int status = 0;
    pid_t pid = begin_child();
    if (pid == 0) child();
    MUST(waitpid(pid, &status, 0) == pid);
    if (mode == 'k' || is_bare())
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
    // How a program finds out whether the kernel has it.
    MUST(syscall(SYS_clone3, NULL, 0) == -1 && errno == EINVAL);
    for (unsigned i = 0; i < 101; i++) held[i] = malloc(i * 97);
    free(malloc(173));  // the child finds blocks without a slow path
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
