/* SPDX-License-Identifier: MIT */
/*
 * text_paths.c - call stacks as a tree: from the roots, or from who allocates.
 *
 *      250.3 MiB  ±0.4 %  100.0 %  main  app.cc:22
 *                                  parse_document  json.cc:301      only one way: no figure
 *      158.2 MiB  ±1.2 %   63.2 %    parse_array(Json&)  json.cc:377
 *       92.1 MiB  ±1.9 %   36.8 %    parse_string(Json&)  json.cc:204
 *
 * Idea: stacks that share their outer (or inner) part share nodes. What is below a
 * hundredth of the total is one line for its siblings.
 *
 * Holds always: a node's figure is its own plus those of its children, and each of them
 * is on exactly one line, so the lines below a node sum to it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/emit.h"
#include "report/frames.h"

enum {
    TOP = 10,       // children with a line of their own
    INDENTED = 24,  // columns: deeper nodes stay there
};

struct tree {
    struct tp_path *paths;  // 0 is the root, which stands for all of them
    size_t n;
    size_t room;
    uint32_t *index;  // hash table of path, by parent and name; 0: nothing
    size_t slots;     // a power of two
};

static size_t slot_of(const struct tree *tree, uint32_t parent, uint32_t name)
{
    uint64_t key = (uint64_t)parent << 32 | name;
    size_t at = (size_t)(key * 0x9e3779b97f4a7c15U >> 32) & (tree->slots - 1);
    for (; tree->index[at]; at = (at + 1) & (tree->slots - 1)) {
        const struct tp_path *path = &tree->paths[tree->index[at]];
        if (path->parent == parent && path->step.place->name == name) break;
    }
    return at;
}

static bool grow(struct tree *tree)
{
    size_t room = tree->room ? tree->room * 2 : 256;
    if (room > UINT32_MAX) return false;
    struct tp_path *paths = realloc(tree->paths, room * sizeof(paths[0]));
    if (!paths) return false;
    tree->paths = paths;
    uint32_t *index = calloc(room * 2, sizeof(index[0]));
    if (!index) return false;
    free(tree->index);
    tree->index = index;
    tree->room = room;
    tree->slots = room * 2;
    for (uint32_t i = 1; i < tree->n; i++)
        index[slot_of(tree, paths[i].parent, paths[i].step.place->name)] = i;
    return true;
}

/* The child of `parent` for a step, new if need be; 0: without memory. */
static uint32_t descend(struct tree *tree, uint32_t parent, const struct tp_step *step)
{
    if (tree->n == tree->room && !grow(tree)) return 0;
    size_t at = slot_of(tree, parent, step->place->name);
    uint32_t found = tree->index[at];
    if (found) {
        struct tp_path *path = &tree->paths[found];
        if (path->line != step->place->line) path->line = 0;
        if (step->repeats > path->step.repeats) path->step = *step;
        return found;
    }
    found = (uint32_t)tree->n++;
    tree->index[at] = found;
    tree->paths[found] = (struct tp_path){
        .step = *step,
        .line = step->place->line,
        .parent = parent,
        .next = tree->paths[parent].child,
    };
    tree->paths[parent].child = found;
    return found;
}

static bool add_site(struct tree *tree, const struct tp_who *who,
    const struct tp_site *site, enum tp_figure figure)
{
    size_t n = 0;
    const struct tp_step *steps = tp_stacks_of(who->stacks, site, &n);
    const struct tp_estimate *value = tp_site_figure(site, figure);
    if (n == 0 || value->value == 0) return true;
    bool inwards = who->view->paths == TP_PATHS_ROOTS;
    uint32_t at = 0;
    tp_sum_add(&tree->paths[0].all, value);
    for (size_t i = 0; i < n; i++) {
        at = descend(tree, at, &steps[inwards ? n - 1 - i : i]);
        if (!at) return false;
        tp_sum_add(&tree->paths[at].all, value);
    }
    tp_sum_add(&tree->paths[at].own, value);
    return true;
}

bool tp_paths_build(
    struct tp_path **out_paths, size_t *out_n, const struct tp_who *who, int figure)
{
    struct tree tree = { 0 };
    bool good = grow(&tree);
    if (good) {
        memset(&tree.paths[0], 0, sizeof(tree.paths[0]));
        tree.n = 1;
    }
    for (size_t i = 0; good && i < who->sites->n_sites; i++) {
        const struct tp_site *site = &who->sites->sites[i];
        if (site->kind == TP_SITE_STACK && tp_stacks_wants(who->stacks, site))
            good = add_site(&tree, who, site, (enum tp_figure)figure);
    }
    free(tree.index);
    if (!good) {
        free(tree.paths);
        return false;
    }
    *out_paths = tree.paths;
    *out_n = tree.n;
    return true;
}

/* ---- the page ---------------------------------------------------------------------- */

struct page {
    struct tp_writer *w;
    const struct tp_who *who;
    const struct tp_path *paths;
    int figure;
    int64_t least;  // figure of a node with a line of its own
    size_t column;  // where the tree begins
};

