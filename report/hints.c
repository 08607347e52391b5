/* SPDX-License-Identifier: MIT */
/*
 * hints.c - what to look at first, in plain words.
 *
 * Idea: a row of small judges in order of gravity. Each looks at one figure and either
 * says a sentence or nothing; the first few that speak are heard. A judge speaks only
 * when the figure is worth a person's time: both large in itself and a large share.
 *
 * Knows nothing of: terminals, formats.
 */
#include "report/emit.h"
#include "report/frames.h"
#include "report/model.h"

#include <stdio.h>
#include <string.h>

static const uint64_t mib = UINT64_C(1024) * 1024;

struct figures {
    const struct tp_profile *profile;
    const struct tp_who *who;  // NULL: nothing is known of call sites
    char a[TP_HUMAN_BYTES];
    char b[TP_HUMAN_BYTES];
    char c[TP_HUMAN_BYTES];
};

static double share(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}

/* ---- judges: each fills `out` and returns true when it has something to say --------- */

static bool judge_inert(char out[TP_HINT_BYTES], struct figures *f)
{
    if (!f->profile->inert) return false;
    const struct tp_profile *profile = f->profile;
    bool own = !profile->n_coverage_reasons ||
        strcmp(profile->coverage_reasons[0], "other_malloc") != 0;
    snprintf(out, TP_HINT_BYTES,
        "%s brings a malloc of its own and %s: nothing was counted.",
        own ? "The program" : "A library that was loaded before",
        own ? "kept it" : "serves the program");
    return true;
}

static bool judge_lost(char out[TP_HINT_BYTES], struct figures *f)
{
    if (f->profile->complete) return false;
    snprintf(out, TP_HINT_BYTES,
        "Some thread's counters could not be kept: every figure is a lower bound.");
    return true;
}

static bool judge_failed(char out[TP_HINT_BYTES], struct figures *f)
{
    uint64_t n = f->profile->calls.failed;
    if (!n) return false;
    snprintf(out, TP_HINT_BYTES,
        "%s %s refused memory: check the limits of the process and the sizes it asked for.",
        tp_human_count(f->a, (int64_t)n), n == 1 ? "call was" : "calls were");
    return true;
}

static bool judge_foreign(char out[TP_HINT_BYTES], struct figures *f)
{
    uint64_t n = f->profile->foreign_frees;
    if (!n) return false;
    snprintf(out, TP_HINT_BYTES,
        "%s %s freed that did not come from this allocator: another one is at work too.",
        tp_human_count(f->a, (int64_t)(n & INT64_MAX)),
        n == 1 ? "block was" : "blocks were");
    return true;
}

/* The class, or large, that holds most live bytes. */
static const struct tp_class *fullest(const struct tp_profile *profile)
{
    const struct tp_class *best = &profile->large;
    for (size_t i = 0; i < profile->n_classes; i++)
        if (profile->classes[i].live_bytes > best->live_bytes)
            best = &profile->classes[i];
    return best;
}

static bool judge_live(char out[TP_HINT_BYTES], struct figures *f)
{
    const struct tp_totals *totals = &f->profile->totals;
    bool at_exit = strcmp(f->profile->reason, "exit") == 0;
    if (totals->live_bytes < INT64_C(64) * 1024 ||
        (at_exit && totals->live_bytes < totals->peak_bytes / 20))
        return false;
    const struct tp_class *class = fullest(f->profile);
    double held = share((double)class->live_bytes, (double)totals->live_bytes);
    if (!at_exit && held < 50) return false;

    char kind[64] = "large blocks";
    char where[96];
    if (class->size_bytes)
        snprintf(kind, sizeof(kind), "blocks of %s",
            tp_human_size(f->c, (int64_t)(class->size_bytes & INT64_MAX)));
    if (held > 99.5)
        snprintf(where, sizeof(where), "all of it in %s", kind);
    else
        snprintf(where, sizeof(where), "%.0f %% of it in %s", held, kind);
    snprintf(out, TP_HINT_BYTES, "%s in %s %s %s, %s.",
        tp_human_size(f->a, totals->live_bytes),
        tp_human_count(f->b, totals->live_blocks),
        totals->live_blocks == 1 ? "block" : "blocks",
        at_exit ? "had not been freed at the exit" : "were live", where);
    return true;
}

static bool judge_moved(char out[TP_HINT_BYTES], struct figures *f)
{
    const struct tp_calls *calls = &f->profile->calls;
    uint64_t kept = calls->realloc_in_place;
    uint64_t moved = calls->realloc_moved;
    if (moved < 1000 || moved < kept) return false;
    snprintf(out, TP_HINT_BYTES,
        "%s of %s resizing reallocs had to move their block: growing by doubling, or asking "
        "for the final size at once, saves the copies.",
        tp_human_count(f->a, (int64_t)moved),
        tp_human_count(f->b, (int64_t)(moved + kept)));
    return true;
}

static bool judge_holes(char out[TP_HINT_BYTES], struct figures *f)
{
    double held = 0;
    double live = 0;
    for (size_t i = 0; i < f->profile->n_classes; i++) {
        held += (double)f->profile->classes[i].slab_bytes;
        live += (double)f->profile->classes[i].live_bytes;
    }
    if (held - live < 8.0 * (double)mib || live > held * 0.6 || held > 9e18)
        return false;
    snprintf(out, TP_HINT_BYTES,
        "The pools keep %s for %s of live small blocks: blocks that live long are spread "
        "among short-lived ones.",
        tp_human_size(f->a, (int64_t)held), tp_human_size(f->b, (int64_t)live));
    return true;
}

