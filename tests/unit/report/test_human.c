/* SPDX-License-Identifier: MIT */
/*
 * test_human.c - numbers as people read them.
 */
#include "tests/unit/report/test.h"

static char out[TP_HUMAN_BYTES];

static void counts_have_their_thousands_apart(void **state)
{
    (void)state;
    assert_string_equal(tp_human_count(out, 0), "0");
    assert_string_equal(tp_human_count(out, 999), "999");
    assert_string_equal(tp_human_count(out, 1009), "1,009");
    assert_string_equal(tp_human_count(out, -1234567), "-1,234,567");
    assert_string_equal(tp_human_count(out, INT64_MIN), "-9,223,372,036,854,775,808");
}

static void sizes_have_one_decimal_and_a_binary_unit(void **state)
{
    (void)state;
    assert_string_equal(tp_human_size(out, 0), "0 B");
    assert_string_equal(tp_human_size(out, 999), "999 B");
    assert_string_equal(tp_human_size(out, 1000), "1.0 KiB");
    assert_string_equal(tp_human_size(out, 1536), "1.5 KiB");
    assert_string_equal(tp_human_size(out, -3 * 1024 * 1024), "-3.0 MiB");
    assert_string_equal(tp_human_size(out, INT64_MAX), "8.0 EiB");
}

static void times_have_three_digits(void **state)
{
    (void)state;
    assert_string_equal(tp_human_time(out, 0), "0 ns");
    assert_string_equal(tp_human_time(out, 999), "999 ns");
    assert_string_equal(tp_human_time(out, 1234), "1.23 us");
    assert_string_equal(tp_human_time(out, 45600000), "45.6 ms");
    assert_string_equal(tp_human_time(out, 789000000000), "789 s");
    assert_string_equal(tp_human_time(out, 999600), "1.00 ms");
}

static void rates_are_short(void **state)
{
    (void)state;
    assert_string_equal(tp_human_rate(out, 0), "0.0");
    assert_string_equal(tp_human_rate(out, 9.97), "10");
    assert_string_equal(tp_human_rate(out, 99561), "100k");
    assert_string_equal(tp_human_rate(out, 1234567), "1.2M");
}

static void dates_are_rfc_3339(void **state)
{
    (void)state;
    assert_string_equal(tp_human_date(out, 0), "");
    assert_string_equal(
        tp_human_date(out, 1800000000123456789), "2027-01-15T08:00:00.123Z");
    (void)tp_human_date(out, UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_have_their_thousands_apart),
        cmocka_unit_test(sizes_have_one_decimal_and_a_binary_unit),
        cmocka_unit_test(times_have_three_digits),
        cmocka_unit_test(rates_are_short),
        cmocka_unit_test(dates_are_rfc_3339),
    };
    return cmocka_run_group_tests_name("human", tests, NULL, NULL);
}
