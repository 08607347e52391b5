/* SPDX-License-Identifier: MIT */
/*
 * test_records.c - who allocates is read when every record leads to where it says.
 */
#include "tests/unit/report/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct tp_error error;

/* What a test may spoil before it is written into a file. */
static struct content {
    struct tp_sampling_record sampling;
    struct tp_module_record modules[3];
    struct tp_node_record nodes[5];
    struct tp_site_record sites[4];
    struct tp_sample_record samples[3];
    struct tp_point_record points[4];
} content;

static int make_content(void **state)
{
    (void)state;
    memset(&content, 0, sizeof(content));
    content.sampling = (struct tp_sampling_record){ .mode = 1, .samples = 11 };
    for (unsigned i = 0; i < 2; i++)
        content.modules[i] =
            (struct tp_module_record){ .start = 4096, .end = 8192 + i };
    strcpy(content.modules[1].path, "/usr/lib/libleaf.so");
    content.nodes[1] = (struct tp_node_record){ .parent = 0, .module = 1, .offset = 7 };
    content.nodes[2] =
        (struct tp_node_record){ .parent = 1, .module = 2, .offset = 11 };
    content.nodes[3] =
        (struct tp_node_record){ .parent = 1, .module = 0, .offset = 13 };
    content.sites[1] = (struct tp_site_record){ .node = 2, .class = 2, .used = 1 };
    content.sites[1].taken =
        (struct tp_site_sums){ .samples = 5, .block_variance = 0.5 };
    content.sites[2] = (struct tp_site_record){ .node = 3, .class = 48, .used = 1 };
    content.samples[0] =
        (struct tp_sample_record){ .site = 1, .state = 1, .bytes = 112 };
    content.samples[1] =
        (struct tp_sample_record){ .site = 2, .state = 1, .bytes = 1009 };
    for (unsigned i = 0; i < 3; i++)
        content.points[i] = (struct tp_point_record){ .ticks = 100 + i, .frees = i };
    return 0;
}

/* How many records of each kind a file gets: a dump has no unused ones at the end. */
struct numbers {
    size_t modules, nodes, sites, samples, points;
};
static const struct numbers used = { 2, 4, 3, 2, 3 }, all = { 3, 5, 4, 3, 4 };

static void make_file(struct test_file *file, struct numbers n)
{
    struct tp_class_record classes[3];
    test_classes(classes);
    test_file_init(file, "sampled");
    test_file_add(file, TP_REGION_CLASSES, sizeof(classes[0]), 3, classes);
    test_file_add(
        file, TP_REGION_SAMPLING, sizeof(content.sampling), 1, &content.sampling);
    test_file_add(
        file, TP_REGION_TIMELINE, sizeof(content.points[0]), n.points, content.points);
    test_file_add(file, TP_REGION_SAMPLES, sizeof(content.samples[0]), n.samples,
        content.samples);
    test_file_add(
        file, TP_REGION_SITES, sizeof(content.sites[0]), n.sites, content.sites);
    test_file_add(
        file, TP_REGION_NODES, sizeof(content.nodes[0]), n.nodes, content.nodes);
    test_file_add(file, TP_REGION_MODULES, sizeof(content.modules[0]), n.modules,
        content.modules);
}

static bool parse(struct tp_recording *out, const struct test_file *file)
{
    error.text[0] = '\0';
    return tp_recording_parse(out, file->bytes, file->n_bytes, "x.tide", &error);
}

static void assert_content(const struct tp_dump *dump)
{
    assert_int_equal(dump->sampling.samples, 11);
    assert_int_equal(dump->n_modules, 2);
    assert_string_equal(dump->modules[1].path, "/usr/lib/libleaf.so");
    assert_int_equal(dump->n_nodes, 4);
    assert_int_equal(dump->nodes[2].parent, 1);
    assert_int_equal(dump->nodes[2].offset, 11);
    assert_int_equal(dump->n_sites, 3);
    assert_int_equal(dump->sites[1].taken.samples, 5);
    assert_int_equal(dump->sites[2].class, TP_FORMAT_LARGE);
    assert_int_equal(dump->n_samples, 2);
    assert_int_equal(dump->samples[1].bytes, 1009);
    assert_int_equal(dump->n_points, 3);
    assert_int_equal(dump->points[2].ticks, 102);
}

