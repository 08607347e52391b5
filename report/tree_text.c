/* SPDX-License-Identifier: MIT */
/*
 * tree_text.c - a run of many processes on one screen.
 *
 * Idea: the sums first, then which programs they come from, then who started whom. A
 * tree of a few processes is shown whole. In a larger one, children of one parent that
 * ran the same program are told by the one that allocated most, with what is below it,
 * and a line for the others; so a build of thousands is a dozen lines.
 *
 * Holds always: what a line stands for is on no other line, so the lines of the tree
 * sum to the totals, and so do those of the programs.
 *
 * Knows nothing of: how processes were found and put together.
 */
#include "report/emit.h"
#include "report/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TOP_PROGRAMS = 8,  // with a row of their own
    WHOLE = 20,        // processes of a tree that is shown whole
    ROWS = 16,         // of a larger one; and at most one more for each level
    KILLED = 8,        // killed processes that are shown although they were folded
    DEEPEST = 8,       // level of a tree that is not shown whole
    NAME = 32,         // columns of a name in the tree, indented
    CHAIN = 128,       // bytes of the names of the programs of a process
};

/* ---- the sums -------------------------------------------------------------------- */

static const struct tp_profile *last_of(
    const struct tp_report *report, const struct tp_node *node)
{
    return &report->profiles[node->first + node->n_profiles - 1];
}

static const char *name_of(const struct tp_profile *profile)
{
    const char *name = profile->dump->process.name;
    return name[0] ? name : "(no name)";
}

static uint64_t duration_of(const struct tp_report *report)
{
    uint64_t begin = UINT64_MAX;
    uint64_t end = 0;
    for (size_t i = 0; i < report->tree.n_nodes; i++) {
        const struct tp_node *node = &report->tree.nodes[i];
        uint64_t from = report->profiles[node->first].dump->process.start_unix_ns;
        if (from < begin) begin = from;
        if (from + node->duration_ns > end) end = from + node->duration_ns;
    }
    return end > begin ? end - begin : 0;
}

/* "of 5 programs, 2 killed" */
static void describe_ends(char *out, size_t size, const struct tp_report *report)
{
    const struct tp_tree *tree = &report->tree;
    size_t n_killed = 0;
    char killed[40] = "";
    for (size_t i = 0; i < tree->n_nodes; i++)
        if (strcmp(last_of(report, &tree->nodes[i])->reason, "killed") == 0) n_killed++;
    if (n_killed) snprintf(killed, sizeof(killed), ", %zu killed", n_killed);
    snprintf(out, size, "of %zu program%s%s", tree->n_programs,
        tree->n_programs == 1 ? "" : "s", killed);
}

static void write_pair(struct tp_writer *w, const char *name, const char *figure,
    const char *note, bool first)
{
    tp_write_format(w, "  %-10s", name);
    if (first) tp_paint(w, TP_BOLD);
    tp_write_format(w, "%11s", figure);
    if (first) tp_unpaint(w);
    tp_write_text(w, "  ");
    tp_write_column(w, note, 31);
}

static void write_sums(struct tp_writer *w, const struct tp_report *report)
{
    const struct tp_tree *tree = &report->tree;
    const struct tp_work *sum = &tree->sum;
    double seconds = (double)duration_of(report) / 1e9;
    double allocations = (double)sum->allocations;
    char figure[TP_HUMAN_BYTES];
    char note[64];
    describe_ends(note, sizeof(note), report);
    write_pair(
        w, "Processes", tp_human_count(figure, (int64_t)tree->n_nodes), note, true);
    tp_write_format(w, "%-12s", "Allocations");
    tp_write_count(w, sum->allocations, 14);
    if (seconds > 0)
        tp_write_format(
            w, "  %s a second", tp_human_rate(figure, allocations / seconds));

    snprintf(note, sizeof(note), "in %s block%s",
        tp_human_count(figure, sum->live_blocks), sum->live_blocks == 1 ? "" : "s");
    tp_write_text(w, "\n");
    write_pair(w, "Left over", tp_human_size(figure, sum->live_bytes), note, false);
    tp_write_format(w, "%-12s", "Frees");
    tp_write_count(w, sum->frees, 14);
    double freed = allocations > 0 ? 100 * (double)sum->frees / allocations : 100;
    if (sum->live_blocks > 0 && freed > 99.9) freed = 99.9;  // not quite all
    if (sum->allocations) tp_write_format(w, "  %.1f %%", freed);

    double allocated = (double)sum->allocated_bytes;
    double rounding = allocated - (double)sum->requested_bytes;
    snprintf(note, sizeof(note), "in all, and %.1f %% rounding",
        rounding > 0 ? 100 * rounding / allocated : 0.0);
    tp_write_text(w, "\n");
    write_pair(w, "Requested", tp_human_size(figure, (int64_t)sum->requested_bytes),
        note, false);
    tp_write_format(
        w, "%-12s%14s", "Highest peak", tp_human_size(figure, sum->peak_bytes));
    tp_write_text(w, "  of one process\n");
}

