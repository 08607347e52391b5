/* SPDX-License-Identifier: MIT */
/*
 * test_follow.c - what the host is told of, one thing at a time. The pool of this process
 * samples every block; see test_storm.c for everything at once.
 */
#include "pool/follow.h"

#include "pool/pool.h"
#include "tests/unit/tp_test.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define CHECK(x)                                            \
    do {                                                    \
        if (!(x)) {                                         \
            fprintf(stderr, "line %d: %s\n", __LINE__, #x); \
            return 1;                                       \
        }                                                   \
    } while (0)

enum { MIB = 1024 * 1024 };

static struct tp_sums figures(void)
{
    struct tp_sums sums = { 0 };
    struct tp_walk walk = tp_pool_walk();
    const struct tp_counters *counters;
    while ((counters = tp_pool_next(&walk))) {
        struct tp_sums more = tp_counters_sums(counters);
        sums.allocations += more.allocations;
        sums.frees += more.frees;
        sums.requested_bytes += more.requested_bytes;
        sums.allocated_bytes += more.allocated_bytes;
        sums.freed_bytes += more.freed_bytes;
        sums.remote_frees += more.remote_frees;
    }
    return sums;
}

static int sample_every_block(void **state)
{
    (void)state;
    test_host.to_sample = 1;
    test_host.follow = 1;
    return tp_pool_start() ? 0 : 1;
}

static const struct tp_marked *kept(const void *p)
{
    struct tp_slab *slab = tp_slab_head(tp_slab_at(p));
    return tp_slab_owner(slab) == TP_MARKS_OWNER ? tp_marks_read(p) : NULL;
}

static void small_block_leaves_a_proxy(void **state)
{
    (void)state;
    for (size_t size = 1; size <= TP_POOL_MAX; size *= 2) {
        char *p = tp_pool_alloc(size);
        assert_non_null(kept(p));
        char *proxy = kept(p)->proxy;
        assert_int_equal(proxy != NULL, size <= TP_PROXY_MAX);
        if (proxy) {
            struct tp_slab *home = tp_slab_head(tp_slab_at(proxy));
            assert_int_equal(tp_slab_owner(home) & TP_SLAB_MARKED, 0);
            assert_int_equal(home->bytes, tp_slab_head(tp_slab_at(p))->bytes);
            // It is nobody's while the sample lives.
            char *others[300];
            for (int i = 0; i < 300; i++) {
                others[i] = tp_pool_alloc(size);
                assert_ptr_not_equal(others[i], proxy);
                assert_ptr_not_equal(kept(others[i])->proxy, proxy);
            }
            for (int i = 0; i < 300; i++) tp_pool_free(others[i]);
        }
        tp_pool_free(p);
    }
}

static void *free_it(void *p)
{
    tp_pool_free(p);
    return NULL;
}

static void free_in_another_thread_is_remote(void **state)
{
    (void)state;
    struct tp_sums before = figures();
    uint32_t back = test_host.n_back;
    void *p = tp_pool_alloc(100);
    assert_non_null(kept(p));
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, free_it, p), 0);
    pthread_join(thread, NULL);
    tp_pool_free(tp_pool_alloc(100));
    assert_int_equal(figures().remote_frees - before.remote_frees, 1);
    assert_int_equal(test_host.n_back - back, 2);
}

static void block_that_is_used_again_is_cleared(void **state)
{
    (void)state;
    for (size_t size = 1; size < 30000; size = size * 3 / 2 + 1) {
        void *p = tp_pool_alloc(size);
        memset(p, 0xff, tp_pool_usable(p));
        tp_pool_free(p);
        void *again = tp_pool_zalloc(size);
        assert_ptr_equal(again, p);
        assert_true(test_is_filled(again, 0, size));
        tp_pool_free(again);
    }
}

static void free_twice(void *p)
{
    tp_pool_free(p);
    tp_pool_free(p);
}

static void free_inside(void *p)
{
    tp_pool_free((char *)p + 16);
}

static void realloc_inside(void *p)
{
    tp_pool_realloc((char *)p + 16, 50, TP_CALL_REALLOC);
}

static void sized_free_of_too_much(void *p)
{
    tp_pool_free_sized(p, 113);
}

static void misuse_of_a_followed_block_dies(void **state)
{
    (void)state;
    static const struct {
        void (*body)(void *);
        const char *words;
    } rows[] = {
        { free_twice, "double free of 0x" },
        { free_inside, "invalid free of 0x" },
        { realloc_inside, "invalid realloc of 0x" },
        { sized_free_of_too_much, "with size 113: the block has 112 bytes" },
    };
    void *p = tp_pool_alloc(100), *beside = tp_pool_alloc(100);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *words = test_last_words(rows[i].body, p);
        assert_non_null(words);
        assert_non_null(strstr(words, rows[i].words));
    }
    tp_pool_free(p);
    tp_pool_free(beside);
}

static void growth_in_place_is_told_of(void **state)
{
    (void)state;
    char *p = tp_pool_alloc(2 * MIB);
    for (int i = 1; i < 20; i++) {
        assert_ptr_equal(tp_pool_realloc(p, MIB, TP_CALL_REALLOC), p);
        uint32_t resized = test_host.n_resized;
        size_t size = MIB + (size_t)i * 50000;
        assert_ptr_equal(tp_pool_realloc(p, size, TP_CALL_REALLOC), p);
        assert_int_equal(test_host.n_resized, resized + 1);
        assert_int_equal(test_host.last.bytes, tp_pool_usable(p));
        assert_int_equal(test_host.last.requested, size);
        assert_int_equal(test_host.last.class, TP_LARGE_CLASS);
        assert_ptr_equal(test_host.last.p, p);
    }
    tp_pool_free(p);
}

