/* SPDX-License-Identifier: MIT */
/*
 * choose.c - what was asked for, and of which process the call sites are shown.
 */
#include "report/emit.h"
#include "report/frames.h"

#include <stdlib.h>
#include <string.h>

static void patterns_fini(struct tp_patterns *patterns)
{
    for (size_t i = 0; i < patterns->n; i++) regfree(&patterns->list[i]);
    free(patterns->list);
    patterns->list = NULL;
    patterns->n = 0;
}

void tp_view_init(struct tp_view *view)
{
    memset(view, 0, sizeof(*view));
    view->figure = TP_FIGURE_NONE;
}

void tp_view_fini(struct tp_view *view)
{
    patterns_fini(&view->hide);
    patterns_fini(&view->focus);
    patterns_fini(&view->ignore);
}

static const struct tp_view overview = { .figure = TP_FIGURE_NONE };

const struct tp_view *tp_report_view(const struct tp_report *report)
{
    return report->view ? report->view : &overview;
}

/* Temporary blocks are known only when sites are built: allocations stand for them. */
static double figure_of(const struct tp_profile *profile, enum tp_figure figure)
{
    const struct tp_totals *totals = &profile->totals;
    switch (figure) {
    case TP_FIGURE_LIVE:
        return (double)totals->live_bytes;
    case TP_FIGURE_ALLOCATED:
        return (double)totals->allocated_bytes;
    case TP_FIGURE_COUNT:
    case TP_FIGURE_TEMPORARY:
        return (double)totals->allocations;
    case TP_FIGURE_PEAK:
    default:
        return (double)totals->peak_bytes;
    }
}

/* What has call sites goes before what has none, whatever its figures. */
static bool is_more(const struct tp_profile *profile, const struct tp_profile *best,
    enum tp_figure figure)
{
    bool has = profile->dump->sampling.mode != TP_SAMPLING_OFF;
    bool best_has = best->dump->sampling.mode != TP_SAMPLING_OFF;
    if (has != best_has) return has;
    return figure_of(profile, figure) > figure_of(best, figure);
}

const struct tp_profile *tp_report_choose(
    const struct tp_report *report, const struct tp_view *view)
{
    const struct tp_profile *best = NULL;
    for (size_t i = 0; i < report->n_profiles; i++) {
        const struct tp_profile *profile = &report->profiles[i];
        if (!profile->counts) continue;
        if (view->pid && profile->dump->process.pid != view->pid) continue;
        if (!best || is_more(profile, best, view->figure)) best = profile;
    }
    return best;
}

const struct tp_node *tp_report_node(
    const struct tp_report *report, const struct tp_profile *profile)
{
    size_t i = (size_t)(profile - report->profiles);
    const struct tp_node *node = report->tree.nodes;
    while (i < node->first || i >= node->first + node->n_profiles) node++;
    return node;
}
