/* SPDX-License-Identifier: MIT */
/*
 * test_poisson.c - distances are exponential, weights are 1 / p, and nobody notices.
 *
 * The seeds are fixed where numbers are judged, so a test fails always or never; the
 * limits are some six standard deviations wide.
 */
#include "shim/profile.h"
#include "tests/unit/tp_test.h"

#include <fenv.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DRAWS = 400000, MEAN = 512 * 1024, HEAPS = 64, EACH = 4 };

static struct tp_sampler seeded(uint64_t generator)
{
    return (struct tp_sampler){ .generator = generator };
}

/* ---- distances ---- */

static void distances_have_the_mean_and_variance_of_an_exponential(void **state)
{
    (void)state;
    struct tp_sampler sampler = seeded(7);
    double sum = 0, squares = 0, products = 0, before = 1;
    for (int i = 0; i < DRAWS; i++) {
        tp_poisson_arm(&sampler, MEAN);
        double d = (double)sampler.to_sample / MEAN;
        sum += d;
        squares += d * d;
        products += (d - 1) * (before - 1);
        before = d;
    }
    assert_true(fabs(sum / DRAWS - 1) < 0.01);
    assert_true(fabs(squares / DRAWS - 2) < 0.05);
    assert_true(fabs(products / DRAWS) < 0.01);  // one says nothing of the next
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The largest difference of the distribution functions, as Kolmogorov and Smirnov. */
static void distances_follow_the_distribution_everywhere(void **state)
{
    (void)state;
    static int64_t drawn[DRAWS];
    struct tp_sampler sampler = seeded(11);
    for (int i = 0; i < DRAWS; i++) {
        tp_poisson_arm(&sampler, MEAN);
        drawn[i] = sampler.to_sample;
    }
    qsort(drawn, DRAWS, sizeof(drawn[0]), by_value);
    double worst = 0;
    for (int i = 0; i < DRAWS; i++) {
        double f = -expm1(-(double)drawn[i] / MEAN);
        worst = fmax(worst, fabs(f - (i + 0.5) / DRAWS));
    }
    assert_true(worst < 2.2 / sqrt(DRAWS));  // exceeded by chance once in 7000
}

static void block_is_sampled_with_exactly_its_chance(void **state)
{
    (void)state;
    static const struct {
        uint64_t interval;
        size_t bytes;
    } cases[] = { { 64, 16 }, { 64, 64 }, { 64, 208 }, { 1000, 16 }, { 48, 48 } };
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct tp_sampler sampler = seeded(13 + c);
        unsigned hits = 0, asked = 0;
        tp_poisson_arm(&sampler, cases[c].interval);
        for (int i = 0; i < DRAWS; i++) {
            sampler.to_sample -= (int64_t)cases[c].bytes;
            bool hit = sampler.to_sample < 0;
            hits += hit;
            if (hit) tp_poisson_arm(&sampler, cases[c].interval);
            asked += tp_poisson_hits(&sampler, cases[c].interval, cases[c].bytes);
        }
        double p = -expm1(-(double)cases[c].bytes / (double)cases[c].interval);
        double limit = 5 * sqrt(p * (1 - p) * DRAWS);
        assert_true(fabs(hits - p * DRAWS) < limit);
        assert_true(fabs(asked - p * DRAWS) < limit);
    }
}

static void off_is_never_and_one_is_always(void **state)
{
    (void)state;
    struct tp_sampler sampler = seeded(17);
    tp_poisson_arm(&sampler, 0);
    assert_true(sampler.to_sample > (int64_t)1 << 60);
    assert_false(tp_poisson_hits(&sampler, 0, 4096));
    tp_poisson_arm(&sampler, 1);
    assert_int_equal(sampler.to_sample, 1);
    assert_true(tp_poisson_hits(&sampler, 1, 1));
    for (int i = 0; i < 1000; i++) {
        tp_poisson_arm(&sampler, 2);
        assert_true(sampler.to_sample >= 1);
        tp_poisson_arm(&sampler, UINT64_MAX);
        assert_in_range(sampler.to_sample, 1, INT64_MAX / 4);
    }
}

/* ---- seeds ---- */

/* Shares of pairs with both distances above the median, and their correlation. */
static void heaps_are_independent(void **state)
{
    (void)state;
    static struct tp_sampler heaps[HEAPS];
    static double drawn[HEAPS][1000];
    for (int h = 0; h < HEAPS; h++) {
        for (int i = 0; i < 1000; i++) {
            tp_poisson_arm(&heaps[h], MEAN);
            drawn[h][i] = (double)heaps[h].to_sample / MEAN - 1;
        }
    }
    // Every heap against every other: 2016 pairs, each a sum with a deviation of
    // sqrt(1000). By chance one in 1e9 lies above 7 of them (exponential tails).
    for (int h = 0; h < HEAPS; h++) {
        for (int other = 0; other < h; other++) {
            double sum = 0;
            for (int i = 0; i < 1000; i++) sum += drawn[h][i] * drawn[other][i];
            assert_true(fabs(sum) < 12 * sqrt(1000));
            assert_memory_not_equal(drawn[h], drawn[other], sizeof(drawn[h][0]) * EACH);
        }
    }
}

