/* SPDX-License-Identifier: MIT */
/*
 * format_heaptrack.c - an exact recording as events that heaptrack_print and
 * heaptrack_gui read (file version 3 of heaptrack 1.4).
 *
 * Idea: that format has no sums, only blocks that come (+) and go (-). An exact recording
 * knows of each call stack how many blocks it took, their bytes, what of them was live at
 * the peak and is live at the end, and how many were freed at once. So events are made up
 * that give the reader just these sums, in four acts:
 *
 *     before the peak   what is not live then comes and goes, one block at a time
 *     the peak          what was live then comes, and nothing goes
 *     after it          what is not live at the end goes
 *     the end           what came after the peak comes
 *
 * heaptrack calls a block temporary when the next event of all frees it. Any event
 * between the two will do to prevent that: here the free of block 0, which has no bytes
 * and never came. The sizes of blocks are the average of their stack, but for the
 * remainders that make the bytes exact.
 *
 * What cannot be told: of blocks that were live at the peak and were freed at once all
 * but one lose "at once"; a block that was made larger where it stood after the peak counts
 * once more, as each realloc does for heaptrack.
 */
#include "report/export.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096 };

#define BLOCKS_MOST ((int64_t)1 << 31)  // some 10 GB of lines

/* Numbers of strings, places and stacks as the file has them: from 1, in order. */
struct track {
    struct tp_writer *w;
    const struct tp_export *export;
    struct tp_space space;
    struct tp_sums sums;
    struct tp_intern strings;
    struct tp_intern traces;  // pairs: location, number of the caller's trace
    uint32_t n_places;        // locations that are written
    uint32_t n_infos;         // kinds of blocks
    int64_t peak;
    struct plan *plans;
};

/* What one stack has to do. */
struct plan {
    uint32_t trace;
    int64_t size;       // of a block, on average
    int64_t before;     // blocks that come and go before the peak
    int64_t temporary;  // and such as go at once
    int64_t at_peak;    // blocks
    int64_t peak_bytes;
    int64_t after;  // blocks that come after the peak and stay
    int64_t after_bytes;
    int64_t freed_bytes;  // of those at the peak
    bool goes_at_once;    // its last block at the peak
};

static bool fail(struct track *track)
{
    track->w->error = ENOMEM;
    return false;
}

/* ---- stacks ------------------------------------------------------------------------------ */

/* The number of a text; its line is written when it is new. 0 stands for no text. */
static uint32_t string(struct track *track, const char *text)
{
    if (!*text) return 0;
    char *clean = tp_export_clean(text);
    uint32_t before = track->strings.n_items;
    uint32_t item = clean ? tp_intern_text(&track->strings, clean) : TP_INTERN_NONE;
    if (item == TP_INTERN_NONE)
        fail(track);
    else if (item == before)
        tp_write_format(track->w, "s %zx ", strlen(clean));
    if (item == before) {
        tp_write_text(track->w, clean);
        tp_write_text(track->w, "\n");
    }
    free(clean);
    return item == TP_INTERN_NONE ? 0 : item + 1;
}

/* i address module [function file line]...: with the functions inlined there. */
static void write_place(struct track *track, const struct tp_location *location)
{
    struct numbers {
        uint32_t function, file, line;
    } *numbers = calloc(location->n_places, sizeof(*numbers));
    char path[TP_FORMAT_PATH + 1] = "";
    if (!numbers) {
        fail(track);
        return;
    }
    if (location->mapping)
        tp_module_path(path, track->space.mapped[location->mapping - 1].module);
    uint32_t module = string(track, path);
    for (size_t i = 0; i < location->n_places; i++) {
        const struct tp_place *place = &location->places[i];
        numbers[i] = (struct numbers){ string(track, place->function),
            string(track, place->file), place->line };
    }
    tp_write_format(track->w, "i %" PRIx64 " %x", location->address, module);
    for (size_t i = 0; i < location->n_places; i++)
        tp_write_format(track->w, " %x %x %x", numbers[i].function, numbers[i].file,
            numbers[i].line);
    tp_write_text(track->w, "\n");
    free(numbers);
}

/* The number of the trace of a row; those of its callers are written before it. */
static uint32_t write_trace(struct track *track, uint32_t row)
{
    size_t n = 0;
    uint32_t parent = 0;
    const uint32_t *list = tp_sums_list(&track->sums, row, &n);
    while (n-- > 0) {
        const uint32_t pair[2] = { list[n] + 1, parent };
        uint32_t before = track->traces.n_items;
        uint32_t trace = tp_intern(&track->traces, pair, sizeof(pair));
        if (trace == TP_INTERN_NONE) fail(track);
        if (track->w->error) return 0;
        if (trace == before) tp_write_format(track->w, "t %x %x\n", pair[0], pair[1]);
        parent = trace + 1;
    }
    return parent;
}

