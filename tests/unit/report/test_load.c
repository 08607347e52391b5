/* SPDX-License-Identifier: MIT */
/*
 * test_load.c - whole recordings are read, everything else is an ordinary error.
 */
#include "tests/unit/report/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct tp_error error;

static bool parse(struct tp_recording *out, const struct test_file *file)
{
    error.text[0] = '\0';
    return tp_recording_parse(out, file->bytes, file->n_bytes, "x.tide", &error);
}

/* Expects that the file is refused with a message that ends in `what`. */
static void refused(struct test_file *file, const char *what)
{
    struct tp_recording recording;
    assert_false(parse(&recording, file));
    const char *end = error.text + strlen(error.text) - strlen(what);
    assert_true(end >= error.text);
    assert_string_equal(end, what);
    test_file_fini(file);
}

static void a_whole_dump_is_read(void **state)
{
    (void)state;
    struct test_file file;
    struct tp_recording recording;
    test_file_full(&file);
    assert_true(parse(&recording, &file));
    assert_int_equal(recording.n_dumps, 1);
    const struct tp_dump *dump = &recording.dumps[0];
    assert_string_equal(dump->process.name, "full");
    assert_string_equal(dump->exe, "/bin/full");
    assert_int_equal(dump->n_command_bytes, 8);
    assert_int_equal(dump->n_classes, 3);
    assert_int_equal(dump->n_slots, 2);
    assert_int_equal(dump->slots[1].taken[2].allocations, 211);
    assert_int_equal(dump->n_ended, 1);
    assert_int_equal(dump->n_latency, 1);
    tp_recording_fini(&recording);
    test_file_fini(&file);
}

static void dumps_one_after_another_are_all_read(void **state)
{
    (void)state;
    struct test_file file;
    struct tp_recording recording;
    test_file_full(&file);
    size_t n = file.n_bytes;
    file.bytes = realloc(file.bytes, 3 * n);
    memcpy(file.bytes + n, file.bytes, n);
    memcpy(file.bytes + 2 * n, file.bytes, n);
    file.n_bytes = 3 * n;
    assert_true(parse(&recording, &file));
    assert_int_equal(recording.n_dumps, 3);
    assert_int_equal(recording.dumps[2].slots[0].taken[1].allocations, 101);
    tp_recording_fini(&recording);
    test_file_fini(&file);
}

static void an_empty_file_is_refused(void **state)
{
    (void)state;
    struct test_file file = { 0 };
    refused(&file, "it is empty");
}

static void another_kind_of_file_is_called_so(void **state)
{
    (void)state;
    struct test_file file;
    test_file_full(&file);
    file.bytes[0] = 't';
    refused(&file, "not a Tidepool recording");
}

static void a_newer_version_is_refused(void **state)
{
    (void)state;
    struct test_file file;
    test_file_full(&file);
    test_file_header(&file)->version = 2;
    refused(&file, "format version 2, this tool reads 1");
}

static void a_cut_file_says_where_it_ends(void **state)
{
    (void)state;
    struct test_file file;
    test_file_full(&file);
    file.n_bytes = 3001;
    refused(&file, "cannot read x.tide: truncated at byte 3001");
}

static void rubbish_after_a_dump_is_refused(void **state)
{
    (void)state;
    struct test_file file;
    test_file_full(&file);
    test_file_header(&file)->total_bytes = file.n_bytes;
    size_t n = file.n_bytes;
    file.bytes = realloc(file.bytes, n + 200);
    memset(file.bytes + n, 'x', 200);
    file.n_bytes = n + 200;
    char what[80];
    snprintf(what, sizeof(what), "no dump begins here (dump at byte %zu)", n);
    refused(&file, what);
}

static void a_region_outside_the_dump_is_damage(void **state)
{
    (void)state;
    struct test_file file;
    test_file_full(&file);
    test_file_row(&file, 3)->offset += 1 << 20;
    refused(&file, "a region lies outside (dump at byte 0)");
}

static void a_count_that_overflows_is_damage(void **state)
{
    (void)state;
    struct test_file file;
    test_file_full(&file);
    test_file_row(&file, 5)->count = UINT64_MAX / 2048 + 2;
    refused(&file, "a region lies outside (dump at byte 0)");
}

