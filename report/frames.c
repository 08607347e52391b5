/* SPDX-License-Identifier: MIT */
/*
 * frames.c - stacks of a dump as steps with names; folding and patterns.
 *
 * Names are judged by their skeleton: the text without template arguments, parameters
 * and ABI tags, so that one row of a table stands for every instance.
 */
#include "report/frames.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SKELETON = 200,     // bytes of a name that are looked at
    LONGEST_CYCLE = 8,  // steps of a recursion that is recognised
    PLACES = 4096,      // of one address; symbols.h keeps fewer
};

/* ---- the allocator's own functions ------------------------------------------------- */

/* Leaves out what stands in <>, what follows the first ( and tags such as [abi:cxx11]. */
static void make_skeleton(char out[SKELETON], const char *name)
{
    size_t n = 0;
    unsigned depth = 0;
    for (const char *at = name; *at && n < SKELETON - 1; at++) {
        bool word = n >= 8 && strncmp(out + n - 8, "operator", 8) == 0;
        if (depth == 0 && word && (*at == '<' || *at == '>' || *at == '(')) break;
        if (*at == '<') {
            depth++;
        } else if (*at == '>' && depth > 0) {
            depth--;
        } else if (depth == 0) {
            if (*at == '(' && strncmp(at, "(anonymous", 10) != 0) break;
            if (strncmp(at, "[abi:", 5) == 0) break;
            out[n++] = *at;
        }
    }
    out[n] = '\0';
}

/* Skeletons; one that ends in * stands for all that begin so. */
static const char *const plumbing[] = {
    "operator new",
    "operator new[]",
    "std::allocator::allocate",
    "std::allocator_traits::allocate",
    "std::allocator_traits::allocate_at_least",
    "std::__allocate_guarded",
    "std::_Vector_base::_M_allocate",
    "std::_Vector_base::_M_create_storage",
    "std::_Bvector_base::_M_allocate",
    "std::_Deque_base::_M_allocate_*",
    "std::_Deque_base::_M_create_nodes",
    "std::_Rb_tree::_M_get_node",
    "std::_List_base::_M_get_node",
    "std::__cxx11::_List_base::_M_get_node",
    "std::_Fwd_list_base::_M_get_node",
    "std::__detail::_Hashtable_alloc::_M_allocate_*",
    "std::__new_allocator::allocate",
    "std::__cxx11::basic_string::_M_create",
    "std::basic_string::_M_create",
    "std::basic_string::_S_allocate",
    "std::__cxx11::basic_string::_S_allocate",
    "std::basic_string::_Rep::_S_create",
    "std::pmr::polymorphic_allocator::allocate",
    "__gnu_cxx::new_allocator::allocate",
    "__gnu_cxx::malloc_allocator::allocate",
    "__gnu_cxx::__alloc_traits::allocate",
    "std::__1::allocator::allocate",
    "std::__1::allocator_traits::allocate*",
    "std::__1::__allocate_at_least",
    "std::__1::__libcpp_allocate",
    "std::__1::__libcpp_operator_new",
    "__rust_alloc",
    "__rust_alloc_zeroed",
    "__rust_realloc",
    "__rdl_alloc*",
    "__rdl_realloc",
    "__rg_alloc*",
    "__rg_realloc",
    "alloc::alloc::alloc",
    "alloc::alloc::alloc_zeroed",
    "alloc::alloc::realloc",
    "alloc::alloc::exchange_malloc",
    "alloc::alloc::box_new_uninit",
    "alloc::alloc::Global::*",
    "alloc::alloc::{{impl}}::allocate*",
    "alloc::alloc::{impl#*",
    "alloc::raw_vec::*",
    "std::sys::alloc::*",
    "std::alloc::__default_lib_allocator::*",
};

/* What runs before the program's own functions; names of libc and the kernel. */
static const char *const starters[] = {
    "_start",
    "__libc_start_main*",
    "__libc_start_call_main",
    "_dl_start_user",
    "start_thread",
    "clone",
    "clone3",
    "__clone",
    "__clone3",
    "thread_start",
};

static bool is_like(const char *skeleton, const char *row)
{
    size_t n = strlen(row);
    if (row[n - 1] == '*') return strncmp(skeleton, row, n - 1) == 0;
    return strcmp(skeleton, row) == 0;
}

static bool is_in(const char *skeleton, const char *const *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (is_like(skeleton, rows[i])) return true;
    return false;
}

