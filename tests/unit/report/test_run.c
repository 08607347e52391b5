/* SPDX-License-Identifier: MIT */
/*
 * test_run.c - names and places of recordings, judging a program, starting one,
 * gathering what it left.
 */
#include "tests/unit/report/test.h"

#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report/run.h"

static struct tp_error error;
static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test_run.XXXXXX");
    return mkdtemp(folder) ? chdir(folder) : -1;
}

static int clear_folder(void **state)
{
    (void)state;
    struct tp_gathered nothing = { 0 };
    tp_gather_clean(&nothing, folder);
    return chdir("/");
}

static void write_file(const char *path, const void *bytes, size_t n, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
    chmod(path, mode);
}

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
    write_file("alone", &header, sizeof(header), 0755);
    expect_note("alone", "alone will not be covered: it is statically linked");
    header.e_ident[EI_CLASS] = ELFCLASS32;
    write_file("small", &header, sizeof(header), 0755);
    expect_note("small", "small will not be covered: it is a 32-bit program");
    write_file("cut", &header, 3, 0755);
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
    write_file("busy", &header, sizeof(header), 0755);
    int n = snprintf(first, sizeof(first), "#! %s/busy -x\necho\n", folder);
    write_file("script", first, (size_t)n, 0755);
    expect_note("script", "busy will not be covered: it is statically linked");
    n = snprintf(first, sizeof(first), "#!%s/loop\n", folder);
    write_file("loop", first, (size_t)n, 0755);
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
    write_file("plain", "", 0, 0644);
    arguments[0] = plain;
    assert_int_equal(tp_launch_run(&start, &error), TP_EXIT_RUN_NOT_EXECUTABLE);
}

static void our_keys_come_after_the_users(void **state)
{
    (void)state;
    setenv("TIDEPOOL", "depth=3", 1);
    assert_int_equal(launch("test \"$TIDEPOOL\" = depth=3,a=b"), 0);
    unsetenv("TIDEPOOL");
    assert_int_equal(launch("test \"$TIDEPOOL\" = a=b"), 0);
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

/* ---- gathering ------------------------------------------------------------------------------ */

static void leave(const char *path, uint32_t pid, uint64_t start, uint32_t reason)
{
    struct test_file file;
    test_file_full(&file);
    struct tp_process_record *process =
        (void *)(file.bytes + test_file_row(&file, 0)->offset);
    process->pid = pid;
    process->start_monotonic_ns = start;
    test_file_header(&file)->reason = reason;
    if (!reason) test_file_header(&file)->state = TP_FILE_LIVE;
    write_file(path, file.bytes, file.n_bytes, 0600);
    test_file_fini(&file);
}

static uint32_t gathered_pid(const struct tp_gathered *gathered, size_t i)
{
    struct tp_recording recording;
    const struct tp_image *image = &gathered->images[i];
    assert_true(
        tp_recording_parse(&recording, image->bytes, image->n_bytes, "g", &error));
    uint32_t pid = recording.dumps[0].process.pid;
    tp_recording_fini(&recording);
    return pid;
}

static void the_main_process_comes_first_and_the_killed_are_kept(void **state)
{
    (void)state;
    const uint32_t main_pid = TEST_PID;
    leave("a.tide", TEST_PID - 2, 300, TP_REASON_EXIT);
    leave("b.tide", TEST_PID - 3, 200, TP_REASON_EXIT);
    leave("m.tide", main_pid, 100, TP_REASON_EXIT);
    leave("tidepool.1.2.3", TEST_PID - 4, 400, 0);  // killed
    leave("tidepool.1.2.4", TEST_PID - 2, 300, 0);  // has an exit dump as well
    write_file("junk.tide", "junk", 4, 0600);
    struct tp_gathered gathered;
    assert_true(tp_gather_read(&gathered, ".", main_pid, &error));
    assert_int_equal(gathered.n_images, 4);
    assert_int_equal(gathered.n_damaged, 1);
    assert_int_equal(gathered.n_running, 0);
    assert_int_equal(gathered_pid(&gathered, 0), main_pid);
    assert_int_equal(gathered_pid(&gathered, 1), TEST_PID - 3);
    assert_int_equal(gathered_pid(&gathered, 2), TEST_PID - 2);
    assert_int_equal(gathered_pid(&gathered, 3), TEST_PID - 4);
    tp_gather_fini(&gathered);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, clear_folder)

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
        cmocka_unit_test(our_keys_come_after_the_users),
        cmocka_unit_test(the_program_keeps_its_signals),
        cmocka_unit_test(commas_in_values_are_escaped),
        IN_FOLDER(the_main_process_comes_first_and_the_killed_are_kept),
    };
    return cmocka_run_group_tests_name("run", tests, NULL, NULL);
}
