/* SPDX-License-Identifier: MIT */
/*
 * park.c - where heaps come from and where they go when their threads end.
 *
 * A heap is never freed. It is parked whole and given to the next new thread, which
 * goes on counting in its slot; meanwhile other threads' slow paths take home what
 * is freed into it and steal its slabs. The lock covers the list of parked heaps and
 * every parked heap on it.
 *
 * One heap, the first, belongs to all threads that have none: those past their last destructor,
 * and those that found no memory for one. It has a lock of its own.
 */
#include "pool/heap.h"
#include "pool/host.h"

enum {
    STEAL_MOST = 4,      // slabs taken from a parked heap at once
    SHARED_TRIES = 100,  // then a signal handler must do without; each sleeps a bit
};

static struct {
    struct tp_lock lock;
    struct tp_heap *parked;  // in the order in which their turn comes
    struct tp_heap *last;    // of them
    struct tp_lock shared_lock;
    char *bay[TP_BAYS];  // written before n_heaps covers it
    _Atomic(uint32_t) n_heaps;
    uint32_t shared;  // index of the shared heap
    uint32_t out;     // heaps that threads have; under the lock
} park;

TP_THREAD struct tp_heap *tp_heap_self = &tp_heap_none;
struct tp_heap tp_heap_none;
struct tp_heap tp_heap_gone;
struct tp_heap tp_heap_aside;

struct tp_heap *tp_park_at(uint32_t index)
{
    // Meets the release in add_heap().
    if (index >= atomic_load_explicit(&park.n_heaps, memory_order_acquire)) return NULL;
    char *bay = park.bay[index / TP_BAY_SLOTS];
    return &((union tp_heap_room *)(void *)bay)[index % TP_BAY_SLOTS].heap;
}

uint32_t tp_park_count(void)
{
    return atomic_load_explicit(&park.n_heaps, memory_order_acquire);
}

static bool add_bay(uint32_t bay)
{
    char *start = tp_os_map(2 * TP_BAY_HALF);
    if (!start) return false;
    tp_os_no_huge(start, 2 * TP_BAY_HALF);
    park.bay[bay] = start;
    tp_host_bay(
        (struct tp_counters *)(void *)(start + TP_BAY_HALF), bay * TP_BAY_SLOTS);
    return true;
}

/* Needs: the lock. */
static struct tp_heap *add_heap(void)
{
    uint32_t n = atomic_load_explicit(&park.n_heaps, memory_order_relaxed);
    if (n >= TP_BAYS * TP_BAY_SLOTS) return NULL;
    if (n % TP_BAY_SLOTS == 0 && !add_bay(n / TP_BAY_SLOTS)) return NULL;
    char *bay = park.bay[n / TP_BAY_SLOTS];
    struct tp_heap *heap = &((union tp_heap_room *)(void *)bay)[n % TP_BAY_SLOTS].heap;
    tp_heap_init(heap, n);
    atomic_store_explicit(&park.n_heaps, n + 1, memory_order_release);
    atomic_fetch_add_explicit(&tp_account.totals.self_bytes,
        sizeof(union tp_heap_room) + sizeof(struct tp_counters), memory_order_relaxed);
    return heap;
}

static void share(struct tp_heap *heap)
{
    heap->shared = true;
    tp_heap_counters(heap)->state = TP_SHARED;
    park.shared = heap->index;
}

bool tp_park_open(void)
{
    tp_lock_enter(&park.lock);
    bool good = tp_park_count() > 0;
    if (!good) {
        struct tp_heap *shared = add_heap();
        if (shared) share(shared);
        good = shared != NULL;
    }
    tp_lock_leave(&park.lock);
    return good;
}

/* The next three need the lock. */
static void park_last(struct tp_heap *heap)
{
    heap->parked = NULL;
    // Read without the lock by those who only want to know whether there is one.
    if (park.parked)
        park.last->parked = heap;
    else
        __atomic_store_n(&park.parked, heap, __ATOMIC_RELAXED);
    park.last = heap;
}

static void unpark_first(void)
{
    struct tp_heap *heap = park.parked;
    __atomic_store_n(&park.parked, heap->parked, __ATOMIC_RELAXED);
    heap->parked = NULL;
}

static struct tp_heap *next_in_turn(void)
{
    struct tp_heap *heap = park.parked;
    if (heap) {
        unpark_first();
        park_last(heap);
    }
    return heap;
}

struct tp_heap *tp_park_take(void)
{
    tp_lock_enter(&park.lock);
    struct tp_heap *heap = park.parked;
    if (heap) {
        unpark_first();
    } else {
        heap = add_heap();
    }
    if (heap) park.out++;
    tp_lock_leave(&park.lock);
    return heap;
}

void tp_park_put(struct tp_heap *heap)
{
    tp_heap_empty_bins(heap);
    tp_heap_collect(heap);
    tp_heap_drop_spares(heap);
    tp_lock_enter(&park.lock);
    park_last(heap);
    park.out--;
    tp_lock_leave(&park.lock);
}

bool tp_park_begin_alone(void)
{
    tp_lock_enter(&park.lock);
    if (park.out <= 1 && tp_lock_try(&park.shared_lock)) return true;
    tp_lock_leave(&park.lock);
    return false;
}

void tp_park_end_alone(void)
{
    tp_lock_leave(&park.shared_lock);
    tp_lock_leave(&park.lock);
}

bool tp_park_steal(struct tp_heap *heap, unsigned c)
{
    if (!__atomic_load_n(&park.parked, __ATOMIC_RELAXED)) return false;
    if (!tp_lock_try(&park.lock)) return false;
    unsigned n = 0;
    struct tp_heap *parked = next_in_turn();
    if (parked) {
        // One class only: the rest is for the tick, which is in no hurry.
        tp_heap_collect_class(parked, c);
        n = tp_heap_steal(heap, parked, c, STEAL_MOST);
    }
    tp_lock_leave(&park.lock);
    return n > 0;
}

void tp_park_collect(void)
{
    if (!__atomic_load_n(&park.parked, __ATOMIC_RELAXED)) return;
    if (!tp_lock_try(&park.lock)) return;
    struct tp_heap *parked = next_in_turn();
    if (parked) {
        tp_heap_collect(parked);
        tp_heap_drop_spares(parked);
    }
    tp_lock_leave(&park.lock);
}

struct tp_heap *tp_park_enter_shared(void)
{
    struct tp_heap *shared = tp_park_at(park.shared);
    for (int i = 0; shared && i < SHARED_TRIES; i++) {
        if (tp_lock_try(&park.shared_lock)) return shared;
        tp_os_pause();
    }
    return NULL;
}

void tp_park_leave_shared(struct tp_heap *heap)
{
    (void)heap;
    tp_lock_leave(&park.shared_lock);
}

void tp_park_forked(struct tp_heap *self, bool alone)
{
    atomic_store_explicit(&park.lock.word, 0, memory_order_relaxed);
    atomic_store_explicit(&park.shared_lock.word, 0, memory_order_relaxed);
    park.out = self->alive ? 1 : 0;
    if (alone) return;

    park.parked = NULL;
    atomic_store_explicit(&self->callers, NULL, memory_order_relaxed);
    for (uint32_t i = 0; i < tp_park_count(); i++) {
        struct tp_heap *heap = tp_park_at(i);
        struct tp_counters *counters = tp_heap_counters(heap);
        if (heap != self && counters->state == TP_RUNNING) counters->state = TP_PARKED;
    }
    // The shared heap may have been caught at work: another takes its place.
    struct tp_heap *shared = add_heap();
    if (shared) share(shared);
}