static void overlapping_rows_cannot_claim_more_than_the_file(void **state)
{
    (void)state;
    struct test_file file;
    test_file_full(&file);
    struct tp_region slots = *test_file_row(&file, 5);
    for (uint32_t i = 8; i < TEST_ROWS; i++) *test_file_row(&file, i) = slots;
    test_file_header(&file)->n_regions = TEST_ROWS;
    refused(&file, "a region lies outside (dump at byte 0)");
}

static void a_dump_of_no_process_is_damage(void **state)
{
    (void)state;
    struct test_file file;
    test_file_full(&file);
    test_file_row(&file, 0)->kind = 1000;
    refused(&file, "it names no process (dump at byte 0)");
}

static void a_short_record_is_damage(void **state)
{
    (void)state;
    struct test_file file;
    test_file_full(&file);
    test_file_row(&file, 5)->record_bytes = 1024;
    refused(&file, "a record is too short (dump at byte 0)");
}

static void unknown_kinds_are_skipped(void **state)
{
    (void)state;
    struct test_file file;
    struct tp_recording recording;
    test_file_full(&file);
    test_file_add(&file, 4242, 24, 1, "nothing that we can know");
    assert_true(parse(&recording, &file));
    assert_int_equal(recording.dumps[0].n_slots, 2);
    tp_recording_fini(&recording);
    test_file_fini(&file);
}

static void longer_records_are_read_by_the_part_we_know(void **state)
{
    (void)state;
    struct {
        struct tp_ended_record known;
        uint64_t newer[2];
    } records[2] = { { .known = { .tid = 11 } }, { .known = { .tid = 13 } } };
    struct test_file file;
    struct tp_recording recording;
    test_file_init(&file, "newer");
    test_file_add(&file, TP_REGION_ENDED, sizeof(records[0]), 2, records);
    assert_true(parse(&recording, &file));
    assert_int_equal(recording.dumps[0].n_ended, 2);
    assert_int_equal(recording.dumps[0].ended[1].tid, 13);
    tp_recording_fini(&recording);
    test_file_fini(&file);
}

static void latencies_may_lack_buckets_at_the_end(void **state)
{
    (void)state;
    enum { SHORT = offsetof(struct tp_latency_record, buckets) + 3 * 8 };
    struct tp_latency_record full = { .name = "refill", .count = 7, .max_ticks = 2 };
    unsigned char records[2 * SHORT];
    struct test_file file;
    struct tp_recording recording;
    full.buckets[2] = 7;
    memcpy(records, &full, SHORT);
    full.count = 5;
    memcpy(records + SHORT, &full, SHORT);
    test_file_init(&file, "short");
    test_file_add(&file, TP_REGION_LATENCY, SHORT, 2, records);
    assert_true(parse(&recording, &file));
    const struct tp_dump *dump = &recording.dumps[0];
    assert_int_equal(dump->n_latency, 2);
    assert_int_equal(dump->latency[1].count, 5);
    assert_int_equal(dump->latency[1].buckets[2], 7);
    for (int b = 3; b < TP_FORMAT_BUCKETS; b++)
        assert_int_equal(dump->latency[0].buckets[b] + dump->latency[1].buckets[b], 0);
    tp_recording_fini(&recording);
    test_file_row(&file, 1)->record_bytes = 56;  // not even its fixed part
    refused(&file, "a record is too short (dump at byte 0)");
}

static void slots_in_several_pieces_are_added_up(void **state)
{
    (void)state;
    struct tp_thread_slot slots[3] = { { .tid = 3 }, { .tid = 5 }, { .tid = 7 } };
    struct test_file file;
    struct tp_recording recording;
    test_file_init(&file, "pieces");
    test_file_add(&file, TP_REGION_THREADS, sizeof(slots[0]), 1, slots);
    test_file_add(&file, TP_REGION_THREADS, sizeof(slots[0]), 2, slots + 1);
    assert_true(parse(&recording, &file));
    assert_int_equal(recording.dumps[0].n_slots, 3);
    assert_int_equal(recording.dumps[0].slots[2].tid, 7);
    tp_recording_fini(&recording);
    test_file_fini(&file);
}

