/* SPDX-License-Identifier: MIT */
/*
 * load.c - the bytes of a recording or a live file become records.
 *
 * Idea: one dump at a time is copied into memory of its own ("image") and every row
 * is checked against that copy before a record is looked at. The file may be cut
 * short, damaged, hostile, or under the hands of a running program; only the copy
 * counts, and it does not change.
 *
 * Holds always:
 *   - the rows of a dump cover together no more bytes than the dump has, so that
 *     overlapping rows cannot make the reader allocate more than the file warrants;
 *   - of a compressed file one dump is in memory at a time, beside its records;
 *   - no other file of report/ turns bytes into structs.
 */
#include "report/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "report/pack.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
    "records are copied as they are: a big-endian reader needs a conversion here");

enum {
    GROWTH = 512 * 1024,       // of a live file while it is read; its end is a hole
    DUMP_BYTES_MAX = 1 << 30,  // far above 100 000 threads
    DUMPS_MAX = 1 << 18,       // a dump in memory may be larger than the smallest file
    SETTLE_TRIES = 1000,       // copies of a live file, until one is of one moment
};

/* A dump's copy while it is taken apart. */
struct cursor {
    struct tp_image image;
    const char *name;  // of the input, for messages
    uint64_t at;       // where the image stands in the input
    bool live;         // rows may be half done: leave a bad one out
    bool gone;         // its process is known to have left the live file behind
    bool in_use;       // somebody maps it, whether the process is seen or not
    uint64_t budget;   // bytes that rows may still claim
    struct tp_error *error;
};

/* ---- reading bytes ----------------------------------------------------------- */

