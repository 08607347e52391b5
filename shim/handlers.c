/* SPDX-License-Identifier: MIT */
/*
 * handlers.c - the program's signal handlers, kept from falling into the allocator.
 *
 * POSIX forbids a handler to allocate; programs do it all the same, and under glibc
 * they get away with it until a signal falls on a malloc: a deadlock, or a block that
 * is given out twice. Every handler is therefore called through on_signal():
 *
 *   signal falls on          what happens
 *   the program's own code   the handler is called at once, by a jump
 *   a slow path of ours      the signal waits until that is over, microseconds later:
 *                            everything is blocked in the interrupted context, and the
 *                            signal is queued again, as it was, when the path ends
 *   a fast path of ours      the handler runs with the shared heap in the place of the
 *                            thread's own
 *
 * What cannot wait (a fault, SIGABRT, a handler that is good for one call only) runs
 * at once with the shared heap. The program sees its own handlers wherever it asks.
 * Flags, mask, stack and context of a handler are those that it would have without us.
 *
 * Real-time signals of one number come in the order in which they were sent. One that
 * is queued again would come last, behind those that arrived meanwhile: therefore each
 * delivery up to and including the one queued again hands on what the one before it
 * had brought.
 *
 * Order of memory: one word a signal, released by who installs a handler; a handler
 * that is called acquires it.
 */
#include "shim/life.h"

#include "pool/host.h"
#include "pool/pool.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

extern int __sigaction(int number, const struct sigaction *new, struct sigaction *old);
extern sighandler_t ssignal(int number, sighandler_t handler);  // glibc: signal()

enum {
    SIGNALS = 65,       // 1 .. 64, of which the C library keeps two to itself
    WAITING = 2,        // signals that a thread can keep: one, and one that comes then
    MARK = 0x7469646c,  // si_errno of a signal that was queued again to keep order
    INFO_BYTES = 48,    // of a siginfo that the kernel uses; the rest is zero
};

/* What the kernel knows as the handler of all signals that the program handles. */
static void on_signal(int number, siginfo_t *info, void *context);

static struct {
    _Atomic(tp_handler) theirs[SIGNALS];
    _Atomic(uint64_t) once;  // bit n: SA_RESETHAND, the kernel forgets it when it calls
    _Atomic(uint64_t) plain;  // bit n: the program did not ask for SA_SIGINFO
} handlers;

/* Signals that wait, in the thread that they came to. */
struct waiting {
    int number;        // 0: none
    bool in_turn;      // queued again: `info` is for the next of its number that comes
    uint64_t blocked;  // for its sake, where it fell
    char info[INFO_BYTES];
};
static TP_THREAD struct waiting waiting[WAITING];

static uint64_t bit(int number)
{
    return (uint64_t)1 << (number - 1);
}

static bool is_function(const struct sigaction *action)
{
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN &&
        action->sa_handler != SIG_ERR;
}

static void note(_Atomic(uint64_t) *bits, int number, bool on)
{
    if (on)
        atomic_fetch_or_explicit(bits, bit(number), memory_order_relaxed);
    else
        atomic_fetch_and_explicit(bits, ~bit(number), memory_order_relaxed);
}

static bool is_noted(const _Atomic(uint64_t) *bits, int number)
{
    return atomic_load_explicit(bits, memory_order_relaxed) & bit(number);
}

/* ---- when a signal comes ---- */

static bool is_fault(int number)
{
    return number == SIGSEGV || number == SIGBUS || number == SIGILL ||
        number == SIGFPE || number == SIGTRAP || number == SIGSYS;
}

static bool may_wait(int number, const siginfo_t *info)
{
    if (number == SIGABRT || (is_fault(number) && info->si_code > 0)) return false;
    if (tp_os_is_sandboxed()) return false;  // which may forbid to queue it again
    return !is_noted(&handlers.once, number);
}

/* The place of signal `number`, 0: a free one; NULL when there is none. */
static struct waiting *find_waiting(int number, bool in_turn)
{
    for (int i = 0; i < WAITING; i++)
        if (waiting[i].number == number && waiting[i].in_turn == in_turn)
            return &waiting[i];
    return NULL;
}