/* ---- plans ------------------------------------------------------------------------------- */

static int64_t clamp(int64_t value, int64_t least, int64_t most)
{
    if (value > most) value = most;
    return value < least ? least : value;
}

static int64_t positive(int64_t value)
{
    return value > 0 ? value : 0;
}

/* Blocks of the average size that have so many bytes; one at least, if there are bytes. */
static int64_t blocks_of(int64_t bytes, int64_t size, int64_t most)
{
    if (bytes == 0) return 0;
    return clamp(size ? bytes / size + (bytes % size > size / 2) : 1, 1, most);
}

static struct plan make_plan(const int64_t values[TP_VALUES], bool *last_is_taken)
{
    int64_t all = positive(values[TP_VALUE_ALLOCATIONS]);
    int64_t peak = positive(values[TP_VALUE_PEAK]);
    int64_t live = positive(values[TP_VALUE_LIVE]);
    struct plan plan = { .size = all ? positive(values[TP_VALUE_ALLOCATED]) / all : 0 };
    plan.peak_bytes = peak;
    plan.freed_bytes = positive(peak - live);
    plan.after_bytes = positive(live - peak);
    plan.temporary = clamp(values[TP_VALUE_TEMPORARY], 0, all);
    int64_t rest = all - plan.temporary;
    plan.after = blocks_of(plan.after_bytes, plan.size, rest - (peak > 0));
    rest = positive(rest - plan.after);
    plan.at_peak = blocks_of(peak, plan.size, rest);
    if (plan.at_peak > rest && plan.temporary > 0) {  // it was one that went at once
        plan.temporary--;
        plan.goes_at_once = !*last_is_taken;
        *last_is_taken = true;
    }
    plan.before = positive(rest - plan.at_peak);
    return plan;
}

/* ---- events ------------------------------------------------------------------------------ */

/* A kind of block; its number, from 0. */
static uint32_t info(struct track *track, int64_t size, uint32_t trace)
{
    tp_write_format(track->w, "a %" PRIx64 " %x\n", (uint64_t)size, trace);
    return track->n_infos++;
}

static void event(struct track *track, char sign, uint32_t number)
{
    tp_write_format(track->w, "%c %x\n", sign, number);
}

static void write_before(struct track *track, const struct plan *plan)
{
    // No one of them alone may be a higher peak, or the same one earlier.
    int64_t size = plan->size < track->peak ? plan->size : positive(track->peak - 1);
    if (plan->before + plan->temporary == 0) return;
    uint32_t number = info(track, size, plan->trace);
    for (int64_t i = 0; i < plan->temporary && !track->w->error; i++) {
        event(track, '+', number);
        event(track, '-', number);
    }
    for (int64_t i = 0; i < plan->before && !track->w->error; i++) {
        event(track, '+', number);
        event(track, '-', 0);
        event(track, '-', number);
    }
}

/* So many blocks come, and have together so many bytes. Returns the kind of the last. */
static uint32_t write_blocks(
    struct track *track, uint32_t trace, int64_t blocks, int64_t bytes)
{
    int64_t each = bytes / blocks, larger = bytes % blocks;
    uint32_t number = 0;
    if (larger) number = info(track, each + 1, trace);
    for (int64_t i = 0; i < larger && !track->w->error; i++) event(track, '+', number);
    if (larger < blocks) number = info(track, each, trace);
    for (int64_t i = larger; i < blocks && !track->w->error; i++)
        event(track, '+', number);
    return number;
}

/* Bytes of the blocks at the peak go: whole blocks, then the part of one. */
static void write_freed(struct track *track, const struct plan *plan)
{
    if (plan->freed_bytes == 0) return;
    int64_t each = plan->peak_bytes / plan->at_peak;
    int64_t whole = each ? plan->freed_bytes / each : 0;
    int64_t part = plan->freed_bytes - whole * each;
    uint32_t number = whole ? info(track, each, plan->trace) : 0;
    for (int64_t i = 0; i < whole && !track->w->error; i++) event(track, '-', number);
    if (part) event(track, '-', info(track, part, plan->trace));
}

/* The block that goes at once, as the first one after the peak. */
static void write_last(struct track *track, struct plan *plan)
{
    if (plan->at_peak > 1)
        write_blocks(track, plan->trace, plan->at_peak - 1,
            plan->peak_bytes - plan->peak_bytes / plan->at_peak);
    int64_t bytes = plan->peak_bytes / plan->at_peak;
    uint32_t number = write_blocks(track, plan->trace, 1, bytes);
    if (bytes > plan->freed_bytes) return;
    event(track, '-', number);
    plan->freed_bytes -= bytes;
}

