/* SPDX-License-Identifier: MIT */
/*
 * slow.c - opening the pool, entering a heap, and what the countdown leads to.
 */
#include "pool/slow.h"

#include "pool/check.h"
#include "pool/exact.h"
#include "pool/follow.h"
#include "pool/nearby.h"
#include "pool/pool.h"

#include <errno.h>
#include <sys/single_threaded.h>

extern void *__libc_stack_end;  // of the dynamic loader: end of the main stack

enum {
    TICK_NS = 100 * 1000 * 1000,
    RATE_BITS = 28,                  // of the clock's rate: of two factors, 64 in all
    FIRST_TICK_TICKS = 1 << 24,      // until the clock's rate is known
    SAME_STACK = 8 * 1024 * 1024,    // frames further apart are on two stacks
    NEAR = 8 * 1024,                 // frames no further apart are on one
    ASIDE_RESERVE_SHIFT = 36,        // with side arrays: 64 GiB are plenty
    LEDGER_LEAST = 8 * 1024 * 1024,  // bytes of range that the exact mode asks for
    EXACT_ROOM = 1 << 20,            // notes in its table, see ledger.h
};

static const uint64_t MOST_TICKS = (uint64_t)1 << 60;

static struct {
    struct tp_lock lock;      // of opening
    _Atomic(uint32_t) state;  // 0 closed, 2 open
    _Atomic(uint32_t) opener;
    uint64_t start_ticks;
    uint64_t start_ns;
    bool single;  // a fork is under way, and glibc knows of one thread only
    _Atomic(uint64_t) purged_ns;        // last purge of slabs
    _Atomic(uint64_t) purged_large_ns;  // and of large blocks
} pool;

TP_THREAD struct tp_slow_now tp_slow_now;
struct tp_pool_options tp_slow_options;
bool tp_slow_checks;
bool tp_slow_every;
bool tp_slow_unsettled;
bool tp_slow_no_passing;

static _Atomic(uint32_t) no_mark = 1;  // where the kernel has none to offer
_Atomic(uint32_t) *_Atomic tp_slow_fork_mark = &no_mark;

/* ---- opening, ticking ---- */

/* Of address space: what the side arrays can cover. */
static size_t reserve_for(const struct tp_pool_options *options)
{
    size_t reserve = options->reserve, most = tp_os_address_limit() / 4;
    if ((options->check || options->exact) && !reserve)
        reserve = (size_t)1 << ASIDE_RESERVE_SHIFT;
    if (!options->exact) return reserve;
    // Half of the range is what the ledger needs; without it blocks are not followed.
    if (reserve > most) reserve = most;
    for (size_t bytes = reserve; bytes >= LEDGER_LEAST; bytes /= 2)
        if (tp_ledger_open(bytes)) return bytes;
    return reserve;
}

static void open_pool(void)
{
    tp_counters_init();
    tp_slow_options.purge_ns = 1000000000u;
    tp_host_start(&tp_slow_options);
    tp_idle = tp_slow_options.purge_ns == 0      ? TP_IDLE_NONE
        : tp_slow_options.purge_ns == UINT64_MAX ? TP_IDLE_ALL
                                                 : TP_IDLE_SHARE;
    if (tp_slow_options.inert) tp_slow_options.exact = false;
    if (tp_slow_options.exact) tp_ledger_room = EXACT_ROOM;
    tp_peak_every = tp_slow_options.exact;
    if (!tp_slow_options.inert) tp_range_open(reserve_for(&tp_slow_options));
    tp_slow_checks = tp_slow_options.check && tp_check_open();
    tp_slow_every = tp_slow_checks || tp_slow_options.exact;
    tp_slow_no_passing = tp_slow_options.exact || tp_slow_options.watch_bytes;
    bool exact = tp_slow_options.exact && !tp_slow_checks && !tp_slow_options.zero;
    atomic_store_explicit(&tp_exact_on, exact, memory_order_relaxed);
    tp_heap_watch = tp_slow_every || tp_slow_options.zero ? TP_SLAB_WATCHED : 0;
    pool.start_ticks = tp_os_ticks();
    pool.start_ns = tp_os_now_ns();
    _Atomic(uint32_t) *mark = tp_os_fork_mark();
    if (mark) atomic_store_explicit(&tp_slow_fork_mark, mark, memory_order_release);
    tp_thread_open();
}

