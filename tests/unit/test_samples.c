/* SPDX-License-Identifier: MIT */
/*
 * test_samples.c - records of live samples: used again, never twice at once.
 */
#include "shim/profile.h"

#include "tests/unit/tp_test.h"

#include <pthread.h>
#include <string.h>

enum { MOST = 1000, WORKERS = 8, STEPS = 20000, HELD = 100 };

/* A table that stands still. */
static char records[MOST * sizeof(struct tp_sample_record)];
struct tp_table tp_samples = { .kind = TP_REGION_SAMPLES,
    .record_bytes = sizeof(struct tp_sample_record),
    .most = MOST,
    .first = 1,
    .records = records,
    .n = 1,
    .ready = MOST };

uint32_t tp_table_add(struct tp_table *table)
{
    uint32_t n = atomic_load(&table->n);
    do {
        if (n >= table->most) return UINT32_MAX;
    } while (!atomic_compare_exchange_weak(&table->n, &n, n + 1));
    return n;
}

static struct tp_sample_record content(uint64_t number)
{
    return (struct tp_sample_record){ .site = (uint32_t)number,
        .address = number * 16,
        .bytes = number,
        .requested_bytes = number,
        .interval_bytes = number,
        .born_ticks = number };
}

static void a_record_is_kept_until_it_ends(void **state)
{
    (void)state;
    struct tp_sample_record one = content(7), read;
    uint32_t mark = tp_sample_begin(&one);
    assert_int_not_equal(mark, 0);
    assert_true(tp_sample_read(mark, &read));
    assert_int_equal(read.address, 7 * 16);
    assert_int_equal(read.state, 1);
    read.bytes = 99;
    tp_sample_write(mark, &read);
    assert_true(tp_sample_end(mark, &read));
    assert_int_equal(read.bytes, 99);
    assert_false(tp_sample_end(mark, &read));
    assert_false(tp_sample_read(mark, &read));
    const struct tp_sample_record *record = tp_table_at(&tp_samples, mark);
    assert_int_equal(record->state, 0);
}

static void no_mark_is_none_of_ours(void **state)
{
    (void)state;
    struct tp_sample_record read;
    assert_false(tp_sample_end(0, &read));
    assert_false(tp_sample_end(UINT32_MAX, &read));
    assert_false(tp_sample_end(MOST - 1, &read));
}

static void records_are_used_again(void **state)
{
    (void)state;
    struct tp_sample_record one = content(1), read;
    for (unsigned i = 0; i < 10 * MOST; i++)
        assert_true(tp_sample_end(tp_sample_begin(&one), &read));
    assert_true(atomic_load(&tp_samples.n) < 10);
}

static void a_full_table_gives_none(void **state)
{
    (void)state;
    static uint32_t marks[MOST];
    struct tp_sample_record read;
    unsigned n = 0;
    for (;; n++) {
        struct tp_sample_record one = content(n + 1);
        marks[n] = tp_sample_begin(&one);
        if (!marks[n]) break;
    }
    assert_int_equal(n, MOST - 1);  // the first record is not used
    for (unsigned i = 0; i < n; i++) {
        assert_true(tp_sample_end(marks[i], &read));
        assert_int_equal(read.bytes, i + 1);
    }
}

static _Atomic(uint32_t) mistakes;

static void *churn(void *argument)
{
    uint64_t seed = (uint64_t)(uintptr_t)argument;
    uint32_t marks[HELD] = { 0 };
    uint64_t numbers[HELD];
    for (unsigned i = 0; i < STEPS; i++) {
        size_t at = test_below(&seed, HELD);
        struct tp_sample_record read;
        if (marks[at]) {
            if (!tp_sample_end(marks[at], &read) || read.born_ticks != numbers[at])
                atomic_fetch_add(&mistakes, 1);
            marks[at] = 0;
        } else {
            numbers[at] = test_random(&seed);
            struct tp_sample_record one = content(numbers[at]);
            marks[at] = tp_sample_begin(&one);
            if (!marks[at]) atomic_fetch_add(&mistakes, 1);
        }
    }
    for (unsigned i = 0; i < HELD; i++) {
        struct tp_sample_record read;
        if (marks[i] && !tp_sample_end(marks[i], &read)) atomic_fetch_add(&mistakes, 1);
    }
    return NULL;
}

static void threads_never_share_a_record(void **state)
{
    (void)state;
    pthread_t threads[WORKERS];
    for (uintptr_t i = 0; i < WORKERS; i++)
        pthread_create(&threads[i], NULL, churn, (void *)(i + 1));
    for (unsigned i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
    assert_int_equal(mistakes, 0);
}

static void a_forked_child_keeps_samples_of_its_sites_only(void **state)
{
    (void)state;
    struct tp_sample_record here = content(7), away = content(8), read;
    uint32_t stays = tp_sample_begin(&here), goes = tp_sample_begin(&away);
    tp_samples_forked(8);
    assert_true(tp_sample_read(stays, &read));
    assert_false(tp_sample_read(goes, &read));
    assert_true(tp_sample_end(stays, &read));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_kept_until_it_ends),
        cmocka_unit_test(no_mark_is_none_of_ours),
        cmocka_unit_test(records_are_used_again),
        cmocka_unit_test(a_full_table_gives_none),
        cmocka_unit_test(threads_never_share_a_record),
        cmocka_unit_test(a_forked_child_keeps_samples_of_its_sites_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
