/* SPDX-License-Identifier: MIT */
/*
 * host.h - what the pool asks of whoever embeds it.
 *
 * Idea: a seam closed by the linker. The preload library answers with options, files
 * and samples; a unit test answers with constants. Nothing here may allocate.
 */
#ifndef TP_POOL_HOST_H
#define TP_POOL_HOST_H

#include "pool/counters.h"

struct tp_pool_options {
    size_t reserve;       // bytes of address space; 0: as much as is sensible
    uint64_t purge_ns;    // age at which empty memory goes back; UINT64_MAX: never
    bool zero;            // clear blocks when they are freed
    bool check;           // catch every misuse that can be caught
    bool inert;           // another allocator serves the program: no block is ours
    int64_t watch_bytes;  // each thread ticks as often, too; 0: does not
    bool exact;           // the host is told of every block, not of samples only
};

/* One heap's sampler: the host's to keep, but for `to_sample`. All zero at first. */
struct tp_sampler {
    int64_t to_sample;    // bytes until the next sample; the pool counts them down
    uint64_t interval;    // mean distance that this one was drawn with
    uint64_t last_ticks;  // when the last sample was taken
    uint64_t generator;   // state of the random numbers; 0: not seeded
};

/* Where the program has called us: what its frame was before the call. */
struct tp_caller {
    uintptr_t pc;  // behind the call
    uintptr_t sp;
    uintptr_t fp;
};

/*
 * A block, as the host is told of it: before the books are. Live bytes and their peak
 * (tp_pool_peak_now()) are those without what it tells of.
 */
struct tp_told {
    void *p;           // NULL: the pool has no room to keep a mark for it
    size_t requested;  // 0: not known
    size_t bytes;      // usable
    uint32_t class;    // TP_LARGE_CLASS above the pools
    uint32_t slot;     // of the thread that does it
    const struct tp_counters *counters;  // of that thread
    const struct tp_caller *caller;      // NULL, or some function of ours: not known
};

/* Asked once, before the first block; the options come zeroed. */
void tp_host_start(struct tp_pool_options *out_options);

/* The pool is open, its counters count. Once, in the thread that opened it. */
void tp_host_started(void);

/*
 * A bay of counters was made, slots first .. first + 31, all zero and unused. A
 * file may be mapped over it now. Context: under the park's lock.
 */
void tp_host_bay(struct tp_counters *counters, uint32_t first);

/*
 * Slots first .. first + n - 1 of one bay, whole pages, are all zero and nobody counts
 * there: gives the pages back, without a moment at which they cannot be read. False:
 * they stay. The second is called before such slots are used again.
 * Context: under the park's lock.
 */
bool tp_host_release(struct tp_counters *counters, uint32_t first, uint32_t n);
void tp_host_restore(struct tp_counters *counters, uint32_t first, uint32_t n);

/*
 * Who allocates. A block gets a mark, any number but 0, when the host wants to hear of
 * its end; 0 when it does not. What is returned for a block with p == NULL is not kept.
 * Context of all: cold, entered (slow.h), never on top of another slow path of the
 * thread: a block taken there is not followed, and the end of one that is freed there is
 * told later, by whichever thread comes next.
 */

/* A heap begins to count: draws the distance to its first sample. */
void tp_host_arm(struct tp_sampler *sampler);

/*
 * The block holds the byte that the sampler waits for; draws the next distance. The
 * block of a pool class is not the one that stood ready, but one of the same class.
 */
uint32_t tp_host_sampled(struct tp_sampler *sampler, const struct tp_told *block);

/* With `exact`: every block that is given out; nothing is sampled then. */
uint32_t tp_host_taken(const struct tp_told *block);

/* A marked block is about to be freed. `requested` is known with `exact` only. */
void tp_host_freed(uint32_t mark, const struct tp_told *block);

/*
 * A large block has been made longer where it stands; or, when it has a mark, shorter;
 * or with `exact` the request for any block has changed. `mark` may be 0: the block is
 * not followed. Returns its mark from now on. The bytes that a block grows by are in
 * nobody's countdown: here is where they are sampled or not. `old_requested` is 0 when
 * it is not known.
 */
uint32_t tp_host_resized(
    uint32_t mark, const struct tp_told *block, size_t old_bytes, size_t old_requested);

/*
 * With `check`: the place in the program that has called us, as a number to keep (0:
 * not known), and lines on stderr that tell such a place, under a heading.
 */
uint32_t tp_host_place(void);
void tp_host_say_place(const char *heading, uint32_t place);

/*
 * Pointers that are not ours: blocks that the C library's own malloc gave out, or
 * nonsense. The host passes blocks on to whoever knows them, and dies on nonsense; of
 * what is no block it says that it has 0 bytes.
 */
void tp_host_foreign_free(void *p);
size_t tp_host_foreign_bytes(const void *p);

/* With `inert`: what malloc and free would have been without us. */
void *tp_host_next_alloc(size_t size);
void tp_host_next_free(void *p);

/* We are a child of a fork that ran no handlers: see to it, tp_pool_forked() included. */
void tp_host_forked(void);

/*
 * A slow path begins in a process that forked, until this returns true: the host may
 * have things to do that can wait for the first sign of a life of its own.
 */
bool tp_host_settle(void);

/*
 * A slow path is over that a signal had to wait for (tp_pool_is_busy()). Context: the
 * thread that the signal came to.
 */
void tp_host_signal_due(void);

/* Every tenth of a second or so, from some thread's slow path. */
void tp_host_tick(void);

/* A thread ends: `did` is what it did itself. Its slot's epoch is raised after this. */
void tp_host_thread_ended(
    const struct tp_counters *counters, uint32_t index, const struct tp_sums *did);

#endif
