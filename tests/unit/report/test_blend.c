/* SPDX-License-Identifier: MIT */
/*
 * test_blend.c - samples are sorted by weight, and heavy ones that might be are allowed for.
 */
#include "report/blend.h"
#include "tests/unit/report/test.h"

#include <float.h>
#include <math.h>

static bool near(double value, double wanted, double share)
{
    return fabs(value - wanted) <= share * fabs(wanted);
}

static struct tp_sums samples_of(double k, double w)
{
    return (struct tp_sums){ .samples = k,
        .blocks = k * w,
        .bytes = k * w * 4096,
        .block_variance = k * w * (w - 1),
        .byte_variance = k * w * (w - 1) * 4096 * 4096 };
}

static struct tp_sums both(struct tp_sums a, struct tp_sums b)
{
    return (struct tp_sums){ .samples = a.samples + b.samples,
        .blocks = a.blocks + b.blocks,
        .bytes = a.bytes + b.bytes,
        .block_variance = a.block_variance + b.block_variance,
        .byte_variance = a.byte_variance + b.byte_variance };
}

static double all_of(const double *steps)
{
    double sum = 0;
    for (int i = 0; i < TP_BLEND_STEPS; i++) sum += steps[i];
    return sum;
}

static struct tp_belief belief_of(const struct tp_blend *own,
    const struct tp_blend *whole, double total, double value)
{
    struct tp_halves halves;
    tp_blend_halves(&halves, own, whole, 1, INFINITY);
    return tp_blend_believe(own, whole, &halves, total, value, TP_CALIBRATE_SHARES);
}

/* ---- sorting ------------------------------------------------------------------------ */

static void heavy_samples_are_told_from_light_ones(void **state)
{
    (void)state;
    struct tp_blend blend = { 0 };
    struct tp_sums sums = both(samples_of(90, 64.5), samples_of(3, 2050));
    tp_blend_add(&blend, &sums, 64.5, 1);
    assert_true(near(blend.samples[6], 90, 1e-9));
    assert_true(near(blend.samples[11], 3, 1e-9));
    assert_true(near(blend.variance[11], 3 * 2050.0 * 2049, 1e-9));
    // In bytes of 48: 33 times as many are 5.58 octaves.
    struct tp_blend bytes = { 0 };
    tp_blend_add(&bytes, &sums, 64.5, 48);
    assert_true(near(bytes.sum[11], 90 * 64.5 * 48, 1e-9));
    assert_true(near(bytes.sum[16], 3 * 2050.0 * 48, 1e-9));
}

/* Weights of three kinds: the steps are a guess, sums and variances are not. */
static void sums_and_variances_are_kept_whatever_the_weights_are(void **state)
{
    (void)state;
    static const double lightest[] = { 1, 7, 64, 200, 1e9 };
    struct tp_sums sums =
        both(both(samples_of(50, 64), samples_of(7, 130)), samples_of(2, 4000));
    for (size_t i = 0; i < sizeof(lightest) / sizeof(lightest[0]); i++) {
        struct tp_blend blend = { 0 }, bytes = { 0 };
        tp_blend_add(&blend, &sums, lightest[i], 1);
        tp_blend_add_bytes(&bytes, &sums, 1);
        assert_true(near(all_of(blend.sum), sums.blocks, 1e-9));
        assert_true(near(all_of(bytes.sum), sums.bytes, 1e-9));
        assert_true(near(all_of(bytes.variance), sums.byte_variance, 1e-9));
        if (lightest[i] > 64) continue;  // not what a writer would say
        assert_true(near(all_of(blend.variance), sums.block_variance, 1e-9));
    }
}

static void chance_too_small_for_the_weights_is_kept(void **state)
{
    (void)state;
    struct tp_sums sums = { 40, 40, 4e7, 1e-13, 0.1 };
    struct tp_blend blend = { 0 }, bytes = { 0 };
    tp_blend_add(&blend, &sums, 1, 1);
    tp_blend_add_bytes(&bytes, &sums, 1);
    assert_true(near(blend.variance[0], 1e-13, 1e-9));
    assert_true(near(bytes.variance[0], 0.1, 1e-9));
    assert_true(near(bytes.sum[0], 4e7, 1e-9));
}

