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
 *                            everything is blocked in the interrupted context, what
 *                            the signal brought is kept, and the end of the path calls
 *                            the handler in the kernel's place
 *   a fast path of ours      the handler runs with the shared heap in the place of the
 *                            thread's own
 *
 * What cannot wait (a fault, SIGABRT, a handler that is good for one call only) runs
 * at once with the shared heap. The program sees its own handlers wherever it asks.
 * Flags, mask, stack and context of a handler are those that it would have without us.
 *
 * What is kept is not sent again: the kernel would drop it where one of its number is on
 * its way to the thread, or drop that one; it may drop what the signal brought when its
 * queue is full; and to send SIGCONT takes back a SIGTSTP that waits, and the other way
 * round. A program runs only with what is still kept blocked, as what the kernel keeps
 * is, so none overtakes another of its number.
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
    SIGNALS = 65,  // 1 .. 64, of which the C library keeps two to itself
    WAITING = 2,   // signals that a thread can keep: one, and one that comes then
    TP_AUTODISARM = 1u << 31,
    INFO_BYTES = 48,     // of a siginfo that the kernel uses; the rest is zero
    RESTORER_BYTES = 9,  // mov $15, %rax; syscall. Of aarch64, 8: mov x8, 139; svc 0
};

/* What the kernel knows as the handler of all signals that the program handles. */
static void on_signal(int number, siginfo_t *info, void *context);

static struct {
    _Atomic(tp_handler) theirs[SIGNALS];
    _Atomic(uint64_t) once;  // bit n: SA_RESETHAND, the kernel forgets it when it calls
    _Atomic(uint64_t) plain;      // bit n: the program did not ask for SA_SIGINFO
    _Atomic(uintptr_t) restorer;  // where handlers that the kernel has called return to
} handlers;

static const uint64_t ALL = UINT64_MAX;  // signals, as the kernel has its masks

/* Signals that wait, in the thread that they came to: the oldest first, no gaps. */
struct waiting {
    int number;        // 0: none, here and behind
    uint64_t blocked;  // for its sake, where it fell; 0: no more
    char info[INFO_BYTES];
};
static TP_THREAD struct waiting waiting[WAITING];

/* A call of a handler in the kernel's place. */
struct call {
    struct sigaction action;
    siginfo_t info;
    ucontext_t context;  // where the program goes on
    uint64_t mask;       // of it
    _Atomic(bool) over;
};
static TP_THREAD const ucontext_t *made;  // the context of such a call that begins

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

/* ---- where a signal fell ---- */

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

/* How far the stack goes that the signal fell on. */
static uintptr_t stack_pointer(const ucontext_t *context)
{
#if defined(__x86_64__)
    return (uintptr_t)context->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    return (uintptr_t)context->uc_mcontext.sp;
#else
    (void)context;
    return (uintptr_t)__builtin_frame_address(0);
#endif
}

/* True in the code of this library: the linker knows where it begins and ends. */
static bool is_our_code(uintptr_t at)
{
    extern const char __ehdr_start[] __attribute__((visibility("hidden")));
    extern const char etext[] __attribute__((visibility("hidden")));
    return at - (uintptr_t)__ehdr_start < (uintptr_t)(etext - __ehdr_start);
}

/*
 * A handler that has returned is not over before the kernel has seen to it: for two
 * instructions of the C library's the program counter tells nothing of what the signal
 * fell on, which may be a malloc that is half done. There the stack pointer leads to the
 * context that the kernel will put back, and that is where this signal fell as well.
 */
static ucontext_t *fallen_on(ucontext_t *at)
{
    uintptr_t restorer = atomic_load_explicit(&handlers.restorer, memory_order_relaxed);
    while (restorer && program_counter(at) - restorer < RESTORER_BYTES) {
        uintptr_t frame = stack_pointer(at);
#if defined(__aarch64__)
        frame += sizeof(siginfo_t);
#endif
        at = (ucontext_t *)frame;
    }
    return at;
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
    if (tp_os_is_sandboxed()) return false;  // which may forbid to send any
    return !is_noted(&handlers.once, number);
}

/* What is kept changes only while nothing else can come. */
static uint64_t set_mask(uint64_t mask)
{
    uint64_t before = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &before, sizeof(mask));
    return before;
}

/* The kernel's part of a mask is its first word. */
static uint64_t *word_of(sigset_t *mask)
{
    return (uint64_t *)(void *)mask;
}

/* Keeps the signal and blocks what can be blocked where it fell. Needs: all blocked. */
static bool keep(int number, const siginfo_t *info, ucontext_t *context)
{
    struct waiting *place = waiting;
    while (place < waiting + WAITING && place->number) place++;
    if (place == waiting + WAITING) return false;
    uint64_t *mask = word_of(&fallen_on(context)->uc_sigmask), before = *mask;
    for (int n = 1; n < SIGNALS; n++)
        if (!is_fault(n) && n != SIGABRT) *mask |= bit(n);
    memcpy(place->info, info, INFO_BYTES);
    place->number = number;
    place->blocked = (*mask & ~before) | bit(number);
    tp_pool_defer();
    return true;
}

static void remove_waiting(struct waiting *place)
{
    size_t behind = (size_t)(waiting + WAITING - place) - 1;
    memmove(place, place + 1, behind * sizeof(*place));
    waiting[WAITING - 1] = (struct waiting){ 0 };
}

