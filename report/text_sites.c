/* SPDX-License-Identifier: MIT */
/*
 * text_sites.c - lists of call sites: who held the peak, who holds what is live.
 *
 *      158.2 MiB  ±1.2 %  63.2 %  parse_value(Json&)  json.cc:412
 *                                   parse_array(Json&)  json.cc:377
 *                                   main  app.cc:22
 *                                 1.2M blocks, oldest 12 s, median 3.10 s; 84 samples
 *
 * Idea: figures on the left in columns, places on the right in what the page has left.
 * A row says who asks, how it got there, and how far the figure can be trusted.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/emit.h"
#include "report/frames.h"

enum {
    TOP = 10,       // rows, unless the view says otherwise
    CALLERS = 4,    // of a row
    RICH = 3,       // rows of an overview that have all these callers; the rest has one
    INTERVAL = 11,  // columns of "<746.2 KiB"
};

/* ---- figures --------------------------------------------------------------------- */

const char *tp_human_interval(char out[TP_HUMAN_BYTES],
    const struct tp_estimate *estimate, bool bytes, bool unicode)
{
    char figure[TP_HUMAN_BYTES];
    double below = (double)estimate->value - (double)estimate->low;
    double above = (double)estimate->high - (double)estimate->value;
    double most = below > above ? below : above;
    double value =
        estimate->value < 0 ? -(double)estimate->value : (double)estimate->value;
    double percent = value > 0 ? 100 * most / value : 1000;
    if (most <= 0) {
        snprintf(out, TP_HUMAN_BYTES, "exact");
    } else if (percent < 95) {
        snprintf(out, TP_HUMAN_BYTES, "%s%.*f %%", unicode ? "\u00b1" : "+-",
            percent < 9.95 ? 1 : 0, percent < 0.1 ? 0.1 : percent);
    } else {
        if (bytes)
            tp_human_size(figure, estimate->high);
        else
            tp_human_rate(figure, (double)estimate->high);
        snprintf(out, TP_HUMAN_BYTES, "<%.24s", figure);
    }
    return out;
}

/* A count as exact as it is known: all digits, or three. */
static const char *about(char out[TP_HUMAN_BYTES], const struct tp_who *who, int64_t n)
{
    if (who->sites->mode == TP_SAMPLING_EXACT || n < 1000)
        return tp_human_count(out, n);
    return tp_human_rate(out, (double)n);
}

/* All digits while they are few. */
static const char *many(char out[TP_HUMAN_BYTES], uint64_t n)
{
    return n < 1000000 ? tp_human_count(out, (int64_t)n)
                       : tp_human_rate(out, (double)n);
}

static double percent_of(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}

static bool is_bytes(int figure)
{
    return figure != TP_FIGURE_COUNT && figure != TP_FIGURE_TEMPORARY;
}

static bool at_exit(const struct tp_profile *profile)
{
    return strcmp(profile->reason, "exit") == 0;
}

int64_t tp_who_whole(const struct tp_profile *profile, int figure)
{
    switch (figure) {
    case TP_FIGURE_PEAK:
        return profile->totals.peak_bytes;
    case TP_FIGURE_ALLOCATED:
        return (int64_t)(profile->totals.allocated_bytes & INT64_MAX);
    case TP_FIGURE_COUNT:
    case TP_FIGURE_TEMPORARY:
        return (int64_t)(profile->totals.allocations & INT64_MAX);
    case TP_FIGURE_LIVE:
    default:
        return profile->totals.live_bytes;
    }
}

static const char *whole_name(const struct tp_profile *profile, int figure)
{
    static const char *const names[TP_FIGURES] = { "the peak", "what is live",
        "what was allocated", "the allocations", "the allocations" };
    if (figure == TP_FIGURE_LIVE && at_exit(profile)) return "what is left over";
    return names[figure];
}

/* ---- a row ------------------------------------------------------------------------ */

size_t tp_estimate_columns(const struct tp_who *who)
{
    return who->sites->mode == TP_SAMPLING_EXACT ? 22 : 22 + INTERVAL;
}

size_t tp_write_estimate(
    struct tp_writer *w, const struct tp_who *who, const struct tp_sum *sum, int figure)
{
    char text[TP_HUMAN_BYTES];
    struct tp_estimate estimate =
        tp_sum_estimate(sum, tp_stacks_all(who->stacks, (enum tp_figure)figure));
    tp_write_text(w, " ");
    if (is_bytes(figure))
        tp_write_size(w, estimate.value, 10);
    else
        tp_write_format(w, "%10s", about(text, who, estimate.value));
    tp_write_text(w, "  ");
    if (who->sites->mode != TP_SAMPLING_EXACT) {
        tp_human_interval(text, &estimate, is_bytes(figure), w->unicode);
        tp_paint(w, TP_DIM);
        tp_write_column(w, text, INTERVAL);
        tp_unpaint(w);
    }
    double share =
        percent_of((double)estimate.value, (double)tp_who_whole(who->profile, figure));
    tp_write_format(w, "%5.1f %%  ", share > 100 ? 100.0 : share);
    return tp_estimate_columns(who);
}

