/* SPDX-License-Identifier: MIT */
/*
 * ls.c - `tidepool ls [FOLDER...]`: who runs under the library, what was left behind,
 * and, with --clean, away with it.
 *
 * The listing is made of a survey that is over before anything is written or removed;
 * what goes by itself is what an earlier listing has shown.
 */
#include "report/emit.h"
#include "report/listing.h"
#include "report/survey.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPTION_FORMAT = 256,
    OPTION_COLOUR,
    OPTION_CLEAN,
    OPTION_FORCE,
    OPTION_OLDER,
    OPTION_KEEP
};

struct wishes {
    const char *const *folders;
    size_t n_folders;
    const char *output;
    const char *colour;
    const char *limit;  // an option that means nothing without --clean
    bool format_named;
    bool json;
    bool quiet;
    bool clean;
    struct tp_clean_wishes cleaning;
};

static void take_format(
    struct wishes *wishes, const char *value, const struct argp_state *state)
{
    wishes->format_named = true;
    wishes->json = strcmp(value, "json") == 0;
    if (!wishes->json && strcmp(value, "text") != 0)
        argp_error(state, "unknown format '%s'; there are text and json", value);
}

static void take_colour(
    struct wishes *wishes, const char *value, const struct argp_state *state)
{
    wishes->colour = value;
    if (strcmp(value, "auto") != 0 && strcmp(value, "always") != 0 &&
        strcmp(value, "never") != 0)
        argp_error(state, "--color takes auto, always or never");
}

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
        take_format(wishes, value, state);
        return 0;
    case OPTION_COLOUR:
        take_colour(wishes, value, state);
        return 0;
    case OPTION_CLEAN:
        wishes->clean = true;
        return 0;
    case OPTION_FORCE:
        wishes->limit = "--force";
        wishes->cleaning.force = true;
        return 0;
    case OPTION_OLDER:
        wishes->limit = "--older";
        if (!tp_human_parse_time(&wishes->cleaning.older_ns, value))
            argp_error(state, "--older takes a time such as 90s, 30m, 12h or 7d");
        return 0;
    case OPTION_KEEP:
        wishes->limit = "--keep";
        if (!tp_human_parse_size(&wishes->cleaning.keep_bytes, value))
            argp_error(state, "--keep takes a size such as 500k, 64m or 1g");
        return 0;
    case ARGP_KEY_ARGS:
        wishes->folders = (const char *const *)state->argv + state->next;
        wishes->n_folders = (size_t)(state->argc - state->next);
        return 0;
    case ARGP_KEY_END:
        if (wishes->limit && !wishes->clean)
            argp_error(state, "%s goes with --clean", wishes->limit);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static bool write_listing(const struct wishes *wishes, const struct tp_listing *listing,
    struct tp_error *error)
{
    struct tp_writer writer;
    if (!tp_writer_open(&writer, wishes->output, wishes->colour, error)) return false;
    if (wishes->json)
        tp_listing_json(&writer, listing);
    else
        tp_listing_text(&writer, listing);
    return tp_writer_close(&writer, wishes->output, error);
}

static bool list(const struct wishes *wishes, struct tp_error *error)
{
    struct tp_survey survey;
    struct tp_cleaned cleaned;
    struct tp_listing listing = {
        .survey = &survey,
        .cleaned = &cleaned,
        .folders = wishes->folders,
        .n_folders = wishes->n_folders,
        .asked = wishes->clean,
    };
    if (!tp_survey_read(&survey, wishes->folders, wishes->n_folders, error))
        return false;
    memset(&cleaned, 0, sizeof(cleaned));
    if (wishes->clean)
        tp_clean_asked(&cleaned, &survey, &wishes->cleaning);
    else if (!wishes->quiet)  // what goes by itself is told
        tp_clean_offered(&cleaned, &survey);
    bool good = wishes->quiet || write_listing(wishes, &listing, error);
    // Only what somebody was shown has been offered.
    if (good && !wishes->quiet) tp_clean_offer(&survey);
    if (good && cleaned.problem[0]) good = tp_error_set(error, "%s", cleaned.problem);
    tp_survey_fini(&survey);
    return good;
}

int tp_ls_main(int argc, char **argv, struct tp_error *error)
{
    static const struct argp_option options[] = {
        { "clean", OPTION_CLEAN, NULL, 0,
            "delete the live files that killed processes left behind", 0 },
        { "force", OPTION_FORCE, NULL, 0,
            "with --clean: also folders of runs whose dumps were not packed", 0 },
        { "older", OPTION_OLDER, "AGE", 0,
            "with --clean: only what ended at least AGE ago (30m, 12h, 7d)", 0 },
        { "keep", OPTION_KEEP, "SIZE", 0,
            "with --clean: the oldest first, until no more than SIZE is left", 0 },
        { "format", OPTION_FORMAT, "FORMAT", 0,
            "text or json; by default what the name after -o ends in, else text", 0 },
        { "output", 'o', "FILE", 0, "write to FILE; - is the standard output", 0 },
        { "color", OPTION_COLOUR, "WHEN", 0,
            "auto, always or never; NO_COLOR in the environment is obeyed", 0 },
        { "quiet", 'q', NULL, 0, "write nothing", 0 },
        { 0 },
    };
    static const struct argp argp = {
        .options = options,
        .parser = take_option,
        .args_doc = "[FOLDER...]",
        .doc =
            "Lists the processes that run under Tidepool, and the live files and "
            "folders that killed ones left behind.\v"
            "Without FOLDER: all processes, and $XDG_RUNTIME_DIR, /dev/shm and /tmp. "
            "With it: only what is in these folders. What was listed once goes by "
            "itself after 7 days, or beyond 256 MiB.",
    };
    struct wishes wishes = { .colour = "auto" };
    if (!tp_arguments_parse(&argp, argc, argv, 0, &wishes)) return TP_EXIT_TROUBLE;
    const struct tp_emitter *by_name =
        wishes.output ? tp_emitter_for_path(wishes.output) : NULL;
    if (!wishes.format_named && by_name)
        wishes.json = strcmp(by_name->name, "json") == 0;
    return list(&wishes, error) ? TP_EXIT_DONE : TP_EXIT_TROUBLE;
}
