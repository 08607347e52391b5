/* SPDX-License-Identifier: MIT */
/*
 * tree.c - the dumps of a recording, put together to processes, and these to a tree.
 *
 * Idea: a process is a pid and the moment the kernel started it, so a pid that is used
 * again is another process, and an exec is not: it ends one program's account and
 * begins the next. Of each such program the last dump counts, the earlier ones are its
 * history. Its counters never fall, so the last is the one that has counted most.
 *
 * The parent is the process that had the parent's pid when the child began. One that is
 * not in the recording (it ended before, or was not covered) leaves its child at the top.
 *
 * A forked child has the counters of its parent as they were. What it did itself is the
 * rest, and only that can be added up: sums know no block twice. Its balance may be
 * negative: it gave back more of the inherited blocks than it left of its own.
 *
 * Holds always: a parent stands before its children, those in the order of their start,
 * and the dumps of a process stand together, the oldest first.
 *
 * Knows nothing of: files, output.
 */
#include "report/model.h"

#include <stdlib.h>
#include <string.h>

/* A dump on its way to its place. */
struct entry {
    const struct tp_profile *profile;
    size_t at;  // in the input
};

/* A process before the tree is known. */
struct process {
    const struct entry *entries;
    size_t n;
    uint64_t start_ns;  // of its first program
    struct process *parent;
    struct process *first;  // child
    struct process *last;
    struct process *next;  // child of the same parent
    size_t node;
};

/* What the work is done in. */
struct workshop {
    struct entry *entries;
    struct process *processes;  // by boot, pid and start
    struct process **by_start;
    size_t n;  // processes
};

static const struct tp_process_record *record_of(const struct entry *entry)
{
    return &entry->profile->dump->process;
}

/* ---- figures --------------------------------------------------------------------- */

static uint64_t less(uint64_t total, uint64_t part)
{
    return total > part ? total - part : 0;
}

static void settle(struct tp_work *work)
{
    work->live_blocks = (int64_t)work->allocations - (int64_t)work->frees;
    work->live_bytes = (int64_t)work->allocated_bytes - (int64_t)work->freed_bytes;
}

struct tp_work tp_work_of(const struct tp_profile *profile)
{
    const struct tp_process_record *record = &profile->dump->process;
    const struct tp_totals *totals = &profile->totals;
    struct tp_work work = {
        .allocations = totals->allocations,
        .frees = totals->frees,
        .requested_bytes = totals->requested_bytes,
        .allocated_bytes = totals->allocated_bytes,
        .freed_bytes = totals->freed_bytes,
        .peak_bytes = totals->peak_bytes,
    };
    if (record->flags & TP_PROCESS_FORKED) {
        uint64_t freed =
            less(record->inherited_allocated_bytes, record->inherited_bytes);
        work.allocations = less(work.allocations, record->inherited_allocations);
        work.frees = less(work.frees, record->inherited_frees);
        work.requested_bytes =
            less(work.requested_bytes, record->inherited_requested_bytes);
        work.allocated_bytes =
            less(work.allocated_bytes, record->inherited_allocated_bytes);
        work.freed_bytes = less(work.freed_bytes, freed);
    }
    settle(&work);
    return work;
}

/* Sums of hostile figures stop at the largest that is a count. */
static void add(uint64_t *to, uint64_t amount)
{
    if (__builtin_add_overflow(*to, amount, to) || *to > INT64_MAX) *to = INT64_MAX;
}

void tp_work_add(struct tp_work *to, const struct tp_work *work)
{
    add(&to->allocations, work->allocations);
    add(&to->frees, work->frees);
    add(&to->requested_bytes, work->requested_bytes);
    add(&to->allocated_bytes, work->allocated_bytes);
    add(&to->freed_bytes, work->freed_bytes);
    if (work->peak_bytes > to->peak_bytes) to->peak_bytes = work->peak_bytes;
    settle(to);
}

/* ---- orders ---------------------------------------------------------------------- */

