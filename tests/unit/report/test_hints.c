/* SPDX-License-Identifier: MIT */
/*
 * test_hints.c - hints are heard when the figures are worth it, gravest first.
 */
#include "tests/unit/report/made_up.h"

#include <string.h>

static char hints[TP_HINTS][TP_HINT_BYTES];

/* A profile about which there is nothing to say. */
static void quiet_profile(struct tp_profile *profile)
{
    memset(profile, 0, sizeof(*profile));
    profile->reason = "exit";
    profile->complete = true;
    profile->duration_ns = 1000000000;
}

static void nothing_is_said_of_a_quiet_profile(void **state)
{
    (void)state;
    struct tp_profile profile;
    quiet_profile(&profile);
    assert_int_equal(tp_hints_build(hints, &profile, NULL), 0);
}

static void an_inert_library_is_said_first(void **state)
{
    (void)state;
    struct tp_profile profile;
    quiet_profile(&profile);
    profile.inert = true;
    profile.foreign_frees = 3;
    assert_int_equal(tp_hints_build(hints, &profile, NULL), 2);
    assert_non_null(strstr(hints[0], "malloc of its own"));
    assert_non_null(strstr(hints[1], "3 blocks were freed"));
    profile.coverage_reasons[profile.n_coverage_reasons++] = "other_malloc";
    assert_int_equal(tp_hints_build(hints, &profile, NULL), 2);
    assert_non_null(strstr(hints[0], "A library that was loaded before"));
}

static void what_is_left_at_exit_names_its_class(void **state)
{
    (void)state;
    struct tp_profile profile;
    quiet_profile(&profile);
    profile.n_classes = 2;
    profile.classes[1].size_bytes = 64;
    profile.classes[1].live_bytes = 90 * 64 * 101;
    profile.totals.live_bytes = 100 * 64 * 101;
    profile.totals.live_blocks = 9109;
    profile.totals.peak_bytes = profile.totals.live_bytes;
    assert_int_equal(tp_hints_build(hints, &profile, NULL), 1);
    assert_string_equal(hints[0],
        "631.2 KiB in 9,109 blocks had not been freed at the "
        "exit, 90 % of it in blocks of 64 B.");
    profile.totals.peak_bytes *= 100;  // a hundredth of the peak is not worth a line
    assert_int_equal(tp_hints_build(hints, &profile, NULL), 0);
}

static void reallocs_that_move_are_told(void **state)
{
    (void)state;
    struct tp_profile profile;
    quiet_profile(&profile);
    profile.calls.realloc_moved = 1009;
    profile.calls.realloc_in_place = 11;
    assert_int_equal(tp_hints_build(hints, &profile, NULL), 1);
    assert_non_null(strstr(hints[0], "1,009 of 1,020"));
}

static void churn_is_told_by_its_rate(void **state)
{
    (void)state;
    struct tp_profile profile;
    quiet_profile(&profile);
    profile.totals.allocations = 1000003;
    profile.totals.frees = 1000002;
    assert_int_equal(tp_hints_build(hints, &profile, NULL), 1);
    assert_non_null(strstr(hints[0], "1.0M blocks a second were taken and 99.9 %"));
}

static void there_are_never_too_many(void **state)
{
    (void)state;
    struct tp_profile profile;
    quiet_profile(&profile);
    profile.inert = true;
    profile.complete = false;
    profile.calls.failed = UINT64_MAX >> 1;
    profile.foreign_frees = UINT64_MAX;
    profile.calls.realloc_moved = 5003;
    assert_int_equal(tp_hints_build(hints, &profile, NULL), TP_HINTS);
    for (int i = 0; i < TP_HINTS; i++)
        assert_true(strlen(hints[i]) > 20 && hints[i][strlen(hints[i]) - 1] == '.');
}

/* ---- of call sites ------------------------------------------------------------------ */

static struct made_up made;

static void what_grows_is_named_with_its_pace(void **state)
{
    (void)state;
    made_program(&made);
    made.list[0].live_samples = 100;
    made_open(&made);
    made.profile.totals.allocations = 1009;
    made.profile.totals.live_bytes = INT64_C(2) << 30;
    assert_int_equal(tp_hints_build(hints, &made.profile, &made.who), 1);
    made.profile.totals.live_bytes = INT64_C(1) << 30;
    made.profile.totals.peak_bytes = INT64_C(100)
        << 30;  // what is left is not the news
    assert_int_equal(tp_hints_build(hints, &made.profile, &made.who), 1);
    assert_string_equal(hints[0],
        "What std::vector<>::_M_realloc_insert<>() (vector.tcc:440) keeps has been growing "
        "all along: 79.0 MiB are live, 1.7 GiB more each minute.");
    made.list[0].age_ns_median = made.list[0].age_ns_most;  // all of it is old
    assert_int_equal(tp_hints_build(hints, &made.profile, &made.who), 0);
    made_close(&made);
}

static void blocks_that_hardly_live_name_their_site(void **state)
{
    (void)state;
    made_program(&made);
    made_open(&made);
    made.profile.totals.live_bytes = 0;
    assert_int_equal(tp_hints_build(hints, &made.profile, &made.who), 1);
    assert_string_equal(hints[0],
        "35 % of all allocations are of xmalloc (xmalloc.c:7) and are freed before their "
        "thread allocates again: a buffer that is kept would do.");
    made.profile.totals.allocations = 10000000;  // a few among many
    assert_int_equal(tp_hints_build(hints, &made.profile, NULL), 0);
    made_close(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_said_of_a_quiet_profile),
        cmocka_unit_test(an_inert_library_is_said_first),
        cmocka_unit_test(what_is_left_at_exit_names_its_class),
        cmocka_unit_test(reallocs_that_move_are_told),
        cmocka_unit_test(churn_is_told_by_its_rate),
        cmocka_unit_test(there_are_never_too_many),
        cmocka_unit_test(what_grows_is_named_with_its_pace),
        cmocka_unit_test(blocks_that_hardly_live_name_their_site),
    };
    return cmocka_run_group_tests_name("hints", tests, NULL, NULL);
}
