/* SPDX-License-Identifier: MIT */
/*
 * test_inert.c - where another allocator serves the program, the pool has no block.
 */
#include "pool/pool.h"
#include "pool/slab.h"

#include "tests/unit/tp_test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 997 };

static const size_t sizes[] = { 0, 16, 173, 5003, 100003, 300017 };
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static int open_inert(void **state)
{
    (void)state;
    test_host.options.inert = true;
    return tp_pool_start() ? 0 : 1;
}

static void *churn(void *unused)
{
    static _Thread_local char *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = tp_pool_alloc(sizes[i % SIZES]);
        if (!blocks[i] || tp_slab_at(blocks[i])) return blocks;
        memset(blocks[i], 0x5a, sizes[i % SIZES]);
    }
    for (size_t i = 0; i < BLOCKS; i++) tp_pool_free(blocks[i]);
    return unused;
}

static void every_call_is_handed_on(void **state)
{
    (void)state;
    uint32_t before = test_host.n_handed_on;
    assert_null(churn(NULL));
    assert_int_equal(test_host.n_handed_on - before, 2 * BLOCKS);
}

static void in_every_thread(void **state)
{
    (void)state;
    pthread_t threads[4];
    void *result[4];
    uint32_t before = test_host.n_handed_on;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, NULL), 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], &result[i]);
    for (int i = 0; i < 4; i++) assert_null(result[i]);
    assert_int_equal(test_host.n_handed_on - before, 4 * 2 * BLOCKS);
}

static void nothing_is_counted_and_nothing_reserved(void **state)
{
    (void)state;
    assert_null(churn(NULL));
    for (uint32_t i = 0; i < tp_pool_slots(); i++) {
        struct tp_sums sums = tp_counters_sums(tp_pool_slot(i));
        assert_int_equal(sums.allocations, 0);
        assert_int_equal(sums.frees, 0);
    }
    assert_int_equal(tp_account.totals.foreign_frees, 0);
    assert_int_equal(tp_account.totals.range_bytes, 0);
}

static void free_of_nothing_stays_nothing(void **state)
{
    (void)state;
    uint32_t before = test_host.n_handed_on;
    tp_pool_free(NULL);
    assert_int_equal(test_host.n_handed_on, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_is_handed_on),
        cmocka_unit_test(in_every_thread),
        cmocka_unit_test(nothing_is_counted_and_nothing_reserved),
        cmocka_unit_test(free_of_nothing_stays_nothing),
    };
    return cmocka_run_group_tests_name("inert", tests, open_inert, NULL);
}
