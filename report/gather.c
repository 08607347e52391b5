/* SPDX-License-Identifier: MIT */
/*
 * gather.c - one recording out of the files that a run leaves in its folder.
 *
 * While the program runs, finished dumps move to the end of the recording. A dump is
 * whole when it has its name, but it may be withdrawn at once, when it was made for an
 * exec that failed: so it is taken when it has been there for a moment. There is a look
 * ten times a second while dumps come, and less and less often while none do.
 *
 * At the end the live files tell of the other processes. One that was killed becomes a
 * dump; one that goes on is dumped as it is now. A live file whose process has written
 * its last dump as well tells nothing new, unless it has counted more: an exec that
 * failed ends an account that then goes on.
 *
 * Whether a process goes on is not for its number alone to say: it may be in a pid
 * namespace of its own and outlive the run. A file that anybody has mapped stays.
 */
#include "report/model.h"
#include "report/run.h"
#include "report/survey.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    SHORTEST_MS = 100,  // between two looks
    LONGEST_MS = 2000,
    SETTLED_MS = 50,  // the age of a dump that nobody will withdraw
    PASSES = 8,       // at the end, while processes go on ending
};

/* A program whose account is in the recording. */
struct tp_gathered_program {
    uint32_t pid;
    bool goes_on;  // its state was taken, it may write a last dump yet
    uint64_t start_ns;
    uint64_t counted;  // allocations and frees by then
};

/* ---- one file -------------------------------------------------------------------- */

enum kind { OTHER, DUMP, LIVE, UNFINISHED, UNNAMED };

/* The digits at the end of a name after the last dot; false without them. */
static bool ends_in_number(const char *name, size_t n, size_t *out_before)
{
    size_t last = n;
    while (last > 0 && isdigit((unsigned char)name[last - 1])) last--;
    if (last == n || last == 0 || name[last - 1] != '.') return false;
    *out_before = last - 1;
    return true;
}

static bool ends_in(const char *name, size_t n, const char *end)
{
    size_t length = strlen(end);
    return n > length && memcmp(name + n - length, end, length) == 0;
}

static enum kind kind_of(const char *name)
{
    size_t n = strlen(name);
    size_t before;
    if (name[0] == '.') return OTHER;
    if (ends_in(name, n, ".part")) return UNFINISHED;
    if (ends_in(name, n, ".new")) return UNNAMED;
    if (ends_in(name, n, ".tide")) return DUMP;
    if (!ends_in_number(name, n, &before)) return OTHER;
    if (ends_in(name, before, ".tide")) return DUMP;
    return strncmp(name, "tidepool.", 9) == 0 ? LIVE : OTHER;
}

/* A file's dump and whose it is. */
struct piece {
    struct tp_image image;
    uint32_t reason;
    struct tp_gathered_program program;
};

enum verdict { GOOD, GONE, DAMAGED };

/*
 * Opens a file of the folder. A process with umask 0777 leaves one that nobody may read;
 * its owner may change that.
 */
static bool open_file(struct tp_source *out, const char *path)
{
    struct tp_error ignored;
    struct stat status;
    if (tp_source_open(out, path, &ignored)) return true;
    if (lstat(path, &status) < 0 || !S_ISREG(status.st_mode)) return false;
    return chmod(path, 0600) == 0 && tp_source_open(out, path, &ignored);
}

/*
 * True when nobody has the file open for writing or mapped. What cannot be told counts
 * as in use.
 */
static bool is_unused(const char *path)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return false;
    bool unused = tp_live_unused(fd);
    close(fd);
    return unused;
}

static enum verdict read_piece(struct piece *out, const char *path, bool live)
{
    struct tp_error ignored;
    struct tp_source source;
    struct tp_recording recording;
    memset(out, 0, sizeof(*out));
    if (!open_file(&source, path)) return access(path, F_OK) < 0 ? GONE : DAMAGED;
    // Asked before it is read: what nobody uses is final.
    source.in_use = live && !tp_live_unused(source.fd);
    bool good = tp_image_freeze(&out->image, &source, &ignored);
    tp_source_close(&source);
    if (!good) return DAMAGED;
    if (!tp_recording_parse(
            &recording, out->image.bytes, out->image.n_bytes, path, &ignored)) {
        tp_image_fini(&out->image);
        return DAMAGED;
    }
    const struct tp_dump *dump = &recording.dumps[0];
    out->reason = dump->header.reason;
    out->program.pid = dump->process.pid;
    out->program.start_ns = dump->process.start_monotonic_ns;
    out->program.counted = tp_dump_counted(dump);
    // One account that makes no sense would make the whole recording unreadable.
    bool sound = tp_dump_is_sound(dump);
    tp_recording_fini(&recording);
    if (sound) return GOOD;
    tp_image_fini(&out->image);
    return DAMAGED;
}

