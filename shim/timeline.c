/* SPDX-License-Identifier: MIT */
/*
 * timeline.c - the process as a whole, over time, in fixed memory.
 *
 *     0 | 1 2 | 3 4 | 5 6 | 7    is full: neighbours become one, but for the
 *     0 |  2  |  4  |  6  | 7    first and the last; the interval doubles
 *
 * Idea: a tick adds a point when one is due. Of two points that become one the later
 * one's figures stay, and the higher of the maxima: what the peak was is never lost. A
 * walk over the slots of 10 000 threads took 4 to 15 ms (of 4 threads 1 us): the next
 * point is due no sooner than 1000 times as long as the last one took.
 *
 * Readers of the file, and a kill, see whole points only: `ticks` is 0 while a point is
 * written. While points are merged those that were merged already stand before others
 * that are older: a reader leaves out what is no later than what it has.
 *
 * Between points the maximum follows the global net (peak.h), which costs one load, and
 * the peaks that the pool has found.
 */
#include "shim/output.h"

#include "pool/pool.h"

#include <errno.h>

enum {
    WALK_SHARE = 1000,  // of the time goes 1 into walks
    WALK_TRIES = 3,     // while slots are folded
    WORDS = sizeof(struct tp_point_record) / sizeof(uint64_t),
};

static struct {
    struct tp_lock lock;          // the point that is being added
    _Atomic(uint64_t) due_ticks;  // when the next point is
    _Atomic(int64_t) highest;     // net since the last point
    _Atomic(int64_t) peak;        // as known at the last point
    uint64_t interval;            // ticks between points at least; under the lock
    uint32_t n;                   // points; under the lock
} timeline;

/* ---- points ---- */

/* Word by word: readers take no lock. */
static void write_point(struct tp_point_record *to, const struct tp_point_record *from)
{
    uint64_t *words = (uint64_t *)(void *)to;
    uint64_t copy[WORDS];
    __builtin_memcpy(copy, from, sizeof(copy));
    __atomic_store_n(&words[0], 0, __ATOMIC_RELEASE);
#if !defined(__SANITIZE_THREAD__)  // which knows of no fences
    atomic_thread_fence(memory_order_release);
#endif
    for (unsigned i = 1; i < WORDS; i++)
        __atomic_store_n(&words[i], copy[i], __ATOMIC_RELAXED);
    // Meets the acquire in read_point().
    __atomic_store_n(&words[0], copy[0], __ATOMIC_RELEASE);
}

/* False: there is none, or it is being written. */
static bool read_point(struct tp_point_record *to, const struct tp_point_record *from)
{
    const uint64_t *words = (const uint64_t *)(const void *)from;
    uint64_t copy[WORDS];
    copy[0] = __atomic_load_n(&words[0], __ATOMIC_ACQUIRE);
    for (unsigned i = 1; i < WORDS; i++)
        copy[i] = __atomic_load_n(&words[i], __ATOMIC_RELAXED);
#if !defined(__SANITIZE_THREAD__)
    atomic_thread_fence(memory_order_acquire);
#endif
    if (!copy[0] || __atomic_load_n(&words[0], __ATOMIC_RELAXED) != copy[0])
        return false;
    __builtin_memcpy(to, copy, sizeof(copy));
    return true;
}

static struct tp_point_record *point_at(uint32_t i)
{
    return tp_table_at(&tp_timeline, i);
}

/* Needs: nobody writes. An unwritten point is all zero. */
static struct tp_point_record content_of(uint32_t i)
{
    struct tp_point_record point = { 0 };
    (void)read_point(&point, point_at(i));
    return point;
}

/* Makes room: neighbours become one, but for the first and the last. */
static void merge(void)
{
    uint32_t n = timeline.n, to = 1, from = 1;
    for (; from + 1 < n - 1; from += 2, to++) {
        struct tp_point_record earlier = content_of(from), later = content_of(from + 1);
        later.live_bytes_max = tp_max_i64(later.live_bytes_max, earlier.live_bytes_max);
        write_point(point_at(to), &later);
    }
    for (; from < n; from++, to++) {
        struct tp_point_record point = content_of(from);
        write_point(point_at(to), &point);
    }
    timeline.n = to;
    const struct tp_point_record none = { 0 };
    for (; to < n; to++) write_point(point_at(to), &none);
    timeline.interval *= 2;
}

