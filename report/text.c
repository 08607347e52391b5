/* SPDX-License-Identifier: MIT */
/*
 * text.c - a recording on one screen.
 *
 * Idea: the answer first (peak, what is left, how much work), then where it went, then
 * what to look at. Columns are fixed, so that two reports can be laid side by side, and
 * no line is longer than 99 columns.
 *
 * Knows nothing of: how the figures were found.
 */
#include "report/emit.h"
#include "report/frames.h"
#include "report/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TOP_CLASSES = 8,  // size classes with a row of their own
    TOP_THREADS = 5,  // threads likewise
    TOP_DUMPS = 6,    // dumps likewise
    FEW = 4,          // processes: the first of them is shown in full
};

/* ---- head ---------------------------------------------------------------------------- */

static const char *how_it_ended(const struct tp_profile *profile)
{
    static const struct {
        const char *reason;
        const char *words;
    } table[] = {
        { "exit", "exited after" },
        { "signal", "dump on a signal, after" },
        { "interval", "dump at an interval, after" },
        { "request", "dump on request, after" },
        { "live", "running for" },
        { "killed", "killed some time after" },
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (strcmp(profile->reason, table[i].reason) == 0) return table[i].words;
    return "after";
}

/* The arguments as one line, cut at the page's edge. */
static void write_command(struct tp_writer *w, const struct tp_dump *dump)
{
    char line[256];
    size_t n = dump->n_command_bytes;
    if (n == 0) return;
    if (n > sizeof(line) - 1) n = sizeof(line) - 1;
    memcpy(line, dump->command, n);
    while (n > 0 && line[n - 1] == '\0') n--;
    for (size_t i = 0; i < n; i++)
        if (line[i] == '\0') line[i] = ' ';
    line[n] = '\0';
    tp_paint(w, TP_DIM);
    tp_write_clean(w, line, TP_PAGE_WIDTH);
    tp_unpaint(w);
    tp_write_text(w, "\n");
}

static void write_head(struct tp_writer *w, const struct tp_profile *profile)
{
    const struct tp_dump *dump = profile->dump;
    char time[TP_HUMAN_BYTES];
    char host[40];
    size_t n = strnlen(dump->process.host, sizeof(host) - 1);
    memcpy(host, dump->process.host, n);
    host[n] = '\0';
    tp_paint(w, TP_BOLD);
    tp_write_clean(w, dump->process.name[0] ? dump->process.name : "(no name)", 32);
    tp_unpaint(w);
    tp_write_format(w, ", pid %u", dump->process.pid);
    if (host[0]) {
        tp_write_text(w, " on ");
        tp_write_clean(w, host, 24);
    }
    tp_write_format(w, ", %s %s\n", how_it_ended(profile),
        tp_human_time(time, profile->duration_ns));
    write_command(w, dump);
}

/* ---- totals -------------------------------------------------------------------------- */

/* One line of the totals has two halves; this is the left one: a size and its note. */
static void write_left(
    struct tp_writer *w, const char *name, int64_t bytes, const char *note)
{
    bool first = name[0] == 'P';
    tp_write_format(w, "  %-10s", name);
    if (first) tp_paint(w, TP_BOLD);
    tp_write_size(w, bytes, 11);
    if (first) tp_unpaint(w);
    tp_write_text(w, "  ");
    tp_write_column(w, note, 31);
}

/* And this is the right one: a count and its note. */
static void write_right(
    struct tp_writer *w, const char *name, uint64_t count, const char *note)
{
    tp_write_format(w, "%-12s", name);
    tp_write_count(w, count, 14);
    if (note[0]) tp_write_text(w, "  ");
    tp_write_text(w, note);
    tp_write_text(w, "\n");
}

static void write_peak(struct tp_writer *w, const struct tp_profile *profile)
{
    const struct tp_totals *totals = &profile->totals;
    char note[96];
    char rate[64] = "";
    char time[TP_HUMAN_BYTES];
    char bound[TP_HUMAN_BYTES];
    int64_t up = totals->peak_high - totals->peak_bytes;
    int64_t down = totals->peak_bytes - totals->peak_low;
    tp_human_size(bound, up > down ? up : down);
    tp_human_time(time, totals->peak_ns);
    const char *after = totals->peak_ns ? ", after " : "";
    if (!totals->peak_ns) time[0] = '\0';
    if (totals->peak_exact)
        snprintf(note, sizeof(note), "exact%s%s", after, time);
    else
        snprintf(note, sizeof(note), "%s %s%s%s", w->unicode ? "\u00b1" : "+-", bound,
            after, time);
    write_left(w, "Peak", totals->peak_bytes, note);

    // Of a killed process the last moment is known at which its clock was read.
    bool killed = strcmp(profile->reason, "killed") == 0;
    double seconds = (double)profile->duration_ns / 1e9;
    if (seconds > 0 && !killed)
        snprintf(rate, sizeof(rate), "%s a second",
            tp_human_rate(time, (double)totals->allocations / seconds));
    write_right(w, "Allocations", totals->allocations, rate);
}

static void write_live(struct tp_writer *w, const struct tp_profile *profile)
{
    const struct tp_totals *totals = &profile->totals;
    bool at_exit = strcmp(profile->reason, "exit") == 0;
    char note[64];
    char percent[64] = "";
    char count[TP_HUMAN_BYTES];
    snprintf(note, sizeof(note), "in %s block%s",
        tp_human_count(count, totals->live_blocks),
        totals->live_blocks == 1 ? "" : "s");
    write_left(w, at_exit ? "Left over" : "Live", totals->live_bytes, note);
    double freed = totals->allocations
        ? 100.0 * (double)totals->frees / (double)totals->allocations
        : 100;
    if (totals->live_blocks > 0 && freed > 99.9) freed = 99.9;  // not quite all
    if (totals->allocations) snprintf(percent, sizeof(percent), "%.1f %%", freed);
    write_right(w, "Frees", totals->frees, percent);
}

static void write_totals(struct tp_writer *w, const struct tp_profile *profile)
{
    const struct tp_totals *totals = &profile->totals;
    const struct tp_calls *calls = &profile->calls;
    char note[64];
    char text[TP_HUMAN_BYTES];
    tp_write_text(w, "\n");
    write_peak(w, profile);
    write_live(w, profile);

    double rounding = (double)totals->allocated_bytes - (double)totals->requested_bytes;
    snprintf(note, sizeof(note), "in all, and %.1f %% rounding",
        rounding > 0 ? 100 * rounding / (double)totals->allocated_bytes : 0.0);
    write_left(w, "Requested", (int64_t)totals->requested_bytes, note);
    snprintf(note, sizeof(note), "%s moved",
        tp_human_count(text, (int64_t)calls->realloc_moved));
    write_right(w, "Reallocs",
        calls->entries[TP_ENTRY_REALLOC] + calls->entries[TP_ENTRY_REALLOCARRAY], note);

    const struct tp_dump *dump = profile->dump;
    snprintf(note, sizeof(note), "at most, %s %s",
        tp_human_size(text, (int64_t)(dump->rss_bytes & INT64_MAX)),
        strcmp(profile->reason, "exit") == 0 ? "at the end" : "now");
    if (dump->rss_peak_bytes)
        write_left(w, "Resident", (int64_t)(dump->rss_peak_bytes & INT64_MAX), note);
    else
        tp_write_format(w, "  %-10s%11s  %31s", "Resident", "not known", "");
    write_right(w, "Refused", calls->failed, "");
}

/* ---- size classes --------------------------------------------------------------------- */

static double weight(const struct tp_class *class, const struct tp_totals *totals)
{
    double share = 0;
    if (totals->allocated_bytes)
        share += (double)class->allocated_bytes / (double)totals->allocated_bytes;
    if (totals->live_bytes > 0)
        share += (double)class->live_bytes / (double)totals->live_bytes;
    return share;
}

/* Marks the heaviest classes and returns how many were marked. */
static size_t choose_classes(
    bool chosen[TP_FORMAT_POOL_CLASSES], const struct tp_profile *profile)
{
    size_t n = 0;
    memset(chosen, 0, TP_FORMAT_POOL_CLASSES * sizeof(chosen[0]));
    while (n < TOP_CLASSES) {
        size_t best = profile->n_classes;
        for (size_t i = 0; i < profile->n_classes; i++) {
            if (chosen[i] || !profile->classes[i].allocations) continue;
            if (best == profile->n_classes ||
                weight(&profile->classes[i], &profile->totals) >
                    weight(&profile->classes[best], &profile->totals))
                best = i;
        }
        if (best == profile->n_classes) break;
        chosen[best] = true;
        n++;
    }
    return n;
}

static void write_class(struct tp_writer *w, const char *name,
    const struct tp_class *class, const struct tp_totals *totals)
{
    double allocated = (double)class->allocated_bytes;
    double waste = allocated - (double)class->requested_bytes;
    double part =
        totals->allocated_bytes ? 100 * allocated / (double)totals->allocated_bytes : 0;
    tp_write_format(w, "  %-12s", name);
    tp_write_count(w, class->allocations, 15);
    tp_write_size(w, class->live_bytes, 14);
    tp_write_size(w, (int64_t) class->allocated_bytes, 14);
    tp_write_format(w, "%8.1f %%%8.1f %%  ",
        allocated > 0 && waste > 0 ? 100 * waste / allocated : 0.0, part);
    tp_write_bar(w, allocated, (double)totals->allocated_bytes);
    tp_end_line(w);
}

/* Adds a class to the row that stands for several. */
static void fold_class(struct tp_class *into, const struct tp_class *class)
{
    into->allocations += class->allocations;
    into->frees += class->frees;
    into->requested_bytes += class->requested_bytes;
    into->allocated_bytes += class->allocated_bytes;
    into->live_bytes += class->live_bytes;
}

static void write_classes(struct tp_writer *w, const struct tp_profile *profile)
{
    bool chosen[TP_FORMAT_POOL_CLASSES];
    struct tp_class others = { 0 };
    unsigned n_others = 0;
    char name[TP_HUMAN_BYTES];
    if (choose_classes(chosen, profile) == 0 && !profile->large.allocations) return;
    tp_write_heading(w, "SIZE CLASSES",
        "      allocations          live     allocated   rounding     share");
    for (size_t i = 0; i < profile->n_classes; i++) {
        const struct tp_class *class = &profile->classes[i];
        if (chosen[i]) {
            tp_human_size(name, (int64_t)(class->size_bytes & INT64_MAX));
            write_class(w, name, class, &profile->totals);
        } else if (class->allocations) {
            fold_class(&others, class);
            n_others++;
        }
    }
    snprintf(name, sizeof(name), "%u others", n_others);
    if (n_others == 1) snprintf(name, sizeof(name), "1 other");
    if (n_others) write_class(w, name, &others, &profile->totals);
    if (profile->large.allocations)
        write_class(w, "large", &profile->large, &profile->totals);
}

/* ---- threads ---------------------------------------------------------------------------- */

static int by_bytes(const void *a, const void *b)
{
    const struct tp_thread *const *left = a;
    const struct tp_thread *const *right = b;
    uint64_t l = (*left)->sums.allocated_bytes;
    uint64_t r = (*right)->sums.allocated_bytes;
    if (l != r) return l < r ? 1 : -1;
    return *left < *right ? -1 : *left > *right;  // as the file has them
}

static void write_thread(struct tp_writer *w, const struct tp_thread *thread)
{
    char tid[16] = "";
    tp_write_text(w, "  ");
    tp_write_column(w, thread->name[0] ? thread->name : "(no name)", 24);
    if (thread->tid) snprintf(tid, sizeof(tid), "%u", thread->tid);
    tp_write_format(w, "%9s  %-8s", tid, thread->running ? "running" : "ended");
    tp_write_count(w, thread->sums.allocations, 14);
    tp_write_count(w, thread->sums.frees, 14);
    tp_write_size(w, (int64_t)(thread->sums.allocated_bytes & INT64_MAX), 13);
    tp_write_count(w, thread->sums.remote_frees, 12);
    tp_write_text(w, "\n");
}

static void write_threads(struct tp_writer *w, const struct tp_profile *profile)
{
    size_t n = profile->n_threads;
    if (n == 0) return;
    const struct tp_thread **order = malloc(n * sizeof(const struct tp_thread *));
    if (!order) return;
    for (size_t i = 0; i < n; i++) order[i] = &profile->threads[i];
    qsort(order, n, sizeof(const struct tp_thread *), by_bytes);
    tp_write_heading(w, "THREADS",
        "                        tid               allocations         frees    allocated"
        "  far frees");
    size_t shown = n > TOP_THREADS + 1 ? TOP_THREADS : n;
    for (size_t i = 0; i < shown; i++) write_thread(w, order[i]);

    struct tp_thread rest = { .name = "" };
    for (size_t i = shown; i < n; i++) {
        rest.sums.allocations += order[i]->sums.allocations;
        rest.sums.frees += order[i]->sums.frees;
        rest.sums.allocated_bytes += order[i]->sums.allocated_bytes;
        rest.sums.remote_frees += order[i]->sums.remote_frees;
        rest.running = rest.running || order[i]->running;
    }
    snprintf(rest.name, sizeof(rest.name), "%zu others", n - shown);
    if (shown < n) write_thread(w, &rest);
    free(order);
}

/* ---- calls and latency -------------------------------------------------------------------- */

static void write_calls(struct tp_writer *w, const struct tp_calls *calls)
{
    static const char *const names[TP_ENTRIES] = { "malloc", "calloc", "realloc",
        "reallocarray", "aligned_alloc", "posix_memalign", "memalign", "valloc",
        "pvalloc" };
    char text[TP_HUMAN_BYTES];
    size_t column = 0;
    tp_write_heading(w, "CALLS", "");
    for (size_t e = 0; e <= TP_ENTRIES; e++) {
        bool last = e == TP_ENTRIES;
        uint64_t n = last ? calls->free : calls->entries[e];
        if (!n) continue;
        tp_human_count(text, (int64_t)(n & INT64_MAX));
        const char *name = last ? "free" : names[e];
        size_t columns = strlen(text) + strlen(name) + 1;
        bool fits = column + 3 + columns <= TP_PAGE_WIDTH;
        const char *gap = column == 0 ? "  " : fits ? "   " : "\n  ";
        column = column == 0 || !fits ? 2 + columns : column + 3 + columns;
        tp_write_format(w, "%s%s %s", gap, name, text);
    }
    tp_write_text(w, "\n");
}

static void write_latency(struct tp_writer *w, const struct tp_profile *profile)
{
    if (profile->n_latency == 0) return;
    tp_write_heading(w, "LATENCY",
        "                  count   average       p50       p99       max       total  a second");
    for (size_t i = 0; i < profile->n_latency; i++) {
        const struct tp_latency *latency = &profile->latency[i];
        char rate[TP_HUMAN_BYTES];
        tp_write_text(w, "  ");
        tp_write_column(w, latency->operation, 16);
        tp_write_count(w, latency->count, 12);
        tp_write_time(w, latency->average_ns, 10);
        tp_write_time(w, latency->p50_ns, 10);
        tp_write_time(w, latency->p99_ns, 10);
        tp_write_time(w, latency->max_ns, 10);
        tp_write_time(w, latency->total_ns, 12);
        tp_write_format(w, "%10s\n", tp_human_rate(rate, latency->per_second));
    }
}

/* ---- hints ---------------------------------------------------------------------------------- */

/* Writes a sentence as a point of a list, broken between words. */
static void write_point(struct tp_writer *w, const char *text)
{
    size_t column = 4;
    tp_paint(w, TP_YELLOW);
    tp_write_text(w, "  * ");
    tp_unpaint(w);
    while (*text) {
        size_t n = strcspn(text, " ");
        if (column + n > TP_PAGE_WIDTH) {
            tp_write_text(w, "\n    ");
            column = 4;
        }
        tp_write_bytes(w, text, n);
        column += n + 1;
        text += n;
        if (*text != ' ') break;
        text++;
        if (column + strcspn(text, " ") <= TP_PAGE_WIDTH) tp_write_text(w, " ");
    }
    tp_write_text(w, "\n");
}

static void write_hints(
    struct tp_writer *w, const struct tp_profile *profile, const struct tp_who *who)
{
    char hints[TP_HINTS][TP_HINT_BYTES];
    size_t n = tp_hints_build(hints, profile, who);
    tp_write_heading(w, "WHAT TO LOOK AT FIRST", "");
    for (size_t i = 0; i < n; i++) write_point(w, hints[i]);
    if (n == 0) write_point(w, "Nothing stands out: little is left, little is wasted.");
}

/* ---- dumps --------------------------------------------------------------------------- */

static void write_dump(struct tp_writer *w, const struct tp_profile *profile)
{
    tp_write_text(w, "  ");
    tp_write_column(w, profile->reason, 18);
    tp_write_time(w, profile->duration_ns, 12);
    tp_write_count(w, profile->totals.allocations, 17);
    tp_write_count(w, profile->totals.frees, 15);
    tp_write_size(w, profile->totals.live_bytes, 15);
    tp_write_size(w, profile->totals.peak_bytes, 15);
    tp_end_line(w);
}

/* The dumps of one program, if it left several; `last` is the one that is shown. */
static void write_dumps(struct tp_writer *w, const struct tp_report *report,
    const struct tp_node *node, const struct tp_profile *last)
{
    const struct tp_profile *first = &report->profiles[node->first];
    const struct tp_profile *from = last;
    while (from > first && !from[-1].counts) from--;
    size_t n = (size_t)(last - from) + 1;
    if (n < 2) return;
    tp_write_heading(w, "DUMPS",
        "                       time      allocations          frees           live"
        "           peak");
    if (n > TOP_DUMPS + 1) {
        tp_write_format(
            w, "  and %zu earlier ones; --format json has them all\n", n - TOP_DUMPS);
        from = last + 1 - TOP_DUMPS;
    }
    for (; from <= last; from++) write_dump(w, from);
}

/* ---- the page ------------------------------------------------------------------------- */

/* A parent that only waits for others, a make or a shell, is shown in brief. */
static bool is_brief(const struct tp_tree *tree)
{
    return tree->n_nodes > FEW &&
        tree->nodes[0].own.allocated_bytes < tree->sum.allocated_bytes / 10;
}

/* What was asked for is a view of call sites: the rest of the page would hide it. */
static bool is_about_sites(const struct tp_view *view)
{
    return view->figure != TP_FIGURE_NONE || view->paths != TP_PATHS_NONE ||
        view->focus.n || view->ignore.n;
}

/* Says of which process the call sites are, where there are several. */
static void write_choice(struct tp_writer *w, const struct tp_report *report,
    const struct tp_profile *chosen, const struct tp_view *view)
{
    static const char *const reasons[TP_FIGURES] = { "which has the highest peak",
        "which has most live bytes", "which allocated most bytes",
        "which allocated most often", "which allocated most often" };
    int figure = view->figure == TP_FIGURE_NONE ? TP_FIGURE_PEAK : (int)view->figure;
    if (report->tree.n_nodes < 2 || view->pid || !chosen->dump->sampling.mode) return;
    const char *name = chosen->dump->process.name;
    tp_write_text(w, "\nCall sites of ");
    tp_paint(w, TP_BOLD);
    tp_write_clean(w, name[0] ? name : "(no name)", 16);
    tp_unpaint(w);
    tp_write_format(w, ", pid %u, %s; --pid N chooses another.\n",
        chosen->dump->process.pid, reasons[figure]);
}

/* The sections about call sites; `who` is NULL when they cannot be worked out. */
static void write_sites(struct tp_writer *w, const struct tp_report *report,
    const struct tp_profile *chosen, const struct tp_who *who, const char *why)
{
    const struct tp_view *view = tp_report_view(report);
    write_choice(w, report, chosen, view);
    if (!who) {
        tp_write_heading(w, "CALL SITES", "");
        tp_write_format(w, "  None: %s.\n", why);
        return;
    }
    if (view->brief)
        tp_sites_write_briefly(w, who);
    else
        tp_who_write(w, who);
}

/* Everything about one process but its call sites. */
static void write_details(struct tp_writer *w, const struct tp_report *report,
    const struct tp_node *node, const struct tp_profile *profile)
{
    write_dumps(w, report, node, profile);
    write_classes(w, profile);
    write_threads(w, profile);
    if (profile->totals.allocations) write_calls(w, &profile->calls);
    write_latency(w, profile);
    tp_time_write(w, profile);
}

void tp_text_write(struct tp_writer *writer, const struct tp_report *report)
{
    const struct tp_view *view = tp_report_view(report);
    const struct tp_tree *tree = &report->tree;
    const struct tp_profile *chosen = tp_report_choose(report, view);
    const struct tp_node *node = &tree->nodes[0];
    const struct tp_profile *profile = &report->profiles[node->n_profiles - 1];
    bool alone = is_about_sites(view) || view->pid;
    struct tp_error error = { "" };
    struct tp_who who;
    bool good = tp_who_open(&who, chosen, view, &error);
    if (good) who.columns = tp_page_columns(writer);

    if (alone) {
        profile = chosen;
        node = tp_report_node(report, chosen);
    } else if (tree->n_nodes > 1 || node->n_programs > 1) {
        tp_tree_write(writer, report);
    }
    write_head(writer, profile);
    write_totals(writer, profile);
    tp_coverage_write(writer, profile);
    bool details = !is_about_sites(view) && (alone || !is_brief(tree));
    if (details) write_details(writer, report, node, profile);
    write_sites(writer, report, chosen, good ? &who : NULL, error.text);
    if (details) write_hints(writer, profile, good && profile == chosen ? &who : NULL);
    if (good) tp_who_close(&who);
}
