/* SPDX-License-Identifier: MIT */
/*
 * find.c - where the bytes are: a file, a process, or what a process left behind.
 *
 * Idea: a live file is called tidepool.PID.JIFFIES.N, and a running process has it
 * mapped, so /proc/PID/maps names it wherever it is; nothing is asked of the process.
 * Only when there is no such mapping are the usual folders searched.
 *
 * Knows nothing of: what is inside a recording.
 */
#include "report/model.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- /proc --------------------------------------------------------------------- */

/* Reads the start of a small file into `text` and terminates it. */
static bool read_small(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    size_t used = 0;
    ssize_t got = 1;
    while (got > 0 && used + 1 < size) {
        got = read(fd, text + used, size - 1 - used);
        if (got > 0) used += (size_t)got;
    }
    text[used] = '\0';
    close(fd);
    return used > 0;
}

/* The value of a line such as "VmRSS:   1234 kB", in bytes; 0 without one. */
static uint64_t status_bytes(const char *text, const char *key)
{
    const char *line = strstr(text, key);
    return line ? strtoull(line + strlen(key), NULL, 10) * 1024 : 0;
}

void tp_process_now_read(struct tp_process_now *out_now, uint32_t pid)
{
    char path[64];
    char text[8192];
    memset(out_now, 0, sizeof(*out_now));
    snprintf(path, sizeof(path), "/proc/%u/stat", pid);
    if (pid == 0 || !read_small(path, text, sizeof(text))) return;

    // The name in field 2 may hold anything; the last bracket ends it.
    const char *field = strrchr(text, ')');
    if (!field || strlen(field) < 3) return;
    out_now->running = field[2] != 'Z' && field[2] != 'X';
    for (int i = 2; field && i < 22; i++) field = strchr(field + 1, ' ');
    if (field) out_now->start_jiffies = strtoull(field, NULL, 10);

    snprintf(path, sizeof(path), "/proc/%u/status", pid);
    if (!read_small(path, text, sizeof(text))) return;
    out_now->rss_bytes = status_bytes(text, "\nVmRSS:");
    out_now->rss_peak_bytes = status_bytes(text, "\nVmHWM:");
}

/* The value of a hexadecimal digit, or -1. */
static int hex_value(char digit)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = digit ? strchr(digits, tolower((unsigned char)digit)) : NULL;
    return at ? (int)(at - digits) : -1;
}

bool tp_process_same_boot(const uint8_t boot_id[16])
{
    static const uint8_t nothing[16];
    char text[64];
    uint8_t now[16] = { 0 };
    size_t n = 0;
    if (memcmp(boot_id, nothing, sizeof(nothing)) == 0) return true;
    if (!read_small("/proc/sys/kernel/random/boot_id", text, sizeof(text))) return true;
    for (const char *at = text; *at && n < 32; at++) {
        int value = hex_value(*at);
        if (value < 0) continue;  // a dash
        now[n / 2] = (uint8_t)(now[n / 2] * 16 + value);
        n++;
    }
    return n != 32 || memcmp(boot_id, now, sizeof(now)) == 0;
}

/* ---- names of live files --------------------------------------------------------- */

struct live_name {
    unsigned long long pid;
    unsigned long long jiffies;
    unsigned long long n;
};

/* Reads one of the numbers, which `end` must follow; returns what stands after it. */
static const char *take_number(const char *text, char end, unsigned long long *out)
{
    char *after;
    if (!text || !isdigit((unsigned char)*text)) return NULL;
    errno = 0;
    *out = strtoull(text, &after, 10);
    if (errno || *after != end) return NULL;
    return end ? after + 1 : after;
}

/* Takes tidepool.PID.JIFFIES.N apart, nothing before or after it. */
static bool parse_name(struct live_name *out, const char *name)
{
    static const char first[] = "tidepool.";
    if (strncmp(name, first, strlen(first)) != 0) return false;
    const char *at = take_number(name + strlen(first), '.', &out->pid);
    at = take_number(at, '.', &out->jiffies);
    return take_number(at, '\0', &out->n) != NULL;
}

static bool newer(const struct live_name *a, const struct live_name *b)
{
    return a->jiffies != b->jiffies ? a->jiffies > b->jiffies : a->n > b->n;
}

