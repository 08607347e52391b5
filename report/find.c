/* SPDX-License-Identifier: MIT */
/*
 * find.c - where the bytes are: a file, a process, or what a process left behind.
 *
 * Idea: a live file is called tidepool.PID.JIFFIES.N, and a running process has it
 * mapped, so /proc/PID/maps names it wherever it is; nothing is asked of the process.
 * Only when there is no such mapping are the usual folders searched, and those that
 * `tidepool run` made in them.
 *
 * Knows nothing of: what is inside a recording.
 */
#include "report/model.h"
#include "report/pack.h"
#include "report/survey.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what a process left behind ------------------------------------------------------ */

struct leftover {
    bool found;
    struct tp_live_name name;
    char path[4096];
};

/* Keeps the file if it is the newest of that process so far. */
static void consider(
    struct leftover *best, const char *folder, const char *entry, uint64_t pid)
{
    struct tp_live_name name;
    if (!tp_live_name_parse(&name, entry) || name.pid != pid) return;
    if (best->found && !tp_live_name_newer(&name, &best->name)) return;
    best->found = true;
    best->name = name;
    snprintf(best->path, sizeof(best->path), "%s/%s", folder, entry);
}

/* Searches one folder and, unless it is of a run itself, those of runs in it. */
static void search(struct leftover *best, const char *folder, uint64_t pid, bool top)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (top ? 0 : O_NOFOLLOW));
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    while (stream && (entry = readdir(stream))) {
        char inner[4096];
        consider(best, folder, entry->d_name, pid);
        if (!top || !tp_run_name(entry->d_name)) continue;
        snprintf(inner, sizeof(inner), "%s/%s", folder, entry->d_name);
        search(best, inner, pid, false);
    }
    if (stream)
        closedir(stream);
    else if (fd >= 0)
        close(fd);
}

/*
 * True when the file is not the account of a process that runs: there is none, it has
 * another start time, or it has gone on with exec and no longer maps the file.
 */
static bool was_left(const struct tp_live_name *name)
{
    struct tp_process_now now;
    struct tp_mapping mapping;
    uint32_t pid = name->pid > UINT32_MAX ? 0 : (uint32_t)name->pid;
    tp_process_now_read(&now, pid);
    if (!now.running || now.start_jiffies != name->jiffies) return true;
    tp_mapping_read(&mapping, pid);
    return !mapping.hidden &&
        (!mapping.found || memcmp(&mapping.name, name, sizeof(*name)) != 0);
}

static bool open_leftover(
    struct tp_source *out, const struct leftover *found, struct tp_error *error)
{
    out->fd = open(found->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (out->fd < 0)
        return tp_error_set(error, "cannot read %s: %s", found->path, strerror(errno));
    out->path = strdup(found->path);
    out->gone = was_left(&found->name);
    return out->path || tp_error_set(error, "out of memory");
}

static bool open_process(
    struct tp_source *out, const char *digits, struct tp_error *error)
{
    struct tp_mapping mapping;
    errno = 0;
    unsigned long pid = strtoul(digits, NULL, 10);
    if (errno || pid == 0 || pid > UINT32_MAX)
        return tp_error_set(error, "cannot read %s: no such file or process", digits);
    tp_mapping_read(&mapping, (uint32_t)pid);
    if (mapping.found) return tp_mapping_open(out, &mapping, (uint32_t)pid, error);

