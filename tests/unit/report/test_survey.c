/* SPDX-License-Identifier: MIT */
/*
 * test_survey.c - what is an orphan and what is not; what goes and what stays; a folder
 * as an input. The files are made here, of a process that never was.
 */
#include "tests/unit/report/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report/survey.h"

enum { START = 7 };  // of TEST_PID, in jiffies

static struct tp_error error;
static char folder[64];
static char live_name[96];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test_survey.XXXXXX");
    snprintf(live_name, sizeof(live_name), "tidepool.%d.%d.0", TEST_PID, START);
    return mkdtemp(folder) ? chdir(folder) : -1;
}

static int clear_folder(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof(command), "rm -r %s", folder);
    return chdir("/") || system(command);
}

static void save(const char *name, const void *bytes, size_t n)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
}

/* Saves a file of that state and reason, of a process that began at `start_ns`. */
static void save_account(const char *name, uint32_t file_state, uint32_t reason,
    uint32_t ppid, uint64_t start_ns)
{
    struct test_file file;
    test_file_full(&file);
    test_file_header(&file)->state = file_state;
    test_file_header(&file)->reason = reason;
    struct tp_process_record *process =
        (void *)(file.bytes + test_file_row(&file, 0)->offset);
    process->start_jiffies = START;
    process->ppid = ppid;
    process->start_monotonic_ns = start_ns;
    save(name, file.bytes, file.n_bytes);
    test_file_fini(&file);
}

static void survey(struct tp_survey *out)
{
    const char *const folders[] = { folder };
    assert_true(tp_survey_read(out, folders, 1, &error));
}

static void names_are_taken_whole(void **state)
{
    (void)state;
    struct tp_live_name name;
    assert_true(tp_live_name_parse(&name, "tidepool.12.345.6"));
    assert_int_equal(name.pid, 12);
    assert_int_equal(name.jiffies, 345);
    assert_int_equal(name.n, 6);
    static const char *const wrong[] = { "tidepool.12.345", "tidepool.12.345.6.tide",
        "xtidepool.1.2.3", "tidepool.-1.2.3", "tidepool.1..3", "tidepool.1.2.3x",
        "tidepool.99999999999999999999.2.3", "tidepool.1.2.3.new", "" };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_false(tp_live_name_parse(&name, wrong[i]));
    assert_true(tp_live_name_unfilled(&name, "tidepool.1.2.3.new"));
    assert_false(tp_live_name_unfilled(&name, "tidepool.1.2.3"));
    assert_false(tp_live_name_unfilled(&name, ".new"));
    assert_true(tp_run_name("tidepool-run.aB3dEf"));
    assert_false(tp_run_name("tidepool-run.aB3dE"));
    assert_false(tp_run_name("tidepool-run.aB3d/f"));
    assert_false(tp_run_name("tidepool-run......."));
}

static void a_file_is_in_use_while_anybody_maps_it(void **state)
{
    (void)state;
    save_account(live_name, TP_FILE_LIVE, 0, 1, 1);
    int writer = open(live_name, O_RDWR | O_CLOEXEC);
    void *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writer, 0);
    assert_true(mapped != MAP_FAILED);
    close(writer);
    int fd = open(live_name, O_RDONLY | O_CLOEXEC);
    assert_false(tp_live_unused(fd));
    munmap(mapped, 4096);
    assert_true(tp_live_unused(fd));
    assert_true(tp_live_unused(fd));  // asking leaves nothing behind
    close(fd);
}

