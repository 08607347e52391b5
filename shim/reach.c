/* SPDX-License-Identifier: MIT */
/*
 * reach.c - which memory is stack, and may be read.
 *
 * Wrong unwind information leads anywhere. So what is read must be known to be there:
 *
 *   main thread    the kernel keeps the room below its first stack pointer free for it,
 *                  as much as RLIMIT_STACK was: [sp, __libc_stack_end)
 *   other threads  glibc puts what pthread_self() points to on top of a thread's stack,
 *                  its own stacks and those of the program alike. That we stand on that
 *                  stack follows from every page between being there: a guard page or a
 *                  hole lies below each. Asked page by page, once, and kept.
 *                  (pthread_getattr_np() would know, but it allocates.)
 *   anything else  alternate signal stacks and coroutines: a page at a time.
 *
 * Whether a page can be read the kernel tells for nothing: rt_sigprocmask() reads the
 * set before it looks at a `how` that does not exist, so the answer is EFAULT or EINVAL.
 * In a sandbox nothing is asked, and only the page that we stand on counts.
 */
#include "shim/unwind.h"

#include "pool/os.h"

#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_stack_end;

enum {
    STACK_MOST = 1 << 30,    // as much as is believed to be stack without asking
    ASKED_MOST = 16 << 20,   // as far as is asked
    WINDOW_MOST = 16 << 20,  // as far as a window moves
};

static struct {
    uintptr_t top;    // of the main thread's stack
    uintptr_t begin;  // its first stack pointer, aligned as for a call
    uintptr_t size;   // most that it may take
    uintptr_t main;   // pthread_self() of the main thread; 0: not known
} reach;

void tp_reach_open(void)
{
    struct rlimit limit = { 0 };
    if (getrlimit(RLIMIT_STACK, &limit) != 0) limit.rlim_cur = 0;
    reach.size = limit.rlim_cur < STACK_MOST ? limit.rlim_cur : STACK_MOST;
    reach.top = tp_align_up((uintptr_t)__libc_stack_end + 1, tp_os_page());
    reach.begin = (uintptr_t)__libc_stack_end & ~(uintptr_t)15;
    if (tp_os_tid() == (uint32_t)getpid()) reach.main = (uintptr_t)pthread_self();
}

bool tp_reach_begins(uintptr_t sp)
{
    return sp >= reach.begin && sp < reach.top;
}

bool tp_reach_can_read(uintptr_t at)
{
    if (tp_os_is_sandboxed()) return false;
    int saved = errno;
    long done = syscall(SYS_rt_sigprocmask, -1, at & ~(uintptr_t)7, NULL, 8);
    bool can = done == 0 || errno != EFAULT;
    errno = saved;
    return can;
}

/* Every page of [from, to) can be read. */
static bool can_read_all(uintptr_t from, uintptr_t to)
{
    size_t page = tp_os_page();
    for (uintptr_t at = from & ~(page - 1); at < to; at += page)
        if (!tp_reach_can_read(at)) return false;
    return true;
}

/* True when `sp` is on the stack that the thread `self` was given. */
static bool is_own(struct tp_reach_known *known, uintptr_t self, uintptr_t sp)
{
    if (known->self == self && sp >= known->low && sp < self) return true;
    if (self == reach.main || sp >= self || self - sp > ASKED_MOST) return false;
    bool more = known->self == self && known->low > sp;
    if (!can_read_all(sp, more ? known->low : self)) return false;
    *known = (struct tp_reach_known){ .self = self, .low = sp & ~(tp_os_page() - 1) };
    return true;
}

void tp_reach_at(struct tp_reach *out, struct tp_reach_known *known, uintptr_t sp)
{
    uintptr_t low = sp & ~(uintptr_t)7, self = (uintptr_t)pthread_self();
    *out = (struct tp_reach){ .low = low };
    if (sp < reach.top && reach.top - sp <= reach.size) {
        out->high = reach.top;
    } else if (is_own(known, self, sp)) {
        out->high = self;
    } else {
        size_t page = tp_os_page();
        out->anchor = low;
        out->low = low & ~(page - 1);
        out->high = out->low + page;
    }
}

bool tp_reach_move(struct tp_reach *out, uintptr_t at)
{
    uintptr_t anchor = out->anchor;
    if (!anchor || at % 8 || at < (anchor & ~(tp_os_page() - 1)) ||
        at - anchor > WINDOW_MOST || !tp_reach_can_read(at))
        return false;
    out->low = at & ~(tp_os_page() - 1);
    out->high = out->low + tp_os_page();
    return true;
}