bool tp_frames_is_plumbing(const char *function)
{
    char skeleton[SKELETON];
    // <T as Trait>::f of Rust would lose its only words.
    if (strncmp(function, "<alloc::alloc::Global as ", 25) == 0) return true;
    if (strncmp(function, "<std::alloc::System as ", 23) == 0) return true;
    if (strncmp(function, "<alloc::raw_vec::", 17) == 0) return true;
    make_skeleton(skeleton, function);
    return is_in(skeleton, plumbing, sizeof(plumbing) / sizeof(plumbing[0]));
}

/* ---- patterns ---------------------------------------------------------------------- */

static bool matches(const struct tp_patterns *patterns, const struct tp_place *place)
{
    const char *const texts[] = { place->function, place->file, place->module };
    for (size_t i = 0; i < patterns->n; i++)
        for (size_t k = 0; k < sizeof(texts) / sizeof(texts[0]); k++)
            if (texts[k][0] && regexec(&patterns->list[i], texts[k], 0, NULL, 0) == 0)
                return true;
    return false;
}

/* ---- views and figures --------------------------------------------------------------- */

enum tp_figure tp_figure_find(const char *word)
{
    static const char *const words[TP_FIGURES] = { "peak", "live", "allocated", "count",
        "temporary" };
    for (int i = 0; i < TP_FIGURES; i++)
        if (strcmp(word, words[i]) == 0) return (enum tp_figure)i;
    return TP_FIGURE_NONE;
}

const struct tp_estimate *tp_site_figure(
    const struct tp_site *site, enum tp_figure figure)
{
    switch (figure) {
    case TP_FIGURE_PEAK:
        return &site->peak_bytes;
    case TP_FIGURE_ALLOCATED:
        return &site->allocated_bytes;
    case TP_FIGURE_COUNT:
        return &site->allocations;
    case TP_FIGURE_TEMPORARY:
        return &site->temporary_blocks;
    case TP_FIGURE_LIVE:
    default:
        return &site->live_bytes;
    }
}

static int64_t add(int64_t a, int64_t b)
{
    int64_t sum = 0;
    if (!__builtin_add_overflow(a, b, &sum)) return sum;
    return a < 0 ? INT64_MIN : INT64_MAX;
}

int64_t tp_sites_total(const struct tp_sites *sites, enum tp_figure figure)
{
    int64_t total = 0;
    for (size_t i = 0; i < sites->n_sites; i++)
        total = add(total, tp_site_figure(&sites->sites[i], figure)->value);
    return total;
}

void tp_sum_add(struct tp_sum *to, const struct tp_estimate *estimate)
{
    double below = (double)estimate->value - (double)estimate->low;
    double above = (double)estimate->high - (double)estimate->value;
    to->value = add(to->value, estimate->value);
    to->below += below * below;
    to->above += above * above;
    to->n++;
}

static int64_t whole(double value)
{
    if (value >= 9.2e18) return INT64_MAX;
    if (value <= -9.2e18) return INT64_MIN;
    return (int64_t)(value + (value < 0 ? -0.5 : 0.5));
}

static double smaller(double a, double b)
{
    if (b < 0) b = 0;  // differences of large numbers
    return a < b ? a : b;
}

struct tp_estimate tp_sum_estimate(const struct tp_sum *sum, const struct tp_sum *all)
{
    double below = sum->below;
    double above = sum->above;
    if (sum->n == 1) all = NULL;
    if (all) below = smaller(below, all->above - sum->above);
    if (all) above = smaller(above, all->below - sum->below);
    struct tp_estimate out = { .value = sum->value,
        .low = add(sum->value, -whole(sqrt(below))),
        .high = add(sum->value, whole(sqrt(above))) };
    if (out.low < 0 && sum->value >= 0) out.low = 0;  // there are no negative bytes
    return out;
}

/* ---- places ---------------------------------------------------------------------------- */

struct node_places {
    uint32_t first;  // in places[]
    uint16_t n;
    uint16_t marks;  // of all places of the stack that ends here
    uint32_t steps;  // of that stack; 0: not used by any site
};

struct tp_stacks {
    const struct tp_dump *dump;
    const struct tp_view *view;
    struct node_places *nodes;
    struct tp_place *places;
    size_t n_places;
    struct tp_step *steps;  // of the stack that was asked for
    char **made;            // names for what has none
    size_t n_made;
    uint32_t *addresses;  // hash table of nodes, the first of each address
    size_t n_addresses;   // a power of two
    uint32_t *names;      // hash table of place index + 1, by function, file and module
    size_t n_names;       // a power of two
    struct tp_sum all[TP_FIGURES];
};

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static const char *module_of(const struct tp_dump *dump, uint32_t node)
{
    uint32_t module = dump->nodes[node].module;
    if (module == 0 || module > dump->n_modules) return "";
    return last_part(dump->modules[module - 1].path);
}

