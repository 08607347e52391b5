/* SPDX-License-Identifier: MIT */
/*
 * clean.c - orphans are offered by listing them, and removed when asked or when old.
 *
 * Whatever is removed is opened again first, by name and not through a link, and must be
 * the inode that was judged, still unused, and under that name until the last moment.
 *
 * A folder of an abandoned run goes when nothing of worth is left in it: its live files
 * are orphans like all others, but dumps, or a recording that was cut off, are results
 * that nobody has seen yet. They wait for `tidepool dump FOLDER`, or for force.
 */
#include "report/survey.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "report/emit.h"

#define DAY_NS (UINT64_C(86400) * 1000000000)

static uint64_t present(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool is_old(uint64_t since_ns, uint64_t age_ns)
{
    uint64_t now = present();
    return since_ns <= now && now - since_ns >= age_ns;
}

static bool may_touch(uid_t owner)
{
    return owner == geteuid() || geteuid() == 0;
}

__attribute__((format(printf, 2, 3))) static void note_problem(
    struct tp_cleaned *cleaned, const char *format, ...)
{
    va_list arguments;
    if (cleaned->problem[0]) return;
    va_start(arguments, format);
    vsnprintf(cleaned->problem, sizeof(cleaned->problem), format, arguments);
    va_end(arguments);
}

/* ---- one file --------------------------------------------------------------------- */

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Opens the very file that was judged, unused as before; -1 when it is not that one. */
static int open_judged(const struct tp_found *found, int folder)
{
    struct stat status;
    int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = openat(folder, last_part(found->file), flags);
    if (fd < 0) return -1;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
        status.st_dev == found->device && status.st_ino == found->inode &&
        may_touch(status.st_uid) && tp_live_unused(fd))
        return fd;
    close(fd);
    errno = ESTALE;
    return -1;
}

