/* SPDX-License-Identifier: MIT */
/*
 * fork.c - one process becomes two.
 *
 * The heap is private memory, so a copy of it is always right; only the counters are
 * shared with the kernel's file and must change hands before the child counts. No
 * lock of ours is held across fork: with one, a thread inside stdio and another in
 * fork could wait for each other for ever. The private jemalloc takes its own.
 *
 * Handlers run for fork() alone. _Fork() is wrapped; a child of a bare clone is
 * noticed at its first slow path, by a word that the kernel wipes on fork.
 */
#include "shim/output.h"

#include "pool/host.h"
#include "pool/pool.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

TP_EXPORT pid_t _Fork(void);

static struct {
    pid_t (*real)(void);  // glibc's _Fork, since 2.34
} forks;

void tp_host_forked(void)
{
    tp_live_forked();
    tp_pool_forked();
    tp_dump_forked();
    tp_signals_forked();
}

pid_t _Fork(void)
{
    pid_t pid = forks.real ? forks.real()
                           : (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0) tp_host_forked();
    return pid;
}

void tp_fork_open(void)
{
    forks.real = (pid_t(*)(void))dlsym(RTLD_NEXT, "_Fork");
    pthread_atfork(tp_pool_before_fork, tp_pool_after_fork, tp_host_forked);
}
