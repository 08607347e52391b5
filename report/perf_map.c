/* SPDX-License-Identifier: MIT */
/*
 * perf_map.c - names of code that was made at run time, from /tmp/perf-PID.map.
 *
 * Idea: JIT compilers append a line `START SIZE NAME` for each function they make; the
 * format is that of perf (tools/perf/Documentation/jit-interface.txt in the kernel's
 * source). Nothing is ever taken back: when memory is used again the later line is the
 * right one. We have few addresses and the map has many lines, so the lines are read once
 * in their order and each is given to the addresses that it covers.
 *
 * Numbers of processes are used again and everybody may write to /tmp: the file must be
 * the user's, or root's, and written since the process began.
 */
#include "report/symbols.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAP_BYTES = 256 << 20,  // of a map that we read
    COVERS = 64 << 20,      // addresses given to lines, all together
    SLACK_S = 2,            // file systems may keep times in whole seconds
};

struct span {
    const char *name;
    size_t n;
};

static int digit_of(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Reads a number and the blanks behind it; NULL when there is none. */
static const char *take_hex(const char *at, const char *end, uint64_t *out)
{
    unsigned digits = 0;
    *out = 0;
    if (end - at > 2 && at[0] == '0' && (at[1] == 'x' || at[1] == 'X')) at += 2;
    while (at < end && digit_of(*at) >= 0) {
        if (++digits > 16) return NULL;
        *out = *out << 4 | (uint64_t)digit_of(*at++);
    }
    const char *blank = at;
    while (at < end && *at == ' ') at++;
    return digits && at > blank ? at : NULL;
}

static size_t first_at(const uint64_t *addresses, size_t n, uint64_t address)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (addresses[middle] < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Gives the name in the line to the addresses that it covers; returns how many. */
static size_t read_line(struct span *spans, const uint64_t *addresses, size_t n,
    const char *at, const char *end)
{
    uint64_t start, size;
    at = take_hex(at, end, &start);
    if (at) at = take_hex(at, end, &size);
    while (at && end > at && (end[-1] == ' ' || end[-1] == '\r')) end--;
    if (!at || at == end || !size) return 0;
    size_t covered = 0;
    for (size_t i = first_at(addresses, n, start); i < n; i++) {
        if (addresses[i] - start >= size) break;
        spans[i] = (struct span){ at, (size_t)(end - at) };
        covered++;
    }
    return covered;
}

static bool add_names(struct tp_names *names, const struct span *spans,
    const uint64_t *addresses, size_t n)
{
    char encoded[TP_NAMES_TEXT], text[TP_NAMES_TEXT];
    for (size_t i = 0; i < n; i++) {
        if (!spans[i].name) continue;
        // A NUL ends the name: what is behind it cannot be shown.
        snprintf(encoded, sizeof(encoded), "%.*s",
            (int)(spans[i].n < sizeof(encoded) ? spans[i].n : sizeof(encoded)),
            spans[i].name);
        if (strncmp(encoded, "_Z", 2) == 0 || strncmp(encoded, "_R", 2) == 0)
            tp_demangle(text, sizeof(text), encoded);
        else  // not a symbol: `@` may be a part of it
            memcpy(text, encoded, sizeof(text));
        struct tp_symbol symbol = { .function = text, .file = "" };
        if (!tp_names_add(names, addresses[i], &symbol, 1)) return false;
    }
    return true;
}

bool tp_perf_map_parse(struct tp_names *names, const char *text, size_t n_bytes,
    const uint64_t *addresses, size_t n)
{
    const char *end = text + n_bytes;
    size_t covered = 0;
    if (!n) return true;
    struct span *spans = calloc(n, sizeof(spans[0]));
    if (!spans) return false;
    while (text < end && covered < COVERS) {
        const char *line_end = memchr(text, '\n', (size_t)(end - text));
        if (!line_end) line_end = end;
        covered += read_line(spans, addresses, n, text, line_end);
        text = line_end + (line_end < end);
    }
    bool good = add_names(names, spans, addresses, n);
    free(spans);
    return good;
}

/* ---- which file ---------------------------------------------------------------------------- */

/* True when the process could have written it, and nobody else may have. */
static bool is_trusted(int fd, const struct tp_dump *dump, bool runs, uid_t user)
{
    static const uint64_t second = 1000000000;
    struct stat status;
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) return false;
    if (status.st_uid != 0 && status.st_uid != geteuid() && status.st_uid != user)
        return false;
    if (status.st_mode & S_IWOTH) return false;
    if (status.st_size <= 0 || status.st_size > MAP_BYTES) return false;
    uint64_t changed = status.st_mtime < 0 ? 0 : (uint64_t)status.st_mtime;
    if (changed + SLACK_S < dump->process.start_unix_ns / second) return false;
    // After its exit only another process of that number has written to it.
    bool over = dump->header.reason == TP_REASON_EXIT && !runs;
    return !over || changed <= dump->header.time_unix_ns / second + SLACK_S;
}

static char *read_map(int fd, size_t *out_n)
{
    struct stat status;
    if (fstat(fd, &status) < 0) return NULL;
    char *text = malloc((size_t)status.st_size);
    // It may grow, or be cut, while it is read.
    if (text) *out_n = tp_image_read(fd, text, (size_t)status.st_size, 0);
    return text;
}

/* The number of the process in its own pid namespace. */
static uint32_t inner_pid(uint32_t pid)
{
    char path[64], line[512];
    uint32_t inner = pid;
    snprintf(path, sizeof(path), "/proc/%u/status", pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file)) {
        if (strncmp(line, "NSpid:", 6) != 0) continue;
        const char *last = strrchr(line, '\t');
        if (last) inner = (uint32_t)strtoul(last, NULL, 10);
        break;
    }
    if (file) fclose(file);
    return inner;
}

bool tp_perf_map_look_up(struct tp_names *names, const struct tp_dump *dump, bool runs,
    const uint64_t *addresses, size_t n)
{
    char paths[3][96] = { "", "", "" };
    uint32_t pid = dump->process.pid;
    uid_t user = 0;
    if (!n || !pid) return true;
    snprintf(paths[2], sizeof(paths[2]), "/tmp/perf-%u.map", pid);
    if (runs) {
        struct stat status;
        snprintf(paths[0], sizeof(paths[0]), "/proc/%u", pid);
        if (stat(paths[0], &status) == 0) user = status.st_uid;
        snprintf(paths[0], sizeof(paths[0]), "/proc/%u/root/tmp/perf-%u.map", pid,
            inner_pid(pid));
        snprintf(paths[1], sizeof(paths[1]), "/proc/%u/root/tmp/perf-%u.map", pid, pid);
    }
    for (size_t i = 0; i < 3; i++) {
        size_t n_bytes = 0;
        int fd = paths[i][0]
            ? open(paths[i], O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
            : -1;
        char *text =
            fd >= 0 && is_trusted(fd, dump, runs, user) ? read_map(fd, &n_bytes) : NULL;
        if (fd >= 0) close(fd);
        if (!text) continue;
        bool good = tp_perf_map_parse(names, text, n_bytes, addresses, n);
        free(text);
        return good;
    }
    return true;
}
