/* SPDX-License-Identifier: MIT */
/*
 * exit.c - every way out that runs code: return, exit, quick_exit, _exit.
 *
 * Handlers registered before the program's own run after them; without a library
 * handle they run after its destructors too, so that late frees are counted. Nothing
 * depends on any of this: a process that ends otherwise leaves its live file.
 */
#include "shim/output.h"

#include "pool/os.h"

#include <sys/syscall.h>
#include <unistd.h>

/* glibc's ABI behind atexit() and at_quick_exit(). */
extern int __cxa_atexit(void (*run)(void *), void *argument, void *library);
extern int __cxa_at_quick_exit(void (*run)(void *), void *library);

TP_EXPORT _Noreturn void _exit(int status);
TP_EXPORT _Noreturn void _Exit(int status);

static struct {
    _Atomic(bool) done;
} leaving;

static void leave(void *unused)
{
    (void)unused;
    // A child of vfork shares our memory, not our life.
    if ((uint32_t)syscall(SYS_getpid) != tp_boot.pid) return;
    if (atomic_exchange_explicit(&leaving.done, true, memory_order_relaxed)) return;
    if (tp_options.exit) tp_dump_write(TP_REASON_EXIT);
    tp_live_remove();
}

_Noreturn void _exit(int status)
{
    leave(NULL);
    for (;;) syscall(SYS_exit_group, status);
}

_Noreturn void _Exit(int status)
{
    _exit(status);
}

void tp_exit_open(void)
{
    __cxa_atexit(leave, NULL, NULL);
    __cxa_at_quick_exit(leave, NULL);
}
