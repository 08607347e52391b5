/* SPDX-License-Identifier: MIT */
/*
 * test_coverage.c - every reason why something was not seen has its word and its row.
 */
#include "tests/unit/report/test.h"

#include <stdlib.h>
#include <string.h>

enum { ALL_FLAGS = 127, WIDTH = 99 };

static void write_coverage(struct tp_writer *w, void *profile)
{
    tp_coverage_write(w, profile);
}

static struct tp_profile profile_of(struct tp_dump *dump)
{
    struct tp_profile profile;
    struct tp_error error;
    assert_true(tp_profile_build(&profile, dump, "x", &error));
    return profile;
}

static void each_reason_has_its_word_and_its_row(void **state)
{
    (void)state;
    static const struct {
        uint32_t flags;
        uint32_t file_flags;
        uint32_t deepbind;
        uint32_t namespaces;
        const char *word;
        const char *row;  // "": told elsewhere on the page
    } table[] = {
        { 0, 0, 0, 0, NULL, "" },
        { TP_PROCESS_FORKED, 0, 0, 0, NULL, "" },
        { TP_PROCESS_INERT, 0, 0, 0, "own_malloc", "" },
        { TP_PROCESS_INERT | TP_PROCESS_OTHER_MALLOC, 0, 0, 0, "other_malloc", "" },
        { TP_PROCESS_NO_RANGE, 0, 0, 0, "no_range",
            "  Coverage    No address space for the pools: every block is counted as "
            "large.\n" },
        { TP_PROCESS_NO_FILE, 0, 0, 0, "no_live_file",
            "  Coverage    The account was in anonymous memory: SIGKILL would have lost "
            "it.\n" },
        { TP_PROCESS_SANDBOXED, 0, 0, 0, "sandboxed",
            "  Coverage    It gave up system calls: no dump was written, this is its "
            "live file.\n" },
        { TP_PROCESS_DEEPBIND_KEPT, 0, 0, 0, "deepbind_kept",
            "  Coverage    A library was opened with RTLD_DEEPBIND: its blocks are not "
            "counted.\n" },
        { 0, TP_FILE_LOST_COUNTS, 0, 0, "lost_counts", "" },
        { 0, 0, 1, 0, NULL,
            "  Coverage    1 library was opened without the RTLD_DEEPBIND that was asked "
            "for.\n" },
        { 0, 0, 1009, 0, NULL,
            "  Coverage    1,009 libraries were opened without the RTLD_DEEPBIND that was "
            "asked for.\n" },
        { 0, 0, 0, 1, "namespaces",
            "  Coverage    1 namespace of dlmopen has a heap of its own, which is not "
            "counted.\n" },
        { 0, 0, 0, 3, "namespaces",
            "  Coverage    3 namespaces of dlmopen have heaps of their own, which are not "
            "counted.\n" },
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct tp_dump dump;
        test_dump(&dump, NULL, 0);
        dump.process.flags = table[i].flags;
        dump.header.flags = table[i].file_flags;
        dump.process.deepbind_stripped = table[i].deepbind;
        dump.process.namespaces = table[i].namespaces;
        struct tp_profile profile = profile_of(&dump);
        assert_int_equal(profile.inert, table[i].flags & TP_PROCESS_INERT ? 1 : 0);
        assert_int_equal(profile.n_coverage_reasons, table[i].word ? 1 : 0);
        if (table[i].word)
            assert_string_equal(profile.coverage_reasons[0], table[i].word);
        char *text = test_written(write_coverage, &profile);
        assert_string_equal(text, table[i].row);
        free(text);
        tp_profile_fini(&profile);
    }
}

static void all_of_them_fit(void **state)
{
    (void)state;
    struct tp_dump dump;
    test_dump(&dump, NULL, 0);
    dump.process.flags = ALL_FLAGS;
    dump.header.flags = TP_FILE_LOST_COUNTS;
    dump.process.deepbind_stripped = dump.process.namespaces = UINT32_MAX;
    struct tp_profile profile = profile_of(&dump);
    assert_int_equal(profile.n_coverage_reasons, 7);
    assert_string_equal(profile.coverage_reasons[0], "other_malloc");
    char *text = test_written(write_coverage, &profile);
    assert_null(strstr(strstr(text, "Coverage") + 1, "Coverage"));
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= WIDTH);
    free(text);
    tp_profile_fini(&profile);
}

static void flags_of_a_later_version_are_passed_over(void **state)
{
    (void)state;
    struct tp_dump dump;
    test_dump(&dump, NULL, 0);
    dump.process.flags = ~(uint32_t)ALL_FLAGS;
    struct tp_profile profile = profile_of(&dump);
    assert_int_equal(profile.n_coverage_reasons, 0);
    tp_profile_fini(&profile);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_reason_has_its_word_and_its_row),
        cmocka_unit_test(all_of_them_fit),
        cmocka_unit_test(flags_of_a_later_version_are_passed_over),
    };
    return cmocka_run_group_tests_name("coverage", tests, NULL, NULL);
}
