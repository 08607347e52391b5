/* SPDX-License-Identifier: MIT */
/*
 * survey.c - everything that is there: live files, folders of runs, processes.
 *
 * In this order: first the files, then the maps of all processes, then the judgement. A
 * process that maps a file which was seen still maps it when its maps are read, or has
 * ended since and so left it behind; the other way round a process that began in between
 * would look dead.
 */
#include "report/survey.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "report/model.h"

enum {
    UNBORN_BYTES = 16 << 20,  // the longest file that is looked through for zeros
    RUN_GRACE_S = 60,         // a run has so long to say whose its empty folder is
};

struct work {
    struct tp_survey *survey;
    bool chosen;  // the caller named the folders
    bool good;    // memory was not short
};

static uint64_t ns_of(struct timespec time)
{
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t now_ns(clockid_t which)
{
    struct timespec now;
    clock_gettime(which, &now);
    return ns_of(now);
}

/* ---- names and folders ---------------------------------------------------------------- */

size_t tp_usual_folders(const char *out_folders[TP_USUAL_FOLDERS])
{
    size_t n = 0;
    const char *run = getenv("XDG_RUNTIME_DIR");
    if (run && run[0] == '/') out_folders[n++] = run;
    out_folders[n++] = "/dev/shm";
    out_folders[n++] = "/tmp";
    return n;
}

/* Adds a zeroed element to an array of `n`, or sets work->good to false. */
static void *grow(struct work *work, void **array, size_t *n, size_t size)
{
    char *grown = realloc(*array, (*n + 1) * size);
    if (!grown) {
        work->good = false;
        return NULL;
    }
    *array = grown;
    return memset(grown + (*n)++ * size, 0, size);
}

static struct tp_found *add_found(struct work *work)
{
    struct tp_survey *survey = work->survey;
    struct tp_found *found =
        grow(work, (void **)&survey->found, &survey->n_found, sizeof(survey->found[0]));
    if (found) found->run = TP_NO_RUN;
    return found;
}

static bool copy_text(struct work *work, char **out, const char *text)
{
    free(*out);
    *out = strdup(text);
    if (!*out) work->good = false;
    return *out != NULL;
}

/* ---- live files ------------------------------------------------------------------------- */

bool tp_live_unused(int fd)
{
    // Somebody who opens the file meanwhile breaks the lease: a signal nobody minds.
    fcntl(fd, F_SETSIG, SIGURG);
    if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
        fcntl(fd, F_SETLEASE, F_UNLCK);
        return true;
    }
    // A file system without leases leaves it to the other witnesses. Anything else is a
    // yes, or no answer: another user's file without CAP_LEASE, a filter, no memory.
    return errno == EINVAL || errno == EOPNOTSUPP;
}

/* Notes a file with the name of a live file; what it is will be judged later. */
static void see_file(struct work *work, int folder, const char *path, const char *entry,
    const struct tp_live_name *name, size_t run)
{
    struct stat status;
    if (fstatat(folder, entry, &status, AT_SYMLINK_NOFOLLOW) < 0) return;
    if (!S_ISREG(status.st_mode) || name->pid == 0 || name->pid > UINT32_MAX) return;
    struct tp_found *found = add_found(work);
    if (!found || !copy_text(work, &found->folder, path)) return;
    if (asprintf(&found->file, "%s/%s", path, entry) < 0) {
        found->file = NULL;
        work->good = false;
        return;
    }
    found->state = TP_FOUND_KILLED;
    found->pid = (uint32_t)name->pid;
    found->live_name = *name;
    found->unfilled = tp_live_name_unfilled(&found->live_name, entry);
    found->run = run;
    found->device = status.st_dev;
    found->inode = status.st_ino;
    found->owner = status.st_uid;
    found->file_bytes = tp_file_memory(&status);
    found->changed_ns = ns_of(status.st_mtim);
    found->offered = (status.st_mode & 0777) == 0400;
}

static void see_folder(struct work *work, const char *path, bool top);

/* Begins the record of a run's folder and returns its index. */
static size_t see_run(struct work *work, int folder, const char *path)
{
    struct tp_survey *survey = work->survey;
    struct tp_found_run *run =
        grow(work, (void **)&survey->runs, &survey->n_runs, sizeof(survey->runs[0]));
    if (!run) return TP_NO_RUN;
    if (!tp_run_read(run, folder, path)) work->good = false;
    return survey->n_runs - 1;
}

