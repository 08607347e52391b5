/* SPDX-License-Identifier: MIT */
/*
 * run.c - `tidepool run COMMAND`: start, wait, gather, summarise.
 *
 * The program's own output stays its own: all that this command says goes to the
 * standard error, after the program has ended.
 */
#include "report/run.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "report/emit.h"
#include "report/model.h"

enum { OPTION_COLOUR = 256, OPTION_FOLLOW, OPTION_NO_FOLLOW };

struct wishes {
    const char *out;
    const char *sample;
    const char *signal;
    const char *depth;
    const char *unwind;
    const char *follow;
    const char *colour;
    bool quiet;
    char **argv;
};

static error_t take_option(int key, char *value, struct argp_state *state)
{
    struct wishes *wishes = state->input;
    switch (key) {
    case 's':
        wishes->sample = value;
        return 0;
    case 'o':
        wishes->out = value;
        return 0;
    case 'S':
        wishes->signal = value;
        return 0;
    case 'd':
        wishes->depth = value;
        return 0;
    case 'u':
        wishes->unwind = value;
        return 0;
    case 'q':
        wishes->quiet = true;
        return 0;
    case OPTION_FOLLOW:
        wishes->follow = "on";
        return 0;
    case OPTION_NO_FOLLOW:
        wishes->follow = "off";
        return 0;
    case OPTION_COLOUR:
        wishes->colour = value;
        if (strcmp(value, "auto") != 0 && strcmp(value, "always") != 0 &&
            strcmp(value, "never") != 0)
            argp_error(state, "--color takes auto, always or never");
        return 0;
    case ARGP_KEY_ARGS:
        wishes->argv = state->argv + state->next;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which program? Give its command line");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- before --------------------------------------------------------------------------- */

/* Makes a private folder, in memory if possible. The caller frees *out_folder. */
static bool make_folder(char **out_folder, struct tp_error *error)
{
    static const char *const places[] = { "/dev/shm/tidepool-run.XXXXXX",
        "/tmp/tidepool-run.XXXXXX" };
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        char *folder = strdup(places[i]);
        if (folder && mkdtemp(folder)) {
            *out_folder = folder;
            return true;
        }
        free(folder);
    }
    return tp_error_set(
        error, "cannot make a folder in /dev/shm or /tmp: %s", strerror(errno));
}

static void add_key(FILE *to, const char *name, const char *value)
{
    char *escaped = value ? tp_launch_escape(value) : NULL;
    if (escaped) fprintf(to, "%s=%s,", name, escaped);
    free(escaped);
}

/* The keys for TIDEPOOL; the folder is one of ours and needs no escape. */
static bool make_keys(char **out_keys, const struct wishes *wishes, const char *folder)
{
    size_t size = 0;
    FILE *to = open_memstream(out_keys, &size);
    if (!to) return false;
    add_key(to, "sample", wishes->sample);
    add_key(to, "signal", wishes->signal);
    add_key(to, "depth", wishes->depth);
    add_key(to, "unwind", wishes->unwind);
    add_key(to, "follow", wishes->follow);
    fprintf(to, "live=%s,out=%s/%%e.%%p.tide", folder, folder);
    return fclose(to) == 0;
}

/* Says what will not be covered; false when the program must run alone. */
static bool judge_target(const struct wishes *wishes)
{
    char note[TP_TARGET_NOTE];
    char *path = tp_target_find(wishes->argv[0]);
    enum tp_target judged = path ? tp_target_judge(note, path) : TP_TARGET_GOOD;
    if (judged != TP_TARGET_GOOD) fprintf(stderr, "tidepool: %s\n", note);
    free(path);
    return judged != TP_TARGET_ALONE;
}

/* ---- after ---------------------------------------------------------------------------- */

static void summarise(const struct wishes *wishes, const char *path)
{
    struct tp_report report;
    struct tp_error error;
    if (!tp_report_open(&report, &path, 1, &error)) {
        fprintf(stderr, "tidepool: %s\n", error.text);
        return;
    }
    struct tp_writer writer;
    fflush(stderr);
    tp_writer_init(&writer, STDERR_FILENO);
    tp_writer_adorn(&writer, wishes->colour);
    tp_write_text(&writer, "\n");
    tp_text_write(&writer, &report);
    tp_write_format(&writer, "\nnext:  tidepool report %s\n", path);
    tp_writer_finish(&writer, "the summary", &error);
    tp_report_fini(&report);
}

/* Says what is missing from the recording, a line each. */
static void tell_gaps(
    const struct tp_gathered *gathered, const char *folder, bool started)
{
    if (gathered->n_damaged)
        fprintf(stderr, "tidepool: %zu file%s of this run could not be read\n",
            gathered->n_damaged, gathered->n_damaged == 1 ? "" : "s");
    if (gathered->n_running)
        fprintf(stderr, "tidepool: %zu process%s of this run go on; see %s\n",
            gathered->n_running, gathered->n_running == 1 ? "" : "es", folder);
    if (gathered->n_images == 0 && started)
        fputs("tidepool: no recording: no process of this run loaded the library\n",
            stderr);
}

/* Makes the recording and the summary. */
static bool finish(const struct wishes *wishes, const struct tp_launch *launch,
    const char *folder, bool started, struct tp_error *error)
{
    struct tp_gathered gathered;
    if (!tp_gather_read(&gathered, folder, launch->out_pid, error)) return false;
    const char *slash = strrchr(launch->argv[0], '/');
    struct tp_output_words words = {
        .program = slash ? slash + 1 : launch->argv[0],
        .pid = launch->out_pid,
        .unix_time = (uint64_t)time(NULL),
    };
    char *wanted = NULL;
    char *path = NULL;
    tell_gaps(&gathered, folder, started);
    bool good = gathered.n_images == 0 ||
        (tp_output_expand(&wanted, wishes->out, &words, error) &&
            tp_output_place(&path, wanted, gathered.images, gathered.n_images, error));
    if (path && !wishes->quiet) summarise(wishes, path);
    tp_gather_clean(&gathered, folder);
    tp_gather_fini(&gathered);
    free(wanted);
    free(path);
    return good;
}

static int run(const struct wishes *wishes, struct tp_error *error)
{
    char *library = NULL;
    char *folder = NULL;
    char *keys = NULL;
    int status = TP_EXIT_RUN_FAILED;
    if (!tp_launch_library(&library, error)) goto done;
    if (!make_folder(&folder, error)) goto done;
    if (!make_keys(&keys, wishes, folder)) {
        tp_error_set(error, "out of memory");
        goto done;
    }
    struct tp_launch launch = { .library = judge_target(wishes) ? library : NULL,
        .keys = keys,
        .argv = wishes->argv };
    status = tp_launch_run(&launch, error);
    bool started = error->text[0] == '\0';
    // A recording that cannot be written must not hide how the program ended.
    (void)finish(wishes, &launch, folder, started, error);
done:
    free(keys);
    free(folder);
    free(library);
    return status;
}

int tp_run_main(int argc, char **argv, struct tp_error *error)
{
    static const struct argp_option options[] = {
        { "sample", 's', "SIZE", 0, "mean bytes between stack samples; off; all", 0 },
        { "out", 'o', "FILE", 0,
            "name of the recording, with %e %p %h %n %t; default tidepool.%e.%p.tide",
            0 },
        { "signal", 'S', "SIGNAL", 0, "dump on this signal; off", 0 },
        { "follow", OPTION_FOLLOW, NULL, 0, "cover programs that the program starts",
            0 },
        { "no-follow", OPTION_NO_FOLLOW, NULL, 0, "do not", 0 },
        { "depth", 'd', "N", 0, "frames kept per stack (1-256)", 0 },
        { "unwind", 'u', "HOW", 0, "auto, fp or dwarf", 0 },
        { "color", OPTION_COLOUR, "WHEN", 0,
            "colour in the summary: auto, always, never", 0 },
        { "quiet", 'q', NULL, 0, "no summary", 0 },
        { 0 },
    };
    static const struct argp argp = {
        .options = options,
        .parser = take_option,
        .args_doc = "[--] COMMAND [ARGUMENT...]",
        .doc =
            "Runs COMMAND under Tidepool, makes one recording of it and the processes "
            "it starts, and shows a summary on the standard error.\v"
            "The exit status is COMMAND's, 128+n when signal n ended it, 125 when "
            "Tidepool failed, 126 when COMMAND cannot be executed, 127 when it is not "
            "found.",
    };
    struct wishes wishes = { .out = "tidepool.%e.%p.tide", .colour = "auto" };
    argp_err_exit_status = TP_EXIT_RUN_FAILED;
    if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &wishes) != 0)
        return TP_EXIT_RUN_FAILED;
    return run(&wishes, error);
}
