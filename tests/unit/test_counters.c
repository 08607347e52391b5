/* SPDX-License-Identifier: MIT */
/*
 * test_counters.c - sums, and where durations go.
 */
#include "pool/counters.h"

#include "tests/unit/tp_test.h"

#include "shim/format.h"

#include <pthread.h>
#include <string.h>

enum { RECORDERS = 4, EACH = 9973 };

static int forget_everything(void **state)
{
    (void)state;
    memset(&tp_account, 0, sizeof(tp_account));
    return 0;
}

static void short_durations_have_buckets_of_their_own(void **state)
{
    (void)state;
    for (uint64_t ticks = 0; ticks < 8; ticks++)
        assert_int_equal(tp_bucket_of(ticks), ticks);
}

/* The inverse stands in the comment of struct tp_latency_record. */
static void format_tells_the_borders_of_a_bucket(void **state)
{
    (void)state;
    for (unsigned b = 4; b < TP_FORMAT_BUCKETS; b++) {
        uint64_t from = (uint64_t)(4 + b % 4) << (b / 4 - 1);
        uint64_t to = (uint64_t)(5 + b % 4) << (b / 4 - 1);
        assert_int_equal(tp_bucket_of(from), b);
        assert_int_equal(tp_bucket_of(from - 1), b - 1);
        assert_int_equal(tp_bucket_of(to - 1), b);
    }
}

static void last_bucket_holds_everything_above(void **state)
{
    (void)state;
    assert_int_equal(tp_bucket_of((uint64_t)8 << 38), TP_BUCKETS - 1);
    assert_int_equal(tp_bucket_of(UINT64_MAX), TP_BUCKETS - 1);
}

static void operation_is_recorded_with_its_extremes(void **state)
{
    (void)state;
    tp_latency_record(TP_OP_REFILL, 1, 173);
    tp_latency_record(TP_OP_REFILL, 1, 97);
    tp_latency_record(TP_OP_REFILL, 1, 1009);
    const struct tp_latency *latency = &tp_account.latency[TP_OP_REFILL][1];
    assert_string_equal(latency->name, "refill");
    assert_int_equal(latency->count, 3);
    assert_int_equal(latency->total, 173 + 97 + 1009);
    assert_int_equal(latency->min, 97);
    assert_int_equal(latency->max, 1009);
    assert_int_equal(latency->buckets[tp_bucket_of(173)], 1);
}

static void every_operation_has_a_name(void **state)
{
    (void)state;
    for (unsigned op = 0; op < TP_OPERATIONS; op++) {
        tp_latency_record((enum tp_operation)op, 0, 1);
        assert_int_not_equal(tp_account.latency[op][0].name[0], 0);
        for (unsigned other = 0; other < op; other++)
            assert_string_not_equal(
                tp_account.latency[op][0].name, tp_account.latency[other][0].name);
    }
}

static void shards_wrap_around(void **state)
{
    (void)state;
    for (unsigned shard = 0; shard < 3 * TP_SHARDS; shard++)
        tp_latency_record(TP_OP_PURGE, shard, 5);
    for (unsigned shard = 0; shard < TP_SHARDS; shard++)
        assert_int_equal(tp_account.latency[TP_OP_PURGE][shard].count, 3);
}

static void *record_all(void *argument)
{
    unsigned shard = (unsigned)(uintptr_t)argument;
    for (uint64_t i = 1; i <= EACH; i++)
        tp_latency_record(TP_OP_NEW_SLAB, shard / 2, i);  // two threads share one
    return NULL;
}