/* An entry of a folder: a live file, a run, or nothing to us. */
static void see_entry(
    struct work *work, int folder, const char *path, const char *entry, size_t run)
{
    struct tp_live_name name;
    if (tp_live_name_parse(&name, entry) || tp_live_name_unfilled(&name, entry))
        see_file(work, folder, path, entry, &name, run);
    if (run != TP_NO_RUN) {
        tp_run_count(&work->survey->runs[run], folder, entry);
    } else if (tp_run_name(entry)) {
        char *inner = NULL;
        if (asprintf(&inner, "%s/%s", path, entry) < 0) return;
        see_folder(work, inner, false);
        free(inner);
    }
}

/* Looks through a folder; one of a run has no further ones. */
static void see_folder(struct work *work, const char *path, bool top)
{
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK;
    int fd = open(path, flags | (top ? 0 : O_NOFOLLOW));
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    if (!stream) {
        if (fd >= 0) close(fd);
        return;
    }
    const char *slash = strrchr(path, '/');
    bool of_run = !top || tp_run_name(slash ? slash + 1 : path);
    size_t run = of_run ? see_run(work, fd, path) : TP_NO_RUN;
    const struct dirent *entry;
    while (work->good && (entry = readdir(stream)))
        see_entry(work, fd, path, entry->d_name, run);
    closedir(stream);
}

/* ---- processes ---------------------------------------------------------------------------- */

/* When a process began, from its start time in ticks since the boot. */
static uint64_t start_of(uint64_t jiffies)
{
    long hz = sysconf(_SC_CLK_TCK);
    uint64_t age = now_ns(CLOCK_BOOTTIME) - jiffies * (1000000000u / (uint64_t)hz);
    return now_ns(CLOCK_REALTIME) - age;
}

/* What /proc says of a process without a live file. */
static void describe_by_proc(struct work *work, struct tp_found *found)
{
    char path[64];
    char name[64] = "";
    snprintf(path, sizeof(path), "/proc/%u/comm", found->pid);
    FILE *file = fopen(path, "re");
    if (file && fgets(name, sizeof(name), file)) name[strcspn(name, "\n")] = '\0';
    if (file) fclose(file);
    copy_text(work, &found->name, name);
    found->command = tp_process_command(found->pid, &found->n_command_bytes);
}

/* Takes the figures of a live file that could be opened; false when it is none. */
static bool take_figures(
    struct work *work, struct tp_found *found, const struct tp_source *source)
{
    struct tp_error ignored;
    struct tp_recording recording;
    struct tp_profile profile;
    if (!tp_recording_load(&recording, source, &ignored)) return false;
    struct tp_dump *dump = &recording.dumps[0];
    bool good = dump->header.state == TP_FILE_LIVE &&
        tp_profile_build(&profile, dump, source->path, &ignored);
    if (good) {
        copy_text(work, &found->name, dump->process.name);
        found->start_unix_ns = dump->process.start_unix_ns;
        found->end_unix_ns = dump->header.time_unix_ns;
        found->counted = true;
        found->live_bytes = profile.totals.live_bytes;
        found->peak_bytes = profile.totals.peak_bytes;
        found->allocations = profile.totals.allocations;
        free(found->command);
        found->command = dump->command;
        found->n_command_bytes = dump->n_command_bytes;
        dump->command = NULL;
        if (found->state == TP_FOUND_KILLED) {
            found->ppid = dump->process.ppid;
            if (dump->header.reason == TP_REASON_EXIT) found->state = TP_FOUND_EXITED;
        }
        tp_profile_fini(&profile);
    }
    bool same = good && dump->process.pid == found->live_name.pid &&
        dump->process.start_jiffies == found->live_name.jiffies;
    tp_recording_fini(&recording);
    return same;
}

/* The row of the file that was seen already under this name, by this inode. */
static struct tp_found *find_seen(
    struct work *work, const struct tp_mapping *mapping, int fd)
{
    struct stat status;
    bool known = fd >= 0 && fstat(fd, &status) == 0;
    for (size_t i = 0; i < work->survey->n_found; i++) {
        struct tp_found *found = &work->survey->found[i];
        if (!found->file || found->unfilled ||
            memcmp(&found->live_name, &mapping->name, sizeof(mapping->name)) != 0)
            continue;
        // A process that may not be looked into is told by the name alone.
        if (!known || (found->device == status.st_dev && found->inode == status.st_ino))
            return found;
    }
    return NULL;
}

