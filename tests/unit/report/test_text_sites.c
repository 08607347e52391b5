/* SPDX-License-Identifier: MIT */
/*
 * test_text_sites.c - lists and trees of made-up call sites, byte for byte.
 *
 * The pages are tests/golden/expected/sites_*.txt. With TIDEPOOL_UPDATE in the environment
 * they are written anew: read the difference before you keep it.
 */
#include "tests/unit/report/made_up.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct made_up made;

static char *read_golden(const char *path)
{
    char *text = calloc(1, 100000);
    FILE *file = fopen(path, "r");
    assert_non_null(text);
    if (file && !fread(text, 1, 99999, file)) text[0] = '\0';
    if (file) fclose(file);
    return text;
}

/* The page of what was made so far must be the golden one of that name. */
static void the_page_is(const char *name)
{
    char path[400];
    snprintf(path, sizeof(path), "%s/sites_%s.txt", TEST_GOLDEN, name);
    made_open(&made);
    char *text = made_page(&made);
    if (getenv("TIDEPOOL_UPDATE")) test_write_file(path, text, strlen(text), 0644);
    char *wanted = read_golden(path);
    assert_string_equal(text, wanted);
    free(wanted);
    free(text);
    made_close(&made);
}

static void the_page_has(const char *wanted)
{
    made_open(&made);
    char *text = made_page(&made);
    if (!strstr(text, wanted)) fail_msg("no '%s' in:\n%s", wanted, text);
    free(text);
    made_close(&made);
}

static void an_overview_has_the_peak_and_what_is_left(void **state)
{
    (void)state;
    made_program(&made);
    the_page_is("overview");
}

static void each_figure_has_its_list(void **state)
{
    (void)state;
    static const char *const names[TP_FIGURES] = { "peak", "live", "allocated", "count",
        "temporary" };
    for (int i = 0; i < TP_FIGURES; i++) {
        made_program(&made);
        made.view.figure = (enum tp_figure)i;
        the_page_is(names[i]);
    }
}

static void a_full_page_cuts_nothing(void **state)
{
    (void)state;
    made_program(&made);
    made.view.figure = TP_FIGURE_PEAK;
    made.view.full = true;
    made.list[2].end = TP_STACK_DEPTH;
    the_page_is("full");
}

static void a_tree_begins_at_the_roots(void **state)
{
    (void)state;
    made_program(&made);
    made.view.paths = TP_PATHS_ROOTS;
    the_page_is("roots");
}

static void a_tree_of_callers_begins_at_who_allocates(void **state)
{
    (void)state;
    made_program(&made);
    made.view.paths = TP_PATHS_CALLERS;
    made.view.figure = TP_FIGURE_COUNT;
    the_page_is("callers");
}

static void exact_figures_have_no_interval(void **state)
{
    (void)state;
    made_program(&made);
    made.sites.mode = made.dump.sampling.mode = TP_SAMPLING_EXACT;
    made.sites.n_sites--;  // the part without a sample
    the_page_is("exact");
}

static void what_is_left_out_is_said(void **state)
{
    (void)state;
    struct tp_error error;
    made_program(&made);
    assert_true(tp_patterns_add(&made.view.focus, "focus", "parse_", &error));
    assert_true(tp_patterns_add(&made.view.ignore, "ignore", "array", &error));
    the_page_has("  focus and ignore: 1 of 4 call stacks, 27.1 % of the peak\n");

    made_program(&made);
    assert_true(tp_patterns_add(&made.view.focus, "focus", "nobody", &error));
    the_page_has("  focus: 0 of 4 call stacks, 0.0 % of the peak\n  No call site.\n");

    made_program(&made);
    made.view.paths = TP_PATHS_ROOTS;
    assert_true(tp_patterns_add(&made.view.ignore, "ignore", "main", &error));
    the_page_has("  ignore: 0 of 4 call stacks, 0.0 % of the peak\n  No call site.\n");
}

static void the_rest_of_a_list_is_counted(void **state)
{
    (void)state;
    made_program(&made);
    made.view.top = 1;
    the_page_has("  3 more call sites, 28.9 %; --top N shows them.\n");
}

static void a_profile_without_samples_says_why(void **state)
{
    (void)state;
    made_init(&made);
    made_site(&made, 0, 4096, 17, 0);
    the_page_has("too little was allocated for a sample");
    made_init(&made);
    made_site(&made, 0, 4096, 17, 0);
    made.dump.sampling.mode = TP_SAMPLING_OFF;
    the_page_has("no call stacks were taken (sample=off)");
    made_init(&made);
    made_open(&made);
    char *text = made_page(&made);  // nothing was allocated: there is nothing to say
    assert_string_equal(text, "");
    free(text);
    made_close(&made);
}

static void growing_sites_are_told(void **state)
{
    (void)state;
    made_program(&made);
    made.list[0].live_samples = 100;
    made.view.figure = TP_FIGURE_LIVE;
    the_page_has("growing all along");
}

/* ---- how wide, and how sure ---------------------------------------------------------- */

static void check_width(const char *text, size_t width)
{
    size_t columns = 0;
    for (const char *at = text; *at; at++) {
        columns = *at == '\n' ? 0 : columns + (((unsigned char)*at & 0xc0) != 0x80);
        if (columns > width) fail_msg("wider than %zu: %.90s", width, at - width);
    }
    assert_null(strstr(text, " \n"));
    assert_null(strchr(text, '\033'));
}