static void records_are_read_in_any_order_of_rows(void **state)
{
    (void)state;
    struct test_file file;
    struct tp_recording recording;
    make_file(&file, used);
    assert_true(parse(&recording, &file));
    assert_content(&recording.dumps[0]);
    tp_recording_fini(&recording);
    test_file_fini(&file);
}

static void a_dump_without_them_has_none(void **state)
{
    (void)state;
    struct test_file file;
    struct tp_recording recording;
    test_file_full(&file);
    assert_true(parse(&recording, &file));
    const struct tp_dump *dump = &recording.dumps[0];
    assert_int_equal(dump->sampling.mode, TP_SAMPLING_OFF);
    assert_true(!dump->modules && !dump->nodes && !dump->sites && !dump->points);
    tp_recording_fini(&recording);
    test_file_fini(&file);
}

/*
 * Pieces of a live file: each kind in several rows, with others between, in memory that
 * has room for more.
 */
static void pieces_of_a_table_go_on_where_the_last_ended(void **state)
{
    (void)state;
    struct test_file file;
    struct tp_recording recording;
    struct tp_class_record classes[3];
    test_classes(classes);
    test_file_init(&file, "pieces");
    test_file_header(&file)->state = TP_FILE_LIVE;
    test_file_add(&file, TP_REGION_CLASSES, sizeof(classes[0]), 3, classes);
    test_file_add(
        &file, TP_REGION_SAMPLING, sizeof(content.sampling), 1, &content.sampling);
    for (unsigned i = 0; i < 4; i++) {
        test_file_add(
            &file, TP_REGION_SITES, sizeof(content.sites[0]), 1, &content.sites[i]);
        test_file_add(
            &file, TP_REGION_NODES, sizeof(content.nodes[0]), 1, &content.nodes[i]);
    }
    test_file_add(
        &file, TP_REGION_NODES, sizeof(content.nodes[0]), 1, content.nodes + 4);
    test_file_add(
        &file, TP_REGION_MODULES, sizeof(content.modules[0]), 3, content.modules);
    test_file_add(
        &file, TP_REGION_SAMPLES, sizeof(content.samples[0]), 3, content.samples);
    test_file_add(
        &file, TP_REGION_TIMELINE, sizeof(content.points[0]), 4, content.points);
    assert_true(parse(&recording, &file));
    assert_content(&recording.dumps[0]);
    tp_recording_fini(&recording);
    test_file_fini(&file);
}

static void as_source(struct tp_source *out, const struct test_file *file)
{
    char path[] = "/tmp/tidepool-test.XXXXXX";
    *out =
        (struct tp_source){ .fd = mkstemp(path), .path = strdup("live"), .gone = true };
    assert_true(out->fd >= 0);
    unlink(path);
    assert_int_equal(
        write(out->fd, file->bytes, file->n_bytes), (ssize_t)file->n_bytes);
}

/* Freezes the live file with the content as it is, and reads what comes out. */
static void freeze(struct tp_recording *out, struct tp_image *image)
{
    struct test_file file;
    struct tp_source source;
    make_file(&file, all);
    test_file_header(&file)->state = TP_FILE_LIVE;
    as_source(&source, &file);
    assert_true(tp_image_freeze(image, &source, &error));
    if (!tp_recording_parse(out, image->bytes, image->n_bytes, "frozen", &error))
        fail_msg("%s", error.text);
    assert_int_equal(out->dumps[0].header.state, TP_FILE_DUMP);
    tp_source_close(&source);
    test_file_fini(&file);
}

static void freezing_keeps_who_allocates(void **state)
{
    (void)state;
    struct tp_recording recording;
    struct tp_image image;
    freeze(&recording, &image);
    assert_content(&recording.dumps[0]);
    assert_true(image.n_bytes < 4096);
    tp_recording_fini(&recording);
    tp_image_fini(&image);
}

