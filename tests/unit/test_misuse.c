/* SPDX-License-Identifier: MIT */
/*
 * test_misuse.c - what is caught without check=on, and what zero=on clears.
 */
#include "pool/pool.h"
#include "pool/slab.h"

#include "tests/unit/tp_test.h"

#include <stdlib.h>
#include <string.h>

static void assert_dies(void (*body)(void *), const char *with)
{
    const char *words = test_last_words(body, NULL);
    assert_non_null(words);
    if (!strstr(words, with)) fail_msg("'%s' not in: %s", with, words);
}

/* Must be first: the options are asked for once, so each child opens its own pool. */
static int free_with_zero_on(void *argument)
{
    (void)argument;
    test_host.options.zero = true;
    static const size_t sizes[] = { 16, 173, 5003, 100003 };
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char *p = tp_pool_alloc(sizes[i]);
        memset(p, 0x5a, tp_pool_usable(p));
        size_t bytes = tp_pool_usable(p);
        tp_pool_free(p);
        if (!test_is_filled(p + 8, 0, bytes - 8)) return 1;
    }
    return 0;
}

static void freed_blocks_are_cleared_when_asked(void **state)
{
    (void)state;
    assert_int_equal(test_in_child(free_with_zero_on, NULL), 0);
}

static void free_twice(void *argument)
{
    char *p = tp_pool_alloc((size_t)(uintptr_t)argument);
    tp_pool_free(p);
    tp_pool_free(p);
}

static void double_free_in_a_row_dies(void **state)
{
    (void)state;
    const char *words = test_last_words(free_twice, (void *)173);
    assert_non_null(words);
    assert_non_null(strstr(words, "tidepool: double free of 0x"));
    words = test_last_words(free_twice, (void *)3000017);
    assert_non_null(words);
    assert_non_null(strstr(words, "double free or invalid pointer: 0x"));
}

static void free_inside(void *argument)
{
    (void)argument;
    char *p = tp_pool_alloc(173);
    // From another thread's view, so that the slow path looks at it.
    tp_slab_set_owner(tp_slab_at(p), tp_slab_owner(tp_slab_at(p)) | TP_SLAB_FULL);
    tp_pool_free(p + 16);
}

static void free_inside_a_long_run(void *argument)
{
    (void)argument;
    char *p = NULL;
    for (int i = 0; i < 8; i++) p = tp_pool_alloc(100003);
    tp_pool_free(p + TP_GRANULE + 16);
}

static void free_inside_a_large_block(void *argument)
{
    (void)argument;
    char *p = tp_pool_alloc(1000003);
    tp_pool_free(p + 16);
}

static void free_inside_a_block_dies_on_the_slow_path(void **state)
{
    (void)state;
    assert_dies(free_inside, "inside a block of 192 bytes");
    assert_dies(free_inside_a_long_run, "inside a block of 114688 bytes");
    assert_dies(free_inside_a_large_block, "double free or invalid pointer: 0x");
}

static void free_where_nothing_is(void *argument)
{
    (void)argument;
    tp_pool_start();
    tp_pool_free(tp_range.end - TP_GRANULE);
}

static void free_of_the_books(void *argument)
{
    (void)argument;
    tp_pool_start();
    tp_pool_free(tp_range.base);
}

static void free_where_no_block_is_dies(void **state)
{
    (void)state;
    assert_dies(free_where_nothing_is, "holds no block");
    assert_dies(free_of_the_books, "holds no block");
}

static void realloc_inside(void *argument)
{
    (void)argument;
    char *p = tp_pool_alloc(173);
    tp_pool_realloc(p + 16, 500, TP_CALL_REALLOC);
}

static void realloc_inside_a_block_dies(void **state)
{
    (void)state;
    assert_dies(realloc_inside, "invalid realloc of 0x");
}

static void free_with_wrong_size(void *argument)
{
    size_t size = (size_t)(uintptr_t)argument;
    void *p = tp_pool_alloc(size);
    tp_pool_free_sized(p, tp_pool_usable(p) + 1);
}

static void sized_free_of_a_shorter_block_dies(void **state)
{
    (void)state;
    const char *words = test_last_words(free_with_wrong_size, (void *)173);
    assert_non_null(words);
    assert_non_null(strstr(words, "with size 193: the block has 192 bytes"));
    words = test_last_words(free_with_wrong_size, (void *)409600);
    assert_non_null(words);
    assert_non_null(strstr(words, "with size 409601: the block has 409600 bytes"));
}

static void sized_free_of_a_longer_block_is_fine(void **state)
{
    (void)state;
    tp_pool_free_sized(tp_pool_alloc(173), 173);
    tp_pool_free_sized(tp_pool_alloc(173), 1);
    tp_pool_free_sized(tp_pool_alloc(409600), 300000);
    tp_pool_free_sized(NULL, 5);
}

static void write_over_links(void *argument)
{
    (void)argument;
    static void *blocks[512];
    for (int i = 0; i < 512; i++) blocks[i] = tp_pool_alloc(173);
    for (int i = 0; i < 512; i++) tp_pool_free(blocks[i]);
    // The first few went straight back to the bin: no list is taken over for those.
    for (int i = 64; i < 512; i++) memset(blocks[i], 0x41, 16);
    for (int i = 0; i < 512; i++) tp_pool_alloc(173);
}

static void written_links_are_seen_before_they_are_followed(void **state)
{
    (void)state;
    assert_dies(write_over_links, "heap corrupted: ");
}

static void foreign_block_is_passed_on(void **state)
{
    (void)state;
    uint64_t frees = tp_account.totals.foreign_frees;
    uint32_t passed_on = test_host.n_foreign;
    tp_pool_free(malloc(10));
    assert_int_equal(test_host.n_foreign, passed_on + 1);
    assert_int_equal(tp_account.totals.foreign_frees, frees + 1);
}

static void foreign_block_comes_home_when_resized(void **state)
{
    (void)state;
    char *p = malloc(61);
    memset(p, 0x5a, 61);
    uint32_t passed_on = test_host.n_foreign;
    char *to = tp_pool_realloc(p, 997, TP_CALL_REALLOC);
    assert_non_null(tp_slab_at(to));
    assert_true(test_is_filled(to, 0x5a, 61));
    assert_int_equal(test_host.n_foreign, passed_on + 1);
    assert_int_equal(tp_pool_counters()->realloc_fresh, 1);
    tp_pool_free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(freed_blocks_are_cleared_when_asked),
        cmocka_unit_test(double_free_in_a_row_dies),
        cmocka_unit_test(free_inside_a_block_dies_on_the_slow_path),
        cmocka_unit_test(free_where_no_block_is_dies),
        cmocka_unit_test(realloc_inside_a_block_dies),
        cmocka_unit_test(sized_free_of_a_shorter_block_dies),
        cmocka_unit_test(sized_free_of_a_longer_block_is_fine),
        cmocka_unit_test(written_links_are_seen_before_they_are_followed),
        cmocka_unit_test(foreign_block_is_passed_on),
        cmocka_unit_test(foreign_block_comes_home_when_resized),
    };
    return cmocka_run_group_tests_name("misuse", tests, NULL, NULL);
}
