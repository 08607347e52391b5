/* SPDX-License-Identifier: MIT */
/*
 * os.c - the only file that asks the kernel for memory.
 */
#include "pool/os.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

enum { SPINS = 100 };  // before a waiter sleeps; a critical section is shorter

static struct {
    size_t page;
} os;

_Atomic(bool) tp_os_sandboxed;

size_t tp_os_page(void)
{
    if (!os.page) os.page = (size_t)sysconf(_SC_PAGESIZE);
    return os.page;
}

static void *map(void *at, size_t bytes, int access, int flags)
{
    int saved = errno;
    void *start = mmap(at, bytes, access, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    errno = saved;
    return start == MAP_FAILED ? NULL : start;
}

void *tp_os_reserve(size_t bytes, size_t align)
{
    if (bytes + align < bytes) return NULL;
    char *start = map(NULL, bytes + align, PROT_NONE, MAP_NORESERVE);
    if (!start) return NULL;

    char *aligned = (char *)tp_align_up((size_t)start, align);
    size_t before = (size_t)(aligned - start);
    if (before) tp_os_unmap(start, before);
    if (align > before) tp_os_unmap(aligned + bytes, align - before);
    return aligned;
}

static bool protect(void *start, size_t bytes, int access)
{
    int saved = errno;
    bool good = mprotect(start, bytes, access) == 0;
    errno = saved;
    return good;
}

bool tp_os_commit(void *start, size_t bytes)
{
    return protect(start, bytes, PROT_READ | PROT_WRITE);
}

bool tp_os_show(void *start, size_t bytes)
{
    return protect(start, bytes, PROT_READ);
}

bool tp_os_decommit(void *start, size_t bytes)
{
    return map(start, bytes, PROT_NONE, MAP_FIXED | MAP_NORESERVE) != NULL;
}

void *tp_os_map(size_t bytes)
{
    return map(NULL, bytes, PROT_READ | PROT_WRITE, 0);
}

void *tp_os_map_sparse(size_t bytes)
{
    void *start = map(NULL, bytes, PROT_READ | PROT_WRITE, MAP_NORESERVE);
    if (start) tp_os_no_huge(start, bytes);
    return start;
}

void tp_os_unmap(void *start, size_t bytes)
{
    int saved = errno;
    munmap(start, bytes);
    errno = saved;
}

bool tp_os_purge(void *start, size_t bytes)
{
    int saved = errno;
    bool good = madvise(start, bytes, MADV_DONTNEED) == 0;
    errno = saved;
    return good;
}

void tp_os_no_huge(void *start, size_t bytes)
{
    int saved = errno;
    madvise(start, bytes, MADV_NOHUGEPAGE);
    errno = saved;
}

enum tp_move tp_os_move(void *from, void *to, size_t bytes)
{
    int saved = errno;
    int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
    bool good = mremap(from, bytes, bytes, flags, to) != MAP_FAILED;
    errno = saved;
    if (good) return TP_MOVED;
    // The kernel unmaps the destination first and looks at the source afterwards.
    void *again = map(to, bytes, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_NORESERVE);
    return again ? TP_NOT_MOVED : TP_MOVE_LOST;
}

_Atomic(uint32_t) *tp_os_fork_mark(void)
{
    int saved = errno;
    _Atomic(uint32_t) *mark = tp_os_map(tp_os_page());
    if (mark && madvise(mark, tp_os_page(), MADV_WIPEONFORK) != 0) {
        tp_os_unmap(mark, tp_os_page());
        mark = NULL;
    }
    if (mark) atomic_store_explicit(mark, 1, memory_order_relaxed);
    errno = saved;
    return mark;
}

size_t tp_os_address_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) != 0) return SIZE_MAX;
    return limit.rlim_cur == RLIM_INFINITY ? SIZE_MAX : (size_t)limit.rlim_cur;
}

uint64_t tp_os_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0) return 0;
    return limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
}

