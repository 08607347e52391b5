/* SPDX-License-Identifier: MIT */
/*
 * test_run.c - names and places of recordings, judging a program, starting one.
 */
#include "tests/unit/report/test.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "report/run.h"

static struct tp_error error;

/* ---- names ------------------------------------------------------------------------------ */

static void expect_name(const char *pattern, const char *expected)
{
    const struct tp_output_words words = {
        .program = "a/b", .pid = 4711, .sequence = 3, .unix_time = 1800000001
    };
    char *path = NULL;
    assert_true(tp_output_expand(&path, pattern, &words, &error));
    assert_string_equal(path, expected);
    free(path);
}

static void letters_stand_for_their_words(void **state)
{
    (void)state;
    expect_name("x.%e.%p.tide", "x.a_b.4711.tide");
    expect_name("%n-%t-%%", "3-1800000001-%");
    expect_name("%q%", "%q%");
}

static void no_file_is_overwritten(void **state)
{
    (void)state;
    unsigned char bytes[] = "first";
    struct tp_image image = { bytes, 5 };
    const char *expected[] = { "x.tide", "x.tide.1", "x.tide.2" };
    for (int i = 0; i < 3; i++) {
        char *path = NULL;
        assert_true(tp_output_place(&path, "x.tide", &image, 1, &error));
        assert_string_equal(path, expected[i]);
        free(path);
    }
    struct stat status;
    assert_int_equal(stat("x.tide", &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void a_place_that_cannot_be_written_is_an_error(void **state)
{
    (void)state;
    char *path = NULL;
    assert_false(tp_output_place(&path, "/nowhere/x.tide", NULL, 0, &error));
    assert_string_equal(
        error.text, "cannot write /nowhere/x.tide: No such file or directory");
}

/* ---- programs ---------------------------------------------------------------------------- */

static void expect_note(const char *path, const char *expected)
{
    char note[TP_TARGET_NOTE] = "";
    assert_int_equal(tp_target_judge(note, path), expected != NULL);
    if (expected) assert_string_equal(note, expected);
}

static void an_ordinary_program_needs_no_note(void **state)
{
    (void)state;
    char *path = tp_target_find("sh");
    assert_non_null(path);
    expect_note(path, NULL);
    free(path);
    assert_null(tp_target_find("no such program"));
}

static void static_and_32_bit_programs_are_told(void **state)
{
    (void)state;
    Elf64_Ehdr header = { .e_phentsize = sizeof(Elf64_Phdr),
        .e_phoff = sizeof(header) };
    memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    test_write_file("alone", &header, sizeof(header), 0755);
    expect_note("alone", "alone will not be covered: it is statically linked");
    header.e_ident[EI_CLASS] = ELFCLASS32;
    test_write_file("small", &header, sizeof(header), 0755);
    expect_note("small", "small will not be covered: it is a 32-bit program");
    test_write_file("cut", &header, 3, 0755);
    expect_note("cut", NULL);
    expect_note("missing", NULL);
}

static void a_script_is_judged_by_its_interpreter(void **state)
{
    (void)state;
    char first[128];
    Elf64_Ehdr header = { .e_phentsize = sizeof(Elf64_Phdr) };
    memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    test_write_file("busy", &header, sizeof(header), 0755);
    int n = snprintf(first, sizeof(first), "#! %s/busy -x\necho\n", test_folder);
    test_write_file("script", first, (size_t)n, 0755);
    expect_note("script", "busy will not be covered: it is statically linked");
    n = snprintf(first, sizeof(first), "#!%s/loop\n", test_folder);
    test_write_file("loop", first, (size_t)n, 0755);
    expect_note("loop", NULL);
}

/* ---- starting ----------------------------------------------------------------------------- */

static int launch(const char *script)
{
    char text[256];
    char shell[] = "sh";
    char option[] = "-c";
    char *arguments[] = { shell, option, text, NULL };
    struct tp_launch start = { .library = "", .keys = "a=b", .argv = arguments };
    snprintf(text, sizeof(text), "%s", script);
    error.text[0] = '\0';
    return tp_launch_run(&start, &error);
}

static void the_exit_status_is_the_programs(void **state)
{
    (void)state;
    assert_int_equal(launch("exit 7"), 7);
    assert_int_equal(launch("kill -9 $$"), 128 + SIGKILL);
    assert_string_equal(error.text, "");
}

static void a_program_that_cannot_start_is_told_apart(void **state)
{
    (void)state;
    char missing[] = "./missing";
    char plain[] = "./plain";
    char *arguments[] = { missing, NULL };
    struct tp_launch start = { .library = "", .keys = "", .argv = arguments };
    assert_int_equal(tp_launch_run(&start, &error), TP_EXIT_RUN_NOT_FOUND);
    assert_string_equal(error.text, "cannot run ./missing: No such file or directory");
    test_write_file("plain", "", 0, 0644);
    arguments[0] = plain;
    assert_int_equal(tp_launch_run(&start, &error), TP_EXIT_RUN_NOT_EXECUTABLE);
}

/* A line for the closed standard error must not pass for the reason of a failed exec. */
static void say_something(void *argument, uint32_t pid)
{
    (void)argument;
    (void)pid;
    for (int fd = 0; fd < 3; fd++) (void)!write(fd, "a line\n", 7);
}

static void closed_descriptors_are_no_way_to_the_program(void **state)
{
    (void)state;
    char shell[] = "sh";
    char option[] = "-c";
    char text[] = "exit 7";
    char *arguments[] = { shell, option, text, NULL };
    struct tp_launch start = {
        .library = "", .keys = "", .argv = arguments, .started = say_something
    };
    int saved[3];
    for (int fd = 0; fd < 3; fd++) saved[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 10);
    for (int fd = 0; fd < 3; fd++) close(fd);
    int status = tp_launch_run(&start, &error);
    for (int fd = 0; fd < 3; fd++) {
        if (saved[fd] >= 0) dup2(saved[fd], fd);
        if (saved[fd] >= 0) close(saved[fd]);
    }
    assert_int_equal(status, 7);
}

static void our_keys_come_after_the_users(void **state)
{
    (void)state;
    setenv("TIDEPOOL", "depth=3", 1);
    assert_int_equal(launch("test \"$TIDEPOOL\" = depth=3,a=b"), 0);
    unsetenv("TIDEPOOL");
    assert_int_equal(launch("test \"$TIDEPOOL\" = a=b"), 0);
}

static void an_ignored_child_signal_hides_no_status(void **state)
{
    (void)state;
    struct sigaction ignore = { .sa_handler = SIG_IGN }, before;
    sigaction(SIGCHLD, &ignore, &before);
    assert_int_equal(launch("exit 7"), 7);
    sigaction(SIGCHLD, NULL, &ignore);
    assert_true(ignore.sa_handler == SIG_IGN);
    sigaction(SIGCHLD, &before, NULL);
}

/* What the program finds when it starts, and how often we could look while it ran. */
struct meanwhile {
    bool ready;
    unsigned looks;
};

static void get_ready(void *argument, uint32_t pid)
{
    struct meanwhile *meanwhile = argument;
    struct timespec long_enough = { .tv_nsec = 20000000 };
    nanosleep(&long_enough, NULL);  // a program that did not wait would be over
    test_write_file("ready", "", 0, 0600);
    meanwhile->ready = pid > 1;
}

static unsigned take_a_look(void *argument)
{
    struct meanwhile *meanwhile = argument;
    if (++meanwhile->looks == 3) test_write_file("seen", "", 0, 0600);
    return 1;
}

static void the_program_waits_and_is_looked_after(void **state)
{
    (void)state;
    char shell[] = "sh";
    char option[] = "-c";
    char text[] = "test -e ready || exit 3; until test -e seen; do sleep 0.01; done";
    char *arguments[] = { shell, option, text, NULL };
    struct meanwhile meanwhile = { 0 };
    struct tp_launch start = { .library = "",
        .keys = "",
        .argv = arguments,
        .started = get_ready,
        .look = take_a_look,
        .argument = &meanwhile };
    assert_int_equal(tp_launch_run(&start, &error), 0);
    assert_true(meanwhile.ready);
    assert_true(meanwhile.looks >= 3);
}

static void the_program_keeps_its_signals(void **state)
{
    (void)state;
    assert_int_equal(launch("kill -INT $$; exit 3"), 128 + SIGINT);
#if !defined(__SANITIZE_THREAD__)
    // ThreadSanitizer keeps a signal back until a call returns, and wait does not.
    assert_int_equal(launch("kill -TERM $PPID; exec sleep 5"), 128 + SIGTERM);
#endif
}

static void commas_in_values_are_escaped(void **state)
{
    (void)state;
    char *escaped = tp_launch_escape("a,b,,c");
    assert_string_equal(escaped, "a\\,b\\,\\,c");
    free(escaped);
}

#define IN_FOLDER(test) \
    cmocka_unit_test_setup_teardown(test, test_folder_make, test_folder_clear)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_stand_for_their_words),
        IN_FOLDER(no_file_is_overwritten),
        cmocka_unit_test(a_place_that_cannot_be_written_is_an_error),
        cmocka_unit_test(an_ordinary_program_needs_no_note),
        IN_FOLDER(static_and_32_bit_programs_are_told),
        IN_FOLDER(a_script_is_judged_by_its_interpreter),
        cmocka_unit_test(the_exit_status_is_the_programs),
        IN_FOLDER(a_program_that_cannot_start_is_told_apart),
        cmocka_unit_test(closed_descriptors_are_no_way_to_the_program),
        cmocka_unit_test(our_keys_come_after_the_users),
        cmocka_unit_test(the_program_keeps_its_signals),
        cmocka_unit_test(commas_in_values_are_escaped),
        cmocka_unit_test(an_ignored_child_signal_hides_no_status),
        IN_FOLDER(the_program_waits_and_is_looked_after),
    };
    return cmocka_run_group_tests_name("run", tests, NULL, NULL);
}
