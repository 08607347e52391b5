/* SPDX-License-Identifier: MIT */
/*
 * json.c - the whole of a recording for machines: schema tidepool.report/1.
 *
 * Idea: one function an object, in the order of the interface; keys are only ever
 * added. Keys of features that a recording cannot have are left out, not null.
 */
#include "report/emit.h"
#include "report/frames.h"
#include "report/json_sites.h"
#include "report/sites.h"

#include <errno.h>
#include <string.h>

static void write_dump(struct tp_writer *w, const struct tp_profile *profile)
{
    char date[TP_HUMAN_BYTES];
    tp_json_begin(w, "dump", '{');
    tp_json_text(w, "reason", profile->reason);
    tp_json_uint(w, "sequence", profile->sequence);
    tp_json_text(w, "time", tp_human_date(date, profile->time_unix_ns));
    tp_json_bool(w, "complete", profile->complete);
    tp_json_bool(w, "counts", profile->counts);
    tp_json_end(w);
}

static void write_inherited(
    struct tp_writer *w, const struct tp_process_record *process)
{
    tp_json_bool(w, "forked", (process->flags & TP_PROCESS_FORKED) != 0);
    tp_json_begin(w, "inherited", '{');
    tp_json_uint(w, "allocations", process->inherited_allocations);
    tp_json_uint(w, "frees", process->inherited_frees);
    tp_json_uint(w, "requested_bytes", process->inherited_requested_bytes);
    tp_json_uint(w, "allocated_bytes", process->inherited_allocated_bytes);
    tp_json_uint(w, "live_bytes", process->inherited_bytes);
    tp_json_end(w);
}

static void write_process(struct tp_writer *w, const struct tp_profile *profile)
{
    const struct tp_dump *dump = profile->dump;
    char date[TP_HUMAN_BYTES];
    tp_json_begin(w, "process", '{');
    tp_json_uint(w, "pid", dump->process.pid);
    tp_json_uint(w, "ppid", dump->process.ppid);
    tp_json_text(w, "name", dump->process.name);
    tp_json_text(w, "exe", dump->exe ? dump->exe : "");
    tp_json_begin(w, "command", '[');
    size_t at = 0;
    while (at < dump->n_command_bytes) {
        tp_json_text(w, NULL, dump->command + at);
        at += strlen(dump->command + at) + 1;
    }
    tp_json_end(w);
    tp_json_text(w, "host", dump->process.host);
    tp_json_text(w, "start_time", tp_human_date(date, dump->process.start_unix_ns));
    tp_json_seconds(w, "duration_seconds", profile->duration_ns);
    write_inherited(w, &dump->process);
    tp_json_end(w);
}

static void write_totals(
    struct tp_writer *w, const struct tp_totals *totals, const struct tp_sites *sites)
{
    tp_json_begin(w, "totals", '{');
    tp_json_uint(w, "allocations", totals->allocations);
    tp_json_uint(w, "frees", totals->frees);
    tp_json_int(w, "live_blocks", totals->live_blocks);
    tp_json_uint(w, "requested_bytes", totals->requested_bytes);
    tp_json_uint(w, "allocated_bytes", totals->allocated_bytes);
    tp_json_uint(w, "freed_bytes", totals->freed_bytes);
    tp_json_int(w, "live_bytes", totals->live_bytes);
    tp_json_int(w, "peak_bytes", totals->peak_bytes);
    if (sites->mode == TP_SAMPLING_EXACT)
        tp_json_int(w, "live_requested_bytes", sites->live_requested_bytes);
    tp_json_int(w, "peak_bytes_low", totals->peak_low);
    tp_json_int(w, "peak_bytes_high", totals->peak_high);
    tp_json_bool(w, "peak_exact", totals->peak_exact);
    tp_json_seconds(w, "peak_seconds", totals->peak_ns);
    tp_json_end(w);
}

static void write_calls(struct tp_writer *w, const struct tp_calls *calls)
{
    static const char *const names[TP_ENTRIES] = {
        [TP_ENTRY_MALLOC] = "malloc",
        [TP_ENTRY_CALLOC] = "calloc",
        [TP_ENTRY_REALLOC] = "realloc",
        [TP_ENTRY_REALLOCARRAY] = "reallocarray",
        [TP_ENTRY_ALIGNED_ALLOC] = "aligned_alloc",
        [TP_ENTRY_POSIX_MEMALIGN] = "posix_memalign",
        [TP_ENTRY_MEMALIGN] = "memalign",
        [TP_ENTRY_VALLOC] = "valloc",
        [TP_ENTRY_PVALLOC] = "pvalloc",
    };
    tp_json_begin(w, "calls", '{');
    for (size_t e = 0; e < TP_ENTRIES; e++)
        tp_json_uint(w, names[e], calls->entries[e]);
    tp_json_uint(w, "free", calls->free);
    tp_json_uint(w, "realloc_in_place", calls->realloc_in_place);
    tp_json_uint(w, "realloc_moved", calls->realloc_moved);
    tp_json_uint(w, "failed", calls->failed);
    tp_json_end(w);
}