static uint32_t parent_of(const struct tp_dump *dump, uint32_t node)
{
    uint32_t parent = dump->nodes[node].parent;
    return parent < node ? parent : 0;  // the file is never trusted to be a tree
}

static bool is_node(const struct tp_dump *dump, uint32_t node)
{
    return node > 0 && node < dump->n_nodes;
}

/* Marks the nodes of all stacks; returns false without memory. */
static bool find_nodes(struct tp_stacks *stacks, const struct tp_sites *sites)
{
    const struct tp_dump *dump = stacks->dump;
    stacks->nodes = calloc(dump->n_nodes + 1, sizeof(stacks->nodes[0]));
    if (!stacks->nodes) return false;
    for (size_t i = 0; i < sites->n_sites; i++) {
        uint32_t node = sites->sites[i].node;
        if (!is_node(dump, node)) continue;
        for (; node && !stacks->nodes[node].steps; node = parent_of(dump, node))
            stacks->nodes[node].steps = 1;
    }
    return true;
}

static const struct tp_symbol *symbols_at(const struct tp_stacks *stacks,
    const struct tp_symbols *symbols, uint32_t node, size_t *out_n)
{
    static const struct tp_symbol nothing = { .function = "", .file = "" };
    const struct tp_symbol *list = &nothing;
    *out_n = 1;
    if (symbols) list = tp_symbols_at(symbols, stacks->dump, node, out_n);
    if (list && *out_n) return list;
    *out_n = 1;
    return &nothing;
}

/* A name for an address of which nothing is known; NULL without memory. */
static const char *make_name(struct tp_stacks *stacks, uint32_t node)
{
    unsigned long long offset = stacks->dump->nodes[node].offset;
    const char *module = module_of(stacks->dump, node);
    char *text = NULL;
    if (stacks->n_made % 64 == 0) {
        char **grown =
            realloc(stacks->made, (stacks->n_made + 64) * sizeof(stacks->made[0]));
        if (!grown) return NULL;
        stacks->made = grown;
    }
    int n = module[0] ? asprintf(&text, "%s+0x%llx", module, offset)
                      : asprintf(&text, "0x%llx", offset);
    if (n < 0) return NULL;
    return stacks->made[stacks->n_made++] = text;
}

static uint32_t hash_text(uint32_t hash, const char *text)
{
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 16777619U;  // FNV-1a
    return (hash ^ 0xff) * 16777619U;
}

static bool is_same(const struct tp_place *a, const struct tp_place *b)
{
    return strcmp(a->function, b->function) == 0 && strcmp(a->file, b->file) == 0 &&
        strcmp(a->module, b->module) == 0;
}

/* Gives place `i` the number of its function, and the marks that came with that. */
static void give_name(struct tp_stacks *stacks, size_t i)
{
    struct tp_place *place = &stacks->places[i];
    uint32_t hash = hash_text(2166136261U, place->function);
    hash = hash_text(hash_text(hash, place->file), place->module);
    size_t mask = stacks->n_names - 1;
    size_t at = hash & mask;
    for (; stacks->names[at]; at = (at + 1) & mask) {
        const struct tp_place *other = &stacks->places[stacks->names[at] - 1];
        if (!is_same(place, other)) continue;
        place->name = other->name;
        place->marks = other->marks;
        return;
    }
    stacks->names[at] = (uint32_t)i + 1;
    place->name = (uint32_t)i;
    char skeleton[SKELETON];
    make_skeleton(skeleton, place->function);
    if (tp_frames_is_plumbing(place->function) ||
        strncmp(place->module, "libtidepool", 11) == 0 ||
        matches(&stacks->view->hide, place))
        place->marks |= TP_PLACE_PLUMBING;
    if (is_in(skeleton, starters, sizeof(starters) / sizeof(starters[0])))
        place->marks |= TP_PLACE_START;
    if (matches(&stacks->view->focus, place)) place->marks |= TP_PLACE_FOCUS;
    if (matches(&stacks->view->ignore, place)) place->marks |= TP_PLACE_IGNORE;
}

/* The places of one node. False: without memory. */
static bool make_places(
    struct tp_stacks *stacks, const struct tp_symbols *symbols, uint32_t node)
{
    size_t n = 0;
    const struct tp_symbol *list = symbols_at(stacks, symbols, node, &n);
    for (size_t i = 0; i < stacks->nodes[node].n; i++) {
        size_t at = stacks->nodes[node].first + i;
        struct tp_place *place = &stacks->places[at];
        place->known = list[i].function && list[i].function[0];
        place->function = place->known ? list[i].function : make_name(stacks, node);
        if (!place->function) return false;
        place->file = list[i].file ? list[i].file : "";
        place->line = list[i].line;
        place->module = module_of(stacks->dump, node);
        place->inlined = list[i].inlined;
        give_name(stacks, at);
    }
    return true;
}