/* ---- the recording --------------------------------------------------------------- */

static bool fail(struct tp_gather *gather, int why)
{
    gather->why = why ? why : EIO;
    return false;
}

/* Adds the image to the end of the recording, or leaves that as it was. */
static bool append(struct tp_gather *gather, const struct tp_image *image)
{
    if (!tp_output_write(gather->fd, image->bytes, image->n_bytes)) {
        fail(gather, errno);
        if (ftruncate(gather->fd, (off_t)gather->n_bytes) < 0 ||
            lseek(gather->fd, (off_t)gather->n_bytes, SEEK_SET) < 0)
            gather->fd = -1;  // its last dump is cut off: nothing may follow it
        return false;
    }
    gather->n_bytes += image->n_bytes;
    gather->n_dumps++;
    return true;
}

static struct tp_gathered_program *find_program(
    const struct tp_gather *gather, const struct tp_gathered_program *program)
{
    for (size_t i = 0; i < gather->n_programs; i++) {
        struct tp_gathered_program *other = &gather->programs[i];
        if (other->pid == program->pid && other->start_ns == program->start_ns)
            return other;
    }
    return NULL;
}

static bool remember(
    struct tp_gather *gather, const struct tp_gathered_program *program)
{
    size_t n = gather->n_programs;
    if ((n & (n - 1)) == 0) {  // full whenever n is 0 or a power of two
        struct tp_gathered_program *grown =
            realloc(gather->programs, (n ? 2 * n : 1) * sizeof(gather->programs[0]));
        if (!grown) return fail(gather, ENOMEM);
        gather->programs = grown;
    }
    gather->programs[gather->n_programs++] = *program;
    return true;
}

/* ---- taking ---------------------------------------------------------------------- */

/* What a look through the folder came to. */
struct look {
    size_t n_taken;
    size_t n_young;  // dumps to come back for
    size_t n_gone;   // files that went while we looked: another look is due
    size_t n_damaged;
    size_t n_running;
};

static void take_dump(struct tp_gather *gather, const char *path, struct look *look)
{
    struct piece piece;
    enum verdict verdict = read_piece(&piece, path, false);
    look->n_gone += verdict == GONE;
    look->n_damaged += verdict == DAMAGED;
    if (verdict != GOOD) return;
    bool last = piece.reason == TP_REASON_EXIT;
    if ((!last || remember(gather, &piece.program)) && append(gather, &piece.image)) {
        unlink(path);
        look->n_taken++;
    }
    tp_image_fini(&piece.image);
}

/* Takes what a live file has to tell, and the file too if its process is gone. */
static void take_live(struct tp_gather *gather, const char *path, struct look *look)
{
    struct piece piece;
    enum verdict verdict = read_piece(&piece, path, true);
    look->n_gone += verdict == GONE;
    look->n_damaged += verdict == DAMAGED;
    if (verdict != GOOD) return;
    bool goes_on = piece.reason == TP_REASON_REQUEST;
    const struct tp_gathered_program *told = find_program(gather, &piece.program);
    bool old = told &&
        (goes_on ? told->goes_on
                 : !told->goes_on && told->counted >= piece.program.counted);
    piece.program.goes_on = goes_on;
    look->n_running += goes_on;
    bool taken = old ||
        ((!goes_on || remember(gather, &piece.program)) &&
            append(gather, &piece.image));
    if (taken && !goes_on) unlink(path);
    look->n_taken += taken && !old;
    tp_image_fini(&piece.image);
}

/*
 * A dump that nobody finished. While its process runs, or when its live file has told
 * the same, nothing is missing.
 */
static void judge_unfinished(
    struct tp_gather *gather, const char *path, struct look *look)
{
    size_t before;
    struct tp_process_now now;
    size_t n = strlen(path) - strlen(".part");
    if (!ends_in_number(path, n, &before)) return;
    uint32_t pid = (uint32_t)strtoul(path + before + 1, NULL, 10);
    tp_process_now_read(&now, pid);
    if (now.running || !is_unused(path)) return;
    for (size_t i = 0; i < gather->n_programs; i++) {
        if (gather->programs[i].pid != pid) continue;
        unlink(path);
        return;
    }
    look->n_damaged++;
}

