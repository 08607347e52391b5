/* SPDX-License-Identifier: MIT */
/*
 * signals.c - a dump when asked, and the program's own handler all the same.
 *
 * One signal is ours (signal=, SIGUSR1 by default). The program may install a handler
 * for it at any time: it is told what it would have been told without us, and its
 * handler runs after the dump, with its flags and its mask. A program that started
 * with the signal ignored keeps ignoring it, and we stay out altogether.
 *
 * The kernel has the last word: what it does with the signal may have changed without
 * us (sigignore, siginterrupt, a library that was linked past us). Where our handler
 * is no longer installed there, the program is told what is.
 *
 * Order of memory: the program's action is kept twice; `version` says in which of the
 * two. The writer fills the other one and releases the next version, a handler
 * acquires it before its copy and looks again after. A fork in the middle of a change
 * leaves the old version whole.
 */
#include "shim/output.h"

#include "pool/os.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

extern int __sigaction(int number, const struct sigaction *new, struct sigaction *old);
extern sighandler_t ssignal(int number, sighandler_t handler);  // glibc: signal()

TP_EXPORT int sigaction(int number, const struct sigaction *new, struct sigaction *old);
TP_EXPORT sighandler_t signal(int number, sighandler_t handler);
TP_EXPORT sighandler_t sysv_signal(int number, sighandler_t handler);
TP_EXPORT sighandler_t __sysv_signal(int number, sighandler_t handler);
TP_EXPORT sighandler_t sigset(int number, sighandler_t handler);

enum { RESTORER = 0x04000000 };  // SA_RESTORER: glibc's own, and seen by who asks

static struct {
    int ours;             // 0: none
    struct tp_lock lock;  // of changes
    _Atomic(uint32_t) version;
    struct sigaction theirs[2];  // what the program believes to be installed
    tp_setter sysv;
    tp_setter sigset;
} signals;

/* Needs: the lock. */
static void set_theirs(const struct sigaction *theirs)
{
    uint32_t next = atomic_load_explicit(&signals.version, memory_order_relaxed) + 1;
    signals.theirs[next & 1] = *theirs;
    // Meets the acquire in read_theirs().
    atomic_store_explicit(&signals.version, next, memory_order_release);
}

static struct sigaction read_theirs(void)
{
    struct sigaction theirs;
    uint32_t before, after;
    do {
        before = atomic_load_explicit(&signals.version, memory_order_acquire);
        theirs = signals.theirs[before & 1];
        atomic_thread_fence(memory_order_acquire);
        after = atomic_load_explicit(&signals.version, memory_order_relaxed);
    } while (before != after);
    return theirs;
}

/* SA_RESETHAND: the kernel forgets the handler and nothing else. */
static void forget_handler(struct sigaction theirs)
{
    theirs.sa_handler = SIG_DFL;
    // Where it is not free somebody installs another handler just now.
    if (!tp_lock_try(&signals.lock)) return;
    set_theirs(&theirs);
    tp_lock_leave(&signals.lock);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    tp_handlers_return_to((uintptr_t)__builtin_return_address(0));
    struct sigaction theirs = read_theirs();
    bool handled = theirs.sa_handler != SIG_DFL && theirs.sa_handler != SIG_IGN;
    if (handled && tp_handlers_wait(number, info, context)) return;
    int saved = errno;
    tp_dump_write(TP_REASON_SIGNAL);
    errno = saved;

    if (!handled) return;
    if ((unsigned)theirs.sa_flags & SA_RESETHAND) forget_handler(theirs);
    tp_handlers_call(theirs.sa_sigaction, number, info, context);
}

/* Installs our handler, seen by the kernel with the program's flags and mask. */
static int install(const struct sigaction *theirs)
{
    struct sigaction ours = *theirs;
    // What is ignored is ignored: an exec'd program inherits that, and no call ends
    // early for it.
    if (theirs->sa_handler == SIG_IGN) return __sigaction(signals.ours, theirs, NULL);
    if (theirs->sa_handler == SIG_DFL) {
        // Nobody expects to be interrupted by a signal that would do nothing.
        ours.sa_flags = SA_RESTART | SA_ONSTACK;
        sigemptyset(&ours.sa_mask);
    }
    ours.sa_sigaction = on_signal;
    ours.sa_flags |= SA_SIGINFO;
    ours.sa_flags = (int)((unsigned)ours.sa_flags & ~SA_RESETHAND);
    return __sigaction(signals.ours, &ours, NULL);
}

