/* SPDX-License-Identifier: MIT */
/*
 * test_export.c - made-up call sites in the formats of other tools, byte for byte.
 *
 * The files are tests/golden/expected/made.*. With TIDEPOOL_UPDATE in the environment they
 * are written anew: read the difference before you keep it.
 */
#include "tests/unit/report/made_up.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report/export.h"

static struct made_up made;

struct asked {
    void (*write)(struct tp_writer *, const struct tp_export *);
    const struct tp_export *export;
};

static void write_asked(struct tp_writer *w, void *argument)
{
    const struct asked *asked = argument;
    asked->write(w, asked->export);
}

/* What the format makes of it, to be freed; the stacks have to be open. */
static char *exported(void (*write)(struct tp_writer *, const struct tp_export *))
{
    struct tp_export export = { .view = &made.view, .whos = &made.who, .n_whos = 1 };
    struct asked asked = { write, &export };
    return test_written(write_asked, &asked);
}

static void the_file_is(
    const char *end, void (*write)(struct tp_writer *, const struct tp_export *))
{
    char path[400];
    static char wanted[100000];
    snprintf(path, sizeof(path), "%s/made.%s", TEST_GOLDEN, end);
    made_open(&made);
    char *text = exported(write);
    if (getenv("TIDEPOOL_UPDATE")) test_write_file(path, text, strlen(text), 0644);
    memset(wanted, 0, sizeof(wanted));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_true(fread(wanted, 1, sizeof(wanted) - 1, file) > 0);
    fclose(file);
    assert_string_equal(text, wanted);
    free(text);
    made_close(&made);
}

static void each_format_has_its_file(void **state)
{
    (void)state;
    made_program(&made);
    the_file_is("folded", tp_folded_write);
    made_program(&made);
    made.view.figure = TP_FIGURE_TEMPORARY;
    the_file_is("temporary.folded", tp_folded_write);
    made_program(&made);
    made.view.full = true;
    the_file_is("full.folded", tp_folded_write);
    made_program(&made);
    the_file_is("csv", tp_csv_write);
    made_program(&made);
    made.view.full = true;
    the_file_is("full.csv", tp_csv_write);
}

static void contains(
    void (*write)(struct tp_writer *, const struct tp_export *), const char *wanted)
{
    char *text = exported(write);
    if (!strstr(text, wanted)) fail_msg("no '%s' in:\n%s", wanted, text);
    free(text);
}

static void names_are_what_the_format_can_hold(void **state)
{
    (void)state;
    made_init(&made);
    uint32_t outer = made_frame(&made, 0, 1, "a;b\nc", "", 0);
    uint32_t inner =
        made_frame(&made, outer, 1, "=HYPERLINK(\"x\")", "+cmd|' /c\xff", 7);
    made_site(&made, inner, 1009, 1, 0);
    made_open(&made);
    contains(tp_folded_write,
        "a,b\xef\xbf\xbd"
        "c;=HYPERLINK(\"x\") 1009\n");
    contains(tp_csv_write,
        "\"'=HYPERLINK(\"\"x\"\")\",\"'+cmd|' /c\xef\xbf\xbd\",7,\"app\",1009,");
    contains(tp_speedscope_write,
        "{\"name\": \"=HYPERLINK(\\\"x\\\")\", \"file\": \"+cmd|' /c\\ufffd\", "
        "\"line\": 7}");
    made_close(&made);
}

static void sums_of_equal_names_are_one_line(void **state)
{
    (void)state;
    made_init(&made);
    uint32_t outer = made_frame(&made, 0, 1, "main", "/src/a.c", 1);
    made_site(&made, made_frame(&made, outer, 1, "f", "/src/a.c", 2), 1009, 3, 0);
    made_site(&made, made_frame(&made, outer, 1, "f", "/src/a.c", 5), 2003, 5, 0);
    made_site(&made, 0, 17, 1, 0);
    made_open(&made);
    char *text = exported(tp_folded_write);
    assert_string_equal(text, "main;f 3012\n[not sampled] 17\n");
    free(text);
    made_close(&made);
}

