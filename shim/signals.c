/* SPDX-License-Identifier: MIT */
/*
 * signals.c - a dump when asked, and the program's own handler all the same.
 *
 * One signal is ours (signal=, SIGUSR1 by default). The program may install a handler
 * for it at any time: it is told what it would have been told without us, and its
 * handler runs after the dump, with its flags and its mask. A program that started
 * with the signal ignored keeps ignoring it, and we stay out altogether.
 *
 * Order of memory: the program's action is published by a sequence number, odd while
 * it changes. The writer releases both changes of the number around the copy, a
 * handler acquires before and after its own copy, and reads again when they differ.
 */
#include "shim/output.h"

#include "pool/os.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

extern int __sigaction(int number, const struct sigaction *new, struct sigaction *old);

TP_EXPORT int sigaction(int number, const struct sigaction *new, struct sigaction *old);
TP_EXPORT sighandler_t signal(int number, sighandler_t handler);

static struct {
    int ours;             // 0: none
    struct tp_lock lock;  // of changes
    _Atomic(uint32_t) changes;
    struct sigaction theirs;  // what the program believes to be installed
} signals;

/* Needs: the lock, or a handler that no other thread is in. */
static void set_theirs(const struct sigaction *theirs)
{
    atomic_fetch_add_explicit(&signals.changes, 1, memory_order_acq_rel);
    signals.theirs = *theirs;
    atomic_fetch_add_explicit(&signals.changes, 1, memory_order_release);
}

static struct sigaction read_theirs(void)
{
    struct sigaction theirs;
    uint32_t before, after;
    do {
        before = atomic_load_explicit(&signals.changes, memory_order_acquire);
        theirs = signals.theirs;
        atomic_thread_fence(memory_order_acquire);
        after = atomic_load_explicit(&signals.changes, memory_order_relaxed);
    } while (before != after || (before & 1));
    return theirs;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    struct sigaction theirs = read_theirs();
    bool handled = theirs.sa_handler != SIG_DFL && theirs.sa_handler != SIG_IGN;
    if (handled && tp_handlers_wait(number, info, context)) return;
    int saved = errno;
    tp_dump_write(TP_REASON_SIGNAL);
    errno = saved;

    if ((unsigned)theirs.sa_flags & SA_RESETHAND)
        set_theirs(&(struct sigaction){ .sa_handler = SIG_DFL });
    if (handled) tp_handlers_call(theirs.sa_sigaction, number, info, context);
}

/* Installs our handler, seen by the kernel with the program's flags and mask. */
static int install(const struct sigaction *theirs)
{
    struct sigaction ours = *theirs;
    // What is ignored is ignored: an exec'd program inherits that, and no call ends
    // early for it.
    if (!(theirs->sa_flags & SA_SIGINFO) && theirs->sa_handler == SIG_IGN)
        return __sigaction(signals.ours, theirs, NULL);
    bool plain = !(theirs->sa_flags & SA_SIGINFO) && theirs->sa_handler == SIG_DFL;
    if (plain) {
        // Nobody expects to be interrupted by a signal that would do nothing.
        ours.sa_flags = SA_RESTART | SA_ONSTACK;
        sigemptyset(&ours.sa_mask);
    }
    ours.sa_sigaction = on_signal;
    ours.sa_flags |= SA_SIGINFO;
    ours.sa_flags = (int)((unsigned)ours.sa_flags & ~SA_RESETHAND);
    return __sigaction(signals.ours, &ours, NULL);
}

int sigaction(int number, const struct sigaction *new, struct sigaction *old)
{
    if (!signals.ours || number != signals.ours)
        return tp_handlers_set(number, new, old);
    // A child of vfork has its own handlers, but our memory: it changes nothing here.
    if (!tp_os_is_sandboxed() && (uint32_t)syscall(SYS_getpid) != tp_boot.pid)
        return __sigaction(number, new, old);
    struct sigaction wanted;
    if (new) wanted = *new;  // may be the same memory as old
    if (old) *old = read_theirs();
    if (!new) return 0;

    // Blocked meanwhile, so that our own handler never sees half of it.
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    tp_lock_enter(&signals.lock);
    set_theirs(&wanted);
    int result = install(&wanted);
    tp_lock_leave(&signals.lock);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return result;
}

sighandler_t signal(int number, sighandler_t handler)
{
    if (!signals.ours || number != signals.ours || handler == SIG_ERR)
        return tp_handlers_signal(number, handler);
    struct sigaction new = { .sa_handler = handler, .sa_flags = SA_RESTART }, old;
    sigemptyset(&new.sa_mask);
    sigaddset(&new.sa_mask, number);
    return sigaction(number, &new, &old) == 0 ? old.sa_handler : SIG_ERR;
}

void tp_signals_forked(void)
{
    atomic_store_explicit(&signals.lock.word, 0, memory_order_relaxed);
}

void tp_signals_open(void)
{
    int number = tp_options.signal;
    struct sigaction now;
    if (!number || __sigaction(number, NULL, &now) != 0) return;
    if (!(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_IGN) return;
    signals.theirs = now;
    signals.ours = number;
    if (install(&now) != 0) signals.ours = 0;
}
