/* SPDX-License-Identifier: MIT */
/*
 * export.c - which sites leave for other tools, with which figures and frames.
 */
#include "report/export.h"

#include <stdlib.h>
#include <string.h>

static struct tp_estimate exact(int64_t value)
{
    return (struct tp_estimate){ value, value, value };
}

/* All of a process whose stacks were not taken. */
static struct tp_site unsampled(const struct tp_totals *totals)
{
    return (struct tp_site){
        .kind = TP_SITE_UNSAMPLED,
        .allocations = exact((int64_t)(totals->allocations & INT64_MAX)),
        .allocated_bytes = exact((int64_t)(totals->allocated_bytes & INT64_MAX)),
        .live_blocks = exact(totals->live_blocks),
        .live_bytes = exact(totals->live_bytes),
        .peak_bytes = exact(totals->peak_bytes),
    };
}

/* ---- processes ------------------------------------------------------------------------ */

bool tp_export_takes(const struct tp_report *report, const struct tp_profile *profile)
{
    const struct tp_view *view = tp_report_view(report);
    if (!view->merge) return profile == tp_report_choose(report, view);
    return profile->counts &&
        (view->pid == 0 || profile->dump->process.pid == view->pid);
}

static bool open_who(
    struct tp_export *out, struct tp_who *who, const struct tp_profile *profile)
{
    struct tp_error error;
    who->profile = profile;
    who->view = out->view;
    if (profile->dump->sampling.mode == TP_SAMPLING_OFF) return true;
    who->sites = calloc(1, sizeof(*who->sites));
    if (!who->sites) return false;
    if (!tp_sites_build(who->sites, profile, profile->dump->process.name, &error)) {
        free(who->sites);
        who->sites = NULL;
        return false;
    }
    if (!out->view->no_symbols && !out->symbols) {
        out->symbols = tp_symbols_open(&out->view->symbols);
        if (!out->symbols) return false;
    }
    if (out->symbols && !tp_who_name(out->symbols, profile->dump, &error)) return false;
    who->symbols = out->symbols;
    return true;
}

/* Only when all names are known: looking up more of them moves what was found. */
static bool open_stacks(struct tp_who *who)
{
    if (!who->sites) return true;
    who->stacks =
        tp_stacks_open(who->symbols, who->profile->dump, who->sites, who->view);
    return who->stacks != NULL;
}

bool tp_export_open(struct tp_export *out, const struct tp_report *report)
{
    memset(out, 0, sizeof(*out));
    out->view = tp_report_view(report);
    out->whos = calloc(report->n_profiles + 1, sizeof(out->whos[0]));
    out->wholes = calloc(report->n_profiles + 1, sizeof(out->wholes[0]));
    bool good = out->whos && out->wholes;
    for (size_t i = 0; good && i < report->n_profiles; i++)
        if (tp_export_takes(report, &report->profiles[i]))
            good = open_who(out, &out->whos[out->n_whos++], &report->profiles[i]);
    for (size_t i = 0; good && i < out->n_whos; i++) {
        out->wholes[i] = unsampled(&out->whos[i].profile->totals);
        good = open_stacks(&out->whos[i]);
    }
    if (!good) tp_export_close(out);
    return good;
}

void tp_export_close(struct tp_export *export)
{
    for (size_t i = 0; i < export->n_whos; i++) {
        struct tp_who *who = &export->whos[i];
        tp_stacks_close(who->stacks);
        if (who->sites) tp_sites_fini(who->sites);
        free(who->sites);
    }
    tp_symbols_close(export->symbols);
    free(export->whos);
    free(export->wholes);
    memset(export, 0, sizeof(*export));
}

/* ---- figures ---------------------------------------------------------------------------- */

int64_t tp_export_add(int64_t a, int64_t b)
{
    int64_t sum = 0;
    if (!__builtin_add_overflow(a, b, &sum)) return sum;
    return a < 0 ? INT64_MIN : INT64_MAX;
}

