/* SPDX-License-Identifier: MIT */
/*
 * test_nearby.c - large blocks at hand: the same run again, to one thread only, and not
 * for long.
 */
#include "pool/nearby.h"

#include "tests/unit/tp_test.h"

#include <pthread.h>
#include <string.h>

enum {
    KIB = 1024,
    MIB = 1024 * 1024,
    LINES = 16,  // of nearby.c
    PER_LINE = 2 * MIB,
    THREADS = 4,
    STEPS = 20000,
};

static int open_range(void **state)
{
    (void)state;
    return tp_range_open((size_t)1 << 30) ? 0 : 1;
}

/* Nothing at hand, nothing idle. */
static int clear_all(void **state)
{
    (void)state;
    tp_idle = TP_IDLE_SHARE;
    tp_nearby_empty();
    tp_huge_purge(true);
    return 0;
}

static char *new_block(size_t bytes)
{
    char *p = tp_huge_alloc(bytes, 0, false);
    assert_non_null(p);
    memset(p, 0x5a, bytes);
    return p;
}

static bool keep(unsigned line, char *p)
{
    return tp_nearby_keep(line, tp_slab_at(p));
}

static char *take(unsigned line, size_t bytes)
{
    struct tp_slab *slab = tp_nearby_take(line, bytes);
    return slab ? slab->large_start : NULL;
}

static void run_is_a_block_again(void **state)
{
    (void)state;
    static const size_t sizes[] = { TP_HUGE_MIN, 200 * KIB, MIB, 4 * MIB, 16 * MIB };
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        char *p = new_block(sizes[i]);
        struct tp_slab *slab = tp_slab_at(p);
        slab->requested = 7;
        assert_true(keep(3, p));
        assert_int_equal(tp_large_bytes(p), 0);  // a second free finds no block
        assert_ptr_equal(take(3, sizes[i]), p);
        assert_true(tp_large_bytes(p) >= sizes[i]);
        assert_int_equal(tp_slab_owner(slab), TP_SLAB_LARGE);
        assert_true(slab->huge);
        assert_int_equal(slab->mark, 0);
        assert_int_equal(slab->requested, 0);
        assert_null(take(3, sizes[i]));
        tp_huge_free(slab);
    }
}

static void usable_bytes_follow_the_request(void **state)
{
    (void)state;
    char *p = new_block(190 * KIB);
    assert_true(keep(0, p));
    assert_ptr_equal(take(0, 150 * KIB), p);  // as many granules
    assert_int_equal(tp_large_bytes(p), tp_align_up(150 * KIB, tp_os_page()));
    assert_true(keep(0, p));
    assert_ptr_equal(take(0, 190 * KIB), p);
    assert_int_equal(tp_large_bytes(p), tp_align_up(190 * KIB, tp_os_page()));
    tp_huge_free(tp_slab_at(p));
}

static void other_sizes_find_what_was_at_hand_in_the_free_runs(void **state)
{
    (void)state;
    static const size_t kept[] = { 512 * KIB, 3 * MIB };
    for (int i = 0; i < 2; i++) {
        char *p = new_block(kept[i]);
        assert_true(keep(2, p));
        assert_null(take(2, kept[i] + TP_GRANULE));
        assert_null(take(2, kept[i]));  // it is not there any more
        assert_ptr_equal(tp_huge_alloc(kept[i], 0, false), p);
        assert_true(keep(2, p));
        assert_null(take(2, kept[i] / 2));
        tp_huge_free(tp_slab_at(tp_huge_alloc(kept[i], 0, false)));
    }
}

static void a_line_has_two_megabytes_at_most(void **state)
{
    (void)state;
    static const size_t sizes[] = { 140 * KIB, 256 * KIB, 384 * KIB, MIB,
        TP_NEARBY_LINE_MOST };
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        size_t sum = 0;
        for (int n = 0; n < 20; n++) {
            char *p = new_block(sizes[i]);
            if (keep(1, p))
                sum += tp_slab_at(p)->granules << TP_GRANULE_SHIFT;
            else
                tp_huge_free(tp_slab_at(p));
        }
        assert_true(sum > 0 && sum <= PER_LINE);
        assert_int_equal(tp_nearby_empty(), sum);
    }
}

