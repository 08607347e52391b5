/* SPDX-License-Identifier: MIT */
/*
 * symbols.c - names for the addresses of dumps: gathers, shares out, remembers.
 *
 *     nodes of a dump -> wanted addresses of each module -> lookup.c -> names
 *                     -> addresses without a module -> perf_map.c -> names
 *
 * Idea: dumps of one recording, and the programs of one run, share most of their modules.
 * A module is one thing here whatever dump it occurs in: the same build id, or the same
 * unchanged file. What one dump has asked for is known when the next one asks.
 */
#include "report/symbols.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What became of the modules of a dump. */
struct seen {
    const struct tp_dump *dump;
    uint64_t time_unix_ns;  // tells whether it is still the same dump
    uint64_t start_jiffies;
    struct tp_unit **units;  // one a module record; NULL: not met yet
    size_t n_units;
    struct tp_names jit;  // by absolute addresses
    bool runs;
};

struct tp_symbols {
    struct tp_lookup lookup;
    struct tp_unit **units;
    size_t n_units;
    size_t units_room;
    struct seen **seen;  // by the addresses of the dumps
    size_t n_seen;
};

struct tp_symbols *tp_symbols_open(const struct tp_symbols_wish *wish)
{
    struct tp_symbols *symbols = calloc(1, sizeof(*symbols));
    if (symbols) tp_lookup_init(&symbols->lookup, wish);
    return symbols;
}

void tp_symbols_close(struct tp_symbols *symbols)
{
    if (!symbols) return;
    for (size_t i = 0; i < symbols->n_units; i++) tp_unit_free(symbols->units[i]);
    for (size_t i = 0; i < symbols->n_seen; i++) {
        tp_names_fini(&symbols->seen[i]->jit);
        free(symbols->seen[i]->units);
        free(symbols->seen[i]);
    }
    free(symbols->units);
    free(symbols->seen);
    tp_lookup_fini(&symbols->lookup);
    free(symbols);
}

unsigned tp_symbols_opened(const struct tp_symbols *symbols)
{
    return symbols->lookup.opened;
}

uint64_t tp_symbols_most_bytes(const struct tp_symbols *symbols)
{
    return symbols->lookup.most_bytes;
}

/* ---- modules of a dump ------------------------------------------------------------------------------ */

static uint64_t change_ns(const struct stat *status)
{
    return (uint64_t)status->st_ctim.tv_sec * 1000000000u +
        (uint64_t)status->st_ctim.tv_nsec;
}

static void describe(struct tp_wanted_module *out, const struct tp_dump *dump,
    const struct tp_module_record *record, bool runs)
{
    memset(out, 0, sizeof(*out));
    out->id.n = record->build_id_bytes < TP_FORMAT_BUILD_ID ? record->build_id_bytes
                                                            : TP_FORMAT_BUILD_ID;
    memcpy(out->id.bytes, record->build_id, out->id.n);
    out->start = record->start;
    out->end = record->end;
    out->span_bytes = record->end > record->start ? record->end - record->start : 0;
    out->flags = record->flags;
    out->pid = runs ? dump->process.pid : 0;
    const struct tp_process_record *process = &dump->process;
    if (record->loaded_ns >= process->start_monotonic_ns && process->start_unix_ns)
        out->loaded_ns =
            process->start_unix_ns + (record->loaded_ns - process->start_monotonic_ns);
}

/* True when both are the same module, and what is found for one holds for the other. */
static bool is_same(const struct tp_wanted_module *a, const struct tp_wanted_module *b)
{
    if (a->id.n || b->id.n)
        return a->id.n == b->id.n && memcmp(a->id.bytes, b->id.bytes, a->id.n) == 0;
    return a->span_bytes == b->span_bytes && a->pid == b->pid &&
        a->loaded_ns == b->loaded_ns && strcmp(a->path, b->path) == 0;
}

/* Nothing was found where the module was looked for before: another dump knows better. */
static bool look_elsewhere(struct tp_unit *unit, const struct tp_wanted_module *about)
{
    if (unit->origin.quality != TP_QUALITY_NONE || !unit->names.n_rows) return true;
    if (unit->about.pid == about->pid && strcmp(unit->about.path, about->path) == 0)
        return true;
    char *path = strdup(about->path);
    if (!path) return false;
    free(unit->path);
    unit->about = *about;
    unit->about.path = unit->path = path;
    unit->names.n_rows = 0;
    unit->names.n_symbols = 0;
    return true;
}

