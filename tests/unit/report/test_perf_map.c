/* SPDX-License-Identifier: MIT */
/*
 * test_perf_map.c - names of code that was made at run time.
 */
#include "tests/unit/report/scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint64_t addresses[] = { 0x1000, 0x10ff, 0x2000, 0x3010, UINT64_MAX };
enum { N = sizeof(addresses) / sizeof(addresses[0]) };

static void look_up(struct tp_names *names, const char *text)
{
    // A copy of its own, so that a sanitizer sees a byte too much.
    size_t n = strlen(text);
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, text, n);
    assert_true(tp_perf_map_parse(names, copy, n, addresses, N));
    tp_names_sort(names);
    free(copy);
}

static void check_names(const char *text, const char *const expected[N])
{
    struct tp_names names = { 0 };
    look_up(&names, text);
    for (int i = 0; i < N; i++) {
        const struct tp_named *row = tp_names_find(&names, addresses[i]);
        assert_string_equal(row ? row->symbols[0].function : "", expected[i]);
    }
    tp_names_fini(&names);
}

static void lines_may_stand_in_any_order(void **state)
{
    (void)state;
    check_names("3000 20 LazyCompile:~run /app/main.js:12\n"
                "1000 100 first\n"
                "0x2000 0X1 one\n",
        (const char *const[N]){
            "first", "first", "one", "LazyCompile:~run /app/main.js:12", "" });
}

static void the_later_line_is_right(void **state)
{
    (void)state;
    check_names("1000 100 old\n1080 1000 new\n",
        (const char *const[N]){ "old", "new", "new", "", "" });
}

static void the_end_of_a_function_is_outside(void **state)
{
    (void)state;
    check_names("f00 100 before\n1001 fe inside\n1fff 1 short\n",
        (const char *const[N]){ "", "", "", "", "" });
}

static void garbage_is_left_out(void **state)
{
    (void)state;
    check_names("\n\n \nname\n1000\n1000 \n1000 100\n1000 100 \n-1 5 x\n1000 0 empty\n"
                "11111111111111111 1 long\n1000 11111111111111111 long\nzz 1 x\n"
                "ffffffffffffffff 1 last\n2000 ffffffffffffffff most\r\n3010 1 no end",
        (const char *const[N]){ "", "", "most", "no end", "most" });
}

static void an_encoded_name_is_decoded(void **state)
{
    (void)state;
    check_names("1000 1 _ZN4tide4poolEv\n2000 1 user@host\n",
        (const char *const[N]){ "tide::pool()", "", "user@host", "", "" });
}

static void a_long_name_is_cut(void **state)
{
    (void)state;
    struct tp_names names = { 0 };
    char text[8192];
    memset(text, 'x', sizeof(text));
    memcpy(text, "1000 1 ", 7);
    text[sizeof(text) - 1] = '\0';
    look_up(&names, text);
    assert_int_equal(strlen(names.rows[0].symbols[0].function), TP_NAMES_TEXT - 1);
    tp_names_fini(&names);
}

/* ---- the file of a process ------------------------------------------------------------------- */

static char path[64];

static int no_map(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

static int own_map(void **state)
{
    (void)state;
    snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
    return 0;
}

static void begin(struct scene *scene)
{
    scene_begin(scene);
    scene->dump.process.pid = (uint32_t)getpid();
    scene->dump.process.start_unix_ns -= (uint64_t)10 * SECOND;
    scene->nodes[1] = (struct tp_node_record){ .offset = 0x7f0000001234 };
    scene->nodes[2] = (struct tp_node_record){ .parent = 1, .offset = 0x7f0000005678 };
    scene->dump.n_nodes = 3;
}

static void write_map(mode_t mode)
{
    static const char text[] = "7f0000001000 1000 made\n";
    test_write_file(path, text, sizeof(text) - 1, mode);
}

static void code_of_a_dump_is_named(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    write_map(0644);
    struct tp_symbols *symbols = scene_resolved(&scene, &no_cache);
    scene_check(symbols, &scene, 1, "made");
    scene_check(symbols, &scene, 2, "");
    tp_symbols_close(symbols);
}

static void check_refused(struct scene *scene)
{
    struct tp_symbols *symbols = scene_resolved(scene, &no_cache);
    scene_check(symbols, scene, 1, "");
    tp_symbols_close(symbols);
}

static void a_map_that_others_may_write_is_not_read(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    write_map(0666);
    check_refused(&scene);
}

static void a_map_of_another_process_is_not_read(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    write_map(0644);
    scene.dump.process.start_unix_ns += (uint64_t)3600 * SECOND;  // began after it
    check_refused(&scene);
    begin(&scene);
    scene.dump.header.reason = TP_REASON_EXIT;
    scene.dump.header.time_unix_ns -= (uint64_t)3600 * SECOND;  // ended before it
    check_refused(&scene);
}

static void what_is_no_file_is_not_read(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    assert_int_equal(mkfifo(path, 0600), 0);
    check_refused(&scene);
    unlink(path);
    write_map(0644);
    scene_shell("mv %s %s.real && ln -s %s.real %s", path, path, path, path);
    check_refused(&scene);
    scene_shell("rm %s.real", path);
}

static void a_file_of_another_user_is_not_read(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    write_map(0644);
    if (geteuid() != 0 || chown(path, 12345, 12345) != 0) {
        scene_leave_out("right to give a file away");
        return;
    }
    check_refused(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_may_stand_in_any_order),
        cmocka_unit_test(the_later_line_is_right),
        cmocka_unit_test(the_end_of_a_function_is_outside),
        cmocka_unit_test(garbage_is_left_out),
        cmocka_unit_test(an_encoded_name_is_decoded),
        cmocka_unit_test(a_long_name_is_cut),
        cmocka_unit_test_setup_teardown(code_of_a_dump_is_named, own_map, no_map),
        cmocka_unit_test_setup_teardown(
            a_map_that_others_may_write_is_not_read, own_map, no_map),
        cmocka_unit_test_setup_teardown(
            a_map_of_another_process_is_not_read, own_map, no_map),
        cmocka_unit_test_setup_teardown(what_is_no_file_is_not_read, own_map, no_map),
        cmocka_unit_test_setup_teardown(
            a_file_of_another_user_is_not_read, own_map, no_map),
    };
    return cmocka_run_group_tests_name("perf_map", tests, NULL, NULL);
}
