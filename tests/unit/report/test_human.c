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

static void ages_have_one_unit(void **state)
{
    (void)state;
    const uint64_t second = 1000000000;
    assert_string_equal(tp_human_age(out, 0), "0 s");
    assert_string_equal(tp_human_age(out, 119 * second), "119 s");
    assert_string_equal(tp_human_age(out, 120 * second), "2 min");
    assert_string_equal(tp_human_age(out, 119 * 60 * second), "119 min");
    assert_string_equal(tp_human_age(out, 7200 * second), "2 h");
    assert_string_equal(tp_human_age(out, 7 * 86400 * second), "7 d");
    (void)tp_human_age(out, UINT64_MAX);
}

static void amounts_are_read_as_the_library_reads_them(void **state)
{
    (void)state;
    uint64_t value = 0;
    assert_true(tp_human_parse_size(&value, "4097"));
    assert_int_equal(value, 4097);
    assert_true(tp_human_parse_size(&value, "3k"));
    assert_int_equal(value, 3072);
    assert_true(tp_human_parse_size(&value, "2G"));
    assert_int_equal(value, UINT64_C(2) << 30);
    assert_true(tp_human_parse_time(&value, "5ms"));
    assert_int_equal(value, 5000000);
    assert_true(tp_human_parse_time(&value, "90"));
    assert_int_equal(value, UINT64_C(90000000000));
    assert_true(tp_human_parse_time(&value, "7d"));
    assert_int_equal(value, UINT64_C(7) * 86400 * 1000000000);
    static const char *const wrong[] = { "", "k", "-1", " 1", "1 k", "1kb", "1.5m",
        "99999999999999999999", "99999999999999g" };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_false(tp_human_parse_size(&value, wrong[i]));
    assert_false(tp_human_parse_time(&value, "1k"));
    assert_false(tp_human_parse_time(&value, "999999999999d"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_have_their_thousands_apart),
        cmocka_unit_test(sizes_have_one_decimal_and_a_binary_unit),
        cmocka_unit_test(times_have_three_digits),
        cmocka_unit_test(rates_are_short),
        cmocka_unit_test(dates_are_rfc_3339),
        cmocka_unit_test(ages_have_one_unit),
        cmocka_unit_test(amounts_are_read_as_the_library_reads_them),
    };
    return cmocka_run_group_tests_name("human", tests, NULL, NULL);
}
