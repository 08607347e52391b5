/* SPDX-License-Identifier: MIT */
/*
 * records.c - who allocates, as a file has it: only what refers to something stays.
 *
 * Idea: a dump was checked by who wrote it, so a record that refers to nothing is damage.
 * A live file may be under its writer's hands: a record half written is left out, and so
 * is what refers to it. Records keep their numbers, which others know them by; only live
 * samples and points have none.
 *
 * Holds always, in a dump that passed:
 *   - parents of nodes come before them; modules, nodes and sites that are referred to
 *     are there; node 0 has neither parent nor module;
 *   - sites[i].used is 0 or 1, and where it is 0 all else is;
 *   - samples are alive, their sites are in use; points come one after another.
 *
 * Knows nothing of: bytes, rows, what the figures mean.
 */
#include "report/model.h"

#include <math.h>
#include <string.h>

static bool all_zero(const void *record, size_t n)
{
    const unsigned char *bytes = record;
    for (size_t i = 0; i < n; i++)
        if (bytes[i]) return false;
    return true;
}

/* ---- sampling ---- */

/* Further values of an enumeration are unknown, not damage. */
static const char *check_sampling(struct tp_dump *dump, bool live)
{
    (void)live;
    if (dump->sampling.mode > TP_SAMPLING_EXACT)
        dump->sampling.mode = TP_SAMPLING_SAMPLED;
    return NULL;
}

/* ---- modules ---- */

static const char *check_modules(struct tp_dump *dump, bool live)
{
    for (size_t i = 0; i < dump->n_modules; i++) {
        struct tp_module_record *module = &dump->modules[i];
        module->path[TP_FORMAT_PATH - 1] = '\0';
        // Written last: half a record keeps its number.
        bool there = module->end != 0 && module->end >= module->start &&
            module->build_id_bytes <= TP_FORMAT_BUILD_ID;
        if (there) continue;
        if (!live && !all_zero(module, sizeof(*module)))
            return "a module cannot be as it says";
        memset(module, 0, sizeof(*module));
    }
    size_t *n = &dump->n_modules;
    while (live && *n && !dump->modules[*n - 1].end) --*n;
    return NULL;
}

/* ---- nodes ---- */

static bool is_node(const struct tp_dump *dump, size_t i)
{
    const struct tp_node_record *node = &dump->nodes[i];
    if (i == 0) return all_zero(node, sizeof(*node));
    return node->parent < i && node->module <= dump->n_modules;
}

static const char *check_nodes(struct tp_dump *dump, bool live)
{
    for (size_t i = 0; i < dump->n_nodes; i++) {
        if (is_node(dump, i)) continue;
        if (!live) return "a frame has no caller";
        memset(&dump->nodes[i], 0, sizeof(dump->nodes[i]));
    }
    size_t *n = &dump->n_nodes;
    while (live && *n && all_zero(&dump->nodes[*n - 1], sizeof(dump->nodes[0]))) --*n;
    return NULL;
}

/* ---- sites ---- */

static bool is_sum(double value)
{
    return isfinite(value) && value >= 0;
}

static bool are_sums(const struct tp_site_sums *sums)
{
    return is_sum(sums->block_variance) && is_sum(sums->byte_variance);
}

static bool is_class(const struct tp_dump *dump, uint16_t class)
{
    return class < dump->n_classes || class == TP_FORMAT_LARGE;
}

static bool is_site(const struct tp_dump *dump, size_t i)
{
    const struct tp_site_record *site = &dump->sites[i];
    // A dump whose only frame is "no frame" needs no table of nodes.
    bool has_node = site->node < dump->n_nodes || site->node == 0;
    return i > 0 && site->used == 1 && has_node && is_class(dump, site->class) &&
        are_sums(&site->taken) && are_sums(&site->freed) &&
        is_sum(site->peak_block_variance) && is_sum(site->peak_byte_variance);
}

/* In exact mode the writer does not count samples: every block is one. */
static void count_samples(struct tp_dump *dump)
{
    uint64_t all = 0;
    for (size_t i = 0; i < dump->n_sites; i++) {
        struct tp_site_record *site = &dump->sites[i];
        if (!site->used) continue;
        uint64_t blocks = site->taken.blocks / TP_FORMAT_ONE;
        all += blocks;
        // Where blocks only grew in place there was none.
        site->taken.samples = blocks ? blocks : 1;
        site->freed.samples =
            (uint64_t)((int64_t)site->freed.blocks / (int64_t)TP_FORMAT_ONE);
    }
    dump->sampling.samples = all;
}

static const char *check_sites(struct tp_dump *dump, bool live)
{
    for (size_t i = 0; i < dump->n_sites; i++) {
        struct tp_site_record *site = &dump->sites[i];
        if (site->end >= TP_STACK_ENDS) site->end = TP_STACK_NO_RULE;
        if (is_site(dump, i)) continue;
        if (!live && !all_zero(site, sizeof(*site)))
            return "a call site cannot be as it says";
        memset(site, 0, sizeof(*site));
    }
    size_t *n = &dump->n_sites;
    while (live && *n && !dump->sites[*n - 1].used) --*n;
    if (dump->sampling.mode == TP_SAMPLING_EXACT) count_samples(dump);
    return NULL;
}

/* ---- samples and points ---- */

static const char *check_samples(struct tp_dump *dump, bool live)
{
    size_t n = 0;
    for (size_t i = 0; i < dump->n_samples; i++) {
        const struct tp_sample_record *sample = &dump->samples[i];
        bool good = sample->state == 1 && sample->site < dump->n_sites &&
            dump->sites[sample->site].used;
        if (good)
            dump->samples[n++] = *sample;
        else if (!live)
            return "a live block has no call site";
    }
    dump->n_samples = n;
    return NULL;
}

/*
 * A writer that merges points leaves them in an order in which those that have become one
 * stand before some of their parts, which are older.
 */
static const char *check_points(struct tp_dump *dump, bool live)
{
    size_t n = 0;
    for (size_t i = 0; i < dump->n_points; i++) {
        const struct tp_point_record *point = &dump->points[i];
        if (point->ticks && (!n || point->ticks > dump->points[n - 1].ticks))
            dump->points[n++] = *point;
        else if (!live)
            return "the timeline goes backwards";
    }
    dump->n_points = n;
    return NULL;
}

const char *tp_dump_check_records(struct tp_dump *dump, bool live)
{
    static const char *(*const checks[])(struct tp_dump *, bool) = { check_sampling,
        check_modules, check_nodes, check_sites, check_samples, check_points };
    const char *wrong = NULL;
    for (size_t i = 0; !wrong && i < sizeof(checks) / sizeof(checks[0]); i++)
        wrong = checks[i](dump, live);
    return wrong;
}