static void an_orphan_is_an_account_under_its_own_name(void **state)
{
    (void)state;
    struct tp_survey found;
    save_account(live_name, TP_FILE_LIVE, 0, 5, 1);
    save_account("tidepool.9.9.9", TP_FILE_LIVE, 0, 5, 1);  // another process's name
    save("tidepool.9.9.8", "TIDEPOOL", 8);
    survey(&found);
    assert_int_equal(found.n_found, 1);
    const struct tp_found *one = &found.found[0];
    assert_true(one->orphan && one->counted && !one->offered);
    assert_int_equal(one->state, TP_FOUND_KILLED);
    assert_int_equal(one->pid, TEST_PID);
    assert_int_equal(one->ppid, 5);
    assert_string_equal(one->name, "full");
    assert_memory_equal(one->command, "full\0-x", 8);
    assert_int_equal(one->allocations, 101 + 211);
    assert_int_equal(one->live_bytes, 4 * 48 + 12 * 112);
    tp_survey_fini(&found);

    save_account(live_name, TP_FILE_LIVE, TP_REASON_EXIT, 5, 1);
    survey(&found);
    assert_int_equal(found.found[0].state, TP_FOUND_EXITED);
    tp_survey_fini(&found);

    save_account(live_name, TP_FILE_DUMP, TP_REASON_EXIT, 5, 1);  // nobody's live file
    survey(&found);
    assert_int_equal(found.n_found, 0);
    tp_survey_fini(&found);
}

static void what_was_not_filled_is_an_orphan_without_figures(void **state)
{
    (void)state;
    static const char zeros[12288];
    struct tp_survey found;
    save("tidepool.1073741822.7.3", zeros, sizeof(zeros));
    save("tidepool.1073741822.7.4.new", "anything", 8);
    survey(&found);
    assert_int_equal(found.n_found, 2);
    for (size_t i = 0; i < 2; i++)
        assert_true(found.found[i].orphan && !found.found[i].counted);
    struct tp_cleaned cleaned;
    struct tp_clean_wishes all = { .older_ns = 0 };
    tp_clean_asked(&cleaned, &found, &all);
    assert_int_equal(cleaned.n_files, 2);
    tp_survey_fini(&found);
    survey(&found);
    assert_int_equal(found.n_found, 0);
    tp_survey_fini(&found);
}

static void another_file_of_the_name_is_not_removed(void **state)
{
    (void)state;
    struct tp_survey found;
    struct tp_cleaned cleaned;
    struct tp_clean_wishes all = { .older_ns = 0 };
    save_account(live_name, TP_FILE_LIVE, 0, 5, 1);
    survey(&found);
    assert_int_equal(rename(live_name, "aside"), 0);
    save_account(live_name, TP_FILE_LIVE, 0, 5, 1);  // in the meantime
    tp_clean_asked(&cleaned, &found, &all);
    assert_int_equal(cleaned.n_files, 0);
    assert_non_null(strstr(cleaned.problem, "cannot remove"));
    assert_int_equal(access(live_name, F_OK), 0);
    assert_int_equal(unlink(live_name), 0);
    assert_int_equal(symlink("aside", live_name), 0);
    tp_clean_asked(&cleaned, &found, &all);
    assert_int_equal(cleaned.n_files, 0);
    assert_int_equal(access("aside", F_OK), 0);
    tp_survey_fini(&found);
}

