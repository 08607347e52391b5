/* SPDX-License-Identifier: MIT */
/*
 * format_heap.c - the one-line heap profile of gperftools, which jeprof, google-pprof and
 * go tool pprof read.
 *
 *     heap profile: 12: 3456 [78: 91011] @ heapprofile
 *     12: 3456 [78: 91011] @ 0x401136 0x7f21c3e5 ...     innermost first
 *     MAPPED_LIBRARIES:
 *     ...                                                 as /proc/PID/maps
 *
 * "heapprofile" says that the figures are whole: ours are estimates already, which a
 * reader must not scale up once more. Addresses are return addresses, of which it takes 1.
 */
#include "report/export.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* Its readers know digits only. */
static uint64_t figure(const int64_t values[TP_VALUES], enum tp_value value)
{
    return values[value] > 0 ? (uint64_t)values[value] : 0;
}

static void write_figures(struct tp_writer *w, const int64_t values[TP_VALUES])
{
    tp_write_format(w, "%6" PRIu64 ": %8" PRIu64 " [%6" PRIu64 ": %8" PRIu64 "] @",
        figure(values, TP_VALUE_LIVE_BLOCKS), figure(values, TP_VALUE_LIVE),
        figure(values, TP_VALUE_ALLOCATIONS), figure(values, TP_VALUE_ALLOCATED));
}

static void write_path(struct tp_writer *w, const struct tp_module_record *module)
{
    char path[TP_FORMAT_PATH + 1];
    char *clean = tp_export_clean(tp_module_path(path, module));
    if (!clean) w->error = ENOMEM;
    tp_write_text(w, clean && clean[0] ? clean : "[unknown]");
    free(clean);
}

static void write_maps(struct tp_writer *w, const struct tp_space *space)
{
    tp_write_text(w, "\nMAPPED_LIBRARIES:\n");
    for (size_t i = 0; i < space->n_mapped; i++) {
        const struct tp_mapped *mapped = &space->mapped[i];
        tp_write_format(w, "%08" PRIx64 "-%08" PRIx64 " r-xp 00000000 00:00 0 ",
            mapped->start, mapped->end);
        write_path(w, mapped->module);
        tp_write_text(w, "\n");
    }
}

static void write_stacks(
    struct tp_writer *w, const struct tp_sums *sums, const struct tp_space *space)
{
    int64_t all[TP_VALUES] = { 0 };
    for (uint32_t i = 0; i < sums->keys.n_items; i++)
        for (int k = 0; k < TP_VALUES; k++)
            all[k] = tp_export_add(all[k], sums->values[i][k]);
    tp_write_text(w, "heap profile: ");
    write_figures(w, all);
    tp_write_text(w, " heapprofile\n");
    for (uint32_t i = 0; i < sums->keys.n_items; i++) {
        size_t n = 0;
        const uint32_t *list = tp_sums_list(sums, i, &n);
        write_figures(w, sums->values[i]);
        for (size_t k = 0; k < n; k++)
            tp_write_format(w, " 0x%08" PRIx64, space->locations[list[k]].address + 1);
        tp_write_text(w, "\n");
    }
}

void tp_heap_write(struct tp_writer *writer, const struct tp_export *export)
{
    struct tp_space space;
    struct tp_sums sums = { 0 };
    if (!tp_space_open(&space, export)) {
        writer->error = ENOMEM;
        return;
    }
    if (tp_space_sums(&sums, &space, export)) {
        write_stacks(writer, &sums, &space);
        write_maps(writer, &space);
    } else {
        writer->error = ENOMEM;
    }
    tp_sums_fini(&sums);
    tp_space_close(&space);
}
