/* SPDX-License-Identifier: MIT */
/*
 * test_large.c - the door to the private jemalloc, without a range and with one.
 */
#include "pool/huge.h"
#include "pool/slab.h"

#include "tests/unit/tp_test.h"

#include <errno.h>
#include <string.h>

enum { KIB = 1024, MIB = 1024 * 1024, BLOCKS = 97 };

static const size_t sizes[] = { 1, 16, 173, 4096, 40009, 65536, 65537, 131072, 200003,
    1000003, 5000011 };
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static void use(size_t bytes, size_t align)
{
    uint8_t *p = tp_large_alloc(bytes, align, true);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % (align ? align : TP_MIN_ALIGN), 0);
    assert_true(tp_large_bytes(p) >= bytes);
    assert_true(test_is_filled(p, 0, bytes));
    memset(p, 0x5a, tp_large_bytes(p));
    tp_large_free(p);
}

static void use_all_sizes_and_alignments(void)
{
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < SIZES; i++)
            for (size_t align = 16; align <= 4 * MIB; align *= 4) use(sizes[i], align);
}

static void nothing_is_ours_before_the_first_block(void **state)
{
    (void)state;
    int here;
    assert_int_equal(tp_large_bytes(NULL), 0);
    assert_int_equal(tp_large_bytes(&here), 0);
    assert_int_equal(tp_large_purge(false), 0);
}

static void jemalloc_serves_everything_without_a_range(void **state)
{
    (void)state;
    assert_int_equal(tp_range.span, 0);
    use_all_sizes_and_alignments();
    int here;
    assert_int_equal(tp_large_bytes(&here), 0);
}

static void small_blocks_keep_their_content(void **state)
{
    (void)state;
    char *p[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        assert_non_null(p[i] = tp_large_alloc(100, 0, false));
        memset(p[i], i, 100);
    }
    for (int i = 0; i < BLOCKS; i++) {
        assert_true(test_is_filled(p[i], i, 100));
        assert_in_range(tp_large_bytes(p[i]), 100, 128);
        tp_large_free(p[i]);
    }
}

static void smallest_blocks_are_aligned_too(void **state)
{
    (void)state;
    void *p[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        assert_non_null(p[i] = tp_large_alloc(1 + (size_t)i % 8, 0, false));
        assert_int_equal((uintptr_t)p[i] % TP_MIN_ALIGN, 0);
    }
    for (int i = 0; i < BLOCKS; i++) tp_large_free(p[i]);
}

static void note_is_kept_with_any_block(void **state)
{
    (void)state;
    static const size_t bytes[] = { 100, 70000, 300000, 3000000 };
    for (int i = 0; i < 4; i++) {
        void *p = tp_large_alloc(bytes[i], 0, false);
        assert_int_equal(tp_large_note(p).mark, 0);
        assert_true(tp_large_keep(p, (struct tp_note){ 7, 99 }));
        assert_int_equal(tp_large_note(p).mark, 7);
        assert_int_equal(tp_large_note(p).requested, 99);
        assert_int_equal(tp_large_end(p).mark, 7);
        assert_int_equal(tp_large_note(p).mark, 0);
        assert_true(tp_large_keep(p, (struct tp_note){ 8, 99 }));
        tp_large_end(p);
        tp_large_free(p);
        assert_int_equal(tp_large_note(p = tp_large_alloc(bytes[i], 0, false)).mark, 0);
        tp_large_free(p);
    }
}

static void jemalloc_block_is_resized_within_its_class_only(void **state)
{
    (void)state;
    char *p = tp_large_alloc(100, 0, false);
    assert_true(tp_large_resize(p, 101));
    assert_false(tp_large_resize(p, 4096));
    assert_true(tp_large_bytes(p) >= 101);
    assert_null(tp_large_move(p, 4096));
    tp_large_free(p);
}

static void impossible_size_is_refused(void **state)
{
    (void)state;
    assert_null(tp_large_alloc((size_t)PTRDIFF_MAX + 1, 0, false));
    assert_null(tp_large_alloc((size_t)1 << 50, 0, false));
}

static void errno_is_kept(void **state)
{
    (void)state;
    errno = EXDEV;
    void *p = tp_large_alloc(300 * KIB, 0, false);
    assert_true(tp_large_resize(p, 301 * KIB));
    tp_large_free(p);
    tp_large_free(tp_large_alloc(50, 0, false));
    tp_large_purge(true);
    assert_int_equal(errno, EXDEV);
}

static void range_opens(void **state)
{
    (void)state;
    assert_true(tp_range_open((size_t)1 << 30));
}

static void blocks_above_the_pools_are_runs_of_the_range(void **state)
{
    (void)state;
    char *p = tp_large_alloc(TP_HUGE_MIN, 0, false);
    assert_true(tp_depot_is_extent(p));
    assert_true(tp_slab_at(p)->huge);
    assert_int_equal(tp_large_bytes(p + 1), 0);
    assert_int_equal(tp_large_bytes(p + TP_GRANULE), 0);
    tp_large_free(p);
    assert_int_equal(tp_large_bytes(p), 0);
    use_all_sizes_and_alignments();
}

static void run_is_resized_but_not_below_the_pools(void **state)
{
    (void)state;
    char *p = tp_large_alloc(1000003, 0, false);
    memset(p, 0x5a, 1000003);
    assert_true(tp_large_resize(p, 500009));
    assert_in_range(tp_large_bytes(p), 500009, 500009 + 4096);
    assert_true(tp_large_resize(p, 900007));
    assert_true(test_is_filled(p, 0x5a, 500009));
    assert_false(tp_large_resize(p, TP_POOL_MAX));
    tp_large_free(p);
}

static void run_is_moved_with_its_content(void **state)
{
    (void)state;
    char *p = tp_large_alloc(MIB, 0, false);
    memset(p, 0x5a, MIB);
    assert_null(tp_large_move(p, TP_POOL_MAX));
    char *to = tp_large_move(p, 40 * MIB);
    assert_non_null(to);
    assert_true(tp_large_bytes(to) >= 40 * MIB);
    assert_int_equal(tp_large_bytes(p), 0);
    assert_true(test_is_filled(to, 0x5a, MIB));
    tp_large_free(to);
}

static void everything_idle_can_be_given_back(void **state)
{
    (void)state;
    char *p = tp_large_alloc(6 * MIB, 0, false);
    memset(p, 1, 6 * MIB);
    tp_large_free(p);
    assert_true(tp_large_purge(true) >= 6 * MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_ours_before_the_first_block),
        cmocka_unit_test(jemalloc_serves_everything_without_a_range),
        cmocka_unit_test(small_blocks_keep_their_content),
        cmocka_unit_test(smallest_blocks_are_aligned_too),
        cmocka_unit_test(note_is_kept_with_any_block),
        cmocka_unit_test(jemalloc_block_is_resized_within_its_class_only),
        cmocka_unit_test(impossible_size_is_refused),
        cmocka_unit_test(range_opens),
        cmocka_unit_test(errno_is_kept),
        cmocka_unit_test(blocks_above_the_pools_are_runs_of_the_range),
        cmocka_unit_test(small_blocks_keep_their_content),
        cmocka_unit_test(run_is_resized_but_not_below_the_pools),
        cmocka_unit_test(run_is_moved_with_its_content),
        cmocka_unit_test(impossible_size_is_refused),
        cmocka_unit_test(everything_idle_can_be_given_back),
    };
    return cmocka_run_group_tests_name("large", tests, NULL, NULL);
}
