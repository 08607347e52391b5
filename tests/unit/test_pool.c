/* SPDX-License-Identifier: MIT */
/*
 * test_pool.c - the allocator as a program sees it, and its figures as a model has
 * them, with one thread.
 */
#include "pool/pool.h"

#include "pool/slab.h"
#include "tests/unit/tp_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MIB = 1024 * 1024, SLOTS = 499, STEPS = 60000, MANY = 20011 };

struct piece {
    uint8_t *p;
    size_t bytes;  // asked for
    uint8_t content;
};

static struct piece pieces[SLOTS];
static struct tp_sums model;  // what the pool should have counted
static int64_t peak;

static void count_taken(const void *p, size_t size)
{
    model.allocations++;
    model.requested_bytes += size;
    model.allocated_bytes += tp_pool_usable(p);
    peak = tp_max_i64(peak, (int64_t)(model.allocated_bytes - model.freed_bytes));
}

static void count_given(size_t usable)
{
    model.frees++;
    model.freed_bytes += usable;
}

static void fill(struct piece *piece, uint64_t *seed)
{
    piece->content = (uint8_t)test_random(seed);
    memset(piece->p, piece->content, piece->bytes);
}

static void take(struct piece *piece, uint64_t *seed)
{
    size_t size = test_size(seed, 2 * MIB), align = 0;
    switch (test_below(seed, 4)) {
    case 0:
        piece->p = tp_pool_zalloc(size);
        assert_true(test_is_filled(piece->p, 0, size));
        break;
    case 1:
        align = (size_t)16 << test_below(seed, 15);
        piece->p = tp_pool_aligned(align, size);
        assert_int_equal((uintptr_t)piece->p % align, 0);
        break;
    default:
        piece->p = tp_pool_alloc(size);
    }
    assert_non_null(piece->p);
    assert_true(tp_pool_usable(piece->p) >= size);
    piece->bytes = size;
    count_taken(piece->p, size);
    fill(piece, seed);
}

static void give(struct piece *piece, uint64_t *seed)
{
    assert_true(test_is_filled(piece->p, piece->content, piece->bytes));
    count_given(tp_pool_usable(piece->p));
    if (test_below(seed, 2))
        tp_pool_free(piece->p);
    else
        tp_pool_free_sized(piece->p, piece->bytes);
    piece->p = NULL;
}

static void resize(struct piece *piece, uint64_t *seed)
{
    size_t size = test_size(seed, 4 * MIB), old = tp_pool_usable(piece->p);
    uint8_t *to = tp_pool_realloc(piece->p, size, TP_CALL_REALLOC);
    assert_non_null(to);
    size_t kept = size < piece->bytes ? size : piece->bytes;
    assert_true(test_is_filled(to, piece->content, kept));
    size_t now = tp_pool_usable(to);
    assert_true(now >= size);
    if (to != piece->p) {
        count_taken(to, size);
        count_given(old);
    } else if (now > old) {
        model.requested_bytes += size > old ? size - old : 0;
        model.allocated_bytes += now - old;
        peak = tp_max_i64(peak, (int64_t)(model.allocated_bytes - model.freed_bytes));
    } else {
        model.freed_bytes += old - now;
    }
    piece->p = to;
    piece->bytes = size;
    fill(piece, seed);
}

static int64_t peak_read(void)
{
    const struct tp_counters *mine = tp_pool_counters();
    int64_t net = mine->high - mine->room;
    return tp_max_i64(tp_account.totals.peak_single,
        tp_account.totals.net + tp_max_i64(mine->high, net));
}

/* Must be first: it knows all that was ever counted. */
static void figures_are_exact(void **state)
{
    (void)state;
    uint64_t seed = 11;
    for (int i = 0; i < STEPS; i++) {
        struct piece *piece = &pieces[test_below(&seed, SLOTS)];
        if (!piece->p)
            take(piece, &seed);
        else if (test_below(&seed, 3))
            give(piece, &seed);
        else
            resize(piece, &seed);
        if (i % 1000) continue;
        struct tp_sums sums = tp_counters_sums(tp_pool_counters());
        assert_memory_equal(&sums, &model, sizeof(model));
        assert_int_equal(peak_read(), peak);
    }
    for (int i = 0; i < SLOTS; i++)
        if (pieces[i].p) give(&pieces[i], &seed);
    struct tp_sums sums = tp_counters_sums(tp_pool_counters());
    assert_memory_equal(&sums, &model, sizeof(model));
    assert_int_equal(sums.allocations, sums.frees);
    assert_int_equal(sums.allocated_bytes, sums.freed_bytes);
    assert_int_equal(peak_read(), peak);
    assert_int_equal(tp_counters_sums(tp_pool_slot(0)).allocations, 0);
}