/* Blocks what can be blocked where the signal fell, and keeps the signal. */
static bool wait(int number, const siginfo_t *info, ucontext_t *context)
{
    struct waiting *place = find_waiting(0, false);
    if (!place) return false;
    // The kernel's part of the mask is its first word.
    uint64_t *mask = (uint64_t *)(void *)&context->uc_sigmask;
    uint64_t before = *mask;
    memcpy(place->info, info, INFO_BYTES);
    place->number = number;
    for (int n = 1; n < SIGNALS; n++)
        if (!is_fault(n) && n != SIGABRT) *mask |= bit(n);
    place->blocked = *mask & ~before;
    tp_pool_defer();
    return true;
}

/* Queues the signal again; false when the system's queue is full. */
static bool queue_again(struct waiting *place)
{
    long pid = syscall(SYS_getpid), tid = syscall(SYS_gettid);
    int number = place->number;
    siginfo_t info = { 0 };
    memcpy(&info, place->info, INFO_BYTES);
    // Of a number below there is never more than one on its way: no order to keep.
    place->in_turn = number >= SIGRTMIN;
    if (place->in_turn)
        info.si_errno = MARK;
    else
        place->number = 0;
    return syscall(SYS_rt_tgsigqueueinfo, pid, tid, number, &info) == 0;
}

/* Calls the handler as the kernel would have: there is no other way left. */
static void call_instead(struct waiting *place, int number)
{
    siginfo_t info = { 0 };
    ucontext_t context = { 0 };
    struct sigaction action;
    memcpy(&info, place->info, INFO_BYTES);
    place->number = 0;
    place->in_turn = false;
    getcontext(&context);
    if (__sigaction(number, NULL, &action) == 0 && is_function(&action))
        action.sa_sigaction(number, &info, &context);
}

void tp_host_signal_due(void)
{
    int saved = errno;
    uint64_t blocked = 0;
    for (int i = 0; i < WAITING; i++) {
        struct waiting *place = &waiting[i];
        if (!place->number || place->in_turn) continue;
        int number = place->number;
        blocked |= place->blocked;
        if (!queue_again(place)) call_instead(place, number);
    }
    // They are blocked now, and come when this is undone.
    syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &blocked, NULL, sizeof(blocked));
    errno = saved;
}

/* Gives the signal the content of the one before it, while an order is to be kept. */
static void take_turn(int number, siginfo_t *info)
{
    struct waiting *place = find_waiting(number, true);
    if (TP_LIKELY(!place)) return;
    char brought[INFO_BYTES];
    bool last = info->si_errno == MARK;
    memcpy(brought, info, INFO_BYTES);
    memcpy(info, place->info, INFO_BYTES);
    memcpy(place->info, brought, INFO_BYTES);
    if (!last) return;
    place->in_turn = false;
    place->number = 0;
}

/* Where in the program the signal fell. */
static uintptr_t program_counter(const ucontext_t *context)
{
#if defined(__x86_64__)
    return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)context->uc_mcontext.pc;
#else
    (void)context;
    return (uintptr_t)on_signal;
#endif
}

/* True in the code of this library: the linker knows where it begins and ends. */
static bool is_our_code(uintptr_t at)
{
    extern const char __ehdr_start[] __attribute__((visibility("hidden")));
    extern const char etext[] __attribute__((visibility("hidden")));
    return at - (uintptr_t)__ehdr_start < (uintptr_t)(etext - __ehdr_start);
}

bool tp_handlers_wait(int number, siginfo_t *info, void *context)
{
    take_turn(number, info);
    return TP_UNLIKELY(tp_pool_is_busy()) && may_wait(number, info) &&
        wait(number, info, context);
}