/* ---- programs -------------------------------------------------------------------- */

static void write_program(struct tp_writer *w, const char *name,
    const struct tp_program *program, const struct tp_work *all)
{
    tp_write_text(w, "  ");
    tp_write_column(w, name, 24);
    tp_write_count(w, program->processes, 9);
    tp_write_count(w, program->sum.allocations, 14);
    tp_write_size(w, (int64_t)program->sum.allocated_bytes, 13);
    tp_write_size(w, program->sum.live_bytes, 13);
    tp_write_size(w, program->sum.peak_bytes, 13);
    double share = all->allocated_bytes
        ? 100 * (double)program->sum.allocated_bytes / (double)all->allocated_bytes
        : 0;
    tp_write_format(w, "%8.1f %%\n", share);
}

static void write_programs(struct tp_writer *w, const struct tp_tree *tree)
{
    size_t n = tree->n_programs;
    size_t shown = n > TOP_PROGRAMS + 1 ? TOP_PROGRAMS : n;
    struct tp_program others = { .name = "" };
    char name[40];
    tp_write_heading(w, "PROGRAMS",
        "                  processes   allocations    allocated    left over"
        " highest peak     share");
    for (size_t i = 0; i < n; i++) {
        const struct tp_program *program = &tree->programs[i];
        if (i < shown) {
            write_program(
                w, program->name[0] ? program->name : "(no name)", program, &tree->sum);
            continue;
        }
        others.processes += program->processes;
        tp_work_add(&others.sum, &program->sum);
    }
    snprintf(name, sizeof(name), "%zu others", n - shown);
    if (shown < n) write_program(w, name, &others, &tree->sum);
}

/* ---- the tree -------------------------------------------------------------------- */

/* The page under the pen. */
struct page {
    struct tp_writer *w;
    const struct tp_report *report;
    struct tp_work *whole;  // of each node with all below it; NULL: no folding
    bool *written;          // with `whole`: nodes that have a row
    size_t rows;
};

/* The programs of a process, "sh -> app"; of many the first and the last. */
static void chain_of(
    char out[CHAIN], const struct tp_report *report, const struct tp_node *node)
{
    size_t used = 0;
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < node->n_profiles; i++) {
        const struct tp_profile *profile = &report->profiles[node->first + i];
        if (!profile->counts) continue;
        bool shown = node->n_programs <= 3 || at == 0 || at + 1 == node->n_programs;
        const char *arrow = at == 0 ? "" : node->n_programs > 3 ? " ... " : " -> ";
        if (shown && used < CHAIN)
            used += (size_t)snprintf(
                out + used, CHAIN - used, "%s%s", arrow, name_of(profile));
        at++;
    }
}

/* The end of a line of the tree: what stands for one process or for several. */
static void write_figures(struct tp_writer *w, const struct tp_work *work)
{
    tp_write_count(w, work->allocations, 13);
    tp_write_size(w, work->live_bytes, 12);
    tp_write_size(w, work->peak_bytes, 12);
    tp_end_line(w);
}

static size_t indent_of(size_t depth)
{
    return 2 + 2 * (depth < DEEPEST ? depth : DEEPEST);
}

static bool is_killed(const struct page *page, size_t i)
{
    const struct tp_node *node = &page->report->tree.nodes[i];
    return strcmp(last_of(page->report, node)->reason, "killed") == 0;
}

