/* SPDX-License-Identifier: MIT */
/*
 * runs.c - the folder of a `tidepool run`: whose it is, and what of worth is in it.
 *
 * The run writes a small text, `run`, into its folder: its pid, its start, the recording
 * that it adds to, the command. When it is killed, alone or together with all that it
 * started, the folder stays. A folder without that text is nobody's unless a process has
 * files of it mapped.
 */
#include "report/survey.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report/model.h"
#include "shim/format.h"

enum { TEXT_BYTES = 8192 };

bool tp_run_name(const char *name)
{
    static const char first[] = "tidepool-run.";
    size_t n = sizeof(first) - 1;
    return strncmp(name, first, n) == 0 && strlen(name) == n + 6 &&
        !strpbrk(name + n, "./");
}

uint64_t tp_file_memory(const struct stat *status)
{
    return (uint64_t)status->st_blocks * 512;
}

static uint64_t ns_of(struct timespec time)
{
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Without memory the text is as good as absent. */
static void replace(char **out, const char *text)
{
    free(*out);
    *out = strdup(text);
}

/* Whose run it is, as `tidepool run` wrote it into its folder. */
static void read_text(struct tp_found_run *run, int folder)
{
    char text[TEXT_BYTES];
    uint64_t jiffies = 0;
    int fd = openat(folder, "run", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest)) {
        char *value = strchr(line, '=');
        if (!value) continue;
        *value++ = '\0';
        if (strcmp(line, "pid") == 0)
            run->pid = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(line, "start") == 0)
            jiffies = strtoull(value, NULL, 10);
        else if (strcmp(line, "recording") == 0 && value[0] == '/')
            replace(&run->recording, value);
        else if (strcmp(line, "command") == 0)
            replace(&run->command, value);
    }
    struct tp_process_now now;
    tp_process_now_read(&now, run->pid);
    if (now.running && now.start_jiffies == jiffies) run->abandoned = false;
}

/* True when it holds dumps, or nothing yet. */
static bool begins_well(int fd, const struct stat *status)
{
    char magic[sizeof(TP_FORMAT_MAGIC) - 1];
    if (status->st_size == 0) return true;
    return pread(fd, magic, sizeof(magic), 0) == (ssize_t)sizeof(magic) &&
        memcmp(magic, TP_FORMAT_MAGIC, sizeof(magic)) == 0;
}

/* The part of the recording that was written already, outside of the folder. */
static void see_recording(struct tp_found_run *run)
{
    struct stat status;
    if (!run->recording) return;
    int fd =
        open(run->recording, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
        status.st_uid == run->owner && begins_well(fd, &status)) {
        run->recording_bytes = (uint64_t)status.st_size;
        if (!tp_live_unused(fd)) run->abandoned = false;  // it is still being written
    } else {
        free(run->recording);
        run->recording = NULL;
    }
    if (fd >= 0) close(fd);
}

void tp_run_count(struct tp_found_run *run, int folder, const char *entry)
{
    struct stat status;
    struct tp_live_name name;
    if (fstatat(folder, entry, &status, AT_SYMLINK_NOFOLLOW) < 0) return;
    bool regular = S_ISREG(status.st_mode);
    if (regular && strcmp(entry, "packed") == 0) {
        run->packed = true;
        run->changed_ns = ns_of(status.st_mtim);
    } else if (regular && tp_recording_name(entry)) {
        run->n_dumps++;
        run->n_bytes += (uint64_t)status.st_size;
    } else if (regular && tp_live_name_parse(&name, entry)) {
        run->n_live++;
        run->n_bytes += tp_file_memory(&status);
    }
}

bool tp_run_read(struct tp_found_run *out_run, int folder, const char *path)
{
    struct stat status;
    memset(out_run, 0, sizeof(*out_run));
    out_run->folder = strdup(path);
    if (!out_run->folder) return false;
    if (fstat(folder, &status) < 0) return true;
    out_run->abandoned = true;
    out_run->owner = status.st_uid;
    out_run->device = status.st_dev;
    out_run->inode = status.st_ino;
    out_run->changed_ns = ns_of(status.st_mtim);
    read_text(out_run, folder);
    see_recording(out_run);
    return true;
}

bool tp_run_holds_dumps(const struct tp_found_run *run)
{
    return !run->packed && (run->n_dumps > 0 || run->recording_bytes > 0);
}

void tp_run_fini(struct tp_found_run *run)
{
    free(run->folder);
    free(run->command);
    free(run->recording);
    memset(run, 0, sizeof(*run));
}
