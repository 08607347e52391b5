/* SPDX-License-Identifier: MIT */
/*
 * test_model.c - every derived figure is what the format says it is.
 */
#include "tests/unit/report/test.h"

#include <string.h>

static struct tp_error error;

static void build(struct tp_profile *profile, const struct tp_dump *dump)
{
    assert_true(tp_profile_build(profile, dump, "x.tide", &error));
}

static void bytes_follow_from_counts_and_class_sizes(void **state)
{
    (void)state;
    struct tp_thread_slot slot = { .state = TP_SLOT_RUNNING, .tid = 3 };
    struct tp_dump dump;
    struct tp_profile profile;
    slot.taken[1] = (struct tp_taken){ 997, 997 * 43 };
    slot.frees[1] = 991;
    slot.taken[TP_FORMAT_LARGE] = (struct tp_taken){ 7, 7 * 300007 };
    slot.large_allocated_bytes = 7 * 303104;
    slot.large_freed_bytes = 303104;
    slot.frees[TP_FORMAT_LARGE] = 1;
    test_dump(&dump, &slot, 1);
    build(&profile, &dump);
    assert_int_equal(profile.totals.allocations, 1004);
    assert_int_equal(profile.totals.live_blocks, 12);
    assert_int_equal(profile.totals.requested_bytes, 997 * 43 + 7 * 300007);
    assert_int_equal(profile.totals.allocated_bytes, 997 * 48 + 7 * 303104);
    assert_int_equal(profile.totals.live_bytes, 6 * 48 + 6 * 303104);
    assert_int_equal(profile.classes[1].live_bytes, 6 * 48);
    assert_int_equal(profile.large.live_blocks, 6);
    tp_profile_fini(&profile);
}

static void calls_of_malloc_and_free_are_what_the_others_leave(void **state)
{
    (void)state;
    struct tp_thread_slot slot = { .state = TP_SLOT_RUNNING, .tid = 3 };
    struct tp_dump dump;
    struct tp_profile profile;
    // 101 mallocs of which 2 failed, 23 callocs of which 3 failed, reallocs of all kinds.
    slot.calls[TP_ENTRY_CALLOC] = 23;
    slot.failed[TP_ENTRY_CALLOC] = 3;
    slot.failed[TP_ENTRY_MALLOC] = 2;
    slot.calls[TP_ENTRY_REALLOC] = 37;
    slot.realloc_in_place = 13;
    slot.realloc_moved = 11;
    slot.realloc_fresh = 7;
    slot.realloc_freed = 5;
    slot.taken[0].allocations = 99 + 20 + 11 + 7;
    slot.frees[0] = 83 + 11 + 5;
    test_dump(&dump, &slot, 1);
    build(&profile, &dump);
    assert_int_equal(profile.calls.entries[TP_ENTRY_MALLOC], 101);
    assert_int_equal(profile.calls.entries[TP_ENTRY_CALLOC], 23);
    assert_int_equal(profile.calls.entries[TP_ENTRY_REALLOC], 37);
    assert_int_equal(profile.calls.free, 83);
    assert_int_equal(profile.calls.failed, 5);
    tp_profile_fini(&profile);
}

/* ---- threads --------------------------------------------------------------------------- */

/* A slot in its second epoch: 11 allocations of the first thread, 31 of the second. */
static void second_epoch(struct tp_thread_slot *slot)
{
    memset(slot, 0, sizeof(*slot));
    slot->state = TP_SLOT_RUNNING;
    slot->tid = 5;
    slot->epoch = 1;
    slot->taken[0] = (struct tp_taken){ 42, 42 * 9 };
    slot->base[1] = (struct tp_thread_sums){
        .allocations = 11, .requested_bytes = 99, .allocated_bytes = 176
    };
    strcpy(slot->name, "second");
}

static void a_running_thread_has_what_it_did_itself(void **state)
{
    (void)state;
    struct tp_thread_slot slot;
    struct tp_dump dump;
    struct tp_profile profile;
    second_epoch(&slot);
    test_dump(&dump, &slot, 1);
    build(&profile, &dump);
    assert_int_equal(profile.n_threads, 2);
    assert_string_equal(profile.threads[0].name, "second");
    assert_int_equal(profile.threads[0].sums.allocations, 31);
    assert_string_equal(profile.threads[1].name, "(other ended threads)");
    assert_int_equal(profile.threads[1].tid, 0);
    assert_false(profile.threads[1].running);
    assert_int_equal(profile.threads[1].sums.allocations, 11);
    tp_profile_fini(&profile);
}

