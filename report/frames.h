/* SPDX-License-Identifier: MIT */
/*
 * frames.h - call stacks as people read them, and which of them are wanted.
 *
 *     site --frames.c--> steps, innermost first         view: what was asked for
 *
 *       operator new(unsigned long)     folded: how memory is asked for, not who asks
 *       parse_node(Node*)   node.c:88   <- the first step: the place of the site
 *       parse_list(Node*)   node.c:54   <- its callers; a recursion once, with a count
 *       main                app.c:12
 *       __libc_start_main               folded: how every program begins
 *
 * Idea: an address of a dump becomes one place or, where functions were inlined, several.
 * Places are made once for all stacks of the dump, with what the view's patterns say of
 * them, so that a stack costs no look-up of a name and no regular expression.
 *
 * Holds always:
 *   - no place is without a name: what is unknown is called by module and offset;
 *   - a stack has at least one step, however much of it is folded.
 *
 * Knows nothing of: text, JSON, terminals.
 */
#ifndef TP_REPORT_FRAMES_H
#define TP_REPORT_FRAMES_H

#include <regex.h>

#include "report/sites.h"

/* ---- what was asked for ----------------------------------------------------------- */

enum tp_figure {
    TP_FIGURE_PEAK,       // bytes that were live at the peak
    TP_FIGURE_LIVE,       // bytes that are live
    TP_FIGURE_ALLOCATED,  // bytes ever allocated
    TP_FIGURE_COUNT,      // allocations
    TP_FIGURE_TEMPORARY,  // blocks freed before their thread allocated again
    TP_FIGURES,
    TP_FIGURE_NONE = TP_FIGURES,  // not chosen: an overview
};

enum tp_paths {
    TP_PATHS_NONE,
    TP_PATHS_ROOTS,    // from main to who allocates
    TP_PATHS_CALLERS,  // from who allocates to its callers
};

/* Regular expressions; a place matches when any of them matches its function, file or
 * module. All zero is none. */
struct tp_patterns {
    regex_t *list;
    size_t n;
};

struct tp_view {
    enum tp_figure figure;
    enum tp_paths paths;
    size_t top;    // rows of a list; 0: as many as are good
    bool full;     // nothing is cut, folded at the outer end, or put together
    uint32_t pid;  // the process to look at; 0: whoever has most
    struct tp_patterns hide;    // wrappers to fold besides the known ones
    struct tp_patterns focus;   // only stacks with such a place
    struct tp_patterns ignore;  // no stack with such a place
    struct tp_symbols_wish symbols;
    bool no_symbols;  // addresses instead of names
    bool brief;       // a summary: three sites in three lines
    bool merge;       // of exports: all processes together
    unsigned types;   // of pprof, besides the usual: 1 << enum tp_figure
};

/*
 * Adds a POSIX extended regular expression, which `option` brought. Fails: with a line
 * that says what is wrong with it.
 */
bool tp_patterns_add(struct tp_patterns *patterns, const char *option, const char *text,
    struct tp_error *error);

/* The word of --sort; TP_FIGURE_NONE: there is no such word. */
enum tp_figure tp_figure_find(const char *word);

/* An overview of all there is, symbols looked up. */
void tp_view_init(struct tp_view *view);
void tp_view_fini(struct tp_view *view);

/* The figure of a site. */
const struct tp_estimate *tp_site_figure(
    const struct tp_site *site, enum tp_figure figure);

/* What the sites' figures sum to: the exact total, and of temporary blocks the sum. */
int64_t tp_sites_total(const struct tp_sites *sites, enum tp_figure figure);

/*
 * A sum of estimates. The errors of different stacks are taken to be independent, so
 * the squares of the distances add up. Where all sites together are exact, the error of
 * some is that of all others with the other sign: so it is no larger than theirs, and
 * that of all is nothing.
 */
struct tp_sum {
    int64_t value;
    double below;  // squares of value - low
    double above;  // squares of high - value
    size_t n;      // estimates in it; the interval of a single one stays as it is
};

void tp_sum_add(struct tp_sum *to, const struct tp_estimate *estimate);

/* The interval of a sum; `all` is that of all sites if their total is exact, or NULL. */
struct tp_estimate tp_sum_estimate(const struct tp_sum *sum, const struct tp_sum *all);

/* ---- stacks ----------------------------------------------------------------------- */

enum tp_place_marks {
    TP_PLACE_PLUMBING = 1,  // asks for memory on behalf of its caller
    TP_PLACE_START = 2,     // runs before main, or before a thread's function
    TP_PLACE_FOCUS = 4,     // matches the view's patterns
    TP_PLACE_IGNORE = 8,
};