static bool judge_rounding(char out[TP_HINT_BYTES], struct figures *f)
{
    const struct tp_class *worst = NULL;
    uint64_t most = 0;
    uint64_t all = 0;
    for (size_t i = 0; i < f->profile->n_classes; i++) {
        const struct tp_class *class = &f->profile->classes[i];
        if (class->allocated_bytes <= class->requested_bytes) continue;
        uint64_t waste = class->allocated_bytes - class->requested_bytes;
        all += waste;
        if (waste <= most) continue;
        most = waste;
        worst = class;
    }
    uint64_t allocated = f->profile->totals.allocated_bytes;
    if (!worst || all < mib || share((double)all, (double)allocated) < 15) return false;
    double average = (double)worst->requested_bytes / (double)worst->allocations;
    snprintf(out, TP_HINT_BYTES,
        "%.0f %% of all bytes handed out were rounding, most in blocks of %s, where %.*f "
        "bytes were asked for on average.",
        share((double)all, (double)allocated),
        tp_human_size(f->a, (int64_t)worst->size_bytes), average < 100 ? 1 : 0,
        average);
    return true;
}

static bool judge_strangers(char out[TP_HINT_BYTES], struct figures *f)
{
    uint64_t remote = 0;
    for (size_t i = 0; i < f->profile->n_threads; i++)
        remote += f->profile->threads[i].sums.remote_frees;
    double part = share((double)remote, (double)f->profile->totals.frees);
    if (remote < 10000 || part < 20) return false;
    snprintf(out, TP_HINT_BYTES,
        "%.0f %% of the frees were made by another thread than the one that allocated.",
        part);
    return true;
}

/* The heaviest group by a figure, and its place in words; false: there is none. */
static bool find_heaviest(struct tp_group *out, char place[TP_PLACE_WORDS],
    const struct figures *f, enum tp_figure figure, bool growing)
{
    struct tp_groups groups;
    const struct tp_who *who = f->who;
    if (!who || !who->sites || !who->stacks) return false;
    if (!tp_groups_build(&groups, who->sites, who->stacks, who->view, figure))
        return false;
    size_t i = 0;
    while (growing && i < groups.n_groups &&
        !tp_group_grows(&groups.groups[i], f->profile->duration_ns))
        i++;
    bool found = i < groups.n_groups;
    if (found) {
        size_t n = 0;
        *out = groups.groups[i];
        const struct tp_step *steps = tp_stacks_of(who->stacks, out->heaviest, &n);
        found = n > 0;
        if (found) tp_human_place(place, steps[0].place);
    }
    tp_groups_fini(&groups);
    return found;
}

static bool judge_growth(char out[TP_HINT_BYTES], struct figures *f)
{
    struct tp_group group;
    char place[TP_PLACE_WORDS];
    if (!find_heaviest(&group, place, f, TP_FIGURE_LIVE, true)) return false;
    double live = (double)group.sums[TP_FIGURE_LIVE].value;
    if (live < (double)mib || share(live, (double)f->profile->totals.live_bytes) < 5)
        return false;
    double seconds = (double)group.age_ns_most / 1e9;
    snprintf(out, TP_HINT_BYTES,
        "What %s keeps has been growing all along: %s are live, %s more each minute.",
        place, tp_human_size(f->a, group.sums[TP_FIGURE_LIVE].value),
        tp_human_size(f->b, (int64_t)(live / seconds * 60)));
    return true;
}

static bool judge_temporary(char out[TP_HINT_BYTES], struct figures *f)
{
    struct tp_group group;
    char place[TP_PLACE_WORDS];
    uint64_t all = f->profile->totals.allocations;
    if (all < 100000) return false;
    if (!find_heaviest(&group, place, f, TP_FIGURE_TEMPORARY, false)) return false;
    double blocks = (double)group.sums[TP_FIGURE_TEMPORARY].value;
    if (share(blocks, (double)all) < 10) return false;
    snprintf(out, TP_HINT_BYTES,
        "%.0f %% of all allocations are of %s and are freed before their thread "
        "allocates again: a buffer that is kept would do.",
        share(blocks, (double)all), place);
    return true;
}

static bool judge_churn(char out[TP_HINT_BYTES], struct figures *f)
{
    const struct tp_totals *totals = &f->profile->totals;
    double seconds = (double)f->profile->duration_ns / 1e9;
    if (seconds <= 0 || totals->allocations < 100000) return false;
    double rate = (double)totals->allocations / seconds;
    double gone = share((double)totals->frees, (double)totals->allocations);
    if (rate < 50000 || gone < 90) return false;
    snprintf(out, TP_HINT_BYTES,
        "%s blocks a second were taken and %.1f %% of them given back: reusing buffers in "
        "the busiest loop would pay first.",
        tp_human_rate(f->a, rate), gone > 99.9 && gone < 100 ? 99.9 : gone);
    return true;
}

size_t tp_hints_build(char hints[TP_HINTS][TP_HINT_BYTES],
    const struct tp_profile *profile, const struct tp_who *who)
{
    static bool (*const judges[])(char[TP_HINT_BYTES], struct figures *) = {
        judge_inert,
        judge_lost,
        judge_failed,
        judge_foreign,
        judge_growth,
        judge_live,
        judge_moved,
        judge_holes,
        judge_rounding,
        judge_strangers,
        judge_temporary,
        judge_churn,
    };
    struct figures figures = { .profile = profile, .who = who };
    size_t n = 0;
    for (size_t i = 0; i < sizeof(judges) / sizeof(judges[0]) && n < TP_HINTS; i++)
        if (judges[i](hints[n], &figures)) n++;
    return n;
}