static void every_alignment_is_kept(void **state)
{
    (void)state;
    static const size_t sizes[] = { 1, 173, 5003, 70001, 131072, 200003 };
    for (size_t align = 1; align <= 4 * MIB; align *= 2)
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            char *p[5];
            for (int k = 0; k < 5; k++) {
                assert_non_null(p[k] = tp_pool_aligned(align, sizes[i]));
                assert_int_equal((uintptr_t)p[k] % align, 0);
                assert_int_equal((uintptr_t)p[k] % TP_MIN_ALIGN, 0);
                assert_true(tp_pool_usable(p[k]) >= sizes[i]);
                memset(p[k], k, sizes[i]);
            }
            for (int k = 0; k < 5; k++) {
                assert_true(test_is_filled(p[k], k, sizes[i]));
                tp_pool_free(p[k]);
            }
        }
}

static void cleared_blocks_are_clean_after_reuse(void **state)
{
    (void)state;
    static const size_t sizes[] = { 0, 1, 7, 8, 61, 173, 4096, 5003, 9001, 40009,
        131072, 131073, 200003, 1000003, 5000011 };
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            uint8_t *p[7];
            for (int k = 0; k < 7; k++) {
                p[k] = k % 2 ? tp_pool_zalloc(sizes[i]) : tp_pool_alloc(sizes[i]);
                if (k % 2) assert_true(test_is_filled(p[k], 0, sizes[i]));
                memset(p[k], 0xff, tp_pool_usable(p[k]));
            }
            for (int k = 0; k < 7; k++) tp_pool_free(p[k]);
        }
        if (round % 5 == 0) tp_pool_trim();
    }
}

static void usable_bytes_are_those_of_the_class(void **state)
{
    (void)state;
    for (size_t size = 0; size <= TP_POOL_MAX; size += 509) {
        void *p = tp_pool_alloc(size);
        assert_int_equal(tp_pool_usable(p), tp_class_bytes(tp_class_of(size)));
        tp_pool_free(p);
    }
    assert_int_equal(tp_pool_usable(NULL), 0);
    void *foreign = malloc(100);
    assert_true(tp_pool_usable(foreign) >= 100);
    free(foreign);
}

static void blocks_of_no_bytes_are_blocks(void **state)
{
    (void)state;
    void *a = tp_pool_alloc(0), *b = tp_pool_alloc(0);
    assert_non_null(a);
    assert_non_null(b);
    assert_ptr_not_equal(a, b);
    tp_pool_free(a);
    tp_pool_free(b);
    tp_pool_free(NULL);
}

static void block_stays_while_it_fits_and_is_half_used(void **state)
{
    (void)state;
    struct tp_counters *mine = tp_pool_counters();
    uint64_t kept = mine->realloc_in_place, moved = mine->realloc_moved;
    char *p = tp_pool_alloc(1000);  // of 1024
    assert_ptr_equal(tp_pool_realloc(p, 1024, TP_CALL_REALLOC), p);
    assert_ptr_equal(tp_pool_realloc(p, 512, TP_CALL_REALLOC), p);
    assert_int_equal(mine->realloc_in_place, kept + 2);
    char *shorter = tp_pool_realloc(p, 511, TP_CALL_REALLOC);
    assert_ptr_not_equal(shorter, p);
    assert_int_equal(tp_pool_usable(shorter), 512);
    char *longer = tp_pool_realloc(shorter, 513, TP_CALL_REALLOC);
    assert_ptr_not_equal(longer, shorter);
    assert_int_equal(mine->realloc_moved, moved + 2);
    tp_pool_free(longer);
}

static void content_survives_every_kind_of_resize(void **state)
{
    (void)state;
    static const size_t sizes[] = { 1, 100, 5000, 100000, 300000, 3000000, 10000019 };
    enum { N = sizeof(sizes) / sizeof(sizes[0]) };
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++) {
            size_t kept = sizes[i] < sizes[j] ? sizes[i] : sizes[j];
            char *p = tp_pool_alloc(sizes[i]);
            memset(p, 0x5a, sizes[i]);
            p = tp_pool_realloc(p, sizes[j], TP_CALL_REALLOC);
            assert_true(test_is_filled(p, 0x5a, kept));
            assert_true(tp_pool_usable(p) >= sizes[j]);
            tp_pool_free(p);
        }
}

static void impossible_request_fails_and_is_counted(void **state)
{
    (void)state;
    struct tp_counters *mine = tp_pool_counters();
    uint64_t failed = mine->failed[TP_CALL_MALLOC];
    uint64_t taken = tp_counters_sums(mine).allocations;
    static const size_t sizes[] = { SIZE_MAX, (size_t)PTRDIFF_MAX + 1, PTRDIFF_MAX,
        (size_t)1 << 50 };
    for (size_t i = 0; i < 4; i++) {
        errno = 0;
        assert_null(tp_pool_alloc(sizes[i]));
        assert_int_equal(errno, ENOMEM);
        assert_null(tp_pool_zalloc(sizes[i]));
        assert_null(tp_pool_aligned(4096, sizes[i]));
    }
    assert_int_equal(mine->failed[TP_CALL_MALLOC], failed + 12);
    assert_int_equal(tp_counters_sums(mine).allocations, taken);
}