struct tp_place {
    const char *function;  // "libfoo.so.1+0x1a2b" where nothing is known
    const char *file;      // of the source; "" when unknown
    const char *module;    // last part of its path; "" for generated code
    uint32_t line;         // 0 when unknown
    uint32_t name;         // one number for each function
    bool known;            // `function` is a name
    bool inlined;          // into the next step
    unsigned marks;        // enum tp_place_marks
};

struct tp_step {
    const struct tp_place *place;
    uint32_t repeats;  // this step and some after it follow each other so often more
    uint32_t cycle;    // steps that repeat, this one first; 0 when none do
};

struct tp_stacks;

/*
 * The places of all stacks of the sites. `symbols` may be NULL: addresses only. All
 * arguments must outlive it. Fails: NULL, without memory.
 */
struct tp_stacks *tp_stacks_open(const struct tp_symbols *symbols,
    const struct tp_dump *dump, const struct tp_sites *sites,
    const struct tp_view *view);
void tp_stacks_close(struct tp_stacks *stacks);

/*
 * The stack of a site, innermost step first, plumbing folded; NULL and 0 for a site that
 * has no stack. Lives until the next call.
 */
const struct tp_step *tp_stacks_of(
    struct tp_stacks *stacks, const struct tp_site *site, size_t *out_n);

/*
 * The places of one node of a stack, innermost first, nothing folded; 0 of a node that no
 * site leads to.
 */
const struct tp_place *tp_stacks_at(
    const struct tp_stacks *stacks, uint32_t node, size_t *out_n);

/* The place of the first of these steps, for less than the whole stack; NULL without. */
const struct tp_place *tp_stacks_first(
    const struct tp_stacks *stacks, const struct tp_site *site);

/* The sum over all sites, to be given to tp_sum_estimate(); NULL: it is not exact. */
const struct tp_sum *tp_stacks_all(
    const struct tp_stacks *stacks, enum tp_figure figure);

/* True when the view wants this site. What has no stack it wants unless it has a focus. */
bool tp_stacks_wants(const struct tp_stacks *stacks, const struct tp_site *site);

/* True when functions of that name, of C++ or Rust, only pass requests on. */
bool tp_frames_is_plumbing(const char *function);

/* ---- groups.c: stacks that ask for memory at one place ------------------------------ */

/* A line of the source, or where there is none an address, and all stacks that begin there. */
struct tp_group {
    const struct tp_site *heaviest;  // of its stacks, by the figure in question
    int64_t heaviest_value;
    size_t n_stacks;
    struct tp_sum sums[TP_FIGURES];
    int64_t live_blocks;
    uint64_t samples;
    uint64_t live_samples;
    uint64_t age_ns_least;
    uint64_t age_ns_median;  // of the stacks' medians, each counted by its samples
    uint64_t age_ns_most;
};

struct tp_groups {
    enum tp_figure figure;
    struct tp_group *groups;  // by the figure, most first; none with 0
    size_t n_groups;
    size_t n_wanted;      // stacks that the view wants
    size_t n_stacks;      // stacks there are
    uint64_t samples;     // of those that are wanted
    struct tp_sum sum;    // of those that are wanted
    struct tp_sum named;  // of all stacks
    int64_t total;        // of everything
};

/*
 * The groups of what the view wants; with `full` every stack is one. Fails: false,
 * without memory.
 */
bool tp_groups_build(struct tp_groups *out, const struct tp_sites *sites,
    struct tp_stacks *stacks, const struct tp_view *view, enum tp_figure figure);
void tp_groups_fini(struct tp_groups *groups);

/* True when blocks of the group have been added all along and not been freed. */
bool tp_group_grows(const struct tp_group *group, uint64_t duration_ns);

/* ---- text_paths.c: a tree of stacks -------------------------------------------------- */

/* A node: stacks that are the same up to here. */
struct tp_path {
    struct tp_step step;
    uint32_t line;    // of all of them; 0: they are in different lines
    uint32_t parent;  // index; a lower one
    uint32_t child;   // index of one child; 0: none
    uint32_t next;    // sibling; 0: none
    struct tp_sum all;
    struct tp_sum own;  // of stacks that end here
};

struct tp_who;

/*
 * The tree of what the view wants, in the direction that it wants; element 0 is above all
 * others and has no step. The caller frees it. Fails: false, without memory.
 */
bool tp_paths_build(
    struct tp_path **out_paths, size_t *out_n, const struct tp_who *who, int figure);

#endif
