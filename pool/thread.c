/* SPDX-License-Identifier: MIT */
/*
 * thread.c - a thread meets its heap, and leaves it.
 *
 * A thread gets its heap at its first call, whoever created it. It is left in the
 * last of the four rounds of thread destructors, because other destructors allocate
 * too; what the C library frees after that goes through the shared heap.
 */
#include "pool/heap.h"
#include "pool/host.h"
#include "pool/pool.h"
#include "pool/slow.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

// PTHREAD_DESTRUCTOR_ITERATIONS of glibc. ThreadSanitizer leaves its threads in the
// fourth round itself, and what is instrumented may not run after it.
enum { EXACT_EVENT = 64 * 1024 };  // bytes between two events, when every call flushes

#if defined(__SANITIZE_THREAD__)
enum { LAST_ROUND = 3 };
#else
enum { LAST_ROUND = 4 };
#endif

static struct {
    _Atomic(bool) has_key;
    pthread_key_t key;
} thread;

void tp_thread_arm(struct tp_heap *heap)
{
    int64_t bytes = tp_peak_headroom(tp_heap_counters(heap));
    bytes = tp_max_i64(tp_min_i64(bytes, heap->sampler.to_sample), 1);
    if (tp_slow_options.exact) bytes = EXACT_EVENT;
    if (tp_slow_options.watch_bytes)
        bytes = tp_min_i64(bytes, tp_slow_options.watch_bytes);
    heap->armed = bytes;
    heap->countdown = bytes;
}

static void end(struct tp_heap *heap)
{
    uint64_t begin = tp_os_ticks();
    uintptr_t outer = tp_slow_begin();
    uint32_t index = heap->index;  // once parked, the heap may be anyone's
    struct tp_counters *counters = tp_heap_counters(heap);
    tp_heap_self = &tp_heap_gone;
    tp_os_thread_name(counters->name);

    struct tp_sums now = tp_counters_sums(counters);
    const struct tp_sums *base = &counters->base[counters->epoch & 1];
    struct tp_sums did = {
        now.allocations - base->allocations,
        now.frees - base->frees,
        now.requested_bytes - base->requested_bytes,
        now.allocated_bytes - base->allocated_bytes,
        now.freed_bytes - base->freed_bytes,
        now.remote_frees - base->remote_frees,
    };
    tp_peak_detach(counters);
    tp_host_thread_ended(counters, index, &did);
    counters->base[(counters->epoch + 1) & 1] = now;
    // One store takes the figures from the running thread to its record.
    __atomic_store_n(&counters->epoch, counters->epoch + 1, __ATOMIC_RELEASE);
    counters->state = TP_PARKED;
    atomic_fetch_add_explicit(&tp_account.totals.ended, 1, memory_order_relaxed);
    tp_park_put(heap);
    // Last: until here the thread may be inside shared lists, which a fork must know.
    atomic_fetch_sub_explicit(&tp_account.totals.running, 1, memory_order_release);
    tp_slow_end(outer);
    tp_latency_record(TP_OP_THREAD_END, index, tp_os_ticks() - begin);
}

static void on_destructor(void *data)
{
    struct tp_heap *heap = data;
    // Whatever handler was under way: its thread comes back to none.
    if (tp_heap_self == &tp_heap_aside) tp_pool_step_back();
    if (heap != tp_heap_self) return;
    int saved = errno;
    if (++heap->rounds >= LAST_ROUND || pthread_setspecific(thread.key, heap) != 0)
        end(heap);
    errno = saved;
}

bool tp_thread_open(void)
{
    bool good = pthread_key_create(&thread.key, on_destructor) == 0;
    atomic_store_explicit(&thread.has_key, good, memory_order_release);
    return good;
}

struct tp_heap *tp_thread_begin(void)
{
    if (tp_heap_self != &tp_heap_none) return NULL;
    if (!tp_pool_start()) return NULL;

    int saved = errno;
    uint64_t begin = tp_os_ticks();
    uintptr_t outer = tp_slow_begin();
    // A signal handler that allocates meanwhile finds a thread without a heap.
    tp_heap_self = &tp_heap_gone;
    struct tp_heap *heap = tp_park_take();
    if (!heap) {
        tp_heap_self = &tp_heap_none;
        tp_slow_end(outer);
        return NULL;
    }
    struct tp_counters *counters = tp_heap_counters(heap);
    counters->tid = tp_os_tid();
    counters->started_ns = tp_os_now_ns();
    tp_os_thread_name(counters->name);
    counters->state = TP_RUNNING;
    tp_peak_attach(counters);
    heap->rounds = 0;
    heap->next_tick = begin + tp_pool_tick_ticks();
    tp_host_arm(&heap->sampler);
    tp_thread_arm(heap);
    tp_heap_self = heap;
    tp_slow_end(outer);
    // May allocate: by now the thread has a heap for that.
    if (atomic_load_explicit(&thread.has_key, memory_order_acquire))
        pthread_setspecific(thread.key, heap);
    tp_latency_record(TP_OP_THREAD_START, heap->index, tp_os_ticks() - begin);
    errno = saved;
    return heap;
}