/* Where the node stands, or the one with the same address that came before it. */
static uint32_t *find_address(const struct tp_stacks *stacks, uint32_t node)
{
    const struct tp_node_record *nodes = stacks->dump->nodes;
    const struct tp_node_record *wanted = &nodes[node];
    uint64_t hash =
        (wanted->offset + ((uint64_t)wanted->module << 48)) * 0x9e3779b97f4a7c15u;
    size_t at = hash >> 32 & (stacks->n_addresses - 1);
    for (; stacks->addresses[at]; at = (at + 1) & (stacks->n_addresses - 1)) {
        const struct tp_node_record *other = &nodes[stacks->addresses[at]];
        if (other->offset == wanted->offset && other->module == wanted->module) break;
    }
    return &stacks->addresses[at];
}

static bool grow_addresses(struct tp_stacks *stacks)
{
    uint32_t *old = stacks->addresses;
    size_t n = stacks->n_addresses;
    stacks->n_addresses = n ? 2 * n : 1024;
    stacks->addresses = calloc(stacks->n_addresses, sizeof(old[0]));
    for (size_t i = 0; stacks->addresses && i < n; i++)
        if (old[i]) *find_address(stacks, old[i]) = old[i];
    free(old);
    return stacks->addresses != NULL;
}

/*
 * Gives every node its places: as a program has many stacks but few addresses, those of
 * the first node that has its address.
 */
static bool share_places(struct tp_stacks *stacks, const struct tp_symbols *symbols)
{
    const struct tp_dump *dump = stacks->dump;
    size_t known = 0;
    for (uint32_t i = 1; i < dump->n_nodes; i++) {
        struct node_places *node = &stacks->nodes[i];
        size_t n = 0;
        if (!node->steps) continue;
        if (2 * known >= stacks->n_addresses && !grow_addresses(stacks)) return false;
        uint32_t *slot = find_address(stacks, i);
        if (*slot) {
            node->first = stacks->nodes[*slot].first;
            node->n = stacks->nodes[*slot].n;
            continue;
        }
        *slot = i;
        known++;
        (void)symbols_at(stacks, symbols, i, &n);
        if (n > PLACES) n = PLACES;
        node->first = (uint32_t)stacks->n_places;
        node->n = (uint16_t)n;
        stacks->n_places += n;
    }
    return true;
}

/* Callers stand before who they call: what is true of a stack is told from outside in. */
static size_t sum_up(struct tp_stacks *stacks)
{
    size_t most = 0;
    for (uint32_t i = 1; i < stacks->dump->n_nodes; i++) {
        struct node_places *node = &stacks->nodes[i];
        if (!node->steps) continue;
        const struct node_places *caller = &stacks->nodes[parent_of(stacks->dump, i)];
        unsigned marks = caller->marks;
        for (uint32_t k = 0; k < node->n; k++)
            marks |= stacks->places[node->first + k].marks;
        node->marks = (uint16_t)marks;
        node->steps = caller->steps + node->n;
        if (node->steps > most) most = node->steps;
    }
    return most;
}

static bool make_all(struct tp_stacks *stacks, const struct tp_symbols *symbols)
{
    if (!share_places(stacks, symbols)) return false;
    stacks->n_names = 16;
    while (stacks->n_names < stacks->n_places * 2) stacks->n_names *= 2;
    stacks->places = calloc(stacks->n_places + 1, sizeof(stacks->places[0]));
    stacks->names = calloc(stacks->n_names, sizeof(stacks->names[0]));
    if (!stacks->places || !stacks->names) return false;
    size_t made = 0;
    for (uint32_t i = 1; i < stacks->dump->n_nodes; i++) {
        const struct node_places *node = &stacks->nodes[i];
        // The places of an address stand behind those of the one before it.
        if (!node->steps || node->first != made) continue;
        if (!make_places(stacks, symbols, i)) return false;
        made += node->n;
    }
    stacks->steps = calloc(sum_up(stacks) + 1, sizeof(stacks->steps[0]));
    return stacks->steps != NULL;
}