bool tp_handlers_wait(int number, siginfo_t *info, void *context)
{
    if (TP_LIKELY(!tp_pool_is_busy()) || !may_wait(number, info)) return false;
    uint64_t before = set_mask(ALL);
    bool kept = keep(number, info, context);
    set_mask(before);
    return kept;
}

/* ---- the handlers of signals that waited ---- */

/* As the kernel does it; then the program goes on where the handler wants it to. */
static _Noreturn void run(struct call *call, uint64_t mask)
{
    uint64_t *then = word_of(&call->context.uc_sigmask);
    *then = call->mask;
    made = &call->context;
    set_mask(mask);
    call->action.sa_sigaction(call->info.si_signo, &call->info, &call->context);
    set_mask(ALL);
    call->mask = *then;
    *then = ALL;
    atomic_store_explicit(&call->over, true, memory_order_relaxed);
    setcontext(&call->context);
    __builtin_trap();  // its context is none
}

/* makecontext() hands on numbers. */
static void run_there(
    unsigned call_high, unsigned call_low, unsigned high, unsigned low)
{
    uintptr_t call = (uintptr_t)call_high << 16 << 16 | call_low;
    run((void *)call, (uint64_t)high << 32 | low);
}

static bool is_on_other_stack(const struct call *call, stack_t *out)
{
    unsigned other = SS_ONSTACK | SS_DISABLE;
    return sigaltstack(NULL, out) == 0 && (call->action.sa_flags & SA_ONSTACK) &&
        !((unsigned)out->ss_flags & other);
}

/* Calls the handler, with `mask` in force. Needs: all blocked; leaves it so. */
static TP_COLD void call_handler(struct call *call, uint64_t mask)
{
    stack_t stack, none = { .ss_flags = SS_DISABLE };
    bool other = is_on_other_stack(call, &stack);
    getcontext(&call->context);
    if (atomic_load_explicit(&call->over, memory_order_relaxed)) return;
    call->context.uc_stack = stack;
    if (!other) run(call, mask);

    ucontext_t there;
    uintptr_t address = (uintptr_t)call;
    getcontext(&there);
    there.uc_stack = stack;
    there.uc_link = NULL;
    makecontext(&there, (void (*)(void))run_there, 4, (unsigned)(address >> 16 >> 16),
        (unsigned)address, (unsigned)(mask >> 32), (unsigned)mask);
    bool disarm = (unsigned)stack.ss_flags & TP_AUTODISARM;
    if (disarm) sigaltstack(&none, NULL);
    swapcontext(&call->context, &there);
    if (disarm) sigaltstack(&stack, NULL);
}

/* The first that is kept and not in `mask`; NULL: there is none. */
static struct waiting *find_due(uint64_t mask)
{
    for (int i = 0; i < WAITING && waiting[i].number; i++)
        if (!(mask & bit(waiting[i].number))) return &waiting[i];
    return NULL;
}

/*
 * Calls the handlers of what is kept and not in `mask`, which is the program's and may
 * be changed by them. Needs: all blocked; leaves it so.
 */
static void call_due(uint64_t *mask)
{
    struct waiting *place;
    while ((place = find_due(*mask))) {
        struct call call = { .mask = *mask };
        int number = place->number;
        memcpy(&call.info, place->info, INFO_BYTES);
        remove_waiting(place);
        if (__sigaction(number, NULL, &call.action) != 0 || !is_function(&call.action))
            continue;
        uint64_t inner = *mask | *word_of(&call.action.sa_mask);
        if (!(call.action.sa_flags & SA_NODEFER)) inner |= bit(number);
        // What may fall on the handler falls on its first line, as the kernel has it.
        call_due(&inner);
        // The handler may leave by a longjmp: then the next end of a path sees to it.
        if (waiting[0].number) tp_pool_defer();
        call_handler(&call, inner);
        *mask = call.mask;
    }
}

void tp_host_signal_due(void)
{
    int saved = errno;
    uint64_t mask = set_mask(ALL);
    for (int i = 0; i < WAITING; i++) {
        mask &= ~waiting[i].blocked;
        waiting[i].blocked = 0;
    }
    call_due(&mask);
    if (waiting[0].number) tp_pool_defer();
    set_mask(mask);
    errno = saved;
}

void tp_handlers_forked(void)
{
    // As what the kernel keeps: but for what has just come to the child itself.
    while (waiting[0].number && !waiting[0].blocked) remove_waiting(&waiting[0]);
}

void tp_handlers_return_to(uintptr_t address)
{
    if (!is_our_code(address))
        atomic_store_explicit(&handlers.restorer, address, memory_order_relaxed);
}

void tp_handlers_call(tp_handler handler, int number, siginfo_t *info, void *context)
{
    ucontext_t *at = context;
    bool fell_on_us = at != made && is_our_code(program_counter(fallen_on(at)));
    made = NULL;
    if (TP_LIKELY(!tp_pool_is_busy() && !fell_on_us)) {
        handler(number, info, context);
        return;
    }
    // The frame tells whether the handler was called on the alternate stack.
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    size_t bytes = at->uc_stack.ss_size;
    if (here - (uintptr_t)at->uc_stack.ss_sp >= bytes) bytes = 0;
    bool aside = tp_pool_step_aside(at->uc_stack.ss_sp, bytes, stack_pointer(at));
    handler(number, info, context);
    if (aside) tp_pool_step_back();
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    tp_handlers_return_to((uintptr_t)__builtin_return_address(0));
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