enum tp_value tp_export_value(const struct tp_view *view)
{
    switch (view->figure) {
    case TP_FIGURE_PEAK:
        return TP_VALUE_PEAK;
    case TP_FIGURE_ALLOCATED:
        return TP_VALUE_ALLOCATED;
    case TP_FIGURE_COUNT:
        return TP_VALUE_ALLOCATIONS;
    case TP_FIGURE_TEMPORARY:
        return TP_VALUE_TEMPORARY;
    case TP_FIGURE_LIVE:
    case TP_FIGURE_NONE:
    default:
        return TP_VALUE_LIVE;
    }
}

static bool visit_site(const struct tp_export *export, size_t i,
    const struct tp_site *site, tp_export_visit *visit, void *argument)
{
    const struct tp_who *who = &export->whos[i];
    bool wanted =
        who->stacks ? tp_stacks_wants(who->stacks, site) : export->view->focus.n == 0;
    if (!wanted) return true;
    const int64_t values[TP_VALUES] = {
        [TP_VALUE_ALLOCATIONS] = site->allocations.value,
        [TP_VALUE_ALLOCATED] = site->allocated_bytes.value,
        [TP_VALUE_LIVE_BLOCKS] = site->live_blocks.value,
        [TP_VALUE_LIVE] = site->live_bytes.value,
        [TP_VALUE_PEAK] = site->peak_bytes.value,
        [TP_VALUE_TEMPORARY] = site->temporary_blocks.value,
    };
    return visit(argument, i, site, values);
}

bool tp_export_sites(
    const struct tp_export *export, tp_export_visit *visit, void *argument)
{
    bool good = true;
    for (size_t i = 0; good && i < export->n_whos; i++) {
        const struct tp_who *who = &export->whos[i];
        const struct tp_site *list =
            who->sites ? who->sites->sites : &export->wholes[i];
        size_t n = who->sites ? who->sites->n_sites : 1;
        for (size_t k = 0; good && k < n; k++)
            good = visit_site(export, i, &list[k], visit, argument);
    }
    return good;
}

/* ---- frames ----------------------------------------------------------------------------- */

static const struct tp_place *stand_in(const struct tp_site *site)
{
    static const struct tp_place places[] = {
        { .function = "[no stack]", .file = "", .module = "" },
        { .function = "[not sampled]", .file = "", .module = "" },
    };
    return &places[site->kind == TP_SITE_UNSAMPLED];
}

static bool all_marked(const struct tp_frame *frame, unsigned mark)
{
    for (size_t i = 0; i < frame->n; i++)
        if (!(frame->places[i].marks & mark)) return false;
    return true;
}

/* Every frame, nothing left out; 0 for a site that has none. */
static size_t all_frames(struct tp_frame out[TP_EXPORT_DEPTH], const struct tp_who *who,
    const struct tp_site *site)
{
    const struct tp_dump *dump = who->profile->dump;
    size_t n = 0;
    if (!who->stacks || site->kind != TP_SITE_STACK) return 0;
    uint32_t at = site->node;
    while (at > 0 && at < dump->n_nodes && n < TP_EXPORT_DEPTH) {
        struct tp_frame frame = { .node = at };
        frame.places = tp_stacks_at(who->stacks, at, &frame.n);
        if (frame.n) out[n++] = frame;
        at = dump->nodes[at].parent < at ? dump->nodes[at].parent : 0;
    }
    return n;
}

size_t tp_export_frames(struct tp_frame out[TP_EXPORT_DEPTH], const struct tp_who *who,
    const struct tp_site *site)
{
    size_t n = all_frames(out, who, site);
    if (n == 0) {
        out[0] = (struct tp_frame){ 0, stand_in(site), 1 };
        return 1;
    }
    if (who->view->full) return n;
    while (n > 1 && all_marked(&out[n - 1], TP_PLACE_START)) n--;
    size_t inner = 0;
    while (inner + 1 < n && all_marked(&out[inner], TP_PLACE_PLUMBING)) inner++;
    memmove(out, out + inner, (n - inner) * sizeof(out[0]));
    return n - inner;
}