static void write_node(struct page *page, size_t i, size_t depth)
{
    struct tp_writer *w = page->w;
    const struct tp_node *node = &page->report->tree.nodes[i];
    char chain[CHAIN];
    size_t indent = indent_of(depth);
    chain_of(chain, page->report, node);
    tp_write_format(w, "%*s", (int)indent, "");
    tp_write_column(w, chain, NAME + 2 - indent);
    tp_write_format(w, "%9u  %-8s", node->pid, last_of(page->report, node)->reason);
    tp_write_time(w, node->duration_ns, 9);
    write_figures(w, &node->own);
    if (page->written) page->written[i] = true;
    page->rows++;
}

/* A line for `n` processes and what is below them. */
static void write_folded(struct page *page, size_t depth, size_t n, size_t n_below,
    const char *name, const struct tp_work *work)
{
    struct tp_writer *w = page->w;
    char count[TP_HUMAN_BYTES];
    char below[TP_HUMAN_BYTES + 16] = "";
    char text[2 * CHAIN];
    size_t indent = indent_of(depth);
    if (n_below)
        snprintf(below, sizeof(below), ", %s below",
            tp_human_count(count, (int64_t)n_below));
    snprintf(text, sizeof(text), "%s more%s%s%s", tp_human_count(count, (int64_t)n),
        name[0] ? " " : "", name, below);
    tp_write_format(w, "%*s", (int)indent, "");
    tp_paint(w, TP_DIM);
    tp_write_column(w, text, NAME + 2 + 28 - indent);
    tp_unpaint(w);
    write_figures(w, work);
    page->rows++;
}

/* A child among its siblings. */
struct sibling {
    size_t node;
    size_t group;  // the first node of its kind
    uint64_t weight;
    char chain[CHAIN];
};

static int by_chain(const void *a, const void *b)
{
    const struct sibling *left = a;
    const struct sibling *right = b;
    int by = strcmp(left->chain, right->chain);
    return by ? by : left->node < right->node ? -1 : left->node > right->node;
}

/* Kinds in the order of their first process; of a kind the heaviest first. */
static int by_group(const void *a, const void *b)
{
    const struct sibling *left = a;
    const struct sibling *right = b;
    if (left->group != right->group) return left->group < right->group ? -1 : 1;
    if (left->weight != right->weight) return left->weight > right->weight ? -1 : 1;
    return left->node < right->node ? -1 : left->node > right->node;
}

/* The nodes from `first` to `end` at one level, sorted into kinds; NULL: no memory. */
static struct sibling *find_siblings(
    const struct page *page, size_t first, size_t end, size_t *out_n)
{
    const struct tp_node *nodes = page->report->tree.nodes;
    size_t n = 0;
    for (size_t i = first; i < end; i += 1 + nodes[i].n_below) n++;
    struct sibling *siblings = calloc(n + 1, sizeof(siblings[0]));
    if (!siblings) return NULL;
    n = 0;
    for (size_t i = first; i < end; i += 1 + nodes[i].n_below) {
        siblings[n].node = i;
        siblings[n].weight = page->whole[i].allocated_bytes;
        chain_of(siblings[n++].chain, page->report, &nodes[i]);
    }
    qsort(siblings, n, sizeof(siblings[0]), by_chain);
    for (size_t i = 0; i < n; i++) {
        bool same = i > 0 && strcmp(siblings[i - 1].chain, siblings[i].chain) == 0;
        siblings[i].group = same ? siblings[i - 1].group : siblings[i].node;
    }
    qsort(siblings, n, sizeof(siblings[0]), by_group);
    *out_n = n;
    return siblings;
}

/* One line for the siblings from `from` to `to`. */
static void fold(struct page *page, const struct sibling *siblings, size_t from,
    size_t to, size_t depth)
{
    struct tp_work work = { 0 };
    size_t n_below = 0;
    bool alike = true;
    for (size_t i = from; i < to; i++) {
        alike = alike && siblings[i].group == siblings[from].group;
        n_below += page->report->tree.nodes[siblings[i].node].n_below;
        tp_work_add(&work, &page->whole[siblings[i].node]);
    }
    write_folded(
        page, depth, to - from, n_below, alike ? siblings[from].chain : "", &work);
}

