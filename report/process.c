/* SPDX-License-Identifier: MIT */
/*
 * process.c - what /proc says of a process, and which live file it has mapped.
 *
 * Nothing is asked of the process itself: it may be stopped, or hang. A process whose
 * first thread has ended is a zombie by its number and runs all the same; its maps are
 * those of any other thread.
 */
#include "report/survey.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report/model.h"

/* ---- small files --------------------------------------------------------------- */

/* Reads the start of a small file into `text`, terminates it, and returns its length. */
static size_t read_small(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    size_t used = 0;
    ssize_t got = 1;
    while (got > 0 && used + 1 < size) {
        got = read(fd, text + used, size - 1 - used);
        if (got > 0) used += (size_t)got;
    }
    text[used] = '\0';
    close(fd);
    return used;
}

/* The value of a line such as "VmRSS:   1234 kB", in bytes; 0 without one. */
static uint64_t status_bytes(const char *text, const char *key)
{
    const char *line = strstr(text, key);
    return line ? strtoull(line + strlen(key), NULL, 10) * 1024 : 0;
}

/* Field `n` of /proc/PID/stat, where `state` points at field 3; 0 without it. */
static uint64_t stat_field(const char *state, int n)
{
    const char *field = state;
    for (int i = 3; field && i < n; i++) {
        field = strchr(field, ' ');
        if (field) field++;
    }
    return field ? strtoull(field, NULL, 10) : 0;
}

void tp_process_now_read(struct tp_process_now *out_now, uint32_t pid)
{
    char path[64];
    char text[8192];
    memset(out_now, 0, sizeof(*out_now));
    snprintf(path, sizeof(path), "/proc/%u/stat", pid);
    if (pid == 0 || !read_small(path, text, sizeof(text))) return;

    // The name in field 2 may hold anything; the last bracket ends it.
    const char *state = strrchr(text, ')');
    if (!state || strlen(state) < 3) return;
    state += 2;
    bool ended = *state == 'Z' || *state == 'X';
    out_now->running = !ended || (*state == 'Z' && stat_field(state, 20) > 1);
    out_now->stopped = *state == 'T' || *state == 't';
    out_now->ppid = (uint32_t)stat_field(state, 4);
    out_now->start_jiffies = stat_field(state, 22);

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

char *tp_process_command(uint32_t pid, size_t *out_n_bytes)
{
    char path[64];
    char text[4096];
    snprintf(path, sizeof(path), "/proc/%u/cmdline", pid);
    size_t n = read_small(path, text, sizeof(text));
    char *command = n ? malloc(n + 1) : NULL;
    *out_n_bytes = command ? n : 0;
    return command ? memcpy(command, text, n + 1) : NULL;
}

/* ---- names of live files --------------------------------------------------------- */

/* Reads one of the numbers, which `end` must follow; returns what stands after it. */
static const char *take_number(const char *text, char end, uint64_t *out)
{
    char *after;
    if (!text || !isdigit((unsigned char)*text)) return NULL;
    errno = 0;
    *out = strtoull(text, &after, 10);
    if (errno || *after != end) return NULL;
    return end ? after + 1 : after;
}

bool tp_live_name_parse(struct tp_live_name *out_name, const char *name)
{
    static const char first[] = "tidepool.";
    if (strncmp(name, first, strlen(first)) != 0) return false;
    const char *at = take_number(name + strlen(first), '.', &out_name->pid);
    at = take_number(at, '.', &out_name->jiffies);
    return take_number(at, '\0', &out_name->n) != NULL;
}

bool tp_live_name_unfilled(struct tp_live_name *out_name, const char *name)
{
    static const char suffix[] = ".new";
    char rest[256];
    size_t n = strlen(name);
    size_t length = sizeof(suffix) - 1;
    if (n <= length || n >= sizeof(rest) || strcmp(name + n - length, suffix) != 0)
        return false;
    snprintf(rest, sizeof(rest), "%.*s", (int)(n - length), name);
    return tp_live_name_parse(out_name, rest);
}

bool tp_live_name_newer(const struct tp_live_name *a, const struct tp_live_name *b)
{
    return a->jiffies != b->jiffies ? a->jiffies > b->jiffies : a->n > b->n;
}

/* ---- maps -------------------------------------------------------------------------- */

/* Keeps the line of maps if it maps a newer live file of this process. */
static void consider(struct tp_mapping *best, char *line, uint32_t pid)
{
    static const char gone[] = " (deleted)";
    struct tp_live_name name;
    char *path = strchr(line, '/');
    if (!path) return;
    path[strcspn(path, "\n")] = '\0';
    const char *slash = strrchr(path, '/');
    if (strncmp(slash + 1, "libtidepool.so", 14) == 0) best->library = true;
    char *deleted = strstr(path, gone);
    if (deleted) *deleted = '\0';
    if (!tp_live_name_parse(&name, slash + 1)) return;

    // In a pid namespace its own number may be another; prefer the one we know.
    bool better = !best->found || (name.pid == pid) > (best->name.pid == pid) ||
        (name.pid == best->name.pid && tp_live_name_newer(&name, &best->name));
    if (!better || strlen(path) >= sizeof(best->path)) return;
    best->found = true;
    best->deleted = deleted != NULL;
    best->name = name;
    snprintf(best->range, sizeof(best->range), "%.*s", (int)strcspn(line, " "), line);
    snprintf(best->path, sizeof(best->path), "%s", path);
}

/* Reads a maps file and returns how many lines it has; -1 when it may not be read. */
static int read_maps(struct tp_mapping *best, const char *path, uint32_t pid)
{
    FILE *file = fopen(path, "re");
    if (!file) return -1;
    char *line = NULL;
    size_t size = 0;
    int n = 0;
    while (getline(&line, &size, file) > 0) {
        consider(best, line, pid);
        n++;
    }
    // The permission of another user's process is asked for at the first read.
    if (ferror(file)) n = -1;
    free(line);
    fclose(file);
    return n;
}

/* The maps of some thread but the first, which has ended. */
static void read_other_thread(struct tp_mapping *best, uint32_t pid)
{
    char folder[64];
    char path[384];
    snprintf(folder, sizeof(folder), "/proc/%u/task", pid);
    DIR *stream = opendir(folder);
    const struct dirent *entry;
    int lines = 0;
    while (stream && lines <= 0 && (entry = readdir(stream))) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof(path), "%s/%s/maps", folder, entry->d_name);
        lines = read_maps(best, path, pid);
    }
    if (stream) closedir(stream);
}

