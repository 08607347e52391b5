/* SPDX-License-Identifier: MIT */
/*
 * pool.c - dispatch: by size on the way out, by address on the way in.
 *
 * The hot halves of alloc and free are in fast.h; here is what they fall to.
 */
#include "pool/pool.h"

#include "pool/check.h"
#include "pool/fast.h"
#include "pool/host.h"
#include "pool/huge.h"

#include <errno.h>
#include <string.h>

enum {
    TICK_NS = 100 * 1000 * 1000,
    FIRST_TICK_TICKS = 1 << 24,    // until the clock's rate is known
    SAME_STACK = 8 * 1024 * 1024,  // frames further apart are on two stacks
    CHECK_RESERVE_SHIFT = 36,      // check=on: 64 GiB are plenty
};

static struct {
    struct tp_lock lock;      // of opening
    _Atomic(uint32_t) state;  // 0 closed, 1 opening, 2 open
    _Atomic(uint32_t) opener;
    struct tp_pool_options options;
    uint64_t start_ticks;
    uint64_t start_ns;
    _Atomic(uint32_t) *fork_mark;       // see tp_os_fork_mark()
    _Atomic(uint64_t) purged_ns;        // last purge of slabs
    _Atomic(uint64_t) purged_large_ns;  // and of large blocks
    bool check;
} pool;

/* ---- opening, ticking ---- */

static void open_pool(void)
{
    tp_counters_init();
    pool.options.purge_ns = 1000000000u;
    tp_host_start(&pool.options);
    tp_idle = pool.options.purge_ns == 0      ? TP_IDLE_NONE
        : pool.options.purge_ns == UINT64_MAX ? TP_IDLE_ALL
                                              : TP_IDLE_SHARE;
    size_t reserve = pool.options.reserve;
    if (pool.options.check && !reserve) reserve = (size_t)1 << CHECK_RESERVE_SHIFT;
    tp_range_open(reserve);
    pool.check = pool.options.check && tp_check_open();
    tp_heap_watch = pool.check || pool.options.zero ? TP_SLAB_WATCHED : 0;
    pool.start_ticks = tp_os_ticks();
    pool.start_ns = tp_os_now_ns();
    pool.fork_mark = tp_os_fork_mark();
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
    return (uint64_t)((double)ns * ((double)elapsed / (double)elapsed_ns));
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
    uint64_t age = pool.options.purge_ns;
    if (age == UINT64_MAX || !is_time(&pool.purged_ns, now_ns, age / 4 + 1)) return;
    uint64_t begin = tp_os_ticks();
    size_t bytes = tp_depot_purge(to_ticks(age));
    if (is_time(&pool.purged_large_ns, now_ns, age)) bytes += tp_large_purge(age == 0);
    if (bytes) tp_latency_record(TP_OP_PURGE, heap->index, tp_os_ticks() - begin);
}

static void tick(struct tp_heap *heap)
{
    heap->next_tick = tp_os_ticks() + tp_pool_tick_ticks();
    tp_park_collect();
    tp_heap_drop_spares(heap);
    purge(heap, tp_os_now_ns());
    tp_host_tick();
}

/* ---- a heap for a slow path ---- */

/*
 * True when a slow path of this thread is under way below us: we are a signal
 * handler. A guard that lies above our frame was left behind by a longjmp.
 */
static bool is_busy(struct tp_heap *heap)
{
    uintptr_t guard = atomic_load_explicit(&heap->busy, memory_order_relaxed);
    if (!guard) return false;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    return here < guard || here - guard > SAME_STACK;
}

/* True in a child whose fork ran no handlers: _Fork, or a bare clone. */
static bool is_unknown_child(void)
{
    return pool.fork_mark &&
        !atomic_load_explicit(pool.fork_mark, memory_order_relaxed);
}

/* The heap to work on, or NULL; leave() when done. */
static struct tp_heap *enter(void)
{
    if (TP_UNLIKELY(is_unknown_child())) tp_host_forked();
    struct tp_heap *heap = tp_heap_self;
    if (TP_UNLIKELY(!heap->alive)) heap = tp_thread_begin();
    if (heap && !is_busy(heap)) {
        atomic_store_explicit(
            &heap->busy, (uintptr_t)__builtin_frame_address(0), memory_order_relaxed);
        return heap;
    }
    heap = tp_park_enter_shared();
    if (heap)
        atomic_fetch_add_explicit(
            &tp_account.totals.disturbed, 1, memory_order_relaxed);
    return heap;
}

