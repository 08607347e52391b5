/* SPDX-License-Identifier: MIT */
/*
 * json_sites.c - who allocates, for machines: sampling, sites, timeline and modules.
 *
 * Idea: as json.c, one function an object. Sites come by live bytes, most first; those
 * without a stack have an empty one and say in `kind` what they are.
 */
#include "report/json_sites.h"
#include "report/emit.h"
#include "report/sites.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FRAMES = 256 };  // of a stack: more than the writer of a dump ever keeps

static void write_sampling(struct tp_writer *w, const struct tp_dump *dump)
{
    static const char *const modes[] = { "off", "sampled", "exact" };
    static const char *const ends[TP_STACK_ENDS] = {
        "whole",
        "depth",
        "no_rule",
        "bad_rule",
        "bad_memory",
        "loop",
        "no_room",
        "none",
    };
    const struct tp_sampling_record *sampling = &dump->sampling;
    uint32_t mode = sampling->mode <= TP_SAMPLING_EXACT ? sampling->mode : 0;
    uint64_t failed = sampling->ends[TP_STACK_BAD_RULE] +
        sampling->ends[TP_STACK_BAD_MEMORY] + sampling->ends[TP_STACK_LOOP] +
        sampling->ends[TP_STACK_NONE] + sampling->ends[TP_STACK_NO_RULE];
    tp_json_begin(w, "sampling", '{');
    tp_json_text(w, "mode", modes[mode]);
    tp_json_uint(w, "interval_bytes", sampling->interval_bytes);
    tp_json_uint(w, "samples", sampling->samples);
    tp_json_uint(w, "dropped", sampling->dropped);
    tp_json_uint(w, "stacks_truncated",
        sampling->ends[TP_STACK_DEPTH] + sampling->ends[TP_STACK_NO_ROOM]);
    tp_json_uint(w, "stacks_failed", failed);
    tp_json_uint(w, "depth", sampling->depth);
    tp_json_begin(w, "stack_ends", '{');
    for (size_t i = 0; i < TP_STACK_ENDS; i++)
        tp_json_uint(w, ends[i], sampling->ends[i]);
    tp_json_end(w);
    tp_json_uint(w, "frames", sampling->frames);
    if (sampling->frames_timed)
        tp_json_rate(w, "ns_per_frame", tp_latency_frame_ns(dump));
    tp_json_end(w);
}

/* ---- sites ------------------------------------------------------------------------- */

static void write_estimate(
    struct tp_writer *w, const char *key, const struct tp_estimate *estimate)
{
    char interval[64];
    snprintf(interval, sizeof(interval), "%s_ci95", key);
    tp_json_int(w, key, estimate->value);
    tp_json_begin(w, interval, '[');
    tp_json_int(w, NULL, estimate->low);
    tp_json_int(w, NULL, estimate->high);
    tp_json_end(w);
}

/* Empty or terminated within its bytes, whatever the file says. */
static void write_path(
    struct tp_writer *w, const char *key, const struct tp_module_record *module)
{
    char path[TP_FORMAT_PATH + 1];
    memcpy(path, module->path, TP_FORMAT_PATH);
    path[TP_FORMAT_PATH] = '\0';
    tp_json_text(w, key, path);
}

static void write_build_id(struct tp_writer *w, const struct tp_module_record *module)
{
    char text[2 * TP_FORMAT_BUILD_ID + 1] = "";
    for (size_t i = 0; i < module->build_id_bytes && i < TP_FORMAT_BUILD_ID; i++)
        snprintf(text + 2 * i, 3, "%02x", module->build_id[i]);
    tp_json_text(w, "build_id", text);
}

static void write_frame(struct tp_writer *w, const struct tp_symbol *symbol,
    const struct tp_module_record *module, uint64_t offset)
{
    tp_json_begin(w, NULL, '{');
    tp_json_text(w, "function", symbol->function);
    tp_json_text(w, "file", symbol->file);
    tp_json_uint(w, "line", symbol->line);
    if (module) {
        write_path(w, "module", module);
        write_build_id(w, module);
    } else {
        tp_json_text(w, "module", "");
        tp_json_text(w, "build_id", "");
    }
    tp_json_uint(w, "offset", offset);
    tp_json_bool(w, "inlined", symbol->inlined);
    tp_json_end(w);
}

static void write_stack(struct tp_writer *w, const struct tp_dump *dump,
    const struct tp_symbols *symbols, uint32_t node)
{
    static const struct tp_symbol unknown = { .function = "", .file = "" };
    tp_json_begin(w, "stack", '[');
    // A parent stands before its children, or the stack ends: no file can make a ring.
    int room = FRAMES;
    for (uint32_t at = node; at > 0 && at < dump->n_nodes && room > 0; room--) {
        const struct tp_node_record *record = &dump->nodes[at];
        const struct tp_module_record *module = NULL;
        if (record->module > 0 && record->module <= dump->n_modules)
            module = &dump->modules[record->module - 1];
        size_t n = 1;
        const struct tp_symbol *frames = &unknown;
        if (symbols) frames = tp_symbols_at(symbols, dump, at, &n);
        for (size_t i = 0; i < n; i++)
            write_frame(w, &frames[i], module, record->offset);
        at = record->parent < at ? record->parent : 0;
    }
    tp_json_end(w);
}