    struct leftover found = { .found = false };
    const char *folders[TP_USUAL_FOLDERS];
    size_t n = tp_usual_folders(folders);
    for (size_t i = 0; i < n; i++) search(&found, folders[i], pid, true);
    if (found.found) return open_leftover(out, &found, error);
    struct tp_process_now now;
    tp_process_now_read(&now, (uint32_t)pid);
    if (now.running)
        return tp_error_set(error,
            "process %lu does not run under Tidepool, or you may not look at it", pid);
    return tp_error_set(error, "cannot read %s: no such file or process", digits);
}

/* ---- files ----------------------------------------------------------------------------- */

static bool all_digits(const char *text)
{
    return *text && text[strspn(text, "0123456789")] == '\0';
}

static bool open_file(struct tp_source *out, const char *path, struct tp_error *error)
{
    out->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (out->fd < 0)
        return tp_error_set(error, "cannot read %s: %s", path, strerror(errno));
    struct tp_live_name name;
    const char *slash = strrchr(path, '/');
    out->gone = tp_live_name_parse(&name, slash ? slash + 1 : path) && was_left(&name);
    out->path = strdup(path);
    if (!out->path) return tp_error_set(error, "out of memory");
    return tp_unpack_open(&out->packed, out->fd, out->path, error);
}

bool tp_recording_name(const char *name)
{
    static const char suffix[] = ".tide", packed[] = ".zst";
    size_t n = strlen(name), last = n;
    while (last > 0 && isdigit((unsigned char)name[last - 1])) last--;
    if (last < n && last > 0 && name[last - 1] == '.') n = last - 1;
    size_t length = sizeof(suffix) - 1;
    if (n > 4 && memcmp(name + n - 4, packed, 4) == 0) n -= 4;
    return name[0] != '.' && n > length &&
        memcmp(name + n - length, suffix, length) == 0;
}

/* Opens the newest *.tide, *.tide.N or *.tide.zst of the current folder. */
static bool open_newest(struct tp_source *out, struct tp_error *error)
{
    char newest[256] = "";
    struct timespec time = { 0 };
    DIR *stream = opendir(".");
    const struct dirent *entry;
    while (stream && (entry = readdir(stream))) {
        struct stat status;
        size_t n = strlen(entry->d_name);
        if (n >= sizeof(newest) || !tp_recording_name(entry->d_name) ||
            stat(entry->d_name, &status) < 0 || !S_ISREG(status.st_mode))
            continue;
        bool later = status.st_mtim.tv_sec != time.tv_sec
            ? status.st_mtim.tv_sec > time.tv_sec
            : status.st_mtim.tv_nsec >= time.tv_nsec;
        if (newest[0] && !later) continue;
        time = status.st_mtim;
        memcpy(newest, entry->d_name, n + 1);
    }
    if (stream) closedir(stream);
    if (!newest[0])
        return tp_error_set(error,
            "no recording (*.tide) in this folder: name one, or "
            "make one with 'tidepool run COMMAND'");
    return open_file(out, newest, error);
}

bool tp_source_open(
    struct tp_source *out_source, const char *name, struct tp_error *error)
{
    struct stat status;
    bool good;
    memset(out_source, 0, sizeof(*out_source));
    out_source->fd = -1;
    if (!name)
        good = open_newest(out_source, error);
    else if (all_digits(name) && stat(name, &status) < 0)
        good = open_process(out_source, name, error);
    else
        good = open_file(out_source, name, error);
    if (!good) tp_source_close(out_source);
    return good;
}

bool tp_source_note(
    char out_note[TP_SOURCE_NOTE], const struct tp_source *source, const char *name)
{
    struct tp_process_now now;
    bool by_number = all_digits(name) && strcmp(name, source->path) != 0;
    if (!source->gone || !by_number) return false;
    tp_process_now_read(&now, (uint32_t)strtoul(name, NULL, 10));
    if (!now.running) return false;
    snprintf(out_note, TP_SOURCE_NOTE,
        "process %.20s does not run under Tidepool now; this is what an earlier one of "
        "that number left behind",
        name);
    return true;
}

bool tp_source_ended(const struct tp_source *source)
{
    struct stat status;
    if (source->packed) return tp_unpack_ended(source->packed);
    return fstat(source->fd, &status) < 0 || source->at >= (uint64_t)status.st_size;
}

void tp_source_close(struct tp_source *source)
{
    tp_unpack_close(source->packed);
    source->packed = NULL;
    if (source->fd >= 0 && (source->fd > 0 || source->path)) close(source->fd);
    free(source->path);
    source->fd = -1;
    source->path = NULL;
}