static void hidden_functions_are_left_out(void **state)
{
    (void)state;
    struct tp_error error;
    made_program(&made);
    assert_true(tp_patterns_add(&made.view.hide, "hide", "^xmalloc$", &error));
    made.view.figure = TP_FIGURE_COUNT;
    made_open(&made);
    contains(tp_folded_write, "parse_string(char const*&) 40009\n");
    made_close(&made);
}

/* ---- addresses ------------------------------------------------------------------------- */

static void locate_all(struct tp_space *space, const struct tp_export *export)
{
    struct tp_sums sums = { 0 };
    assert_true(tp_space_open(space, export));
    assert_true(tp_space_sums(&sums, space, export));
    for (uint32_t i = 0; i < space->keys.n_items; i++) {
        assert_int_not_equal(space->locations[i].address, 0);
        for (uint32_t k = 0; k < i; k++)
            assert_int_not_equal(
                space->locations[i].address, space->locations[k].address);
    }
    tp_sums_fini(&sums);
}

static void no_two_places_have_one_address(void **state)
{
    (void)state;
    made_program(&made);
    for (size_t i = 0; i < 3; i++) {  // all three at one place, one after another
        made.modules[i].base = 0x400000;
        made.modules[i].start = 0x400000;
        made.modules[i].end = 0x500000;
    }
    // Code without a module where a module is, at 0, and where the stand-in will be.
    uint32_t inside = made_frame(&made, 0, 0, "jit", "", 0);
    made.nodes[inside].offset = 0x401000;
    uint32_t zero = made_frame(&made, 0, 0, "zero", "", 0);
    made.nodes[zero].offset = 0;
    uint32_t nowhere = made_frame(&made, 0, 0, "nowhere", "", 0);
    made.nodes[nowhere].offset = (uint64_t)3 << 61;
    made_site(&made, inside, 1, 1, 0);
    made_site(&made, zero, 1, 1, 0);
    made_site(&made, nowhere, 1, 1, 0);
    made_open(&made);
    struct tp_export export = { .view = &made.view, .whos = &made.who, .n_whos = 1 };
    struct tp_space space;
    locate_all(&space, &export);
    assert_int_equal(space.n_mapped, 3);
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < i; k++)
            assert_true(space.mapped[i].start >= space.mapped[k].end ||
                space.mapped[k].start >= space.mapped[i].end);
    tp_space_close(&space);
    made_close(&made);
}

static void the_same_file_in_two_processes_is_one(void **state)
{
    (void)state;
    static struct made_up other;
    made_program(&made);
    made_open(&made);
    for (size_t i = 0; i < 3; i++) {
        made.modules[i].start = made.modules[i].base = 0x10000000 * (i + 1);
        made.modules[i].end = made.modules[i].start + 0x100000;
    }
    other = made;
    for (size_t i = 0; i < 3; i++) {  // loaded elsewhere
        other.modules[i].start += 0x5550000;
        other.modules[i].base += 0x5550000;
        other.modules[i].end += 0x5550000;
    }
    struct tp_profile profile = made.profile;
    struct tp_dump dump = made.dump;
    dump.modules = other.modules;
    profile.dump = &dump;
    struct tp_who whos[2] = { made.who, made.who };
    whos[1].profile = &profile;
    struct tp_export export = { .view = &made.view, .whos = whos, .n_whos = 2 };
    struct tp_space space, alone;
    locate_all(&space, &export);
    export.n_whos = 1;
    locate_all(&alone, &export);
    assert_int_equal(space.n_mapped, 3);
    assert_int_equal(space.keys.n_items, alone.keys.n_items);
    tp_space_close(&space);
    tp_space_close(&alone);
    made_close(&made);
}

