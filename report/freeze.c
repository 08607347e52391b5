/* SPDX-License-Identifier: MIT */
/*
 * freeze.c - the used part of a live file, laid out anew as a dump.
 *
 * Idea: a live file has room for what may come; a dump has none. Records that were
 * never used are left out, at the end of a row or, where order means nothing, anywhere.
 * Kinds that this tool does not know are kept as they are. Who allocates is written as it
 * was loaded, without what was half written: one row a kind.
 *
 * Knows nothing of: what the figures mean.
 */
#include "report/model.h"

#include <stdlib.h>
#include <string.h>

static bool all_zero(const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != 0) return false;
    return true;
}

static const unsigned char *record_at(
    const struct tp_image *image, const struct tp_region *row, uint64_t i)
{
    return image->bytes + row->offset + i * row->record_bytes;
}

/* How many records of `row` a dump needs: unused ones at the end are left out. */
static uint64_t used_records(const struct tp_image *image, const struct tp_region *row)
{
    uint64_t n = row->count;
    if (row->record_bytes == 1 || row->kind == TP_REGION_CLASSES) return n;
    while (n > 1 && all_zero(record_at(image, row, n - 1), row->record_bytes)) n--;
    return n;
}

/*
 * Copies the latencies that were used, without the buckets at the end that none of
 * them has. `row` tells then what was copied.
 */
static void copy_latencies(
    unsigned char *to, const struct tp_image *image, struct tp_region *row)
{
    uint64_t count = 0;
    uint32_t longest = offsetof(struct tp_latency_record, buckets);
    for (uint64_t i = 0; i < row->count; i++) {
        const unsigned char *record = record_at(image, row, i);
        uint32_t n = row->record_bytes;
        while (n > longest && all_zero(record + n - 8, 8)) n -= 8;
        longest = n;
    }
    for (uint64_t i = 0; i < row->count; i++) {
        struct tp_latency_record record;
        memcpy(&record, record_at(image, row, i),
            offsetof(struct tp_latency_record, buckets));
        if (record.count == 0) continue;
        memcpy(to + count++ * longest, record_at(image, row, i), longest);
    }
    row->count = count;
    row->record_bytes = longest;
}

/* True for latencies that can be cut to their used part. */
static bool is_latencies(const struct tp_region *row)
{
    return row->kind == TP_REGION_LATENCY && row->record_bytes % 8 == 0 &&
        row->record_bytes >= offsetof(struct tp_latency_record, buckets);
}

/* Copies the slots that count and hold something. `index`: of the first, and on. */
static void copy_slots(unsigned char *to, const struct tp_image *image,
    struct tp_region *row, const struct tp_dump *dump, uint64_t *index)
{
    uint64_t n = 0;
    size_t bytes = row->record_bytes;
    for (uint64_t i = 0; i < row->count; i++, (*index)++) {
        const unsigned char *slot = record_at(image, row, i);
        if (!tp_slot_counts(dump->totals.folded, *index) || all_zero(slot, bytes))
            continue;
        memcpy(to + n++ * bytes, slot, bytes);
    }
    row->count = n;
}

/* Slots get new numbers: what ended says so by itself from now on. */
static void copy_ended(unsigned char *to, const struct tp_image *image,
    struct tp_region *row, const struct tp_dump *dump)
{
    uint64_t n = 0;
    size_t bytes = row->record_bytes;
    for (uint64_t i = 0; i < row->count; i++) {
        struct tp_ended_record record;
        memcpy(&record, record_at(image, row, i), sizeof(record));
        if (!tp_ended_counts(dump, &record)) continue;
        memcpy(to + n * bytes, record_at(image, row, i), bytes);
        record.slot = (uint32_t)TP_ENDED_FOR_GOOD;
        memcpy(to + n++ * bytes, &record, sizeof(record));
    }
    row->count = n;
}

/* Copies what a dump needs of `row` and returns how many bytes that is. */
static uint64_t copy_used(unsigned char *to, const struct tp_image *image,
    struct tp_region *row, const struct tp_dump *dump, uint64_t *index)
{
    if (is_latencies(row)) {
        copy_latencies(to, image, row);
    } else if (row->kind == TP_REGION_THREADS &&
        row->record_bytes >= sizeof(struct tp_thread_slot)) {
        copy_slots(to, image, row, dump, index);
    } else if (row->kind == TP_REGION_ENDED &&
        row->record_bytes >= sizeof(struct tp_ended_record)) {
        copy_ended(to, image, row, dump);
    } else {
        row->count = used_records(image, row);
        memcpy(to, record_at(image, row, 0), (size_t)(row->count * row->record_bytes));
    }
    return row->count * row->record_bytes;
}

/*
 * The clocks of a process that runs are those of its last slow path: brings them to the
 * moment of the reading. The ticks go on at the rate that they had, by which latencies
 * are read; without a rate there are none.
 */