static void leave(struct tp_heap *heap)
{
    if (TP_UNLIKELY(heap->shared)) {
        tp_peak_flush(tp_heap_counters(heap));
        tp_park_leave_shared(heap);
        return;
    }
    atomic_store_explicit(&heap->busy, 0, memory_order_relaxed);
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
    tp_heap_count_taken(heap, c, 0);
    uint64_t end = tp_os_ticks();

    // It was counted twice now, and it is one block.
    tp_count_add(&counters->taken[c].allocations, (uint64_t)-1);
    tp_count_add_signed(&counters->room, heap->bins[c].bytes);
    heap->countdown += heap->bins[c].bytes;
    uint64_t cost = begin - idle, took = end - begin;
    tp_latency_record(TP_OP_MALLOC, heap->index, took > cost ? took - cost : 1);
    return again;
}

/* The countdown has run out: flush, sample, tick, arm. Needs: entered. */
static void run_event(struct tp_heap *heap, void *p, size_t size)
{
    heap->to_sample -= heap->armed - heap->countdown;
    tp_peak_settle(tp_heap_counters(heap));
    if (heap->to_sample <= 0) heap->to_sample = tp_host_sample(p, size);
    if (tp_os_ticks() >= heap->next_tick && !heap->shared) tick(heap);
    tp_thread_arm(heap);
}

/* ---- taking ---- */

/* No memory: counted as a malloc that failed, until someone else takes the blame. */
static TP_COLD void *fail(void)
{
    tp_pool_count_failure(TP_CALL_MALLOC);
    errno = ENOMEM;
    return NULL;
}

static void count_large(struct tp_heap *heap, size_t size, size_t bytes)
{
    struct tp_counters *counters = tp_heap_counters(heap);
    tp_count_add(&counters->taken[TP_LARGE_CLASS].allocations, 1);
    tp_count_add(&counters->taken[TP_LARGE_CLASS].requested_bytes, size);
    tp_count_add(&counters->large_allocated_bytes, bytes);
    tp_count_add_signed(&counters->room, -(int64_t)bytes);
    heap->countdown -= (int64_t)bytes;
}

static TP_COLD void *alloc_large(size_t size, size_t align, bool zero)
{
    uint64_t begin = tp_os_ticks();
    struct tp_heap *heap = size > PTRDIFF_MAX ? NULL : enter();
    if (!heap) return fail();
    void *p = tp_large_alloc(size, align, zero);
    if (p) {
        count_large(heap, size, tp_large_bytes(p));
        tp_peak_settle(tp_heap_counters(heap));
        if (heap->countdown < 0) run_event(heap, p, size);
    }
    uint32_t shard = heap->index;
    leave(heap);
    tp_latency_record(TP_OP_LARGE_MALLOC, shard, tp_os_ticks() - begin);
    return p ? p : fail();
}

/* The bin is empty, or nobody's: the whole story. */
static TP_COLD void *alloc_slow(size_t size, unsigned c)
{
    struct tp_heap *heap = enter();
    if (!heap) return fail();
    struct tp_bin *bin = &heap->bins[c];
    struct tp_block *block;
    if (TP_UNLIKELY(pool.check)) {
        block = tp_heap_take_one(heap, c);
    } else {
        block = bin->free || tp_heap_refill(heap, c) ? bin->free : NULL;
        if (block) bin->free = block->next;
    }
    if (block) {
        tp_heap_count_taken(heap, c, size);
        if (TP_UNLIKELY(pool.check)) tp_check_taken(block, size, (size_t)bin->bytes);
        if (heap->countdown < 0) run_event(heap, block, size);
    }
    leave(heap);
    return block ? block : alloc_large(size, 0, false);
}

void *tp_cold_refill(size_t size, struct tp_bin *bin)
{
    return alloc_slow(size, (unsigned)(bin - tp_heap_self->bins));
}

void *tp_cold_event(size_t size, struct tp_bin *bin, struct tp_block *block)
{
    struct tp_heap *heap = tp_heap_self;
    if (is_busy(heap)) return block;
    atomic_store_explicit(
        &heap->busy, (uintptr_t)__builtin_frame_address(0), memory_order_relaxed);
    unsigned c = (unsigned)(bin - heap->bins);
    if (heap->to_sample <= heap->armed - heap->countdown)
        block = time_fast_path(heap, c, block);
    run_event(heap, block, size);
    leave(heap);
    if (TP_LIKELY(block)) return block;

    // Counted already: take that back, the slow path counts again.
    struct tp_counters *counters = tp_heap_counters(heap);
    tp_count_add(&counters->taken[c].allocations, (uint64_t)-1);
    tp_count_add(&counters->taken[c].requested_bytes, (uint64_t)0 - size);
    tp_count_add_signed(&counters->room, bin->bytes);
    return alloc_slow(size, c);
}

