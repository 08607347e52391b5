/* SPDX-License-Identifier: MIT */
/*
 * slow.h - what every slow path of the pool does first and last.
 *
 * Idea: a slow path enters a heap, works, counts, and leaves. Entering finds the heap
 * of the thread, or gives it one, or goes to the shared heap under its lock: when the
 * thread is about to end, or when we are a signal handler on top of one that is under
 * way. The countdown's event is seen to here as well: flush, sample, tick.
 *
 * Signal handlers may allocate, although POSIX says that they may not: programs do.
 * Two things make it safe, and the host's wrapper of handlers sees to both:
 *   - a slow path holds locks and rebuilds lists: a signal that comes meanwhile waits
 *     until it is over (tp_slow_now.deferred);
 *   - a fast path has no place to leave a note: where a signal falls on one, the
 *     handler runs with a heap that is empty, and all it does goes to the shared one
 *     (tp_pool_step_aside()).
 * For handlers that were installed past the wrapper the busy test must do.
 *
 * Knows nothing of: which call led here.
 */
#ifndef TP_POOL_SLOW_H
#define TP_POOL_SLOW_H

#include "pool/heap.h"
#include "pool/host.h"

/* What the pool was opened with. */
extern struct tp_pool_options tp_slow_options;

/* check=on, and the side array for it could be had. */
extern bool tp_slow_checks;

/* check=on or exact: bins stay empty, so that every malloc takes the slow path. */
extern bool tp_slow_every;

/* `exact`, or someone watches the bytes: every event is a whole one. */
extern bool tp_slow_no_passing;

enum { TP_SLOW_PASSES = 15 };  // events that may pass between two whole ones

/* What this thread is in the middle of. Only the thread and its handlers see it. */
struct tp_slow_now {
    _Atomic(uintptr_t) frame;  // stack address of the slow path under way; 0: none
    _Atomic(bool) deferred;    // tp_host_signal_due() is to be called when it is over
    struct {
        struct tp_heap *volatile heap;  // set aside for a signal handler; NULL: none
        uintptr_t frame;                // of that handler
        uintptr_t stack;                // the alternate stack that it runs on,
        size_t stack_bytes;             // or 0
        uintptr_t fell_at;              // stack address where the signal fell
    } aside;
};
extern TP_THREAD struct tp_slow_now tp_slow_now;

/* True when a slow path of this thread is under way below us. */
bool tp_slow_is_busy(void);

/*
 * Brackets whatever holds a lock or changes a heap beyond one store. Returns what
 * tp_slow_end() wants back: the frame of a slow path that we stand on, or 0.
 */
uintptr_t tp_slow_begin(void);
void tp_slow_end(uintptr_t outer);

/*
 * Where a fork without handlers shows: 0 there (tp_os_fork_mark()); and a fork that is
 * not seen to yet.
 */
extern _Atomic(uint32_t) *_Atomic tp_slow_fork_mark;
extern bool tp_slow_unsettled;  // see tp_host_settle()

static inline uint32_t tp_slow_fork_mark_of(void)
{
    // Meets the release in open_pool(): who comes early has no heap yet.
    return atomic_load_explicit(
        atomic_load_explicit(&tp_slow_fork_mark, memory_order_acquire),
        memory_order_relaxed);
}

/*
 * Enters where nothing is out of the ordinary, and leaves again; NULL: it is not so, and
 * nothing has happened: tp_slow_enter() knows what to do.
 */
static inline __attribute__((always_inline)) struct tp_heap *tp_slow_enter_plain(void)
{
    struct tp_heap *heap = tp_heap_self;
    // First: who has a heap knows that the pool is open, and sees what it was opened with.
    if (TP_UNLIKELY(!heap->alive)) return NULL;
    if (TP_UNLIKELY(!tp_slow_fork_mark_of() || tp_slow_unsettled ||
            tp_slow_options.inert ||
            atomic_load_explicit(&tp_slow_now.frame, memory_order_relaxed)))
        return NULL;
    atomic_store_explicit(&tp_slow_now.frame, (uintptr_t)__builtin_frame_address(0),
        memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    return heap;
}

/* What tp_slow_end(0) does. */
static inline __attribute__((always_inline)) void tp_slow_leave_plain(void)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&tp_slow_now.frame, 0, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    if (TP_UNLIKELY(atomic_load_explicit(&tp_slow_now.deferred, memory_order_relaxed)))
        tp_slow_end(0);
}

