/* SPDX-License-Identifier: MIT */
/*
 * test_marks.c - marked slabs by themselves: blocks, late ones, retention, forks.
 */
#include "pool/marks.h"

#include "pool/counters.h"
#include "tests/unit/tp_test.h"

#include <string.h>

enum { MANY = 5003 };

static void *blocks[MANY];

static int open_range(void **state)
{
    (void)state;
    tp_idle = TP_IDLE_ALL;
    return tp_range.span || tp_range_open((size_t)1 << 30) ? 0 : 1;
}

static int give_all_back(void **state)
{
    (void)state;
    tp_marks_trim(0);
    return tp_account.totals.self_bytes >= (uint64_t)1 << 60;
}

static uint64_t slabs_of(unsigned c)
{
    return tp_account.classes[c].slabs;
}

static struct tp_slab *slab_of(const void *p)
{
    return tp_slab_head(tp_slab_at(p));
}

static void block_is_as_its_class_has_it(void **state)
{
    (void)state;
    for (unsigned c = 0; c < TP_CLASSES; c++) {
        char *p = tp_marks_take(c), *q = tp_marks_take(c);
        size_t bytes = tp_class_bytes(c);
        assert_non_null(p);
        assert_non_null(q);
        assert_int_equal(slab_of(p)->bytes, bytes);
        assert_int_equal(tp_slab_owner(slab_of(p)), TP_MARKS_OWNER);
        assert_true(tp_slab_is_block(slab_of(p), p));
        size_t power = bytes & -bytes;
        assert_int_equal((uintptr_t)p % power, 0);
        assert_int_equal((uintptr_t)q % power, 0);
        memset(p, 1, bytes);
        memset(q, 2, bytes);
        assert_true(test_is_filled(p, 1, bytes));
        tp_marks_put(p, true);
        tp_marks_put(q, true);
    }
}

static void what_is_kept_comes_back_once(void **state)
{
    (void)state;
    int proxy;
    void *p = tp_marks_take(3), *q = tp_marks_take(3);
    assert_int_equal(tp_marks_end(p), 0);
    tp_marks_keep(p, 77, 5, &proxy);
    tp_marks_keep(q, 78, 6, NULL);
    assert_int_equal(tp_marks_read(p)->slot, 5);
    assert_ptr_equal(tp_marks_read(p)->proxy, &proxy);
    assert_int_equal(tp_marks_end(p), 77);
    assert_int_equal(tp_marks_end(p), 0);
    assert_int_equal(tp_marks_end(q), 78);
    tp_marks_put(p, true);
    tp_marks_put(q, true);
}

static void blocks_are_used_again_and_slabs_counted(void **state)
{
    (void)state;
    unsigned c = tp_class_of(64);
    uint64_t before = slabs_of(c);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++) {
            assert_non_null(blocks[i] = tp_marks_take(c));
            memset(blocks[i], i, 64);
        }
        // 1024 blocks a slab
        assert_int_equal(slabs_of(c) - before, 5);
        for (int i = 0; i < MANY; i++) {
            assert_true(test_is_filled(blocks[i], i & 255, 64));
            tp_marks_put(blocks[i], true);
        }
        assert_int_equal(slabs_of(c) - before, 1);
    }
    tp_marks_trim(UINT64_MAX / 2);
    assert_int_equal(slabs_of(c) - before, 1);
    tp_marks_trim(0);
    assert_int_equal(slabs_of(c), before);
}

static void nothing_is_kept_when_nothing_may_be(void **state)
{
    (void)state;
    uint64_t before = slabs_of(9);
    tp_idle = TP_IDLE_NONE;
    void *p = tp_marks_take(9);
    assert_int_equal(slabs_of(9), before + 1);
    tp_marks_put(p, true);
    assert_int_equal(slabs_of(9), before);
}

static void late_block_is_put_back_with_the_next(void **state)
{
    (void)state;
    void *p = tp_marks_take(4), *q = tp_marks_take(4), *other = tp_marks_take(20);
    int32_t used = slab_of(p)->used;
    tp_marks_put(p, false);
    tp_marks_put(other, false);
    assert_int_equal(slab_of(p)->used, used);
    tp_marks_put(q, true);
    assert_int_equal(slab_of(p)->used, used - 2);
    tp_marks_trim(0);
    assert_int_equal(slabs_of(4), 0);
    assert_int_equal(slabs_of(20), 0);
}

static void late_list_that_was_written_over_is_let_go(void **state)
{
    (void)state;
    void *p = tp_marks_take(4), *q = tp_marks_take(4);
    tp_marks_put(p, false);
    memset(p, 0x55, 8);
    tp_marks_put(q, false);
    ((struct tp_block *)q)->next = (void *)blocks;
    tp_marks_trim(0);
}

static void corrupt_a_link(void *unused)
{
    (void)unused;
    void *p = tp_marks_take(4), *q = tp_marks_take(4), *r = tp_marks_take(4);
    tp_marks_put(p, true);
    tp_marks_put(q, true);
    memset(q, 0x55, 8);
    tp_marks_take(4);
    tp_marks_take(4);
    tp_marks_put(r, true);
}

static void write_over_a_link_dies(void **state)
{
    (void)state;
    const char *words = test_last_words(corrupt_a_link, NULL);
    assert_non_null(words);
    assert_non_null(strstr(words, "heap corrupted"));
}

static int use_after_fork(void *alone)
{
    void *p = blocks[0];
    if (!alone) tp_fork_era++;
    tp_marks_forked(alone != NULL);
    if (tp_marks_end(p) != 5) return 1;
    tp_marks_put(p, true);
    void *q = tp_marks_take(7);
    if (!q || !tp_slab_is_block(slab_of(q), q)) return 2;
    if (alone ? q != p : slab_of(q) == slab_of(p)) return 3;
    tp_marks_keep(q, 6, 0, NULL);
    return tp_marks_end(q) == 6 ? 0 : 4;
}

static void child_can_free_what_is_out(void **state)
{
    (void)state;
    blocks[0] = tp_marks_take(7);
    tp_marks_keep(blocks[0], 5, 0, NULL);
    assert_int_equal(test_in_child(use_after_fork, blocks), 0);
    assert_int_equal(test_in_child(use_after_fork, NULL), 0);
    tp_marks_put(blocks[0], true);
}

static void without_memory_there_is_none(void **state)
{
    (void)state;
    struct tp_range kept = tp_range;
    tp_range.end = tp_range.zone;  // nothing that is new can be had
    void *p = NULL;
    for (int i = 0; i < MANY && (blocks[i] = p = tp_marks_take(TP_CLASSES - 1)); i++) {
    }
    tp_range = kept;
    assert_null(p);
    for (int i = 0; blocks[i]; i++) tp_marks_put(blocks[i], true);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, open_range, give_all_back)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(block_is_as_its_class_has_it),
        CASE(what_is_kept_comes_back_once),
        CASE(blocks_are_used_again_and_slabs_counted),
        CASE(nothing_is_kept_when_nothing_may_be),
        CASE(late_block_is_put_back_with_the_next),
        CASE(late_list_that_was_written_over_is_let_go),
        CASE(write_over_a_link_dies),
        CASE(child_can_free_what_is_out),
        CASE(without_memory_there_is_none),
    };
    return cmocka_run_group_tests_name("marks", tests, NULL, NULL);
}
