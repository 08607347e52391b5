/* SPDX-License-Identifier: MIT */
/*
 * test_text.c - the page keeps its width, and JSON its shape, whatever the figures.
 */
#include "tests/unit/report/test.h"

#include "report/frames.h"

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

/* ---- of which process the call sites are ---------------------------------------------- */

static void the_process_with_most_of_the_figure_is_chosen(void **state)
{
    (void)state;
    struct tp_dump dumps[4];
    struct tp_profile profiles[4];
    struct tp_report report = { .profiles = profiles, .n_profiles = 4 };
    struct tp_view view;
    memset(profiles, 0, sizeof(profiles));
    tp_view_init(&view);
    for (uint32_t i = 0; i < 4; i++) {
        test_dump(&dumps[i], NULL, 0);
        dumps[i].process.pid = 101 + i;
        dumps[i].sampling.mode = TP_SAMPLING_SAMPLED;
        profiles[i].dump = &dumps[i];
        profiles[i].counts = true;
    }
    profiles[0].totals.peak_bytes = 997;
    profiles[1].totals.peak_bytes = 1009;
    profiles[2].totals.live_bytes = 11;
    profiles[3].totals.peak_bytes = 5003;
    dumps[3].sampling.mode = TP_SAMPLING_OFF;  // it has no call sites
    assert_ptr_equal(tp_report_choose(&report, &view), &profiles[1]);
    profiles[1].counts = false;  // an earlier dump
    assert_ptr_equal(tp_report_choose(&report, &view), &profiles[0]);
    view.figure = TP_FIGURE_LIVE;
    assert_ptr_equal(tp_report_choose(&report, &view), &profiles[2]);
    view.pid = 104;
    assert_ptr_equal(tp_report_choose(&report, &view), &profiles[3]);
    view.pid = 99;
    assert_null(tp_report_choose(&report, &view));
}

static void a_view_of_sites_leaves_out_the_rest(void **state)
{
    (void)state;
    static struct tp_thread_slot slots[1];
    struct tp_dump dump;
    struct tp_report report;
    struct tp_view view;
    fill_huge(slots, 1);
    test_dump(&dump, slots, 1);
    dump.sampling.depth = 64;
    open_report(&report, &dump);
    tp_view_init(&view);
    view.figure = TP_FIGURE_LIVE;
    report.view = &view;
    char *text = test_capture(tp_text_write, &report);
    assert_null(strstr(text, "SIZE CLASSES"));
    assert_non_null(strstr(text, "CALL SITES\n  None: no call stacks were taken"));
    free(text);
    close_report(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_line_is_wider_than_the_page),
        cmocka_unit_test(a_profile_of_nothing_can_be_shown),
        cmocka_unit_test(lines_end_without_blanks),
        cmocka_unit_test(the_process_with_most_of_the_figure_is_chosen),
        cmocka_unit_test(a_view_of_sites_leaves_out_the_rest),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