static struct tp_sampler inherited;

static int child_draws_the_same(void *argument)
{
    int64_t *expected = argument;
    tp_poisson_forked();
    unsigned same = 0;
    for (int i = 0; i < EACH; i++) {
        tp_poisson_arm(&inherited, MEAN);
        same += inherited.to_sample == expected[i];
    }
    return (int)same;
}

static void forked_child_goes_its_own_way(void **state)
{
    (void)state;
    int64_t expected[EACH];
    inherited = seeded(19);
    for (int i = 0; i < EACH; i++) {
        tp_poisson_arm(&inherited, MEAN);
        expected[i] = inherited.to_sample;
    }
    inherited = seeded(19);
    assert_int_equal(test_in_child(child_draws_the_same, expected), 0);
}

/* 30 MiB at an interval of 64 KiB: the chance is 1 to the last bit. */
static void a_block_that_is_certain_is_a_sample_like_others(void **state)
{
    (void)state;
    for (int large = 0; large < 2; large++) {
        struct tp_weight weight =
            tp_poisson_weight(65536, 30 << 20, 30 << 20, large != 0);
        assert_int_equal(weight.samples, 1);
        assert_int_equal(weight.blocks, TP_FORMAT_ONE);
        assert_true(weight.block_variance == 0);
    }
    assert_int_equal(tp_poisson_weight(1, 48, 43, false).samples, 1);
}

/* ---- the interval ---- */

static void interval_follows_the_time_between_samples(void **state)
{
    (void)state;
    enum { MS = 1000 };
    struct tp_sampler sampler = seeded(23);
    uint64_t now = 5 * MS;
    tp_poisson_arm(&sampler, MEAN);
    tp_poisson_next(&sampler, MEAN, now, MS);  // the first one has no past
    assert_int_equal(sampler.interval, MEAN);
    for (int i = 1; i <= 7; i++) {
        tp_poisson_next(&sampler, MEAN, now += MS / 2, MS);
        assert_int_equal(sampler.interval, MEAN * (i < 5 ? 1 << i : 32));
    }
    tp_poisson_next(&sampler, MEAN, now += 5 * MS, MS);
    assert_int_equal(sampler.interval, MEAN * 32);
    for (int i = 0; i < 12; i++) tp_poisson_next(&sampler, MEAN, now += 11 * MS, MS);
    assert_int_equal(sampler.interval, MEAN);
    // A clock that stands still or runs backwards, or an unknown one, says nothing.
    tp_poisson_next(&sampler, MEAN, now, MS);
    tp_poisson_next(&sampler, MEAN, now - 7, MS);
    tp_poisson_next(&sampler, MEAN, now + 100 * MS, 0);
    assert_int_equal(sampler.interval, MEAN);
    // Small ones end where they began; "every block" stays so.
    for (int i = 0; i < 9; i++) tp_poisson_next(&sampler, 5, now += 1, MS);
    assert_int_equal(sampler.interval, 160);
    for (int i = 0; i < 9; i++) tp_poisson_next(&sampler, 5, now += 99 * MS, MS);
    assert_int_equal(sampler.interval, 5);
    for (int i = 0; i < 9; i++) tp_poisson_next(&sampler, 1, now += 1, MS);
    assert_int_equal(sampler.interval, 1);
}

/* ---- weights ---- */

static void weight_is_one_over_the_chance(void **state)
{
    (void)state;
    for (double x = 1e-9; x < 1e3; x *= 1.37) {
        uint64_t interval = x < 1 ? (uint64_t)(16 / x) : 4096;
        size_t bytes = x < 1 ? 16 : (size_t)(x * 4096);
        double ratio = (double)bytes / (double)interval, w = -1 / expm1(-ratio);
        struct tp_weight weight = tp_poisson_weight(interval, bytes, 7, true);
        double bytes2 = (double)bytes * (double)bytes;
        double variance = w * w * exp(-ratio);
        assert_true(fabs((double)weight.blocks - w * TP_FORMAT_ONE) <= 0.5 + w * 1e-9);
        assert_true(fabs((double)weight.requested - w * 7) <= 0.5 + w * 1e-9);
        assert_true(fabs((double)weight.bytes - w * (double)bytes) <=
            0.5 + w * (double)bytes * 1e-9);
        // A variance that is too small to move any figure may be 0.
        bool nothing = variance < 1e-15 && weight.block_variance == 0;
        assert_true(nothing || fabs(weight.block_variance / variance - 1) < 1e-9);
        assert_true(
            nothing || fabs(weight.byte_variance / (variance * bytes2) - 1) < 1e-9);
    }
}

static void weight_of_a_pool_block_has_no_bytes(void **state)
{
    (void)state;
    struct tp_weight weight = tp_poisson_weight(MEAN, 48, 43, false);
    assert_int_equal(weight.bytes, 0);
    assert_true(weight.byte_variance == 0 && weight.block_variance > 0);
}