uint64_t tp_os_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void tp_os_pause(void)
{
    // A futex that nobody wakes: a sandbox that forbids it lets no thread lock.
    static uint32_t nobody;
    int saved = errno;
    struct timespec moment = { .tv_nsec = 50000 };
    syscall(SYS_futex, &nobody, FUTEX_WAIT_PRIVATE, 0, &moment, NULL, 0);
    errno = saved;
}

uint32_t tp_os_tid(void)
{
    if (!tp_os_is_sandboxed()) return (uint32_t)syscall(SYS_gettid);
    // glibc knows it, and writes it into every mutex that a thread holds.
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&mutex);
    uint32_t tid = (uint32_t)mutex.__data.__owner;
    pthread_mutex_unlock(&mutex);
    return tid;
}

void tp_os_thread_name(char out[16])
{
    int saved = errno;
    if (!tp_os_is_sandboxed()) prctl(PR_GET_NAME, out, 0, 0, 0);
    errno = saved;
}

bool tp_os_on_signal_stack(void)
{
    if (tp_os_is_sandboxed()) return true;
    int saved = errno;
    stack_t stack;
    bool on = sigaltstack(NULL, &stack) != 0 || (stack.ss_flags & SS_ONSTACK);
    errno = saved;
    return on;
}

/* Signals that a write may bring upon its thread, in the order of the bits. */
static const int brought[] = { SIGPIPE, SIGXFSZ, SIGTTOU };
enum { BROUGHT = sizeof(brought) / sizeof(brought[0]) };

static sigset_t set_of(uint32_t bits)
{
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = 0; i < BROUGHT; i++)
        if (bits >> i & 1) sigaddset(&set, brought[i]);
    return set;
}

static uint32_t bits_of(const sigset_t *set)
{
    uint32_t bits = 0;
    for (unsigned i = 0; i < BROUGHT; i++)
        if (sigismember(set, brought[i]) == 1) bits |= 1u << i;
    return bits;
}

void tp_os_quiet(struct tp_quiet *quiet)
{
    *quiet = (struct tp_quiet){ 0 };
    if (tp_os_is_sandboxed()) return;
    int saved = errno;
    sigset_t all = set_of((1u << BROUGHT) - 1), before, pending;
    if (sigpending(&pending) == 0 && sigprocmask(SIG_BLOCK, &all, &before) == 0) {
        quiet->blocked = bits_of(&all) & ~bits_of(&before);
        quiet->pending = bits_of(&pending);
    }
    errno = saved;
}

void tp_os_loud(const struct tp_quiet *quiet)
{
    if (!quiet->blocked) return;
    int saved = errno;
    sigset_t pending, ours = set_of(quiet->blocked);
    uint32_t now = sigpending(&pending) == 0 ? bits_of(&pending) : 0;
    sigset_t came = set_of(now & quiet->blocked & ~quiet->pending);
    if (bits_of(&came)) {
        struct timespec at_once = { 0 };
        // Not the C library's: a thread could be cancelled in it.
        while (syscall(SYS_rt_sigtimedwait, &came, NULL, &at_once, 8) > 0) {
        }
    }
    sigprocmask(SIG_UNBLOCK, &ours, NULL);
    errno = saved;
}

bool tp_lock_try(struct tp_lock *lock)
{
    uint32_t free = 0;
    return atomic_compare_exchange_strong_explicit(
        &lock->word, &free, 1, memory_order_acquire, memory_order_relaxed);
}

void tp_lock_enter(struct tp_lock *lock)
{
    for (int i = 0; i < SPINS; i++) {
        if (tp_lock_try(lock)) return;
        for (int pause = 0; pause < 8; pause++) __asm__ volatile("" ::: "memory");
    }
    int saved = errno;
    while (atomic_exchange_explicit(&lock->word, 2, memory_order_acquire) != 0)
        syscall(SYS_futex, &lock->word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
    errno = saved;
}

void tp_lock_leave(struct tp_lock *lock)
{
    if (atomic_exchange_explicit(&lock->word, 0, memory_order_release) != 2) return;
    int saved = errno;
    syscall(SYS_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = saved;
}