void tp_handlers_call(tp_handler handler, int number, siginfo_t *info, void *context)
{
    ucontext_t *at = context;
    if (TP_LIKELY(!tp_pool_is_busy() && !is_our_code(program_counter(at)))) {
        handler(number, info, context);
        return;
    }
    // The frame tells whether the handler was called on the alternate stack.
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    size_t bytes = at->uc_stack.ss_size;
    if (here - (uintptr_t)at->uc_stack.ss_sp >= bytes) bytes = 0;
    bool aside = tp_pool_step_aside(at->uc_stack.ss_sp, bytes);
    handler(number, info, context);
    if (aside) tp_pool_step_back();
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    // Meets the release of who installed it.
    tp_handler handler =
        atomic_load_explicit(&handlers.theirs[number], memory_order_acquire);
    if (!tp_handlers_wait(number, info, context))
        tp_handlers_call(handler, number, info, context);
}

/* ---- when the program installs a handler ---- */

static bool is_known(int number)
{
    return number > 0 && number < SIGNALS && number != SIGKILL && number != SIGSTOP;
}

/* A child of vfork has its own handlers, but our memory: it changes nothing here. */
static bool is_us(void)
{
    return tp_os_is_sandboxed() || (uint32_t)syscall(SYS_getpid) == tp_boot.pid;
}

/*
 * Both kinds of handler are called with three arguments; one kind does not look. The
 * kernel is asked for all three, because we do.
 */
static tp_handler handler_of(const struct sigaction *action)
{
    return action->sa_sigaction;
}

int tp_handlers_set(int number, const struct sigaction *wish, struct sigaction *old)
{
    if (!is_known(number)) return __sigaction(number, wish, old);
    tp_handler before =
        atomic_load_explicit(&handlers.theirs[number], memory_order_relaxed);
    bool was_plain = is_noted(&handlers.plain, number);
    struct sigaction ours, was;
    const struct sigaction *wanted = wish;
    if (wish && is_function(wish) && is_us()) {
        ours = *wish;
        note(&handlers.once, number, ((unsigned)wish->sa_flags & SA_RESETHAND) != 0);
        note(&handlers.plain, number, !(wish->sa_flags & SA_SIGINFO));
        atomic_store_explicit(
            &handlers.theirs[number], handler_of(wish), memory_order_release);
        ours.sa_sigaction = on_signal;
        ours.sa_flags |= SA_SIGINFO;
        wanted = &ours;
    }
    int result = __sigaction(number, wanted, old ? &was : NULL);
    if (result == 0 && old) {
        bool mine = was.sa_sigaction == on_signal;
        if (mine) was.sa_sigaction = before;
        if (mine && was_plain) was.sa_flags &= ~SA_SIGINFO;
        *old = was;
    }
    return result;
}

/* What the C library installed without it gets SA_SIGINFO. */
static void complete(int number)
{
    struct sigaction now;
    if (__sigaction(number, NULL, &now) != 0 || now.sa_sigaction != on_signal) return;
    now.sa_flags |= SA_SIGINFO;
    __sigaction(number, &now, NULL);
}

sighandler_t tp_handlers_set_by(tp_setter set, int number, sighandler_t handler)
{
    struct sigaction wish = { .sa_handler = handler };
    if (!is_known(number)) return set(number, handler);
    tp_handler before =
        atomic_load_explicit(&handlers.theirs[number], memory_order_relaxed);
    struct sigaction ours = { .sa_sigaction = on_signal };
    bool held = handler == SIG_HOLD;  // sigset() then blocks the signal, no more
    bool mine = is_function(&wish) && !held && is_us();
    if (mine) {
        atomic_store_explicit(
            &handlers.theirs[number], handler_of(&wish), memory_order_release);
        // It may be good for one call only: then nothing waits, which is safe as well.
        note(&handlers.once, number, set != ssignal);
        note(&handlers.plain, number, true);
        handler = ours.sa_handler;
    }
    // The C library's own, because siginterrupt() tells it which flags to use.
    // No signal may come before it is complete; but sigset() changes the mask itself.
    bool block = mine && set == ssignal && !tp_os_is_sandboxed();
    sigset_t all, mask;
    sigfillset(&all);
    if (block) sigprocmask(SIG_SETMASK, &all, &mask);
    struct sigaction was = { .sa_handler = set(number, handler) };
    if (mine) complete(number);
    if (block) sigprocmask(SIG_SETMASK, &mask, NULL);
    if (was.sa_sigaction == on_signal) was.sa_sigaction = before;
    return was.sa_handler;
}
