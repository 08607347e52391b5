/* SPDX-License-Identifier: MIT */
/*
 * test_find.c - files, processes and what processes left behind are found by name.
 */
#include "tests/unit/report/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static struct tp_error error;
static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test_find.XXXXXX");
    return mkdtemp(folder) ? chdir(folder) : -1;
}

static int clear_folder(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof(command), "rm -r %s", folder);
    return chdir("/") || system(command);
}

static void touch(const char *name)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, name, strlen(name)), strlen(name));
    close(fd);
}

static void expect_found(const char *name, const char *path)
{
    struct tp_source source;
    assert_true(tp_source_open(&source, name, &error));
    assert_string_equal(source.path, path);
    tp_source_close(&source);
}

static void the_newest_recording_is_taken(void **state)
{
    (void)state;
    struct tp_source source;
    assert_false(tp_source_open(&source, NULL, &error));
    touch("old.tide");
    touch("new.tide");
    touch("newest.txt");
    const struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
    assert_int_equal(utimensat(AT_FDCWD, "old.tide", old, 0), 0);
    expect_found(NULL, "new.tide");
}

static void a_file_wins_over_a_process(void **state)
{
    (void)state;
    char name[32];
    snprintf(name, sizeof(name), "%d", getpid());
    touch(name);
    expect_found(name, name);
}

static void a_process_is_found_by_what_it_has_mapped(void **state)
{
    (void)state;
    char name[64];
    char path[160];
    char digits[32];
    snprintf(digits, sizeof(digits), "%d", getpid());
    snprintf(name, sizeof(name), "tidepool.%d.77.0", getpid());
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    touch(name);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    void *mapped = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(mapped != MAP_FAILED);
    close(fd);
    expect_found(digits, path);
    munmap(mapped, 4096);

    struct tp_source source;
    assert_false(tp_source_open(&source, digits, &error));
    assert_non_null(strstr(error.text, "does not run under Tidepool"));
}

static void a_dead_process_is_found_by_its_newest_file(void **state)
{
    (void)state;
    char expected[160];
    setenv("XDG_RUNTIME_DIR", folder, 1);
    touch("tidepool.1073741822.9.0");
    touch("tidepool.1073741822.10.0");
    touch("tidepool.1073741822.10.2");
    touch("tidepool.1073741823.99.2");
    touch("tidepool.1073741822.99.2.tide");
    snprintf(expected, sizeof(expected), "%s/tidepool.1073741822.10.2", folder);
    expect_found("1073741822", expected);
    unsetenv("XDG_RUNTIME_DIR");
}

static void nothing_of_that_name_is_an_ordinary_error(void **state)
{
    (void)state;
    struct tp_source source;
    assert_false(tp_source_open(&source, "1073741821", &error));
    assert_string_equal(error.text, "cannot read 1073741821: no such file or process");
    assert_false(tp_source_open(&source, "99999999999999999999", &error));
    assert_false(tp_source_open(&source, "0", &error));
    assert_false(tp_source_open(&source, "missing.tide", &error));
    assert_string_equal(
        error.text, "cannot read missing.tide: No such file or directory");
}

static void a_running_process_is_told_from_a_dead_one(void **state)
{
    (void)state;
    struct tp_process_now now;
    tp_process_now_read(&now, (uint32_t)getpid());
    assert_true(now.running);
    assert_true(now.start_jiffies > 0);
    assert_true(now.rss_peak_bytes >= now.rss_bytes && now.rss_bytes > 0);
    tp_process_now_read(&now, TEST_PID);
    assert_false(now.running);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, clear_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(the_newest_recording_is_taken),
        IN_FOLDER(a_file_wins_over_a_process),
        IN_FOLDER(a_process_is_found_by_what_it_has_mapped),
        IN_FOLDER(a_dead_process_is_found_by_its_newest_file),
        IN_FOLDER(nothing_of_that_name_is_an_ordinary_error),
        cmocka_unit_test(a_running_process_is_told_from_a_dead_one),
    };
    return cmocka_run_group_tests_name("find", tests, NULL, NULL);
}
