/* SPDX-License-Identifier: MIT */
/*
 * gather.c - one recording out of the files that a run has left in its folder.
 *
 * Dumps are taken as they are. A live file that is still there belongs to a process
 * that was killed, and becomes a dump; or to one that goes on, and is dumped as it is
 * now. A live file whose process has written its exit dump as well tells nothing new.
 */
#include "report/model.h"
#include "report/run.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* An image and what its place in the recording depends on. */
struct piece {
    struct tp_image image;
    bool main;
    uint32_t pid;
    uint32_t reason;
    uint64_t start_ns;
    uint64_t sequence;
};

struct pieces {
    struct piece *of;
    size_t n;
};

/* Main process first; of one process the latest dump first; else as they started. */
static int by_importance(const void *a, const void *b)
{
    const struct piece *left = a;
    const struct piece *right = b;
    if (left->main != right->main) return left->main ? -1 : 1;
    if (left->pid == right->pid) {
        if (left->start_ns != right->start_ns)
            return left->start_ns > right->start_ns ? -1 : 1;
        return left->sequence > right->sequence ? -1 : left->sequence < right->sequence;
    }
    if (left->start_ns != right->start_ns)
        return left->start_ns < right->start_ns ? -1 : 1;
    return left->pid < right->pid ? -1 : 1;
}

/* Reads one file into a piece. */
static bool read_piece(struct piece *out, const char *path, uint32_t main_pid)
{
    struct tp_error ignored;
    struct tp_source source;
    struct tp_recording recording;
    memset(out, 0, sizeof(*out));
    if (!tp_source_open(&source, path, &ignored)) return false;
    bool good = tp_image_freeze(&out->image, &source, &ignored);
    tp_source_close(&source);
    if (!good) return false;
    if (!tp_recording_parse(
            &recording, out->image.bytes, out->image.n_bytes, path, &ignored)) {
        tp_image_fini(&out->image);
        return false;
    }
    const struct tp_dump *dump = &recording.dumps[0];
    out->pid = dump->process.pid;
    out->main = out->pid == main_pid;
    out->reason = dump->header.reason;
    out->start_ns = dump->process.start_monotonic_ns;
    out->sequence = dump->header.sequence;
    tp_recording_fini(&recording);
    return true;
}

/* True for a live file's piece whose process has written its last dump too. */
static bool told_already(const struct pieces *pieces, const struct piece *piece)
{
    if (piece->reason != TP_REASON_KILLED) return false;
    for (size_t i = 0; i < pieces->n; i++) {
        const struct piece *other = &pieces->of[i];
        if (other->reason == TP_REASON_EXIT && other->pid == piece->pid &&
            other->start_ns == piece->start_ns)
            return true;
    }
    return false;
}

static bool hand_over(
    struct tp_gathered *out, struct pieces *pieces, struct tp_error *error)
{
    if (pieces->n == 0) return true;
    qsort(pieces->of, pieces->n, sizeof(pieces->of[0]), by_importance);
    out->images = calloc(pieces->n, sizeof(out->images[0]));
    if (!out->images) return tp_error_set(error, "out of memory");
    for (size_t i = 0; i < pieces->n; i++) {
        struct piece *piece = &pieces->of[i];
        if (told_already(pieces, piece)) continue;
        out->images[out->n_images++] = piece->image;
        memset(&piece->image, 0, sizeof(piece->image));
    }
    return true;
}

static bool is_live_name(const char *name)
{
    return strncmp(name, "tidepool.", 9) == 0 && !strstr(name, ".tide");
}

bool tp_gather_read(struct tp_gathered *out_gathered, const char *folder,
    uint32_t main_pid, struct tp_error *error)
{
    struct pieces pieces = { 0 };
    bool good = true;
    memset(out_gathered, 0, sizeof(*out_gathered));
    DIR *stream = opendir(folder);
    const struct dirent *entry;
    while (good && stream && (entry = readdir(stream))) {
        char *path = NULL;
        if (entry->d_name[0] == '.') continue;
        struct piece *grown = realloc(pieces.of, (pieces.n + 1) * sizeof(pieces.of[0]));
        good = grown && asprintf(&path, "%s/%s", folder, entry->d_name) >= 0;
        if (grown) pieces.of = grown;
        if (!good) break;
        struct piece *piece = &pieces.of[pieces.n];
        if (read_piece(piece, path, main_pid)) {
            pieces.n++;
            if (is_live_name(entry->d_name) && piece->reason == TP_REASON_REQUEST)
                out_gathered->n_running++;
        } else {
            out_gathered->n_damaged++;
        }
        free(path);
    }
    if (stream) closedir(stream);
    good = good ? hand_over(out_gathered, &pieces, error)
                : tp_error_set(error, "out of memory");
    for (size_t i = 0; i < pieces.n; i++) tp_image_fini(&pieces.of[i].image);
    free(pieces.of);
    if (!good) tp_gather_fini(out_gathered);
    return good;
}

void tp_gather_clean(const struct tp_gathered *gathered, const char *folder)
{
    if (gathered->n_running > 0) return;
    DIR *stream = opendir(folder);
    const struct dirent *entry;
    while (stream && (entry = readdir(stream)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(dirfd(stream), entry->d_name, 0);
    if (stream) closedir(stream);
    rmdir(folder);
}

void tp_gather_fini(struct tp_gathered *gathered)
{
    for (size_t i = 0; i < gathered->n_images; i++) tp_image_fini(&gathered->images[i]);
    free(gathered->images);
    memset(gathered, 0, sizeof(*gathered));
}
