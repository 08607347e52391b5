/* SPDX-License-Identifier: MIT */
/*
 * syscalls.c - the bare system calls that concern us, seen as they go by.
 *
 * Programs and libraries ask the kernel past the C library's own functions: a fork
 * made by syscall(SYS_clone) or clone(fn, ...) runs no fork handlers, and a seccomp
 * filter set by syscall(SYS_seccomp) may kill the process for any call that it did not
 * foresee, ours among them. Three functions are therefore wrapped. All other calls
 * pass by a jump, so that nothing is left on the stack of who calls.
 *
 * A child that comes about in another way is noticed at its first slow path, by a word
 * that the kernel wipes on fork.
 */
#include "shim/output.h"

#include "pool/host.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* In C these take any number of arguments; in fact always so many. */
#if defined(__x86_64__)
void tp_syscall(void) __asm__("syscall");
#else
long tp_syscall(long number, long a, long b, long c, long d, long e, long f) __asm__(
    "syscall");
#endif
int tp_prctl(int option, long a, long b, long c, long d) __asm__("prctl");
int tp_clone(int (*run)(void *), void *stack, int flags, void *argument, void *parent,
    void *tls, void *child) __asm__("clone");

/* The next syscall() in the order of look-up. */
__attribute__((used, visibility("hidden"))) long (*tp_syscall_next)(
    long, long, long, long, long, long, long);

static struct {
    int (*clone)(int (*)(void *), void *, int, void *, void *, void *, void *);
} real;

/* Asks the kernel; sets errno. */
static TP_COLD long ask(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    result = x0;
#else
#error "no way to ask the kernel on this machine"
#endif
    if ((unsigned long)result < -4095UL) return result;
    errno = (int)-result;
    return -1;
}

/* True for a call that makes a process with memory of its own, on this very stack. */
static bool is_fork(long number, long a, long b)
{
#if defined(SYS_fork)
    if (number == SYS_fork) return true;
#endif
    if (number == SYS_clone) return !(a & CLONE_VM) && !b;
    // Without arguments it is a question whether the kernel has it.
    if (number != SYS_clone3 || !a || b < CLONE_ARGS_SIZE_VER0) return false;
    const struct clone_args *wish = (const struct clone_args *)a;
    return !(wish->flags & CLONE_VM) && !wish->stack;
}

/* A child of vfork shares our memory: what it forbids itself, it does not forbid us. */
static bool is_us(void)
{
    return (uint32_t)ask(SYS_getpid, 0, 0, 0, 0, 0, 0) == tp_boot.pid;
}

static bool is_filter(long number, long a)
{
    if (number == SYS_prctl) return a == PR_SET_SECCOMP;
    return number == SYS_seccomp &&
        (a == SECCOMP_SET_MODE_FILTER || a == SECCOMP_SET_MODE_STRICT);
}

/* Of threads that cannot be brought into step the number comes back, as a failure. */
static bool is_in_force(long number, long flags, long result)
{
    bool in_step = number == SYS_seccomp && (flags & (long)SECCOMP_FILTER_FLAG_TSYNC) &&
        !(flags & (long)SECCOMP_FILTER_FLAG_TSYNC_ESRCH);
    return in_step ? result == 0 : result >= 0;
}

/* Makes a call that concerns us. */
static TP_COLD long take_part(
    long number, long a, long b, long c, long d, long e, long f)
{
    bool filter = is_filter(number, a);
    // One that is in force may forbid to ask who we are.
    bool first = filter && !tp_os_is_sandboxed() && is_us();
    long result = ask(number, a, b, c, d, e, f);
    if (first && is_in_force(number, b, result)) {
        atomic_store_explicit(&tp_os_sandboxed, true, memory_order_relaxed);
        tp_live_note_sandbox();
    }
    if (!filter && result == 0) tp_host_forked();
    return result;
}

/* What the entry below falls to. */
long tp_syscall_seen(long number, long a, long b, long c, long d, long e, long f);

__attribute__((used, visibility("hidden"))) long tp_syscall_seen(
    long number, long a, long b, long c, long d, long e, long f)
{
    if (is_fork(number, a, b) || is_filter(number, a))
        return take_part(number, a, b, c, d, e, f);
    return ask(number, a, b, c, d, e, f);
}

#if defined(__x86_64__)
/*
 * In machine language, because the seventh argument stands in the caller's frame: where
 * the caller has passed fewer it is a variable of its, and not to be written to, not
 * even with what it holds. And because a child that is given a stack returns on that:
 * only clone and clone3 without CLONE_VM and without a stack concern us. Numbers: clone,
 * fork, prctl, seccomp, clone3; 40 is where clone3's arguments have the stack.
 */
TP_EXPORT __attribute__((naked)) void tp_syscall(void)
{
    __asm__("cmpq $57, %rdi; je 1f; cmpq $157, %rdi; je 1f; cmpq $317, %rdi; je 1f\n\t"
            "cmpq $56, %rdi; je 3f; cmpq $435, %rdi; je 4f\n"
            "2:\tmovq tp_syscall_next(%rip), %rax; testq %rax, %rax; je 1f\n\t"
            "jmp *%rax\n"
            "3:\ttestq $0x100, %rsi; jne 2b; testq %rdx, %rdx; jne 2b; jmp 1f\n"
            "4:\ttestq %rsi, %rsi; je 2b; testq $0x100, (%rsi); jne 2b\n\t"
            "cmpq $0, 40(%rsi); jne 2b\n"
            "1:\tjmp tp_syscall_seen");
}
static_assert(SYS_clone == 56 && SYS_fork == 57 && SYS_prctl == 157 &&
        SYS_seccomp == 317 && SYS_clone3 == 435 && CLONE_VM == 0x100 &&
        offsetof(struct clone_args, stack) == 40,
    "the numbers above");
#else
/* All seven are in registers here. */
TP_EXPORT long tp_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    if (TP_UNLIKELY(is_fork(number, a, b) || is_filter(number, a) || !tp_syscall_next))
        return tp_syscall_seen(number, a, b, c, d, e, f);
    return tp_syscall_next(number, a, b, c, d, e, f);
}
#endif

TP_EXPORT int tp_prctl(int option, long a, long b, long c, long d)
{
    if (TP_UNLIKELY(is_filter(SYS_prctl, option)))
        return (int)take_part(SYS_prctl, option, a, b, c, d, 0);
    return (int)ask(SYS_prctl, option, a, b, c, d, 0);
}

struct start {
    int (*run)(void *);
    void *argument;
};

static int begin_child(void *data)
{
    // The child's copy of the parent's stack.
    struct start start = *(struct start *)data;
    tp_host_forked();
    return start.run(start.argument);
}

TP_EXPORT int tp_clone(int (*run)(void *), void *stack, int flags, void *argument,
    void *parent, void *tls, void *child)
{
    if (TP_UNLIKELY(!real.clone)) tp_syscalls_open();
    if (TP_UNLIKELY(!real.clone)) {
        errno = ENOSYS;
        return -1;
    }
    if ((flags & CLONE_VM) || !run)
        return real.clone(run, stack, flags, argument, parent, tls, child);
    struct start start = { run, argument };
    return real.clone(begin_child, stack, flags, &start, parent, tls, child);
}

void tp_syscalls_open(void)
{
    tp_syscall_next =
        (long (*)(long, long, long, long, long, long, long))dlsym(RTLD_NEXT, "syscall");
    real.clone = (int (*)(int (*)(void *), void *, int, void *, void *, void *,
        void *))dlsym(RTLD_NEXT, "clone");
}