/* Requests above the table: the class is computed. */
void *tp_cold_medium(size_t size)
{
    if (size > TP_POOL_MAX) return alloc_large(size, 0, false);
    return tp_fast_take(tp_class_of(size), size);
}

TP_HOT void *tp_pool_alloc(size_t size)
{
    return tp_fast_alloc(size);
}

void *tp_pool_zalloc(size_t size)
{
    if (size > TP_POOL_MAX) return alloc_large(size, 0, true);
    unsigned c = tp_class_of(size);
    void *p = tp_fast_take(c, size);
    if (TP_UNLIKELY(!p)) return NULL;
    // The bin's list is clean to the last block, but for the links.
    struct tp_heap *heap = tp_heap_self;
    if (size >= sizeof(struct tp_block) && heap->fresh >> c & 1 && !pool.check) {
        ((struct tp_block *)p)->next = NULL;
        return p;
    }
    return memset(p, 0, size);
}

void *tp_pool_aligned(size_t align, size_t size)
{
    if (align <= TP_MIN_ALIGN) return tp_pool_alloc(size);
    size_t least = size > align ? size : align;
    if (least > TP_POOL_MAX) return alloc_large(size, align, false);
    // Slabs are aligned to their run, blocks to the power of two in their size.
    unsigned c = tp_class_of(least);
    while (tp_class_bytes(c) & (align - 1)) c++;
    return tp_fast_take(c, size);
}

/* ---- giving back ---- */

static void meet_foreign(const void *p)
{
    if (pool.check) tp_die("invalid pointer %p: not a block of this heap", p);
    atomic_fetch_add_explicit(
        &tp_account.totals.foreign_frees, 1, memory_order_relaxed);
}

static void count_large_freed(struct tp_heap *heap, size_t bytes)
{
    struct tp_counters *counters = tp_heap_counters(heap);
    if (!tp_peak_calm(counters)) tp_peak_edge(counters);
    tp_count_add(&counters->frees[TP_LARGE_CLASS], 1);
    tp_count_add(&counters->large_freed_bytes, bytes);
    tp_count_add_signed(&counters->room, (int64_t)bytes);
    tp_peak_settle(counters);
}

static void free_large(void *p, size_t bytes)
{
    uint64_t begin = tp_os_ticks();
    struct tp_heap *heap = enter();
    uint32_t shard = heap ? heap->index : 0;
    if (heap) {
        count_large_freed(heap, bytes);
        leave(heap);
    }
    if (pool.options.zero) memset(p, 0, bytes);
    tp_large_free(p);
    tp_latency_record(TP_OP_LARGE_FREE, shard, tp_os_ticks() - begin);
}

/*
 * A block above 8 KiB of our own goes straight back to its bin when that is empty: the
 * next malloc of its class is then a fast one.
 */
static bool put_in_bin(
    struct tp_heap *heap, struct tp_slab *slab, struct tp_block *block)
{
    struct tp_bin *bin = &heap->bins[slab->class];
    if (!slab->order || bin->free || tp_heap_watch) return false;
    block->next = NULL;
    bin->free = block;
    heap->fresh &= ~((uint64_t)1 << slab->class);
    return true;
}

/* A block of a slab, whoever owns it. `slab` is the head of its run. */
static void free_block(void *p, struct tp_slab *slab)
{
    if (!tp_slab_is_block(slab, p))
        tp_die("invalid free of %p: inside a block of %u bytes", p, slab->bytes);
    if (pool.check)
        tp_check_freed(p, slab->bytes);
    else if (pool.options.zero)
        memset(p, 0, slab->bytes);

    struct tp_heap *heap = enter();
    if (!heap) {
        tp_heap_send(slab, p);
        return;
    }
    struct tp_counters *counters = tp_heap_counters(heap);
    if (!tp_peak_calm(counters)) tp_peak_edge(counters);
    tp_count_add(&counters->frees[slab->class], 1);
    tp_count_add_signed(&counters->room, slab->bytes);
    if ((tp_slab_owner(slab) & ~(uintptr_t)TP_SLAB_FLAGS) == (uintptr_t)heap) {
        if (!put_in_bin(heap, slab, p)) tp_heap_put(heap, slab, p);
    } else {
        tp_count_add(&counters->remote_frees, 1);
        tp_heap_send(slab, p);
    }
    leave(heap);
}

