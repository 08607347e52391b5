/* SPDX-License-Identifier: MIT */
/*
 * test_index.c - what one report has looked up the next one knows, and nothing wrong.
 */
#include "tests/unit/report/scene.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct tp_symbols_wish quiet = { .quiet = true };
static const struct tp_build_id id = { { 1, 2, 3, 4, 5, 6, 7 }, 7 };
static const struct tp_origin origin = { TP_QUALITY_DWARF, 997, 1009 };

/* The cache is in the folder of the test. */
static int make(void **state)
{
    char path[300];
    int result = scene_folder_make(state);
    scene_path(path, sizeof(path), "cache");
    return result || mkdir("cache", 0700) || setenv("XDG_CACHE_HOME", path, 1);
}

static void add(struct tp_names *names, uint64_t offset, const char *function)
{
    const struct tp_symbol symbols[2] = {
        { .function = function, .file = "a.c", .line = 7, .inlined = true },
        { .function = "caller", .file = "b.c", .line = 11 },
    };
    assert_true(tp_names_add(names, offset, symbols, 2));
}

static const char *function_at(const struct tp_names *names, uint64_t offset)
{
    const struct tp_named *row = tp_names_find(names, offset);
    return row ? row->symbols[0].function : "not there";
}

static unsigned char *file_bytes(const char *pattern, size_t *out_n)
{
    unsigned char *bytes = malloc(1 << 20);
    char line[300];
    snprintf(line, sizeof(line), "cat %s", pattern);
    FILE *pipe = popen(line, "r");
    assert_non_null(bytes);
    *out_n = fread(bytes, 1, 1 << 20, pipe);
    assert_int_equal(pclose(pipe), 0);
    return bytes;
}

/* ---- reports ------------------------------------------------------------------------------ */

static void the_second_report_opens_no_debug_information(void **state)
{
    (void)state;
    struct scene scene;
    uint64_t calls[CALLS];
    scene_build(calls, "fixture", "-g");
    scene_begin(&scene);
    scene_add_module(&scene, "fixture");
    scene_add_calls(&scene, 1, calls);
    struct tp_symbols *symbols = scene_resolved(&scene, &quiet);
    scene_check_all(symbols, &scene);
    assert_int_equal(tp_symbols_opened(symbols), 1);
    tp_symbols_close(symbols);

    // Not even the program is there any more: it could be another machine.
    scene_shell("rm fixture");
    symbols = scene_resolved(&scene, &quiet);
    scene_check_all(symbols, &scene);
    assert_int_equal(tp_symbols_opened(symbols), 0);
    tp_symbols_close(symbols);

    symbols = scene_resolved(&scene, &no_cache);
    scene_check_nothing(symbols, &scene);
    tp_symbols_close(symbols);
}

static void addresses_that_are_new_are_added(void **state)
{
    (void)state;
    struct scene scene;
    uint64_t calls[CALLS];
    scene_build(calls, "fixture", "-g");
    scene_begin(&scene);
    scene_add_module(&scene, "fixture");
    scene_add_calls(&scene, 1, calls);
    scene.dump.n_nodes = 2;  // the first call only
    tp_symbols_close(scene_resolved(&scene, &quiet));
    scene.dump.n_nodes = 5;
    struct tp_symbols *symbols = scene_resolved(&scene, &quiet);
    assert_int_equal(tp_symbols_opened(symbols), 1);
    tp_symbols_close(symbols);
    scene_shell("rm fixture");
    symbols = scene_resolved(&scene, &quiet);
    scene_check_all(symbols, &scene);
    tp_symbols_close(symbols);
}

static void better_debug_information_is_seen_later(void **state)
{
    (void)state;
    struct scene scene;
    uint64_t calls[CALLS];
    scene_build(calls, "fixture", "-g -rdynamic");
    scene_shell("cp fixture whole && strip fixture");
    scene_begin(&scene);
    scene_add_module(&scene, "fixture");
    scene_add_calls(&scene, 1, calls);
    for (int i = 0; i < 2; i++) {
        struct tp_symbols *symbols = scene_resolved(&scene, &quiet);
        scene_check(symbols, &scene, 1, "outer");
        scene_check(symbols, &scene, 3, "");
        assert_int_equal(tp_symbols_opened(symbols), i == 0);
        tp_symbols_close(symbols);
    }
    scene_shell("mv whole fixture");
    struct tp_symbols *symbols = scene_resolved(&scene, &quiet);
    scene_check_all(symbols, &scene);
    tp_symbols_close(symbols);

    // And does not go away when it does.
    scene_shell("strip fixture");
    symbols = scene_resolved(&scene, &quiet);
    scene_check_all(symbols, &scene);
    tp_symbols_close(symbols);
}