static void bytes_grown_in_place_are_in_no_countdown(void **state)
{
    (void)state;
    test_host.to_sample = 40 * MIB;
    tp_pool_free(tp_pool_alloc(1));
    while (tp_heap_self->sampler.to_sample < 30 * MIB) tp_pool_free(tp_pool_alloc(1));
    char *p = tp_pool_alloc(2 * MIB);
    uint32_t told = test_host.n_told, resized = test_host.n_resized;
    // Down and up again in the same place, 100 MiB in all.
    for (int i = 0; i < 100; i++) {
        assert_ptr_equal(tp_pool_realloc(p, MIB, TP_CALL_REALLOC), p);
        assert_ptr_equal(tp_pool_realloc(p, 2 * MIB, TP_CALL_REALLOC), p);
    }
    assert_int_equal(test_host.n_told, told);
    assert_int_equal(test_host.n_resized - resized, 100);  // unmarked: growth alone
    tp_pool_free(p);
    test_host.to_sample = 1;
    for (int i = 0; i < 100; i++) tp_pool_free(tp_pool_alloc(MIB));
    assert_true(test_host.n_told > told);
}

static void marked_large_block_is_told_of_all_that_happens(void **state)
{
    (void)state;
    char *p = tp_pool_alloc(4 * MIB);
    uint32_t mark = test_mark_of(p), resized = test_host.n_resized;
    assert_int_not_equal(mark, 0);
    assert_ptr_equal(tp_pool_realloc(p, 2 * MIB, TP_CALL_REALLOC), p);
    assert_int_equal(test_host.n_resized, resized + 1);
    assert_ptr_equal(tp_pool_realloc(p, 3 * MIB, TP_CALL_REALLOC), p);
    assert_int_equal(test_host.n_resized, resized + 2);
    uint32_t back = test_host.n_back;
    void *to = tp_pool_realloc(p, 1000 * MIB / 2, TP_CALL_REALLOC);
    assert_non_null(to);
    if (to != p) assert_int_equal(test_host.n_back, back + 1);
    tp_pool_free(to);
    assert_int_equal(test_mark_of(to), 0);
    assert_int_equal(test_host.n_wrong, 0);
}

/* A signal handler on top of a slow path, played by the test. */
static void on_top_of_a_slow_path_nothing_is_told(void **state)
{
    (void)state;
    void *p = tp_pool_alloc(100), *large = tp_pool_alloc(MIB), *q = NULL;
    struct tp_sums before = figures();
    uint32_t told = test_host.n_told, back = test_host.n_back;

    uintptr_t outer = tp_slow_begin();
    char below[256];
    memset(below, 0, sizeof(below));
    for (int i = 0; i < 50; i++) {
        q = tp_pool_alloc(100);
        assert_null(kept(q));
        tp_pool_free(q);
    }
    tp_pool_free(p);
    tp_pool_free(large);
    uint32_t told_there = test_host.n_told - told, back_there = test_host.n_back - back;
    struct tp_sums after = figures();
    tp_slow_end(outer);

    assert_int_equal(told_there, 0);
    assert_int_equal(back_there, 0);
    assert_int_equal(after.frees - before.frees, 52);
    assert_int_equal(after.allocations - before.allocations, 50);
    void *next = tp_pool_alloc(100);
    assert_int_equal(test_host.n_back - back, 2);
    assert_ptr_equal(next, p);  // put back with the next one
    tp_pool_free(next);
    assert_int_equal(test_host.n_wrong, 0);
}

static void *blocks[100];

static int free_in_child(void *unused)
{
    (void)unused;
    uint32_t back = test_host.n_back;
    tp_pool_forked();
    for (int i = 0; i < 100; i++) tp_pool_free(blocks[i]);
    CHECK(test_host.n_back - back == 100 && test_host.n_wrong == 0);
    for (int i = 0; i < 100; i++) {
        CHECK(blocks[i] = tp_pool_zalloc(1 + (size_t)i * 7));
        CHECK(kept(blocks[i]));
        memset(blocks[i], 1, 1 + (size_t)i * 7);
    }
    for (int i = 0; i < 100; i++) tp_pool_free(blocks[i]);
    CHECK(test_host.n_back - back == 200 && test_host.n_wrong == 0);
    return 0;
}

static void child_frees_what_its_parent_sampled(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) blocks[i] = tp_pool_alloc(1 + (size_t)i * 7);
    tp_pool_before_fork();
    assert_int_equal(test_in_child(free_in_child, NULL), 0);
    tp_pool_after_fork();
    // As a child of many threads: the lists are forgotten.
    atomic_fetch_add(&tp_account.totals.running, 1);
    tp_pool_before_fork();
    assert_int_equal(test_in_child(free_in_child, NULL), 0);
    tp_pool_after_fork();
    atomic_fetch_sub(&tp_account.totals.running, 1);
    for (int i = 0; i < 100; i++) tp_pool_free(blocks[i]);
    assert_int_equal(test_host.n_wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_block_leaves_a_proxy),
        cmocka_unit_test(free_in_another_thread_is_remote),
        cmocka_unit_test(block_that_is_used_again_is_cleared),
        cmocka_unit_test(misuse_of_a_followed_block_dies),
        cmocka_unit_test(growth_in_place_is_told_of),
        cmocka_unit_test(bytes_grown_in_place_are_in_no_countdown),
        cmocka_unit_test(marked_large_block_is_told_of_all_that_happens),
        cmocka_unit_test(on_top_of_a_slow_path_nothing_is_told),
        cmocka_unit_test(child_frees_what_its_parent_sampled),
    };
    return cmocka_run_group_tests_name("follow", tests, sample_every_block, NULL);
}