static const char *const ends[TP_STACK_ENDS] = {
    [TP_STACK_DEPTH] = "(further callers: more than `depth`)",
    [TP_STACK_NO_RULE] = "(further callers: no unwind information)",
    [TP_STACK_BAD_RULE] =
        "(further callers: unwind information that cannot be followed)",
    [TP_STACK_BAD_MEMORY] = "(further callers: not on this stack)",
    [TP_STACK_LOOP] = "(further callers: the stack goes in circles)",
    [TP_STACK_NO_ROOM] = "(further callers: no room was left to keep them)",
};

static void write_callers(struct tp_writer *w, const struct tp_who *who,
    const struct tp_group *group, size_t column, size_t most)
{
    size_t n = 0;
    const struct tp_step *steps = tp_stacks_of(who->stacks, group->heaviest, &n);
    size_t shown = n > most + 1 ? most + 1 : n;
    for (size_t i = 1; i < shown; i++) {
        tp_write_format(w, "%*s", (int)column + 2, "");
        tp_write_step(w, who, &steps[i], column + 2, "");
    }
    if (!who->view->full) return;
    const char *end =
        group->heaviest->end < TP_STACK_ENDS ? ends[group->heaviest->end] : NULL;
    if (end) tp_write_format(w, "%*s%s\n", (int)column + 2, "", end);
}

/* Appends to a line of details, after a comma. */
static void __attribute__((format(printf, 3, 4)))
append(char *line, size_t size, const char *format, ...)
{
    size_t n = strlen(line);
    if (n > 0 && n + 2 < size) n += (size_t)snprintf(line + n, size - n, ", ");
    va_list arguments;
    va_start(arguments, format);
    if (n < size) vsnprintf(line + n, size - n, format, arguments);
    va_end(arguments);
}

/* How many blocks that is, how old they are, how long they live. */
static void describe(char *line, size_t size, const struct tp_who *who,
    const struct tp_group *group, int figure)
{
    char a[TP_HUMAN_BYTES];
    double temporary = percent_of((double)group->sums[TP_FIGURE_TEMPORARY].value,
        (double)group->sums[TP_FIGURE_COUNT].value);
    line[0] = '\0';
    int64_t allocations = group->sums[TP_FIGURE_COUNT].value;
    if (figure == TP_FIGURE_LIVE)
        append(line, size, "%s block%s", about(a, who, group->live_blocks),
            group->live_blocks == 1 ? "" : "s");
    else if (figure == TP_FIGURE_TEMPORARY)
        append(line, size, "%.0f %% of its %s allocation%s", temporary,
            about(a, who, allocations), allocations == 1 ? "" : "s");
    else if (figure == TP_FIGURE_COUNT)
        append(
            line, size, "%s", tp_human_size(a, group->sums[TP_FIGURE_ALLOCATED].value));
    else
        append(line, size, "%s allocation%s", about(a, who, allocations),
            allocations == 1 ? "" : "s");
    if (figure == TP_FIGURE_PEAK && group->sums[TP_FIGURE_LIVE].value > 0)
        append(line, size, "%s %s", tp_human_size(a, group->sums[TP_FIGURE_LIVE].value),
            at_exit(who->profile) ? "left over" : "live");
    if ((figure == TP_FIGURE_ALLOCATED || figure == TP_FIGURE_COUNT) && temporary >= 10)
        append(line, size, "%.0f %% temporary", temporary);
    if (figure == TP_FIGURE_LIVE && group->live_samples) {
        append(line, size, "oldest %s", tp_human_time(a, group->age_ns_most));
        if (group->live_samples > 1)
            append(line, size, "median %s", tp_human_time(a, group->age_ns_median));
        if (tp_group_grows(group, who->profile->duration_ns))
            append(line, size, "growing all along");
    }
    if (group->n_stacks > 1)
        append(line, size, "%zu stacks, the heaviest %.0f %%", group->n_stacks,
            percent_of(
                (double)group->heaviest_value, (double)group->sums[figure].value));
    if (who->sites->mode != TP_SAMPLING_EXACT)
        append(line, size, "%s sample%s", many(a, group->samples),
            group->samples == 1 ? "" : "s");
}