/* Where p rounds to 1 neither the mean nor the variance may jump. */
static void weight_has_no_step(void **state)
{
    (void)state;
    double before = INFINITY;
    for (size_t bytes = 16; bytes < 100 * MEAN; bytes += 1 + bytes / 1024) {
        struct tp_weight weight = tp_poisson_weight(MEAN, bytes, bytes, true);
        double w = (double)weight.blocks / TP_FORMAT_ONE;
        assert_true(w <= before);
        assert_true(before == INFINITY || before - w < 0.07 * before);
        assert_true(weight.blocks >= TP_FORMAT_ONE && weight.bytes >= bytes);
        before = w;
    }
    assert_true(before == 1);
}

static void weight_of_exact_mode_is_one(void **state)
{
    (void)state;
    struct tp_weight one = tp_weight_one(4096, 4001, true);
    assert_int_equal(one.blocks, TP_FORMAT_ONE);
    assert_int_equal(one.requested, 4001);
    assert_int_equal(one.bytes, 4096);
    assert_true(one.block_variance == 0 && one.byte_variance == 0);
    assert_int_equal(one.samples, 0);
    // Every block, one by one: that is a sample each, if a certain one.
    struct tp_weight same = tp_poisson_weight(1, 4096, 4001, true);
    assert_int_equal(same.samples, 1);
    same.samples = 0;
    assert_memory_equal(&one, &same, sizeof(one));
    assert_int_equal(tp_weight_one(48, 43, false).bytes, 0);
}

static void extremes_give_ordinary_weights(void **state)
{
    (void)state;
    static const uint64_t numbers[] = { 0, 1, 2, 4096, (uint64_t)1 << 50,
        (uint64_t)1 << 63, UINT64_MAX };
    enum { N = sizeof(numbers) / sizeof(numbers[0]) };
    for (int i = 0; i < N * N * N; i++) {
        size_t bytes = numbers[i / N % N], requested = numbers[i / N / N];
        struct tp_weight weight =
            tp_poisson_weight(numbers[i % N], bytes, requested, true);
        assert_true(weight.blocks >= TP_FORMAT_ONE);
        assert_true(weight.bytes >= bytes || weight.bytes >= (uint64_t)9e18);
        assert_true(isfinite(weight.block_variance) && isfinite(weight.byte_variance));
        assert_true(weight.block_variance >= 0 && weight.byte_variance >= 0);
    }
}

/* ---- nobody notices ---- */

static void use_everything(struct tp_sampler *sampler)
{
    tp_poisson_arm(sampler, MEAN);
    for (size_t bytes = 16; bytes < (size_t)1 << 40; bytes *= 3) {
        tp_poisson_next(sampler, MEAN, bytes, 1000);
        tp_poisson_hits(sampler, MEAN, bytes);
        tp_poisson_weight(sampler->interval, bytes, bytes - 1, true);
    }
}

static int use_with_traps(void *argument)
{
    feenableexcept(FE_ALL_EXCEPT);
    use_everything(argument);
    return fegetexcept() == FE_ALL_EXCEPT ? 0 : 1;
}

static void program_that_traps_inexact_results_runs_on(void **state)
{
    (void)state;
    struct tp_sampler sampler = seeded(29);
    assert_int_equal(test_in_child(use_with_traps, &sampler), 0);
}

static void flags_and_rounding_stay_the_programs(void **state)
{
    (void)state;
    struct tp_sampler sampler = seeded(31), again = seeded(31);
    struct tp_weight nearest = tp_poisson_weight(MEAN, 48, 43, false);
    use_everything(&again);
    fesetround(FE_UPWARD);
    feclearexcept(FE_ALL_EXCEPT);
    use_everything(&sampler);
    struct tp_weight upward = tp_poisson_weight(MEAN, 48, 43, false);
    int flags = fetestexcept(FE_ALL_EXCEPT), rounding = fegetround();
    fesetround(FE_TONEAREST);
    assert_int_equal(flags, 0);
    assert_int_equal(rounding, FE_UPWARD);
    assert_memory_equal(&sampler, &again, sizeof(sampler));
    assert_memory_equal(&nearest, &upward, sizeof(nearest));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distances_have_the_mean_and_variance_of_an_exponential),
        cmocka_unit_test(distances_follow_the_distribution_everywhere),
        cmocka_unit_test(block_is_sampled_with_exactly_its_chance),
        cmocka_unit_test(off_is_never_and_one_is_always),
        cmocka_unit_test(heaps_are_independent),
        cmocka_unit_test(forked_child_goes_its_own_way),
        cmocka_unit_test(a_block_that_is_certain_is_a_sample_like_others),
        cmocka_unit_test(interval_follows_the_time_between_samples),
        cmocka_unit_test(weight_is_one_over_the_chance),
        cmocka_unit_test(weight_of_a_pool_block_has_no_bytes),
        cmocka_unit_test(weight_has_no_step),
        cmocka_unit_test(weight_of_exact_mode_is_one),
        cmocka_unit_test(extremes_give_ordinary_weights),
        cmocka_unit_test(program_that_traps_inexact_results_runs_on),
        cmocka_unit_test(flags_and_rounding_stay_the_programs),
    };
    return cmocka_run_group_tests_name("poisson", tests, NULL, NULL);
}
