/* SPDX-License-Identifier: MIT */
/*
 * report.c - `tidepool report [FILE|PID|FOLDER...]`: recordings in the format asked for.
 */
#include "report/emit.h"
#include "report/export.h"
#include "report/frames.h"
#include "report/model.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    OPTION_FORMAT = 256,
    OPTION_COLOUR,
    OPTION_SORT,
    OPTION_TOP,
    OPTION_FULL,
    OPTION_TREE,
    OPTION_CALLERS,
    OPTION_FOCUS,
    OPTION_IGNORE,
    OPTION_HIDE,
    OPTION_PID,
    OPTION_NO_SYMBOLS,
    OPTION_DEBUGINFOD,
    OPTION_NO_CACHE,
    OPTION_MERGE,
    OPTION_TYPES,
};

struct wishes {
    const char *const *inputs;
    size_t n_inputs;
    const char *output;
    const struct tp_emitter *format;
    const char *colour;
    bool quiet;
    struct tp_view view;
    struct tp_error *error;
};

/* A number from 1 on. */
static bool parse_number(uint64_t *out, const char *text, uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    *out = number;
    return *text >= '0' && *text <= '9' && !*end && !errno && number && number <= most;
}

static void take_way(struct tp_view *view, const char *way, struct argp_state *state)
{
    if (!way || strcmp(way, "roots") == 0)
        view->paths = TP_PATHS_ROOTS;
    else if (strcmp(way, "callers") == 0)
        view->paths = TP_PATHS_CALLERS;
    else
        argp_error(state, "--tree takes roots or callers");
}

/* The words of --types, as bits of the view. */
static void take_types(
    struct tp_view *view, const char *words, struct argp_state *state)
{
    while (*words) {
        size_t n = strcspn(words, ",");
        if (n == 4 && memcmp(words, "peak", n) == 0)
            view->types |= 1U << TP_FIGURE_PEAK;
        else if (n == 9 && memcmp(words, "temporary", n) == 0)
            view->types |= 1U << TP_FIGURE_TEMPORARY;
        else
            argp_error(state, "--types takes peak, temporary or both with a comma");
        words += n + (words[n] == ',');
    }
}

