/* SPDX-License-Identifier: MIT */
/*
 * format_pprof.c - profile.proto of google/pprof, for go tool pprof, Pyroscope, Parca.
 *
 * Field numbers and meanings: github.com/google/pprof, proto/profile.proto. What its
 * readers insist on, beyond that:
 *   - ids are 1, 2, 3 ... in the order of the tables (Parca);
 *   - addresses are not 0 and distinct: some tell stacks apart by them alone (Alloy);
 *   - a mapping that says it has functions has no location without one (Pyroscope erases
 *     their addresses): what has no name is called by module and offset;
 *   - inuse_space is the last type: some take the last one for the default (speedscope).
 * Values are whole estimates: nothing is left to scale. Fields of a message may come in
 * any order, so the strings come last, when all of them are known.
 */
#include "report/export.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- protocol buffers: a message under construction ------------------------------------ */

struct message {
    unsigned char *bytes;
    size_t n;
    size_t room;
    bool failed;  // without memory
};

static void put_bytes(struct message *to, const void *bytes, size_t n)
{
    if (to->failed) return;
    if (to->room - to->n < n) {
        size_t room = 2 * to->room + n + 64;
        unsigned char *grown = realloc(to->bytes, room);
        if (!grown) {
            to->failed = true;
            return;
        }
        to->bytes = grown;
        to->room = room;
    }
    if (n) memcpy(to->bytes + to->n, bytes, n);
    to->n += n;
}

/* Seven bits a byte, the lowest first; the eighth says that more follow. */
static void put_varint(struct message *to, uint64_t value)
{
    unsigned char bytes[10];
    size_t n = 0;
    do {
        bytes[n] = (unsigned char)(value & 0x7f) | (value > 0x7f ? 0x80 : 0);
        n++;
        value >>= 7;
    } while (value);
    put_bytes(to, bytes, n);
}

enum { VARINT = 0, BYTES = 2 };  // wire types

/* A number; 0 is what a field has that is not there. */
static void put_number(struct message *to, unsigned field, uint64_t value)
{
    if (value == 0) return;
    put_varint(to, field << 3 | VARINT);
    put_varint(to, value);
}

static void put_field(struct message *to, unsigned field, const void *bytes, size_t n)
{
    put_varint(to, field << 3 | BYTES);
    put_varint(to, n);
    put_bytes(to, bytes, n);
}

/* Puts a message into another one and empties it. */
static void put_message(struct message *to, unsigned field, struct message *part)
{
    put_field(to, field, part->bytes, part->n);
    to->failed = to->failed || part->failed;
    part->n = 0;
}

/* ---- the profile ---------------------------------------------------------------------- */

enum {
    SAMPLE_TYPE = 1,
    SAMPLE,
    MAPPING,
    LOCATION,
    FUNCTION,
    STRING,
    DROP_FRAMES,
    TIME = 9,
    DURATION,
    PERIOD_TYPE,
    PERIOD,
    COMMENT,
    DEFAULT_TYPE
};

struct pprof {
    struct tp_writer *w;
    const struct tp_export *export;
    struct tp_space space;
    struct tp_sums sums;
    struct tp_intern strings;    // 0 is the empty one
    struct tp_intern functions;  // pairs of strings: name, file
    struct message top;          // fields of the profile on their way out
    struct message part;
    struct message inner;
};

static const struct {
    const char *type;
    const char *unit;
    enum tp_value value;
    unsigned asked;  // the bit of the view's types that asks for it; 0: always there
} types[] = {
    { "peak_space", "bytes", TP_VALUE_PEAK, 1U << TP_FIGURE_PEAK },
    { "temporary_objects", "count", TP_VALUE_TEMPORARY, 1U << TP_FIGURE_TEMPORARY },
    { "alloc_objects", "count", TP_VALUE_ALLOCATIONS, 0 },
    { "alloc_space", "bytes", TP_VALUE_ALLOCATED, 0 },
    { "inuse_objects", "count", TP_VALUE_LIVE_BLOCKS, 0 },
    { "inuse_space", "bytes", TP_VALUE_LIVE, 0 },
};

enum { N_TYPES = sizeof(types) / sizeof(types[0]) };

/* Who sorts by an extra type has asked for it. */
static bool is_there(const struct pprof *pprof, size_t type)
{
    const struct tp_view *view = pprof->export->view;
    return !types[type].asked || (types[type].asked & view->types) ||
        tp_export_value(view) == types[type].value;
}

/* The number of a text that is clean. */
static uint64_t string(struct pprof *pprof, const char *text)
{
    uint32_t number = tp_intern_text(&pprof->strings, text);
    pprof->top.failed = pprof->top.failed || number == TP_INTERN_NONE;
    return number;
}

static uint64_t cleaned(struct pprof *pprof, const char *text)
{
    char *clean = tp_export_clean(text);
    uint64_t number = clean ? string(pprof, clean) : 0;
    pprof->top.failed = pprof->top.failed || !clean;
    free(clean);
    return number;
}