static int order(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int order_of_process(
    const struct tp_process_record *a, const struct tp_process_record *b)
{
    int by = memcmp(a->boot_id, b->boot_id, sizeof(a->boot_id));
    if (!by) by = order(a->pid, b->pid);
    return by ? by : order(a->start_jiffies, b->start_jiffies);
}

static bool same_program(const struct entry *a, const struct entry *b)
{
    return order_of_process(record_of(a), record_of(b)) == 0 &&
        record_of(a)->start_monotonic_ns == record_of(b)->start_monotonic_ns;
}

/* Processes one after another; in each its programs, and of each its dumps. */
static int by_process(const void *a, const void *b)
{
    const struct entry *left = a;
    const struct entry *right = b;
    const struct tp_totals *l = &left->profile->totals;
    const struct tp_totals *r = &right->profile->totals;
    int by = order_of_process(record_of(left), record_of(right));
    if (!by)
        by = order(
            record_of(left)->start_monotonic_ns, record_of(right)->start_monotonic_ns);
    if (!by) by = order(l->allocations + l->frees, r->allocations + r->frees);
    if (!by) by = order(left->profile->sequence, right->profile->sequence);
    return by ? by : order(left->at, right->at);
}

static int by_pid(const void *a, const void *b)
{
    const struct process *left = a;
    const struct process *right = b;
    const struct tp_process_record *l = record_of(left->entries);
    const struct tp_process_record *r = record_of(right->entries);
    int by = memcmp(l->boot_id, r->boot_id, sizeof(l->boot_id));
    if (!by) by = order(l->pid, r->pid);
    if (!by) by = order(left->start_ns, right->start_ns);
    return by ? by : order((uintptr_t)left->entries, (uintptr_t)right->entries);
}

static int by_start(const void *a, const void *b)
{
    const struct process *left = *(struct process *const *)a;
    const struct process *right = *(struct process *const *)b;
    const struct tp_process_record *l = record_of(left->entries);
    const struct tp_process_record *r = record_of(right->entries);
    int by = order(l->start_unix_ns, r->start_unix_ns);
    if (!by) by = order(left->start_ns, right->start_ns);
    if (!by) by = order(left->entries->at, right->entries->at);
    return by;
}

/* ---- processes ------------------------------------------------------------------- */

static bool open_workshop(struct workshop *shop, const struct tp_report *report)
{
    size_t n = report->n_profiles;
    shop->entries = calloc(n + 1, sizeof(shop->entries[0]));
    shop->processes = calloc(n + 1, sizeof(shop->processes[0]));
    shop->by_start = calloc(n + 1, sizeof(struct process *));
    return shop->entries && shop->processes && shop->by_start;
}

static void close_workshop(struct workshop *shop)
{
    free(shop->entries);
    free(shop->processes);
    free((void *)shop->by_start);
}

static void find_processes(struct workshop *shop, const struct tp_report *report)
{
    for (size_t i = 0; i < report->n_profiles; i++)
        shop->entries[i] = (struct entry){ &report->profiles[i], i };
    qsort(shop->entries, report->n_profiles, sizeof(shop->entries[0]), by_process);
    for (size_t i = 0; i < report->n_profiles; i++) {
        const struct entry *entry = &shop->entries[i];
        if (i == 0 || order_of_process(record_of(entry - 1), record_of(entry)) != 0)
            shop->processes[shop->n++] = (struct process){ .entries = entry,
                .start_ns = record_of(entry)->start_monotonic_ns };
        shop->processes[shop->n - 1].n++;
    }
    qsort(shop->processes, shop->n, sizeof(shop->processes[0]), by_pid);
}

/* The process that had the parent's pid when `child` began; NULL: not recorded. */
static struct process *find_parent(
    const struct workshop *shop, const struct process *child)
{
    const struct tp_process_record *record = record_of(child->entries);
    size_t low = 0;
    size_t high = shop->n;
    while (low < high) {  // the first that does not stand before what is wanted
        size_t middle = low + (high - low) / 2;
        const struct process *other = &shop->processes[middle];
        const struct tp_process_record *theirs = record_of(other->entries);
        int by = memcmp(theirs->boot_id, record->boot_id, sizeof(record->boot_id));
        if (!by) by = order(theirs->pid, record->ppid);
        if (!by) by = order(other->start_ns, child->start_ns);
        if (by < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0) return NULL;
    struct process *found = &shop->processes[low - 1];
    const struct tp_process_record *theirs = record_of(found->entries);
    bool same_boot =
        memcmp(theirs->boot_id, record->boot_id, sizeof(record->boot_id)) == 0;
    // It began before its child did, so no chain of parents comes back to its start.
    return same_boot && theirs->pid == record->ppid ? found : NULL;
}

static void link_processes(struct workshop *shop)
{
    for (size_t i = 0; i < shop->n; i++) shop->by_start[i] = &shop->processes[i];
    qsort((void *)shop->by_start, shop->n, sizeof(struct process *), by_start);
    for (size_t i = 0; i < shop->n; i++) {
        struct process *child = shop->by_start[i];
        struct process *parent = find_parent(shop, child);
        child->parent = parent;
        if (!parent) continue;
        if (parent->last)
            parent->last->next = child;
        else
            parent->first = child;
        parent->last = child;
    }
}

/* ---- the tree -------------------------------------------------------------------- */

/* Appends a process to the tree, and its dumps to `profiles`. */
static void add_node(
    struct tp_tree *tree, struct tp_profile *profiles, struct process *process)
{
    struct tp_node *node = &tree->nodes[tree->n_nodes];
    process->node = tree->n_nodes++;
    node->pid = record_of(process->entries)->pid;
    node->parent = process->parent ? process->parent->node : TP_NO_NODE;
    node->depth = process->parent ? tree->nodes[node->parent].depth + 1 : 0;
    node->first = process->node ? node[-1].first + node[-1].n_profiles : 0;
    node->n_profiles = process->n;
    uint64_t end_ns = process->start_ns;
    for (size_t i = 0; i < process->n; i++) {
        const struct entry *entry = &process->entries[i];
        struct tp_profile *profile = &profiles[node->first + i];
        *profile = *entry->profile;
        profile->counts = i + 1 == process->n || !same_program(entry, entry + 1);
        uint64_t end = record_of(entry)->start_monotonic_ns + profile->duration_ns;
        if (end > end_ns) end_ns = end;
        if (!profile->counts) continue;
        struct tp_work work = tp_work_of(profile);
        tp_work_add(&node->own, &work);
        node->n_programs++;
        if (record_of(entry)->flags & TP_PROCESS_FORKED) tree->forked = true;
    }
    node->duration_ns = end_ns - process->start_ns;
    tp_work_add(&tree->sum, &node->own);
}

/* Walks the processes depth first. Each is seen once: the links have no cycle. */
static void walk(
    struct tp_tree *tree, struct tp_profile *profiles, const struct workshop *shop)
{
    for (size_t i = 0; i < shop->n; i++) {
        struct process *at = shop->by_start[i];
        if (at->parent) continue;
        while (at) {
            add_node(tree, profiles, at);
            if (at->first) {
                at = at->first;
                continue;
            }
            while (at && !at->next) at = at->parent;
            if (at) at = at->next;
        }
    }
    for (size_t i = tree->n_nodes; i-- > 0;) {
        size_t parent = tree->nodes[i].parent;
        if (parent != TP_NO_NODE)
            tree->nodes[parent].n_below += 1 + tree->nodes[i].n_below;
    }
}

/* ---- programs -------------------------------------------------------------------- */

static const char *path_of(const struct tp_profile *profile)
{
    const struct tp_dump *dump = profile->dump;
    return dump->exe && dump->exe[0] ? dump->exe : dump->process.name;
}

static int by_path(const void *a, const void *b)
{
    const struct tp_profile *left = *(const struct tp_profile *const *)a;
    const struct tp_profile *right = *(const struct tp_profile *const *)b;
    int by = strcmp(path_of(left), path_of(right));
    return by ? by : order((uintptr_t)left, (uintptr_t)right);
}

static int by_bytes(const void *a, const void *b)
{
    const struct tp_program *left = a;
    const struct tp_program *right = b;
    int by = order(right->sum.allocated_bytes, left->sum.allocated_bytes);
    return by ? by : strcmp(left->exe, right->exe);
}

static bool build_programs(struct tp_tree *tree, const struct tp_report *report)
{
    size_t n = 0;
    const struct tp_profile **runs =
        calloc(report->n_profiles + 1, sizeof(const struct tp_profile *));
    tree->programs = calloc(report->n_profiles + 1, sizeof(tree->programs[0]));
    for (size_t i = 0; runs && i < report->n_profiles; i++)
        if (report->profiles[i].counts) runs[n++] = &report->profiles[i];
    if (runs && tree->programs) {
        qsort((void *)runs, n, sizeof(const struct tp_profile *), by_path);
        for (size_t i = 0; i < n; i++) {
            if (i == 0 || strcmp(path_of(runs[i - 1]), path_of(runs[i])) != 0)
                tree->programs[tree->n_programs++] =
                    (struct tp_program){ .name = runs[i]->dump->process.name,
                        .exe = path_of(runs[i]) };
            struct tp_program *program = &tree->programs[tree->n_programs - 1];
            struct tp_work work = tp_work_of(runs[i]);
            program->processes++;
            tp_work_add(&program->sum, &work);
        }
        qsort(tree->programs, tree->n_programs, sizeof(tree->programs[0]), by_bytes);
    }
    bool good = runs && tree->programs;
    free((void *)runs);
    return good;
}

bool tp_tree_build(struct tp_report *report, struct tp_error *error)
{
    struct workshop shop = { 0 };
    struct tp_tree *tree = &report->tree;
    size_t n = report->n_profiles;
    struct tp_profile *sorted = calloc(n + 1, sizeof(sorted[0]));
    tree->nodes = calloc(n + 1, sizeof(tree->nodes[0]));
    bool good = sorted && tree->nodes && open_workshop(&shop, report);
    if (good) {
        find_processes(&shop, report);
        link_processes(&shop);
        walk(tree, sorted, &shop);
        free(report->profiles);
        report->profiles = sorted;
        sorted = NULL;
        good = build_programs(tree, report);
    }
    free(sorted);
    close_workshop(&shop);
    return good || tp_error_set(error, "out of memory");
}

void tp_tree_fini(struct tp_tree *tree)
{
    free(tree->nodes);
    free(tree->programs);
    memset(tree, 0, sizeof(*tree));
}
