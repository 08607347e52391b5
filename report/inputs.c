/* SPDX-License-Identifier: MIT */
/*
 * inputs.c - from what the user named to figures: open, load, build.
 *
 * A folder is as many inputs as it holds recordings and live files. What of it cannot be
 * read is told in a note, not an error: it is what a run that was cut off left behind.
 */
#include "report/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "report/survey.h"

/* Makes room for one more recording and returns it, or NULL. */
static struct tp_recording *next_recording(
    struct tp_report *report, struct tp_error *error)
{
    size_t n = report->n_recordings + 1;
    struct tp_recording *grown =
        realloc(report->recordings, n * sizeof(report->recordings[0]));
    if (!grown) {
        tp_error_set(error, "out of memory");
        return NULL;
    }
    report->recordings = grown;
    return &grown[n - 1];
}

/*
 * Adds the profiles of the last recording; `path` is what messages call it. A dump whose
 * figures cannot be true is left out with a note, unless there is no other.
 */
static bool add_profiles(
    struct tp_report *report, const char *path, struct tp_error *error)
{
    const struct tp_recording *recording = &report->recordings[report->n_recordings++];
    size_t n = report->n_profiles + recording->n_dumps;
    struct tp_profile *grown =
        realloc(report->profiles, n * sizeof(report->profiles[0]));
    if (!grown) return tp_error_set(error, "out of memory");
    report->profiles = grown;
    size_t n_good = 0;
    for (size_t i = 0; i < recording->n_dumps; i++) {
        struct tp_profile *profile = &report->profiles[report->n_profiles];
        if (!tp_profile_build(profile, &recording->dumps[i], path, error)) continue;
        report->n_profiles++;
        n_good++;
    }
    if (n_good == 0) return false;
    if (n_good == recording->n_dumps) return true;
    snprintf(report->note, sizeof(report->note), "left out %zu of %zu dumps: %.400s",
        recording->n_dumps - n_good, recording->n_dumps, error->text);
    error->text[0] = '\0';
    return true;
}

/* Adds a file, or the live file of a process. */
static bool add_source(
    struct tp_report *report, const char *name, struct tp_error *error)
{
    struct tp_source source;
    struct tp_recording *recording = next_recording(report, error);
    if (!recording || !tp_source_open(&source, name, error)) return false;
    bool good = tp_recording_load(recording, &source, error) &&
        add_profiles(report, source.path, error);
    if (good && name) tp_source_note(report->note, &source, name);
    tp_source_close(&source);
    return good;
}

static bool add_folder(
    struct tp_report *report, const char *path, struct tp_error *error)
{
    struct tp_folder folder;
    if (!tp_folder_read(&folder, path, error)) return false;
    bool good = true;
    for (size_t i = 0; good && i < folder.n_images; i++) {
        struct tp_recording *recording = next_recording(report, error);
        good = recording &&
            tp_recording_parse(recording, folder.images[i].bytes,
                folder.images[i].n_bytes, path, error) &&
            add_profiles(report, path, error);
    }
    if (good && folder.n_damaged)
        snprintf(report->note, sizeof(report->note),
            "%zu file%s in %s cannot be read, or only in part", folder.n_damaged,
            folder.n_damaged == 1 ? "" : "s", path);
    tp_folder_fini(&folder);
    return good;
}

static bool add_input(
    struct tp_report *report, const char *name, struct tp_error *error)
{
    struct stat status;
    bool folder = name && stat(name, &status) == 0 && S_ISDIR(status.st_mode);
    return folder ? add_folder(report, name, error) : add_source(report, name, error);
}

bool tp_report_open(struct tp_report *out_report, const char *const *names,
    size_t n_names, struct tp_error *error)
{
    memset(out_report, 0, sizeof(*out_report));
    size_t n = n_names ? n_names : 1;
    bool good = true;
    for (size_t i = 0; good && i < n; i++)
        good = add_input(out_report, n_names ? names[i] : NULL, error);
    good = good && tp_tree_build(out_report, error);
    if (!good) tp_report_fini(out_report);
    return good;
}

void tp_report_fini(struct tp_report *report)
{
    for (size_t i = 0; i < report->n_profiles; i++)
        tp_profile_fini(&report->profiles[i]);
    for (size_t i = 0; i < report->n_recordings; i++)
        tp_recording_fini(&report->recordings[i]);
    tp_tree_fini(&report->tree);
    free(report->profiles);
    free(report->recordings);
    memset(report, 0, sizeof(*report));
}