/* Which call sites to show and how. */
static error_t take_view_option(int key, char *value, struct argp_state *state)
{
    struct wishes *wishes = state->input;
    struct tp_view *view = &wishes->view;
    struct tp_error *error = wishes->error;
    uint64_t number = 0;
    switch (key) {
    case OPTION_SORT:
        view->figure = tp_figure_find(value);
        if (view->figure == TP_FIGURE_NONE)
            argp_error(state, "--sort takes peak, live, allocated, count or temporary");
        return 0;
    case OPTION_TOP:
        if (!parse_number(&number, value, UINT32_MAX))
            argp_error(state, "--top takes a number from 1 on");
        view->top = number;
        return 0;
    case OPTION_PID:
        if (!parse_number(&number, value, UINT32_MAX))
            argp_error(state, "--pid takes the number of a process");
        view->pid = (uint32_t)number;
        return 0;
    case OPTION_FULL:
        view->full = true;
        return 0;
    case OPTION_MERGE:
        view->merge = true;
        return 0;
    case OPTION_TYPES:
        take_types(view, value, state);
        return 0;
    case OPTION_TREE:
        take_way(view, value, state);
        return 0;
    case OPTION_CALLERS:
        view->paths = TP_PATHS_CALLERS;
        return 0;
    case OPTION_FOCUS:
        return tp_patterns_add(&view->focus, "focus", value, error) ? 0 : EINVAL;
    case OPTION_IGNORE:
        return tp_patterns_add(&view->ignore, "ignore", value, error) ? 0 : EINVAL;
    case OPTION_HIDE:
        return tp_patterns_add(&view->hide, "hide", value, error) ? 0 : EINVAL;
    case OPTION_NO_SYMBOLS:
        view->no_symbols = true;
        return 0;
    case OPTION_DEBUGINFOD:
        view->symbols.debuginfod = true;
        return 0;
    case OPTION_NO_CACHE:
        view->symbols.no_cache = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t take_option(int key, char *value, struct argp_state *state)
{
    struct wishes *wishes = state->input;
    char names[TP_EMITTER_NAMES];
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
            argp_error(state, "unknown format '%s'; it is one of %s", value,
                tp_emitter_names(names));
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
        return take_view_option(key, value, state);
    }
}

/* What is left of a file after a failure is of no use, and its end would not show it. */
static void remove_rest(const char *output)
{
    struct stat status;
    if (output && lstat(output, &status) == 0 && S_ISREG(status.st_mode))
        unlink(output);
}

static bool write_report(
    const struct wishes *wishes, const struct tp_report *report, struct tp_error *error)
{
    struct tp_writer writer;
    const struct tp_emitter *format = wishes->format;
    const char *output = wishes->output;
    if (output && strcmp(output, "-") == 0) output = NULL;
    enum tp_packing packing = tp_emitter_packing(format, output);
    if (format->accepts && !format->accepts(report, error)) return false;
    if (packing && !output && isatty(STDOUT_FILENO))
        return tp_error_set(
            error, "%s is not for terminals: name a file with -o", format->name);
    if (!tp_writer_open(&writer, output, wishes->colour, error)) return false;
    tp_writer_pack(&writer, packing);
    tp_emitter_write(format, &writer, report);
    if (tp_writer_close(&writer, output, error)) return true;
    remove_rest(output);
    return false;
}

/* Says whose call sites are written where there are more and nobody has chosen. */
static void tell_choice(const struct wishes *wishes, const struct tp_report *report)
{
    const struct tp_view *view = &wishes->view;
    size_t n = 0;
    if (!wishes->format->write_sites || view->pid || view->merge) return;
    for (size_t i = 0; i < report->n_profiles; i++) n += report->profiles[i].counts;
    if (n < 2) return;
    const struct tp_process_record *process =
        &tp_report_choose(report, view)->dump->process;
    char *name = tp_export_clean(process->name);
    fprintf(stderr,
        "tidepool: of %zu programs this is %s, process %u; --pid chooses another, "
        "--merge takes all together\n",
        n, name ? name : "", process->pid);
    free(name);
}

/* Reads the input and shows it. */
static bool show(struct wishes *wishes, struct tp_error *error)
{
    struct tp_report report;
    if (!wishes->format && wishes->output)
        wishes->format = tp_emitter_for_path(wishes->output);
    if (!wishes->format) wishes->format = tp_emitter_find("text");
    wishes->view.symbols.quiet = wishes->quiet;
    if (!tp_report_open(&report, wishes->inputs, wishes->n_inputs, error)) return false;
    report.view = &wishes->view;
    if (report.note[0] && !wishes->quiet)
        fprintf(stderr, "tidepool: %s\n", report.note);
    bool good = tp_report_choose(&report, &wishes->view) != NULL ||
        tp_error_set(error,
            "there is no process %u in the recording; without --pid "
            "the text lists them",
            wishes->view.pid);
    if (good && !wishes->quiet) {
        good = write_report(wishes, &report, error);
        if (good) tell_choice(wishes, &report);
    }
    tp_report_fini(&report);
    return good;
}

/* The end of --help: the table of formats. The caller frees it. */
static char *list_formats(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    if (!to) return NULL;
    fputs("Shows what recordings, or running processes, have allocated.\v"
          "Without FILE: the newest recording (*.tide) in this folder. A FOLDER "
          "stands for every recording and live file in it.\n\nFormats, and the ends of "
          "names that choose them:\n",
        to);
    const struct tp_emitter *emitter;
    for (size_t i = 0; (emitter = tp_emitter_at(i)); i++)
        fprintf(
            to, "  %-11s %s (%s)\n", emitter->name, emitter->help, emitter->extensions);
    fputs("A .gz or .zst behind them compresses the output.", to);
    fclose(to);
    return text;
}

int tp_report_main(int argc, char **argv, struct tp_error *error)
{
    static const struct argp_option options[] = {
        { "format", OPTION_FORMAT, "FORMAT", 0,
            "one of those below; by default what the name after -o ends in, else text",
            0 },
        { "output", 'o', "FILE", 0, "write to FILE; - is the standard output", 0 },
        { "color", OPTION_COLOUR, "WHEN", 0,
            "auto, always or never; NO_COLOR in the environment is obeyed", 0 },
        { "quiet", 'q', NULL, 0, "write nothing, only judge the input", 0 },
        { NULL, 0, NULL, 0, "Which call sites, and how:", 1 },
        { "sort", OPTION_SORT, "FIGURE", 0,
            "by peak, live, allocated, count or temporary; without it an overview", 1 },
        { "top", OPTION_TOP, "N", 0, "rows of a list, 10 by default", 1 },
        { "full", OPTION_FULL, NULL, 0,
            "every call stack whole, in a row of its own; nothing is cut", 1 },
        { "tree", OPTION_TREE, "WAY", OPTION_ARG_OPTIONAL,
            "a tree from the roots; callers: from who allocates", 1 },
        { "callers", OPTION_CALLERS, NULL, 0, "the same as --tree=callers", 1 },
        { "focus", OPTION_FOCUS, "RE", 0,
            "only stacks with a function, file or module that matches", 1 },
        { "ignore", OPTION_IGNORE, "RE", 0, "no stacks with such a one", 1 },
        { "hide", OPTION_HIDE, "RE", 0,
            "functions that only pass requests on: their caller is the site", 1 },
        { "pid", OPTION_PID, "N", 0, "of this process, where there are several", 1 },
        { "merge", OPTION_MERGE, NULL, 0,
            "of all processes together; text and JSON have each of them anyway", 1 },
        { "types", OPTION_TYPES, "LIST", 0,
            "more sample types of pprof: peak, temporary or both", 1 },
        { NULL, 0, NULL, 0, "Names of functions:", 2 },
        { "no-symbols", OPTION_NO_SYMBOLS, NULL, 0, "addresses instead of names", 2 },
        { "debuginfod", OPTION_DEBUGINFOD, NULL, 0,
            "ask the servers of $DEBUGINFOD_URLS for what is not here", 2 },
        { "no-cache", OPTION_NO_CACHE, NULL, 0,
            "neither use nor keep what was looked up before", 2 },
        { NULL, 0, NULL, 0, "Help:", -1 },
        { 0 },
    };
    char *doc = list_formats();
    const struct argp argp = {
        .options = options,
        .parser = take_option,
        .args_doc = "[FILE|PID|FOLDER...]",
        .doc = doc,
    };
    struct wishes wishes = { .colour = "auto", .error = error };
    tp_view_init(&wishes.view);
    bool good =
        tp_arguments_parse(&argp, argc, argv, 0, &wishes) && show(&wishes, error);
    tp_view_fini(&wishes.view);
    free(doc);
    return good ? TP_EXIT_DONE : TP_EXIT_TROUBLE;
}
