/* SPDX-License-Identifier: MIT */
/*
 * pool.h - the page to read: an allocator that counts itself.
 *
 * Idea: requests up to 128 KiB come from size classes (heap.h), larger ones from runs
 * of pages (huge.h) of which the last few freed are at hand (nearby.h), all of them where
 * there is no address space from a private jemalloc (large.c). Every
 * block is counted exactly, in the thread that takes or frees it (counters.h), and
 * the peak of live bytes is known with its bound (peak.h). The malloc names are not
 * here: this is an ordinary library that any program can link and test.
 *
 * All functions work before any constructor has run and in every state of a thread.
 * errno is set to ENOMEM where no block is returned, and kept otherwise.
 *
 * Locks, outermost first: the shared heap's, park, jemalloc's own, huge, depot. Those
 * of marks and of the ledger stand alone: nothing else is taken under them.
 * None is held across fork.
 */
#ifndef TP_POOL_POOL_H
#define TP_POOL_POOL_H

#include "pool/counters.h"

/*
 * A block of at least `size` bytes, aligned to 16; its content is undefined.
 * Fails: NULL, ENOMEM, counted as a failed malloc. Context: hot, see fast.h.
 */
TP_HOT void *tp_pool_alloc(size_t size);

/* As tp_pool_alloc(), zeroed; pages fresh from the kernel are not cleared again. */
void *tp_pool_zalloc(size_t size);

/* As tp_pool_alloc(), aligned to `align`. Needs: a power of two. */
void *tp_pool_aligned(size_t align, size_t size);

/*
 * Takes a block back; NULL is ignored. Context: hot, see fast.h. Dies on a misuse
 * that shows without another cache line.
 */
TP_HOT void tp_pool_free(void *p);

/* As tp_pool_free(); dies when the block is smaller than `size`. */
void tp_pool_free_sized(void *p, size_t size);

/*
 * Makes the block `size` bytes long, where it stands or elsewhere.
 * Counts the call as one of `entry`.
 * Needs: p is not NULL, size is not 0. Fails: NULL, the old block untouched.
 */
void *tp_pool_realloc(void *p, size_t size, enum tp_call entry);

/* Bytes that the program may use at `p`; 0 for NULL and for what is not ours. */
size_t tp_pool_usable(const void *p);

/*
 * Counts a call of an entry point that is not plain malloc or free, and a call that
 * returned no memory without asking the pool. When the pool itself returned none, it
 * has counted a failed malloc; tp_pool_blame() makes it one of `entry`.
 */
void tp_pool_count_call(enum tp_call entry);
TP_COLD void tp_pool_count_failure(enum tp_call entry);
TP_COLD void tp_pool_blame(enum tp_call entry);

/* The calling thread's counters; NULL in a thread that has and gets none. */
struct tp_counters *tp_pool_counters(void);

/* Counters of slot `index`, NULL beyond the last; and how many slots there are. */
struct tp_counters *tp_pool_slot(uint32_t index);
uint32_t tp_pool_slots(void);

/*
 * The highest number of live bytes that the process has had, for who is told of a block
 * (host.h): until just before this block is taken, freed or resized, which is not on the
 * books yet. `counters` are those of struct tp_told. With `exact` it is exact; else
 * exact with one thread, and with several the best that is known.
 */
TP_COLD int64_t tp_pool_peak_now(const struct tp_counters *counters);

/* The same with `exact`, where it takes no more than two loads. */
int64_t tp_pool_peak_exact(void);

/*
 * A walk over the slots that count, in order: for sums of all threads. When one walk
 * has ended, or several with the same `folded`, tp_pool_walked() tells whether no slot
 * was folded meanwhile; else the sums are to be taken again. Context: anywhere.
 */
struct tp_walk {
    uint64_t folded;  // tp_totals.folded when it began
    uint32_t next;    // slot
    uint32_t index;   // of the slot returned last
};
struct tp_walk tp_pool_walk(void);
const struct tp_counters *tp_pool_next(struct tp_walk *walk);  // NULL: no more
bool tp_pool_walked(const struct tp_walk *walk);

/* The sums of all threads; false when they are to be taken again. Context: anywhere. */
bool tp_pool_sums(struct tp_sums *out);

/* True when no slot of `bay` has pages: nobody counts there. */
bool tp_pool_is_gone(uint32_t bay);

/*
 * Opens the pool, once; every other function does so by itself. False while the
 * opening thread is still at it, or without memory.
 */
TP_COLD bool tp_pool_start(void);

/* Gives everything unused back to the kernel; true when there was something. */
TP_COLD bool tp_pool_trim(void);

/* Ticks of the cycle counter between two ticks of the pool. */
uint64_t tp_pool_tick_ticks(void);

/*
 * Nobody counts between the two: the counters may be copied and mapped over. False,
 * and nothing to end, while another thread has a heap. The second gets what the first
 * put out.
 */
TP_COLD bool tp_pool_begin_alone(uintptr_t *out_outer);
TP_COLD void tp_pool_end_alone(uintptr_t outer);

/*
 * True while a slow path of this thread is under way: a signal handler that went on
 * could wait for a lock that it stands on. After tp_pool_defer() the end of the path
 * calls tp_host_signal_due().
 */
bool tp_pool_is_busy(void);
void tp_pool_defer(void);

/*
 * A signal fell on a fast path: until tp_pool_step_back() the thread works with the
 * shared heap. The first tells the alternate stack that the handler runs on, or 0
 * bytes, and where the stack ended that the signal fell on: a handler that is left by
 * a longjmp is noticed by that. False, and no way
 * back, when the thread is aside already: a handler further down will step back.
 */
bool tp_pool_step_aside(const void *stack, size_t stack_bytes, uintptr_t fell_at);
void tp_pool_step_back(void);

/* Around fork(2), in this order: before; then parent, or child. */
void tp_pool_before_fork(void);
void tp_pool_after_fork(void);
/* Returns true when the parent had but one thread. */
bool tp_pool_forked(void);

/* thread.c: makes threads give their heap back when they end. Once, at start. */
bool tp_thread_open(void);

#endif
