/* SPDX-License-Identifier: MIT */
/*
 * os.h - everything the pool asks of the system.
 *
 * Idea: address space is reserved without access, made accessible in steps, and
 * its pages are given back without giving back the addresses. Plus the lock, the
 * clocks and the two ways of speaking. Only os.c asks the kernel for memory.
 *
 * All functions preserve errno unless their contract says otherwise.
 */
#ifndef TP_POOL_OS_H
#define TP_POOL_OS_H

#include "pool/base.h"

#include <stdatomic.h>

/* Page size of this machine; a power of two, at least TP_PAGE. */
size_t tp_os_page(void);

/*
 * Reserves `bytes` of address space without access, aligned to `align` (a power
 * of two, at least a page). Fails: NULL. Context: cold.
 */
void *tp_os_reserve(size_t bytes, size_t align);

/* Makes a page-aligned part of a reservation readable and writable, zero-filled. */
bool tp_os_commit(void *start, size_t bytes);

/* Makes a page-aligned part of a reservation readable; it reads as zeros. */
bool tp_os_show(void *start, size_t bytes);

/* Takes access and pages back; the addresses stay reserved. */
bool tp_os_decommit(void *start, size_t bytes);

/* Maps zeroed private memory, page aligned. Fails: NULL. */
void *tp_os_map(size_t bytes);

/* The same, far larger than what will be touched: only that counts as memory. */
void *tp_os_map_sparse(size_t bytes);

/* Gives a mapping back, addresses and all. */
void tp_os_unmap(void *start, size_t bytes);

/* Gives the pages back; the next read sees zeros. Fails: false, pages kept. */
bool tp_os_purge(void *start, size_t bytes);

/* Keeps huge pages out of small, sparsely touched metadata. */
void tp_os_no_huge(void *start, size_t bytes);

/*
 * Moves the pages of [from, from + bytes) to `to`, both page aligned and mapped
 * private; `from` stays mapped and reads as zeros. When the kernel cannot, `from` is
 * as it was, and `to`, which it may have unmapped on the way, is mapped afresh.
 */
enum tp_move {
    TP_MOVED,
    TP_NOT_MOVED,  // `to` is there, zeroed
    TP_MOVE_LOST,  // `to` is a hole: never touch it again
};
enum tp_move tp_os_move(void *from, void *to, size_t bytes);

/*
 * A word that is 1 here and reads as 0 in every child that does not share our memory,
 * however it was forked. NULL where the kernel has no such thing.
 */
_Atomic(uint32_t) *tp_os_fork_mark(void);

/* RLIMIT_AS in bytes; SIZE_MAX when there is none. */
size_t tp_os_address_limit(void);

/* RLIMIT_FSIZE in bytes; UINT64_MAX when there is none, 0 when it cannot be learnt. */
uint64_t tp_os_file_limit(void);

/*
 * The program has given up system calls (seccomp): from here on only the memory calls
 * that every allocator makes, and futex. Set once, never cleared; relaxed, because the
 * thread that gives them up sets it itself.
 */
extern _Atomic(bool) tp_os_sandboxed;

static inline bool tp_os_is_sandboxed(void)
{
    return atomic_load_explicit(&tp_os_sandboxed, memory_order_relaxed);
}

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t tp_os_now_ns(void);

/* Lets others run for a moment. */
void tp_os_pause(void);

/* Thread id of the caller, straight from the kernel where that may be asked. */
uint32_t tp_os_tid(void);

/* The caller's name as the kernel has it, terminated; in a sandbox `out` stays. */
void tp_os_thread_name(char out[16]);

/* True when the caller runs on an alternate signal stack, or may do so. */
bool tp_os_on_signal_stack(void);

/*
 * Cycle counter: cheap, constant rate, the same on all processors.
 * Where a machine has none it is tp_os_now_ns().
 */
static inline uint64_t tp_os_ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return tp_os_now_ns();
#endif
}

/*
 * A lock that sleeps when it must. It is never held across fork: a forked child
 * resets the words it inherited. Not for signal handlers, except tp_lock_try().
 */
struct tp_lock {
    _Atomic(uint32_t) word;  // 0 free, 1 held, 2 held and someone sleeps
};

/* Context: cold. Acquire meets the release of tp_lock_leave(). */
void tp_lock_enter(struct tp_lock *lock);
void tp_lock_leave(struct tp_lock *lock);
bool tp_lock_try(struct tp_lock *lock);

/*
 * Between the two no write of ours brings a signal upon the program: not SIGPIPE, not
 * SIGXFSZ, not SIGTTOU. Context: anywhere; does nothing in a sandbox.
 */
struct tp_quiet {
    uint32_t blocked;  // by us, as bits of a list of ours
    uint32_t pending;  // already, likewise
};
void tp_os_quiet(struct tp_quiet *quiet);
void tp_os_loud(const struct tp_quiet *quiet);

/* say.c: messages, built on the stack and sent with one write(2). */

enum { TP_SAY_MAX = 512 };  // longest message; the rest is cut

/*
 * Writes "tidepool: ", then the text, then a line feed to stderr. Understands %s,
 * %c, %u, %lu, %p, and %d, which takes an errno and writes its meaning in words.
 * Context: anywhere, signal handlers included; preserves errno. Silent in a sandbox.
 */
void tp_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* As tp_say(), in a sandbox too: for who is about to abort. */
TP_COLD void tp_say_last(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, then abort(): for a heap that the program has corrupted. */
_Noreturn TP_COLD void tp_die(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* Formats like tp_say() into a buffer, always terminated; returns the length. */
size_t tp_format(char *out, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
