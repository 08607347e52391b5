/* SPDX-License-Identifier: MIT */
/*
 * fuzz_load.c - any bytes at all go through the reader, the model and both emitters.
 *
 * What was read keeps what records.c promises; a live file that was read can be frozen,
 * and what comes out can be read.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report/emit.h"
#include "report/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every dump is in one process, every process in the tree once, below its parent. */
static void check_tree(const struct tp_report *report)
{
    const struct tp_tree *tree = &report->tree;
    size_t n = 0;
    for (size_t i = 0; i < tree->n_nodes; i++) {
        const struct tp_node *node = &tree->nodes[i];
        if (node->first != n || node->n_profiles == 0) abort();
        n += node->n_profiles;
        if (i + node->n_below >= tree->n_nodes) abort();
        if (node->parent == TP_NO_NODE) continue;
        const struct tp_node *parent = &tree->nodes[node->parent];
        if (node->parent >= i || i > node->parent + parent->n_below) abort();
        if (node->depth != parent->depth + 1) abort();
    }
    if (n != report->n_profiles) abort();
}

/* What report/model.h and records.c say of a dump that was read. */
static void check_records(const struct tp_dump *dump)
{
    for (size_t i = 0; i < dump->n_modules; i++) {
        const struct tp_module_record *module = &dump->modules[i];
        if (!memchr(module->path, 0, TP_FORMAT_PATH)) abort();
        if (module->build_id_bytes > TP_FORMAT_BUILD_ID) abort();
    }
    for (size_t i = 0; i < dump->n_nodes; i++)
        if ((i ? dump->nodes[i].parent >= i : dump->nodes[i].parent) ||
            dump->nodes[i].module > dump->n_modules)
            abort();
    for (size_t i = 0; i < dump->n_sites; i++) {
        const struct tp_site_record *site = &dump->sites[i];
        if (!site->used) continue;
        if (i == 0 || (site->node && site->node >= dump->n_nodes)) abort();
        if (site->class != TP_FORMAT_LARGE && site->class >= dump->n_classes) abort();
        if (!(site->taken.block_variance >= 0) || !(site->freed.byte_variance >= 0))
            abort();
    }
    for (size_t i = 0; i < dump->n_samples; i++)
        if (dump->samples[i].site >= dump->n_sites ||
            !dump->sites[dump->samples[i].site].used)
            abort();
    for (size_t i = 0; i < dump->n_points; i++)
        if (dump->points[i].ticks <= (i ? dump->points[i - 1].ticks : 0)) abort();
}

/* Lays a live file out as a dump, which must have what the live file had. */
static void freeze(const uint8_t *data, size_t size, const struct tp_dump *dump)
{
    struct tp_image live = { .bytes = (unsigned char *)(uintptr_t)data,
        .n_bytes = size };
    struct tp_image image;
    struct tp_recording frozen;
    struct tp_error error;
    if (dump->header.state != TP_FILE_LIVE) return;
    if (!tp_image_layout(&image, &live, dump, &error)) abort();
    if (!tp_recording_parse(&frozen, image.bytes, image.n_bytes, "frozen", &error))
        abort();
    const struct tp_dump *again = &frozen.dumps[0];
    if (frozen.n_dumps != 1 || again->n_sites != dump->n_sites ||
        again->n_nodes != dump->n_nodes || again->n_modules != dump->n_modules ||
        again->n_samples != dump->n_samples || again->n_points != dump->n_points)
        abort();
    tp_recording_fini(&frozen);
    tp_image_fini(&image);
}

/* Builds every profile and writes it both ways into nothing. */
static void use(struct tp_recording *recording)
{
    static int nowhere = -1;
    struct tp_writer writer;
    struct tp_error error;
    struct tp_report report = { .recordings = recording };
    if (nowhere < 0) nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    report.profiles = calloc(recording->n_dumps, sizeof(report.profiles[0]));
    if (!report.profiles) abort();
    for (size_t i = 0; i < recording->n_dumps; i++) {
        struct tp_profile *profile = &report.profiles[report.n_profiles];
        if (!tp_profile_build(profile, &recording->dumps[i], "input", &error)) continue;
        const struct tp_totals *totals = &profile->totals;
        if (totals->peak_low > totals->peak_bytes ||
            totals->peak_bytes > totals->peak_high)
            abort();
        report.n_profiles++;
    }
    if (!tp_tree_build(&report, &error)) abort();
    check_tree(&report);
    tp_writer_init(&writer, nowhere);
    if (report.n_profiles) tp_text_write(&writer, &report);
    tp_json_write(&writer, &report);
    (void)tp_writer_finish(&writer, "nowhere", &error);
    for (size_t i = 0; i < report.n_profiles; i++) tp_profile_fini(&report.profiles[i]);
    tp_tree_fini(&report.tree);
    free(report.profiles);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tp_recording recording;
    struct tp_error error;
    if (!tp_recording_parse(&recording, data, size, "input", &error)) {
        if (!error.text[0]) abort();
        return 0;
    }
    for (size_t i = 0; i < recording.n_dumps; i++) check_records(&recording.dumps[i]);
    freeze(data, size, &recording.dumps[0]);
    use(&recording);
    tp_recording_fini(&recording);
    return 0;
}