static const char *kind_word(enum tp_site_kind kind)
{
    switch (kind) {
    case TP_SITE_UNSAMPLED:
        return "unsampled";
    case TP_SITE_NO_STACK:
        return "no_stack";
    default:
        return "stack";
    }
}

static void write_site(struct tp_writer *w, const struct tp_dump *dump,
    const struct tp_symbols *symbols, const struct tp_sites *sites, size_t index)
{
    const struct tp_site *site = &sites->sites[index];
    tp_json_begin(w, NULL, '{');
    tp_json_uint(w, "id", index);
    tp_json_text(w, "kind", kind_word(site->kind));
    write_estimate(w, "allocations", &site->allocations);
    write_estimate(w, "allocated_bytes", &site->allocated_bytes);
    write_estimate(w, "live_blocks", &site->live_blocks);
    write_estimate(w, "live_bytes", &site->live_bytes);
    write_estimate(w, "peak_bytes", &site->peak_bytes);
    write_estimate(w, "temporary_blocks", &site->temporary_blocks);
    if (sites->mode == TP_SAMPLING_EXACT)
        tp_json_int(w, "live_requested_bytes", site->live_requested_bytes);
    tp_json_uint(w, "samples", site->samples);
    tp_json_uint(w, "live_samples", site->live_samples);
    if (site->live_samples) {
        tp_json_uint(w, "age_ns_least", site->age_ns_least);
        tp_json_uint(w, "age_ns_median", site->age_ns_median);
        tp_json_uint(w, "age_ns_most", site->age_ns_most);
    }
    write_stack(w, dump, symbols, site->node);
    tp_json_end(w);
}

static int by_live_bytes(const void *a, const void *b)
{
    const struct tp_site *x = *(const struct tp_site *const *)a;
    const struct tp_site *y = *(const struct tp_site *const *)b;
    if (x->live_bytes.value != y->live_bytes.value)
        return x->live_bytes.value > y->live_bytes.value ? -1 : 1;
    if (x->allocated_bytes.value != y->allocated_bytes.value)
        return x->allocated_bytes.value > y->allocated_bytes.value ? -1 : 1;
    return x < y ? -1 : x > y;
}

static void write_sites(struct tp_writer *w, const struct tp_dump *dump,
    const struct tp_symbols *symbols, const struct tp_sites *sites)
{
    const struct tp_site **order = calloc(sites->n_sites + 1, sizeof(*order));
    for (size_t i = 0; order && i < sites->n_sites; i++) order[i] = &sites->sites[i];
    if (order) qsort(order, sites->n_sites, sizeof(*order), by_live_bytes);
    tp_json_begin(w, "sites", '[');
    for (size_t i = 0; i < sites->n_sites; i++) {
        size_t index = order ? (size_t)(order[i] - sites->sites) : i;
        write_site(w, dump, symbols, sites, index);
    }
    tp_json_end(w);
    free(order);
}

/* ---- the process over time, and what was loaded ------------------------------------ */

static uint64_t since_start(const struct tp_dump *dump, uint64_t ns)
{
    uint64_t start = dump->process.start_monotonic_ns;
    return ns > start ? ns - start : 0;
}

static void write_timeline(struct tp_writer *w, const struct tp_dump *dump)
{
    double tick_ns = tp_latency_tick_ns(dump);
    tp_json_begin(w, "timeline", '[');
    for (size_t i = 0; i < dump->n_points; i++) {
        const struct tp_point_record *point = &dump->points[i];
        uint64_t start = dump->process.start_ticks;
        double ns = point->ticks > start ? (double)(point->ticks - start) * tick_ns : 0;
        tp_json_begin(w, NULL, '{');
        tp_json_seconds(w, "seconds", ns < 9e18 ? (uint64_t)ns : (uint64_t)9e18);
        tp_json_int(w, "live_bytes", point->live_bytes);
        tp_json_int(w, "live_bytes_max", point->live_bytes_max);
        tp_json_uint(w, "rss_bytes", point->rss_bytes);
        tp_json_uint(w, "allocations", point->allocations);
        tp_json_uint(w, "frees", point->frees);
        tp_json_end(w);
    }
    tp_json_end(w);
}

static void write_modules(struct tp_writer *w, const struct tp_dump *dump)
{
    tp_json_begin(w, "modules", '[');
    for (size_t i = 0; i < dump->n_modules; i++) {
        const struct tp_module_record *module = &dump->modules[i];
        tp_json_begin(w, NULL, '{');
        write_path(w, "path", module);
        write_build_id(w, module);
        tp_json_uint(w, "base", module->base);
        tp_json_seconds(w, "loaded_seconds", since_start(dump, module->loaded_ns));
        if (module->unloaded_ns)
            tp_json_seconds(
                w, "unloaded_seconds", since_start(dump, module->unloaded_ns));
        tp_json_end(w);
    }
    tp_json_end(w);
}

void tp_json_sites(struct tp_writer *w, const struct tp_profile *profile,
    const struct tp_symbols *symbols, const struct tp_sites *sites)
{
    write_sampling(w, profile->dump);
    if (sites->mode != TP_SAMPLING_OFF) write_sites(w, profile->dump, symbols, sites);
    if (profile->dump->n_points) write_timeline(w, profile->dump);
    if (profile->dump->n_modules) write_modules(w, profile->dump);
}
