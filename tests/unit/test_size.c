/* SPDX-License-Identifier: MIT */
/*
 * test_size.c - request, class and block size agree, for every request.
 */
#include "pool/size.h"

#include "tests/unit/tp_test.h"

static void class_and_size_are_inverse(void **state)
{
    (void)state;
    for (unsigned c = 0; c < TP_CLASSES; c++) {
        assert_int_equal(tp_class_of(tp_class_bytes(c)), c);
        if (c + 1 < TP_CLASSES)
            assert_int_equal(tp_class_of(tp_class_bytes(c) + 1), c + 1);
    }
    assert_int_equal(tp_class_bytes(0), 16);
    assert_int_equal(tp_class_bytes(TP_CLASSES - 1), TP_POOL_MAX);
}

static void every_request_gets_the_least_block_that_holds_it(void **state)
{
    (void)state;
    for (size_t n = 1; n <= TP_POOL_MAX; n++) {
        unsigned c = tp_class_of(n);
        if (tp_class_bytes(c) < n || (c && tp_class_bytes(c - 1) >= n))
            fail_msg("%zu bytes are served by class %u", n, c);
    }
    assert_int_equal(tp_class_of(0), 0);
}

static void table_agrees_with_arithmetic(void **state)
{
    (void)state;
    for (size_t n = 0; n <= TP_TABLE_MAX; n++)
        assert_int_equal(
            tp_class_table[(n + TP_MIN_ALIGN - 1) / TP_MIN_ALIGN], tp_class_of(n));
}

static void blocks_waste_less_than_a_fifth(void **state)
{
    (void)state;
    for (size_t n = TP_LINEAR_MAX + 1; n <= TP_POOL_MAX; n++) {
        size_t bytes = tp_class_bytes(tp_class_of(n));
        if (5 * (bytes - n) >= bytes) fail_msg("%zu bytes take %zu", n, bytes);
    }
}

static void every_size_keeps_the_least_alignment(void **state)
{
    (void)state;
    for (unsigned c = 0; c < TP_CLASSES; c++)
        assert_int_equal(tp_class_bytes(c) % TP_MIN_ALIGN, 0);
}

static void powers_of_two_are_sizes(void **state)
{
    (void)state;
    for (size_t n = 16; n <= TP_POOL_MAX; n *= 2)
        assert_int_equal(tp_class_bytes(tp_class_of(n)), n);
}

static void runs_waste_at_most_an_eighth(void **state)
{
    (void)state;
    for (unsigned c = 0; c < TP_CLASSES; c++) {
        size_t bytes = tp_class_bytes(c);
        size_t run = (size_t)TP_GRANULE << tp_class_order(c);
        assert_in_range(tp_class_order(c), 0, TP_ORDERS - 1);
        assert_true(run / bytes >= 8);
        assert_true(run % bytes <= run / 8);
        if (bytes <= TP_SMALL_SLAB_MAX) assert_int_equal(tp_class_order(c), 0);
    }
}

static void highest_bit_is_found(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        assert_int_equal(tp_log2((uint64_t)1 << bit), bit);
        assert_int_equal(tp_log2(((uint64_t)1 << bit) | 1), bit);
    }
}

static void rounding_up_reaches_the_next_multiple(void **state)
{
    (void)state;
    assert_int_equal(tp_align_up(0, 16), 0);
    assert_int_equal(tp_align_up(1, 16), 16);
    assert_int_equal(tp_align_up(16, 16), 16);
    assert_int_equal(tp_align_up(4097, 4096), 8192);
    assert_true(tp_is_pow2(1) && tp_is_pow2(4096));
    assert_false(tp_is_pow2(0) || tp_is_pow2(12));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(class_and_size_are_inverse),
        cmocka_unit_test(every_request_gets_the_least_block_that_holds_it),
        cmocka_unit_test(table_agrees_with_arithmetic),
        cmocka_unit_test(blocks_waste_less_than_a_fifth),
        cmocka_unit_test(every_size_keeps_the_least_alignment),
        cmocka_unit_test(powers_of_two_are_sizes),
        cmocka_unit_test(runs_waste_at_most_an_eighth),
        cmocka_unit_test(highest_bit_is_found),
        cmocka_unit_test(rounding_up_reaches_the_next_multiple),
    };
    return cmocka_run_group_tests_name("size", tests, NULL, NULL);
}