bool tp_pool_start(void)
{
    if (atomic_load_explicit(&pool.state, memory_order_acquire) == 2) return true;
    if (atomic_load_explicit(&pool.opener, memory_order_relaxed) == tp_os_tid())
        return false;
    tp_lock_enter(&pool.lock);
    bool first = atomic_load_explicit(&pool.state, memory_order_relaxed) == 0;
    bool good = true;
    if (first) {
        atomic_store_explicit(&pool.opener, tp_os_tid(), memory_order_relaxed);
        open_pool();
        good = tp_park_open();
        atomic_store_explicit(&pool.opener, 0, memory_order_relaxed);
        // Meets the acquire at the top.
        if (good) atomic_store_explicit(&pool.state, 2, memory_order_release);
    }
    tp_lock_leave(&pool.lock);
    if (first && good) tp_host_started();
    return good;
}

/* Nanoseconds -> ticks at the rate seen so far; 0 while that is not known. */
static uint64_t to_ticks(uint64_t ns)
{
    uint64_t elapsed_ns = tp_os_now_ns() - pool.start_ns;
    uint64_t elapsed = tp_os_ticks() - pool.start_ticks;
    if (elapsed_ns < 1000000) return 0;
    // In whole numbers: the program's floating point traps and flags are its own.
    unsigned cut = elapsed_ns >> RATE_BITS ? tp_log2(elapsed_ns) - RATE_BITS + 1 : 0;
    elapsed_ns >>= cut;
    elapsed >>= cut;
    uint64_t whole, rest = ns % elapsed_ns * elapsed / elapsed_ns;
    bool far = __builtin_mul_overflow(ns / elapsed_ns, elapsed, &whole);
    return far || whole > MOST_TICKS ? MOST_TICKS : whole + rest;
}

uint64_t tp_pool_tick_ticks(void)
{
    uint64_t ticks = to_ticks(TICK_NS);
    return ticks ? ticks : FIRST_TICK_TICKS;
}

/* True for one caller when `step` has passed since the time in `last`. */
static bool is_time(_Atomic(uint64_t) *last, uint64_t now_ns, uint64_t step)
{
    uint64_t before = atomic_load_explicit(last, memory_order_relaxed);
    return now_ns - before >= step &&
        atomic_compare_exchange_strong_explicit(
            last, &before, now_ns, memory_order_relaxed, memory_order_relaxed);
}

/* Memory that has lain idle for `purge` goes back; one thread at a time does it. */
static void purge(struct tp_heap *heap, uint64_t now_ns)
{
    uint64_t age = tp_slow_options.purge_ns;
    if (age == UINT64_MAX || !is_time(&pool.purged_ns, now_ns, age / 4 + 1)) return;
    uint64_t begin = tp_os_ticks();
    uint64_t age_ticks = to_ticks(age);
    if (age && !age_ticks) return;  // too early to tell
    tp_marks_trim(age_ticks);
    tp_nearby_age();
    size_t bytes = tp_depot_purge(age_ticks);
    if (is_time(&pool.purged_large_ns, now_ns, age)) bytes += tp_large_purge(age == 0);
    if (bytes) tp_latency_record(TP_OP_PURGE, heap->index, tp_os_ticks() - begin);
}

static void tick(struct tp_heap *heap)
{
    heap->next_tick = tp_os_ticks() + tp_pool_tick_ticks();
    tp_park_collect();
    tp_heap_empty_lent(heap);
    tp_heap_drop_spares(heap);
    purge(heap, tp_os_now_ns());
    tp_host_tick();
}

/* ---- a heap for a slow path ---- */

/*
 * True when a slow path of this thread is under way below us: we are a signal
 * handler. A frame that lies below ours was left behind by a longjmp.
 */