size_t tp_export_places(const struct tp_place *out[TP_EXPORT_PLACES],
    const struct tp_who *who, const struct tp_site *site)
{
    struct tp_frame frames[TP_EXPORT_DEPTH];
    size_t n_frames = tp_export_frames(frames, who, site);
    size_t n = 0;
    bool inner = !who->view->full;
    for (size_t i = 0; i < n_frames; i++) {
        for (size_t k = 0; k < frames[i].n && n < TP_EXPORT_PLACES; k++) {
            const struct tp_place *place = &frames[i].places[k];
            if (inner) n = 0;  // the outermost of the plumbing stays if it is alone
            inner = inner && (place->marks & TP_PLACE_PLUMBING);
            out[n++] = place;
        }
    }
    return n;
}

/* Bytes of a character that may stay: no control character, of whichever set. */
static size_t stays(const char *text)
{
    unsigned char first = (unsigned char)text[0], second = (unsigned char)text[1];
    if (first < 0x20 || first == 0x7f || (first == 0xc2 && second < 0xa0)) return 0;
    return tp_utf8_length(text);
}

char *tp_export_clean(const char *text)
{
    static const char replacement[] = "\xef\xbf\xbd";  // U+FFFD
    char *out = malloc(3 * strlen(text) + 1);
    size_t n = 0;
    while (out && *text) {
        size_t length = stays(text);
        memcpy(out + n, length ? text : replacement, length ? length : 3);
        n += length ? length : 3;
        text += length ? length : 1;
    }
    if (out) out[n] = '\0';
    return out;
}

/* ---- sums ------------------------------------------------------------------------------- */

bool tp_sums_add(struct tp_sums *sums, const uint32_t *list, size_t n,
    const int64_t values[TP_VALUES])
{
    uint32_t before = sums->keys.n_items;
    uint32_t row = tp_intern(&sums->keys, list, n * sizeof(list[0]));
    if (row == TP_INTERN_NONE) return false;
    if (row >= sums->room) {
        size_t room = sums->room ? 2 * sums->room : 256;
        int64_t(*grown)[TP_VALUES] =
            realloc(sums->values, room * sizeof(sums->values[0]));
        if (!grown) return false;
        sums->values = grown;
        sums->room = room;
    }
    if (row == before) memset(sums->values[row], 0, sizeof(sums->values[row]));
    for (int i = 0; i < TP_VALUES; i++)
        sums->values[row][i] = tp_export_add(sums->values[row][i], values[i]);
    return true;
}

const uint32_t *tp_sums_list(const struct tp_sums *sums, uint32_t row, size_t *out_n)
{
    const uint32_t *list = tp_intern_at(&sums->keys, row, out_n);
    *out_n /= sizeof(list[0]);
    return list;
}

struct ranked {
    int64_t value;
    uint32_t row;
};

static int by_value(const void *a, const void *b)
{
    const struct ranked *left = a;
    const struct ranked *right = b;
    if (left->value != right->value) return left->value > right->value ? -1 : 1;
    return left->row < right->row ? -1 : left->row > right->row;
}

uint32_t *tp_sums_order(const struct tp_sums *sums, enum tp_value value)
{
    uint32_t n = sums->keys.n_items;
    struct ranked *ranked = calloc((size_t)n + 1, sizeof(ranked[0]));
    uint32_t *order = calloc((size_t)n + 1, sizeof(order[0]));
    if (ranked && order) {
        for (uint32_t i = 0; i < n; i++)
            ranked[i] = (struct ranked){ sums->values[i][value], i };
        qsort(ranked, n, sizeof(ranked[0]), by_value);
        for (uint32_t i = 0; i < n; i++) order[i] = ranked[i].row;
    } else {
        free(order);
        order = NULL;
    }
    free(ranked);
    return order;
}

void tp_sums_fini(struct tp_sums *sums)
{
    tp_intern_fini(&sums->keys);
    free(sums->values);
    memset(sums, 0, sizeof(*sums));
}