static void long_names_are_cut_to_the_page(void **state)
{
    (void)state;
    static char name[3000];
    static char file[3000];
    static const size_t widths[] = { 76, 80, 99, 200 };
    for (size_t i = 0; i < 2 * sizeof(widths) / sizeof(widths[0]); i++) {
        memset(name, 'n', sizeof(name) - 1);
        memset(file, 'f', sizeof(file) - 1);
        memcpy(name + 10, "\033[31m<<<\303\244\377", 11);
        made_program(&made);
        for (uint32_t n = 1; n < made.dump.n_nodes; n++) {
            made.symbols[n][0].function = name + n;
            if (n % 2) made.symbols[n][0].file = file;
            made.symbols[n][0].line = UINT32_MAX;
        }
        made.view.paths = i % 2 ? TP_PATHS_ROOTS : TP_PATHS_NONE;
        for (int k = 0; k < 4; k++) {
            made.list[k].samples = UINT64_MAX;
            made.list[k].allocations.value = INT64_MAX / 8;
        }
        made_open(&made);
        made.who.columns = widths[i / 2];
        char *text = made_page(&made);
        check_width(text, widths[i / 2]);
        free(text);
        made_close(&made);
    }
}

static const char *middle;
static size_t middle_limit;

static void write_middle(struct tp_writer *w, void *argument)
{
    (void)argument;
    tp_write_middle(w, middle, middle_limit);
}

static void a_name_is_cut_in_its_middle(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t limit;
        const char *wanted;
    } table[] = {
        { "abcdefghij", 0, "abcdefghij" },
        { "abcdefghij", 10, "abcdefghij" },
        { "abcdefghij", 9, "abc...hij" },
        { "abcdefghij", 8, "abc...ij" },
        { "abcdefghij", 5, "abcde" },
        { "\303\244\303\266\303\274bcdefgh", 9, "\303\244\303\266\303\274...fgh" },
        { "", 7, "" },
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        middle = table[i].text;
        middle_limit = table[i].limit;
        char *text = test_written(write_middle, NULL);
        assert_string_equal(text, table[i].wanted);
        free(text);
    }
}

static void an_interval_is_calm(void **state)
{
    (void)state;
    static const struct {
        struct tp_estimate estimate;
        const char *wanted;
    } table[] = {
        { { 1000, 1000, 1000 }, "exact" },
        { { 0, 0, 0 }, "exact" },
        { { 1000, 970, 1020 }, "+-3.0 %" },
        { { 1000, 800, 1280 }, "+-28 %" },
        { { 1000000, 1000000, 1000001 }, "+-0.1 %" },
        { { 1024, 100, 5734 }, "<5.6 KiB" },
        { { 0, 0, 2048 }, "<2.0 KiB" },
        { { INT64_MAX, INT64_MIN, INT64_MAX }, "<8.0 EiB" },
    };
    char text[TP_HUMAN_BYTES];
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        assert_string_equal(
            tp_human_interval(text, &table[i].estimate, true, false), table[i].wanted);
    assert_string_equal(
        tp_human_interval(text, &(struct tp_estimate){ 10, 0, 31 }, false, false),
        "<31");
}

/* ---- over time ------------------------------------------------------------------------ */

static void write_time(struct tp_writer *w, void *argument)
{
    const struct made_up *at = argument;
    tp_time_write(w, &at->profile);
}

static void a_run_is_a_line(void **state)
{
    (void)state;
    static struct tp_point_record points[64];
    made_init(&made);
    uint64_t span = made.dump.header.ticks - made.dump.process.start_ticks;
    for (uint64_t i = 0; i < 64; i++)
        points[i] = (struct tp_point_record){
            .ticks = made.dump.process.start_ticks + span * (i + 1) / 64,
            .live_bytes = (int64_t)((i + 1) << 20),
            .live_bytes_max = i == 40 ? 100 << 20 : 0,
            .rss_bytes = i % 5 ? 70 << 20 : 0,  // not always asked
            .allocations = (i + 1) * 1009,
        };
    made.dump.points = points;
    made.dump.n_points = 64;
    char *text = test_written(write_time, &made);
    assert_non_null(strstr(text, "  live         "));
    assert_non_null(strstr(text, "1.0 MiB at first, 100.0 MiB most, 64.0 MiB last"));
    assert_non_null(
        strstr(text, "   ###############################  70.0 MiB at first"));
    assert_non_null(strstr(text, "22k a second"));
    free(text);

    // Whatever the points say, there is a page.
    for (uint64_t i = 0; i < 64; i++)
        memset(&points[i], (int)(i * 37), sizeof(points[i]));
    text = test_written(write_time, &made);
    assert_true(strlen(text) > 0);
    free(text);
    made.dump.n_points = 2;
    text = test_written(write_time, &made);
    assert_string_equal(text, "");
    free(text);
    tp_view_fini(&made.view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_overview_has_the_peak_and_what_is_left),
        cmocka_unit_test(each_figure_has_its_list),
        cmocka_unit_test(a_full_page_cuts_nothing),
        cmocka_unit_test(a_tree_begins_at_the_roots),
        cmocka_unit_test(a_tree_of_callers_begins_at_who_allocates),
        cmocka_unit_test(exact_figures_have_no_interval),
        cmocka_unit_test(what_is_left_out_is_said),
        cmocka_unit_test(the_rest_of_a_list_is_counted),
        cmocka_unit_test(a_profile_without_samples_says_why),
        cmocka_unit_test(growing_sites_are_told),
        cmocka_unit_test(long_names_are_cut_to_the_page),
        cmocka_unit_test(a_name_is_cut_in_its_middle),
        cmocka_unit_test(an_interval_is_calm),
        cmocka_unit_test(a_run_is_a_line),
    };
    return cmocka_run_group_tests_name("text_sites", tests, NULL, NULL);
}
