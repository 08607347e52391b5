/* SPDX-License-Identifier: MIT */
/*
 * who.c - from a profile to call sites with names: figures, symbols, stacks.
 */
#include "report/emit.h"
#include "report/frames.h"

#include <stdlib.h>
#include <string.h>

bool tp_who_name(
    struct tp_symbols *symbols, const struct tp_dump *dump, struct tp_error *error)
{
    if (dump->n_nodes < 2) return true;
    size_t n = dump->n_nodes - 1;  // the first is the root, no frame
    uint32_t *nodes = calloc(n, sizeof(nodes[0]));
    if (!nodes) return tp_error_set(error, "out of memory");
    for (size_t i = 0; i < n; i++) nodes[i] = (uint32_t)i + 1;
    bool good = tp_symbols_resolve(symbols, dump, nodes, n, error);
    free(nodes);
    return good;
}

static bool find_names(struct tp_who *who, struct tp_error *error)
{
    const struct tp_dump *dump = who->profile->dump;
    if (who->view->no_symbols || dump->n_nodes < 2) return true;
    who->symbols = tp_symbols_open(&who->view->symbols);
    if (!who->symbols) return tp_error_set(error, "out of memory");
    return tp_who_name(who->symbols, dump, error);
}

bool tp_who_open(struct tp_who *out_who, const struct tp_profile *profile,
    const struct tp_view *view, struct tp_error *error)
{
    memset(out_who, 0, sizeof(*out_who));
    out_who->profile = profile;
    out_who->view = view;
    if (profile->dump->sampling.mode == TP_SAMPLING_OFF) return true;
    out_who->sites = calloc(1, sizeof(*out_who->sites));
    bool good = out_who->sites || tp_error_set(error, "out of memory");
    good = good &&
        tp_sites_build(out_who->sites, profile, profile->dump->process.name, error) &&
        find_names(out_who, error);
    if (good) {
        out_who->stacks =
            tp_stacks_open(out_who->symbols, profile->dump, out_who->sites, view);
        good = out_who->stacks || tp_error_set(error, "out of memory");
    }
    if (!good) tp_who_close(out_who);
    return good;
}

void tp_who_close(struct tp_who *who)
{
    tp_stacks_close(who->stacks);
    tp_symbols_close(who->symbols);
    if (who->sites) tp_sites_fini(who->sites);
    free(who->sites);
    memset(who, 0, sizeof(*who));
}