/* ---- events ---------------------------------------------------------------------------- */

enum { INFOS = 256 };

/* What heaptrack 1.4 counts while it reads events, by its accumulatedtracedata.cpp. */
struct counted {
    int64_t leaked, peak;
    uint64_t allocations, temporary;
};

static struct counted play(const char *text)
{
    struct counted all = { 0 };
    int64_t size[INFOS];
    size_t n = 0;
    uint64_t last = 0, number = 0;
    for (const char *at = text; *at; at = strchr(at, '\n') + 1) {
        if (*at == 'a') {
            assert_true(n < INFOS);
            assert_int_equal(sscanf(at, "a %" SCNx64, &size[n++]), 1);
        }
        if (*at != '+' && *at != '-') continue;
        assert_int_equal(sscanf(at + 2, "%" SCNx64, &number), 1);
        assert_true(number < n);
        if (*at == '+') {
            last = number;
            all.allocations++;
            all.leaked += size[number];
            if (all.leaked > all.peak) all.peak = all.leaked;
        } else {
            all.temporary += last == number;
            last = 0;
            all.leaked -= size[number];
            assert_true(all.leaked >= 0);
        }
    }
    return all;
}

static struct tp_estimate is(int64_t value)
{
    return (struct tp_estimate){ value, value, value };
}

static void add_events(int64_t blocks, int64_t bytes, int64_t peak, int64_t live_blocks,
    int64_t live, int64_t temporary)
{
    uint32_t node = made_frame(&made, 0, 1, "f", "", 0);
    struct tp_site *site = made_site(&made, node, bytes, blocks, 0);
    site->peak_bytes = is(peak);
    site->live_blocks = is(live_blocks);
    site->live_bytes = is(live);
    site->temporary_blocks = is(temporary);
}

static void events_give_the_sums(void **state)
{
    (void)state;
    made_init(&made);
    made.sites.mode = TP_SAMPLING_EXACT;
    add_events(101, 101 * 48, 101 * 48, 101, 101 * 48, 0);  // all leaked
    add_events(1009, 1009 * 64, 1009 * 64, 0, 0, 0);        // all at the peak, freed
    add_events(499, 499 * 512, 0, 72, 72 * 512, 0);         // after the peak
    add_events(2003, 2003 * 96, 96, 0, 0, 2003);            // at once, one at the peak
    add_events(7, 1000, 333, 3, 500, 2);                    // a mixture
    add_events(1, 4096, 4096, 1, 1024, 0);                  // shrunk where it stood
    add_events(3, 300000, 0, 0, 0, 1);                      // larger than the peak
    made_open(&made);
    char *text = exported(tp_heaptrack_write);
    struct counted all = play(text);
    assert_int_equal(all.allocations, tp_sites_total(&made.sites, TP_FIGURE_COUNT));
    assert_int_equal(all.temporary, tp_sites_total(&made.sites, TP_FIGURE_TEMPORARY));
    assert_int_equal(all.leaked, tp_sites_total(&made.sites, TP_FIGURE_LIVE));
    assert_int_equal(all.peak, tp_sites_total(&made.sites, TP_FIGURE_PEAK));
    free(text);
    made_close(&made);
}

static void no_file_takes_so_many_events(void **state)
{
    (void)state;
    struct tp_error error = { "" };
    made_init(&made);
    made.dump.sampling.mode = TP_SAMPLING_EXACT;
    made.profile.counts = true;
    struct tp_report report = { .profiles = &made.profile, .n_profiles = 1 };
    assert_true(tp_heaptrack_accepts(&report, &error));
    made.profile.totals.allocations = (uint64_t)1 << 40;
    assert_false(tp_heaptrack_accepts(&report, &error));
    assert_non_null(strstr(error.text, "too many"));

    // A hostile recording: what one site has too many, another one takes back.
    made.sites.mode = TP_SAMPLING_EXACT;
    add_events((int64_t)1 << 60, 1 << 20, 0, 0, 0, 0);
    made_site(&made, 0, 0, -((int64_t)1 << 60), 0);
    made_open(&made);
    struct tp_export export = { .view = &made.view, .whos = &made.who, .n_whos = 1 };
    struct tp_writer writer;
    int fd = open("/dev/null", O_WRONLY);
    tp_writer_init(&writer, fd);
    tp_heaptrack_write(&writer, &export);
    assert_false(tp_writer_finish(&writer, "it", &error));
    assert_string_equal(error.text, "cannot write it: File too large");
    close(fd);
    made_close(&made);
}