static void the_folder_is_private_and_may_be_missing(void **state)
{
    (void)state;
    struct stat status;
    char *folder = tp_index_folder();
    struct tp_names names = { 0 };
    assert_non_null(folder);
    add(&names, 5, "f");
    assert_true(tp_index_write(&names, &origin, folder, &id));
    assert_int_equal(stat(folder, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(stat("cache/tidepool/01020304050607.names", &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_false(tp_index_write(&names, &origin, "/nowhere", &id));
    tp_names_fini(&names);
    free(folder);

    assert_int_equal(setenv("XDG_CACHE_HOME", "/proc/1", 1), 0);
    assert_null(tp_index_folder());
    unsetenv("XDG_CACHE_HOME");
    char *home = getenv("HOME");
    home = home ? strdup(home) : NULL;
    unsetenv("HOME");
    assert_null(tp_index_folder());
    if (home) setenv("HOME", home, 1);
    free(home);
}

/* ---- files ---------------------------------------------------------------------------------- */

static void what_is_written_is_read(void **state)
{
    (void)state;
    struct tp_names names = { 0 }, back = { 0 };
    struct tp_origin its;
    for (uint64_t i = 997; i > 0; i--) {
        char function[32];
        snprintf(function, sizeof(function), "f%d", (int)(i % 173));
        add(&names, i * i, function);
    }
    tp_names_sort(&names);
    assert_true(tp_index_write(&names, &origin, "cache", &id));
    assert_true(tp_index_read(&back, &its, "cache", &id));
    assert_int_equal(back.n_rows, 997);
    assert_int_equal(its.quality, origin.quality);
    assert_int_equal(its.bytes, origin.bytes);
    assert_int_equal(its.time_ns, origin.time_ns);
    const struct tp_named *row = tp_names_find(&back, 300 * 300);
    assert_non_null(row);
    assert_int_equal(row->n, 2);
    assert_string_equal(row->symbols[0].function, "f127");
    assert_string_equal(row->symbols[0].file, "a.c");
    assert_int_equal(row->symbols[0].line, 7);
    assert_true(row->symbols[0].inlined);
    assert_string_equal(row->symbols[1].function, "caller");
    assert_false(row->symbols[1].inlined);
    tp_names_fini(&names);
    tp_names_fini(&back);
}

static void of_two_writers_nothing_old_is_lost(void **state)
{
    (void)state;
    struct tp_names one = { 0 }, two = { 0 }, back = { 0 };
    struct tp_origin its;
    add(&one, 10, "ten");
    add(&one, 30, "thirty");
    add(&two, 20, "twenty");
    add(&two, 30, "thirty too");
    assert_true(tp_index_write(&one, &origin, "cache", &id));
    assert_true(tp_index_write(&two, &origin, "cache", &id));
    assert_true(tp_index_read(&back, &its, "cache", &id));
    assert_int_equal(back.n_rows, 3);
    assert_string_equal(function_at(&back, 10), "ten");
    assert_string_equal(function_at(&back, 20), "twenty");
    assert_string_equal(function_at(&back, 30), "thirty too");

    // Names of less worth replace nothing; better ones everything.
    const struct tp_origin worse = { TP_QUALITY_EXPORTS, 1, 1 };
    struct tp_names less = { 0 };
    add(&less, 40, "forty");
    assert_false(tp_index_write(&less, &worse, "cache", &id));
    tp_names_fini(&one);
    tp_names_fini(&two);
    tp_names_fini(&back);
    tp_names_fini(&less);
}

static void damage_is_found_wherever_it_is(void **state)
{
    (void)state;
    struct tp_names names = { 0 };
    struct tp_origin its;
    size_t n;
    for (uint64_t i = 0; i < 17; i++) add(&names, i * 173, "some function");
    assert_true(tp_index_write(&names, &origin, "cache", &id));
    tp_names_fini(&names);
    unsigned char *bytes = file_bytes("cache/*.names", &n);
    assert_true(tp_index_parse(&names, &its, bytes, n, &id));
    tp_names_fini(&names);
    for (size_t i = 0; i < n; i++) {
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] ^= (unsigned char)(1 << bit);
            assert_false(tp_index_parse(&names, &its, bytes, n, &id));
            assert_int_equal(names.n_rows, 0);
            bytes[i] ^= (unsigned char)(1 << bit);
        }
        unsigned char *cut = malloc(i + 1);  // for the sanitizer: no byte more
        assert_non_null(cut);
        memcpy(cut, bytes, i);
        assert_false(tp_index_parse(&names, &its, cut, i, &id));
        free(cut);
    }
    const struct tp_build_id other = { { 1, 2, 3, 4, 5, 6, 8 }, 7 };
    assert_false(tp_index_parse(&names, &its, bytes, n, &other));
    free(bytes);
    tp_names_fini(&names);
}

static void what_was_used_longest_ago_goes_first(void **state)
{
    (void)state;
    struct tp_names names = { 0 };
    struct tp_build_id each = id;
    add(&names, 1, "f");
    for (each.bytes[6] = 0; each.bytes[6] < 5; each.bytes[6]++)
        assert_true(tp_index_write(&names, &origin, "cache", &each));
    tp_names_fini(&names);
    size_t n;
    free(file_bytes("cache/*.names", &n));
    scene_shell("touch -d '3 days ago' cache/01020304050603.names");
    scene_shell("touch -d '2 days ago' cache/01020304050601.names");
    scene_shell("touch -d '2 hours ago' cache/of_a_dead_writer.part");
    scene_shell("touch cache/of_a_writer.part cache/keep.txt");
    tp_index_prune("cache", n);
    scene_shell("test $(ls cache/*.names | wc -l) = 5");

    // Reading the oldest makes it the newest.
    struct tp_origin its;
    each.bytes[6] = 3;
    assert_true(tp_index_read(&names, &its, "cache", &each));
    tp_names_fini(&names);
    tp_index_prune("cache", n - 1);
    scene_shell(
        "test ! -e cache/01020304050601.names -a -e cache/01020304050603.names");
    scene_shell("test $(ls cache/*.names | wc -l) = 4");
    scene_shell("test ! -e cache/of_a_dead_writer.part -a -e cache/of_a_writer.part");
    scene_shell("test -e cache/keep.txt");
}

static void *write_often(void *argument)
{
    const uint64_t *first = argument;
    struct tp_names names = { 0 };
    static const struct tp_symbol symbol = { .function = "f", .file = "" };
    for (uint64_t i = 0; i < 50; i++) {
        (void)tp_names_add(&names, *first + i, &symbol, 1);
        (void)tp_index_write(&names, &origin, "cache", &id);
    }
    tp_names_fini(&names);
    return NULL;
}

static void writers_side_by_side_leave_a_whole_file(void **state)
{
    (void)state;
    pthread_t threads[4];
    uint64_t first[4] = { 0, 1000, 2000, 3000 };
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_often, &first[i]), 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    struct tp_names names = { 0 };
    struct tp_origin its;
    assert_true(tp_index_read(&names, &its, "cache", &id));
    assert_true(names.n_rows >= 50 && names.n_rows <= 200);
    tp_names_fini(&names);
    scene_shell("test $(ls cache | wc -l) = 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make, scene_folder_clear)
        IN_FOLDER(the_second_report_opens_no_debug_information),
        IN_FOLDER(addresses_that_are_new_are_added),
        IN_FOLDER(better_debug_information_is_seen_later),
        IN_FOLDER(the_folder_is_private_and_may_be_missing),
        IN_FOLDER(what_is_written_is_read),
        IN_FOLDER(of_two_writers_nothing_old_is_lost),
        IN_FOLDER(damage_is_found_wherever_it_is),
        IN_FOLDER(what_was_used_longest_ago_goes_first),
        IN_FOLDER(writers_side_by_side_leave_a_whole_file),
    };
    return cmocka_run_group_tests_name("index", tests, NULL, NULL);
}