bool tp_timeline_add(const struct tp_point_record *point)
{
    uint32_t n = timeline.n;
    if (n && content_of(n - 1).ticks >= point->ticks) return false;
    if (n == tp_table_count(&tp_timeline) && tp_table_add(&tp_timeline) == UINT32_MAX) {
        if (n < 4) return false;  // without memory for more than that
        merge();
    }
    write_point(point_at(timeline.n), point);
    timeline.n++;
    return true;
}

uint32_t tp_timeline_copy(struct tp_point_record *out, uint32_t room)
{
    uint32_t n = 0;
    for (uint32_t i = 0; n < room && i < tp_table_count(&tp_timeline); i++)
        if (read_point(&out[n], point_at(i)) && (!n || out[n].ticks > out[n - 1].ticks))
            n++;
    return n;
}

/* ---- ticks ---- */

static int64_t load(const _Atomic(int64_t) *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

static int64_t peak_so_far(void)
{
    return tp_max_i64(
        load(&tp_account.totals.peak_single), load(&tp_account.totals.peak_estimate));
}

static void raise_highest(int64_t value)
{
    int64_t seen = load(&timeline.highest);
    while (seen < value &&
        !atomic_compare_exchange_weak_explicit(&timeline.highest, &seen, value,
            memory_order_relaxed, memory_order_relaxed)) {
    }
}

void tp_timeline_now(struct tp_point_record *point)
{
    int64_t most = tp_max_i64(point->live_bytes, load(&timeline.highest));
    int64_t peak = peak_so_far();
    if (peak > load(&timeline.peak)) most = tp_max_i64(most, peak);
    point->live_bytes_max = most;
}

/* False: slots were folded meanwhile, again and again. */
static bool look(struct tp_point_record *out)
{
    for (unsigned tries = 0; tries < WALK_TRIES; tries++) {
        struct tp_sums sums;
        bool whole = tp_pool_sums(&sums);
        // Frees may have been seen before their allocations.
        int64_t live = (int64_t)(sums.allocated_bytes - sums.freed_bytes);
        *out = (struct tp_point_record){ .live_bytes = tp_max_i64(live, 0),
            .allocations = sums.allocations,
            .frees = sums.frees };
        if (whole) return true;
    }
    return false;
}

static void add_now(uint64_t begin)
{
    struct tp_point_record point;
    if (!timeline.interval) timeline.interval = tp_pool_tick_ticks();
    bool good = look(&point);
    uint64_t wait = (tp_os_ticks() - begin) * WALK_SHARE;
    if (good) {
        uint64_t unused;
        if (!tp_os_is_sandboxed()) tp_boot_read_rss(&point.rss_bytes, &unused);
        point.ticks = begin;
        tp_timeline_now(&point);
        int64_t peak = peak_so_far();
        if (tp_timeline_add(&point)) {
            atomic_store_explicit(&timeline.peak, peak, memory_order_relaxed);
            atomic_store_explicit(
                &timeline.highest, point.live_bytes, memory_order_relaxed);
        }
    }
    if (wait < timeline.interval) wait = timeline.interval;
    atomic_store_explicit(&timeline.due_ticks, begin + wait, memory_order_relaxed);
}

void tp_timeline_tick(void)
{
    uint64_t now = tp_os_ticks();
    raise_highest(load(&tp_account.totals.net));
    if (now < atomic_load_explicit(&timeline.due_ticks, memory_order_relaxed)) return;
    if (!tp_lock_try(&timeline.lock)) return;
    int saved = errno;
    add_now(now);
    errno = saved;
    tp_lock_leave(&timeline.lock);
}

void tp_timeline_forked(void)
{
    const struct tp_point_record none = { 0 };
    for (uint32_t i = 0; i < tp_table_count(&tp_timeline); i++)
        if (point_at(i)->ticks) write_point(point_at(i), &none);
    atomic_store_explicit(&timeline.lock.word, 0, memory_order_relaxed);
    atomic_store_explicit(&timeline.due_ticks, 0, memory_order_relaxed);
    atomic_store_explicit(&timeline.highest, 0, memory_order_relaxed);
    atomic_store_explicit(&timeline.peak, peak_so_far(), memory_order_relaxed);
    timeline.interval = 0;
    timeline.n = 0;
}