void tp_cold_free(void *p)
{
    if (!p) return;
    struct tp_slab *slab = tp_slab_at(p);
    if (slab) {
        uintptr_t owner = tp_slab_owner(slab);
        if (owner & TP_SLAB_INSIDE) owner = tp_slab_owner(slab = slab - slab->back);
        if (owner & ~(uintptr_t)TP_SLAB_FLAGS) {
            free_block(p, slab);
            return;
        }
    }
    size_t bytes = tp_large_bytes(p);
    if (bytes) {
        free_large(p, bytes);
    } else if (slab) {
        tp_die("double free or invalid pointer: %p holds no block", p);
    } else {
        meet_foreign(p);
        tp_host_foreign_free(p);
    }
}

/* The net is at a new high, or has fallen far: see to it, then go on as usual. */
void tp_cold_edge(void *p)
{
    tp_peak_edge(tp_heap_counters(tp_heap_self));
    tp_pool_free(p);
}

void tp_cold_emptied(struct tp_slab *slab)
{
    struct tp_heap *heap = tp_heap_self;
    if (!is_busy(heap)) tp_heap_emptied(heap, slab);
}

void tp_cold_double_free(void *p)
{
    tp_die("double free of %p", p);
}

TP_HOT void tp_pool_free(void *p)
{
    tp_fast_free(p);
}

/* ---- changing size ---- */

static void count_resized(struct tp_heap *heap, size_t size, size_t old, size_t now)
{
    struct tp_counters *counters = tp_heap_counters(heap);
    tp_count_add(&counters->realloc_in_place, 1);
    if (now > old) {
        size_t more = size > old ? size - old : 0;
        tp_count_add(&counters->taken[TP_LARGE_CLASS].requested_bytes, more);
        tp_count_add(&counters->large_allocated_bytes, now - old);
        tp_count_add_signed(&counters->room, -(int64_t)(now - old));
        heap->countdown -= (int64_t)(now - old);
    } else if (now < old) {
        if (!tp_peak_calm(counters)) tp_peak_edge(counters);
        tp_count_add(&counters->large_freed_bytes, old - now);
        tp_count_add_signed(&counters->room, (int64_t)(old - now));
    }
    tp_peak_settle(counters);
}

/* True when the large block could be made `size` bytes long where it stands. */
static bool resize_large(void *p, size_t size, size_t old)
{
    if (size <= TP_POOL_MAX) return false;
    uint64_t begin = tp_os_ticks();
    struct tp_heap *heap = enter();
    if (!heap) return false;
    bool good = tp_large_resize(p, size);
    if (good) {
        count_resized(heap, size, old, tp_large_bytes(p));
        if (heap->countdown < 0) run_event(heap, p, size);
    }
    uint32_t shard = heap->index;
    leave(heap);
    tp_latency_record(TP_OP_LARGE_REALLOC, shard, tp_os_ticks() - begin);
    return good;
}

static void count_moved(void)
{
    struct tp_counters *counters = tp_pool_counters();
    if (counters) tp_count_add(&counters->realloc_moved, 1);
}

static void *copy_over(void *p, size_t size, size_t old)
{
    void *to = tp_pool_alloc(size);
    if (!to) return NULL;
    memcpy(to, p, size < old ? size : old);
    tp_pool_free(p);
    count_moved();
    return to;
}

/* A large block whose pages can move: one allocation and one free, no copy. */
static void *move_large(void *p, size_t size, size_t old)
{
    uint64_t begin = tp_os_ticks();
    struct tp_heap *heap = size > TP_POOL_MAX ? enter() : NULL;
    if (!heap) return NULL;
    void *to = tp_large_move(p, size);
    if (to) {
        // The order of the books: both blocks are there while the content moves.
        count_large(heap, size, tp_large_bytes(to));
        count_large_freed(heap, old);
        count_moved();
        if (heap->countdown < 0) run_event(heap, to, size);
    }
    uint32_t shard = heap->index;
    leave(heap);
    if (to) tp_latency_record(TP_OP_LARGE_REALLOC, shard, tp_os_ticks() - begin);
    return to;
}

/* The slab whose block begins at `p`; NULL when there is none. */
static struct tp_slab *slab_of_block(const void *p)
{
    struct tp_slab *slab = tp_slab_at(p);
    if (!slab) return NULL;
    slab = tp_slab_head(slab);
    return tp_slab_owner(slab) & ~(uintptr_t)TP_SLAB_FLAGS ? slab : NULL;
}

/* A block of someone else's becomes one of ours. */
static void *bring_home(void *p, size_t size)
{
    meet_foreign(p);
    size_t old = tp_host_foreign_bytes(p);
    void *to = tp_pool_alloc(size);
    if (!to) return NULL;
    memcpy(to, p, size < old ? size : old);
    tp_host_foreign_free(p);
    struct tp_counters *counters = tp_pool_counters();
    if (counters) tp_count_add(&counters->realloc_fresh, 1);
    return to;
}

