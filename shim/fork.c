/* SPDX-License-Identifier: MIT */
/*
 * fork.c - one process becomes two.
 *
 * The heap is private memory, so a copy of it is always right; only the counters are
 * shared with the kernel's file and must change hands before the child counts. No
 * lock of ours is held across fork: with one, a thread inside stdio and another in
 * fork could wait for each other for ever. The private jemalloc takes its own.
 *
 * Handlers run for fork() alone. Ours are registered before anyone else's, so that it
 * is the first to run in a child: those of other libraries allocate. _Fork() is
 * wrapped, bare system calls are seen by syscalls.c.
 */
#include "shim/output.h"
#include "shim/profile.h"

#include "pool/host.h"
#include "pool/pool.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

/* Of glibc's ABI. */
typedef int register_function(
    void (*prepare)(void), void (*parent)(void), void (*child)(void), void *library);
TP_EXPORT register_function __register_atfork;

TP_EXPORT pid_t _Fork(void);
TP_EXPORT int pthread_create(
    pthread_t *out, const pthread_attr_t *how, void *(*run)(void *), void *argument);

static struct {
    pid_t (*real)(void);  // glibc's _Fork, since 2.34
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    _Atomic(bool) registered;
} forks;

void tp_host_forked(void)
{
    if (!tp_pool_slots()) return;  // a fork before the first allocation
    tp_live_forked();
    tp_sample_forked();
    tp_pool_forked();
    tp_dump_forked();
    tp_signals_forked();
    tp_handlers_forked();
    tp_exit_forked();
}

/* Ours come last before a fork and first after it: nobody allocates in between. */
static void before(void)
{
    tp_pool_before_fork();
    tp_snapshot_take();
}

static void after(void)
{
    tp_snapshot_end(false);
    tp_pool_after_fork();
}

static void find(void)
{
    forks.real = (pid_t(*)(void))dlsym(RTLD_NEXT, "_Fork");
    forks.create = (__typeof__(forks.create))dlsym(RTLD_NEXT, "pthread_create");
}

pid_t _Fork(void)
{
    if (TP_UNLIKELY(!forks.real)) find();
    if (TP_UNLIKELY(!forks.real)) {
        errno = ENOSYS;
        return -1;
    }
    if (tp_pool_slots()) tp_snapshot_take();
    pid_t pid = forks.real();
    if (pid == 0)
        tp_host_forked();
    else
        tp_snapshot_end(false);
    return pid;
}

/* The last moment at which a child is alone, and can change its counters' memory. */
int pthread_create(
    pthread_t *out, const pthread_attr_t *how, void *(*run)(void *), void *argument)
{
    if (TP_UNLIKELY(!forks.create)) find();
    if (TP_UNLIKELY(tp_live_stage.due)) tp_live_settle();
    return forks.create ? forks.create(out, how, run, argument) : EAGAIN;
}

/* What pthread_atfork() of every library calls: the first call registers ours. */
int __register_atfork(
    void (*prepare)(void), void (*parent)(void), void (*child)(void), void *library)
{
    register_function *real =
        (register_function *)dlsym(RTLD_NEXT, "__register_atfork");
    if (!real) return ENOSYS;
    if (!atomic_exchange_explicit(&forks.registered, true, memory_order_relaxed) &&
        !tp_boot.secure)
        real(before, after, tp_host_forked, NULL);
    return prepare || parent || child ? real(prepare, parent, child, library) : 0;
}

void tp_fork_open(void)
{
    find();
    __register_atfork(NULL, NULL, NULL, NULL);
}
