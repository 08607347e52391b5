/* SPDX-License-Identifier: MIT */
/*
 * format_folded.c - one line a stack: root;caller;leaf and a figure.
 *
 * The format of flame graphs: no units, no files, no lines. What has one name in all
 * frames is one line. The last space of a line stands before the number, and ; parts the
 * names, so a ; in a name becomes a comma. Only what is more than 0 has a line.
 */
#include "report/export.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct folding {
    const struct tp_export *export;
    struct tp_intern names;
    struct tp_sums sums;  // by names, root first
};

static uint32_t name_of(struct folding *folding, const struct tp_place *place)
{
    char *name = tp_export_clean(place->function);
    if (!name) return TP_INTERN_NONE;
    for (char *at = name; *at; at++)
        if (*at == ';') *at = ',';
    uint32_t number = tp_intern_text(&folding->names, name);
    free(name);
    return number;
}

static bool fold(void *argument, size_t who, const struct tp_site *site,
    const int64_t values[TP_VALUES])
{
    struct folding *folding = argument;
    const struct tp_place *places[TP_EXPORT_PLACES];
    uint32_t list[TP_EXPORT_PLACES];
    size_t n = tp_export_places(places, &folding->export->whos[who], site);
    for (size_t i = 0; i < n; i++) {
        uint32_t name = name_of(folding, places[n - 1 - i]);
        if (name == TP_INTERN_NONE) return false;
        list[i] = name;
    }
    return tp_sums_add(&folding->sums, list, n, values);
}

void tp_folded_write(struct tp_writer *writer, const struct tp_export *export)
{
    struct folding folding = { .export = export };
    enum tp_value value = tp_export_value(export->view);
    uint32_t *order = NULL;
    if (tp_export_sites(export, fold, &folding))
        order = tp_sums_order(&folding.sums, value);
    if (!order) writer->error = ENOMEM;
    for (uint32_t i = 0; order && i < folding.sums.keys.n_items; i++) {
        size_t n = 0;
        const uint32_t *list = tp_sums_list(&folding.sums, order[i], &n);
        int64_t figure = folding.sums.values[order[i]][value];
        if (figure <= 0) break;
        for (size_t k = 0; k < n; k++) {
            if (k > 0) tp_write_text(writer, ";");
            tp_write_text(writer, tp_intern_at(&folding.names, list[k], NULL));
        }
        tp_write_format(writer, " %lld\n", (long long)figure);
    }
    free(order);
    tp_sums_fini(&folding.sums);
    tp_intern_fini(&folding.names);
}
