/* SPDX-License-Identifier: MIT */
/*
 * format_csv.c - a row for each place that asks for memory, for spreadsheets (RFC 4180).
 *
 * The places are those of the text's lists: a line of the source, or an address; with a
 * full view every call stack is a row, with its callers. Estimates have the ends of their
 * 95 % interval in two columns behind them. Rows add up to the exact totals.
 *
 * Names are the program's choice, and a spreadsheet takes a field that begins with one of
 * = + - @ for a formula, quoted or not: an apostrophe before it makes it a text again.
 */
#include "report/export.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The estimates of a row; besides, live blocks are only summed. */
static const struct {
    enum tp_figure figure;
    const char *name;
} columns[] = {
    { TP_FIGURE_LIVE, "live_bytes" },
    { TP_FIGURE_PEAK, "peak_bytes" },
    { TP_FIGURE_ALLOCATED, "allocated_bytes" },
    { TP_FIGURE_COUNT, "allocations" },
    { TP_FIGURE_TEMPORARY, "temporary_blocks" },
};

enum { N_COLUMNS = sizeof(columns) / sizeof(columns[0]) };

struct row {
    const struct tp_place *place;
    size_t who;
    const struct tp_site *site;  // the first
    size_t n_sites;
    uint64_t samples;
    int64_t live_blocks;
    struct tp_sum sums[TP_FIGURES];
};

struct sheet {
    struct tp_writer *w;
    const struct tp_export *export;
    struct tp_intern keys;
    struct row *rows;
    size_t room;
};

/* ---- fields ------------------------------------------------------------------------------ */

/* Also the wide forms, which spreadsheets of East Asia know. */
static bool is_formula(const char *text)
{
    static const char *const wide[] = { "\uff1d", "\uff0b", "\uff0d", "\uff20" };
    for (size_t i = 0; i < sizeof(wide) / sizeof(wide[0]); i++)
        if (strncmp(text, wide[i], 3) == 0) return true;
    return text[0] && strchr("=+-@", text[0]);
}

static void write_inside(struct sheet *sheet, const char *text)
{
    char *clean = tp_export_clean(text);
    if (!clean) sheet->w->error = ENOMEM;
    for (const char *at = clean; at && *at; at++)
        tp_write_bytes(sheet->w, *at == '"' ? "\"\"" : at, *at == '"' ? 2 : 1);
    free(clean);
}

static void write_words(struct sheet *sheet, const char *text)
{
    tp_write_text(sheet->w, "\"");
    while (*text == ' ') text++;  // some look for the formula behind them
    if (is_formula(text)) tp_write_text(sheet->w, "'");
    write_inside(sheet, text);
    tp_write_text(sheet->w, "\"");
}

/* The callers, innermost first, each on a line of the field. */
static void write_callers(struct sheet *sheet, const struct row *row)
{
    const struct tp_place *places[TP_EXPORT_PLACES];
    size_t n = tp_export_places(places, &sheet->export->whos[row->who], row->site);
    tp_write_text(sheet->w, ",\"");
    for (size_t i = 1; i < n; i++) {
        if (i > 1) tp_write_text(sheet->w, "\n");
        if (i == 1 && is_formula(places[i]->function)) tp_write_text(sheet->w, "'");
        write_inside(sheet, places[i]->function);
    }
    tp_write_text(sheet->w, "\"");
}

static void write_row(struct sheet *sheet, const struct row *row)
{
    struct tp_writer *w = sheet->w;
    const struct tp_export *export = sheet->export;
    write_words(sheet, row->place->function);
    tp_write_text(w, ",");
    write_words(sheet, row->place->file);
    tp_write_text(w, ",");
    if (row->place->line) tp_write_format(w, "%u", row->place->line);
    tp_write_text(w, ",");
    write_words(sheet, row->place->module);
    for (size_t i = 0; i < N_COLUMNS; i++) {
        enum tp_figure figure = columns[i].figure;
        const struct tp_stacks *stacks = export->whos[row->who].stacks;
        bool alone = export->n_whos == 1 && stacks;
        struct tp_estimate estimate = tp_sum_estimate(
            &row->sums[figure], alone ? tp_stacks_all(stacks, figure) : NULL);
        tp_write_format(w, ",%lld,%lld,%lld", (long long)estimate.value,
            (long long)estimate.low, (long long)estimate.high);
    }
    tp_write_format(w, ",%lld,%llu,%zu", (long long)row->live_blocks,
        (unsigned long long)row->samples, row->n_sites);
    if (export->view->full) write_callers(sheet, row);
    tp_write_text(w, "\r\n");
}