struct child {
    uint32_t path;
    int64_t value;
};

static int by_value(const void *a, const void *b)
{
    const struct child *left = a;
    const struct child *right = b;
    if (left->value != right->value) return left->value > right->value ? -1 : 1;
    return left->path < right->path ? -1 : left->path > right->path;
}

/* The children of a node, heaviest first; NULL without memory. */
static struct child *sort_children(
    const struct page *page, uint32_t node, size_t *out_n)
{
    size_t n = 0;
    for (uint32_t i = page->paths[node].child; i; i = page->paths[i].next) n++;
    struct child *children = calloc(n + 1, sizeof(children[0]));
    *out_n = n;
    if (!children) return NULL;
    n = 0;
    for (uint32_t i = page->paths[node].child; i; i = page->paths[i].next)
        children[n++] = (struct child){ i, page->paths[i].all.value };
    qsort(children, n, sizeof(children[0]), by_value);
    return children;
}

static size_t indent_of(size_t depth)
{
    return depth * 2 < INDENTED ? depth * 2 : INDENTED;
}

static void write_name(const struct page *page, uint32_t node, size_t depth)
{
    struct tp_step step = page->paths[node].step;
    struct tp_place place = *step.place;
    place.line = page->paths[node].line;  // of all that are together here, or none
    step.place = &place;
    size_t column = page->column + indent_of(depth);
    tp_write_format(page->w, "%*s", (int)indent_of(depth), "");
    tp_write_step(page->w, page->who, &step, column, "");
}

/* A line for what has no name of its own: the node itself, or the small children. */
static void write_rest(
    const struct page *page, size_t depth, const struct tp_sum *sum, const char *words)
{
    tp_write_estimate(page->w, page->who, sum, page->figure);
    tp_write_format(page->w, "%*s", (int)indent_of(depth), "");
    tp_paint(page->w, TP_DIM);
    tp_write_text(page->w, words);
    tp_unpaint(page->w);
    tp_write_text(page->w, "\n");
}

static void add_sum(struct tp_sum *to, const struct tp_sum *sum)
{
    if (__builtin_add_overflow(to->value, sum->value, &to->value))
        to->value = INT64_MAX;
    to->below += sum->below;
    to->above += sum->above;
    to->n += sum->n;
}

static void write_below(struct page *page, uint32_t node, size_t depth);

static void write_node(struct page *page, uint32_t node, size_t depth)
{
    tp_write_estimate(page->w, page->who, &page->paths[node].all, page->figure);
    write_name(page, node, depth);
    // As long as there is only one way on, the figure is the same and the line is bare.
    for (;;) {
        const struct tp_path *path = &page->paths[node];
        uint32_t only = path->child;
        if (!only || page->paths[only].next || path->own.value) break;
        tp_write_format(page->w, "%*s", (int)page->column, "");
        write_name(page, only, depth);
        node = only;
    }
    write_below(page, node, depth + 1);
}

static void write_below(struct page *page, uint32_t node, size_t depth)
{
    const struct tp_view *view = page->who->view;
    const struct tp_path *path = &page->paths[node];
    size_t most = view->full ? SIZE_MAX : view->top ? view->top : TOP;
    size_t n = 0;
    size_t n_rest = 0;
    struct tp_sum rest = { 0 };
    if (!path->child) return;
    struct child *children = sort_children(page, node, &n);
    if (!children) return;
    for (size_t i = 0; i < n; i++) {
        if (i < most && children[i].value >= page->least) {
            write_node(page, children[i].path, depth);
            continue;
        }
        add_sum(&rest, &page->paths[children[i].path].all);
        n_rest++;
    }
    free(children);
    if (n_rest) {
        char words[64];
        snprintf(words, sizeof(words), "... %zu more", n_rest);
        write_rest(page, depth, &rest, words);
    }
    if (path->own.value)
        write_rest(page, depth, &path->own,
            view->paths == TP_PATHS_ROOTS ? "... itself" : "... no further caller");
}

void tp_paths_write(struct tp_writer *w, const struct tp_who *who, int figure)
{
    struct tp_path *paths = NULL;
    size_t n = 0;
    struct tp_groups groups;
    if (!tp_paths_build(&paths, &n, who, figure)) return;
    tp_write_who_heading(w, who, figure);
    if (tp_groups_build(
            &groups, who->sites, who->stacks, who->view, (enum tp_figure)figure)) {
        tp_write_filter(w, who, &groups);
        tp_groups_fini(&groups);
    }
    int64_t whole = tp_who_whole(who->profile, figure);
    struct page page = {
        .w = w,
        .who = who,
        .paths = paths,
        .figure = figure,
        .least = who->view->full ? 0 : whole / 100,
        .column = tp_estimate_columns(who),
    };
    if (n < 2) tp_write_text(w, "  No call site.\n");
    write_below(&page, 0, 0);
    free(paths);
}