static void an_ended_thread_counts_once_its_epoch_has_passed(void **state)
{
    (void)state;
    struct tp_thread_slot slot;
    struct tp_ended_record ended[2] = { { .slot = 0, .tid = 3, .epoch = 0 },
        { .slot = 0, .tid = 9, .epoch = 1 } };
    struct tp_dump dump;
    struct tp_profile profile;
    second_epoch(&slot);
    test_dump(&dump, &slot, 1);
    ended[0].sums = slot.base[1];
    ended[1].sums.allocations = 1;  // half written: its thread still runs
    dump.ended = ended;
    dump.n_ended = 2;
    build(&profile, &dump);
    assert_int_equal(profile.n_threads, 2);
    assert_int_equal(profile.threads[1].tid, 3);
    assert_int_equal(profile.threads[1].sums.allocations, 11);
    tp_profile_fini(&profile);
}

static void a_record_that_does_not_fit_is_left_to_the_remainder(void **state)
{
    (void)state;
    struct tp_thread_slot slot;
    struct tp_ended_record ended[2] = { { .tid = 3 }, { .tid = 3 } };
    struct tp_dump dump;
    struct tp_profile profile;
    second_epoch(&slot);
    test_dump(&dump, &slot, 1);
    ended[0].sums.allocations = 7;
    ended[1].sums.allocations = 7;  // 14 of 11 cannot be
    dump.ended = ended;
    dump.n_ended = 2;
    build(&profile, &dump);
    assert_int_equal(profile.n_threads, 3);
    assert_int_equal(profile.threads[1].sums.allocations, 7);
    assert_int_equal(profile.threads[2].sums.allocations, 4);
    tp_profile_fini(&profile);
}

static void threads_without_a_slot_have_a_row_when_there_are_any(void **state)
{
    (void)state;
    struct tp_thread_slot slots[2] = { { .state = TP_SLOT_SHARED },
        { .state = TP_SLOT_RUNNING, .tid = 3 } };
    struct tp_dump dump;
    struct tp_profile profile;
    test_dump(&dump, slots, 2);
    build(&profile, &dump);
    assert_int_equal(profile.n_threads, 1);
    tp_profile_fini(&profile);

    slots[0].taken[0].allocations = 13;
    build(&profile, &dump);
    assert_int_equal(profile.n_threads, 2);
    assert_string_equal(profile.threads[0].name, "(threads without a slot)");
    assert_int_equal(profile.threads[0].sums.allocations, 13);
    tp_profile_fini(&profile);
}

/* ---- the peak --------------------------------------------------------------------------- */

static void one_thread_has_an_exact_peak(void **state)
{
    (void)state;
    struct tp_thread_slot slot = { .state = TP_SLOT_RUNNING, .tid = 3 };
    struct tp_dump dump;
    struct tp_profile profile;
    test_dump(&dump, &slot, 1);
    dump.totals.peak_single = 70001;
    dump.totals.peak_ticks = TEST_START_TICKS + 2000000000;
    build(&profile, &dump);
    assert_true(profile.totals.peak_exact);
    assert_int_equal(profile.totals.peak_bytes, 70001);
    assert_int_equal(profile.totals.peak_low, 70001);
    assert_int_equal(profile.totals.peak_high, 70001);
    assert_int_equal(profile.totals.peak_ns, 1000000000);
    tp_profile_fini(&profile);
}

static void an_open_epoch_raises_the_peak_of_one_thread(void **state)
{
    (void)state;
    struct tp_thread_slot slot = { .state = TP_SLOT_RUNNING, .tid = 3 };
    struct tp_dump dump;
    struct tp_profile profile;
    test_dump(&dump, &slot, 1);
    dump.totals.peak_single = 1009;
    dump.totals.net = 1000;
    slot.high = 500;
    slot.room = -207;  // the net since the flush is 707
    build(&profile, &dump);
    assert_true(profile.totals.peak_exact);
    assert_int_equal(profile.totals.peak_bytes, 1707);
    assert_int_equal(profile.totals.peak_ns, profile.duration_ns);
    tp_profile_fini(&profile);
}

static void several_threads_have_a_peak_within_bounds(void **state)
{
    (void)state;
    struct tp_thread_slot slots[2] = {
        { .state = TP_SLOT_RUNNING, .tid = 3, .high = 211 },
        { .state = TP_SLOT_RUNNING, .tid = 5, .room = -307 }
    };
    struct tp_dump dump;
    struct tp_profile profile;
    test_dump(&dump, slots, 2);
    dump.totals.net = 9000;
    dump.totals.peak_single = 401;
    dump.totals.peak_low = 8000;
    dump.totals.peak_high = 9100;
    dump.totals.peak_estimate = 8501;
    build(&profile, &dump);
    assert_false(profile.totals.peak_exact);
    assert_int_equal(profile.totals.peak_low, 8000);
    assert_int_equal(profile.totals.peak_bytes, 9307);
    assert_int_equal(profile.totals.peak_high, 9518);
    tp_profile_fini(&profile);
}