static void write_time(struct track *track, uint64_t ns)
{
    tp_write_format(track->w, "c %" PRIx64 "\n", ns / 1000000);
}

static void write_events(struct track *track)
{
    uint32_t n = track->sums.keys.n_items;
    const struct tp_profile *profile = track->export->whos[0].profile;
    struct plan *last = NULL;
    if (n) info(track, 0, track->plans[0].trace);  // number 0
    for (uint32_t i = 0; i < n; i++) write_before(track, &track->plans[i]);
    write_time(track, profile->totals.peak_ns);
    for (uint32_t i = 0; i < n; i++) {
        struct plan *plan = &track->plans[i];
        if (plan->goes_at_once)
            last = plan;
        else if (plan->at_peak)
            write_blocks(track, plan->trace, plan->at_peak, plan->peak_bytes);
    }
    if (last)
        write_last(track, last);
    else if (n)
        event(track, '-', 0);
    for (uint32_t i = 0; i < n; i++) write_freed(track, &track->plans[i]);
    for (uint32_t i = 0; i < n; i++)
        if (track->plans[i].after)
            write_blocks(track, track->plans[i].trace, track->plans[i].after,
                track->plans[i].after_bytes);
    write_time(track, profile->duration_ns);
}

/* ---- the file ---------------------------------------------------------------------------- */

static void write_head(struct track *track)
{
    const struct tp_dump *dump = track->export->whos[0].profile->dump;
    tp_write_text(track->w, "v 10400 3\nX ");
    for (size_t at = 0; at < dump->n_command_bytes;) {
        char *clean = tp_export_clean(dump->command + at);
        if (at > 0) tp_write_text(track->w, " ");
        tp_write_text(track->w, clean ? clean : "");
        free(clean);
        at += strlen(dump->command + at) + 1;
    }
    if (dump->n_command_bytes == 0) tp_write_clean(track->w, dump->process.name, 64);
    tp_write_format(track->w, "\nI %x %x\n", (unsigned)PAGE, 0U);
    // The resident set at its highest, in pages.
    tp_write_format(track->w, "R %" PRIx64 "\n", dump->rss_peak_bytes / PAGE);
}

static void write_all(struct track *track)
{
    uint32_t n = track->sums.keys.n_items;
    bool last_is_taken = false;
    int64_t blocks = 0;
    track->plans = calloc((size_t)n + 1, sizeof(track->plans[0]));
    if (!track->plans) {
        fail(track);
        return;
    }
    write_head(track);
    for (uint32_t i = 0; i < track->space.keys.n_items; i++)
        write_place(track, &track->space.locations[i]);
    for (uint32_t i = 0; i < n; i++) {
        track->plans[i] = make_plan(track->sums.values[i], &last_is_taken);
        track->plans[i].trace = write_trace(track, i);
        track->peak = tp_export_add(track->peak, track->plans[i].peak_bytes);
        blocks = tp_export_add(
            blocks, positive(track->sums.values[i][TP_VALUE_ALLOCATIONS]));
    }
    if (blocks > BLOCKS_MOST)
        track->w->error = EFBIG;
    else
        write_events(track);
    free(track->plans);
}

void tp_heaptrack_write(struct tp_writer *writer, const struct tp_export *export)
{
    struct track track = { .w = writer, .export = export };
    if (!tp_space_open(&track.space, export)) {
        fail(&track);
        return;
    }
    if (tp_space_sums(&track.sums, &track.space, export))
        write_all(&track);
    else
        fail(&track);
    tp_sums_fini(&track.sums);
    tp_space_close(&track.space);
    tp_intern_fini(&track.strings);
    tp_intern_fini(&track.traces);
}

bool tp_heaptrack_accepts(const struct tp_report *report, struct tp_error *error)
{
    for (size_t i = 0; i < report->n_profiles; i++) {
        const struct tp_dump *dump = report->profiles[i].dump;
        if (!tp_export_takes(report, &report->profiles[i])) continue;
        if (report->profiles[i].totals.allocations > (uint64_t)BLOCKS_MOST)
            return tp_error_set(error,
                "heaptrack's format is of single blocks, and the %llu of process %u are "
                "too many for a file",
                (unsigned long long)report->profiles[i].totals.allocations,
                dump->process.pid);
        if (dump->sampling.mode == TP_SAMPLING_EXACT) continue;
        return tp_error_set(error,
            "heaptrack's format is of single blocks: it needs a recording made with "
            "sample=all, and process %u has %s",
            dump->process.pid,
            dump->sampling.mode == TP_SAMPLING_OFF ? "no call stacks" : "samples");
    }
    return true;
}
