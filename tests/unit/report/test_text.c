/* SPDX-License-Identifier: MIT */
/*
 * test_text.c - the page keeps its width, and JSON its shape, whatever the figures.
 */
#include "tests/unit/report/test.h"

#include <stdlib.h>
#include <string.h>

enum { WIDTH = 99 };

/* A report with one profile of `slots`; the dump is the caller's. */
static void open_report(struct tp_report *report, struct tp_dump *dump)
{
    struct tp_error error;
    memset(report, 0, sizeof(*report));
    report->profiles = calloc(1, sizeof(report->profiles[0]));
    assert_true(tp_profile_build(report->profiles, dump, "x", &error));
    report->n_profiles = 1;
    assert_true(tp_tree_build(report, &error));
}

static void close_report(struct tp_report *report)
{
    for (size_t i = 0; i < report->n_profiles; i++)
        tp_profile_fini(&report->profiles[i]);
    tp_tree_fini(&report->tree);
    free(report->profiles);
}

static void each_line_is_narrow(const char *text)
{
    size_t columns = 0;
    for (; *text; text++) {
        if (*text == '\n')
            columns = 0;
        else if (((unsigned char)*text & 0xc0) != 0x80)
            columns++;
        if (columns > WIDTH) fail_msg("too wide: ... %.60s", text - WIDTH);
    }
}

static void fill_huge(struct tp_thread_slot *slots, size_t n)
{
    memset(slots, 0, n * sizeof(slots[0]));
    for (size_t i = 0; i < n; i++) {
        slots[i].state = TP_SLOT_RUNNING;
        slots[i].tid = UINT32_MAX;
        memset(slots[i].name, 'W', TP_FORMAT_NAME - 1);
        for (int c = 0; c < 3; c++)
            slots[i].taken[c] = (struct tp_taken){ 1000000000 + i, 1000000000 };
        slots[i].large_allocated_bytes = UINT64_C(1) << 50;
        slots[i].taken[TP_FORMAT_LARGE].allocations = 999999999;
        for (int e = 1; e < TP_ENTRIES; e++) slots[i].calls[e] = 12345678901;
        slots[i].remote_frees = 1000000000;
    }
}

static void no_line_is_wider_than_the_page(void **state)
{
    (void)state;
    static struct tp_thread_slot slots[9];
    struct tp_dump dump;
    struct tp_report report;
    fill_huge(slots, 9);
    test_dump(&dump, slots, 9);
    memset(dump.process.name, 'n', sizeof(dump.process.name) - 1);
    memset(dump.process.host, 'h', sizeof(dump.process.host) - 1);
    char command[] =
        "a command\0that goes on\0and on and on and on and on and on and on "
        "and on and on and on and on and on and on and on and on and on";
    dump.command = command;
    dump.n_command_bytes = sizeof(command);
    dump.rss_bytes = dump.rss_peak_bytes = UINT64_C(1) << 49;
    open_report(&report, &dump);
    char *text = test_capture(tp_text_write, &report);
    each_line_is_narrow(text);
    assert_non_null(strstr(text, "4 others"));
    assert_null(strchr(text, '\033'));
    free(text);
    close_report(&report);
}

static void a_profile_of_nothing_can_be_shown(void **state)
{
    (void)state;
    struct tp_dump dump;
    struct tp_report report;
    test_dump(&dump, NULL, 0);
    open_report(&report, &dump);
    char *text = test_capture(tp_text_write, &report);
    assert_non_null(strstr(text, "(no name), pid 0"));
    each_line_is_narrow(text);
    free(text);
    text = test_capture(tp_json_write, &report);
    assert_non_null(strstr(text, "\"schema\": \"tidepool.report/1\""));
    free(text);
    close_report(&report);
}

static void lines_end_without_blanks(void **state)
{
    (void)state;
    static struct tp_thread_slot slots[2];
    struct tp_dump dump;
    struct tp_report report;
    fill_huge(slots, 2);
    test_dump(&dump, slots, 2);
    open_report(&report, &dump);
    char *text = test_capture(tp_text_write, &report);
    assert_null(strstr(text, " \n"));
    free(text);
    close_report(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_line_is_wider_than_the_page),
        cmocka_unit_test(a_profile_of_nothing_can_be_shown),
        cmocka_unit_test(lines_end_without_blanks),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