/* The keys that a size class and `large` share. */
static void write_class_keys(struct tp_writer *w, const struct tp_class *class)
{
    tp_json_uint(w, "allocations", class->allocations);
    tp_json_uint(w, "frees", class->frees);
    tp_json_int(w, "live_blocks", class->live_blocks);
    tp_json_int(w, "live_bytes", class->live_bytes);
    tp_json_uint(w, "requested_bytes", class->requested_bytes);
    tp_json_uint(w, "slabs", class->slabs);
    tp_json_uint(w, "slab_bytes", class->slab_bytes);
}

static void write_classes(struct tp_writer *w, const struct tp_profile *profile)
{
    tp_json_begin(w, "size_classes", '[');
    for (size_t i = 0; i < profile->n_classes; i++) {
        tp_json_begin(w, NULL, '{');
        tp_json_uint(w, "size_bytes", profile->classes[i].size_bytes);
        write_class_keys(w, &profile->classes[i]);
        tp_json_end(w);
    }
    tp_json_end(w);
    tp_json_begin(w, "large", '{');
    write_class_keys(w, &profile->large);
    tp_json_end(w);
}

static void write_threads(struct tp_writer *w, const struct tp_profile *profile)
{
    tp_json_begin(w, "threads", '[');
    for (size_t i = 0; i < profile->n_threads; i++) {
        const struct tp_thread *thread = &profile->threads[i];
        tp_json_begin(w, NULL, '{');
        tp_json_uint(w, "tid", thread->tid);
        tp_json_text(w, "name", thread->name);
        tp_json_bool(w, "running", thread->running);
        tp_json_uint(w, "allocations", thread->sums.allocations);
        tp_json_uint(w, "frees", thread->sums.frees);
        tp_json_uint(w, "requested_bytes", thread->sums.requested_bytes);
        tp_json_uint(w, "allocated_bytes", thread->sums.allocated_bytes);
        tp_json_uint(w, "freed_bytes", thread->sums.freed_bytes);
        tp_json_uint(w, "remote_frees", thread->sums.remote_frees);
        tp_json_end(w);
    }
    tp_json_end(w);
}

static void write_latency(struct tp_writer *w, const struct tp_profile *profile)
{
    tp_json_begin(w, "latency", '[');
    for (size_t i = 0; i < profile->n_latency; i++) {
        const struct tp_latency *latency = &profile->latency[i];
        tp_json_begin(w, NULL, '{');
        tp_json_text(w, "operation", latency->operation);
        tp_json_uint(w, "count", latency->count);
        tp_json_uint(w, "total_ns", latency->total_ns);
        tp_json_uint(w, "average_ns", latency->average_ns);
        tp_json_uint(w, "min_ns", latency->min_ns);
        tp_json_uint(w, "p50_ns", latency->p50_ns);
        tp_json_uint(w, "p99_ns", latency->p99_ns);
        tp_json_uint(w, "p999_ns", latency->p999_ns);
        tp_json_uint(w, "max_ns", latency->max_ns);
        tp_json_rate(w, "per_second", latency->per_second);
        tp_json_end(w);
    }
    tp_json_end(w);
}

static void write_rest(struct tp_writer *w, const struct tp_profile *profile)
{
    tp_json_begin(w, "coverage", '{');
    tp_json_text(w, "allocator", profile->inert ? "inert" : "active");
    tp_json_begin(w, "reasons", '[');
    for (size_t i = 0; i < profile->n_coverage_reasons; i++)
        tp_json_text(w, NULL, profile->coverage_reasons[i]);
    tp_json_end(w);
    tp_json_uint(w, "foreign_frees", profile->foreign_frees);
    tp_json_uint(w, "deepbind_stripped", profile->deepbind_stripped);
    tp_json_uint(w, "namespaces", profile->namespaces);
    tp_json_end(w);
    tp_json_begin(w, "self", '{');
    tp_json_uint(w, "memory_bytes", profile->self_bytes);
    tp_json_uint(w, "cpu_ns", profile->self_cpu_ns);
    tp_json_uint(w, "live_file_bytes", profile->live_file_bytes);
    tp_json_end(w);
}