static void number_of_samples_follows_from_those_like_them(void **state)
{
    (void)state;
    struct tp_sums like = both(samples_of(90, 64), samples_of(5, 2048));
    struct tp_sums part = both(samples_of(20, 64), samples_of(2, 2048));
    assert_true(near(tp_blend_count(&part, &like, 64), 22, 1e-9));
    struct tp_sums light = samples_of(20, 64);
    assert_true(near(tp_blend_count(&light, &like, 64), 20, 1e-9));
    struct tp_sums none = { 0 };
    assert_true(tp_blend_count(&none, &like, 64) == 0);
    assert_true(tp_blend_count(&part, &none, 64) == 0);
}

/* ---- beliefs ------------------------------------------------------------------------ */

/* k of n samples of equal weight: Jeffreys' interval of a share. */
static void share_of_few_samples_is_that_of_a_beta(void **state)
{
    (void)state;
    // 3 of 10 of a weight much above 1, 1000 in all: Beta(3.5, 7.5), 2.5 % 0.0927 and
    // 97.5 % 0.6058 (from its distribution function).
    struct tp_blend own = { 0 }, whole = { 0 };
    struct tp_sums mine = samples_of(3, 1e7), all = samples_of(10, 1e7);
    tp_blend_add(&own, &mine, 1e7, 1);
    tp_blend_add(&whole, &all, 1e7, 1);
    struct tp_belief belief = belief_of(&own, &whole, 1000, 300);
    assert_true(near(belief.mean, 1000 * 3.5 / 11, 1e-6));
    assert_true(near(belief.variance, 1e6 * 3.5 * 7.5 / (121 * 12), 1e-6));
    struct tp_estimate figure = tp_estimate_of(&belief, 300, 3, 1000);
    assert_in_range(figure.low, 75, 110);
    assert_in_range(figure.high, 590, 625);
}

/* The total tells how many samples there should have been; the shares are of those found. */
static void difference_to_the_total_does_not_make_shares_certain(void **state)
{
    (void)state;
    struct tp_blend own = { 0 }, whole = { 0 };
    struct tp_sums mine = samples_of(3, 1e7), all = samples_of(10, 1e7);
    tp_blend_add(&own, &mine, 1e7, 1);
    tp_blend_add(&whole, &all, 1e7, 1);
    struct tp_halves halves;
    tp_blend_halves(&halves, &own, &whole, 1, INFINITY);
    // Twice as much as was found, and as much: the same shares.
    for (int times = 1; times <= 2; times++) {
        double total = times * 1.1e8, value = 0.3 * total;
        struct tp_belief belief = tp_blend_believe(
            &own, &whole, &halves, total, value, TP_CALIBRATE_DIFFERENCE);
        double share = belief.variance / (total * total);
        assert_true(near(share, 3.5 * 7.5 / (121 * 12), 1e-6));
    }
}

/* Who was met while weights were light only may have had a heavy sample, as the others. */
static void site_without_heavy_samples_is_no_more_certain_than_others(void **state)
{
    (void)state;
    struct tp_blend own = { 0 }, whole = { 0 }, light = { 0 };
    struct tp_sums mine = samples_of(100, 64), others = samples_of(100, 64);
    struct tp_sums heavy = samples_of(6, 2048);
    tp_blend_add(&own, &mine, 64, 1);
    tp_blend_add(&light, &mine, 64, 1);
    tp_blend_add(&light, &others, 64, 1);
    others = both(others, heavy);
    tp_blend_add(&whole, &mine, 64, 1);
    tp_blend_add(&whole, &others, 64, 1);
    double total = 200 * 64 + 6 * 2048, even = 200 * 64;
    struct tp_belief belief = belief_of(&own, &whole, total, total / 4);
    struct tp_estimate figure = tp_estimate_of(&belief, (int64_t)(total / 4), 0, total);
    assert_true(figure.high > 100 * 64 + 2048);
    // When nobody had one, ten such samples are as good as any.
    belief = belief_of(&own, &light, even, even / 2);
    figure = tp_estimate_of(&belief, (int64_t)(even / 2), 0, even);
    assert_true((double)figure.high < even * 0.6);
}