static void wind_clocks(struct tp_file_header *header, const struct tp_dump *dump)
{
    uint64_t begin = dump->process.start_monotonic_ns;
    if (!dump->running || dump->now_ns <= header->monotonic_ns || dump->now_ns <= begin)
        return;
    uint64_t age = dump->now_ns - begin;
    bool has_rate =
        header->monotonic_ns > begin && header->ticks > dump->process.start_ticks;
    double ticks = has_rate ? (double)age / tp_latency_tick_ns(dump) : 0;
    if (ticks > 9e18) return;
    header->monotonic_ns = dump->now_ns;
    header->time_unix_ns = dump->process.start_unix_ns + age;
    header->ticks = dump->process.start_ticks + (uint64_t)ticks;
}

/* Writes the header of a frozen image: made now, or when the process last could. */
static void seal(struct tp_image *image, const struct tp_dump *dump,
    size_t header_bytes, uint32_t n_rows)
{
    struct tp_file_header header = dump->header;
    header.header_bytes = (uint32_t)header_bytes;
    header.row_bytes = sizeof(struct tp_region);
    header.n_regions = n_rows;
    header.total_bytes = image->n_bytes;
    header.state = TP_FILE_DUMP;
    // A process that may not write its dump leaves its file stamped with the reason.
    uint32_t end = header.reason == TP_REASON_EXIT ? TP_REASON_EXIT : TP_REASON_KILLED;
    header.reason = dump->running ? TP_REASON_REQUEST : end;
    wind_clocks(&header, dump);
    header.rss_bytes = dump->rss_bytes;
    header.rss_peak_bytes = dump->rss_peak_bytes;
    memcpy(image->bytes, &header, sizeof(header));
}

/* ---- who allocates ---- */

/* Records as they were loaded; their place is still to be found. */
struct loaded {
    struct tp_region row;
    const void *records;
};

enum { LOADED = 6 };

static struct loaded loaded_of(
    uint32_t kind, size_t record_bytes, size_t count, const void *records)
{
    return (struct loaded){
        .row = { .kind = kind, .record_bytes = (uint32_t)record_bytes, .count = count },
        .records = records
    };
}

static void list_loaded(struct loaded out[LOADED], const struct tp_dump *dump)
{
    bool sampled = !all_zero((const void *)&dump->sampling, sizeof(dump->sampling));
    out[0] =
        loaded_of(TP_REGION_SAMPLING, sizeof(dump->sampling), sampled, &dump->sampling);
    out[1] = loaded_of(
        TP_REGION_MODULES, sizeof(*dump->modules), dump->n_modules, dump->modules);
    out[2] =
        loaded_of(TP_REGION_NODES, sizeof(*dump->nodes), dump->n_nodes, dump->nodes);
    out[3] =
        loaded_of(TP_REGION_SITES, sizeof(*dump->sites), dump->n_sites, dump->sites);
    out[4] = loaded_of(
        TP_REGION_SAMPLES, sizeof(*dump->samples), dump->n_samples, dump->samples);
    out[5] = loaded_of(
        TP_REGION_TIMELINE, sizeof(*dump->points), dump->n_points, dump->points);
}

static bool is_loaded(uint32_t kind)
{
    return kind >= TP_REGION_SAMPLING && kind <= TP_REGION_TIMELINE;
}

bool tp_image_layout(struct tp_image *out, const struct tp_image *live,
    const struct tp_dump *dump, struct tp_error *error)
{
    size_t header_bytes = sizeof(struct tp_file_header);
    size_t rows_bytes = dump->header.n_regions * sizeof(struct tp_region);
    size_t used = header_bytes + rows_bytes;
    // Every region may need padding to a multiple of 8.
    out->bytes = calloc(1, used + live->n_bytes + 8 * (size_t)dump->header.n_regions);
    if (!out->bytes) return tp_error_set(error, "out of memory");

    uint32_t n_rows = 0;
    uint64_t budget = live->n_bytes, index = 0;
    for (uint32_t i = 0; i < dump->header.n_regions; i++) {
        struct tp_region row = tp_image_row(live, i);
        if (!tp_image_holds(live, &row) || is_loaded(row.kind)) continue;
        uint64_t most = row.count * row.record_bytes;
        if (most > budget) continue;
        budget -= most;
        uint64_t n = copy_used(out->bytes + used, live, &row, dump, &index);
        row.offset = used;
        memcpy(out->bytes + header_bytes + n_rows++ * sizeof(row), &row, sizeof(row));
        used = (used + (size_t)n + 7) & ~(size_t)7;
    }
    struct loaded loaded[LOADED];
    list_loaded(loaded, dump);
    for (size_t i = 0; i < LOADED; i++) {
        size_t bytes = loaded[i].row.record_bytes * (size_t)loaded[i].row.count;
        if (!bytes) continue;
        loaded[i].row.offset = used;
        memcpy(out->bytes + used, loaded[i].records, bytes);
        memcpy(out->bytes + header_bytes + n_rows++ * sizeof(struct tp_region),
            &loaded[i].row, sizeof(struct tp_region));
        used = (used + bytes + 7) & ~(size_t)7;
    }
    out->n_bytes = used;
    seal(out, dump, header_bytes, n_rows);
    return true;
}