static void no_duration_is_lost_between_threads(void **state)
{
    (void)state;
    pthread_t thread[RECORDERS];
    for (uintptr_t i = 0; i < RECORDERS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, record_all, (void *)i), 0);
    for (int i = 0; i < RECORDERS; i++) pthread_join(thread[i], NULL);

    uint64_t count = 0, total = 0, in_buckets = 0;
    for (unsigned shard = 0; shard < TP_SHARDS; shard++) {
        const struct tp_latency *latency = &tp_account.latency[TP_OP_NEW_SLAB][shard];
        count += latency->count;
        total += latency->total;
        for (unsigned b = 0; b < TP_BUCKETS; b++) in_buckets += latency->buckets[b];
        if (!latency->count) continue;
        assert_int_equal(latency->min, 1);
        assert_int_equal(latency->max, EACH);
        assert_string_equal(latency->name, "new_slab");
    }
    assert_int_equal(count, RECORDERS * EACH);
    assert_int_equal(in_buckets, RECORDERS * EACH);
    assert_int_equal(total, (uint64_t)RECORDERS * EACH * (EACH + 1) / 2);
}

static void classes_know_their_sizes(void **state)
{
    (void)state;
    tp_counters_init();
    for (unsigned c = 0; c < TP_CLASSES; c++)
        assert_int_equal(tp_account.classes[c].bytes, tp_class_bytes(c));
}

static void sums_follow_from_the_classes(void **state)
{
    (void)state;
    static struct tp_counters counters;
    memset(&counters, 0, sizeof(counters));
    counters.taken[3] = (struct tp_class_taken){ 997, 997 * 61 };
    counters.frees[3] = 499;
    counters.taken[TP_CLASSES - 1] = (struct tp_class_taken){ 7, 7 * 120011 };
    counters.frees[TP_CLASSES - 1] = 5;
    counters.taken[TP_LARGE_CLASS] = (struct tp_class_taken){ 3, 1000003 };
    counters.frees[TP_LARGE_CLASS] = 2;
    counters.large_allocated_bytes = 1003520;
    counters.large_freed_bytes = 500009;
    counters.remote_frees = 101;

    struct tp_sums sums = tp_counters_sums(&counters);
    assert_int_equal(sums.allocations, 997 + 7 + 3);
    assert_int_equal(sums.frees, 499 + 5 + 2);
    assert_int_equal(sums.requested_bytes, 997 * 61 + 7 * 120011 + 1000003);
    assert_int_equal(sums.allocated_bytes, 997 * 64 + 7 * TP_POOL_MAX + 1003520);
    assert_int_equal(sums.freed_bytes, 499 * 64 + 5 * TP_POOL_MAX + 500009);
    assert_int_equal(sums.remote_frees, 101);
}

static void plain_adds_are_exact(void **state)
{
    (void)state;
    uint64_t counter = UINT64_MAX - 1;
    int64_t net = 5;
    tp_count_add(&counter, 3);
    assert_int_equal(tp_count_read(&counter), 1);
    tp_count_add_signed(&net, -((int64_t)1 << 40));
    tp_count_sub_signed(&net, 7);
    assert_true(net == -((int64_t)1 << 40) - 2);
}

static void count_down_tells_when_nothing_is_left(void **state)
{
    (void)state;
    int32_t counter = 2;
    assert_false(tp_count_down(&counter));
    assert_true(tp_count_down(&counter));
    assert_true(tp_count_down(&counter));
    assert_int_equal(counter, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_durations_have_buckets_of_their_own),
        cmocka_unit_test(format_tells_the_borders_of_a_bucket),
        cmocka_unit_test(last_bucket_holds_everything_above),
        cmocka_unit_test_setup(
            operation_is_recorded_with_its_extremes, forget_everything),
        cmocka_unit_test_setup(every_operation_has_a_name, forget_everything),
        cmocka_unit_test_setup(shards_wrap_around, forget_everything),
        cmocka_unit_test_setup(no_duration_is_lost_between_threads, forget_everything),
        cmocka_unit_test_setup(classes_know_their_sizes, forget_everything),
        cmocka_unit_test(sums_follow_from_the_classes),
        cmocka_unit_test(plain_adds_are_exact),
        cmocka_unit_test(count_down_tells_when_nothing_is_left),
    };
    return cmocka_run_group_tests_name("counters", tests, NULL, NULL);
}