/* `symbols`: NULL when functions are to have no names. */
static void write_profile(
    struct tp_writer *w, const struct tp_profile *profile, struct tp_symbols *symbols)
{
    struct tp_sites sites;
    struct tp_error error;
    // Without memory there is no whole report: the caller learns it when he finishes.
    if (!tp_sites_build(&sites, profile, "the recording", &error)) w->error = ENOMEM;
    if (symbols && !tp_who_name(symbols, profile->dump, &error)) w->error = ENOMEM;
    tp_json_begin(w, NULL, '{');
    write_dump(w, profile);
    write_process(w, profile);
    write_totals(w, &profile->totals, &sites);
    write_calls(w, &profile->calls);
    write_classes(w, profile);
    write_threads(w, profile);
    tp_json_begin(w, "memory", '{');
    tp_json_uint(w, "rss_bytes", profile->dump->rss_bytes);
    tp_json_uint(w, "rss_peak_bytes", profile->dump->rss_peak_bytes);
    tp_json_end(w);
    write_latency(w, profile);
    tp_json_sites(w, profile, symbols, &sites);
    write_rest(w, profile);
    tp_json_end(w);
    tp_sites_fini(&sites);
}

/* ---- all processes together ------------------------------------------------------ */

static void write_work(struct tp_writer *w, const struct tp_work *work)
{
    tp_json_uint(w, "allocations", work->allocations);
    tp_json_uint(w, "frees", work->frees);
    tp_json_int(w, "live_blocks", work->live_blocks);
    tp_json_uint(w, "requested_bytes", work->requested_bytes);
    tp_json_uint(w, "allocated_bytes", work->allocated_bytes);
    tp_json_uint(w, "freed_bytes", work->freed_bytes);
    tp_json_int(w, "live_bytes", work->live_bytes);
    tp_json_int(w, "peak_bytes", work->peak_bytes);
}

static void write_node(
    struct tp_writer *w, const struct tp_report *report, size_t index)
{
    const struct tp_node *nodes = report->tree.nodes;
    const struct tp_node *node = &nodes[index];
    size_t last = node->first + node->n_profiles - 1;
    tp_json_begin(w, NULL, '{');
    tp_json_uint(w, "pid", node->pid);
    tp_json_text(w, "name", report->profiles[last].dump->process.name);
    tp_json_text(w, "reason", report->profiles[last].reason);
    tp_json_seconds(w, "duration_seconds", node->duration_ns);
    if (node->parent != TP_NO_NODE) tp_json_uint(w, "parent", node->parent);
    tp_json_begin(w, "children", '[');
    size_t end = index + 1 + node->n_below;
    for (size_t i = index + 1; i < end; i += 1 + nodes[i].n_below)
        tp_json_uint(w, NULL, i);
    tp_json_end(w);
    tp_json_begin(w, "recordings", '[');
    for (size_t i = node->first; i <= last; i++) tp_json_uint(w, NULL, i);
    tp_json_end(w);
    write_work(w, &node->own);
    tp_json_end(w);
}

static void write_tree(struct tp_writer *w, const struct tp_report *report)
{
    const struct tp_tree *tree = &report->tree;
    tp_json_begin(w, "sum", '{');
    tp_json_uint(w, "processes", tree->n_nodes);
    write_work(w, &tree->sum);
    tp_json_end(w);
    tp_json_begin(w, "programs", '[');
    for (size_t i = 0; i < tree->n_programs; i++) {
        tp_json_begin(w, NULL, '{');
        tp_json_text(w, "name", tree->programs[i].name);
        tp_json_text(w, "exe", tree->programs[i].exe);
        tp_json_uint(w, "processes", tree->programs[i].processes);
        write_work(w, &tree->programs[i].sum);
        tp_json_end(w);
    }
    tp_json_end(w);
    tp_json_begin(w, "tree", '[');
    for (size_t i = 0; i < tree->n_nodes; i++) write_node(w, report, i);
    tp_json_end(w);
}

void tp_json_write(struct tp_writer *writer, const struct tp_report *report)
{
    tp_json_begin(writer, NULL, '{');
    tp_json_text(writer, "schema", "tidepool.report/1");
    tp_json_text(writer, "version", tp_report_version());
    tp_json_begin(writer, "recordings", '[');
    const struct tp_view *view = tp_report_view(report);
    struct tp_symbols *symbols =
        view->no_symbols ? NULL : tp_symbols_open(&view->symbols);
    for (size_t i = 0; i < report->n_profiles; i++)
        write_profile(writer, &report->profiles[i], symbols);
    tp_symbols_close(symbols);
    tp_json_end(writer);
    write_tree(writer, report);
    tp_json_end(writer);
}