static void names_without_an_end_are_ended(void **state)
{
    (void)state;
    struct tp_thread_slot slot = { .state = TP_SLOT_RUNNING, .tid = 3 };
    struct test_file file;
    struct tp_recording recording;
    memset(slot.name, 'n', sizeof(slot.name));
    test_file_init(&file, "names");
    test_file_add(&file, TP_REGION_THREADS, sizeof(slot), 1, &slot);
    assert_true(parse(&recording, &file));
    assert_int_equal(strlen(recording.dumps[0].slots[0].name), TP_FORMAT_NAME - 1);
    tp_recording_fini(&recording);
    test_file_fini(&file);
}

/* ---- live files ---------------------------------------------------------------------- */

/* Puts the bytes into a nameless file. */
static void as_source(struct tp_source *out, const struct test_file *file)
{
    char path[] = "/tmp/test_load.XXXXXX";
    memset(out, 0, sizeof(*out));
    out->fd = mkstemp(path);
    assert_true(out->fd >= 0);
    unlink(path);
    assert_int_equal(write(out->fd, file->bytes, file->n_bytes), file->n_bytes);
    out->path = strdup("live");
}

static void make_live(struct test_file *file)
{
    test_file_full(file);
    test_file_header(file)->state = TP_FILE_LIVE;
    test_file_header(file)->reason = 0;
}

static void a_live_file_without_its_process_is_an_orphan(void **state)
{
    (void)state;
    struct test_file file;
    struct tp_source source;
    struct tp_recording recording;
    make_live(&file);
    as_source(&source, &file);
    assert_true(tp_recording_load(&recording, &source, &error));
    assert_false(recording.dumps[0].running);
    tp_recording_fini(&recording);
    tp_source_close(&source);
    test_file_fini(&file);
}

static void a_live_file_of_a_running_process_gets_its_memory(void **state)
{
    (void)state;
    struct test_file file;
    struct tp_source source;
    struct tp_recording recording;
    struct tp_process_now now;
    make_live(&file);
    struct tp_process_record *process =
        (void *)(file.bytes + test_file_row(&file, 0)->offset);
    process->pid = (uint32_t)getpid();
    tp_process_now_read(&now, process->pid);
    process->start_jiffies = now.start_jiffies;
    as_source(&source, &file);
    assert_true(tp_recording_load(&recording, &source, &error));
    assert_true(recording.dumps[0].running);
    assert_true(recording.dumps[0].rss_bytes > 4096);
    assert_true(recording.dumps[0].rss_peak_bytes >= recording.dumps[0].rss_bytes);
    tp_recording_fini(&recording);
    tp_source_close(&source);
    test_file_fini(&file);
}

static void freezing_leaves_out_what_was_never_used(void **state)
{
    (void)state;
    static const struct tp_thread_slot unused[31];
    struct test_file file;
    struct tp_source source;
    struct tp_image image;
    struct tp_recording recording;
    make_live(&file);
    test_file_add(&file, TP_REGION_THREADS, sizeof(unused[0]), 31, unused);
    test_file_add(&file, 4242, 8, 1, "unknown");
    as_source(&source, &file);
    assert_true(tp_image_freeze(&image, &source, &error));
    assert_true(image.n_bytes + 31 * sizeof(unused[0]) <= file.n_bytes);
    assert_true(
        tp_recording_parse(&recording, image.bytes, image.n_bytes, "f", &error));
    const struct tp_dump *dump = &recording.dumps[0];
    assert_int_equal(dump->header.state, TP_FILE_DUMP);
    assert_int_equal(dump->header.reason, TP_REASON_KILLED);
    assert_int_equal(dump->n_slots, 2);
    assert_int_equal(dump->slots[1].taken[2].allocations, 211);
    assert_int_equal(dump->header.n_regions, 10);
    tp_recording_fini(&recording);
    tp_image_fini(&image);
    tp_source_close(&source);
    test_file_fini(&file);
}

