/* SPDX-License-Identifier: MIT */
/*
 * folder.c - the dumps and live files of a folder, as one recording would have them.
 *
 * A run that was cut off may have told the same thing twice: a process wrote its last
 * dump and had not removed its live file yet, or a dump was added to the recording and
 * not removed from the folder. What is told twice is taken once.
 */
#include "report/survey.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report/model.h"

/* An image and what its place in the recording depends on. */
struct piece {
    struct tp_image image;
    bool left;  // made of a live file
    bool main;  // of a process that the run itself started
    uint32_t pid;
    uint32_t reason;
    uint64_t start_ns;
    uint64_t sequence;
    uint64_t counted;
};

struct pieces {
    struct piece *of;
    size_t n;
    size_t n_damaged;
    size_t n_cut_off;
    uint32_t run_pid;  // of the `tidepool run`; 0: not known
};

/* Main process first; of one process the latest dump first; else as they started. */
static int by_importance(const void *a, const void *b)
{
    const struct piece *left = a;
    const struct piece *right = b;
    if (left->main != right->main) return left->main ? -1 : 1;
    if (left->start_ns != right->start_ns)
        return left->start_ns < right->start_ns ? -1 : 1;
    if (left->pid != right->pid) return left->pid < right->pid ? -1 : 1;
    return left->sequence > right->sequence ? -1 : left->sequence < right->sequence;
}

/* Adds a frozen dump; it takes over the image's bytes unless it returns false. */
static bool add_piece(struct pieces *pieces, struct tp_image *image, bool left)
{
    struct tp_error ignored;
    struct tp_recording recording;
    if (!tp_recording_parse(
            &recording, image->bytes, image->n_bytes, "a dump", &ignored))
        return false;
    const struct tp_dump *dump = &recording.dumps[0];
    struct piece piece = {
        .image = *image,
        .left = left,
        .main = pieces->run_pid && dump->process.ppid == pieces->run_pid,
        .pid = dump->process.pid,
        .reason = dump->header.reason,
        .start_ns = dump->process.start_monotonic_ns,
        .sequence = dump->header.sequence,
        .counted = tp_dump_counted(dump),
    };
    bool sound = tp_dump_is_sound(dump);
    tp_recording_fini(&recording);
    if (!sound) return false;
    struct piece *grown = realloc(pieces->of, (pieces->n + 1) * sizeof(pieces->of[0]));
    if (!grown) return false;
    pieces->of = grown;
    pieces->of[pieces->n++] = piece;
    return true;
}

/* True when a dump begins at source->at of which only the end is missing. */
static bool is_cut_off(const struct tp_source *source, uint64_t size)
{
    struct tp_file_header header;
    if (source->fd < 0 || source->packed || source->at >= size) return false;
    if (size - source->at < sizeof(header)) return true;
    return tp_image_read(source->fd, &header, sizeof(header), source->at) ==
        sizeof(header) &&
        memcmp(header.magic, TP_FORMAT_MAGIC, sizeof(header.magic)) == 0 &&
        header.total_bytes > size - source->at;
}

/*
 * Adds every whole dump of a file; counts it as damaged when there is more. A recording
 * whose run was killed may end in half a dump: the folder still has it.
 */