/* Each spoils one thing: a dump with it is damaged, a live file has one record less. */
static void long_build_id(void)
{
    content.modules[1].build_id_bytes = TP_FORMAT_BUILD_ID + 1;
}
static void module_inside_out(void)
{
    content.modules[1].start = content.modules[1].end + 1;
}
static void parent_is_itself(void)
{
    content.nodes[2].parent = 2;
}
static void parent_comes_later(void)
{
    content.nodes[2].parent = 3;
}
static void parent_is_nowhere(void)
{
    content.nodes[2].parent = UINT32_MAX;
}
static void module_is_nowhere(void)
{
    content.nodes[2].module = 4;
}
static void root_has_a_module(void)
{
    content.nodes[0].module = 1;
}
static void node_is_nowhere(void)
{
    content.sites[1].node = 5;
}
static void no_such_class(void)
{
    content.sites[1].class = 3;  // there are three
}
static void class_above_large(void)
{
    content.sites[1].class = TP_FORMAT_CLASSES;
}
static void half_a_site(void)
{
    content.sites[1].used = 2;
}
static void site_zero(void)
{
    content.sites[0] = content.sites[1];
}
static void not_a_number(void)
{
    content.sites[1].taken.block_variance = NAN;
}
static void no_end(void)
{
    content.sites[1].freed.byte_variance = INFINITY;
}
static void less_than_nothing(void)
{
    content.sites[1].peak_block_variance = -1;
}
static void peak_is_no_number(void)
{
    content.sites[1].peak_byte_variance = -NAN;
}
static void site_is_nowhere(void)
{
    content.samples[1].site = 4;
}
static void site_is_not_used(void)
{
    content.samples[1].site = 0;
}
static void sample_is_not_alive(void)
{
    content.samples[1].state = 0;
}
static void point_is_no_later(void)
{
    content.points[2].ticks = content.points[1].ticks;
}
static void point_is_half_written(void)
{
    content.points[1].ticks = 0;
}

static void (*const spoilt[])(void) = { long_build_id, module_inside_out,
    parent_is_itself, parent_comes_later, parent_is_nowhere, module_is_nowhere,
    root_has_a_module, node_is_nowhere, no_such_class, class_above_large, half_a_site,
    site_zero, not_a_number, no_end, less_than_nothing, peak_is_no_number,
    site_is_nowhere, site_is_not_used, sample_is_not_alive, point_is_no_later,
    point_is_half_written };
enum { SPOILT = sizeof(spoilt) / sizeof(spoilt[0]) };

static void a_record_that_leads_nowhere_is_damage_in_a_dump(void **state)
{
    for (size_t i = 0; i < SPOILT; i++) {
        struct test_file file;
        struct tp_recording recording;
        make_content(state);
        spoilt[i]();
        make_file(&file, used);
        if (parse(&recording, &file)) fail_msg("no. %zu is read", i);
        assert_non_null(strstr(error.text, "cannot read x.tide: damaged: "));
        test_file_fini(&file);
    }
}

/* What holds of every dump that was read, whatever its file said. */
static void assert_sound(const struct tp_dump *dump)
{
    for (size_t i = 0; i < dump->n_nodes; i++)
        assert_true((i == 0 || dump->nodes[i].parent < i) &&
            dump->nodes[i].module <= dump->n_modules);
    for (size_t i = 0; i < dump->n_sites; i++)
        assert_true(dump->sites[i].used <= 1 && dump->sites[i].node < dump->n_nodes);
    for (size_t i = 0; i < dump->n_samples; i++)
        assert_true(dump->sites[dump->samples[i].site].used);
    for (size_t i = 1; i < dump->n_points; i++)
        assert_true(dump->points[i].ticks > dump->points[i - 1].ticks);
}

static void in_a_live_file_it_is_left_out(void **state)
{
    for (size_t i = 0; i < SPOILT; i++) {
        struct tp_recording recording;
        struct tp_image image;
        make_content(state);
        spoilt[i]();
        freeze(&recording, &image);
        const struct tp_dump *dump = &recording.dumps[0];
        assert_sound(dump);
        // The others stay: nothing but the spoilt one and what refers to it is missing.
        assert_true(dump->n_sites == 3 && dump->sites[2].used);
        assert_true(dump->n_points >= 2 && dump->n_samples >= 1);
        tp_recording_fini(&recording);
        tp_image_fini(&image);
    }
}

