/* SPDX-License-Identifier: MIT */
/*
 * test_summary.c - the account on one screen, to the letter.
 */
#include "pool/pool.h"
#include "shim/output.h"

#include "tests/unit/tp_test.h"

#include <string.h>

struct tp_boot tp_boot;

static char out[8192];
static void *blocks[997];

static int make_an_account(void **state)
{
    (void)state;
    strcpy(tp_boot.name, "prog");
    tp_boot.pid = 4242;
    for (int i = 0; i < 997; i++) blocks[i] = tp_pool_alloc(173);
    for (int i = 0; i < 499; i++) tp_pool_free(blocks[i]);
    tp_pool_alloc(5003);
    tp_pool_alloc(1000003);
    return 0;
}

static void summary_is_a_short_table(void **state)
{
    (void)state;
    size_t n = tp_summary_write(out, sizeof(out), TP_REASON_EXIT);
    assert_int_equal(n, strlen(out));
    assert_string_equal(out,
        "tidepool: prog, pid 4242, at exit, 1 thread\n"
        "                     count         bytes\n"
        "allocated              999          1.1m\n"
        "freed                  499         93.5k\n"
        "live                   500          1.0m\n"
        "peak                                1.0m\n"
        "size class            live         bytes\n"
        "large                    1        980.0k\n"
        "192                    498         93.3k\n"
        "5.0k                     1          5.0k\n");
}

static void every_reason_has_words(void **state)
{
    (void)state;
    static const char *const words[] = { [TP_REASON_SIGNAL] = "on a signal",
        [TP_REASON_INTERVAL] = "after an interval",
        [TP_REASON_REQUEST] = "on request",
        [TP_REASON_KILLED] = "after it was killed" };
    for (unsigned reason = TP_REASON_SIGNAL; reason <= TP_REASON_KILLED; reason++) {
        tp_summary_write(out, sizeof(out), (enum tp_dump_reason)reason);
        assert_non_null(strstr(out, words[reason]));
    }
}

static void summary_is_cut_where_the_buffer_ends(void **state)
{
    (void)state;
    char whole[sizeof(out)];
    size_t n = tp_summary_write(whole, sizeof(whole), TP_REASON_EXIT);
    for (size_t size = 1; size < n; size++) {
        memset(out, '#', sizeof(out));
        assert_int_equal(tp_summary_write(out, size, TP_REASON_EXIT), size - 1);
        assert_memory_equal(out, whole, size - 1);
        assert_int_equal(out[size - 1], '\0');
        assert_int_equal(out[size], '#');
    }
}

static void table_shows_the_eight_largest_classes(void **state)
{
    (void)state;
    for (size_t size = 16; size <= 65536; size *= 2) tp_pool_alloc(size);
    tp_summary_write(out, sizeof(out), TP_REASON_EXIT);
    const char *row = strstr(out, "size class");
    assert_non_null(row);
    unsigned rows = 0;
    for (row = strchr(row, '\n') + 1; *row; row = strchr(row, '\n') + 1) {
        assert_int_equal(strcspn(row, "\n"), 40);
        rows++;
    }
    assert_int_equal(rows, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(summary_is_a_short_table),
        cmocka_unit_test(every_reason_has_words),
        cmocka_unit_test(summary_is_cut_where_the_buffer_ends),
        cmocka_unit_test(table_shows_the_eight_largest_classes),
    };
    return cmocka_run_group_tests_name("summary", tests, make_an_account, NULL);
}