static void write_names(struct sheet *sheet)
{
    tp_write_text(sheet->w, "function,file,line,module");
    for (size_t i = 0; i < N_COLUMNS; i++)
        tp_write_format(sheet->w, ",%s,%s_low,%s_high", columns[i].name,
            columns[i].name, columns[i].name);
    tp_write_text(sheet->w, ",live_blocks,samples,stacks");
    tp_write_text(sheet->w, sheet->export->view->full ? ",callers\r\n" : "\r\n");
}

/* ---- rows -------------------------------------------------------------------------------- */

/* The number of the row that a site belongs to. */
static uint32_t find_row(struct sheet *sheet, size_t who, const struct tp_site *site,
    const struct tp_place *place)
{
    char *key = NULL;
    const void *apart = sheet->export->view->full ? site : NULL;
    int n = asprintf(&key, "%s%c%s%c%s%c%u%c%zu%p", place->function, 0, place->file, 0,
        place->module, 0, place->line, 0, apart ? who : 0, apart);
    if (n < 0) return TP_INTERN_NONE;
    uint32_t row = tp_intern(&sheet->keys, key, (size_t)n);
    free(key);
    return row;
}

static bool take(void *argument, size_t who, const struct tp_site *site,
    const int64_t values[TP_VALUES])
{
    struct sheet *sheet = argument;
    const struct tp_place *places[TP_EXPORT_PLACES];
    tp_export_places(places, &sheet->export->whos[who], site);
    uint32_t before = sheet->keys.n_items;
    uint32_t at = find_row(sheet, who, site, places[0]);
    if (at == TP_INTERN_NONE) return false;
    if (at >= sheet->room) {
        size_t room = sheet->room ? 2 * sheet->room : 64;
        struct row *grown = realloc(sheet->rows, room * sizeof(grown[0]));
        if (!grown) return false;
        sheet->rows = grown;
        sheet->room = room;
    }
    struct row *row = &sheet->rows[at];
    if (at == before)
        *row = (struct row){ .place = places[0], .who = who, .site = site };
    row->n_sites += site->kind == TP_SITE_STACK;
    row->samples += site->samples;
    row->live_blocks = tp_export_add(row->live_blocks, values[TP_VALUE_LIVE_BLOCKS]);
    for (int i = 0; i < TP_FIGURES; i++)
        tp_sum_add(&row->sums[i], tp_site_figure(site, (enum tp_figure)i));
    return true;
}

struct ranked {
    int64_t value;
    size_t row;
};

static int by_value(const void *a, const void *b)
{
    const struct ranked *left = a;
    const struct ranked *right = b;
    if (left->value != right->value) return left->value > right->value ? -1 : 1;
    return left->row < right->row ? -1 : left->row > right->row;
}

void tp_csv_write(struct tp_writer *writer, const struct tp_export *export)
{
    struct sheet sheet = { .w = writer, .export = export };
    enum tp_figure figure = export->view->figure;
    if (figure == TP_FIGURE_NONE) figure = TP_FIGURE_LIVE;
    struct ranked *ranked = NULL;
    size_t n = 0;
    if (tp_export_sites(export, take, &sheet)) {
        n = sheet.keys.n_items;
        ranked = calloc(n + 1, sizeof(ranked[0]));
    }
    if (!ranked) writer->error = ENOMEM;
    for (size_t i = 0; ranked && i < n; i++)
        ranked[i] = (struct ranked){ sheet.rows[i].sums[figure].value, i };
    if (ranked && n > 1) qsort(ranked, n, sizeof(ranked[0]), by_value);
    write_names(&sheet);
    for (size_t i = 0; ranked && i < n; i++)
        write_row(&sheet, &sheet.rows[ranked[i].row]);
    free(ranked);
    free(sheet.rows);
    tp_intern_fini(&sheet.keys);
}