/* What is ready goes out, so that memory holds one field at a time. */
static void flush(struct pprof *pprof)
{
    if (pprof->top.failed) pprof->w->error = ENOMEM;
    if (!pprof->w->error)
        tp_write_bytes(pprof->w, (const char *)pprof->top.bytes, pprof->top.n);
    pprof->top.n = 0;
}

static void put_type(
    struct pprof *pprof, unsigned field, const char *type, const char *unit)
{
    put_number(&pprof->part, 1, string(pprof, type));
    put_number(&pprof->part, 2, string(pprof, unit));
    put_message(&pprof->top, field, &pprof->part);
}

static void write_samples(struct pprof *pprof)
{
    for (uint32_t i = 0; i < pprof->sums.keys.n_items; i++) {
        size_t n = 0;
        const uint32_t *list = tp_sums_list(&pprof->sums, i, &n);
        for (size_t k = 0; k < n; k++) put_varint(&pprof->inner, (uint64_t)list[k] + 1);
        put_message(&pprof->part, 1, &pprof->inner);
        for (size_t k = 0; k < N_TYPES; k++)
            if (is_there(pprof, k))
                put_varint(
                    &pprof->inner, (uint64_t)pprof->sums.values[i][types[k].value]);
        put_message(&pprof->part, 2, &pprof->inner);
        put_message(&pprof->top, SAMPLE, &pprof->part);
        flush(pprof);
    }
}

static uint64_t function_of(struct pprof *pprof, const struct tp_place *place)
{
    const uint64_t pair[2] = { cleaned(pprof, place->function),
        cleaned(pprof, place->file) };
    uint32_t number = tp_intern(&pprof->functions, pair, sizeof(pair));
    pprof->top.failed = pprof->top.failed || number == TP_INTERN_NONE;
    return (uint64_t)number + 1;
}

static void write_locations(struct pprof *pprof)
{
    for (uint32_t i = 0; i < pprof->space.keys.n_items; i++) {
        const struct tp_location *location = &pprof->space.locations[i];
        put_number(&pprof->part, 1, (uint64_t)i + 1);
        put_number(&pprof->part, 2, location->mapping);
        put_number(&pprof->part, 3, location->address);
        for (size_t k = 0; k < location->n_places; k++) {
            const struct tp_place *place = &location->places[k];
            put_number(&pprof->inner, 1, function_of(pprof, place));
            put_number(&pprof->inner, 2, place->line);
            put_message(&pprof->part, 4, &pprof->inner);
        }
        put_message(&pprof->top, LOCATION, &pprof->part);
        flush(pprof);
    }
}

static void write_functions(struct pprof *pprof)
{
    for (uint32_t i = 0; i < pprof->functions.n_items; i++) {
        const uint64_t *pair = tp_intern_at(&pprof->functions, i, NULL);
        put_number(&pprof->part, 1, (uint64_t)i + 1);
        put_number(&pprof->part, 2, pair[0]);
        put_number(&pprof->part, 3, pair[0]);
        put_number(&pprof->part, 4, pair[1]);
        put_message(&pprof->top, FUNCTION, &pprof->part);
        flush(pprof);
    }
}

/* What the locations of a mapping have, so that readers need not look further. */
struct has {
    bool files;
    bool lines;
    bool inlines;
};

static void find_out(struct has *has, const struct pprof *pprof)
{
    for (uint32_t i = 0; i < pprof->space.keys.n_items; i++) {
        const struct tp_location *location = &pprof->space.locations[i];
        struct has *of = &has[location->mapping];  // 0 is for those that have none
        for (size_t k = 0; k < location->n_places; k++) {
            of->files = of->files || location->places[k].file[0];
            of->lines = of->lines || location->places[k].line;
        }
        of->inlines = of->inlines || location->n_places > 1;
    }
}

static void write_mappings(struct pprof *pprof)
{
    struct has *has = calloc(pprof->space.n_mapped + 1, sizeof(has[0]));
    if (!has) {
        pprof->top.failed = true;
        return;
    }
    find_out(has, pprof);
    for (size_t i = 0; i < pprof->space.n_mapped; i++) {
        const struct tp_mapped *mapped = &pprof->space.mapped[i];
        char path[TP_FORMAT_PATH + 1];
        char build_id[TP_BUILD_ID_DIGITS];
        put_number(&pprof->part, 1, i + 1);
        put_number(&pprof->part, 2, mapped->start);
        put_number(&pprof->part, 3, mapped->end);
        put_number(
            &pprof->part, 5, cleaned(pprof, tp_module_path(path, mapped->module)));
        put_number(&pprof->part, 6,
            string(pprof, tp_module_build_id(build_id, mapped->module)));
        put_number(&pprof->part, 7, 1);
        put_number(&pprof->part, 8, has[i + 1].files);
        put_number(&pprof->part, 9, has[i + 1].lines);
        put_number(&pprof->part, 10, has[i + 1].inlines);
        put_message(&pprof->top, MAPPING, &pprof->part);
        flush(pprof);
    }
    free(has);
}