/* The heap to work on, or NULL; always NULL when inert. tp_slow_leave() when done. */
struct tp_heap *tp_slow_enter(void);
void tp_slow_leave(struct tp_heap *heap);

/* The two for who need not know which it was. */
static inline struct tp_heap *tp_slow_enter_quick(void)
{
    struct tp_heap *heap = tp_slow_enter_plain();
    return TP_LIKELY(heap) ? heap : tp_slow_enter();
}

static inline void tp_slow_leave_quick(struct tp_heap *heap)
{
    if (TP_UNLIKELY(heap->shared))
        tp_slow_leave(heap);
    else
        tp_slow_leave_plain();
}

/* A handler that stepped aside was left by a longjmp: the thread's heap is its again. */
void tp_slow_come_back(void);

/*
 * The countdown has run out: sample, flush, tick, arm. `p` is the block that has run it
 * out, of class `c` and of usable `bytes`; NULL: none is to be sampled. Returns the
 * block that the program gets. Needs: entered, the block on the books.
 */
TP_COLD void *tp_slow_event(
    struct tp_heap *heap, void *p, unsigned c, size_t size, size_t bytes);

/*
 * The usual event among larger blocks, where one comes with every few of them: a flush
 * at most, and the countdown begins anew. Now and then the other things are looked at
 * all the same. False: nothing has happened, it is one for tp_slow_event(). Needs: as
 * above.
 */
static inline bool tp_slow_event_passes(struct tp_heap *heap)
{
    int64_t to_sample = heap->sampler.to_sample - (heap->armed - heap->countdown);
    if (to_sample < 0 || heap->passes >= TP_SLOW_PASSES || tp_slow_no_passing)
        return false;
    struct tp_counters *counters = tp_heap_counters(heap);
    if (tp_peak_is_due(counters)) tp_peak_flush(counters);
    heap->passes++;
    heap->sampler.to_sample = to_sample;
    heap->armed = heap->countdown =
        tp_max_i64(tp_min_i64(tp_peak_headroom(counters), to_sample), 1);
    return true;
}

/* The event, whichever it is. */
static inline void *tp_slow_any_event(
    struct tp_heap *heap, void *p, unsigned c, size_t size, size_t bytes)
{
    return tp_slow_event_passes(heap) ? p : tp_slow_event(heap, p, c, size, bytes);
}

/* As above, from the fast path; NULL: a signal handler has got the block. */
TP_COLD void *tp_slow_fast_event(
    struct tp_heap *heap, unsigned c, struct tp_block *block, size_t size);

/* No memory: NULL, ENOMEM, a failed malloc on the books. */
TP_COLD void *tp_slow_fail(void);

/* For a block of `size`, as there is no heap: the next allocator's, or as above. */
TP_COLD void *tp_slow_without_heap(size_t size);

/* The books of a block of `slab` that is freed. Needs: entered. */
void tp_slow_count_freed(struct tp_heap *heap, const struct tp_slab *slab);

/* Where in the program we are (tp_host_place()); 0 when it cannot be told. */
TP_COLD uint32_t tp_slow_place(void);

/* The books of a large block of usable `bytes`. Needs: entered. */
void tp_slow_count_large(struct tp_heap *heap, size_t size, size_t bytes);
static inline void tp_slow_count_large_freed(struct tp_heap *heap, size_t bytes)
{
    struct tp_counters *counters = tp_heap_counters(heap);
    if (!tp_peak_calm(counters)) tp_peak_edge(counters);
    tp_count_add(&counters->frees[TP_LARGE_CLASS], 1);
    tp_count_add(&counters->large_freed_bytes, bytes);
    tp_count_add_signed(&counters->room, (int64_t)bytes);
    if (tp_peak_is_due(counters)) tp_peak_flush(counters);
}

/* A pointer that is not ours was met: counted. */
TP_COLD void tp_slow_meet_foreign(void);

#endif
