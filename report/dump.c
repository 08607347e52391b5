/* SPDX-License-Identifier: MIT */
/*
 * dump.c - `tidepool dump PID|FOLDER`: freezes live files into a recording.
 *
 * No signal, no ptrace, no code in the process: it works on one that is stopped, hung
 * or dead. Of a folder every dump and live file becomes part of one recording; so what
 * an interrupted `tidepool run` left is brought home.
 */
#include "report/model.h"
#include "report/run.h"
#include "report/survey.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct wishes {
    const char *input;
    const char *output;
    bool quiet;
};

// NOLINTNEXTLINE(readability-non-const-parameter): the type is argp's
static error_t take_option(int key, char *value, struct argp_state *state)
{
    struct wishes *wishes = state->input;
    switch (key) {
    case 'o':
        wishes->output = value;
        return 0;
    case 'q':
        wishes->quiet = true;
        return 0;
    case ARGP_KEY_ARG:
        if (wishes->input) argp_error(state, "one PID or FOLDER at a time");
        wishes->input = value;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which process? Give its PID");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static bool write_to_stdout(
    const struct tp_image *images, size_t n, struct tp_error *error)
{
    bool good = true;
    for (size_t i = 0; good && i < n; i++)
        good =
            fwrite(images[i].bytes, 1, images[i].n_bytes, stdout) == images[i].n_bytes;
    return (good && fflush(stdout) == 0) ||
        tp_error_set(error, "cannot write the output: %s", strerror(errno));
}

/*
 * A run's folder goes when it was packed, with all that is in it: the recording made of
 * it must not stand there.
 */
static bool may_stand(const char *wanted, const char *input, struct tp_error *error)
{
    struct stat there, here;
    char *folder = realpath(input, NULL);
    const char *name = folder ? strrchr(folder, '/') : NULL;
    char *parent = strdup(wanted);
    char *slash = parent ? strrchr(parent, '/') : NULL;
    if (slash) slash[slash == parent] = '\0';
    bool same = name && tp_run_name(name + 1) && stat(folder, &here) == 0 &&
        S_ISDIR(here.st_mode) && stat(slash ? parent : ".", &there) == 0 &&
        here.st_dev == there.st_dev && here.st_ino == there.st_ino;
    free(parent);
    free(folder);
    return !same ||
        tp_error_set(error,
            "cannot write %s: it would stand in the folder that it is made of, and go "
            "with it; name another place with -o",
            wanted);
}

/* Places the images under the name wished for, or one made of the first process's. */
static bool place(const struct wishes *wishes, const struct tp_image *images, size_t n,
    struct tp_error *error)
{
    struct tp_recording recording;
    if (!tp_recording_parse(
            &recording, images[0].bytes, images[0].n_bytes, wishes->input, error))
        return false;
    const struct tp_dump *dump = &recording.dumps[0];
    struct tp_output_words words = {
        .program = dump->process.name[0] ? dump->process.name : "process",
        .pid = dump->process.pid,
        .sequence = dump->header.sequence,
        .unix_time = dump->header.time_unix_ns / 1000000000,
    };
    const char *pattern = wishes->output ? wishes->output : "tidepool.%e.%p.tide";
    char *wanted = NULL;
    char *path = NULL;
    bool good = tp_output_expand(&wanted, pattern, &words, error) &&
        may_stand(wanted, wishes->input, error) &&
        tp_output_place(&path, wanted, images, n, error);
    if (good && !wishes->quiet && (printf("%s\n", path) < 0 || fflush(stdout) != 0))
        good = tp_error_set(error, "cannot write the output: %s", strerror(errno));
    free(path);
    free(wanted);
    tp_recording_fini(&recording);
    return good;
}

static bool write_images(const struct wishes *wishes, const struct tp_image *images,
    size_t n, struct tp_error *error)
{
    bool to_stdout = wishes->output && strcmp(wishes->output, "-") == 0;
    return to_stdout ? write_to_stdout(images, n, error)
                     : place(wishes, images, n, error);
}

static bool dump_folder(const struct wishes *wishes, struct tp_error *error)
{
    struct tp_folder folder;
    if (!tp_folder_read(&folder, wishes->input, error)) return false;
    if (folder.n_damaged)
        fprintf(stderr, "tidepool: %zu file%s in %s cannot be read, or only in part\n",
            folder.n_damaged, folder.n_damaged == 1 ? "" : "s", wishes->input);
    bool good = write_images(wishes, folder.images, folder.n_images, error);
    // What could not be packed would be removed with all the rest.
    if (good && folder.complete) tp_folder_mark_packed(wishes->input);
    tp_folder_fini(&folder);
    return good;
}

static bool dump_source(const struct wishes *wishes, struct tp_error *error)
{
    char note[TP_SOURCE_NOTE];
    struct tp_source source;
    struct tp_image image = { 0 };
    if (!tp_source_open(&source, wishes->input, error)) return false;
    if (tp_source_note(note, &source, wishes->input) && !wishes->quiet)
        fprintf(stderr, "tidepool: %s\n", note);
    bool good = tp_image_freeze(&image, &source, error) &&
        write_images(wishes, &image, 1, error);
    tp_image_fini(&image);
    tp_source_close(&source);
    return good;
}

int tp_dump_main(int argc, char **argv, struct tp_error *error)
{
    static const struct argp_option options[] = {
        { "output", 'o', "FILE", 0,
            "name of the dump, with %e %p %h %n %t as in TIDEPOOL=out; .zst "
            "is compressed; - is the standard output",
            0 },
        { "quiet", 'q', NULL, 0, "do not print the name of the dump", 0 },
        { 0 },
    };
    static const struct argp argp = {
        .options = options,
        .parser = take_option,
        .args_doc = "PID|FILE|FOLDER",
        .doc =
            "Writes a dump of a process that runs under Tidepool, or of the live file "
            "that a killed one left behind. Of a FOLDER, such as an interrupted run "
            "left behind, all dumps and live files become one recording.\vThe process is not stopped or changed. "
            "No file is overwritten: an existing name gets .1, .2, ...",
    };
    struct wishes wishes = { .input = NULL };
    if (!tp_arguments_parse(&argp, argc, argv, 0, &wishes)) return TP_EXIT_TROUBLE;

    struct stat status;
    bool folder = stat(wishes.input, &status) == 0 && S_ISDIR(status.st_mode);
    bool good = folder ? dump_folder(&wishes, error) : dump_source(&wishes, error);
    return good ? TP_EXIT_DONE : TP_EXIT_TROUBLE;
}
