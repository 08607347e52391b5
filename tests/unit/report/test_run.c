/* SPDX-License-Identifier: MIT */
/*
 * test_run.c - names and places of recordings, judging a program, starting one,
 * gathering what it left.
 */
#include "tests/unit/report/test.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
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
    DIR *list = opendir(folder);
    for (const struct dirent *entry; list && (entry = readdir(list));)
        unlinkat(dirfd(list), entry->d_name, 0);
    if (list) closedir(list);
    return chdir("/") || rmdir(folder);
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
    write_file("ready", "", 0, 0600);
    meanwhile->ready = pid > 1;
}

static unsigned take_a_look(void *argument)
{
    struct meanwhile *meanwhile = argument;
    if (++meanwhile->looks == 3) write_file("seen", "", 0, 0600);
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

/* A program's last dump, or the live file that is left of it, with `n` allocations. */
static void leave_counted(
    const char *path, uint32_t pid, uint32_t reason, uint64_t n, bool runs)
{
    struct test_file file;
    struct tp_process_now now;
    test_file_full(&file);
    struct tp_process_record *process =
        (void *)(file.bytes + test_file_row(&file, 0)->offset);
    struct tp_thread_slot *slot =
        (void *)(file.bytes + test_file_row(&file, 5)->offset);
    tp_process_now_read(&now, pid);
    process->pid = pid;
    process->start_jiffies = runs ? now.start_jiffies : 1;
    process->start_monotonic_ns = 100;
    slot->taken[1].allocations = n;
    test_file_header(&file)->reason = reason;
    if (!reason) test_file_header(&file)->state = TP_FILE_LIVE;
    write_file(path, file.bytes, file.n_bytes, 0600);
    test_file_fini(&file);
}

static void open_gather(struct tp_gather *gather)
{
    assert_true(tp_gather_open(gather, ".", "g.rec", &error));
    assert_string_equal(gather->part, "g.rec.part");
}

/* The recording as it is now must be whole; expects that many dumps in it. */
static void holds(const struct tp_gather *gather, size_t n)
{
    struct tp_source source;
    struct tp_recording recording = { 0 };
    struct stat status;
    assert_int_equal(gather->n_dumps, n);
    assert_int_equal(stat(gather->part, &status), 0);
    assert_int_equal(status.st_size, gather->n_bytes);
    assert_int_equal(status.st_mode & 0777, 0600);
    if (n == 0) return;
    assert_true(tp_source_open(&source, gather->part, &error));
    assert_true(tp_recording_load(&recording, &source, &error));
    assert_int_equal(recording.n_dumps, n);
    tp_recording_fini(&recording);
    tp_source_close(&source);
}

/* Gives a file an age; a negative one is as young as can be. */
static void set_age(const char *path, int seconds)
{
    struct timespec times[2] = { { .tv_nsec = UTIME_OMIT } };
    clock_gettime(CLOCK_REALTIME, &times[1]);
    times[1].tv_sec -= seconds;
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void everything_that_is_left_is_gathered(void **state)
{
    (void)state;
    struct tp_gather gather;
    leave("a.tide", TEST_PID - 2, 300, TP_REASON_EXIT);
    leave("b.tide.1", TEST_PID - 3, 200, TP_REASON_SIGNAL);
    leave("tidepool.1.2.3", TEST_PID - 4, 400, 0);         // killed
    leave("tidepool.1.2.4", TEST_PID - 2, 300, 0);         // has an exit dump as well
    write_file("c.tide.1073741820.part", "cut", 3, 0600);  // of the one in a.tide
    write_file("run", "pid=1\n", 6, 0600);
    open_gather(&gather);
    tp_gather_finish(&gather);
    assert_int_equal(gather.why, 0);
    assert_int_equal(gather.n_damaged, 0);
    assert_int_equal(gather.n_running, 0);
    holds(&gather, 3);
    assert_int_equal(access("a.tide", F_OK), -1);
    assert_int_equal(access("tidepool.1.2.4", F_OK), -1);
    assert_int_equal(access("c.tide.1073741820.part", F_OK), -1);
    tp_gather_fini(&gather);
}

static void what_cannot_be_read_stays(void **state)
{
    (void)state;
    struct tp_gather gather;
    leave("a.tide", TEST_PID - 2, 300, TP_REASON_EXIT);
    write_file("junk.tide", "junk", 4, 0600);
    assert_int_equal(symlink("nowhere", "link.tide"), 0);
    open_gather(&gather);
    tp_gather_finish(&gather);
    assert_int_equal(gather.n_damaged, 1);
    holds(&gather, 1);
    assert_int_equal(access("junk.tide", F_OK), 0);
    tp_gather_fini(&gather);
}

/* Whole by its rows, but with sums that no recording may have. */
static void leave_overflowing(const char *path, uint32_t reason)
{
    struct test_file file;
    test_file_full(&file);
    struct tp_thread_slot *slot =
        (void *)(file.bytes + test_file_row(&file, 5)->offset);
    slot->taken[1].allocations = UINT64_MAX - 5;
    test_file_header(&file)->reason = reason;
    if (!reason) test_file_header(&file)->state = TP_FILE_LIVE;
    write_file(path, file.bytes, file.n_bytes, 0600);
    test_file_fini(&file);
}

static void an_account_that_cannot_be_true_spoils_no_recording(void **state)
{
    (void)state;
    struct tp_gather gather;
    struct tp_report report;
    const char *const part[] = { "g.rec.part" };
    leave("a.tide", TEST_PID - 2, 300, TP_REASON_EXIT);
    leave_overflowing("b.tide", TP_REASON_EXIT);
    leave_overflowing("tidepool.1.2.3", 0);
    open_gather(&gather);
    tp_gather_finish(&gather);
    assert_int_equal(gather.n_damaged, 2);
    holds(&gather, 1);
    assert_int_equal(access("b.tide", F_OK), 0);
    assert_int_equal(access("tidepool.1.2.3", F_OK), 0);
    assert_true(tp_report_open(&report, part, 1, &error));
    tp_report_fini(&report);
    tp_gather_fini(&gather);

    // One that stands in a recording already is left out; alone it is an error.
    const char *const both[] = { "both.rec" };
    const char *const bad[] = { "b.tide" };
    assert_int_equal(system("cat b.tide g.rec.part > both.rec"), 0);
    assert_true(tp_report_open(&report, both, 1, &error));
    assert_int_equal(report.n_profiles, 1);
    assert_non_null(strstr(report.note, "left out 1 of 2 dumps"));
    tp_report_fini(&report);
    assert_false(tp_report_open(&report, bad, 1, &error));
    assert_non_null(strstr(error.text, "overflow"));
}

static void a_dump_is_taken_when_it_has_been_there_for_a_moment(void **state)
{
    (void)state;
    struct tp_gather gather;
    open_gather(&gather);
    leave("old.tide", TEST_PID - 2, 300, TP_REASON_EXIT);
    leave("new.tide", TEST_PID - 3, 200, TP_REASON_EXIT);
    leave("tidepool.1.2.3", TEST_PID - 4, 400, 0);
    set_age("old.tide", 1);
    set_age("new.tide", -3600);
    set_age("tidepool.1.2.3", 1);
    unsigned pause = tp_gather_look(&gather);
    holds(&gather, 1);
    assert_int_equal(access("old.tide", F_OK), -1);
    assert_int_equal(access("new.tide", F_OK), 0);
    set_age("new.tide", 1);
    assert_int_equal(tp_gather_look(&gather), pause);
    holds(&gather, 2);
    assert_true(tp_gather_look(&gather) > pause);  // nothing came
    assert_int_equal(access("tidepool.1.2.3", F_OK), 0);
    tp_gather_finish(&gather);
    holds(&gather, 3);
    tp_gather_fini(&gather);
}

static void an_account_that_went_on_after_its_last_dump_is_kept(void **state)
{
    (void)state;
    struct tp_gather gather;
    leave_counted("a.tide", TEST_PID - 2, TP_REASON_EXIT, 101, false);
    leave_counted("tidepool.1.2.3", TEST_PID - 2, 0, 103, false);
    open_gather(&gather);
    tp_gather_finish(&gather);
    holds(&gather, 2);
    tp_gather_fini(&gather);
}

static void a_process_that_goes_on_keeps_its_live_file(void **state)
{
    (void)state;
    struct tp_gather gather;
    struct tp_process_now now;
    char name[64];
    tp_process_now_read(&now, (uint32_t)getpid());
    snprintf(name, sizeof(name), "tidepool.%d.%llu.0", getpid(),
        (unsigned long long)now.start_jiffies);
    leave_counted(name, (uint32_t)getpid(), 0, 101, true);
    int fd = open(name, O_RDONLY);
    void *mapped = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(mapped, MAP_FAILED);
    close(fd);
    open_gather(&gather);
    tp_gather_finish(&gather);
    assert_int_equal(gather.n_running, 1);
    holds(&gather, 1);
    assert_int_equal(access(name, F_OK), 0);
    assert_false(tp_gather_clean(&gather));
    tp_gather_fini(&gather);
    munmap(mapped, 4096);
}

/* As a process in a pid namespace of its own is seen, or rather not seen. */
static void a_file_in_use_stays_whatever_its_number_says(void **state)
{
    (void)state;
    static const char *const names[] = { "tidepool.1.2.3", "tidepool.1073741818.2.4.new",
        "a.tide.1073741820.part" };
    struct tp_gather gather;
    void *mapped[3];
    leave(names[0], TEST_PID - 4, 400, 0);
    leave(names[1], TEST_PID - 4, 400, 0);
    leave(names[2], TEST_PID - 4, 400, 0);
    leave("b.tide", TEST_PID - 2, 300, TP_REASON_EXIT);  // of the number of the part
    for (int i = 0; i < 3; i++) {
        int fd = open(names[i], O_RDWR | O_CLOEXEC);
        mapped[i] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_ptr_not_equal(mapped[i], MAP_FAILED);
        close(fd);
    }
    open_gather(&gather);
    tp_gather_finish(&gather);
    assert_int_equal(gather.n_running, 1);
    assert_int_equal(gather.n_damaged, 0);
    holds(&gather, 2);
    for (int i = 0; i < 3; i++) assert_int_equal(access(names[i], F_OK), 0);

    struct tp_report report;
    const char *const recordings[] = { gather.part };
    assert_true(tp_report_open(&report, recordings, 1, &error));
    assert_string_equal(report.profiles[1].reason, "request");
    tp_report_fini(&report);
    for (int i = 0; i < 3; i++) munmap(mapped[i], 4096);
    tp_gather_finish(&gather);
    assert_int_equal(gather.n_running, 0);
    holds(&gather, 3);
    for (int i = 0; i < 3; i++) assert_int_equal(access(names[i], F_OK), -1);
    tp_gather_fini(&gather);
}

static void what_a_full_disk_does_not_take_stays(void **state)
{
    (void)state;
    struct tp_gather gather;
    struct rlimit before;
    struct rlimit limit;
    struct sigaction ignore = { .sa_handler = SIG_IGN };
    struct sigaction action;
    leave("a.tide", TEST_PID - 2, 300, TP_REASON_EXIT);
    leave("b.tide", TEST_PID - 3, 200, TP_REASON_EXIT);
    leave("tidepool.1.2.3", TEST_PID - 4, 400, 0);
    open_gather(&gather);
    struct stat status;
    assert_int_equal(stat("a.tide", &status), 0);
    sigaction(SIGXFSZ, &ignore, &action);
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = (rlim_t)status.st_size + 1000;  // in the middle of the second
    setrlimit(RLIMIT_FSIZE, &limit);
    tp_gather_finish(&gather);
    setrlimit(RLIMIT_FSIZE, &before);
    sigaction(SIGXFSZ, &action, NULL);
    assert_int_equal(gather.why, EFBIG);
    holds(&gather, 1);
    assert_int_equal((access("a.tide", F_OK) == 0) + (access("b.tide", F_OK) == 0), 1);
    assert_int_equal(access("tidepool.1.2.3", F_OK), 0);
    assert_int_equal(tp_gather_look(&gather), 200);  // nothing more until the end
    holds(&gather, 1);
    tp_gather_finish(&gather);  // there is room again
    assert_int_equal(gather.why, 0);
    holds(&gather, 3);
    tp_gather_fini(&gather);
}

static void the_folder_goes_when_only_its_text_is_left(void **state)
{
    (void)state;
    char inside[] = "inside";
    struct tp_gather gather = { .folder = inside, .fd = -1 };
    assert_int_equal(mkdir(inside, 0700), 0);
    write_file("inside/run", "pid=1\n", 6, 0600);
    write_file("inside/late.tide", "", 0, 0600);
    assert_false(tp_gather_clean(&gather));
    assert_int_equal(access("inside/run", F_OK), 0);
    assert_int_equal(unlink("inside/late.tide"), 0);
    assert_true(tp_gather_clean(&gather));
    assert_int_equal(access(inside, F_OK), -1);
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
        cmocka_unit_test(closed_descriptors_are_no_way_to_the_program),
        cmocka_unit_test(our_keys_come_after_the_users),
        cmocka_unit_test(the_program_keeps_its_signals),
        cmocka_unit_test(commas_in_values_are_escaped),
        cmocka_unit_test(an_ignored_child_signal_hides_no_status),
        IN_FOLDER(the_program_waits_and_is_looked_after),
        IN_FOLDER(everything_that_is_left_is_gathered),
        IN_FOLDER(what_cannot_be_read_stays),
        IN_FOLDER(an_account_that_cannot_be_true_spoils_no_recording),
        IN_FOLDER(a_dump_is_taken_when_it_has_been_there_for_a_moment),
        IN_FOLDER(an_account_that_went_on_after_its_last_dump_is_kept),
        IN_FOLDER(a_process_that_goes_on_keeps_its_live_file),
        IN_FOLDER(a_file_in_use_stays_whatever_its_number_says),
        IN_FOLDER(what_a_full_disk_does_not_take_stays),
        IN_FOLDER(the_folder_goes_when_only_its_text_is_left),
    };
    return cmocka_run_group_tests_name("run", tests, NULL, NULL);
}
