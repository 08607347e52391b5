/* SPDX-License-Identifier: MIT */
/*
 * test_depot.c - runs are taken, put, purged; extents come from the far end.
 */
#include "pool/counters.h"
#include "pool/slab.h"

#include "tests/unit/tp_test.h"

#include <string.h>

enum { RANGE = 256 * 1024 * 1024, MANY = 64 };

static size_t run_bytes(const struct tp_slab *slab)
{
    return (size_t)TP_GRANULE << slab->order;
}

static int open_range(void **state)
{
    (void)state;
    return tp_range_open(RANGE) ? 0 : 1;
}

static struct tp_slab *take(unsigned order)
{
    struct tp_slab *slab = tp_depot_take(order);
    assert_non_null(slab);
    assert_int_equal(slab->order, order);
    assert_int_equal((uintptr_t)tp_slab_start(slab) % run_bytes(slab), 0);
    return slab;
}

/* Must be first: it wants to see address space that nobody has used. */
static void granules_skipped_for_alignment_serve_later(void **state)
{
    (void)state;
    struct tp_slab *small = take(0);
    struct tp_slab *large = take(4);
    char *end = tp_slab_start(large);
    struct tp_slab *between[4];
    for (unsigned order = 0; order < 4; order++) {
        between[order] = take(order);
        assert_true(between[order]->fresh);
        assert_in_range((uintptr_t)tp_slab_start(between[order]),
            (uintptr_t)tp_slab_start(small) + TP_GRANULE, (uintptr_t)end - 1);
    }
    // 1 + 1 + 2 + 4 + 8 granules: the sixteen below the large run, no more.
    assert_true(tp_slab_start(take(0)) > end);
}

static void fresh_run_reads_as_zeros(void **state)
{
    (void)state;
    for (unsigned order = 0; order < TP_ORDERS; order++) {
        struct tp_slab *slab = take(order);
        assert_true(slab->fresh);
        assert_true(test_is_filled(tp_slab_start(slab), 0, run_bytes(slab)));
        tp_depot_put(slab);
    }
}

static void newest_dirty_run_is_reused_first(void **state)
{
    (void)state;
    struct tp_slab *a = take(1), *b = take(1);
    tp_depot_put(a);
    tp_depot_put(b);
    assert_int_equal(tp_slab_owner(b), 0);
    assert_ptr_equal(take(1), b);
    assert_false(b->fresh);
    assert_ptr_equal(take(1), a);
    tp_depot_put(a);
    tp_depot_put(b);
}

static void purged_run_reads_as_zeros(void **state)
{
    (void)state;
    tp_depot_purge(0);
    struct tp_slab *slab = take(2);
    memset(tp_slab_start(slab), 0x5a, run_bytes(slab));
    tp_depot_put(slab);
    assert_int_equal(tp_account.totals.empty_bytes, run_bytes(slab));
    uint64_t purged = tp_account.totals.purged_bytes;
    assert_int_equal(tp_depot_purge(0), run_bytes(slab));
    assert_int_equal(tp_account.totals.empty_bytes, 0);
    assert_int_equal(tp_account.totals.purged_bytes - purged, run_bytes(slab));
    assert_ptr_equal(take(2), slab);
    assert_true(slab->fresh);
    assert_true(test_is_filled(tp_slab_start(slab), 0, run_bytes(slab)));
    tp_depot_put(slab);
}

static void young_runs_survive_a_purge_by_age(void **state)
{
    (void)state;
    struct tp_slab *slab = take(0);
    tp_slab_start(slab)[1] = 1;
    tp_depot_put(slab);
    // Younger than a tenth of all time since the machine started.
    assert_int_equal(tp_depot_purge(tp_os_ticks() / 10), 0);
    assert_ptr_equal(take(0), slab);
    assert_int_equal(tp_slab_start(slab)[1], 1);
    tp_depot_put(slab);
}

static void purge_of_nothing_gives_nothing(void **state)
{
    (void)state;
    tp_depot_purge(0);
    assert_int_equal(tp_depot_purge(0), 0);
}

/* used + idle stays within 9/8 of what was in use lately, or 2 MiB above it. */
static void idle_memory_is_bounded(void **state)
{
    (void)state;
    tp_depot_purge(0);
    tp_depot_purge(0);
    struct tp_slab *runs[MANY];
    for (int i = 0; i < MANY; i++) {
        runs[i] = take(4);
        memset(tp_slab_start(runs[i]), 0x5a, 4096);
    }
    tp_depot_purge(0);
    for (int i = 0; i < MANY; i++) tp_depot_put(runs[i]);
    assert_in_range(tp_account.totals.empty_bytes, 0, (MANY + MANY / 8 + 4) << 20);
    tp_depot_purge(0);
    tp_depot_purge(0);

    // What was in use is long ago now: little may lie idle.
    struct tp_slab *few[8];
    for (int i = 0; i < 8; i++) few[i] = take(4);
    tp_depot_purge(0);
    tp_depot_purge(0);
    for (int i = 0; i < 8; i++) {
        tp_depot_put(few[i]);
        assert_in_range(tp_account.totals.empty_bytes, 0, 16 << 20);
    }
}

enum { AREAS = 6 };  // of address space that lies fallow