void tp_mapping_read(struct tp_mapping *out_mapping, uint32_t pid)
{
    char path[64];
    memset(out_mapping, 0, sizeof(*out_mapping));
    snprintf(path, sizeof(path), "/proc/%u/maps", pid);
    int lines = read_maps(out_mapping, path, pid);
    out_mapping->hidden = lines < 0;
    // A kernel thread has no maps either, but its folder of threads is short.
    if (lines == 0) read_other_thread(out_mapping, pid);
}

bool tp_mapping_open(struct tp_source *out_source, const struct tp_mapping *mapping,
    uint32_t pid, struct tp_error *error)
{
    static const int by_name = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    char *ways[3] = { NULL, NULL, NULL };
    int n = 0;
    if (asprintf(&ways[n], "%s", mapping->path) >= 0) n++;
    if (asprintf(&ways[n], "/proc/%u/root%s", pid, mapping->path) >= 0) n++;
    if (asprintf(&ways[n], "/proc/%u/map_files/%s", pid, mapping->range) >= 0) n++;
    memset(out_source, 0, sizeof(*out_source));
    out_source->fd = -1;
    for (int i = 0; i < n && out_source->fd < 0; i++) {
        // A name that was deleted may be another file's by now. The last way is a link
        // by nature, the others must not be one.
        if (i < 2 && mapping->deleted) continue;
        out_source->fd = open(ways[i], i < 2 ? by_name : O_RDONLY | O_CLOEXEC);
        if (out_source->fd >= 0) {
            out_source->path = ways[i];
            ways[i] = NULL;
        }
    }
    int why = errno;
    for (int i = 0; i < n; i++) free(ways[i]);
    return out_source->fd >= 0 ||
        tp_error_set(error, "cannot read %s: %s", mapping->path, strerror(why));
}