/* What the program would be told without us. True when our handler is installed. */
static bool look(struct sigaction *out)
{
    struct sigaction now;
    if (__sigaction(signals.ours, NULL, &now) != 0 || now.sa_sigaction != on_signal) {
        *out = now;
        return false;
    }
    *out = read_theirs();
    if (out->sa_handler != SIG_DFL)  // siginterrupt() goes past us
        out->sa_flags = (out->sa_flags & ~SA_RESTART) | (now.sa_flags & SA_RESTART);
    if (atomic_load_explicit(&signals.version, memory_order_relaxed)) {
        out->sa_flags |= now.sa_flags & RESTORER;
        out->sa_restorer = now.sa_restorer;
    }
    return true;
}

/* Blocks all signals, so that our own handler never sees half of a change. */
static void begin_change(sigset_t *out_before)
{
    sigset_t all;
    sigfillset(&all);
    if (!tp_os_is_sandboxed()) sigprocmask(SIG_SETMASK, &all, out_before);
    tp_lock_enter(&signals.lock);
}

static void end_change(const sigset_t *before)
{
    tp_lock_leave(&signals.lock);
    if (!tp_os_is_sandboxed()) sigprocmask(SIG_SETMASK, before, NULL);
}

/* A child of vfork has its own handlers, but our memory: it changes nothing here. */
static bool is_ours(int number)
{
    return signals.ours && number == signals.ours &&
        (tp_os_is_sandboxed() || (uint32_t)syscall(SYS_getpid) == tp_boot.pid);
}

int sigaction(int number, const struct sigaction *new, struct sigaction *old)
{
    if (!signals.ours || number != signals.ours)
        return tp_handlers_set(number, new, old);
    struct sigaction wanted;
    if (new) wanted = *new;  // may be the same memory as old
    if (old) look(old);
    if (!new) return 0;
    if (!is_ours(number)) return __sigaction(number, &wanted, NULL);

    sigset_t before;
    begin_change(&before);
    set_theirs(&wanted);
    int result = install(&wanted);
    end_change(&before);
    return result;
}

/*
 * The C library sets the handler as it sees fit, then ours takes its place. Between
 * the two the program's own runs alone: a dump less, nothing worse.
 */
static sighandler_t set_by(tp_setter set, int number, sighandler_t handler)
{
    if (!signals.ours || number != signals.ours)
        return tp_handlers_set_by(set, number, handler);
    struct sigaction was, now;
    look(&was);
    sighandler_t result = set(number, handler);
    if (result == (sighandler_t)(uintptr_t)on_signal) result = was.sa_handler;
    if (!is_ours(number)) return result;

    sigset_t before;
    begin_change(&before);
    if (!look(&now)) {
        set_theirs(&now);
        install(&now);
    }
    end_change(&before);
    return result;
}

sighandler_t signal(int number, sighandler_t handler)
{
    return set_by(ssignal, number, handler);
}

static tp_setter find(tp_setter *known, const char *name)
{
    if (!*known) *known = (tp_setter)dlsym(RTLD_NEXT, name);
    return *known;
}

/* What signal() is in a program that was compiled for System V. */
sighandler_t __sysv_signal(int number, sighandler_t handler)
{
    return set_by(find(&signals.sysv, "__sysv_signal"), number, handler);
}

sighandler_t sysv_signal(int number, sighandler_t handler)
{
    return __sysv_signal(number, handler);
}

sighandler_t sigset(int number, sighandler_t handler)
{
    return set_by(find(&signals.sigset, "sigset"), number, handler);
}

void tp_signals_forked(void)
{
    atomic_store_explicit(&signals.lock.word, 0, memory_order_relaxed);
}

void tp_signals_open(void)
{
    int number = tp_options.signal;
    struct sigaction now;
    // Now, because a handler may call them and must not wait for the loader.
    find(&signals.sysv, "__sysv_signal");
    find(&signals.sigset, "sigset");
    if (!number || __sigaction(number, NULL, &now) != 0) return;
    if (now.sa_handler == SIG_IGN) return;
    signals.theirs[0] = now;
    signals.ours = number;
    if (install(&now) != 0) signals.ours = 0;
}