static void the_hole_behind_a_live_file_is_not_read(void **state)
{
    (void)state;
    struct test_file file;
    struct tp_source source;
    struct tp_image image;
    struct tp_recording recording;
    make_live(&file);
    test_file_header(&file)->reason = TP_REASON_EXIT;
    as_source(&source, &file);
    // More than a reader would ever allocate.
    assert_int_equal(ftruncate(source.fd, (off_t)1 << 40), 0);
    assert_true(tp_recording_load(&recording, &source, &error));
    assert_int_equal(recording.n_dumps, 1);
    assert_int_equal(recording.dumps[0].n_slots, 2);
    tp_recording_fini(&recording);
    assert_true(tp_image_freeze(&image, &source, &error));
    assert_true(image.n_bytes <= file.n_bytes);
    assert_true(
        tp_recording_parse(&recording, image.bytes, image.n_bytes, "f", &error));
    assert_int_equal(recording.dumps[0].header.reason, TP_REASON_EXIT);
    tp_recording_fini(&recording);
    tp_image_fini(&image);
    tp_source_close(&source);
    test_file_fini(&file);
}

static void freezing_leaves_out_latencies_that_were_never_used(void **state)
{
    (void)state;
    static struct tp_latency_record latencies[36];
    struct test_file file;
    struct tp_source source;
    struct tp_image image;
    struct tp_recording recording;
    memset(latencies, 0, sizeof(latencies));
    memcpy(latencies[5].name, "purge", 5);
    memcpy(latencies[6].name, "named only", 10);
    latencies[5].count = latencies[5].buckets[11] = 3;
    make_live(&file);
    test_file_row(&file, 7)->kind = 1000;
    test_file_add(&file, TP_REGION_LATENCY, sizeof(latencies[0]), 36, latencies);
    as_source(&source, &file);
    assert_true(tp_image_freeze(&image, &source, &error));
    assert_true(image.n_bytes + 35 * sizeof(latencies[0]) < file.n_bytes);
    assert_true(
        tp_recording_parse(&recording, image.bytes, image.n_bytes, "f", &error));
    const struct tp_dump *dump = &recording.dumps[0];
    assert_int_equal(dump->n_latency, 1);
    assert_string_equal(dump->latency[0].name, "purge");
    assert_int_equal(dump->latency[0].buckets[11], 3);
    assert_int_equal(dump->latency[0].buckets[12], 0);
    tp_recording_fini(&recording);
    tp_image_fini(&image);
    tp_source_close(&source);
    test_file_fini(&file);
}

/* As a process leaves it that was killed while it folded slots 5 and 6 into 31. */
static void make_folding(struct test_file *file)
{
    static struct tp_thread_slot slots[38];  // those from 2 on
    static struct tp_ended_record ended[3];
    memset(slots, 0, sizeof(slots));
    for (unsigned i = 0; i < 38; i++) slots[i].state = TP_SLOT_PARKED;
    slots[5 - 2].taken[0].allocations = 1000;
    slots[6 - 2].taken[0].allocations = 2000;
    slots[30 - 2] = (struct tp_thread_slot){ .state = TP_SLOT_FOLDED };
    slots[30 - 2].taken[0].allocations = 4000;
    slots[31 - 2] = slots[30 - 2];
    slots[31 - 2].taken[0].allocations = 7000;
    slots[7 - 2] = (struct tp_thread_slot){ .state = TP_SLOT_RUNNING, .epoch = 2 };
    slots[7 - 2].taken[0].allocations = 13;
    ended[0] = (struct tp_ended_record){ .slot = 5, .tid = 4, .epoch = 3 };
    ended[1] = (struct tp_ended_record){ .slot = 7, .tid = 5, .epoch = 2 };
    ended[2] = (struct tp_ended_record){ .slot = 7, .tid = 6, .epoch = 1 };
    make_live(file);
    test_file_add(file, TP_REGION_THREADS, sizeof(slots[0]), 38, slots);
    test_file_add(file, TP_REGION_ENDED, sizeof(ended[0]), 3, ended);
    struct tp_totals_record *totals =
        (void *)(file->bytes + test_file_row(file, 4)->offset);
    totals->folded = (uint64_t)9 << 32 | 2 << 16 | 5;
}

static uint64_t allocations(const struct tp_dump *dump)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < dump->n_slots; i++)
        sum += dump->slots[i].taken[0].allocations;
    return sum;
}

static unsigned ended_that_count(const struct tp_dump *dump)
{
    unsigned n = 0;
    for (size_t i = 0; i < dump->n_ended; i++)
        n += tp_ended_counts(dump, &dump->ended[i]);
    return n;
}