static void a_peak_from_before_the_other_threads_stays_exact(void **state)
{
    (void)state;
    struct tp_thread_slot slots[2] = { { .state = TP_SLOT_RUNNING, .tid = 3 },
        { .state = TP_SLOT_RUNNING, .tid = 5 } };
    struct tp_dump dump;
    struct tp_profile profile;
    test_dump(&dump, slots, 2);
    dump.totals.net = 100;
    dump.totals.peak_single = 100003;
    dump.totals.peak_high = 5003;
    dump.totals.peak_estimate = 100003;
    build(&profile, &dump);
    assert_true(profile.totals.peak_exact);
    assert_int_equal(profile.totals.peak_bytes, 100003);
    tp_profile_fini(&profile);
}

static void what_is_live_was_a_peak_at_least(void **state)
{
    (void)state;
    struct tp_thread_slot slot = { .state = TP_SLOT_RUNNING, .tid = 3 };
    struct tp_dump dump;
    struct tp_profile profile;
    test_dump(&dump, &slot, 1);
    slot.taken[2].allocations = 101;
    dump.totals.peak_single = 1009;
    build(&profile, &dump);
    assert_false(profile.totals.peak_exact);
    assert_int_equal(profile.totals.peak_bytes, 101 * 112);
    tp_profile_fini(&profile);
}

/* ---- the rest --------------------------------------------------------------------------- */

static void lost_counts_make_a_dump_incomplete(void **state)
{
    (void)state;
    struct tp_dump dump;
    struct tp_profile profile;
    test_dump(&dump, NULL, 0);
    dump.header.flags = TP_FILE_LOST_COUNTS;
    dump.totals.peak_single = 11;
    build(&profile, &dump);
    assert_false(profile.complete);
    assert_false(profile.totals.peak_exact);
    assert_int_equal(profile.n_coverage_reasons, 1);
    assert_string_equal(profile.coverage_reasons[0], "lost_counts");
    tp_profile_fini(&profile);
}

static void a_live_file_is_live_or_killed(void **state)
{
    (void)state;
    struct tp_dump dump;
    struct tp_profile profile;
    test_dump(&dump, NULL, 0);
    dump.header.state = TP_FILE_LIVE;
    build(&profile, &dump);
    assert_string_equal(profile.reason, "exit");  // its last word, from a sandbox
    tp_profile_fini(&profile);
    dump.header.reason = 0;
    build(&profile, &dump);
    assert_string_equal(profile.reason, "killed");
    assert_int_equal(profile.duration_ns, 3000000000);
    tp_profile_fini(&profile);
    dump.running = true;
    dump.now_ns = TEST_START_NS + 7000000000;
    build(&profile, &dump);
    assert_string_equal(profile.reason, "live");
    assert_int_equal(profile.duration_ns, 7000000000);
    tp_profile_fini(&profile);
}

static void counters_that_overflow_are_damage(void **state)
{
    (void)state;
    struct tp_thread_slot slot = { .state = TP_SLOT_RUNNING, .tid = 3 };
    struct tp_dump dump;
    struct tp_profile profile;
    test_dump(&dump, &slot, 1);
    slot.taken[2].allocations = UINT64_MAX / 100;
    assert_false(tp_profile_build(&profile, &dump, "x.tide", &error));
    assert_string_equal(
        error.text, "cannot read x.tide: damaged: the counters overflow");
}

static void blocks_of_a_class_without_a_size_are_damage(void **state)
{
    (void)state;
    struct tp_thread_slot slot = { .state = TP_SLOT_RUNNING, .tid = 3 };
    struct tp_dump dump;
    struct tp_profile profile;
    test_dump(&dump, &slot, 1);
    slot.taken[3].allocations = 1;
    assert_false(tp_profile_build(&profile, &dump, "x.tide", &error));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_follow_from_counts_and_class_sizes),
        cmocka_unit_test(calls_of_malloc_and_free_are_what_the_others_leave),
        cmocka_unit_test(a_running_thread_has_what_it_did_itself),
        cmocka_unit_test(an_ended_thread_counts_once_its_epoch_has_passed),
        cmocka_unit_test(a_record_that_does_not_fit_is_left_to_the_remainder),
        cmocka_unit_test(threads_without_a_slot_have_a_row_when_there_are_any),
        cmocka_unit_test(one_thread_has_an_exact_peak),
        cmocka_unit_test(an_open_epoch_raises_the_peak_of_one_thread),
        cmocka_unit_test(several_threads_have_a_peak_within_bounds),
        cmocka_unit_test(a_peak_from_before_the_other_threads_stays_exact),
        cmocka_unit_test(what_is_live_was_a_peak_at_least),
        cmocka_unit_test(lost_counts_make_a_dump_incomplete),
        cmocka_unit_test(a_live_file_is_live_or_killed),
        cmocka_unit_test(counters_that_overflow_are_damage),
        cmocka_unit_test(blocks_of_a_class_without_a_size_are_damage),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