/* Writes the nodes from `first` to `end`, which are siblings and all below them. */
static void write_folding(struct page *page, size_t first, size_t end, size_t depth)
{
    const struct tp_node *nodes = page->report->tree.nodes;
    size_t n = 0;
    struct sibling *siblings = find_siblings(page, first, end, &n);
    for (size_t i = 0; siblings && i < n;) {
        size_t next = i + 1;
        while (next < n && siblings[next].group == siblings[i].group) next++;
        if (page->rows >= ROWS || depth >= DEEPEST) {
            fold(page, siblings, i, n, depth);
            break;
        }
        size_t node = siblings[i].node;
        write_node(page, node, depth);
        if (nodes[node].n_below)
            write_folding(page, node + 1, node + 1 + nodes[node].n_below, depth + 1);
        if (next > i + 1) fold(page, siblings, i + 1, next, depth);
        i = next;
    }
    free(siblings);
}

/* What was killed is what one looks for: it has a row even where it was folded. */
static void write_killed(struct page *page)
{
    size_t n = 0, n_nodes = page->report->tree.n_nodes;
    for (size_t i = 0; i < n_nodes; i++) {
        if (page->written[i] || !is_killed(page, i)) continue;
        if (n++ >= KILLED) continue;
        if (n == 1) {
            tp_paint(page->w, TP_DIM);
            tp_write_text(page->w, "  Killed, and folded above:\n");
            tp_unpaint(page->w);
        }
        write_node(page, i, 0);
    }
    if (n <= KILLED) return;
    char text[TP_HUMAN_BYTES];
    tp_write_format(
        page->w, "  %s more\n", tp_human_count(text, (int64_t)(n - KILLED)));
}

static struct tp_work *sum_below(const struct tp_tree *tree)
{
    struct tp_work *whole = calloc(tree->n_nodes + 1, sizeof(whole[0]));
    for (size_t i = tree->n_nodes; whole && i-- > 0;) {
        tp_work_add(&whole[i], &tree->nodes[i].own);
        size_t parent = tree->nodes[i].parent;
        if (parent != TP_NO_NODE) tp_work_add(&whole[parent], &whole[i]);
    }
    return whole;
}

static void write_processes(struct tp_writer *w, const struct tp_report *report)
{
    const struct tp_tree *tree = &report->tree;
    struct page page = { .w = w, .report = report };
    tp_write_heading(w, "PROCESSES",
        "                               pid  ended        time  allocations   left over"
        "        peak");
    if (tree->n_nodes > WHOLE) {
        page.whole = sum_below(tree);
        page.written = calloc(tree->n_nodes, sizeof(page.written[0]));
    }
    if (page.whole && page.written) {
        write_folding(&page, 0, tree->n_nodes, 0);
        write_killed(&page);
    } else {
        for (size_t i = 0; i < tree->n_nodes && i < WHOLE; i++)
            write_node(&page, i, tree->nodes[i].depth);
    }
    free(page.written);
    free(page.whole);
    if (!tree->forked) return;
    tp_paint(w, TP_DIM);
    tp_write_text(w,
        "  What a fork gave a process is counted with its parent; only the peak "
        "includes it.\n");
    tp_unpaint(w);
}

void tp_tree_write(struct tp_writer *writer, const struct tp_report *report)
{
    const struct tp_tree *tree = &report->tree;
    char text[TP_HUMAN_BYTES];
    char chain[CHAIN];
    chain_of(chain, report, &tree->nodes[0]);
    tp_paint(writer, TP_BOLD);
    tp_write_clean(writer, chain, 48);
    tp_unpaint(writer);
    size_t n = tree->n_nodes - 1;
    if (n)
        tp_write_format(writer, " and %s other process%s",
            tp_human_count(text, (int64_t)n), n == 1 ? "" : "es");
    tp_write_format(writer, ", %s\n\n", tp_human_time(text, duration_of(report)));
    write_sums(writer, report);
    write_programs(writer, tree);
    write_processes(writer, report);
    tp_write_text(writer, "\n");
}
