/* SPDX-License-Identifier: MIT */
/*
 * test_gather.c - gathering what a run left in its folder, and what must stay there.
 */
#include "tests/unit/report/test.h"

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
    test_write_file(path, file.bytes, file.n_bytes, 0600);
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
    test_write_file(path, file.bytes, file.n_bytes, 0600);
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
    leave("tidepool.1.2.3", TEST_PID - 4, 400, 0);  // killed
    leave("tidepool.1.2.4", TEST_PID - 2, 300, 0);  // has an exit dump as well
    test_write_file("c.tide.1073741820.part", "cut", 3, 0600);  // of the one in a.tide
    test_write_file("run", "pid=1\n", 6, 0600);
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
    test_write_file("junk.tide", "junk", 4, 0600);
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
    test_write_file(path, file.bytes, file.n_bytes, 0600);
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
    static const char *const names[] = { "tidepool.1.2.3",
        "tidepool.1073741818.2.4.new", "a.tide.1073741820.part" };
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
    test_write_file("inside/run", "pid=1\n", 6, 0600);
    test_write_file("inside/late.tide", "", 0, 0600);
    assert_false(tp_gather_clean(&gather));
    assert_int_equal(access("inside/run", F_OK), 0);
    assert_int_equal(unlink("inside/late.tide"), 0);
    assert_true(tp_gather_clean(&gather));
    assert_int_equal(access(inside, F_OK), -1);
}

#define IN_FOLDER(test) \
    cmocka_unit_test_setup_teardown(test, test_folder_make, test_folder_clear)

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    return cmocka_run_group_tests_name("gather", tests, NULL, NULL);
}