/* The unit of a module; NULL without memory. */
static struct tp_unit *find_unit(struct tp_symbols *symbols, const struct tp_dump *dump,
    const struct tp_module_record *record, bool runs)
{
    char path[TP_FORMAT_PATH + 1];
    struct stat status;
    struct tp_wanted_module about;
    describe(&about, dump, record, runs);
    snprintf(path, sizeof(path), "%.*s", TP_FORMAT_PATH, record->path);
    about.path = path;
    bool there = path[0] == '/' && stat(path, &status) == 0;
    // A file that has not changed since is one for all processes that loaded it.
    if (!about.id.n && there && about.loaded_ns &&
        change_ns(&status) <= about.loaded_ns) {
        about.loaded_ns = change_ns(&status);
        about.pid = 0;
    }
    for (size_t i = 0; i < symbols->n_units; i++)
        if (is_same(&symbols->units[i]->about, &about))
            return look_elsewhere(symbols->units[i], &about) ? symbols->units[i] : NULL;

    if (symbols->n_units == symbols->units_room) {
        size_t room = symbols->units_room ? 2 * symbols->units_room : 64;
        void *grown = realloc(symbols->units, room * sizeof(symbols->units[0]));
        if (!grown) return NULL;
        symbols->units = grown;
        symbols->units_room = room;
    }
    struct tp_unit *unit = calloc(1, sizeof(*unit));
    char *copy = unit ? strdup(path) : NULL;
    if (!copy) {
        free(unit);
        return NULL;
    }
    unit->about = about;
    unit->about.path = unit->path = copy;
    if (there) unit->file_bytes = (uint64_t)status.st_size;
    return symbols->units[symbols->n_units++] = unit;
}

/* Where the dump is in the list, or belongs. */
static size_t seen_index(const struct tp_symbols *symbols, const struct tp_dump *dump)
{
    size_t low = 0, high = symbols->n_seen;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((uintptr_t)symbols->seen[middle]->dump < (uintptr_t)dump)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct seen *find_seen(
    const struct tp_symbols *symbols, const struct tp_dump *dump)
{
    size_t i = seen_index(symbols, dump);
    if (i == symbols->n_seen || symbols->seen[i]->dump != dump) return NULL;
    return symbols->seen[i];
}

static bool still_runs(const struct tp_dump *dump)
{
    struct tp_process_now now;
    if (dump->running) return true;
    tp_process_now_read(&now, dump->process.pid);
    return now.running && now.start_jiffies == dump->process.start_jiffies &&
        tp_process_same_boot(dump->process.boot_id);
}

/* Makes the entry of a dump; begins it anew when another dump stands there now. */
static struct seen *see(struct tp_symbols *symbols, const struct tp_dump *dump)
{
    struct seen *seen = find_seen(symbols, dump);
    if (seen && seen->time_unix_ns == dump->header.time_unix_ns &&
        seen->start_jiffies == dump->process.start_jiffies &&
        seen->n_units == dump->n_modules)
        return seen;
    struct tp_unit **units =
        calloc(dump->n_modules ? dump->n_modules : 1, sizeof(units[0]));
    if (!units) return NULL;
    if (!seen) {
        size_t at = seen_index(symbols, dump);
        void *grown =
            realloc(symbols->seen, (symbols->n_seen + 1) * sizeof(symbols->seen[0]));
        if (grown) symbols->seen = grown;
        seen = grown ? calloc(1, sizeof(*seen)) : NULL;
        if (!seen) {
            free(units);
            return NULL;
        }
        memmove(symbols->seen + at + 1, symbols->seen + at,
            (symbols->n_seen - at) * sizeof(symbols->seen[0]));
        symbols->seen[at] = seen;
        symbols->n_seen++;
    }
    free(seen->units);
    seen->dump = dump;
    seen->time_unix_ns = dump->header.time_unix_ns;
    seen->start_jiffies = dump->process.start_jiffies;
    seen->units = units;
    seen->n_units = dump->n_modules;
    seen->jit.n_rows = 0;
    seen->jit.n_symbols = 0;
    seen->runs = still_runs(dump);
    return seen;
}

/* ---- addresses of a dump ---------------------------------------------------------------------------- */

struct wanted {
    struct tp_unit *unit;  // NULL: an address of its own
    uint64_t offset;
};

static int compare_wanted(const void *a, const void *b)
{
    const struct wanted *left = a, *right = b;
    if (left->unit != right->unit)
        return (uintptr_t)left->unit < (uintptr_t)right->unit ? -1 : 1;
    return left->offset < right->offset ? -1 : left->offset > right->offset;
}

/* The nodes and their callers, each once; `list` has room for all nodes of the dump. */
static size_t mark_nodes(bool *marked, uint32_t *list, const struct tp_dump *dump,
    const uint32_t *nodes, size_t n)
{
    size_t n_list = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t node = nodes[i];
        while (node && node < dump->n_nodes && !marked[node]) {
            marked[node] = true;
            list[n_list++] = node;
            if (dump->nodes[node].parent >= node) break;  // no tree
            node = dump->nodes[node].parent;
        }
    }
    return n_list;
}