void *tp_pool_realloc(void *p, size_t size, enum tp_call entry)
{
    tp_pool_count_call(entry);
    if (size > PTRDIFF_MAX) return fail();
    struct tp_slab *slab = slab_of_block(p);
    if (!slab) {
        size_t old = tp_large_bytes(p);
        if (!old) {
            return bring_home(p, size);
        }
        if (resize_large(p, size, old)) return p;
        void *to = move_large(p, size, old);
        return to ? to : copy_over(p, size, old);
    }
    if (!tp_slab_is_block(slab, p))
        tp_die("invalid realloc of %p: inside a block of %u bytes", p, slab->bytes);
    if (pool.check) return copy_over(p, size, tp_check_asked(p));

    // A block that would be less than half used moves, so that memory can go back.
    size_t old = slab->bytes;
    if (size > old || (size < old / 2 && tp_class_of(size) != slab->class))
        return copy_over(p, size, old);
    struct tp_counters *counters = tp_pool_counters();
    if (counters) tp_count_add(&counters->realloc_in_place, 1);
    return p;
}

void tp_pool_free_sized(void *p, size_t size)
{
    if (!p) return;
    // What realloc shrank in place may be larger than promised, never smaller.
    size_t bytes = tp_pool_usable(p);
    if (bytes && size > bytes)
        tp_die("free of %p with size %lu: the block has %lu bytes", p,
            (unsigned long)size, (unsigned long)bytes);
    tp_pool_free(p);
}

size_t tp_pool_usable(const void *p)
{
    struct tp_slab *slab = p ? slab_of_block(p) : NULL;
    if (!slab) {
        size_t bytes = p ? tp_large_bytes(p) : 0;
        return bytes || !p || tp_slab_at(p) ? bytes : tp_host_foreign_bytes(p);
    }
    return pool.check ? tp_check_asked(p) : slab->bytes;
}

/* ---- counters, memory, fork ---- */

struct tp_counters *tp_pool_counters(void)
{
    struct tp_heap *heap = tp_heap_self;
    if (TP_UNLIKELY(!heap->alive)) heap = tp_thread_begin();
    if (TP_UNLIKELY(!heap)) heap = tp_park_at(0);
    return heap ? tp_heap_counters(heap) : NULL;
}

void tp_pool_count_call(enum tp_call entry)
{
    struct tp_counters *counters = tp_pool_counters();
    if (counters) tp_count_add(&counters->calls[entry], 1);
}

void tp_pool_count_failure(enum tp_call entry)
{
    struct tp_counters *counters = tp_pool_counters();
    if (counters) tp_count_add(&counters->failed[entry], 1);
}

void tp_pool_blame(enum tp_call entry)
{
    struct tp_counters *counters = tp_pool_counters();
    if (!counters) return;
    tp_count_add(&counters->failed[TP_CALL_MALLOC], (uint64_t)-1);
    tp_count_add(&counters->failed[entry], 1);
}

struct tp_counters *tp_pool_slot(uint32_t index)
{
    struct tp_heap *heap = tp_park_at(index);
    return heap ? tp_heap_counters(heap) : NULL;
}

uint32_t tp_pool_slots(void)
{
    return tp_park_count();
}

bool tp_pool_trim(void)
{
    struct tp_heap *heap = enter();
    if (!heap) return false;
    tp_heap_collect(heap);
    tp_heap_drop_spares(heap);
    leave(heap);
    for (uint32_t n = tp_park_count(); n > 0; n--) tp_park_collect();
    size_t purged = tp_depot_purge(0);
    return purged + tp_large_purge(true) > 0;
}

void tp_pool_before_fork(void)
{
    tp_large_before_fork();
}

void tp_pool_after_fork(void)
{
    tp_large_after_fork(false);
}

bool tp_pool_forked(void)
{
    if (pool.fork_mark) atomic_store_explicit(pool.fork_mark, 1, memory_order_relaxed);
    tp_large_after_fork(true);
    struct tp_heap *self = tp_heap_self;
    uint32_t running =
        atomic_load_explicit(&tp_account.totals.running, memory_order_relaxed);
    bool alone = running <= 1;
    atomic_store_explicit(&pool.lock.word, 0, memory_order_relaxed);
    tp_depot_forked(alone);
    tp_huge_forked(alone);
    tp_park_forked(self, alone);
    atomic_store_explicit(
        &tp_account.totals.running, self->alive ? 1 : 0, memory_order_relaxed);
    if (self->alive) tp_heap_counters(self)->tid = tp_os_tid();
    return alone;
}