/* ---- the table ------------------------------------------------------------------------- */

static const char *chosen(const char *path)
{
    const struct tp_emitter *emitter = tp_emitter_for_path(path);
    return emitter ? emitter->name : "none";
}

static void the_longest_end_of_a_name_chooses(void **state)
{
    (void)state;
    assert_string_equal(chosen("x.json"), "json");
    assert_string_equal(chosen("x.speedscope.json"), "speedscope");
    assert_string_equal(chosen("x.speedscope.json.gz"), "speedscope");
    assert_string_equal(chosen("a.json/x.pb.gz"), "pprof");
    assert_string_equal(chosen("x.pprof"), "pprof");
    assert_string_equal(chosen("x.folded.zst"), "folded");
    assert_string_equal(chosen("x.heaptrack.zst"), "heaptrack");
    assert_string_equal(chosen("a.json/x"), "none");
    assert_string_equal(chosen("json"), "none");
    assert_string_equal(chosen("x.pprof.zst"), "none");
    assert_int_equal(
        tp_emitter_packing(tp_emitter_find("pprof"), "x"), TP_PACKING_GZIP);
    assert_int_equal(
        tp_emitter_packing(tp_emitter_find("json"), "x.zst"), TP_PACKING_ZSTD);
    assert_int_equal(
        tp_emitter_packing(tp_emitter_find("json"), NULL), TP_PACKING_NONE);
    char names[TP_EMITTER_NAMES];
    assert_non_null(strstr(tp_emitter_names(names), "text, json, pprof, "));
    assert_non_null(strstr(names, " or "));
    assert_null(tp_emitter_find("nonsense"));
}

static void equal_bytes_have_equal_numbers(void **state)
{
    (void)state;
    struct tp_intern table = { 0 };
    char text[32];
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < 10007; i++) {
            snprintf(text, sizeof(text), "%u", i * 7919);
            assert_int_equal(tp_intern_text(&table, text), i);
        }
    assert_int_equal(tp_intern(&table, NULL, 0), 10007);
    assert_int_equal(tp_intern(&table, "a\0b", 3), 10008);
    assert_int_equal(tp_intern(&table, "a\0c", 3), 10009);
    size_t n = 0;
    assert_memory_equal(tp_intern_at(&table, 10008, &n), "a\0b", 4);
    assert_int_equal(n, 3);
    assert_string_equal(tp_intern_at(&table, 10007, &n), "");
    assert_int_equal((uintptr_t)tp_intern_at(&table, 13, NULL) % 8, 0);
    tp_intern_fini(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_format_has_its_file),
        cmocka_unit_test(names_are_what_the_format_can_hold),
        cmocka_unit_test(sums_of_equal_names_are_one_line),
        cmocka_unit_test(hidden_functions_are_left_out),
        cmocka_unit_test(no_two_places_have_one_address),
        cmocka_unit_test(the_same_file_in_two_processes_is_one),
        cmocka_unit_test(events_give_the_sums),
        cmocka_unit_test(no_file_takes_so_many_events),
        cmocka_unit_test(the_longest_end_of_a_name_chooses),
        cmocka_unit_test(equal_bytes_have_equal_numbers),
    };
    return cmocka_run_group_tests_name("export", tests, NULL, NULL);
}