/* A process that has a live file mapped, or at least the library. */
static void see_process(struct work *work, uint32_t pid,
    const struct tp_mapping *mapping, const struct tp_process_now *now)
{
    struct tp_error ignored;
    struct tp_source source = { .fd = -1 };
    bool open = mapping->found && tp_mapping_open(&source, mapping, pid, &ignored);
    struct tp_found *found =
        mapping->found ? find_seen(work, mapping, source.fd) : NULL;
    // A child that shares its parent's file for a moment gets a row of its own.
    bool taken = found && found->state != TP_FOUND_KILLED;
    if ((!found || taken) && work->chosen) goto done;
    if (!found || taken) found = add_found(work);
    if (!found) goto done;
    found->state = now->stopped ? TP_FOUND_STOPPED : TP_FOUND_RUNNING;
    found->pid = pid;
    found->ppid = now->ppid;
    found->start_unix_ns = start_of(now->start_jiffies);
    describe_by_proc(work, found);
    if (mapping->found) {
        struct stat status;
        found->live_name = mapping->name;
        if (open && fstat(source.fd, &status) == 0)
            found->file_bytes = tp_file_memory(&status);
        if (!found->file) copy_text(work, &found->file, mapping->path);
        if (open) take_figures(work, found, &source);
        found->end_unix_ns = 0;
    }
done:
    tp_source_close(&source);
}

static void see_processes(struct work *work)
{
    DIR *stream = opendir("/proc");
    const struct dirent *entry;
    while (work->good && stream && (entry = readdir(stream))) {
        if (!isdigit((unsigned char)entry->d_name[0])) continue;
        struct tp_mapping mapping;
        struct tp_process_now now;
        uint32_t pid = (uint32_t)strtoul(entry->d_name, NULL, 10);
        tp_mapping_read(&mapping, pid);
        if (!mapping.found && !mapping.library) continue;
        tp_process_now_read(&now, pid);
        if (now.running) see_process(work, pid, &mapping, &now);
    }
    if (stream) closedir(stream);
}

/* ---- judgement ------------------------------------------------------------------------------ */

/* A process ended between making its file and filling it: there is nothing in it. */
static bool is_unborn(int fd, const struct stat *status, bool unfilled)
{
    unsigned char page[4096];
    uint64_t n = (uint64_t)status->st_size;
    unsigned mode = status->st_mode & 0777;
    if (n > UNBORN_BYTES || (mode != 0600 && mode != 0400)) return false;
    if (unfilled) return true;
    for (uint64_t at = 0; at < n; at += sizeof(page)) {
        ssize_t got = pread(fd, page, sizeof(page), (off_t)at);
        for (ssize_t i = 0; i < got; i++)
            if (page[i] != 0) return false;
        if (got <= 0) return got == 0;
    }
    return true;
}

/* True when the process of that number and start runs, and may be using the file. */
static bool runs_unseen(const struct tp_found *found)
{
    struct tp_process_now now;
    struct tp_mapping mapping;
    tp_process_now_read(&now, found->pid);
    if (!now.running || now.start_jiffies != found->live_name.jiffies) return false;
    if (found->unfilled) return true;
    tp_mapping_read(&mapping, found->pid);
    return mapping.hidden ||
        (mapping.found &&
            memcmp(&mapping.name, &found->live_name, sizeof(mapping.name)) == 0);
}

