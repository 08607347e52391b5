/* SPDX-License-Identifier: MIT */
/*
 * os.c - the only file that asks the kernel for memory.
 */
#include "pool/os.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

enum { SPINS = 100 };  // before a waiter sleeps; a critical section is shorter

_Atomic(bool) tp_os_sandboxed;

static struct {
    size_t page;
} os;

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

uint64_t tp_os_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void tp_os_pause(void)
{
    int saved = errno;
    nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
    errno = saved;
}

uint32_t tp_os_tid(void)
{
    return (uint32_t)syscall(SYS_gettid);
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