static void folded_slots_of_a_live_file_count_once(void **state)
{
    (void)state;
    struct test_file file;
    struct tp_source source;
    struct tp_image image;
    struct tp_recording recording;
    make_folding(&file);
    as_source(&source, &file);
    assert_true(tp_recording_load(&recording, &source, &error));
    assert_int_equal(allocations(&recording.dumps[0]), 7013);
    assert_int_equal(ended_that_count(&recording.dumps[0]), 3);
    tp_recording_fini(&recording);

    assert_true(tp_image_freeze(&image, &source, &error));
    assert_true(
        tp_recording_parse(&recording, image.bytes, image.n_bytes, "f", &error));
    assert_int_equal(allocations(&recording.dumps[0]), 7013);
    assert_int_equal(recording.dumps[0].n_ended, 3);
    assert_int_equal(ended_that_count(&recording.dumps[0]), 3);
    tp_recording_fini(&recording);
    tp_image_fini(&image);
    tp_source_close(&source);

    assert_true(parse(&recording, &file));
    assert_int_equal(allocations(&recording.dumps[0]), 7013);
    tp_recording_fini(&recording);
    test_file_fini(&file);
}

static void slots_beyond_what_was_copied_wait_for_the_next_time(void **state)
{
    (void)state;
    struct test_file file;
    struct tp_source source;
    struct tp_recording recording;
    make_folding(&file);
    test_file_row(&file, 8)->count += 1000;
    test_file_row(&file, 9)->count = 0;
    as_source(&source, &file);
    assert_true(tp_recording_load(&recording, &source, &error));
    assert_int_equal(allocations(&recording.dumps[0]), 7013);
    tp_recording_fini(&recording);
    tp_source_close(&source);
    test_file_fini(&file);
}

static void a_row_that_grows_now_is_left_out_of_a_live_file(void **state)
{
    (void)state;
    struct test_file file;
    struct tp_source source;
    struct tp_recording recording;
    make_live(&file);
    test_file_row(&file, 7)->offset = file.n_bytes + 4096;
    as_source(&source, &file);
    assert_true(tp_recording_load(&recording, &source, &error));
    assert_int_equal(recording.dumps[0].n_latency, 0);
    assert_int_equal(recording.dumps[0].n_slots, 2);
    tp_recording_fini(&recording);
    tp_source_close(&source);
    test_file_fini(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_dump_is_read),
        cmocka_unit_test(dumps_one_after_another_are_all_read),
        cmocka_unit_test(an_empty_file_is_refused),
        cmocka_unit_test(another_kind_of_file_is_called_so),
        cmocka_unit_test(a_newer_version_is_refused),
        cmocka_unit_test(a_cut_file_says_where_it_ends),
        cmocka_unit_test(rubbish_after_a_dump_is_refused),
        cmocka_unit_test(a_region_outside_the_dump_is_damage),
        cmocka_unit_test(a_count_that_overflows_is_damage),
        cmocka_unit_test(overlapping_rows_cannot_claim_more_than_the_file),
        cmocka_unit_test(a_dump_of_no_process_is_damage),
        cmocka_unit_test(a_short_record_is_damage),
        cmocka_unit_test(unknown_kinds_are_skipped),
        cmocka_unit_test(longer_records_are_read_by_the_part_we_know),
        cmocka_unit_test(latencies_may_lack_buckets_at_the_end),
        cmocka_unit_test(slots_in_several_pieces_are_added_up),
        cmocka_unit_test(names_without_an_end_are_ended),
        cmocka_unit_test(a_live_file_without_its_process_is_an_orphan),
        cmocka_unit_test(a_live_file_of_a_running_process_gets_its_memory),
        cmocka_unit_test(freezing_leaves_out_what_was_never_used),
        cmocka_unit_test(the_hole_behind_a_live_file_is_not_read),
        cmocka_unit_test(freezing_leaves_out_latencies_that_were_never_used),
        cmocka_unit_test(folded_slots_of_a_live_file_count_once),
        cmocka_unit_test(slots_beyond_what_was_copied_wait_for_the_next_time),
        cmocka_unit_test(a_row_that_grows_now_is_left_out_of_a_live_file),
    };
    return cmocka_run_group_tests_name("load", tests, NULL, NULL);
}
