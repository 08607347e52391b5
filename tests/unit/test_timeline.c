/* SPDX-License-Identifier: MIT */
/*
 * test_timeline.c - a run of any length in fixed memory, and what must not be lost of it.
 */
#include "pool/pool.h"
#include "shim/output.h"

#include "tests/unit/tp_test.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 682, RUNS = 100003 };

struct tp_boot tp_boot;
static uint64_t rss = 1000003;

void tp_boot_read_rss(uint64_t *out_now, uint64_t *out_peak)
{
    *out_now = *out_peak = rss;
}

static struct tp_point_record points[MOST];

static int begin_anew(void **state)
{
    (void)state;
    tp_timeline_forked();
    return tp_pool_start() && tp_pool_counters() ? 0 : 1;
}

static uint32_t read_points(void)
{
    return tp_timeline_copy(points, MOST);
}

static int64_t highest(uint32_t n)
{
    int64_t most = 0;
    for (uint32_t i = 0; i < n; i++) most = tp_max_i64(most, points[i].live_bytes_max);
    return most;
}

static struct tp_point_record point(uint64_t i)
{
    int64_t live = (int64_t)(i * 7919 % 10007);
    return (struct tp_point_record){ .ticks = i + 1,
        .live_bytes = live,
        .live_bytes_max = live + 3,
        .rss_bytes = i,
        .allocations = 11 * i,
        .frees = 5 * i };
}

static void merging_keeps_the_first_the_last_and_the_highest(void **state)
{
    (void)state;
    int64_t most = 0;
    for (uint64_t i = 0; i < RUNS; i++) {
        const struct tp_point_record next = point(i);
        most = tp_max_i64(most, next.live_bytes_max);
        assert_true(tp_timeline_add(&next));
        if (i % 997 != 0) continue;
        uint32_t n = read_points();
        assert_true(n > 0 && n <= MOST);
        assert_true(n >= MOST / 2 || n == i + 1);
        const struct tp_point_record first = point(0);
        assert_memory_equal(&points[0], &first, sizeof(first));
        assert_memory_equal(&points[n - 1], &next, sizeof(next));
        assert_int_equal(highest(n), most);
    }
    // Each is what it was at its time, but for the maximum.
    for (uint32_t k = 0, n = read_points(); k < n; k++) {
        const struct tp_point_record then = point(points[k].ticks - 1);
        assert_int_equal(points[k].allocations, then.allocations);
        assert_int_equal(points[k].frees, then.frees);
        assert_int_equal(points[k].live_bytes, then.live_bytes);
        assert_int_equal(points[k].rss_bytes, then.rss_bytes);
    }
}

static void no_point_is_earlier_than_the_one_before(void **state)
{
    (void)state;
    struct tp_point_record next = point(100);
    assert_true(tp_timeline_add(&next));
    assert_false(tp_timeline_add(&next));
    next.ticks--;
    assert_false(tp_timeline_add(&next));
    assert_int_equal(read_points(), 1);
}

static _Atomic(bool) stop;
static _Atomic(uint32_t) bad;

static void *read_meanwhile(void *argument)
{
    static struct tp_point_record seen[MOST];
    while (!atomic_load(&stop)) {
        uint32_t n = tp_timeline_copy(seen, MOST);
        for (uint32_t i = 0; i < n; i++) {
            uint64_t k = seen[i].ticks - 1;
            if ((i && seen[i].ticks <= seen[i - 1].ticks) ||
                seen[i].allocations != 11 * k || seen[i].frees != 5 * k)
                atomic_fetch_add(&bad, 1);
        }
    }
    return argument;
}

static void reader_sees_whole_points_in_order(void **state)
{
    (void)state;
    pthread_t reader;
    assert_int_equal(pthread_create(&reader, NULL, read_meanwhile, NULL), 0);
    for (uint64_t i = 0; i < RUNS; i++) {
        const struct tp_point_record next = point(i);
        tp_timeline_add(&next);
    }
    atomic_store(&stop, true);
    pthread_join(reader, NULL);
    assert_int_equal(atomic_load(&bad), 0);
}

static void tick_tells_what_was_counted(void **state)
{
    (void)state;
    void *p = tp_pool_alloc(100003);
    tp_timeline_tick();
    assert_int_equal(read_points(), 1);
    struct tp_sums sums = tp_counters_sums(tp_pool_counters());
    assert_int_equal(points[0].allocations, sums.allocations);
    assert_int_equal(points[0].frees, sums.frees);
    assert_int_equal(points[0].live_bytes, sums.allocated_bytes - sums.freed_bytes);
    assert_true(points[0].live_bytes_max >= points[0].live_bytes);
    assert_int_equal(points[0].rss_bytes, rss);
    // The next one is not due yet.
    tp_timeline_tick();
    assert_int_equal(read_points(), 1);
    tp_pool_free(p);
}

static void sandbox_is_not_asked_for_the_resident_set(void **state)
{
    (void)state;
    atomic_store(&tp_os_sandboxed, true);
    tp_timeline_tick();
    atomic_store(&tp_os_sandboxed, false);
    assert_int_equal(read_points(), 1);
    assert_int_equal(points[0].rss_bytes, 0);
}

/* What was higher between two points shows in the second, here that of a dump. */
static void peak_between_points_is_in_the_next(void **state)
{
    (void)state;
    tp_timeline_tick();
    atomic_store(&tp_account.totals.peak_single, (int64_t)1 << 40);
    struct tp_point_record last = { .ticks = tp_os_ticks(), .live_bytes = 3 };
    tp_timeline_now(&last);
    assert_true(last.live_bytes_max == (int64_t)1 << 40);
    // A child's timeline knows nothing of its parent's peak.
    tp_timeline_forked();
    last.live_bytes_max = 0;
    tp_timeline_now(&last);
    assert_int_equal(last.live_bytes_max, 3);
    assert_int_equal(read_points(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(
            merging_keeps_the_first_the_last_and_the_highest, begin_anew),
        cmocka_unit_test_setup(no_point_is_earlier_than_the_one_before, begin_anew),
        cmocka_unit_test_setup(reader_sees_whole_points_in_order, begin_anew),
        cmocka_unit_test_setup(tick_tells_what_was_counted, begin_anew),
        cmocka_unit_test_setup(sandbox_is_not_asked_for_the_resident_set, begin_anew),
        cmocka_unit_test_setup(peak_between_points_is_in_the_next, begin_anew),
    };
    return cmocka_run_group_tests_name("timeline", tests, NULL, NULL);
}