static void write_strings(struct pprof *pprof)
{
    for (uint32_t i = 0; i < pprof->strings.n_items; i++) {
        size_t n = 0;
        const char *text = tp_intern_at(&pprof->strings, i, &n);
        put_field(&pprof->top, STRING, text, n);
        flush(pprof);
    }
}

/* ---- what the profile is of ------------------------------------------------------------ */

/* Functions that only hand memory on: readers take them off the inner end of stacks. */
static const char drop_frames[] =
    "malloc|calloc|realloc|reallocarray|aligned_alloc|posix_memalign|memalign|valloc|"
    "pvalloc|operator new(\\[\\])?(\\(.*\\))?|"
    "(std|__gnu_cxx)::(__[a-z0-9_]+::)?(__)?(new_)?allocator(_traits)?<.*>::allocate"
    "(\\(.*\\))?|std::_Vector_base<.*>::_M_allocate(\\(.*\\))?|"
    "__rust_alloc|__rust_alloc_zeroed|__rust_realloc|alloc::alloc::.*|alloc::raw_vec::.*";

static void put_comment(struct pprof *pprof, const char *text)
{
    put_number(&pprof->top, COMMENT, cleaned(pprof, text));
}

static void write_process_comment(struct pprof *pprof, const struct tp_profile *profile)
{
    char text[256];
    const struct tp_sampling_record *sampling = &profile->dump->sampling;
    const struct tp_process_record *process = &profile->dump->process;
    int n = snprintf(text, sizeof(text), "%s, pid %u, %s: ", process->name,
        process->pid, profile->reason);
    const char *scaled = "scaled to the exact counts";
    if (sampling->mode == TP_SAMPLING_EXACT)
        snprintf(text + n, sizeof(text) - (size_t)n, "every allocation");
    else if (sampling->mode == TP_SAMPLING_SAMPLED)
        snprintf(text + n, sizeof(text) - (size_t)n,
            "%llu samples, one in %llu bytes, %llu dropped; %s",
            (unsigned long long)sampling->samples,
            (unsigned long long)sampling->interval_bytes,
            (unsigned long long)sampling->dropped, scaled);
    else
        snprintf(text + n, sizeof(text) - (size_t)n, "no call stacks were taken");
    put_comment(pprof, text);
}

/* Of several processes the latest time, the longest duration and the longest period. */
static void write_head(struct pprof *pprof)
{
    enum { COMMENTS = 32 };
    const struct tp_export *export = pprof->export;
    uint64_t time = 0, duration = 0, period = 1;
    char text[64];
    snprintf(text, sizeof(text), "tidepool %s", tp_report_version());
    put_comment(pprof, text);
    for (size_t i = 0; i < export->n_whos; i++) {
        const struct tp_profile *profile = export->whos[i].profile;
        const struct tp_sampling_record *sampling = &profile->dump->sampling;
        if (profile->time_unix_ns > time) time = profile->time_unix_ns;
        if (profile->duration_ns > duration) duration = profile->duration_ns;
        if (sampling->mode == TP_SAMPLING_SAMPLED && sampling->interval_bytes > period)
            period = sampling->interval_bytes;
        if (i < COMMENTS) write_process_comment(pprof, profile);
    }
    put_number(&pprof->top, TIME, time & INT64_MAX);
    put_number(&pprof->top, DURATION, duration & INT64_MAX);
    put_number(&pprof->top, PERIOD, period & INT64_MAX);
    put_type(pprof, PERIOD_TYPE, "space", "bytes");
    put_number(&pprof->top, DROP_FRAMES, string(pprof, drop_frames));
    for (size_t i = 0; i < N_TYPES; i++) {
        if (!is_there(pprof, i)) continue;
        put_type(pprof, SAMPLE_TYPE, types[i].type, types[i].unit);
        if (types[i].value == tp_export_value(export->view))
            put_number(&pprof->top, DEFAULT_TYPE, string(pprof, types[i].type));
    }
    flush(pprof);
}

void tp_pprof_write(struct tp_writer *writer, const struct tp_export *export)
{
    struct pprof pprof = { .w = writer, .export = export };
    bool good = tp_space_open(&pprof.space, export);
    if (good && tp_space_sums(&pprof.sums, &pprof.space, export)) {
        string(&pprof, "");
        write_head(&pprof);
        write_samples(&pprof);
        write_mappings(&pprof);
        write_locations(&pprof);
        write_functions(&pprof);
        write_strings(&pprof);
        flush(&pprof);
    } else {
        writer->error = ENOMEM;
    }
    tp_sums_fini(&pprof.sums);
    if (good) tp_space_close(&pprof.space);
    tp_intern_fini(&pprof.strings);
    tp_intern_fini(&pprof.functions);
    free(pprof.top.bytes);
    free(pprof.part.bytes);
    free(pprof.inner.bytes);
}
