/* SPDX-License-Identifier: MIT */
/*
 * fuzz_load.c - any bytes at all go through the reader, the model and both emitters.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
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
    use(&recording);
    tp_recording_fini(&recording);
    return 0;
}
