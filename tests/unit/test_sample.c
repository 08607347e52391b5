/* SPDX-License-Identifier: MIT */
/*
 * test_sample.c - distances between samples, and when an interval is over.
 */
#include "pool/host.h"
#include "pool/pool.h"
#include "shim/output.h"

#include "tests/unit/tp_test.h"

#include <pthread.h>
#include <string.h>

enum { DRAWS = 1000000, THREADS = 8, EACH = 4, MEAN = 512 * 1024 };

/* The rest of the shim, as far as sample.c knows it. */
struct tp_options tp_options;
static unsigned n_dumps, n_settled;
static struct tp_sampler sampler;

static int64_t next_distance(void)
{
    tp_host_arm(&sampler);
    return sampler.to_sample;
}

void tp_dump_write(enum tp_dump_reason reason)
{
    n_dumps += reason == TP_REASON_INTERVAL;
}

void tp_live_settle(void)
{
    n_settled++;
}

static int set_defaults(void **state)
{
    (void)state;
    memset(&tp_options, 0, sizeof(tp_options));
    tp_options.sample = MEAN;
    n_dumps = 0;
    return 0;
}

static void distances_are_exponential(void **state)
{
    (void)state;
    double sum = 0, squares = 0;
    unsigned below_median = 0, far = 0;
    for (int i = 0; i < DRAWS; i++) {
        double d = (double)next_distance() / MEAN;
        sum += d;
        squares += d * d;
        below_median += d < 0.6931471805599453;
        far += d > 3;
    }
    double mean = sum / DRAWS;
    assert_true(mean > 0.99 && mean < 1.01);
    assert_true(squares / DRAWS > 1.96 && squares / DRAWS < 2.04);
    assert_in_range(below_median, DRAWS * 0.495, DRAWS * 0.505);
    assert_in_range(far, DRAWS * 0.0482, DRAWS * 0.0514);  // exp(-3) = 0.0498
}

static void distance_is_at_least_a_byte(void **state)
{
    (void)state;
    tp_options.sample = 2;
    for (int i = 0; i < 10000; i++) assert_true(next_distance() >= 1);
}

static void everything_is_sampled_when_asked(void **state)
{
    (void)state;
    tp_options.sample = 1;
    for (int i = 0; i < 100; i++) assert_int_equal(next_distance(), 1);
}

static void nothing_is_sampled_when_off(void **state)
{
    (void)state;
    tp_options.sample = 0;
    assert_true(next_distance() > (int64_t)1 << 60);
}

static void *draw_some(void *argument)
{
    int64_t *out = argument;
    for (int i = 0; i < EACH; i++) out[i] = next_distance();
    return NULL;
}

static void threads_have_sequences_of_their_own(void **state)
{
    (void)state;
    static int64_t drawn[THREADS][EACH];
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, draw_some, drawn[i]), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < THREADS; i++)
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(drawn[i], drawn[j], sizeof(drawn[i]));
}

static void tick_without_an_interval_dumps_nothing(void **state)
{
    (void)state;
    unsigned settled = n_settled;
    for (int i = 0; i < 3; i++) tp_host_tick();
    assert_int_equal(n_dumps, 0);
    assert_int_equal(n_settled, settled + 3);
}

static void interval_of_time_begins_with_the_first_tick(void **state)
{
    (void)state;
    tp_options.interval_ns = 2000000;
    tp_host_tick();
    tp_host_tick();
    assert_int_equal(n_dumps, 0);
    uint64_t begin = tp_os_now_ns();
    while (tp_os_now_ns() - begin < 2000000) tp_os_pause();
    tp_host_tick();
    assert_int_equal(n_dumps, 1);
    tp_options.interval_ns = 3600000000000;
    tp_host_tick();
    tp_host_tick();
    assert_in_range(n_dumps, 1, 2);
}

static void interval_of_bytes_is_over_when_they_are_allocated(void **state)
{
    (void)state;
    tp_options.sample = 0;  // no sample may look before we do
    tp_options.interval_bytes = 1000003;
    tp_host_tick();
    assert_int_equal(n_dumps, 0);
    for (int i = 0; i < 2; i++) tp_pool_free(tp_pool_alloc(500009));
    tp_host_tick();
    tp_host_tick();
    assert_int_equal(n_dumps, 1);
    // A sampled block looks, too: an interval may be shorter than a tick.
    int here;
    for (int i = 0; i < 3; i++) tp_pool_free(tp_pool_alloc(500009));
    tp_host_arm(&sampler);
    tp_host_sampled(&sampler, &(struct tp_told){ .p = &here });
    assert_int_equal(n_dumps, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(distances_are_exponential, set_defaults),
        cmocka_unit_test_setup(distance_is_at_least_a_byte, set_defaults),
        cmocka_unit_test_setup(everything_is_sampled_when_asked, set_defaults),
        cmocka_unit_test_setup(nothing_is_sampled_when_off, set_defaults),
        cmocka_unit_test_setup(threads_have_sequences_of_their_own, set_defaults),
        cmocka_unit_test_setup(tick_without_an_interval_dumps_nothing, set_defaults),
        cmocka_unit_test_setup(
            interval_of_time_begins_with_the_first_tick, set_defaults),
        cmocka_unit_test_setup(
            interval_of_bytes_is_over_when_they_are_allocated, set_defaults),
    };
    return cmocka_run_group_tests_name("sample", tests, NULL, NULL);
}
