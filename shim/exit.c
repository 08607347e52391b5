/* SPDX-License-Identifier: MIT */
/*
 * exit.c - every way out that runs code: return, exit, quick_exit, _exit, exec.
 *
 * Handlers registered before the program's own run after them; without a library
 * handle they run after its destructors too, so that late frees are counted. An
 * exec replaces the program but not the process, so the account of the old program
 * is closed before it; should the exec fail, the account goes on as if nothing had
 * been. Nothing depends on any of this: a process that ends otherwise leaves its
 * live file.
 */
#include "shim/output.h"

#include "pool/os.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

/* glibc's ABI behind atexit() and at_quick_exit(). */
extern int __cxa_atexit(void (*run)(void *), void *argument, void *library);
extern int __cxa_at_quick_exit(void (*run)(void *), void *library);

static struct {
    _Atomic(bool) done;
    int (*execvpe)(const char *, char *const[], char *const[]);
    int (*fexecve)(int, char *const[], char *const[]);
} leaving;

/* A child of vfork shares our memory, not our life. */
static bool is_us(void)
{
    return (uint32_t)syscall(SYS_getpid) == tp_boot.pid;
}

static void leave(void *unused)
{
    (void)unused;
    if (tp_os_is_sandboxed()) {
        tp_live_close();
        return;
    }
    if (!is_us()) return;
    if (atomic_exchange_explicit(&leaving.done, true, memory_order_relaxed)) return;
    if (tp_options.exit) tp_dump_write(TP_REASON_EXIT);
    tp_live_remove();
}

void tp_exit_forked(void)
{
    atomic_store_explicit(&leaving.done, false, memory_order_relaxed);
}

TP_EXPORT _Noreturn void _exit(int status)
{
    leave(NULL);
    for (;;) syscall(SYS_exit_group, status);
}

TP_EXPORT _Noreturn void _Exit(int status)
{
    _exit(status);
}

/* ---- exec: close the account, or open it again ---- */

/* True when there is an account to close: not in a child that forked just to exec. */
static bool begin_exec(void)
{
    if (tp_os_is_sandboxed() || !is_us() || tp_boot.secure || tp_live_stage.fresh_fork)
        return false;
    tp_dump_forget();
    if (tp_options.exit) tp_dump_write(TP_REASON_EXIT);
    tp_live_remove();
    return true;
}

/* The exec has failed: errno says why, and the program goes on. */
static int failed_exec(bool closed)
{
    int saved = errno;
    if (closed) {
        if (tp_options.exit) tp_dump_withdraw();
        tp_live_reopen();
    }
    errno = saved;
    return -1;
}

TP_EXPORT int execve(const char *path, char *const argv[], char *const env[])
{
    bool closed = begin_exec();
    syscall(SYS_execve, path, argv, env);
    return failed_exec(closed);
}

TP_EXPORT int execv(const char *path, char *const argv[])
{
    return execve(path, argv, environ);
}

TP_EXPORT int execvpe(const char *file, char *const argv[], char *const env[])
{
    bool closed = begin_exec();
    if (leaving.execvpe)
        leaving.execvpe(file, argv, env);
    else
        errno = ENOSYS;
    return failed_exec(closed);
}

TP_EXPORT int execvp(const char *file, char *const argv[])
{
    return execvpe(file, argv, environ);
}

TP_EXPORT int fexecve(int fd, char *const argv[], char *const env[])
{
    bool closed = begin_exec();
    if (leaving.fexecve)
        leaving.fexecve(fd, argv, env);
    else
        errno = ENOSYS;
    return failed_exec(closed);
}

TP_EXPORT int execveat(
    int folder, const char *path, char *const argv[], char *const env[], int flags)
{
    bool closed = begin_exec();
    syscall(SYS_execveat, folder, path, argv, env, flags);
    return failed_exec(closed);
}

/* How many arguments follow `first`, the NULL included. */
static size_t count(const char *first, va_list *rest)
{
    va_list at;
    size_t n = 1;
    va_copy(at, *rest);
    for (const char *word = first; word; n++) word = va_arg(at, const char *);
    va_end(at);
    return n;
}

/* Copies them, the NULL included; leaves `rest` behind it. */
static void gather(const char *first, va_list *rest, char **out)
{
    for (const char *at = first; at; at = va_arg(*rest, const char *))
        *out++ = (char *)(uintptr_t)at;  // exec takes char *, and changes nothing
    *out = NULL;
}

/*
 * The array of the arguments of execl() and its kin. On the stack, as in glibc: a child
 * of vfork may not allocate. Needs: `rest` started; goes out of scope with its caller.
 */
#define GATHERED(argv, first, rest)                                         \
    char **argv = __builtin_alloca(count(first, &(rest)) * sizeof(char *)); \
    gather(first, &(rest), argv)

TP_EXPORT int execl(const char *path, const char *first, ...)
{
    va_list rest;
    va_start(rest, first);
    GATHERED(argv, first, rest);
    va_end(rest);
    return execve(path, argv, environ);
}

TP_EXPORT int execlp(const char *file, const char *first, ...)
{
    va_list rest;
    va_start(rest, first);
    GATHERED(argv, first, rest);
    va_end(rest);
    return execvpe(file, argv, environ);
}

TP_EXPORT int execle(const char *path, const char *first, ...)
{
    va_list rest;
    va_start(rest, first);
    GATHERED(argv, first, rest);
    char *const *env = va_arg(rest, char *const *);
    va_end(rest);
    return execve(path, argv, env);
}

void tp_exit_open(void)
{
    // Looked up now: dlsym() may take the loader's lock, and a child of fork may not.
    leaving.execvpe = (int (*)(const char *, char *const[], char *const[]))dlsym(
        RTLD_NEXT, "execvpe");
    leaving.fexecve =
        (int (*)(int, char *const[], char *const[]))dlsym(RTLD_NEXT, "fexecve");
    __cxa_atexit(leave, NULL, NULL);
    __cxa_at_quick_exit(leave, NULL);
}
