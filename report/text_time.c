/* SPDX-License-Identifier: MIT */
/*
 * text_time.c - the run as a line: live bytes, resident bytes, allocations a second.
 *
 *     live         ▁▂▃▄▅▆▇█▇▆▅▄▃▂▁   12.3 MiB, at most 250.3 MiB, 64.6 KiB at the end
 *
 * Idea: the points of the timeline are laid on columns of equal time. A column shows
 * the highest that happened in it; where nothing was recorded the value before stays.
 */
#include <stdio.h>
#include <string.h>

#include "report/emit.h"
#include "report/model.h"

enum { COLUMNS = 32, FEWEST = 3 };

struct line {
    double columns[COLUMNS];
    double most;
    double first;
    double last;
};

/* The share of the run that had passed at a point, 0 to 1. */
static double share_at(
    const struct tp_dump *dump, const struct tp_point_record *point, double ticks)
{
    double passed = (double)point->ticks - (double)dump->process.start_ticks;
    if (!(passed > 0)) return 0;
    return passed < ticks ? passed / ticks : 1;
}

static size_t column_at(double share)
{
    size_t column = (size_t)(share * COLUMNS);
    return column < COLUMNS ? column : COLUMNS - 1;
}

static double live_of(const struct tp_point_record *point)
{
    double live = (double)point->live_bytes;
    double most = (double)point->live_bytes_max;
    if (live > most) most = live;
    return most > 0 ? most : 0;
}

/* Negative where it is not known. */
static double rss_of(const struct tp_point_record *point)
{
    return point->rss_bytes ? (double)point->rss_bytes : -1;
}

/* The highest of each column; what has no point keeps the last one, -1 before the first. */
static void fill(struct line *line, const struct tp_dump *dump, double ticks,
    double (*value)(const struct tp_point_record *))
{
    bool seen[COLUMNS] = { false };
    bool any = false;
    memset(line, 0, sizeof(*line));
    for (size_t i = 0; i < dump->n_points; i++) {
        double here = value(&dump->points[i]);
        if (here < 0) continue;
        size_t at = column_at(share_at(dump, &dump->points[i], ticks));
        if (!seen[at] || here > line->columns[at]) line->columns[at] = here;
        seen[at] = true;
        if (!any) line->first = here;
        any = true;
        line->last = here;
        if (here > line->most) line->most = here;
    }
    for (size_t i = 0; i < COLUMNS; i++)
        if (!seen[i]) line->columns[i] = i ? line->columns[i - 1] : -1;
}

/* Allocations in each column: what a point adds is spread since the one before. */
static void fill_allocations(
    struct line *line, const struct tp_dump *dump, double ticks)
{
    memset(line, 0, sizeof(*line));
    double from = 0;
    double before = 0;
    for (size_t i = 0; i < dump->n_points; i++) {
        double to = share_at(dump, &dump->points[i], ticks);
        double added = (double)dump->points[i].allocations - before;
        if (added <= 0 || to < from) continue;
        size_t first = column_at(from);
        size_t last = column_at(to);
        double width = to - from;
        for (size_t c = first; c <= last; c++) {
            double begin = (double)c / COLUMNS;
            double end = (double)(c + 1) / COLUMNS;
            double part = (end < to ? end : to) - (begin > from ? begin : from);
            if (first == last) part = width = 1;
            if (part > 0 && width > 0) line->columns[c] += added * part / width;
        }
        before = (double)dump->points[i].allocations;
        from = to;
    }
    for (size_t c = 0; c < COLUMNS; c++)
        if (line->columns[c] > line->most) line->most = line->columns[c];
}

static void write_line(struct tp_writer *w, const char *name, const struct line *line)
{
    static const char *const blocks[] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
    static const char *const plain[] = { "_", ".", "-", "=", "+", "*", "%", "#" };
    tp_write_format(w, "  %-13s", name);
    tp_paint(w, TP_BLUE);
    for (size_t c = 0; c < COLUMNS; c++) {
        double height = line->most > 0 ? line->columns[c] / line->most * 8 : 0;
        int level = height > 7.999 ? 7 : height > 0 ? (int)height : 0;
        const char *mark = w->unicode ? blocks[level] : plain[level];
        tp_write_text(w, height < 0 ? " " : mark);
    }
    tp_unpaint(w);
    tp_write_text(w, "  ");
}

static int64_t whole(double bytes)
{
    return bytes < 9e18 ? (int64_t)bytes : INT64_MAX;
}

static void write_sizes(struct tp_writer *w, const char *name, const struct line *line)
{
    char first[TP_HUMAN_BYTES];
    char most[TP_HUMAN_BYTES];
    char last[TP_HUMAN_BYTES];
    write_line(w, name, line);
    tp_write_format(w, "%s at first, %s most, %s last\n",
        tp_human_size(first, whole(line->first)),
        tp_human_size(most, whole(line->most)), tp_human_size(last, whole(line->last)));
}

void tp_time_write(struct tp_writer *w, const struct tp_profile *profile)
{
    const struct tp_dump *dump = profile->dump;
    if (dump->n_points < FEWEST || profile->duration_ns == 0) return;
    const struct tp_point_record *last = &dump->points[dump->n_points - 1];
    double ticks = (double)profile->duration_ns / tp_latency_tick_ns(dump);
    struct line line;
    char time[TP_HUMAN_BYTES];
    char rate[TP_HUMAN_BYTES];
    char text[80];
    snprintf(text, sizeof(text), "      a column is %s",
        tp_human_time(time, profile->duration_ns / COLUMNS));
    tp_write_heading(w, "OVER TIME", text);
    fill(&line, dump, ticks, live_of);
    line.last = (double)last->live_bytes;  // not the highest of the last column
    write_sizes(w, "live", &line);
    fill(&line, dump, ticks, rss_of);
    if (line.most > 0) write_sizes(w, "resident", &line);
    fill_allocations(&line, dump, ticks);
    if (line.most <= 0) return;
    double seconds = (double)profile->duration_ns / 1e9;
    write_line(w, "allocations", &line);
    tp_write_format(
        w, "%s a second", tp_human_rate(rate, (double)last->allocations / seconds));
    tp_write_format(
        w, ", %s most\n", tp_human_rate(rate, line.most * COLUMNS / seconds));
}
