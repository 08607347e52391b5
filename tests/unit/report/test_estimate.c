/* SPDX-License-Identifier: MIT */
/*
 * test_estimate.c - quantiles are those of the tables, and calibrated parts add up.
 */
#include "report/sites.h"
#include "tests/unit/report/test.h"

#include <math.h>
#include <string.h>

static bool near(double value, double wanted, double error)
{
    return fabs(value - wanted) <= error * fabs(wanted);
}

/* ---- quantiles ------------------------------------------------------------------- */

/* Half of the chi-square quantiles in any table: chi2(p; 2 shape) / 2. */
static void gamma_quantiles_are_those_of_chi_square_tables(void **state)
{
    (void)state;
    static const struct {
        double freedom, p, chi2;
    } table[] = { { 1, 0.025, 0.000982069 }, { 1, 0.975, 5.023886 },
        { 2, 0.025, 0.05063562 }, { 2, 0.975, 7.377759 }, { 3, 0.025, 0.2157953 },
        { 3, 0.975, 9.348404 }, { 10, 0.025, 3.246973 }, { 10, 0.975, 20.48318 },
        { 30, 0.025, 16.79077 }, { 30, 0.975, 46.97924 }, { 100, 0.025, 74.22193 },
        { 100, 0.975, 129.5612 }, { 1000, 0.025, 914.2572 },
        { 1000, 0.975, 1089.531 } };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        assert_true(near(2 * tp_gamma_quantile(table[i].freedom / 2, table[i].p),
            table[i].chi2, 1e-5));
}

static void quantiles_rise_with_the_share(void **state)
{
    (void)state;
    for (double shape = 1e-3; shape < 1e7; shape *= 3) {
        double before = -1;
        for (double p = 0.005; p < 1; p += 0.045) {
            double x = tp_gamma_quantile(shape, p);
            assert_true(isfinite(x) && x >= before);
            before = x;
        }
    }
}

static void belief_without_skew_is_normal(void **state)
{
    (void)state;
    const struct tp_belief belief = { .mean = 100, .variance = 25 };
    assert_true(near(tp_belief_quantile(&belief, 0.975), 109.79982, 1e-6));
    assert_true(near(tp_belief_quantile(&belief, 0.025), 90.20018, 1e-6));
}

static void tail_below_is_the_mirror_of_one_above(void **state)
{
    (void)state;
    const struct tp_belief above = { .mean = 10, .variance = 10, .third = 20 };
    const struct tp_belief below = { .mean = -10, .variance = 10, .third = -20 };
    double high = tp_belief_quantile(&above, 0.975);
    assert_true(near(high, tp_gamma_quantile(10, 0.975), 1e-9));
    assert_true(near(tp_belief_quantile(&below, 0.025), -high, 1e-9));
}

/* ---- calibration ------------------------------------------------------------------ */

static int64_t sum_of(const struct tp_part *parts, size_t n)
{
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        assert_true(parts[i].value >= 0);
        sum += parts[i].value;
    }
    return sum;
}

/* From no skewness to one beyond the table, on both sides. */
static void ends_from_the_table_are_quantiles(void **state)
{
    (void)state;
    static const double skews[] = { 0, 1e-6, 0.01, 0.3, 1, 2, 3.3, 10, 100, 1e4, 1e9 };
    for (size_t i = 0; i < 2 * sizeof(skews) / sizeof(skews[0]); i++) {
        double skew = i % 2 ? skews[i / 2] : -skews[i / 2];
        const struct tp_belief belief = { 1000, 400, skew * 8000 };
        for (int upper = 0; upper < 2; upper++) {
            double wanted = tp_belief_quantile(&belief, upper ? 0.975 : 0.025);
            double end = tp_belief_end(&belief, upper);
            assert_true(fabs(end - wanted) <= 1e-4 * 20);
        }
    }
}

static void shares_are_scaled_to_the_total(void **state)
{
    (void)state;
    struct tp_part parts[3] = { { .sum = 100, .variance = 9 },
        { .sum = 200, .variance = 9 }, { .sum = 700, .variance = 9 } };
    assert_int_equal(tp_estimate_calibrate(parts, 3, 1013, TP_CALIBRATE_SHARES), 0);
    assert_int_equal(parts[0].value, 101);
    assert_int_equal(parts[1].value, 203);  // 202.6
    assert_int_equal(parts[2].value, 709);
}

static void largest_remainders_are_rounded_up(void **state)
{
    (void)state;
    struct tp_part parts[3] = { { .sum = 1, .variance = 1 },
        { .sum = 1, .variance = 1 }, { .sum = 1.5, .variance = 1 } };
    assert_int_equal(tp_estimate_calibrate(parts, 3, 10, TP_CALIBRATE_SHARES), 0);
    assert_int_equal(sum_of(parts, 3), 10);  // 2.86 2.86 4.29
    assert_int_equal(parts[2].value, 4);
}

