/* SPDX-License-Identifier: MIT */
/*
 * listing.c - what `tidepool ls` prints.
 *
 * Idea: one line a process or live file, running ones first; what a path or a command is
 * good for stands at the end, a path uncut, because it is there to be copied. Then what
 * interrupted runs left, what was removed, and the next command to type.
 */
#include "report/listing.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "report/emit.h"
#include "report/survey.h"

enum {
    WIDTH = 99,  // of the page
    FIXED = 75,  // columns before the last one
    COMMAND_SHOWN = 512,
};

static void paint(struct tp_writer *w, const char *code)
{
    if (w->colour) tp_write_text(w, code);
}

static void write_title(struct tp_writer *w, const char *title, const char *columns)
{
    paint(w, "\033[1m");
    tp_write_text(w, title);
    paint(w, "\033[0m");
    paint(w, "\033[2m");
    tp_write_text(w, columns);
    paint(w, "\033[0m");
    tp_write_text(w, "\n");
}

static uint64_t present(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static const char *state_word(const struct tp_found *found)
{
    static const char *const words[] = {
        [TP_FOUND_RUNNING] = "running",
        [TP_FOUND_STOPPED] = "stopped",
        [TP_FOUND_KILLED] = "killed",
        [TP_FOUND_EXITED] = "exited",
    };
    return words[found->state];
}

/* ---- the table ---------------------------------------------------------------------- */

/* A size in `width` columns, its unit in a column of its own; "-" when not known. */
static void write_size(struct tp_writer *w, bool known, int64_t bytes, int width)
{
    char text[TP_HUMAN_BYTES] = "-";
    if (known) tp_human_size(text, bytes);
    size_t n = strlen(text);
    bool plain = n > 2 && strcmp(text + n - 2, " B") == 0;
    tp_write_format(w, "%*s%s", plain ? width - 2 : width, text, plain ? "  " : "");
}

/* How long a process has run, or how long ago it ended. */
static void write_age(struct tp_writer *w, const struct tp_found *found, int width)
{
    char age[TP_HUMAN_BYTES];
    char text[TP_HUMAN_BYTES + 8];
    uint64_t now = present();
    bool runs = tp_found_runs(found);
    uint64_t since = runs ? found->start_unix_ns : found->end_unix_ns;
    snprintf(text, sizeof(text), "%s%s",
        since ? tp_human_age(age, now > since ? now - since : 0) : "-",
        since && !runs ? " ago" : "");
    tp_write_format(w, "%*s", width, text);
}

/* The arguments on one line. */
static void write_command(struct tp_writer *w, const struct tp_found *found)
{
    char line[COMMAND_SHOWN];
    size_t n = found->n_command_bytes;
    if (!found->command) n = 0;
    if (n > sizeof(line) - 1) n = sizeof(line) - 1;
    if (n) memcpy(line, found->command, n);
    for (size_t i = 0; i < n; i++)
        if (line[i] == '\0') line[i] = ' ';
    while (n > 0 && line[n - 1] == ' ') n--;
    line[n] = '\0';
    tp_write_clean(w, line, WIDTH - FIXED);
}

static void write_row(struct tp_writer *w, const struct tp_found *found)
{
    bool runs = tp_found_runs(found);
    if (!runs) paint(w, "\033[33m");
    tp_write_column(w, state_word(found), 8);
    if (!runs) paint(w, "\033[0m");
    tp_write_format(w, "%7u  ", found->pid);
    tp_write_column(w, found->name[0] ? found->name : "-", 15);
    write_age(w, found, 11);
    write_size(w, found->counted, found->live_bytes, 10);
    write_size(w, found->counted, found->peak_bytes, 10);
    write_size(w, found->file != NULL, (int64_t)found->file_bytes, 10);
    tp_write_text(w, "  ");
    if (runs)
        write_command(w, found);
    else
        tp_write_clean(w, found->file, COMMAND_SHOWN);
    tp_write_text(w, "\n");
}

/* Rows that are shown: after cleaning, only what is left of what was left. */
static bool is_shown(const struct tp_listing *listing, const struct tp_found *found)
{
    return !found->removed && !(listing->asked && tp_found_runs(found));
}

static size_t write_table(struct tp_writer *w, const struct tp_listing *listing)
{
    size_t n = 0;
    for (size_t i = 0; i < listing->survey->n_found; i++) {
        const struct tp_found *found = &listing->survey->found[i];
        if (!is_shown(listing, found)) continue;
        if (n == 0 && listing->asked) tp_write_text(w, "\n");
        if (n++ == 0)
            write_title(w, "STATE",
                "       PID  PROGRAM                AGE      LIVE      PEAK      FILE  "
                "COMMAND, OR FILE");
        write_row(w, found);
    }
    return n;
}

/* ---- runs ----------------------------------------------------------------------------- */

static bool is_left(const struct tp_found_run *run)
{
    return run->abandoned && !run->removed;
}

static void write_run(struct tp_writer *w, const struct tp_found_run *run)
{
    char size[TP_HUMAN_BYTES];
    tp_write_text(w, "  ");
    tp_write_clean(w, run->folder, COMMAND_SHOWN);
    tp_write_format(w, "  %zu dump%s, %zu live file%s, %s", run->n_dumps,
        run->n_dumps == 1 ? "" : "s", run->n_live, run->n_live == 1 ? "" : "s",
        tp_human_size(size, (int64_t)run->n_bytes));
    if (run->recording)
        tp_write_format(w, ", %s of its recording",
            tp_human_size(size, (int64_t)run->recording_bytes));
    if (run->packed) tp_write_text(w, ", packed");
    if (run->command) {
        tp_write_text(w, "  ");
        tp_write_clean(w, run->command, WIDTH);
    }
    tp_write_text(w, "\n");
}

static size_t write_runs(struct tp_writer *w, const struct tp_listing *listing)
{
    size_t n = 0;
    for (size_t i = 0; i < listing->survey->n_runs; i++) {
        const struct tp_found_run *run = &listing->survey->runs[i];
        if (!is_left(run)) continue;
        if (n++ == 0) {
            tp_write_text(w, "\n");
            write_title(w, "RUNS CUT OFF", "  before their recording was whole");
        }
        write_run(w, run);
    }
    return n;
}

/* ---- what was removed, and what to type next --------------------------------------------- */

static void write_removed(struct tp_writer *w, const struct tp_listing *listing)
{
    const struct tp_cleaned *cleaned = listing->cleaned;
    const struct tp_survey *survey = listing->survey;
    char line[TP_CLEAN_LINE];
    char size[TP_HUMAN_BYTES];
    bool any = cleaned->n_files > 0 || cleaned->n_runs > 0;
    if (any && !listing->asked) {
        tp_cleaned_tell(line, cleaned);
        tp_write_format(w, "%s\n\n", line);
    }
    if (!listing->asked) return;
    for (size_t i = 0; i < survey->n_found; i++) {
        if (!survey->found[i].removed) continue;
        tp_write_text(w, "removed  ");
        tp_write_clean(w, survey->found[i].file, COMMAND_SHOWN);
        tp_write_text(w, "\n");
    }
    for (size_t i = 0; i < survey->n_runs; i++) {
        if (!survey->runs[i].removed) continue;
        tp_write_text(w, "removed  ");
        tp_write_clean(w, survey->runs[i].folder, COMMAND_SHOWN);
        tp_write_text(w, "\n");
    }
    if (any) {
        tp_write_format(w, "in all   %zu live file%s", cleaned->n_files,
            cleaned->n_files == 1 ? "" : "s");
        if (cleaned->n_runs)
            tp_write_format(w, " and %zu folder%s", cleaned->n_runs,
                cleaned->n_runs == 1 ? "" : "s");
        tp_write_format(w, ", %s\n", tp_human_size(size, (int64_t)cleaned->n_bytes));
    } else {
        tp_write_text(w, "nothing to remove\n");
    }
}

static void write_next(
    struct tp_writer *w, bool *begun, const char *command, const char *argument)
{
    tp_write_text(w, *begun ? "       " : "\nnext:  ");
    *begun = true;
    tp_write_text(w, command);
    if (argument) tp_write_clean(w, argument, COMMAND_SHOWN);
    tp_write_text(w, "\n");
}

/* The words after `tidepool report` that lead to the account of a row. */
static const char *way_to(const struct tp_found *found, char pid[16])
{
    const char *folders[TP_USUAL_FOLDERS];
    size_t n = tp_usual_folders(folders);
    bool usual = tp_found_runs(found);
    for (size_t i = 0; i < n && found->folder; i++)
        usual = usual || strcmp(found->folder, folders[i]) == 0;
    snprintf(pid, 16, "%u", found->pid);
    return usual ? pid : found->file;
}

/* Proposes to remove what was left, in the folders that were looked at. */
static void propose_cleaning(
    struct tp_writer *w, const struct tp_listing *listing, bool *begun)
{
    const struct tp_survey *survey = listing->survey;
    size_t n = 0;
    for (size_t i = 0; i < survey->n_found; i++)
        n += tp_found_removable(survey, &survey->found[i]);
    for (size_t i = 0; i < survey->n_runs; i++)
        n += is_left(&survey->runs[i]) && !tp_run_holds_dumps(&survey->runs[i]);
    if (n == 0) return;
    write_next(w, begun, "tidepool ls --clean", NULL);
    w->used--;  // the folders belong to the same line
    for (size_t i = 0; i < listing->n_folders; i++) {
        tp_write_text(w, " ");
        tp_write_clean(w, listing->folders[i], COMMAND_SHOWN);
    }
    tp_write_text(w, "\n");
}

static void propose(struct tp_writer *w, const struct tp_listing *listing)
{
    const struct tp_survey *survey = listing->survey;
    bool begun = false;
    char pid[16];
    for (size_t i = 0; i < survey->n_found && !begun; i++)
        if (is_shown(listing, &survey->found[i]) && survey->found[i].counted)
            write_next(w, &begun, "tidepool report ", way_to(&survey->found[i], pid));
    for (size_t i = 0; i < survey->n_runs; i++)
        if (is_left(&survey->runs[i]) && tp_run_holds_dumps(&survey->runs[i]))
            write_next(w, &begun, "tidepool dump ", survey->runs[i].folder);
    if (!listing->asked) propose_cleaning(w, listing, &begun);
}

void tp_listing_text(struct tp_writer *writer, const struct tp_listing *listing)
{
    write_removed(writer, listing);
    size_t rows = write_table(writer, listing);
    rows += write_runs(writer, listing);
    if (rows == 0 && !listing->asked)
        tp_write_text(writer,
            "no process runs under Tidepool, and none has left anything behind\n");
    else
        propose(writer, listing);
}

/* ---- JSON --------------------------------------------------------------------------------- */

static void write_arguments(struct tp_writer *w, const struct tp_found *found)
{
    tp_json_begin(w, "command", '[');
    for (size_t at = 0; at < found->n_command_bytes;) {
        tp_json_text(w, NULL, found->command + at);
        at += strlen(found->command + at) + 1;
    }
    tp_json_end(w);
}

static void write_process(
    struct tp_writer *w, const struct tp_survey *survey, const struct tp_found *found)
{
    char date[TP_HUMAN_BYTES];
    tp_json_begin(w, NULL, '{');
    tp_json_text(w, "state", state_word(found));
    tp_json_uint(w, "pid", found->pid);
    if (found->ppid) tp_json_uint(w, "ppid", found->ppid);
    if (found->name[0]) tp_json_text(w, "name", found->name);
    if (found->command) write_arguments(w, found);
    if (found->start_unix_ns)
        tp_json_text(w, "start_time", tp_human_date(date, found->start_unix_ns));
    if (!tp_found_runs(found) && found->end_unix_ns)
        tp_json_text(w, "end_time", tp_human_date(date, found->end_unix_ns));
    if (found->counted) {
        tp_json_int(w, "live_bytes", found->live_bytes);
        tp_json_int(w, "peak_bytes", found->peak_bytes);
        tp_json_uint(w, "allocations", found->allocations);
    }
    if (found->file) {
        tp_json_text(w, "file", found->file);
        tp_json_uint(w, "file_bytes", found->file_bytes);
    }
    tp_json_bool(w, "offered", found->offered && found->orphan);
    tp_json_bool(w, "removable", tp_found_removable(survey, found));
    if (found->run != TP_NO_RUN)
        tp_json_text(w, "run", survey->runs[found->run].folder);
    tp_json_end(w);
}

static void write_run_object(struct tp_writer *w, const struct tp_found_run *run)
{
    tp_json_begin(w, NULL, '{');
    tp_json_text(w, "folder", run->folder);
    tp_json_text(w, "state", run->abandoned ? "abandoned" : "running");
    if (run->pid) tp_json_uint(w, "pid", run->pid);
    if (run->command) tp_json_text(w, "command", run->command);
    if (run->recording) {
        tp_json_text(w, "recording", run->recording);
        tp_json_uint(w, "recording_bytes", run->recording_bytes);
    }
    tp_json_uint(w, "dumps", run->n_dumps);
    tp_json_uint(w, "live_files", run->n_live);
    tp_json_uint(w, "bytes", run->n_bytes);
    tp_json_bool(w, "packed", run->packed);
    tp_json_end(w);
}

void tp_listing_json(struct tp_writer *writer, const struct tp_listing *listing)
{
    const struct tp_survey *survey = listing->survey;
    tp_json_begin(writer, NULL, '{');
    tp_json_text(writer, "schema", "tidepool.ls/1");
    tp_json_text(writer, "version", tp_report_version());
    tp_json_begin(writer, "processes", '[');
    for (size_t i = 0; i < survey->n_found; i++)
        if (!survey->found[i].removed) write_process(writer, survey, &survey->found[i]);
    tp_json_end(writer);
    tp_json_begin(writer, "runs", '[');
    for (size_t i = 0; i < survey->n_runs; i++)
        if (!survey->runs[i].removed) write_run_object(writer, &survey->runs[i]);
    tp_json_end(writer);
    tp_json_begin(writer, "removed", '[');
    for (size_t i = 0; i < survey->n_found; i++)
        if (survey->found[i].removed) tp_json_text(writer, NULL, survey->found[i].file);
    for (size_t i = 0; i < survey->n_runs; i++)
        if (survey->runs[i].removed) tp_json_text(writer, NULL, survey->runs[i].folder);
    tp_json_end(writer);
    tp_json_end(writer);
}