static void lines_are_apart_and_the_large_run_is_everybodys(void **state)
{
    (void)state;
    char *small = new_block(200 * KIB), *large = new_block(5 * MIB);
    assert_true(keep(4, small) && keep(4, large));
    assert_ptr_equal(take(9, 5 * MIB), large);
    assert_null(take(9, 200 * KIB));
    assert_ptr_equal(take(4 + LINES, 200 * KIB), small);
    char *more = new_block(6 * MIB);
    assert_true(keep(0, large));
    assert_false(keep(1, more));
    tp_huge_free(tp_slab_at(more));
    tp_huge_free(tp_slab_at(small));
}

static void nothing_stays_for_long(void **state)
{
    (void)state;
    char *p = new_block(MIB), *q = new_block(7 * MIB);
    assert_true(keep(5, p) && keep(5, q));
    assert_int_equal(tp_nearby_age(), 0);
    assert_ptr_equal(take(5, MIB), p);
    assert_true(keep(5, p));  // in use since
    assert_int_equal(tp_nearby_age(), 7 * MIB);
    assert_int_equal(tp_nearby_age(), MIB);
    assert_int_equal(tp_nearby_age(), 0);
    assert_int_equal(tp_huge_purge(true), 8 * MIB);
}

static void nothing_stays_where_nothing_may_lie_idle(void **state)
{
    (void)state;
    tp_idle = TP_IDLE_NONE;
    char *p = new_block(MIB);
    assert_false(keep(0, p));
    assert_true(tp_large_bytes(p) >= MIB);
    tp_huge_free(tp_slab_at(p));
    assert_int_equal(tp_nearby_empty(), 0);
}

static void block_grows_into_the_run_at_hand_behind_it(void **state)
{
    (void)state;
    char *p = new_block(2 * MIB), *wall = new_block(2 * MIB);
    while (wall != p + 2 * MIB) {  // until two are neighbours
        p = wall;
        wall = new_block(2 * MIB);
    }
    assert_true(keep(0, wall));
    assert_true(tp_large_resize(p, 4 * MIB));
    assert_true(tp_large_bytes(p) >= 4 * MIB);
    tp_huge_free(tp_slab_at(p));
}

/* ---- several threads at the same line ---- */

static _Atomic(int) bad;

static void *play(void *data)
{
    uint64_t seed = (uintptr_t)data;
    static const size_t sizes[] = { 140 * KIB, 200 * KIB, 400 * KIB, MIB, 3 * MIB };
    for (int step = 0; step < STEPS; step++) {
        size_t bytes = sizes[test_below(&seed, 5)];
        char *p = take(0, bytes);
        if (!p) p = tp_huge_alloc(bytes, 0, false);
        if (!p) continue;
        uint64_t *first = (uint64_t *)(void *)p, *last = first + bytes / 8 - 1;
        uint64_t key = test_random(&seed);
        *first = *last = key;
        if (test_below(&seed, 64) == 0) tp_nearby_age();
        struct tp_slab *slab = tp_slab_at(p);
        bool mine = *first == key && *last == key && slab->large_start == p &&
            slab->large_bytes >= bytes && tp_slab_owner(slab) == TP_SLAB_LARGE;
        if (!mine) atomic_fetch_add(&bad, 1);
        if (!tp_nearby_keep(0, slab)) tp_huge_free(slab);
    }
    return NULL;
}

static void a_run_is_had_by_one_thread(void **state)
{
    (void)state;
    pthread_t thread[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, play, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    assert_int_equal(atomic_load(&bad), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(run_is_a_block_again, clear_all),
        cmocka_unit_test_setup(usable_bytes_follow_the_request, clear_all),
        cmocka_unit_test_setup(
            other_sizes_find_what_was_at_hand_in_the_free_runs, clear_all),
        cmocka_unit_test_setup(a_line_has_two_megabytes_at_most, clear_all),
        cmocka_unit_test_setup(
            lines_are_apart_and_the_large_run_is_everybodys, clear_all),
        cmocka_unit_test_setup(nothing_stays_for_long, clear_all),
        cmocka_unit_test_setup(nothing_stays_where_nothing_may_lie_idle, clear_all),
        cmocka_unit_test_setup(block_grows_into_the_run_at_hand_behind_it, clear_all),
        cmocka_unit_test_setup(a_run_is_had_by_one_thread, clear_all),
    };
    return cmocka_run_group_tests_name("nearby", tests, open_range, NULL);
}