static void offering_is_a_mode_and_a_time(void **state)
{
    (void)state;
    struct tp_survey found;
    struct tp_cleaned cleaned;
    struct stat status;
    const struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
    save_account(live_name, TP_FILE_LIVE, 0, 5, 1);
    assert_int_equal(utimensat(AT_FDCWD, live_name, old, 0), 0);
    survey(&found);
    tp_clean_offered(&cleaned, &found);
    assert_int_equal(cleaned.n_files, 0);  // old, and never offered
    tp_clean_offer(&found);
    tp_survey_fini(&found);
    assert_int_equal(stat(live_name, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0400);
    assert_true(status.st_mtime > 1000);

    survey(&found);
    tp_clean_offered(&cleaned, &found);
    assert_int_equal(cleaned.n_files, 0);  // a moment ago
    tp_survey_fini(&found);
    assert_int_equal(utimensat(AT_FDCWD, live_name, old, 0), 0);
    survey(&found);
    tp_clean_offered(&cleaned, &found);
    assert_int_equal(cleaned.n_files, 1);
    assert_true(found.found[0].removed);
    tp_survey_fini(&found);
}

static void another_command_cleans_in_passing(void **state)
{
    (void)state;
    char line[TP_CLEAN_LINE];
    const char *const folders[] = { folder };
    const struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
    save_account(live_name, TP_FILE_LIVE, 0, 5, 1);
    assert_int_equal(utimensat(AT_FDCWD, live_name, old, 0), 0);
    assert_false(tp_clean_in_passing(line, folders, 1));
    assert_int_equal(chmod(live_name, 0400), 0);
    assert_true(tp_clean_in_passing(line, folders, 1));
    assert_memory_equal(line, "removed 1 live file (", 21);
    assert_int_equal(access(live_name, F_OK), -1);
    assert_false(tp_clean_in_passing(line, folders, 1));
}

static void a_run_is_of_the_process_that_its_text_names(void **state)
{
    (void)state;
    char text[256];
    struct tp_found_run run;
    struct tp_process_now now;
    tp_process_now_read(&now, (uint32_t)getpid());
    save("part", "", 0);
    int fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int other = 0; other < 2; other++) {
        snprintf(text, sizeof(text),
            "pid=%d\nstart=%llu\nrecording=%s/part\ncommand=a b=c\nnews=1\nx\n",
            getpid(), (unsigned long long)now.start_jiffies + (unsigned)other, folder);
        save("run", text, strlen(text));
        assert_true(tp_run_read(&run, fd, folder));
        assert_int_equal(run.abandoned, other);
        assert_int_equal(run.pid, getpid());
        assert_string_equal(run.command, "a b=c");
        assert_non_null(run.recording);
        assert_false(tp_run_holds_dumps(&run));  // it is empty
        tp_run_fini(&run);
    }
    save("part", "secret", 6);  // no recording: nothing to read, and nothing to remove
    assert_true(tp_run_read(&run, fd, folder));
    assert_null(run.recording);
    tp_run_fini(&run);
    close(fd);
}

static void a_folder_tells_everything_once(void **state)
{
    (void)state;
    struct tp_folder read;
    assert_false(tp_folder_read(&read, folder, &error));
    assert_non_null(strstr(error.text, "no recording and no live file"));
    save("run", "pid=41\nstart=1\n", 15);
    save_account("b.tide", TP_FILE_DUMP, TP_REASON_EXIT, 1, 30);
    save_account(live_name, TP_FILE_LIVE, 0, 1, 30);  // of the same process
    save_account("tidepool.1.1.1", TP_FILE_LIVE, 0, 41, 50);
    save_account("a.tide", TP_FILE_DUMP, TP_REASON_EXIT, 1, 20);
    save_account("a.tide.1", TP_FILE_DUMP, TP_REASON_EXIT, 1, 20);
    save("c.tide", "TIDEPOOL", 8);
    save("d.tide.5.part", "half", 4);
    assert_true(tp_folder_read(&read, folder, &error));
    assert_int_equal(read.n_images, 3);
    assert_int_equal(read.n_damaged, 1);
    static const uint64_t starts[3] = { 50, 20, 30 };  // the run's own child is first
    for (size_t i = 0; i < 3; i++) {
        struct tp_recording recording;
        assert_true(tp_recording_parse(
            &recording, read.images[i].bytes, read.images[i].n_bytes, "image", &error));
        assert_int_equal(recording.dumps[0].process.start_monotonic_ns, starts[i]);
        tp_recording_fini(&recording);
    }
    tp_folder_fini(&read);

    const char *const names[] = { folder };
    struct tp_report report;
    assert_true(tp_report_open(&report, names, 1, &error));
    assert_int_equal(report.n_profiles, 3);
    assert_non_null(strstr(report.note, "1 file in"));
    tp_report_fini(&report);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, clear_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_taken_whole),
        IN_FOLDER(a_file_is_in_use_while_anybody_maps_it),
        IN_FOLDER(an_orphan_is_an_account_under_its_own_name),
        IN_FOLDER(what_was_not_filled_is_an_orphan_without_figures),
        IN_FOLDER(another_file_of_the_name_is_not_removed),
        IN_FOLDER(offering_is_a_mode_and_a_time),
        IN_FOLDER(another_command_cleans_in_passing),
        IN_FOLDER(a_run_is_of_the_process_that_its_text_names),
        IN_FOLDER(a_folder_tells_everything_once),
    };
    return cmocka_run_group_tests_name("survey", tests, NULL, NULL);
}