size_t tp_image_read(int fd, void *to, size_t n, uint64_t offset)
{
    size_t done = 0;
    while (done < n) {
        ssize_t got =
            pread(fd, (unsigned char *)to + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        done += (size_t)got;
    }
    return done;
}

static bool file_bytes(
    const struct tp_source *source, uint64_t *out, struct tp_error *error)
{
    struct stat status;
    if (fstat(source->fd, &status) < 0)
        return tp_error_set(error, "cannot read %s: %s", source->path, strerror(errno));
    if (S_ISDIR(status.st_mode))
        return tp_error_set(error, "cannot read %s: it is a folder", source->path);
    if (!S_ISREG(status.st_mode))
        return tp_error_set(error, "cannot read %s: not a regular file", source->path);
    *out = (uint64_t)status.st_size;
    return true;
}

/* ---- checks ------------------------------------------------------------------ */

static bool truncated(const char *name, uint64_t at, struct tp_error *error)
{
    return tp_error_set(
        error, "cannot read %s: truncated at byte %llu", name, (unsigned long long)at);
}

static bool damaged(const struct cursor *cursor, const char *what)
{
    return tp_error_set(cursor->error,
        "cannot read %s: damaged: %s (dump at byte %llu)", cursor->name, what,
        (unsigned long long)cursor->at);
}

/*
 * Judges the header of a dump that has `available` bytes from its start to the end
 * of the input, and says how many of them are the dump's.
 */
static bool check_header(const struct cursor *cursor,
    const struct tp_file_header *header, uint64_t available, uint64_t *out_bytes)
{
    if (memcmp(header->magic, TP_FORMAT_MAGIC, sizeof(header->magic)) != 0)
        return cursor->at == 0
            ? tp_error_set(cursor->error, "cannot read %s: not a Tidepool recording",
                  cursor->name)
            : damaged(cursor, "no dump begins here");
    if (header->version != TP_FORMAT_VERSION)
        return tp_error_set(cursor->error,
            "cannot read %s: format version %u, this tool reads %u", cursor->name,
            header->version, (unsigned)TP_FORMAT_VERSION);
    if (header->state != TP_FILE_LIVE && header->state != TP_FILE_DUMP)
        return damaged(cursor, "neither a live file nor a dump");
    if (header->header_bytes < sizeof(*header) || header->header_bytes % 8 != 0 ||
        header->row_bytes < sizeof(struct tp_region) || header->row_bytes % 8 != 0)
        return damaged(cursor, "impossible header");

    uint64_t rows_end =
        header->header_bytes + (uint64_t)header->n_regions * header->row_bytes;
    uint64_t total = header->total_bytes;
    if (header->state == TP_FILE_LIVE && cursor->live) {
        if (rows_end > available)
            return truncated(cursor->name, available, cursor->error);
        if (total < available && available - total > GROWTH) available = total + GROWTH;
        total = available;
    }
    if (total < rows_end) return damaged(cursor, "impossible length");
    if (total > available)
        return truncated(cursor->name, cursor->at + available, cursor->error);
    if (total > DUMP_BYTES_MAX) return damaged(cursor, "impossible length");
    *out_bytes = total;
    return true;
}

struct tp_region tp_image_row(const struct tp_image *image, uint32_t i)
{
    struct tp_file_header header;
    memcpy(&header, image->bytes, sizeof(header));
    struct tp_region row;
    memcpy(&row, image->bytes + header.header_bytes + (size_t)i * header.row_bytes,
        sizeof(row));
    return row;
}

bool tp_image_holds(const struct tp_image *image, const struct tp_region *row)
{
    uint64_t bytes;
    if (row->offset % 8 != 0 || row->offset > image->n_bytes || row->record_bytes == 0)
        return false;
    if (__builtin_mul_overflow(row->count, (uint64_t)row->record_bytes, &bytes))
        return false;
    return bytes <= image->n_bytes - row->offset;
}

/* ---- records ----------------------------------------------------------------- */

/* A power of two, so that many small rows are not copied for each of them. */
static size_t room_for(size_t n)
{
    size_t room = 1;
    while (room < n) room *= 2;
    return room;
}

/*
 * Appends the records of `row` to an array of records that have `size` bytes here.
 * Those in the file have at least `least`; what they lack is 0.
 */
static bool append_records(struct cursor *cursor, const struct tp_region *row,
    void **array, size_t *n, size_t size, size_t least)
{
    if (row->record_bytes < least) return damaged(cursor, "a record is too short");
    size_t present = row->record_bytes < size ? row->record_bytes : size;
    size_t count = (size_t)row->count;
    if (count == 0) return true;
    unsigned char *grown = *array;
    size_t room = room_for(*n + count);
    if (*n == 0 || room > room_for(*n)) grown = realloc(*array, room * size);
    if (!grown) return tp_error_set(cursor->error, "out of memory");

    *array = grown;
    const unsigned char *from = cursor->image.bytes + row->offset;
    for (size_t i = 0; i < count; i++) {
        memcpy(grown + (*n + i) * size, from + i * row->record_bytes, present);
        memset(grown + (*n + i) * size + present, 0, size - present);
    }
    *n += count;
    return true;
}

/* Copies the one record of `row`. */
static bool copy_record(
    struct cursor *cursor, const struct tp_region *row, void *to, size_t size)
{
    if (row->count != 1 || row->record_bytes < size)
        return damaged(cursor, "a record is too short");
    memcpy(to, cursor->image.bytes + row->offset, size);
    return true;
}

/* Copies the bytes of `row` and a NUL; replaces an earlier string. */
static bool copy_bytes(
    struct cursor *cursor, const struct tp_region *row, char **out, size_t *out_n)
{
    if (row->record_bytes != 1) return damaged(cursor, "a text is not made of bytes");
    char *text = malloc((size_t)row->count + 1);
    if (!text) return tp_error_set(cursor->error, "out of memory");

    memcpy(text, cursor->image.bytes + row->offset, (size_t)row->count);
    text[row->count] = '\0';
    free(*out);
    *out = text;
    if (out_n) *out_n = (size_t)row->count;
    return true;
}

static bool copy_classes(
    struct cursor *cursor, const struct tp_region *row, struct tp_dump *dump)
{
    if (row->record_bytes < sizeof(dump->classes[0]))
        return damaged(cursor, "a record is too short");
    if (row->count > TP_FORMAT_POOL_CLASSES - dump->n_classes)
        return damaged(cursor, "too many size classes");
    for (size_t i = 0; i < row->count; i++)
        memcpy(&dump->classes[dump->n_classes++],
            cursor->image.bytes + row->offset + i * row->record_bytes,
            sizeof(dump->classes[0]));
    return true;
}

/* Rows of who allocates: several of one kind go on where the last one ended. */
static bool copy_profile_row(
    struct cursor *cursor, const struct tp_region *row, struct tp_dump *dump)
{
    switch (row->kind) {
    case TP_REGION_MODULES:
        return append_records(cursor, row, (void **)&dump->modules, &dump->n_modules,
            sizeof(dump->modules[0]), sizeof(dump->modules[0]));
    case TP_REGION_NODES:
        return append_records(cursor, row, (void **)&dump->nodes, &dump->n_nodes,
            sizeof(dump->nodes[0]), sizeof(dump->nodes[0]));
    case TP_REGION_SITES:
        return append_records(cursor, row, (void **)&dump->sites, &dump->n_sites,
            sizeof(dump->sites[0]), sizeof(dump->sites[0]));
    case TP_REGION_SAMPLES:
        return append_records(cursor, row, (void **)&dump->samples, &dump->n_samples,
            sizeof(dump->samples[0]), sizeof(dump->samples[0]));
    case TP_REGION_TIMELINE:
        return append_records(cursor, row, (void **)&dump->points, &dump->n_points,
            sizeof(dump->points[0]), sizeof(dump->points[0]));
    default:
        return true;  // a newer writer's: nothing to us
    }
}

static bool copy_row(
    struct cursor *cursor, const struct tp_region *row, struct tp_dump *dump)
{
    switch (row->kind) {
    case TP_REGION_PROCESS:
        return copy_record(cursor, row, &dump->process, sizeof(dump->process));
    case TP_REGION_EXE:
        return copy_bytes(cursor, row, &dump->exe, NULL);
    case TP_REGION_COMMAND:
        return copy_bytes(cursor, row, &dump->command, &dump->n_command_bytes);
    case TP_REGION_CLASSES:
        return copy_classes(cursor, row, dump);
    case TP_REGION_TOTALS:
        return copy_record(cursor, row, &dump->totals, sizeof(dump->totals));
    case TP_REGION_THREADS:
        return append_records(cursor, row, (void **)&dump->slots, &dump->n_slots,
            sizeof(dump->slots[0]), sizeof(dump->slots[0]));
    case TP_REGION_ENDED:
        return append_records(cursor, row, (void **)&dump->ended, &dump->n_ended,
            sizeof(dump->ended[0]), sizeof(dump->ended[0]));
    case TP_REGION_LATENCY:  // its unused buckets at the end may be missing
        return append_records(cursor, row, (void **)&dump->latency, &dump->n_latency,
            sizeof(dump->latency[0]), offsetof(struct tp_latency_record, buckets));
    case TP_REGION_SAMPLING:
        return copy_record(cursor, row, &dump->sampling, sizeof(dump->sampling));
    default:
        return copy_profile_row(cursor, row, dump);
    }
}

/* Ends every text inside a record: the file's own NULs are not trusted. */
static void terminate_names(struct tp_dump *dump)
{
    dump->process.name[sizeof(dump->process.name) - 1] = '\0';
    dump->process.host[sizeof(dump->process.host) - 1] = '\0';
    for (size_t i = 0; i < dump->n_slots; i++)
        dump->slots[i].name[TP_FORMAT_NAME - 1] = '\0';
    for (size_t i = 0; i < dump->n_ended; i++)
        dump->ended[i].name[TP_FORMAT_NAME - 1] = '\0';
    for (size_t i = 0; i < dump->n_latency; i++)
        dump->latency[i].name[TP_FORMAT_NAME - 1] = '\0';
}

/* Tells a running process from one that left its live file behind. */
static void look_at_process(struct tp_dump *dump, const struct cursor *cursor)
{
    dump->rss_bytes = dump->header.rss_bytes;
    dump->rss_peak_bytes = dump->header.rss_peak_bytes;
    if (dump->header.state != TP_FILE_LIVE || (cursor->gone && !cursor->in_use)) return;
    struct tp_process_now now;
    tp_process_now_read(&now, dump->process.pid);
    dump->running = !cursor->gone && now.running &&
        now.start_jiffies == dump->process.start_jiffies &&
        tp_process_same_boot(dump->process.boot_id);
    if (dump->running) {
        dump->rss_bytes = now.rss_bytes;
        dump->rss_peak_bytes = now.rss_peak_bytes;
    }
    // Its number may mean nothing here: it is in a pid namespace of its own.
    dump->running = dump->running || cursor->in_use;
    if (!dump->running) return;
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    dump->now_ns = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void dump_fini(struct tp_dump *dump)
{
    free(dump->slots);
    free(dump->ended);
    free(dump->latency);
    free(dump->modules);
    free(dump->nodes);
    free(dump->sites);
    free(dump->samples);
    free(dump->points);
    free(dump->exe);
    free(dump->command);
}

/* Takes the image apart. Its header has been checked. */
static bool parse_image(struct cursor *cursor, struct tp_dump *dump)
{
    memset(dump, 0, sizeof(*dump));
    memcpy(&dump->header, cursor->image.bytes, sizeof(dump->header));
    cursor->budget = cursor->image.n_bytes;
    bool have_process = false;
    for (uint32_t i = 0; i < dump->header.n_regions; i++) {
        struct tp_region row = tp_image_row(&cursor->image, i);
        bool fits = tp_image_holds(&cursor->image, &row);
        uint64_t bytes = fits ? row.count * row.record_bytes : 0;
        if (!fits || bytes > cursor->budget) {
            if (cursor->live) continue;
            damaged(cursor, "a region lies outside");
            goto fail;
        }
        cursor->budget -= bytes;
        if (!copy_row(cursor, &row, dump)) goto fail;
        have_process = have_process || row.kind == TP_REGION_PROCESS;
    }
    if (!have_process) {
        damaged(cursor, "it names no process");
        goto fail;
    }
    const char *wrong = tp_dump_check_records(dump, dump->header.state == TP_FILE_LIVE);
    if (wrong) {
        damaged(cursor, wrong);
        goto fail;
    }
    tp_dump_leave_out_folded(dump);
    terminate_names(dump);
    look_at_process(dump, cursor);
    return true;
fail:
    dump_fini(dump);
    return false;
}

/* ---- copies ---------------------------------------------------------------- */

/* Copies the bytes from cursor->at to `end`, or to where the dump ends. */
static bool copy_bytes_of_dump(
    struct cursor *cursor, const struct tp_source *source, uint64_t end)
{
    struct tp_file_header header;
    uint64_t available = cursor->at < end ? end - cursor->at : 0;
    if (available < sizeof(header) ||
        tp_image_read(source->fd, &header, sizeof(header), cursor->at) !=
            sizeof(header))
        return truncated(source->path, end, cursor->error);

    cursor->live = cursor->at == 0 && header.state == TP_FILE_LIVE;
    uint64_t n = 0;
    if (!check_header(cursor, &header, available, &n)) return false;
    free(cursor->image.bytes);
    cursor->image.bytes = malloc((size_t)n);
    if (!cursor->image.bytes) return tp_error_set(cursor->error, "out of memory");
    cursor->image.n_bytes =
        tp_image_read(source->fd, cursor->image.bytes, (size_t)n, cursor->at);
    if (cursor->image.n_bytes < n)
        return truncated(
            source->path, cursor->at + cursor->image.n_bytes, cursor->error);

    // The bytes may have changed since the header was judged: judge the copy.
    memcpy(&header, cursor->image.bytes, sizeof(header));
    if (!check_header(cursor, &header, n, &n)) return false;
    if (n < cursor->image.n_bytes) cursor->image.n_bytes = (size_t)n;
    return true;
}

/*
 * Copies the dump at cursor->at, or the whole of a live file, into cursor->image. The
 * total_bytes of a live file may grow while we read.
 */
static bool copy_dump(
    struct cursor *cursor, const struct tp_source *source, uint64_t file_size)
{
    uint64_t end = file_size;
    for (unsigned tries = 0; tries < SETTLE_TRIES; tries++) {
        if (!copy_bytes_of_dump(cursor, source, end)) return false;
        if (!cursor->live || tp_image_settle(&cursor->image, source->fd)) return true;
        if (!file_bytes(source, &end, cursor->error)) return false;
    }
    return tp_error_set(
        cursor->error, "cannot read %s: it changes too fast", source->path);
}

/*
 * The same for a compressed file: the dump that follows those that were copied. It is in
 * memory whole, but no more of the file is. False in *out_there: no dump follows.
 */
static bool copy_packed(
    struct cursor *cursor, struct tp_unpack *packed, bool *out_there)
{
    struct tp_file_header header;
    size_t n_header = 0, n_rest = 0;
    uint64_t n = 0;
    cursor->at = tp_unpack_at(packed);
    if (!tp_unpack_read(packed, &header, sizeof(header), &n_header, cursor->error))
        return false;
    *out_there = n_header > 0;
    if (!*out_there) return true;
    if (n_header < sizeof(header))
        return truncated(cursor->name, cursor->at + n_header, cursor->error);
    cursor->live = cursor->at == 0 && header.state == TP_FILE_LIVE;
    // How long a whole dump may be is for the stream to say, when it is read.
    uint64_t most = cursor->live ? sizeof(header) + tp_unpack_left(packed) : UINT64_MAX;
    if (!check_header(cursor, &header, most, &n)) return false;
    unsigned char *bytes = malloc((size_t)n);
    if (!bytes) return tp_error_set(cursor->error, "out of memory");
    memcpy(bytes, &header, sizeof(header));
    cursor->image.bytes = bytes;
    if (!tp_unpack_read(packed, bytes + sizeof(header), (size_t)n - sizeof(header),
            &n_rest, cursor->error))
        return false;
    cursor->image.n_bytes = sizeof(header) + n_rest;
    // A live file ends where its bytes end.
    if (cursor->live && !check_header(cursor, &header, cursor->image.n_bytes, &n))
        return false;
    if (cursor->image.n_bytes < n)
        return truncated(
            cursor->name, cursor->at + cursor->image.n_bytes, cursor->error);
    return true;
}

/* ---- recordings -------------------------------------------------------------- */

bool tp_image_freeze(
    struct tp_image *out_image, const struct tp_source *source, struct tp_error *error)
{
    uint64_t size = 0;
    memset(out_image, 0, sizeof(*out_image));
    if (!file_bytes(source, &size, error)) return false;
    struct cursor cursor = { .name = source->path, .error = error };
    cursor.gone = source->gone;
    cursor.in_use = source->in_use;
    cursor.at = source->at;
    struct tp_dump dump = { 0 };
    bool there = true;
    bool good = source->packed ? copy_packed(&cursor, source->packed, &there)
                               : copy_dump(&cursor, source, size);
    if (good && !there) good = truncated(source->path, cursor.at, error);
    good = good && parse_image(&cursor, &dump);
    if (good && dump.header.state == TP_FILE_DUMP) {
        *out_image = cursor.image;
        cursor.image.bytes = NULL;
    } else if (good) {
        good = tp_image_layout(out_image, &cursor.image, &dump, error);
    }
    if (good) dump_fini(&dump);
    free(cursor.image.bytes);
    return good;
}

void tp_image_fini(struct tp_image *image)
{
    free(image->bytes);
    memset(image, 0, sizeof(*image));
}

/* Makes room for one more dump and returns it, or NULL. */
static struct tp_dump *next_dump(struct tp_recording *recording)
{
    size_t n = recording->n_dumps;
    if ((n & (n - 1)) == 0) {  // full whenever n is 0 or a power of two
        struct tp_dump *grown =
            realloc(recording->dumps, (n ? 2 * n : 1) * sizeof(recording->dumps[0]));
        if (!grown) return NULL;
        recording->dumps = grown;
    }
    return &recording->dumps[n];
}

/* Parses cursor->image as the recording's next dump. */
static bool add_dump(struct tp_recording *recording, struct cursor *cursor)
{
    if (recording->n_dumps == DUMPS_MAX) return damaged(cursor, "too many dumps");
    struct tp_dump *dump = next_dump(recording);
    if (!dump) return tp_error_set(cursor->error, "out of memory");
    if (!parse_image(cursor, dump)) return false;
    recording->n_dumps++;
    return true;
}

static bool load_packed(struct tp_recording *out_recording,
    const struct tp_source *source, struct tp_error *error)
{
    struct cursor cursor = { .name = source->path, .error = error, .gone = true };
    bool good = true, there = true;
    while (good && there) {
        good = copy_packed(&cursor, source->packed, &there) &&
            (!there || add_dump(out_recording, &cursor));
        free(cursor.image.bytes);
        cursor.image = (struct tp_image){ 0 };
    }
    if (good && out_recording->n_dumps == 0)
        good = tp_error_set(error, "cannot read %s: it is empty", source->path);
    if (!good) tp_recording_fini(out_recording);
    return good;
}

bool tp_recording_load(struct tp_recording *out_recording,
    const struct tp_source *source, struct tp_error *error)
{
    memset(out_recording, 0, sizeof(*out_recording));
    uint64_t size = 0;
    if (source->packed) return load_packed(out_recording, source, error);
    if (!file_bytes(source, &size, error)) return false;
    if (size == 0)
        return tp_error_set(error, "cannot read %s: it is empty", source->path);

    struct cursor cursor = { .name = source->path, .error = error };
    cursor.gone = source->gone;
    cursor.in_use = source->in_use;
    bool good = true;
    while (good && cursor.at < size) {
        good = copy_dump(&cursor, source, size) && add_dump(out_recording, &cursor);
        cursor.at = cursor.live ? size : cursor.at + cursor.image.n_bytes;
        free(cursor.image.bytes);
        cursor.image = (struct tp_image){ 0 };
    }
    if (!good) tp_recording_fini(out_recording);
    return good;
}

bool tp_recording_parse(struct tp_recording *out_recording, const unsigned char *bytes,
    size_t n_bytes, const char *name, struct tp_error *error)
{
    memset(out_recording, 0, sizeof(*out_recording));
    struct cursor cursor = { .name = name, .error = error };
    bool good = n_bytes > 0 || tp_error_set(error, "cannot read %s: it is empty", name);
    while (good && cursor.at < n_bytes) {
        struct tp_file_header header;
        uint64_t available = n_bytes - cursor.at;
        uint64_t n = 0;
        if (available < sizeof(header)) {
            good = truncated(name, n_bytes, error);
            break;
        }
        memcpy(&header, bytes + cursor.at, sizeof(header));
        cursor.live = cursor.at == 0 && header.state == TP_FILE_LIVE;
        good = check_header(&cursor, &header, available, &n);
        if (!good) break;
        // The bytes are the caller's and constant here: parsing only reads them.
        cursor.image.bytes = (unsigned char *)(uintptr_t)(bytes + cursor.at);
        cursor.image.n_bytes = (size_t)n;
        good = add_dump(out_recording, &cursor);
        cursor.at += n;
    }
    if (!good) tp_recording_fini(out_recording);
    return good;
}

void tp_recording_fini(struct tp_recording *recording)
{
    for (size_t i = 0; i < recording->n_dumps; i++) dump_fini(&recording->dumps[i]);
    free(recording->dumps);
    memset(recording, 0, sizeof(*recording));
}