static bool still_named(const struct tp_found *found, int folder)
{
    struct stat status;
    return fstatat(folder, last_part(found->file), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        status.st_dev == found->device && status.st_ino == found->inode;
}

/* Removes an orphan; true when it is gone. */
static bool remove_file(struct tp_cleaned *cleaned, struct tp_found *found)
{
    int folder = open(found->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = folder >= 0 ? open_judged(found, folder) : -1;
    found->removed = fd >= 0 && still_named(found, folder) &&
        unlinkat(folder, last_part(found->file), 0) == 0;
    int why = errno;
    if (fd >= 0) close(fd);
    if (folder >= 0) close(folder);
    if (found->removed) {
        cleaned->n_files++;
        cleaned->n_bytes += found->file_bytes;
    } else if (why != ENOENT) {
        note_problem(cleaned, "cannot remove %s: %s", found->file, strerror(why));
    }
    return found->removed;
}

/* ---- the folder of a run ------------------------------------------------------------ */

/* True for what `tidepool run` and the library put there, live files apart. */
static bool is_of_run(const char *name)
{
    size_t n = strlen(name);
    return strcmp(name, "run") == 0 || strcmp(name, "packed") == 0 ||
        tp_recording_name(name) ||
        (n > 5 && strcmp(name + n - 5, ".part") == 0 && strstr(name, ".tide."));
}

/* Removes what belongs to a run from its open folder, and counts its recordings. */
static void empty_folder(
    struct tp_cleaned *cleaned, int folder, const struct tp_found_run *run)
{
    int copy = dup(folder);
    DIR *stream = copy >= 0 ? fdopendir(copy) : NULL;
    const struct dirent *entry;
    while (stream && (entry = readdir(stream))) {
        struct stat status;
        if (!is_of_run(entry->d_name) ||
            fstatat(folder, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
            S_ISDIR(status.st_mode))
            continue;
        if (unlinkat(folder, entry->d_name, 0) == 0)
            cleaned->n_bytes += (uint64_t)status.st_size;
        else
            note_problem(cleaned, "cannot remove %s/%s: %s", run->folder, entry->d_name,
                strerror(errno));
    }
    if (stream)
        closedir(stream);
    else if (copy >= 0)
        close(copy);
}

/*
 * Removes the part of a recording that stands outside of the folder, where the caller's
 * own run began to write it. What another user's folder says of a path is nothing to go
 * by, for root least of all.
 */
static void remove_recording(struct tp_cleaned *cleaned, const struct tp_found_run *run)
{
    if (!run->recording || run->owner != geteuid()) return;
    if (unlink(run->recording) == 0)
        cleaned->n_bytes += run->recording_bytes;
    else if (errno != ENOENT)
        note_problem(cleaned, "cannot remove %s: %s", run->recording, strerror(errno));
}

/* Removes an abandoned run with all that is in it. */
static void remove_run(struct tp_cleaned *cleaned, struct tp_survey *survey, size_t i)
{
    struct stat status;
    struct tp_found_run *run = &survey->runs[i];
    int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int folder = open(run->folder, flags);
    if (folder < 0) return;
    if (fstat(folder, &status) < 0 || status.st_dev != run->device ||
        status.st_ino != run->inode || !may_touch(status.st_uid)) {
        close(folder);
        return;
    }
    for (size_t k = 0; k < survey->n_found; k++) {
        struct tp_found *found = &survey->found[k];
        if (found->run == i && found->orphan && !found->removed)
            remove_file(cleaned, found);
    }
    empty_folder(cleaned, folder, run);
    close(folder);
    remove_recording(cleaned, run);
    run->removed = rmdir(run->folder) == 0;
    if (run->removed)
        cleaned->n_runs++;
    else
        note_problem(cleaned, "cannot remove %s: %s", run->folder, strerror(errno));
}

/* True when the run has nothing left that would be missed. */
static bool is_spent(const struct tp_survey *survey, size_t i)
{
    const struct tp_found_run *run = &survey->runs[i];
    if (!run->abandoned || run->removed || tp_run_holds_dumps(run)) return false;
    for (size_t k = 0; k < survey->n_found; k++)
        if (survey->found[k].run == i && !survey->found[k].removed) return run->packed;
    return true;
}

/* ---- the order of removal -------------------------------------------------------------- */

struct queue {
    struct tp_found **of;
    size_t n;
    uint64_t n_bytes;
};

static int by_end(const void *a, const void *b)
{
    const struct tp_found *left = *(struct tp_found *const *)a;
    const struct tp_found *right = *(struct tp_found *const *)b;
    if (left->end_unix_ns != right->end_unix_ns)
        return left->end_unix_ns < right->end_unix_ns ? -1 : 1;
    return strcmp(left->file, right->file);
}

static int by_offer(const void *a, const void *b)
{
    const struct tp_found *left = *(struct tp_found *const *)a;
    const struct tp_found *right = *(struct tp_found *const *)b;
    if (left->changed_ns != right->changed_ns)
        return left->changed_ns < right->changed_ns ? -1 : 1;
    return strcmp(left->file, right->file);
}

static bool was_offered(const struct tp_found *found)
{
    return found->offered && found->owner == geteuid();
}

/* The orphans that may go, oldest first; all of them, or those that were offered. */
static bool line_up(struct queue *out, struct tp_survey *survey, bool offered_only)
{
    memset(out, 0, sizeof(*out));
    out->of = calloc(survey->n_found + 1, sizeof(out->of[0]));
    if (!out->of) return false;
    for (size_t i = 0; i < survey->n_found; i++) {
        struct tp_found *found = &survey->found[i];
        if (!tp_found_removable(survey, found)) continue;
        if (offered_only && !was_offered(found)) continue;
        out->of[out->n++] = found;
        out->n_bytes += found->file_bytes;
    }
    qsort(out->of, out->n, sizeof(out->of[0]), offered_only ? by_offer : by_end);
    return true;
}

void tp_clean_offer(struct tp_survey *survey)
{
    for (size_t i = 0; i < survey->n_found; i++) {
        struct tp_found *found = &survey->found[i];
        if (!tp_found_removable(survey, found) || found->offered ||
            found->owner != geteuid())
            continue;
        int folder = open(found->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int fd = folder >= 0 ? open_judged(found, folder) : -1;
        const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
            { .tv_nsec = UTIME_NOW } };
        // The time first: an old file must not count as offered long ago.
        if (fd >= 0 && futimens(fd, times) == 0) (void)fchmod(fd, 0400);
        if (fd >= 0) close(fd);
        if (folder >= 0) close(folder);
    }
}

void tp_clean_asked(struct tp_cleaned *out_cleaned, struct tp_survey *survey,
    const struct tp_clean_wishes *wishes)
{
    struct queue queue;
    memset(out_cleaned, 0, sizeof(*out_cleaned));
    if (!line_up(&queue, survey, false)) return;
    for (size_t i = 0; i < queue.n; i++) {
        if (wishes->keep_bytes && queue.n_bytes <= wishes->keep_bytes) break;
        if (!is_old(queue.of[i]->end_unix_ns, wishes->older_ns)) continue;
        if (remove_file(out_cleaned, queue.of[i]))
            queue.n_bytes -= queue.of[i]->file_bytes;
    }
    free(queue.of);
    for (size_t i = 0; i < survey->n_runs; i++) {
        const struct tp_found_run *run = &survey->runs[i];
        bool wanted = is_spent(survey, i) || (wishes->force && run->abandoned);
        if (wanted && is_old(run->changed_ns, wishes->older_ns))
            remove_run(out_cleaned, survey, i);
    }
}

void tp_clean_offered(struct tp_cleaned *out_cleaned, struct tp_survey *survey)
{
    struct queue queue;
    uint64_t most = (uint64_t)TP_CLEAN_KEEP_MIB << 20;
    uint64_t age = TP_CLEAN_AGE_DAYS * DAY_NS;
    memset(out_cleaned, 0, sizeof(*out_cleaned));
    if (!line_up(&queue, survey, true)) return;
    for (size_t i = 0; i < queue.n; i++) {
        if (queue.n_bytes <= most && !is_old(queue.of[i]->changed_ns, age)) continue;
        if (remove_file(out_cleaned, queue.of[i]))
            queue.n_bytes -= queue.of[i]->file_bytes;
    }
    free(queue.of);
    for (size_t i = 0; i < survey->n_runs; i++) {
        const struct tp_found_run *run = &survey->runs[i];
        if (run->owner == geteuid() && is_spent(survey, i) &&
            is_old(run->changed_ns, age))
            remove_run(out_cleaned, survey, i);
    }
}

/* ---- at the end of another command -------------------------------------------------------- */

/* True when the folder holds something offered that is beyond a limit. */
static bool is_due(const char *path, uint64_t *total)
{
    DIR *stream = opendir(path);
    const struct dirent *entry;
    bool due = false;
    while (!due && stream && (entry = readdir(stream))) {
        struct stat status;
        struct tp_live_name name;
        if (!tp_live_name_parse(&name, entry->d_name) ||
            fstatat(dirfd(stream), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISREG(status.st_mode) || (status.st_mode & 0777) != 0400 ||
            status.st_uid != geteuid())
            continue;
        *total += tp_file_memory(&status);
        uint64_t changed = (uint64_t)status.st_mtim.tv_sec * 1000000000u;
        due = *total > (uint64_t)TP_CLEAN_KEEP_MIB << 20 ||
            is_old(changed, TP_CLEAN_AGE_DAYS * DAY_NS);
    }
    if (stream) closedir(stream);
    return due;
}

bool tp_clean_in_passing(
    char out_line[TP_CLEAN_LINE], const char *const *folders, size_t n_folders)
{
    const char *usual[TP_USUAL_FOLDERS];
    size_t n_usual = tp_usual_folders(usual);
    uint64_t total = 0;
    bool due = false;
    for (size_t i = 0; i < (n_folders ? n_folders : n_usual); i++)
        due = is_due(n_folders ? folders[i] : usual[i], &total) || due;
    struct tp_error ignored;
    struct tp_survey survey;
    struct tp_cleaned cleaned;
    if (!due || !tp_survey_read(&survey, folders, n_folders, &ignored)) return false;
    tp_clean_offered(&cleaned, &survey);
    tp_survey_fini(&survey);
    tp_cleaned_tell(out_line, &cleaned);
    return cleaned.n_files > 0 || cleaned.n_runs > 0;
}

void tp_cleaned_tell(char out_line[TP_CLEAN_LINE], const struct tp_cleaned *cleaned)
{
    char size[TP_HUMAN_BYTES];
    snprintf(out_line, TP_CLEAN_LINE,
        "removed %zu live file%s (%s) that killed processes left behind and that "
        "'tidepool ls' had listed before: older than %d days, or beyond %d MiB",
        cleaned->n_files, cleaned->n_files == 1 ? "" : "s",
        tp_human_size(size, (int64_t)cleaned->n_bytes), (int)TP_CLEAN_AGE_DAYS,
        (int)TP_CLEAN_KEEP_MIB);
}