static void failed_resize_leaves_the_block_alone(void **state)
{
    (void)state;
    static const size_t sizes[] = { 100, 300000 };
    for (size_t i = 0; i < 2; i++) {
        char *p = tp_pool_alloc(sizes[i]);
        memset(p, 0x5a, sizes[i]);
        errno = 0;
        assert_null(tp_pool_realloc(p, SIZE_MAX, TP_CALL_REALLOC));
        assert_int_equal(errno, ENOMEM);
        assert_null(tp_pool_realloc(p, (size_t)1 << 50, TP_CALL_REALLOC));
        assert_true(test_is_filled(p, 0x5a, sizes[i]));
        tp_pool_free(p);
    }
}

static void blame_moves_a_failure(void **state)
{
    (void)state;
    struct tp_counters *mine = tp_pool_counters();
    uint64_t failed = mine->failed[TP_CALL_MALLOC];
    assert_null(tp_pool_alloc(SIZE_MAX));
    tp_pool_blame(TP_CALL_VALLOC);
    tp_pool_count_failure(TP_CALL_PVALLOC);
    tp_pool_count_call(TP_CALL_PVALLOC);
    assert_int_equal(mine->failed[TP_CALL_MALLOC], failed);
    assert_int_equal(mine->failed[TP_CALL_VALLOC], 1);
    assert_int_equal(mine->failed[TP_CALL_PVALLOC], 1);
    assert_int_equal(mine->calls[TP_CALL_PVALLOC], 1);
}

static void errno_is_the_callers(void **state)
{
    (void)state;
    errno = EXDEV;
    for (size_t size = 1; size < 8 * MIB; size *= 3) {
        void *p = tp_pool_alloc(size);
        p = tp_pool_realloc(p, 2 * size, TP_CALL_REALLOC);
        tp_pool_free(p);
    }
    tp_pool_trim();
    assert_int_equal(errno, EXDEV);
}

static void trim_gives_memory_back(void **state)
{
    (void)state;
    static void *blocks[MANY];
    for (int i = 0; i < MANY; i++) memset(blocks[i] = tp_pool_alloc(1009), 1, 1009);
    for (int i = 0; i < MANY; i++) tp_pool_free(blocks[i]);
    void *large = memset(tp_pool_alloc(7 * MIB), 1, 7 * MIB);
    tp_pool_free(large);
    uint64_t purged = tp_account.totals.purged_bytes;
    assert_true(tp_pool_trim());
    assert_int_equal(tp_account.totals.empty_bytes, 0);
    assert_true(tp_account.totals.purged_bytes - purged >= 7 * MIB);
    assert_false(tp_pool_trim());
}

static int go_on_in_a_child(void *argument)
{
    uint8_t *inherited = argument;
    if (!test_is_filled(inherited, 0x5a, 1009)) return 1;
    uint64_t before = tp_counters_sums(tp_pool_counters()).allocations;
    tp_pool_free(inherited);
    for (int i = 0; i < 5000; i++) {
        size_t size = (size_t)i * 61;
        char *p = tp_pool_zalloc(size);
        if (!p || !test_is_filled(p, 0, size)) return 2;
        memset(p, 1, size);
        tp_pool_free(p);
    }
    if (tp_counters_sums(tp_pool_counters()).allocations != before + 5000) return 3;
    return tp_pool_counters()->tid == tp_os_tid() ? 0 : 4;
}

static int go_on_in_an_announced_child(void *argument)
{
    tp_pool_forked();
    return test_host.n_forked ? 5 : go_on_in_a_child(argument);
}

static int go_on_in_a_silent_child(void *argument)
{
    int result = go_on_in_a_child(argument);
    return result ? result : test_host.n_forked == 1 ? 0 : 6;
}

static void child_goes_on_where_its_parent_was(void **state)
{
    (void)state;
    void *p = memset(tp_pool_alloc(1009), 0x5a, 1009);
    tp_pool_before_fork();
    int result = test_in_child(go_on_in_an_announced_child, p);
    tp_pool_after_fork();
    assert_int_equal(result, 0);
    tp_pool_free(p);
}

static void child_of_a_silent_fork_is_found_out(void **state)
{
    (void)state;
    void *p = memset(tp_pool_alloc(1009), 0x5a, 1009);
    _Atomic(uint32_t) *mark = tp_os_fork_mark();
    if (!mark) skip();
    assert_int_equal(test_in_child(go_on_in_a_silent_child, p), 0);
    tp_pool_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_are_exact),
        cmocka_unit_test(every_alignment_is_kept),
        cmocka_unit_test(cleared_blocks_are_clean_after_reuse),
        cmocka_unit_test(usable_bytes_are_those_of_the_class),
        cmocka_unit_test(blocks_of_no_bytes_are_blocks),
        cmocka_unit_test(block_stays_while_it_fits_and_is_half_used),
        cmocka_unit_test(content_survives_every_kind_of_resize),
        cmocka_unit_test(impossible_request_fails_and_is_counted),
        cmocka_unit_test(failed_resize_leaves_the_block_alone),
        cmocka_unit_test(blame_moves_a_failure),
        cmocka_unit_test(errno_is_the_callers),
        cmocka_unit_test(trim_gives_memory_back),
        cmocka_unit_test(child_goes_on_where_its_parent_was),
        cmocka_unit_test(child_of_a_silent_fork_is_found_out),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
