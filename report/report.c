/* SPDX-License-Identifier: MIT */
/*
 * report.c - `tidepool report [FILE|PID|FOLDER...]`: recordings in the format asked for.
 */
#include "report/emit.h"
#include "report/model.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_FORMAT = 256, OPTION_COLOUR };

struct wishes {
    const char *const *inputs;
    size_t n_inputs;
    const char *output;
    const struct tp_emitter *format;
    const char *colour;
    bool quiet;
};

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
    case OPTION_FORMAT:
        wishes->format = tp_emitter_find(value);
        if (!wishes->format)
            argp_error(state, "unknown format '%s'; there are text and json", value);
        return 0;
    case OPTION_COLOUR:
        wishes->colour = value;
        if (strcmp(value, "auto") != 0 && strcmp(value, "always") != 0 &&
            strcmp(value, "never") != 0)
            argp_error(state, "--color takes auto, always or never");
        return 0;
    case ARGP_KEY_ARGS:
        wishes->inputs = (const char *const *)state->argv + state->next;
        wishes->n_inputs = (size_t)(state->argc - state->next);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static bool write_report(
    const struct wishes *wishes, const struct tp_report *report, struct tp_error *error)
{
    struct tp_writer writer;
    if (!tp_writer_open(&writer, wishes->output, wishes->colour, error)) return false;
    wishes->format->write(&writer, report);
    return tp_writer_close(&writer, wishes->output, error);
}

int tp_report_main(int argc, char **argv, struct tp_error *error)
{
    static const struct argp_option options[] = {
        { "format", OPTION_FORMAT, "FORMAT", 0,
            "text or json; by default what the name after -o ends in, else text", 0 },
        { "output", 'o', "FILE", 0, "write to FILE; - is the standard output", 0 },
        { "color", OPTION_COLOUR, "WHEN", 0,
            "auto, always or never; NO_COLOR in the environment is obeyed", 0 },
        { "quiet", 'q', NULL, 0, "write nothing, only judge the input", 0 },
        { 0 },
    };
    static const struct argp argp = {
        .options = options,
        .parser = take_option,
        .args_doc = "[FILE|PID|FOLDER...]",
        .doc = "Shows what recordings, or running processes, have allocated.\v"
               "Without FILE: the newest recording (*.tide) in this folder. A FOLDER "
               "stands for every recording and live file in it.",
    };
    struct wishes wishes = { .colour = "auto" };
    if (argp_parse(&argp, argc, argv, 0, NULL, &wishes) != 0) return TP_EXIT_TROUBLE;
    if (!wishes.format && wishes.output)
        wishes.format = tp_emitter_for_path(wishes.output);
    if (!wishes.format) wishes.format = tp_emitter_find("text");

    struct tp_report report;
    if (!tp_report_open(&report, wishes.inputs, wishes.n_inputs, error))
        return TP_EXIT_TROUBLE;
    if (report.note[0] && !wishes.quiet) fprintf(stderr, "tidepool: %s\n", report.note);
    bool good = wishes.quiet || write_report(&wishes, &report, error);
    tp_report_fini(&report);
    return good ? TP_EXIT_DONE : TP_EXIT_TROUBLE;
}