static void add_file(
    struct pieces *pieces, const char *path, bool left, bool is_recording)
{
    struct tp_error ignored;
    struct tp_source source;
    struct stat status;
    if (lstat(path, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size == 0)
        return;
    bool good = tp_source_open(&source, path, &ignored), whole = true;
    source.in_use = good && left && !tp_live_unused(source.fd);
    while (good && (source.at == 0 || !tp_source_ended(&source))) {
        struct tp_image image;
        good = tp_image_freeze(&image, &source, &ignored);
        if (!good) break;
        source.at += image.n_bytes;
        if (!add_piece(pieces, &image, left)) {
            tp_image_fini(&image);
            whole = false;
        }
        if (left) break;
    }
    if (!good && is_recording && is_cut_off(&source, (uint64_t)status.st_size))
        pieces->n_cut_off++;
    else if (!good || !whole)
        pieces->n_damaged++;
    tp_source_close(&source);
}

static bool told_already(const struct pieces *pieces, size_t i)
{
    const struct piece *piece = &pieces->of[i];
    for (size_t k = 0; k < pieces->n; k++) {
        const struct piece *other = &pieces->of[k];
        if (k == i || other->pid != piece->pid || other->start_ns != piece->start_ns)
            continue;
        if (piece->left && !other->left && other->reason == TP_REASON_EXIT &&
            other->counted >= piece->counted)
            return true;
        if (k < i && !piece->left && !other->left && other->reason == piece->reason &&
            other->sequence == piece->sequence)
            return true;
    }
    return false;
}

static bool hand_over(
    struct tp_folder *out, struct pieces *pieces, struct tp_error *error)
{
    out->n_damaged = pieces->n_damaged + pieces->n_cut_off;
    out->complete = pieces->n_damaged == 0;
    out->images = calloc(pieces->n + 1, sizeof(out->images[0]));
    if (!out->images) return tp_error_set(error, "out of memory");
    if (pieces->n > 1)
        qsort(pieces->of, pieces->n, sizeof(pieces->of[0]), by_importance);
    for (size_t i = 0; i < pieces->n; i++) {
        struct piece *piece = &pieces->of[i];
        if (told_already(pieces, i)) continue;
        out->images[out->n_images++] = piece->image;
        piece->image.bytes = NULL;
    }
    return true;
}

/* Reads the run's own word of itself; the recording that it began comes first. */
static void add_run(struct pieces *pieces, int folder, const char *path)
{
    struct tp_found_run run;
    if (tp_run_read(&run, folder, path)) {
        pieces->run_pid = run.pid;
        if (run.recording) add_file(pieces, run.recording, false, true);
    }
    tp_run_fini(&run);
}

bool tp_folder_read(
    struct tp_folder *out_folder, const char *path, struct tp_error *error)
{
    struct pieces pieces = { 0 };
    memset(out_folder, 0, sizeof(*out_folder));
    DIR *stream = opendir(path);
    if (!stream)
        return tp_error_set(error, "cannot read %s: %s", path, strerror(errno));
    add_run(&pieces, dirfd(stream), path);
    const struct dirent *entry;
    while ((entry = readdir(stream))) {
        struct tp_live_name name;
        char *file = NULL;
        bool left = tp_live_name_parse(&name, entry->d_name);
        if (!left && !tp_recording_name(entry->d_name)) continue;
        if (asprintf(&file, "%s/%s", path, entry->d_name) < 0) break;
        add_file(&pieces, file, left, false);
        free(file);
    }
    closedir(stream);
    bool good = pieces.n > 0 ||
        tp_error_set(
            error, "cannot read %s: no recording and no live file in it", path);
    good = good && hand_over(out_folder, &pieces, error);
    for (size_t i = 0; i < pieces.n; i++) tp_image_fini(&pieces.of[i].image);
    free(pieces.of);
    return good;
}

void tp_folder_mark_packed(const char *path)
{
    struct tp_error ignored;
    struct tp_survey survey;
    if (!tp_survey_read(&survey, &path, 1, &ignored)) return;
    bool abandoned = survey.n_runs == 1 && survey.runs[0].abandoned &&
        survey.runs[0].owner == geteuid();
    tp_survey_fini(&survey);
    if (!abandoned) return;
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    int folder = open(path, flags);
    if (folder < 0) return;
    flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(folder, "packed", flags, 0600);
    if (fd >= 0) close(fd);
    close(folder);
}

void tp_folder_fini(struct tp_folder *folder)
{
    for (size_t i = 0; i < folder->n_images; i++) tp_image_fini(&folder->images[i]);
    free(folder->images);
    memset(folder, 0, sizeof(*folder));
}