struct tp_stacks *tp_stacks_open(const struct tp_symbols *symbols,
    const struct tp_dump *dump, const struct tp_sites *sites,
    const struct tp_view *view)
{
    struct tp_stacks *stacks = calloc(1, sizeof(*stacks));
    if (!stacks) return NULL;
    stacks->dump = dump;
    stacks->view = view;
    for (size_t i = 0; i < sites->n_sites; i++)
        for (int k = 0; k < TP_FIGURES; k++)
            tp_sum_add(
                &stacks->all[k], tp_site_figure(&sites->sites[i], (enum tp_figure)k));
    if (find_nodes(stacks, sites) && make_all(stacks, symbols)) return stacks;
    tp_stacks_close(stacks);
    return NULL;
}

void tp_stacks_close(struct tp_stacks *stacks)
{
    if (!stacks) return;
    for (size_t i = 0; i < stacks->n_made; i++) free(stacks->made[i]);
    free(stacks->made);
    free(stacks->names);
    free(stacks->addresses);
    free(stacks->places);
    free(stacks->steps);
    free(stacks->nodes);
    free(stacks);
}

/* ---- stacks ------------------------------------------------------------------------------ */

/*
 * When the last k steps are the k steps before once more, they go, and the first of those
 * that stay counts it. Returns how many steps are left.
 */
static size_t fold_cycle(struct tp_step *steps, size_t n)
{
    for (size_t k = 1; k <= LONGEST_CYCLE && 2 * k <= n; k++) {
        size_t i = 0;
        while (
            i < k && steps[n - 1 - i].place->name == steps[n - 1 - k - i].place->name)
            i++;
        if (i < k) continue;
        struct tp_step *first = &steps[n - 2 * k];
        if (first->cycle != k) first->repeats = 0;  // a longer one holds a shorter one
        first->cycle = (uint32_t)k;
        first->repeats++;
        return n - k;
    }
    return n;
}

const struct tp_step *tp_stacks_of(
    struct tp_stacks *stacks, const struct tp_site *site, size_t *out_n)
{
    size_t n = 0;
    *out_n = 0;
    if (site->kind != TP_SITE_STACK || !is_node(stacks->dump, site->node)) return NULL;
    bool inner = true;
    for (uint32_t node = site->node; node; node = parent_of(stacks->dump, node)) {
        const struct node_places *list = &stacks->nodes[node];
        for (uint32_t i = 0; i < list->n; i++) {
            const struct tp_place *place = &stacks->places[list->first + i];
            // The outermost of the plumbing stays as long as nothing else is there.
            if (inner && n > 0 && (place->marks & TP_PLACE_START)) continue;
            if (inner) n = 0;
            inner = inner && (place->marks & TP_PLACE_PLUMBING);
            stacks->steps[n++] = (struct tp_step){ .place = place };
            n = fold_cycle(stacks->steps, n);
        }
    }
    while (!stacks->view->full && n > 1 &&
        (stacks->steps[n - 1].place->marks & TP_PLACE_START))
        n--;
    *out_n = n;
    return stacks->steps;
}

const struct tp_place *tp_stacks_at(
    const struct tp_stacks *stacks, uint32_t node, size_t *out_n)
{
    *out_n = is_node(stacks->dump, node) ? stacks->nodes[node].n : 0;
    return *out_n ? &stacks->places[stacks->nodes[node].first] : NULL;
}

const struct tp_place *tp_stacks_first(
    const struct tp_stacks *stacks, const struct tp_site *site)
{
    const struct tp_place *first = NULL;
    if (site->kind != TP_SITE_STACK || !is_node(stacks->dump, site->node)) return NULL;
    for (uint32_t node = site->node; node; node = parent_of(stacks->dump, node)) {
        const struct node_places *list = &stacks->nodes[node];
        for (uint32_t i = 0; i < list->n; i++) {
            const struct tp_place *place = &stacks->places[list->first + i];
            if (first && (place->marks & TP_PLACE_START)) continue;
            first = place;
            if (!(place->marks & TP_PLACE_PLUMBING)) return first;
        }
    }
    return first;
}

const struct tp_sum *tp_stacks_all(
    const struct tp_stacks *stacks, enum tp_figure figure)
{
    // What no counter counts is an estimate as a whole too.
    return figure == TP_FIGURE_TEMPORARY ? NULL : &stacks->all[figure];
}

bool tp_stacks_wants(const struct tp_stacks *stacks, const struct tp_site *site)
{
    unsigned marks = 0;
    if (site->kind == TP_SITE_STACK && is_node(stacks->dump, site->node))
        marks = stacks->nodes[site->node].marks;
    if (marks & TP_PLACE_IGNORE) return false;
    return stacks->view->focus.n == 0 || (marks & TP_PLACE_FOCUS);
}
