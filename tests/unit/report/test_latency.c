/* SPDX-License-Identifier: MIT */
/*
 * test_latency.c - percentiles from buckets, and ticks as nanoseconds.
 */
#include "tests/unit/report/test.h"

#include <stdio.h>
#include <string.h>

/* The formula of the format, written out a second time. */
static size_t bucket(uint64_t t)
{
    if (t < 4) return (size_t)t;
    unsigned top = 63 - (unsigned)__builtin_clzll(t);
    size_t b = 4 * ((size_t)top - 1) + ((t >> (top - 2)) & 3);
    return b < TP_FORMAT_BUCKETS ? b : TP_FORMAT_BUCKETS - 1;
}

static void sample(struct tp_latency_record *record, uint64_t ticks, uint64_t n)
{
    if (record->count == 0 || ticks < record->min_ticks) record->min_ticks = ticks;
    if (ticks > record->max_ticks) record->max_ticks = ticks;
    record->count += n;
    record->total_ticks += n * ticks;
    record->buckets[bucket(ticks)] += n;
}

static void one_sample_is_every_percentile(void **state)
{
    (void)state;
    for (uint64_t t = 0; t < UINT64_C(1) << 40; t = t * 2 + 1) {
        struct tp_latency_record record = { .name = "x" };
        sample(&record, t, 1);
        assert_true(tp_latency_quantile(&record, 0.5) == (double)t);
        assert_true(tp_latency_quantile(&record, 0.999) == (double)t);
    }
}

static void percentiles_are_interpolated_in_their_bucket(void **state)
{
    (void)state;
    struct tp_latency_record record = { .name = "x" };
    sample(&record, 4096, 1);
    sample(&record, 5000, 9999);
    // All lie in [4096, 5120): the middle of the samples is the middle of the bucket.
    double middle = tp_latency_quantile(&record, 0.5);
    assert_true(middle > 4607 && middle < 4609);
    assert_true(tp_latency_quantile(&record, 1.0) == 5000);
}

static void percentiles_are_within_a_quarter_of_the_truth(void **state)
{
    (void)state;
    struct tp_latency_record record = { .name = "x" };
    for (uint64_t t = 1; t <= 10007; t++) sample(&record, t, 1);
    const double shares[] = { 0.5, 0.99, 0.999 };
    for (int i = 0; i < 3; i++) {
        double truth = shares[i] * 10007;
        double found = tp_latency_quantile(&record, shares[i]);
        assert_true(found > truth * 0.95 && found < truth * 1.05);
    }
}

static void records_of_one_name_are_merged(void **state)
{
    (void)state;
    struct tp_latency_record records[3] = { { .name = "refill" }, { .name = "purge" },
        { .name = "refill" } };
    struct tp_latency rows[TP_LATENCY_NAMES];
    struct tp_dump dump;
    test_dump(&dump, NULL, 0);
    sample(&records[0], 1000, 3);
    sample(&records[1], 500, 1);
    sample(&records[2], 9000, 7);
    dump.latency = records;
    dump.n_latency = 3;
    assert_int_equal(tp_latency_build(rows, &dump, 2000000000), 2);
    assert_string_equal(rows[0].operation, "refill");
    assert_int_equal(rows[0].count, 10);
    assert_int_equal(rows[0].total_ns, 33000);  // two ticks a nanosecond
    assert_int_equal(rows[0].min_ns, 500);
    assert_int_equal(rows[0].max_ns, 4500);
    assert_int_equal(rows[0].average_ns, 3300);
    assert_true(rows[0].per_second == 5.0);
}

static void unused_records_are_left_out(void **state)
{
    (void)state;
    struct tp_latency_record record = { .name = "never" };
    struct tp_latency rows[TP_LATENCY_NAMES];
    struct tp_dump dump;
    test_dump(&dump, NULL, 0);
    dump.latency = &record;
    dump.n_latency = 1;
    assert_int_equal(tp_latency_build(rows, &dump, 1), 0);
}

static void more_names_than_room_do_no_harm(void **state)
{
    (void)state;
    static struct tp_latency_record records[100];
    struct tp_latency rows[TP_LATENCY_NAMES];
    struct tp_dump dump;
    test_dump(&dump, NULL, 0);
    for (int i = 0; i < 100; i++) {
        snprintf(records[i].name, TP_FORMAT_NAME, "op%d", i);
        sample(&records[i], UINT64_MAX, 1);
        records[i].count = UINT64_MAX;
    }
    dump.latency = records;
    dump.n_latency = 100;
    assert_int_equal(tp_latency_build(rows, &dump, 1), TP_LATENCY_NAMES);
}

static void without_a_clock_a_tick_is_a_nanosecond(void **state)
{
    (void)state;
    struct tp_dump dump;
    test_dump(&dump, NULL, 0);
    assert_true(tp_latency_tick_ns(&dump) == 0.5);
    dump.header.ticks = dump.process.start_ticks;
    assert_true(tp_latency_tick_ns(&dump) == 1.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_sample_is_every_percentile),
        cmocka_unit_test(percentiles_are_interpolated_in_their_bucket),
        cmocka_unit_test(percentiles_are_within_a_quarter_of_the_truth),
        cmocka_unit_test(records_of_one_name_are_merged),
        cmocka_unit_test(unused_records_are_left_out),
        cmocka_unit_test(more_names_than_room_do_no_harm),
        cmocka_unit_test(without_a_clock_a_tick_is_a_nanosecond),
    };
    return cmocka_run_group_tests_name("latency", tests, NULL, NULL);
}
