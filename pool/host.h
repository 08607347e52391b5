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
    size_t reserve;     // bytes of address space; 0: as much as is sensible
    uint64_t purge_ns;  // age at which empty memory goes back; UINT64_MAX: never
    bool zero;          // clear blocks when they are freed
    bool check;         // catch every misuse that can be caught
    bool inert;         // another allocator serves the program: no block is ours
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
 * The block at `p` holds the byte that the sampler waits for; p is NULL when a thread
 * begins. Returns the bytes to the thread's next sample. Context: cold.
 */
int64_t tp_host_sample(void *p, size_t size);

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