/* A live file whose process was killed before it counted anything in it. */
static void judge_unnamed(const char *path)
{
    static const char first[] = "/tidepool.";
    struct tp_process_now now;
    const char *name = strstr(path, first);
    for (const char *at = name; at; at = strstr(at + 1, first)) name = at;
    if (!name) return;
    tp_process_now_read(&now, (uint32_t)strtoul(name + strlen(first), NULL, 10));
    if (!now.running && is_unused(path)) unlink(path);
}

static bool is_young(const char *path)
{
    struct stat status;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (stat(path, &status) < 0) return false;
    int64_t ms = (now.tv_sec - status.st_mtim.tv_sec) * 1000 +
        (now.tv_nsec - status.st_mtim.tv_nsec) / 1000000;
    return ms < SETTLED_MS;  // when the clock was set back it may take until the end
}

static void take(struct tp_gather *gather, enum kind kind, const char *path,
    bool patient, struct look *look)
{
    if (kind == LIVE) {
        take_live(gather, path, look);
    } else if (kind == UNFINISHED) {
        judge_unfinished(gather, path, look);
    } else if (kind == UNNAMED) {
        judge_unnamed(path);
    } else if (patient && is_young(path)) {
        look->n_young++;
    } else {
        take_dump(gather, path, look);
    }
}

/* Takes every file of one kind; `patient` leaves the youngest dumps for the next look. */
static void take_all(
    struct tp_gather *gather, enum kind kind, bool patient, struct look *look)
{
    DIR *stream = opendir(gather->folder);
    const struct dirent *entry;
    while (stream && !gather->why && (entry = readdir(stream))) {
        char *path = NULL;
        if (kind_of(entry->d_name) != kind) continue;
        if (asprintf(&path, "%s/%s", gather->folder, entry->d_name) < 0) break;
        take(gather, kind, path, patient, look);
        free(path);
    }
    if (stream) closedir(stream);
}

/* ---- from the start to the end --------------------------------------------------- */

bool tp_gather_open(struct tp_gather *out_gather, const char *folder,
    const char *wanted, struct tp_error *error)
{
    *out_gather =
        (struct tp_gather){ .folder = folder, .fd = -1, .pause_ms = SHORTEST_MS };
    if (tp_output_begin(&out_gather->part, &out_gather->fd, wanted, error)) return true;
    return fail(out_gather, errno);
}

unsigned tp_gather_look(struct tp_gather *gather)
{
    struct look look = { 0 };
    take_all(gather, DUMP, true, &look);
    if (look.n_taken > 0 || look.n_young > 0)
        gather->pause_ms = SHORTEST_MS;
    else if (gather->pause_ms < LONGEST_MS)
        gather->pause_ms *= 2;
    return gather->pause_ms;
}

void tp_gather_finish(struct tp_gather *gather)
{
    struct look look = { 0 };
    if (gather->fd >= 0) gather->why = 0;  // there may be room by now
    for (int pass = 0; pass < PASSES && !gather->why; pass++) {
        look = (struct look){ 0 };
        take_all(gather, DUMP, false, &look);
        take_all(gather, LIVE, false, &look);
        take_all(gather, UNFINISHED, false, &look);
        take_all(gather, UNNAMED, false, &look);
        // Whoever ended meanwhile has left its dump behind us.
        if (look.n_taken == 0 && look.n_gone == 0) break;
    }
    gather->n_damaged = look.n_damaged;
    gather->n_running = look.n_running;
}

bool tp_gather_clean(const struct tp_gather *gather)
{
    bool more = false;
    DIR *stream = opendir(gather->folder);
    const struct dirent *entry;
    while (stream && (entry = readdir(stream)))
        more = more ||
            (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                strcmp(entry->d_name, "run") != 0);
    if (stream && !more) unlinkat(dirfd(stream), "run", 0);
    if (stream) closedir(stream);
    return !more && rmdir(gather->folder) == 0;
}

void tp_gather_fini(struct tp_gather *gather)
{
    if (gather->fd >= 0) close(gather->fd);
    free(gather->part);
    free(gather->programs);
    memset(gather, 0, sizeof(*gather));
    gather->fd = -1;
}
