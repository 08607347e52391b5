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
 * it changes; a handler that meets a change reads again.
 */
#include "shim/output.h"

#include "pool/os.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

extern int __sigaction(int number, const struct sigaction *new, struct sigaction *old);

TP_EXPORT int sigaction(int number, const struct sigaction *new, struct sigaction *old);
TP_EXPORT sighandler_t signal(int number, sighandler_t handler);

static struct {
    int ours;                 // 0: none
    struct tp_lock lock;      // of changes
    struct sigaction theirs;  // what the program believes to be installed
} signals;

static void on_signal(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    tp_dump_write(TP_REASON_SIGNAL);
    errno = saved;

    struct sigaction theirs = signals.theirs;
    if ((unsigned)theirs.sa_flags & SA_RESETHAND) signals.theirs.sa_handler = SIG_DFL;
    if (theirs.sa_flags & SA_SIGINFO) {
        if (theirs.sa_sigaction) theirs.sa_sigaction(number, info, context);
    } else if (theirs.sa_handler != SIG_DFL && theirs.sa_handler != SIG_IGN) {
        theirs.sa_handler(number);
    }
}

/* Installs our handler, seen by the kernel with the program's flags and mask. */
static int install(const struct sigaction *theirs)
{
    struct sigaction ours = *theirs;
    bool plain = !(theirs->sa_flags & SA_SIGINFO) &&
        (theirs->sa_handler == SIG_DFL || theirs->sa_handler == SIG_IGN);
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
    if (!signals.ours || number != signals.ours) return __sigaction(number, new, old);
    struct sigaction wanted;
    if (new) wanted = *new;  // may be the same memory as old
    if (old) *old = signals.theirs;
    if (!new) return 0;

    // Blocked meanwhile, so that our own handler never sees half of it.
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    tp_lock_enter(&signals.lock);
    signals.theirs = wanted;
    int result = install(&wanted);
    tp_lock_leave(&signals.lock);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return result;
}

sighandler_t signal(int number, sighandler_t handler)
{
    struct sigaction new = { .sa_handler = handler, .sa_flags = SA_RESTART }, old;
    sigemptyset(&new.sa_mask);
    sigaddset(&new.sa_mask, number);
    if (handler == SIG_ERR || number < 1 || number >= NSIG) {
        errno = EINVAL;
        return SIG_ERR;
    }
    return sigaction(number, &new, &old) == 0 ? old.sa_handler : SIG_ERR;
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