static void further_values_of_an_enumeration_are_no_damage(void **state)
{
    (void)state;
    struct test_file file;
    struct tp_recording recording;
    content.sampling.mode = 7;
    content.sites[1].end = 1009;
    make_file(&file, used);
    assert_true(parse(&recording, &file));
    assert_int_equal(recording.dumps[0].sampling.mode, TP_SAMPLING_SAMPLED);
    assert_int_equal(recording.dumps[0].sites[1].end, TP_STACK_NO_RULE);
    tp_recording_fini(&recording);
    test_file_fini(&file);
}

/* As a kill leaves it: points that have become one stand before their parts. */
static void timeline_in_the_middle_of_a_merge_is_whole(void **state)
{
    (void)state;
    static const uint64_t ticks[4] = { 1, 3, 3, 4 };  // 0, 1+2, then the rest as it was
    struct tp_recording recording;
    struct tp_image image;
    for (unsigned i = 0; i < 4; i++) content.points[i].ticks = ticks[i];
    freeze(&recording, &image);
    assert_int_equal(recording.dumps[0].n_points, 3);
    assert_int_equal(recording.dumps[0].points[1].ticks, 3);
    assert_int_equal(recording.dumps[0].points[2].ticks, 4);
    tp_recording_fini(&recording);
    tp_image_fini(&image);
}

/* Rows as small as can be do not make the reader copy all that it has for each. */
static void many_small_rows_are_read_in_linear_time(void **state)
{
    (void)state;
    enum { ROWS = 200000 };
    struct test_file file;
    struct tp_recording recording;
    size_t head = sizeof(struct tp_file_header) + ROWS * sizeof(struct tp_region);
    struct tp_process_record process = { .pid = 7 };
    file.n_bytes = head + sizeof(process) + ROWS * sizeof(struct tp_node_record);
    file.bytes = calloc(1, file.n_bytes);
    assert_non_null(file.bytes);
    *test_file_header(&file) = (struct tp_file_header){ .version = TP_FORMAT_VERSION,
        .header_bytes = sizeof(struct tp_file_header),
        .row_bytes = sizeof(struct tp_region),
        .state = TP_FILE_DUMP,
        .n_regions = ROWS,
        .total_bytes = file.n_bytes };
    memcpy(file.bytes, TP_FORMAT_MAGIC, 8);
    memcpy(file.bytes + head, &process, sizeof(process));
    *test_file_row(&file, 0) = (struct tp_region){
        .kind = TP_REGION_PROCESS, .record_bytes = sizeof(process), 1, head, 0
    };
    size_t at = head + sizeof(process);
    for (uint32_t i = 1; i < ROWS; i++, at += sizeof(struct tp_node_record)) {
        struct tp_node_record node = { .parent = i > 1 ? i - 2 : 0, .offset = i };
        if (i > 1) memcpy(file.bytes + at, &node, sizeof(node));
        *test_file_row(&file, i) = (struct tp_region){
            .kind = TP_REGION_NODES, .record_bytes = sizeof(node), 1, at, 0
        };
    }
    assert_true(parse(&recording, &file));
    assert_int_equal(recording.dumps[0].n_nodes, ROWS - 1);
    assert_int_equal(recording.dumps[0].nodes[ROWS - 2].parent, ROWS - 3);
    tp_recording_fini(&recording);
    test_file_fini(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(records_are_read_in_any_order_of_rows, make_content),
        cmocka_unit_test_setup(a_dump_without_them_has_none, make_content),
        cmocka_unit_test_setup(
            pieces_of_a_table_go_on_where_the_last_ended, make_content),
        cmocka_unit_test_setup(freezing_keeps_who_allocates, make_content),
        cmocka_unit_test_setup(
            a_record_that_leads_nowhere_is_damage_in_a_dump, make_content),
        cmocka_unit_test_setup(in_a_live_file_it_is_left_out, make_content),
        cmocka_unit_test_setup(
            further_values_of_an_enumeration_are_no_damage, make_content),
        cmocka_unit_test_setup(
            timeline_in_the_middle_of_a_merge_is_whole, make_content),
        cmocka_unit_test_setup(many_small_rows_are_read_in_linear_time, make_content),
    };
    return cmocka_run_group_tests_name("records", tests, NULL, NULL);
}