/* Writes the details from `column` on, broken after a comma where the page ends. */
static void write_details(
    struct tp_writer *w, const struct tp_who *who, const char *line, size_t column)
{
    size_t at = column;
    tp_write_format(w, "%*s", (int)column, "");
    tp_paint(w, TP_DIM);
    while (*line) {
        const char *end = strstr(line, ", ");
        size_t n = end ? (size_t)(end + 2 - line) : strlen(line);
        if (at > column && at + (end ? n - 1 : n) > who->columns) {
            tp_end_line(w);
            tp_write_format(w, "%*s", (int)column, "");
            at = column;
        }
        tp_write_bytes(w, line, n);
        at += n;
        line += n;
    }
    tp_unpaint(w);
    tp_write_text(w, "\n");
}

static void write_group(struct tp_writer *w, const struct tp_who *who,
    const struct tp_group *group, int figure, size_t callers)
{
    char line[400];
    size_t n = 0;
    const struct tp_step *steps = tp_stacks_of(who->stacks, group->heaviest, &n);
    if (!n) return;
    size_t column = tp_write_estimate(w, who, &group->sums[figure], figure);
    tp_write_step(w, who, &steps[0], column, TP_BOLD);
    write_callers(w, who, group, column, callers);
    describe(line, sizeof(line), who, group, figure);
    write_details(w, who, line, column);
}

/* ---- a list ----------------------------------------------------------------------- */

void tp_write_who_heading(struct tp_writer *w, const struct tp_who *who, int figure)
{
    static const char *const titles[TP_FIGURES] = { "AT THE PEAK", "LIVE", "ALLOCATED",
        "ALLOCATIONS", "TEMPORARY BLOCKS" };
    char whole[TP_HUMAN_BYTES];
    char part[TP_HUMAN_BYTES];
    char text[120];
    bool left = figure == TP_FIGURE_LIVE && at_exit(who->profile);
    bool temporary = figure == TP_FIGURE_TEMPORARY;
    if (is_bytes(figure))
        tp_human_size(whole, tp_who_whole(who->profile, figure));
    else
        tp_human_count(whole, tp_who_whole(who->profile, figure));
    int64_t sum = tp_sites_total(who->sites, TP_FIGURE_TEMPORARY);
    snprintf(text, sizeof(text), "  by call site: %s%s%s%s",
        temporary ? about(part, who, sum) : "", temporary ? " of " : "", whole,
        is_bytes(figure) ? "" : " allocations");
    tp_write_heading(w, left ? "LEFT OVER" : titles[figure], text);
}

void tp_write_filter(
    struct tp_writer *w, const struct tp_who *who, const struct tp_groups *groups)
{
    const struct tp_view *view = who->view;
    if (!view->focus.n && !view->ignore.n) return;
    tp_paint(w, TP_YELLOW);
    tp_write_format(w, "  %s: %zu of %zu call stacks, %.1f %% of %s\n",
        view->focus.n ? view->ignore.n ? "focus and ignore" : "focus" : "ignore",
        groups->n_wanted, groups->n_stacks,
        percent_of((double)groups->sum.value,
            (double)tp_who_whole(who->profile, (int)groups->figure)),
        whole_name(who->profile, (int)groups->figure));
    tp_unpaint(w);
}

/* How much of the total has a name, and what that rests on. */
static void write_cover(struct tp_writer *w, const struct tp_who *who,
    const struct tp_groups *groups, size_t shown)
{
    char a[TP_HUMAN_BYTES];
    char line[300] = "";
    const char *name = whole_name(who->profile, (int)groups->figure);
    bool temporary = groups->figure == TP_FIGURE_TEMPORARY;
    double whole = (double)tp_who_whole(who->profile, (int)groups->figure);
    int64_t seen = 0;
    for (size_t i = 0; i < shown; i++)
        if (__builtin_add_overflow(
                seen, groups->groups[i].sums[groups->figure].value, &seen))
            seen = INT64_MAX;
    if (shown < groups->n_groups) {
        double rest = (double)groups->sum.value - (double)seen;
        snprintf(line, sizeof(line),
            "  %s more call site%s, %.1f %%; --top N shows them.\n",
            tp_human_count(a, (int64_t)(groups->n_groups - shown)),
            groups->n_groups - shown == 1 ? "" : "s",
            percent_of(rest > 0 ? rest : 0, whole));
    }
    tp_paint(w, TP_DIM);
    tp_write_text(w, line);
    double named = percent_of((double)groups->named.value, whole);
    if (who->sites->mode == TP_SAMPLING_EXACT && named > 99.95)
        tp_write_format(w,
            "  Every allocation is in it, with its call stack: figures are exact.\n");
    else if (temporary)
        tp_write_format(w,
            "  They were freed before their thread allocated again; %s samples.\n",
            many(a, groups->samples));
    else
        tp_write_format(w, "  Call stacks are known for %.1f %% of %s; %s samples.\n",
            named > 100 ? 100.0 : named, name, many(a, groups->samples));
    tp_unpaint(w);
}