/* Judges a file that no process was seen to map; false: it is nothing of ours. */
static bool judge(struct work *work, struct tp_found *found)
{
    struct tp_source source = { .gone = true };
    source.fd = open(found->file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    bool refused = source.fd < 0 && (errno == EACCES || errno == EPERM);
    struct stat status;
    bool unseen = runs_unseen(found);
    if (unseen) found->state = TP_FOUND_RUNNING;
    if (unseen) describe_by_proc(work, found);
    if (!found->name) copy_text(work, &found->name, "");
    if (source.fd < 0) return refused || unseen;

    source.path = found->file;  // lent
    bool ours = fstat(source.fd, &status) == 0 && status.st_dev == found->device &&
        status.st_ino == found->inode;
    bool unused = tp_live_unused(source.fd);
    if (!unused) found->state = TP_FOUND_RUNNING;
    // One that is filled may have been on the way to its name.
    bool read = ours && take_figures(work, found, &source);
    ours = ours && (read || is_unborn(source.fd, &status, found->unfilled));
    if (ours && !read) found->end_unix_ns = found->changed_ns;
    if (found->state == TP_FOUND_RUNNING) found->end_unix_ns = 0;
    bool may = status.st_uid == geteuid() || geteuid() == 0;
    found->orphan = ours && unused && !unseen && may;
    close(source.fd);
    return ours;
}

static void found_fini(struct tp_found *found)
{
    free(found->name);
    free(found->command);
    free(found->folder);
    free(found->file);
}

static void judge_all(struct work *work)
{
    struct tp_survey *survey = work->survey;
    size_t kept = 0;
    for (size_t i = 0; i < survey->n_found; i++) {
        struct tp_found *found = &survey->found[i];
        bool left = found->state == TP_FOUND_KILLED;
        if (!left || judge(work, found))
            survey->found[kept++] = *found;
        else
            found_fini(found);
    }
    survey->n_found = kept;
    // A run goes on while any process of it does; what it has is then its own affair.
    for (size_t i = 0; i < kept; i++) {
        const struct tp_found *found = &survey->found[i];
        if (tp_found_runs(found) && found->run != TP_NO_RUN)
            survey->runs[found->run].abandoned = false;
    }
}

/* A folder just made says nothing yet: a run is about to write whose it is. */
static void judge_runs(struct tp_survey *survey)
{
    uint64_t now = now_ns(CLOCK_REALTIME);
    for (size_t i = 0; i < survey->n_runs; i++) {
        struct tp_found_run *run = &survey->runs[i];
        bool empty = run->n_dumps == 0 && run->n_live == 0;
        bool young = now < run->changed_ns + RUN_GRACE_S * UINT64_C(1000000000);
        if (run->pid == 0 && empty && young) run->abandoned = false;
    }
}

bool tp_found_runs(const struct tp_found *found)
{
    return found->state == TP_FOUND_RUNNING || found->state == TP_FOUND_STOPPED;
}

bool tp_found_removable(const struct tp_survey *survey, const struct tp_found *found)
{
    if (!found->orphan || found->removed) return false;
    if (found->run == TP_NO_RUN) return true;
    const struct tp_found_run *run = &survey->runs[found->run];
    return run->abandoned && !tp_run_holds_dumps(run);
}

/* ---- all of it -------------------------------------------------------------------------------- */

static int by_state(const void *a, const void *b)
{
    const struct tp_found *left = a;
    const struct tp_found *right = b;
    if (tp_found_runs(left) != tp_found_runs(right))
        return tp_found_runs(left) ? -1 : 1;
    if (!tp_found_runs(left) && left->end_unix_ns != right->end_unix_ns)
        return left->end_unix_ns > right->end_unix_ns ? -1 : 1;
    if (left->pid != right->pid) return left->pid < right->pid ? -1 : 1;
    return left->live_name.n < right->live_name.n ? -1 : 1;
}

/* True when the folder is the same as an earlier one of the list. */
static bool seen_before(const char *const *folders, size_t i)
{
    struct stat mine;
    struct stat other;
    if (stat(folders[i], &mine) < 0) return false;
    for (size_t k = 0; k < i; k++)
        if (stat(folders[k], &other) == 0 && other.st_dev == mine.st_dev &&
            other.st_ino == mine.st_ino)
            return true;
    return false;
}

static bool all_are_folders(
    const char *const *folders, size_t n, struct tp_error *error)
{
    for (size_t i = 0; i < n; i++) {
        struct stat status;
        if (stat(folders[i], &status) < 0)
            return tp_error_set(
                error, "cannot read %s: %s", folders[i], strerror(errno));
        if (!S_ISDIR(status.st_mode))
            return tp_error_set(error, "cannot read %s: not a folder", folders[i]);
    }
    return true;
}

bool tp_survey_read(struct tp_survey *out_survey, const char *const *folders,
    size_t n_folders, struct tp_error *error)
{
    const char *usual[TP_USUAL_FOLDERS];
    struct work work = { out_survey, n_folders > 0, true };
    memset(out_survey, 0, sizeof(*out_survey));
    if (!all_are_folders(folders, n_folders, error)) return false;
    if (n_folders == 0) {
        n_folders = tp_usual_folders(usual);
        folders = usual;
    }
    for (size_t i = 0; i < n_folders; i++) {
        char *path = seen_before(folders, i) ? NULL : realpath(folders[i], NULL);
        if (path) see_folder(&work, path, true);
        free(path);
    }
    see_processes(&work);
    judge_runs(out_survey);
    if (work.good) judge_all(&work);
    if (!work.good) {
        tp_survey_fini(out_survey);
        return tp_error_set(error, "out of memory");
    }
    struct tp_found *found = out_survey->found;
    if (found) qsort(found, out_survey->n_found, sizeof(found[0]), by_state);
    return true;
}

void tp_survey_fini(struct tp_survey *survey)
{
    for (size_t i = 0; i < survey->n_found; i++) found_fini(&survey->found[i]);
    for (size_t i = 0; i < survey->n_runs; i++) tp_run_fini(&survey->runs[i]);
    free(survey->found);
    free(survey->runs);
    memset(survey, 0, sizeof(*survey));
}