/* Takes runs of all orders until they make so many areas; returns how many. */
static unsigned take_areas(struct tp_slab *runs[], unsigned areas)
{
    unsigned n = 0;
    for (size_t granules = 0; granules < areas * tp_fallow_granules(); n++) {
        runs[n] = take(n % TP_ORDERS);
        assert_true(!runs[n]->fresh ||
            test_is_filled(tp_slab_start(runs[n]), 0, run_bytes(runs[n])));
        memset(tp_slab_start(runs[n]), 0x77, TP_GRANULE);
        tp_slab_prepare(runs[n], 5);
        granules += (size_t)1 << runs[n]->order;
    }
    return n;
}

static void descriptors_of_what_nobody_uses_go_back(void **state)
{
    (void)state;
    static struct tp_slab *runs[2 * AREAS * 512];
    if (tp_fallow_granules() > 64) return;  // the range of this test is too small
    for (int round = 0; round < 3; round++) {
        unsigned n = take_areas(runs, AREAS);
        for (unsigned i = 0; i < n; i++)
            for (unsigned k = 0; k < i; k++) assert_ptr_not_equal(runs[i], runs[k]);
        uint64_t before = tp_account.totals.self_bytes;
        for (unsigned i = 0; i < n; i++) tp_depot_put(runs[i]);
        tp_depot_purge(0);
        uint64_t pages = (before - tp_account.totals.self_bytes) / tp_os_page();
        assert_in_range(pages, AREAS - 2, AREAS + 4);
        // What is clean and what lies fallow serves before new address space does.
        uint64_t committed = tp_account.totals.committed_bytes;
        n = take_areas(runs, AREAS - 1);
        assert_int_equal(tp_account.totals.committed_bytes, committed);
        for (unsigned i = 0; i < n; i++) tp_depot_put(runs[i]);
        tp_depot_purge(0);
    }
}

static void extents_come_from_the_far_end(void **state)
{
    (void)state;
    char *first = tp_depot_extent(3 * 1024 * 1024);
    char *second = tp_depot_extent(100000);
    assert_non_null(first);
    assert_non_null(second);
    assert_true(second + 100000 <= first);
    assert_true(first + 3 * 1024 * 1024 <= tp_range.end);
    assert_int_equal((uintptr_t)first % (2 * 1024 * 1024), 0);
    assert_true(test_is_filled(first, 0, 3 * 1024 * 1024));
    memset(second, 0x5a, 100000);
    assert_true(tp_depot_is_extent(first) && tp_depot_is_extent(second + 99999));
    assert_true(tp_depot_is_extent(tp_range.end - 1));
    assert_false(tp_depot_is_extent(tp_range.end));
    assert_false(tp_depot_is_extent(second - 1));
    // Their descriptors can be written.
    tp_slab_set_owner(tp_slab_at(first), TP_SLAB_LARGE);
    tp_slab_set_owner(tp_slab_at(second), TP_SLAB_LARGE);
}

static void extent_beyond_the_range_is_refused(void **state)
{
    (void)state;
    assert_null(tp_depot_extent(RANGE));
    assert_null(tp_depot_extent(SIZE_MAX));
}

static int run_out(void *argument)
{
    (void)argument;
    size_t n = 0;
    while (tp_depot_take(4)) n++;
    bool orders = !tp_depot_take(4);
    while (tp_depot_take(0)) n++;
    while (tp_depot_extent(2 * 1024 * 1024)) n++;
    return n > 100 && orders && !tp_depot_take(0) && !tp_depot_extent(1) ? 0 : 1;
}

static void exhausted_range_gives_nothing(void **state)
{
    (void)state;
    assert_int_equal(test_in_child(run_out, NULL), 0);
}

static int fork_alone(void *argument)
{
    struct tp_slab *idle = argument;
    uint32_t era = tp_fork_era;
    tp_depot_forked(true);
    return tp_fork_era == era && tp_depot_take(3) == idle ? 0 : 1;
}

static int fork_of_many(void *argument)
{
    struct tp_slab *idle = argument;
    uint32_t era = tp_fork_era;
    tp_depot_forked(false);
    struct tp_slab *slab = tp_depot_take(3);
    return tp_fork_era == era + 1 && slab && slab != idle ? 0 : 1;
}

static void child_keeps_idle_runs_of_a_lone_parent_only(void **state)
{
    (void)state;
    struct tp_slab *idle = take(3);
    tp_depot_put(idle);
    assert_int_equal(test_in_child(fork_alone, idle), 0);
    assert_int_equal(test_in_child(fork_of_many, idle), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(granules_skipped_for_alignment_serve_later),
        cmocka_unit_test(fresh_run_reads_as_zeros),
        cmocka_unit_test(newest_dirty_run_is_reused_first),
        cmocka_unit_test(purged_run_reads_as_zeros),
        cmocka_unit_test(young_runs_survive_a_purge_by_age),
        cmocka_unit_test(purge_of_nothing_gives_nothing),
        cmocka_unit_test(idle_memory_is_bounded),
        cmocka_unit_test(descriptors_of_what_nobody_uses_go_back),
        cmocka_unit_test(extents_come_from_the_far_end),
        cmocka_unit_test(extent_beyond_the_range_is_refused),
        cmocka_unit_test(exhausted_range_gives_nothing),
        cmocka_unit_test(child_keeps_idle_runs_of_a_lone_parent_only),
    };
    return cmocka_run_group_tests_name("depot", tests, open_range, NULL);
}