void tp_sites_write(struct tp_writer *w, const struct tp_who *who, int figure)
{
    struct tp_groups groups;
    bool overview = who->view->figure == TP_FIGURE_NONE;
    size_t most = who->view->top ? who->view->top : TOP;
    if (!tp_groups_build(
            &groups, who->sites, who->stacks, who->view, (enum tp_figure)figure))
        return;
    tp_write_who_heading(w, who, figure);
    tp_write_filter(w, who, &groups);
    size_t shown = groups.n_groups < most ? groups.n_groups : most;
    for (size_t i = 0; i < shown; i++) {
        size_t callers = overview && i >= RICH ? 1 : CALLERS;
        write_group(w, who, &groups.groups[i], figure,
            who->view->full ? (size_t)TP_FORMAT_PATH * 1000 : callers);
    }
    if (shown == 0) {
        tp_paint(w, TP_DIM);
        tp_write_text(w, "  No call site.\n");
        tp_unpaint(w);
    }
    write_cover(w, who, &groups, shown);
    tp_groups_fini(&groups);
}

/* ---- the sections ------------------------------------------------------------------ */

static void write_no_sites(struct tp_writer *w, const struct tp_who *who)
{
    if (who->profile->inert || !who->profile->totals.allocations) return;
    const struct tp_sampling_record *sampling = &who->profile->dump->sampling;
    if (!sampling->depth) return;  // nobody has thought of taking any
    tp_write_heading(w, "CALL SITES", "");
    tp_paint(w, TP_DIM);
    if (sampling->mode == TP_SAMPLING_OFF)
        tp_write_text(w, "  None: no call stacks were taken (sample=off).\n");
    else if (sampling->dropped)
        tp_write_text(w, "  None: there was no room to keep samples.\n");
    else
        tp_write_text(w,
            "  None: too little was allocated for a sample; sample=all "
            "takes them all.\n");
    tp_unpaint(w);
}

static bool has_stacks(const struct tp_sites *sites)
{
    for (size_t i = 0; i < sites->n_sites; i++)
        if (sites->sites[i].kind == TP_SITE_STACK) return true;
    return false;
}

/* What the stacks have cost the program. */
static void write_cost(struct tp_writer *w, const struct tp_who *who)
{
    const struct tp_dump *dump = who->profile->dump;
    if (!dump->sampling.frames_timed) return;
    tp_paint(w, TP_DIM);
    tp_write_format(
        w, "\n  Walking a stack took %.1f ns a frame.\n", tp_latency_frame_ns(dump));
    tp_unpaint(w);
}

void tp_who_write(struct tp_writer *w, const struct tp_who *who)
{
    const struct tp_view *view = who->view;
    const struct tp_totals *totals = &who->profile->totals;
    if (!who->sites || !has_stacks(who->sites)) {
        write_no_sites(w, who);
        return;
    }
    bool chosen = view->figure != TP_FIGURE_NONE;
    int figure = chosen ? (int)view->figure : TP_FIGURE_PEAK;
    if (view->paths != TP_PATHS_NONE) {
        tp_paths_write(w, who, figure);
        return;
    }
    tp_sites_write(w, who, figure);
    // The same list twice helps nobody: at the very peak, live is the peak.
    if (!chosen && totals->live_bytes > 0 &&
        totals->live_bytes < totals->peak_bytes - totals->peak_bytes / 100)
        tp_sites_write(w, who, TP_FIGURE_LIVE);
    write_cost(w, who);
}

void tp_sites_write_briefly(struct tp_writer *w, const struct tp_who *who)
{
    struct tp_groups groups;
    if (!who->sites || !has_stacks(who->sites)) return;
    if (!tp_groups_build(&groups, who->sites, who->stacks, who->view, TP_FIGURE_PEAK))
        return;
    size_t shown = groups.n_groups < 3 ? groups.n_groups : 3;
    if (shown) tp_write_who_heading(w, who, TP_FIGURE_PEAK);
    for (size_t i = 0; i < shown; i++) {
        size_t n = 0;
        const struct tp_group *group = &groups.groups[i];
        const struct tp_step *steps = tp_stacks_of(who->stacks, group->heaviest, &n);
        if (!n) continue;
        size_t column =
            tp_write_estimate(w, who, &group->sums[TP_FIGURE_PEAK], TP_FIGURE_PEAK);
        tp_write_step(w, who, &steps[0], column, TP_BOLD);
    }
    tp_groups_fini(&groups);
}