/* One heavy sample in ten thousand widens nobody's interval. */
static void rare_heavy_samples_do_not_matter(void **state)
{
    (void)state;
    struct tp_blend own = { 0 }, whole = { 0 }, light = { 0 };
    struct tp_sums mine = samples_of(10, 64), others = samples_of(10000, 64);
    struct tp_sums heavy = samples_of(1, 2048);
    tp_blend_add(&own, &mine, 64, 1);
    tp_blend_add(&light, &others, 64, 1);
    others = both(others, heavy);
    tp_blend_add(&whole, &others, 64, 1);
    struct tp_belief with = belief_of(&own, &whole, 10000 * 64, 640);
    struct tp_belief without = belief_of(&own, &light, 10000 * 64, 640);
    assert_true(sqrt(with.variance / without.variance) < 1.1);
}

static void what_was_not_left_to_chance_is_certain(void **state)
{
    (void)state;
    struct tp_blend own = { 0 }, whole = { 0 };
    struct tp_sums mine = { .samples = 3, .blocks = 3 },
                   all = { .samples = 10, .blocks = 10 };
    tp_blend_add(&own, &mine, 1, 1);
    tp_blend_add(&whole, &all, 1, 1);
    struct tp_belief belief = belief_of(&own, &whole, 10, 3);
    assert_true(belief.mean == 3 && belief.variance == 0);
}

/* Whatever a file says: no step outside, no trap, and intervals around the value. */
static void nonsense_does_no_harm(void **state)
{
    (void)state;
    static const double numbers[] = { 0, -1, 1e-300, 1, 4e15, 1e25, 1e50, NAN,
        INFINITY };
    enum { N = sizeof(numbers) / sizeof(numbers[0]) };
    for (int i = 0; i < N * N * N * N; i++) {
        double a = numbers[i % N], b = numbers[i / N % N], c = numbers[i / N / N % N];
        double d = numbers[i / N / N / N];
        struct tp_sums sums = { a, b, c, d, d }, more = both(sums, samples_of(2, 100));
        struct tp_blend own = { 0 }, whole = { 0 };
        tp_blend_add(&own, &sums, c, d);
        tp_blend_add_bytes(&own, &sums, a);
        tp_blend_add(&whole, &more, c, d);
        tp_blend_add_bytes(&whole, &more, 1);
        tp_blend_count(&sums, &more, c);
        struct tp_belief belief = belief_of(&own, &whole, a, b);
        struct tp_estimate figure = tp_estimate_of(&belief, 60, 0, 100);
        assert_true(figure.low <= 60 && figure.high >= 60);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heavy_samples_are_told_from_light_ones),
        cmocka_unit_test(sums_and_variances_are_kept_whatever_the_weights_are),
        cmocka_unit_test(chance_too_small_for_the_weights_is_kept),
        cmocka_unit_test(number_of_samples_follows_from_those_like_them),
        cmocka_unit_test(share_of_few_samples_is_that_of_a_beta),
        cmocka_unit_test(difference_to_the_total_does_not_make_shares_certain),
        cmocka_unit_test(site_without_heavy_samples_is_no_more_certain_than_others),
        cmocka_unit_test(rare_heavy_samples_do_not_matter),
        cmocka_unit_test(what_was_not_left_to_chance_is_certain),
        cmocka_unit_test(nonsense_does_no_harm),
    };
    return cmocka_run_group_tests_name("blend", tests, NULL, NULL);
}
