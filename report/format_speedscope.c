/* SPDX-License-Identifier: MIT */
/*
 * format_speedscope.c - the JSON of speedscope.app: a profile for each figure.
 *
 * By its file-format-schema.json: frames are shared, a profile of type "sampled" has
 * stacks, root first, and their weights, which may not be negative. Order means nothing
 * here, so the heaviest come first. Frames are told apart by function and file; only the
 * place that asks for memory has its line, lest a function becomes as many as it has
 * callers' lines.
 */
#include "report/export.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct scope {
    const struct tp_export *export;
    struct tp_intern frames;  // "function NUL file NUL line"
    struct tp_sums sums;      // by frames, root first
};

static const struct {
    enum tp_value value;
    const char *name;
    const char *unit;
} profiles[] = {
    { TP_VALUE_LIVE, "live bytes", "bytes" },
    { TP_VALUE_PEAK, "bytes at the peak", "bytes" },
    { TP_VALUE_ALLOCATED, "allocated bytes", "bytes" },
    { TP_VALUE_ALLOCATIONS, "allocations", "none" },
    { TP_VALUE_TEMPORARY, "temporary blocks", "none" },
};

enum { N_PROFILES = sizeof(profiles) / sizeof(profiles[0]) };

static uint32_t frame_of(struct scope *scope, const struct tp_place *place, bool leaf)
{
    char *key = NULL;
    int n = asprintf(
        &key, "%s%c%s%c%u", place->function, 0, place->file, 0, leaf ? place->line : 0);
    if (n < 0) return TP_INTERN_NONE;
    uint32_t frame = tp_intern(&scope->frames, key, (size_t)n);
    free(key);
    return frame;
}

static bool take(void *argument, size_t who, const struct tp_site *site,
    const int64_t values[TP_VALUES])
{
    struct scope *scope = argument;
    const struct tp_place *places[TP_EXPORT_PLACES];
    uint32_t list[TP_EXPORT_PLACES];
    size_t n = tp_export_places(places, &scope->export->whos[who], site);
    for (size_t i = 0; i < n; i++) {
        list[n - 1 - i] = frame_of(scope, places[i], i == 0);
        if (list[n - 1 - i] == TP_INTERN_NONE) return false;
    }
    return tp_sums_add(&scope->sums, list, n, values);
}

static void write_frames(struct tp_writer *w, const struct scope *scope)
{
    tp_json_begin(w, "shared", '{');
    tp_json_begin(w, "frames", '[');
    for (uint32_t i = 0; i < scope->frames.n_items; i++) {
        const char *name = tp_intern_at(&scope->frames, i, NULL);
        const char *file = name + strlen(name) + 1;
        const char *line = file + strlen(file) + 1;
        tp_json_begin(w, NULL, '{');
        tp_json_text(w, "name", name);
        if (*file) tp_json_text(w, "file", file);
        if (*file && *line != '0') tp_json_uint(w, "line", strtoul(line, NULL, 10));
        tp_json_end(w);
    }
    tp_json_end(w);
    tp_json_end(w);
}

static void write_profile(struct tp_writer *w, const struct tp_sums *sums,
    const uint32_t *order, size_t which)
{
    enum tp_value value = profiles[which].value;
    uint32_t n = 0;
    int64_t sum = 0;
    while (n < sums->keys.n_items && sums->values[order[n]][value] > 0)
        sum = tp_export_add(sum, sums->values[order[n++]][value]);
    tp_json_begin(w, NULL, '{');
    tp_json_text(w, "type", "sampled");
    tp_json_text(w, "name", profiles[which].name);
    tp_json_text(w, "unit", profiles[which].unit);
    tp_json_uint(w, "startValue", 0);
    tp_json_int(w, "endValue", sum);
    tp_json_begin(w, "samples", '[');
    for (uint32_t i = 0; i < n; i++) {
        size_t n_list = 0;
        const uint32_t *list = tp_sums_list(sums, order[i], &n_list);
        tp_json_begin(w, NULL, '[');
        for (size_t k = 0; k < n_list; k++) tp_json_uint(w, NULL, list[k]);
        tp_json_end(w);
    }
    tp_json_end(w);
    tp_json_begin(w, "weights", '[');
    for (uint32_t i = 0; i < n; i++)
        tp_json_int(w, NULL, sums->values[order[i]][value]);
    tp_json_end(w);
    tp_json_end(w);
}

static void write_head(struct tp_writer *w, const struct tp_export *export)
{
    char text[TP_FORMAT_NAME + 64];
    tp_json_text(w, "$schema", "https://www.speedscope.app/file-format-schema.json");
    snprintf(text, sizeof(text), "tidepool@%s", tp_report_version());
    tp_json_text(w, "exporter", text);
    const struct tp_process_record *process = &export->whos[0].profile->dump->process;
    if (export->n_whos == 1)
        snprintf(text, sizeof(text), "%s, pid %u", process->name, process->pid);
    else
        snprintf(text, sizeof(text), "%zu processes", export->n_whos);
    tp_json_text(w, "name", text);
    size_t active = 0;
    while (profiles[active].value != tp_export_value(export->view)) active++;
    tp_json_uint(w, "activeProfileIndex", active);
}

void tp_speedscope_write(struct tp_writer *writer, const struct tp_export *export)
{
    struct scope scope = { .export = export };
    if (!tp_export_sites(export, take, &scope)) writer->error = ENOMEM;
    tp_json_begin(writer, NULL, '{');
    write_head(writer, export);
    write_frames(writer, &scope);
    tp_json_begin(writer, "profiles", '[');
    for (size_t i = 0; i < N_PROFILES && !writer->error; i++) {
        uint32_t *order = tp_sums_order(&scope.sums, profiles[i].value);
        if (order)
            write_profile(writer, &scope.sums, order, i);
        else
            writer->error = ENOMEM;
        free(order);
    }
    tp_json_end(writer);
    tp_json_end(writer);
    tp_sums_fini(&scope.sums);
    tp_intern_fini(&scope.frames);
}