static void who_is_certain_does_not_move(void **state)
{
    (void)state;
    struct tp_part parts[3] = { { .sum = 1000003, .certain = 1000003 },
        { .sum = 5000, .variance = 400, .certain = 10 },
        { .sum = 7000, .variance = 800, .certain = 10 } };
    assert_int_equal(
        tp_estimate_calibrate(parts, 3, 1012033, TP_CALIBRATE_DIFFERENCE), 0);
    assert_int_equal(parts[0].value, 1000003);
    assert_int_equal(parts[1].value, 5010);
    assert_int_equal(parts[2].value, 7020);
}

static void nobody_falls_below_what_was_seen(void **state)
{
    (void)state;
    struct tp_part parts[2] = { { .sum = 100, .variance = 1000, .certain = 90 },
        { .sum = 1000, .variance = 1000, .certain = 10 } };
    assert_int_equal(tp_estimate_calibrate(parts, 2, 1000, TP_CALIBRATE_DIFFERENCE), 0);
    assert_int_equal(parts[0].value, 90);
    assert_int_equal(parts[1].value, 910);
}

static void what_cannot_be_chance_is_charged_to_nobody(void **state)
{
    (void)state;
    struct tp_part exact[1] = { { .sum = 77, .certain = 77 } };
    assert_int_equal(tp_estimate_calibrate(exact, 1, 80, TP_CALIBRATE_SHARES), 3);
    assert_int_equal(exact[0].value, 77);
    struct tp_part parts[1] = { { .sum = 1000, .variance = 100 } };
    assert_int_equal(
        tp_estimate_calibrate(parts, 1, 5000, TP_CALIBRATE_DIFFERENCE), 3960);
    assert_int_equal(parts[0].value, 1040);
    assert_int_equal(tp_estimate_calibrate(NULL, 0, 41, TP_CALIBRATE_SHARES), 41);
    assert_int_equal(tp_estimate_calibrate(parts, 1, -41, TP_CALIBRATE_SHARES), -41);
    assert_int_equal(parts[0].value, 0);
}

static uint64_t random_from(uint64_t *seed)
{
    uint64_t x = *seed += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    return x ^ x >> 29;
}

/* Numbers of every size, 0 and equal ones among them. */
static double any_number(uint64_t *seed, double most)
{
    uint64_t x = random_from(seed);
    if (x % 5 == 0) return 0;
    return fmin(pow(2, (double)(x >> 32) / 4294967296.0 * 80) - 1, most);
}

static void sums_are_exact_whatever_the_parts_are(void **state)
{
    (void)state;
    enum { MOST = 37 };
    uint64_t seed = 41;
    for (int round = 0; round < 20000; round++) {
        struct tp_part parts[MOST];
        memset(parts, 0, sizeof(parts));
        size_t n = random_from(&seed) % (MOST + 1);
        for (size_t i = 0; i < n; i++) {
            parts[i].sum = any_number(&seed, 1e25);
            parts[i].variance = any_number(&seed, 1e50);
            parts[i].certain = any_number(&seed, 1e18);
        }
        int64_t total = (int64_t)any_number(&seed, 9e18);
        enum tp_calibration how =
            round % 2 ? TP_CALIBRATE_SHARES : TP_CALIBRATE_DIFFERENCE;
        int64_t rest = tp_estimate_calibrate(parts, n, total, how);
        assert_true(rest >= 0);
        assert_int_equal(sum_of(parts, n) + rest, total);
    }
}

/* ---- beliefs -------------------------------------------------------------------------- */

static void interval_is_kept_around_the_value(void **state)
{
    (void)state;
    const struct tp_belief belief = { .mean = 50, .variance = 1e6 };
    struct tp_estimate figure = tp_estimate_of(&belief, 60, 55, 70);
    assert_int_equal(figure.low, 55);
    assert_int_equal(figure.high, 70);
    const struct tp_belief sure = { .mean = 60 };
    figure = tp_estimate_of(&sure, 60, 0, 100);
    assert_true(figure.low == 60 && figure.high == 60);
    const struct tp_belief nonsense = { .mean = NAN, .variance = NAN };
    figure = tp_estimate_of(&nonsense, 60, 0, 100);
    assert_true(figure.low <= 60 && figure.high >= 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gamma_quantiles_are_those_of_chi_square_tables),
        cmocka_unit_test(quantiles_rise_with_the_share),
        cmocka_unit_test(belief_without_skew_is_normal),
        cmocka_unit_test(tail_below_is_the_mirror_of_one_above),
        cmocka_unit_test(ends_from_the_table_are_quantiles),
        cmocka_unit_test(shares_are_scaled_to_the_total),
        cmocka_unit_test(largest_remainders_are_rounded_up),
        cmocka_unit_test(who_is_certain_does_not_move),
        cmocka_unit_test(nobody_falls_below_what_was_seen),
        cmocka_unit_test(what_cannot_be_chance_is_charged_to_nobody),
        cmocka_unit_test(sums_are_exact_whatever_the_parts_are),
        cmocka_unit_test(interval_is_kept_around_the_value),
    };
    return cmocka_run_group_tests_name("report_estimate", tests, NULL, NULL);
}