static int open_live(const char *path)
{
    return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

/* ---- a running process ------------------------------------------------------------- */

/* Opens what a line of maps names, through the process's own root if need be. */
static bool open_mapping(struct tp_source *out, unsigned long pid, const char *range,
    const char *path, struct tp_error *error)
{
    char *ways[3] = { NULL, NULL, NULL };
    int n = 0;
    if (asprintf(&ways[n], "%s", path) >= 0) n++;
    if (asprintf(&ways[n], "/proc/%lu/root%s", pid, path) >= 0) n++;
    if (asprintf(&ways[n], "/proc/%lu/map_files/%s", pid, range) >= 0) n++;
    out->fd = -1;
    for (int i = 0; i < n && out->fd < 0; i++) {
        // The last way is a link by nature, the others must not be one.
        out->fd = i < 2 ? open_live(ways[i]) : open(ways[i], O_RDONLY | O_CLOEXEC);
        if (out->fd >= 0) {
            out->path = ways[i];
            ways[i] = NULL;
        }
    }
    int why = errno;
    for (int i = 0; i < n; i++) free(ways[i]);
    return out->fd >= 0 ||
        tp_error_set(error, "cannot read %s: %s", path, strerror(why));
}

struct mapping {
    bool found;
    struct live_name name;
    char range[64];
    char path[4096];
};

/* Keeps the line of maps if it maps a newer live file of this process. */
static void consider_mapping(struct mapping *best, char *line, unsigned long pid)
{
    struct live_name name;
    char *path = strchr(line, '/');
    if (!path) return;
    path[strcspn(path, "\n")] = '\0';
    char *deleted = strstr(path, " (deleted)");
    if (deleted) *deleted = '\0';
    const char *slash = strrchr(path, '/');
    if (!parse_name(&name, slash + 1)) return;

    // In a pid namespace its own number may be another; prefer the one we know.
    bool better = !best->found || (name.pid == pid) > (best->name.pid == pid) ||
        (name.pid == best->name.pid && newer(&name, &best->name));
    if (!better || strlen(path) >= sizeof(best->path)) return;
    best->found = true;
    best->name = name;
    snprintf(best->range, sizeof(best->range), "%.*s", (int)strcspn(line, " "), line);
    snprintf(best->path, sizeof(best->path), "%s", path);
}

/* Looks for the live file among what the process has mapped. */
static bool find_mapping(struct mapping *out_best, unsigned long pid)
{
    char maps[64];
    memset(out_best, 0, sizeof(*out_best));
    snprintf(maps, sizeof(maps), "/proc/%lu/maps", pid);
    FILE *file = fopen(maps, "re");
    if (!file) return false;
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, file) > 0) consider_mapping(out_best, line, pid);
    free(line);
    fclose(file);
    return out_best->found;
}

/* ---- what a process left behind ------------------------------------------------------ */

static void search_folder(struct mapping *best, const char *folder, unsigned long pid)
{
    DIR *stream = folder ? opendir(folder) : NULL;
    if (!stream) return;
    const struct dirent *entry;
    while ((entry = readdir(stream))) {
        struct live_name name;
        if (!parse_name(&name, entry->d_name) || name.pid != pid) continue;
        if (best->found && !newer(&name, &best->name)) continue;
        best->found = true;
        best->name = name;
        snprintf(best->path, sizeof(best->path), "%s/%s", folder, entry->d_name);
    }
    closedir(stream);
}

static bool open_process(
    struct tp_source *out, const char *digits, struct tp_error *error)
{
    struct mapping found;
    errno = 0;
    unsigned long pid = strtoul(digits, NULL, 10);
    if (errno || pid == 0 || pid > UINT32_MAX)
        return tp_error_set(error, "cannot read %s: no such file or process", digits);
    if (find_mapping(&found, pid))
        return open_mapping(out, pid, found.range, found.path, error);

    search_folder(&found, getenv("XDG_RUNTIME_DIR"), pid);
    search_folder(&found, "/dev/shm", pid);
    search_folder(&found, "/tmp", pid);
    if (found.found) {
        out->fd = open_live(found.path);
        if (out->fd < 0)
            return tp_error_set(
                error, "cannot read %s: %s", found.path, strerror(errno));
        out->path = strdup(found.path);
        return out->path || tp_error_set(error, "out of memory");
    }
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
    out->path = strdup(path);
    return out->path || tp_error_set(error, "out of memory");
}

/* True for NAME.tide, and for NAME.tide.N: nothing is ever overwritten. */
static bool is_recording(const char *name)
{
    static const char suffix[] = ".tide";
    size_t n = strlen(name), last = n;
    while (last > 0 && isdigit((unsigned char)name[last - 1])) last--;
    if (last < n && last > 0 && name[last - 1] == '.') n = last - 1;
    size_t length = sizeof(suffix) - 1;
    return name[0] != '.' && n > length &&
        memcmp(name + n - length, suffix, length) == 0;
}

/* Opens the newest *.tide, or *.tide.N, of the current folder. */
static bool open_newest(struct tp_source *out, struct tp_error *error)
{
    char newest[256] = "";
    struct timespec time = { 0 };
    DIR *stream = opendir(".");
    const struct dirent *entry;
    while (stream && (entry = readdir(stream))) {
        struct stat status;
        size_t n = strlen(entry->d_name);
        if (n >= sizeof(newest) || !is_recording(entry->d_name) ||
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
    out_source->fd = -1;
    out_source->path = NULL;
    bool good;
    if (!name)
        good = open_newest(out_source, error);
    else if (all_digits(name) && stat(name, &status) < 0)
        good = open_process(out_source, name, error);
    else
        good = open_file(out_source, name, error);
    if (!good) tp_source_close(out_source);
    return good;
}

void tp_source_close(struct tp_source *source)
{
    if (source->fd >= 0 && (source->fd > 0 || source->path)) close(source->fd);
    free(source->path);
    source->fd = -1;
    source->path = NULL;
}