static bool collect(struct wanted *out, size_t *out_n, struct tp_symbols *symbols,
    struct seen *seen, const uint32_t *list, size_t n)
{
    const struct tp_dump *dump = seen->dump;
    *out_n = 0;
    for (size_t i = 0; i < n; i++) {
        const struct tp_node_record *node = &dump->nodes[list[i]];
        struct tp_unit *unit = NULL;
        if (node->module > dump->n_modules) continue;
        if (node->module) {
            struct tp_unit **slot = &seen->units[node->module - 1];
            if (!*slot)
                *slot = find_unit(
                    symbols, dump, &dump->modules[node->module - 1], seen->runs);
            if (!*slot) return false;
            unit = *slot;
        }
        const struct tp_names *names = unit ? &unit->names : &seen->jit;
        if (!tp_names_find(names, node->offset))
            out[(*out_n)++] = (struct wanted){ unit, node->offset };
    }
    if (*out_n) qsort(out, *out_n, sizeof(out[0]), compare_wanted);
    return true;
}

static bool want(struct tp_unit *unit, uint64_t offset)
{
    if (unit->n_wanted && unit->wanted[unit->n_wanted - 1] == offset) return true;
    if (unit->n_wanted == unit->room) {
        size_t room = unit->room ? 2 * unit->room : 64;
        void *grown = realloc(unit->wanted, room * sizeof(unit->wanted[0]));
        if (!grown) return false;
        unit->wanted = grown;
        unit->room = room;
    }
    unit->wanted[unit->n_wanted++] = offset;
    return true;
}

static int compare_units(const void *a, const void *b)
{
    const struct tp_unit *left = *(struct tp_unit *const *)a;
    const struct tp_unit *right = *(struct tp_unit *const *)b;
    if (left->file_bytes != right->file_bytes)
        return left->file_bytes > right->file_bytes ? -1 : 1;
    return strcmp(left->about.path, right->about.path);
}

/* Shares the addresses out and has the modules looked up, large files first. */
static bool look_up_modules(
    struct tp_symbols *symbols, const struct wanted *wanted, size_t n)
{
    struct tp_unit **units = calloc(symbols->n_units + 1, sizeof(units[0]));
    size_t n_units = 0;
    bool good = units != NULL;
    for (size_t i = 0; good && i < n; i++) {
        struct tp_unit *unit = wanted[i].unit;
        if (!unit) continue;
        if (!n_units || units[n_units - 1] != unit) {
            unit->n_wanted = 0;
            units[n_units++] = unit;
        }
        good = want(unit, wanted[i].offset);
    }
    if (good && n_units) {
        qsort(units, n_units, sizeof(units[0]), compare_units);
        good = tp_lookup_run(&symbols->lookup, units, n_units);
    }
    free(units);
    return good;
}

static bool look_up_jit(struct seen *seen, const struct wanted *wanted, size_t n)
{
    static const struct tp_symbol unknown = { .function = "", .file = "" };
    uint64_t *addresses = calloc(n ? n : 1, sizeof(addresses[0]));
    size_t n_addresses = 0;
    bool good = addresses != NULL;
    for (size_t i = 0; good && i < n; i++) {
        if (wanted[i].unit) continue;
        if (!n_addresses || addresses[n_addresses - 1] != wanted[i].offset)
            addresses[n_addresses++] = wanted[i].offset;
    }
    if (good && n_addresses) {
        good = tp_perf_map_look_up(
            &seen->jit, seen->dump, seen->runs, addresses, n_addresses);
        // Rows that are there already stay.
        for (size_t i = 0; good && i < n_addresses; i++)
            good = tp_names_add(&seen->jit, addresses[i], &unknown, 1);
        tp_names_sort(&seen->jit);
    }
    free(addresses);
    return good;
}

bool tp_symbols_resolve(struct tp_symbols *symbols, const struct tp_dump *dump,
    const uint32_t *nodes, size_t n, struct tp_error *error)
{
    struct seen *seen = see(symbols, dump);
    size_t room = dump->n_nodes + 1, n_wanted = 0;
    bool *marked = calloc(room, sizeof(marked[0]));
    uint32_t *list = calloc(room, sizeof(list[0]));
    struct wanted *wanted = calloc(room, sizeof(wanted[0]));
    bool good = seen && marked && list && wanted;
    if (good) {
        size_t n_list = mark_nodes(marked, list, dump, nodes, n);
        good = collect(wanted, &n_wanted, symbols, seen, list, n_list) &&
            look_up_jit(seen, wanted, n_wanted) &&
            look_up_modules(symbols, wanted, n_wanted);
    }
    free(marked);
    free(list);
    free(wanted);
    return good || tp_error_set(error, "out of memory");
}

const struct tp_symbol *tp_symbols_at(const struct tp_symbols *symbols,
    const struct tp_dump *dump, uint32_t node, size_t *out_n)
{
    static const struct tp_symbol unknown = { .function = "", .file = "" };
    const struct seen *seen = find_seen(symbols, dump);
    const struct tp_named *row = NULL;
    if (seen && node < dump->n_nodes) {
        const struct tp_node_record *record = &dump->nodes[node];
        if (!record->module)
            row = tp_names_find(&seen->jit, record->offset);
        else if (record->module <= seen->n_units && seen->units[record->module - 1])
            row =
                tp_names_find(&seen->units[record->module - 1]->names, record->offset);
    }
    *out_n = row ? row->n : 1;
    return row ? row->symbols : &unknown;
}