bool tp_slow_is_busy(void)
{
    uintptr_t frame = atomic_load_explicit(&tp_slow_now.frame, memory_order_relaxed);
    if (TP_LIKELY(!frame)) return false;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    if (here < frame || here - frame > SAME_STACK) return true;
    // An alternate stack may lie above the thread's own.
    return tp_os_on_signal_stack();
}

static void set_frame(uintptr_t frame)
{
    atomic_store_explicit(&tp_slow_now.frame, frame, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
}

uintptr_t tp_slow_begin(void)
{
    uintptr_t outer = 0;
    if (TP_UNLIKELY(tp_slow_is_busy()))
        outer = atomic_load_explicit(&tp_slow_now.frame, memory_order_relaxed);
    set_frame((uintptr_t)__builtin_frame_address(0));
    return outer;
}

void tp_slow_end(uintptr_t outer)
{
    set_frame(outer);
    if (TP_LIKELY(!atomic_load_explicit(&tp_slow_now.deferred, memory_order_relaxed)))
        return;
    if (outer) return;
    atomic_store_explicit(&tp_slow_now.deferred, false, memory_order_relaxed);
    tp_host_signal_due();
}

/* True in a child of a bare clone, which ran no handlers. */
static bool is_unknown_child(void)
{
    return !tp_slow_fork_mark_of();
}

struct tp_heap *tp_slow_enter(void)
{
    uintptr_t outer = tp_slow_begin();
    if (TP_UNLIKELY(is_unknown_child())) tp_host_forked();
    // Settling takes locks that a slow path below us may hold.
    if (TP_UNLIKELY(tp_slow_unsettled) && !outer) tp_slow_unsettled = !tp_host_settle();
    if (TP_UNLIKELY(tp_heap_self == &tp_heap_aside)) tp_slow_come_back();
    struct tp_heap *heap = tp_heap_self;
    if (TP_UNLIKELY(!heap->alive)) {
        tp_slow_end(outer);
        heap = tp_thread_begin();
        set_frame((uintptr_t)__builtin_frame_address(0));
    }
    if (TP_LIKELY(heap && !outer && !tp_slow_options.inert)) return heap;
    // On top of a slow path not for ever: the holder may wait for what that one holds.
    heap = tp_slow_options.inert ? NULL : tp_park_enter_shared(!outer);
    if (!heap) {
        tp_slow_end(outer);
        return NULL;
    }
    heap->outer = outer;
    atomic_fetch_add_explicit(&tp_account.totals.disturbed, 1, memory_order_relaxed);
    return heap;
}

void tp_slow_leave(struct tp_heap *heap)
{
    uintptr_t outer = 0;
    if (TP_UNLIKELY(heap->shared)) {
        outer = heap->outer;
        tp_peak_flush(tp_heap_counters(heap));
        tp_park_leave_shared(heap);
    }
    tp_slow_end(outer);
}

/* ---- signal handlers ---- */

bool tp_pool_is_busy(void)
{
    return tp_slow_is_busy();
}

void tp_pool_defer(void)
{
    atomic_store_explicit(&tp_slow_now.deferred, true, memory_order_relaxed);
}

bool tp_pool_step_aside(const void *stack, size_t stack_bytes, uintptr_t fell_at)
{
    struct tp_heap *heap = tp_heap_self;
    if (heap == &tp_heap_gone || heap == &tp_heap_aside) return false;
    // Another signal may come between any two of these lines; heap makes them count.
    tp_heap_self = &tp_heap_aside;
    atomic_signal_fence(memory_order_seq_cst);
    tp_slow_now.aside.frame = (uintptr_t)__builtin_frame_address(0);
    tp_slow_now.aside.stack = (uintptr_t)stack;
    tp_slow_now.aside.stack_bytes = stack_bytes;
    tp_slow_now.aside.fell_at = fell_at;
    atomic_signal_fence(memory_order_seq_cst);
    tp_slow_now.aside.heap = heap;
    return true;
}

void tp_pool_step_back(void)
{
    struct tp_heap *heap = tp_slow_now.aside.heap;
    if (!heap) return;
    tp_slow_now.aside.heap = NULL;
    atomic_signal_fence(memory_order_seq_cst);
    tp_heap_self = heap;
}

/*
 * True when who stands at `here` tells that the handler is over: nobody does while it is
 * under way, neither above its own frame nor on the stack that the signal fell on. That
 * a handler does not return yet, but goes to a coroutine, is no rare thing, and that
 * one's stack may be the next: so only what lies near counts as the same stack, but for
 * the main thread's, whose end is known. In doubt the handler is not over: what goes to
 * the shared heap meanwhile is slower, while two on one heap give out blocks twice.
 */
static bool is_left(uintptr_t here)
{
    uintptr_t frame = tp_slow_now.aside.frame, fell_at = tp_slow_now.aside.fell_at;
    size_t bytes = tp_slow_now.aside.stack_bytes;
    if (bytes && here - tp_slow_now.aside.stack < bytes) return here > frame;
    uintptr_t lowest = bytes ? fell_at - NEAR : frame;
    uintptr_t top = (uintptr_t)__libc_stack_end;
    uintptr_t highest = top - fell_at <= SAME_STACK ? top : fell_at + NEAR;
    return here > lowest && here < highest;
}

void tp_slow_come_back(void)
{
    if (tp_slow_now.aside.heap && is_left((uintptr_t)__builtin_frame_address(0)))
        tp_pool_step_back();
}

/*
 * Times the fast path: the block goes back to its bin and out again. Returns what came
 * out: a signal handler may have taken it meanwhile, and NULL when it took the rest.
 */
static struct tp_block *time_fast_path(
    struct tp_heap *heap, unsigned c, struct tp_block *block)
{
    struct tp_counters *counters = tp_heap_counters(heap);
    struct tp_block *volatile *const head = &heap->bins[c].free;
    block->next = *head;
    *head = block;

    uint64_t idle = tp_os_ticks();
    uint64_t begin = tp_os_ticks();
    struct tp_block *again = *head;
    if (TP_UNLIKELY(!again)) return NULL;
    *head = again->next;
    // It is on the books already: what takes as long, and adds nothing.
    tp_count_add(&counters->taken[c].allocations, 0);
    tp_count_add(&counters->taken[c].requested_bytes, 0);
    tp_count_sub_signed(&counters->room, 0);
    uint64_t end = tp_os_ticks();
    uint64_t cost = begin - idle, took = end - begin;
    tp_latency_record(TP_OP_MALLOC, heap->index, took > cost ? took - cost : 1);
    return again;
}

/* The block that the program gets: another one when it is sampled. */
static void *sample(
    struct tp_heap *heap, void *p, unsigned c, size_t size, size_t bytes)
{
    heap->sampler.to_sample -= heap->armed - heap->countdown;
    if (heap->sampler.to_sample >= 0 || tp_slow_options.exact) return p;
    // The shared heap was never armed before its first event.
    if (!heap->armed || tp_follow_is_nested(heap)) {
        tp_host_arm(&heap->sampler);
        return p;
    }
    // Without a block it stays due: the next one is taken for it.
    return p ? tp_follow_sampled(heap, p, c, size, bytes) : NULL;
}

void *tp_slow_event(
    struct tp_heap *heap, void *p, unsigned c, size_t size, size_t bytes)
{
    p = sample(heap, p, c, size, bytes);
    heap->passes = 0;
    tp_peak_settle(tp_heap_counters(heap));
    if (!tp_follow_is_nested(heap)) tp_follow_catch_up();
    bool ticks = tp_os_ticks() >= heap->next_tick;
    if (ticks && !heap->shared)
        tick(heap);
    else if (TP_UNLIKELY(tp_slow_options.watch_bytes) && !heap->shared)
        tp_host_tick();
    tp_thread_arm(heap);
    return p;
}

void *tp_slow_fast_event(
    struct tp_heap *heap, unsigned c, struct tp_block *block, size_t size)
{
    uintptr_t outer = tp_slow_begin();
    if (heap->sampler.to_sample < heap->armed - heap->countdown)
        block = time_fast_path(heap, c, block);
    block = tp_slow_event(heap, block, c, size, (size_t)heap->bins[c].bytes);
    tp_slow_end(outer);
    if (TP_LIKELY(block)) return block;

    // Counted already: take that back, the slow path that follows counts again.
    struct tp_counters *counters = tp_heap_counters(heap);
    tp_count_add(&counters->taken[c].allocations, (uint64_t)-1);
    tp_count_add(&counters->taken[c].requested_bytes, (uint64_t)0 - size);
    tp_count_add_signed(&counters->room, heap->bins[c].bytes);
    return NULL;
}

/* ---- the books ---- */

/* No memory: counted as a malloc that failed, until someone else takes the blame. */
void *tp_slow_fail(void)
{
    tp_pool_count_failure(TP_CALL_MALLOC);
    errno = ENOMEM;
    return NULL;
}

void *tp_slow_without_heap(size_t size)
{
    return tp_slow_options.inert ? tp_host_next_alloc(size) : tp_slow_fail();
}

void tp_slow_count_freed(struct tp_heap *heap, const struct tp_slab *slab)
{
    struct tp_counters *counters = tp_heap_counters(heap);
    if (!tp_peak_calm(counters)) tp_peak_edge(counters);
    tp_count_add(&counters->frees[slab->class], 1);
    tp_count_add_signed(&counters->room, slab->bytes);
    if (tp_slow_options.exact) tp_peak_settle(counters);
}

uint32_t tp_slow_place(void)
{
    if (tp_slow_is_busy()) return 0;
    uintptr_t outer = tp_slow_begin();
    uint32_t place = tp_host_place();
    tp_slow_end(outer);
    return place;
}

void tp_slow_count_large(struct tp_heap *heap, size_t size, size_t bytes)
{
    struct tp_counters *counters = tp_heap_counters(heap);
    tp_count_add(&counters->taken[TP_LARGE_CLASS].allocations, 1);
    tp_count_add(&counters->taken[TP_LARGE_CLASS].requested_bytes, size);
    tp_count_add(&counters->large_allocated_bytes, bytes);
    tp_count_add_signed(&counters->room, -(int64_t)bytes);
    heap->countdown -= (int64_t)bytes;
}

void tp_slow_meet_foreign(void)
{
    atomic_fetch_add_explicit(
        &tp_account.totals.foreign_frees, 1, memory_order_relaxed);
}

/* ---- fork ---- */

bool tp_pool_begin_alone(uintptr_t *out_outer)
{
    *out_outer = tp_slow_begin();
    if (tp_park_begin_alone()) return true;
    tp_slow_end(*out_outer);
    return false;
}

void tp_pool_end_alone(uintptr_t outer)
{
    tp_park_end_alone();
    tp_slow_end(outer);
}

void tp_pool_before_fork(void)
{
    pool.single = __libc_single_threaded;
    tp_large_before_fork();
}

void tp_pool_after_fork(void)
{
    pool.single = false;
    tp_large_after_fork(false);
}

bool tp_pool_forked(void)
{
    atomic_store_explicit(
        atomic_load_explicit(&tp_slow_fork_mark, memory_order_relaxed), 1,
        memory_order_relaxed);
    tp_large_after_fork(true);
    struct tp_heap *self = tp_heap_self;
    if (self == &tp_heap_aside && tp_slow_now.aside.heap) self = tp_slow_now.aside.heap;
    uint32_t running =
        atomic_load_explicit(&tp_account.totals.running, memory_order_relaxed);
    bool alone = running <= 1 && pool.single;
    tp_slow_unsettled = true;
    pool.single = false;
    atomic_store_explicit(&pool.lock.word, 0, memory_order_relaxed);
    tp_depot_forked(alone);
    tp_marks_forked(alone);
    tp_ledger_forked(alone);
    tp_follow_forked();
    tp_huge_forked(alone);
    tp_park_forked(self, alone);
    atomic_store_explicit(
        &tp_account.totals.running, self->alive ? 1 : 0, memory_order_relaxed);
    if (self->alive) tp_heap_counters(self)->tid = tp_os_tid();
    return alone;
}
