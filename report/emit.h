/* SPDX-License-Identifier: MIT */
/*
 * emit.h - how a profile leaves the tool: the writer, and the formats in a table.
 *
 * Idea: every output goes through one buffered writer whose failure is sticky, so an
 * emitter writes all it has and the caller asks once, at the end. An emitter is a row
 * in a table: adding a format is one file and one line.
 *
 *     struct tp_writer writer;
 *     tp_writer_init(&writer, fd);
 *     emitter->write(&writer, &report);
 *     if (!tp_writer_finish(&writer, "x.json", error)) ...
 *
 * Holds always:
 *   - nothing that a program chose (a name, a path, an argument) reaches a terminal
 *     with control bytes in it, or a JSON text with bytes that are not UTF-8;
 *   - no emitter prints a comma: the JSON calls know where they stand;
 *   - numbers look the same in every locale.
 *
 * Knows nothing of: the format of a recording.
 */
#ifndef TP_REPORT_EMIT_H
#define TP_REPORT_EMIT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "report/pack.h"
#include "report/report.h"

struct tp_report;
struct tp_profile;

enum {
    TP_WRITER_BYTES = 8192,
    TP_JSON_DEPTH = 8,
    TP_HUMAN_BYTES = 32,  // room for any text of the tp_human calls
};

struct tp_writer {
    int fd;
    int error;     // errno of the first write that failed; nothing is written after it
    bool colour;   // escape sequences are welcome
    bool unicode;  // so are characters outside ASCII
    struct tp_pack *pack;  // compresses what is sent; NULL: it goes as it is
    size_t used;
    unsigned depth;  // of open JSON containers
    struct {
        char kind;   // '{' or '['
        bool begun;  // it holds something
    } open[TP_JSON_DEPTH];
    char buffer[TP_WRITER_BYTES];
};

/* Begins to write to `fd`, which stays the caller's; plain ASCII without colour. */
void tp_writer_init(struct tp_writer *writer, int fd);

/*
 * Decides colour and unicode from the output, the locale's name and the environment.
 * `when` is auto, always or never; NO_COLOR is obeyed unless it is always.
 */
void tp_writer_adorn(struct tp_writer *writer, const char *when);

/* From now on, and until it is finished, what is written is compressed. */
void tp_writer_pack(struct tp_writer *writer, enum tp_packing packing);

/* Sends what is left. Fails: false when any write has failed; `name` is the output's. */
bool tp_writer_finish(
    struct tp_writer *writer, const char *name, struct tp_error *error);

/*
 * The same for an output that the user named: NULL and "-" are the standard output, any
 * other a file that is made or cut. Close it when open has said true.
 */
bool tp_writer_open(struct tp_writer *writer, const char *output, const char *colour,
    struct tp_error *error);
bool tp_writer_close(
    struct tp_writer *writer, const char *output, struct tp_error *error);

void tp_write_bytes(struct tp_writer *writer, const char *bytes, size_t n);
void tp_write_text(struct tp_writer *writer, const char *text);
void tp_write_format(struct tp_writer *writer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Writes `text`, cut or padded to `width` columns, with '?' for what is unprintable. */
void tp_write_column(struct tp_writer *writer, const char *text, size_t width);

/* The same for text without a width: at most `limit` columns, "..." when cut. */
void tp_write_clean(struct tp_writer *writer, const char *text, size_t limit);

/* How many bytes of a well-formed UTF-8 character begin `text`; 0 when none does. */
size_t tp_utf8_length(const char *text);

/* ---- human.c: numbers for people ------------------------------------------------ */

/* "1,234,567"; "45.6 MiB"; "1.23 us" of nanoseconds; "99.6k" of a rate. */
const char *tp_human_count(char out[TP_HUMAN_BYTES], int64_t count);
const char *tp_human_size(char out[TP_HUMAN_BYTES], int64_t bytes);
const char *tp_human_time(char out[TP_HUMAN_BYTES], uint64_t ns);
const char *tp_human_rate(char out[TP_HUMAN_BYTES], double per_second);

/* "2026-11-22T11:26:46.123Z", or the empty text for 0. */
const char *tp_human_date(char out[TP_HUMAN_BYTES], uint64_t unix_ns);

/* "12 s", "5 min", "3 h", "4 d": how long ago something was. */
const char *tp_human_age(char out[TP_HUMAN_BYTES], uint64_t ns);

/*
 * The way back, as in TIDEPOOL: sizes with k, m or g (1024), times with ms, s, m, h or
 * d, and a plain number of bytes or seconds. False for anything else.
 */
bool tp_human_parse_size(uint64_t *out_bytes, const char *text);
bool tp_human_parse_time(uint64_t *out_ns, const char *text);
/* ---- columns.c: what the pages of text share -------------------------------------- */

#define TP_BOLD "\033[1m"
#define TP_DIM "\033[2m"
#define TP_BLUE "\033[34m"
#define TP_YELLOW "\033[33m"

enum { TP_PAGE_WIDTH = 99 };  // columns; no line is longer

/* Begins and ends a colour, if colour is welcome. */
void tp_paint(struct tp_writer *w, const char *code);
void tp_unpaint(struct tp_writer *w);

/*
 * The title of a table with the names of its columns on the same line; before a heading
 * is an empty line: a section begins.
 */
void tp_write_title(struct tp_writer *w, const char *title, const char *columns);
void tp_write_heading(struct tp_writer *w, const char *title, const char *columns);

/*
 * Figures in `width` columns; a unit has columns of its own: "1.5 KiB", "12 B  ",
 * "1.23 us", "12.0 s ". A count that would not fit is shortened.
 */
void tp_write_size(struct tp_writer *w, int64_t bytes, int width);
void tp_write_time(struct tp_writer *w, uint64_t ns, int width);
void tp_write_count(struct tp_writer *w, uint64_t count, int width);

/* A bar for `part` of `whole`; at least a sliver when there is anything. */
void tp_write_bar(struct tp_writer *w, double part, double whole);

/* Ends a line whose last column may be padded. */
void tp_end_line(struct tp_writer *w);

/* ---- JSON: `key` is NULL for an element of an array ------------------------------- */

void tp_json_begin(struct tp_writer *writer, const char *key, char kind);
void tp_json_end(struct tp_writer *writer);
void tp_json_uint(struct tp_writer *writer, const char *key, uint64_t value);
void tp_json_int(struct tp_writer *writer, const char *key, int64_t value);
void tp_json_bool(struct tp_writer *writer, const char *key, bool value);
void tp_json_text(struct tp_writer *writer, const char *key, const char *value);

/* Nanoseconds as seconds with six decimals; a rate with three. */
void tp_json_seconds(struct tp_writer *writer, const char *key, uint64_t ns);
void tp_json_rate(struct tp_writer *writer, const char *key, double value);

/* ---- formats ---------------------------------------------------------------------- */

struct tp_export;

struct tp_emitter {
    const char *name;         // as in --format
    const char *extensions;   // of a file that -o names; a word each, without the dot
    const char *help;         // what it is, for the list in --help
    enum tp_packing packing;  // what its readers expect, whatever the name ends in
    // One of the two: all there is, or the call sites of the processes asked for.
    void (*write)(struct tp_writer *writer, const struct tp_report *report);
    void (*write_sites)(struct tp_writer *writer, const struct tp_export *export);
    // What the format cannot say; NULL: nothing. False with a line for the user.
    bool (*accepts)(const struct tp_report *report, struct tp_error *error);
};

/* The emitter of that name, or NULL. */
const struct tp_emitter *tp_emitter_find(const char *name);

/* Those of the table, one after another; NULL behind the last. */
const struct tp_emitter *tp_emitter_at(size_t i);

/*
 * The emitter that has the longest of the extensions that `path` ends in, or NULL; a .gz
 * or .zst behind it does not count where it is no part of the extension.
 */
const struct tp_emitter *tp_emitter_for_path(const char *path);

/* How the output is compressed: as the format wants it, else as its name says. */
enum tp_packing tp_emitter_packing(const struct tp_emitter *emitter, const char *path);

/* The names of all formats, "a, b or c". */
enum { TP_EMITTER_NAMES = 200 };
const char *tp_emitter_names(char out[TP_EMITTER_NAMES]);

/* Writes the report, whatever the format needs of it. */
void tp_emitter_write(const struct tp_emitter *emitter, struct tp_writer *writer,
    const struct tp_report *report);

/* Of call sites; what is in them and how it is told stands in the head of each file. */
void tp_pprof_write(struct tp_writer *writer, const struct tp_export *export);
void tp_folded_write(struct tp_writer *writer, const struct tp_export *export);
void tp_speedscope_write(struct tp_writer *writer, const struct tp_export *export);
void tp_heap_write(struct tp_writer *writer, const struct tp_export *export);
void tp_csv_write(struct tp_writer *writer, const struct tp_export *export);
void tp_heaptrack_write(struct tp_writer *writer, const struct tp_export *export);

bool tp_heaptrack_accepts(const struct tp_report *report, struct tp_error *error);

/* All of them need a report whose tree was built; text needs at least one profile. */
void tp_text_write(struct tp_writer *writer, const struct tp_report *report);
void tp_json_write(struct tp_writer *writer, const struct tp_report *report);

/* The part of the text that is about all processes together (tree_text.c). */
void tp_tree_write(struct tp_writer *writer, const struct tp_report *report);
/* ---- coverage.c: what was not seen -------------------------------------------------- */

/* Rows for the head of the text page; none where there is nothing to tell. */
void tp_coverage_write(struct tp_writer *writer, const struct tp_profile *profile);

/* ---- who.c, text_*.c: who allocates ------------------- */

struct tp_dump;
struct tp_view;
struct tp_sites;
struct tp_stacks;
struct tp_symbols;

/* The sites of one profile, with names, and how they are to be shown. */
struct tp_who {
    const struct tp_profile *profile;
    const struct tp_view *view;
    struct tp_sites *sites;
    struct tp_symbols *symbols;  // NULL: addresses only
    struct tp_stacks *stacks;
    size_t columns;  // of a page
};

/* How the report is to be shown; where nobody has said, an overview. */
const struct tp_view *tp_report_view(const struct tp_report *report);

/*
 * The last dump of the process that the view names, else of the one that has most of the
 * view's figure. NULL: there is no process of that number.
 */
const struct tp_profile *tp_report_choose(
    const struct tp_report *report, const struct tp_view *view);

/* The process that a profile is of. */
const struct tp_node *tp_report_node(
    const struct tp_report *report, const struct tp_profile *profile);

/*
 * Works out the sites of a profile and looks up their names. The view must outlive it.
 * Fails: false, with nothing open; what has no sites at all is no failure.
 */
bool tp_who_open(struct tp_who *out_who, const struct tp_profile *profile,
    const struct tp_view *view, struct tp_error *error);
void tp_who_close(struct tp_who *who);

/* Looks up the names of every frame of the dump. Fails: without memory. */
bool tp_who_name(
    struct tp_symbols *symbols, const struct tp_dump *dump, struct tp_error *error);

/* Columns that a page to this output may have: the terminal's, or 80. */
size_t tp_page_columns(const struct tp_writer *w);

/* The sections of the text page: lists by call site, or the tree that the view asks for. */
void tp_who_write(struct tp_writer *w, const struct tp_who *who);

/* The parts of that: a list by one figure; a tree of callers. */
void tp_sites_write(struct tp_writer *w, const struct tp_who *who, int figure);
void tp_paths_write(struct tp_writer *w, const struct tp_who *who, int figure);

/* What they share. */
struct tp_step;
struct tp_sum;
struct tp_groups;

/* What the shares are shares of: the exact total, where there is one. */
int64_t tp_who_whole(const struct tp_profile *profile, int figure);

void tp_write_who_heading(struct tp_writer *w, const struct tp_who *who, int figure);

/* What the view's patterns have left out, if there are any. */
void tp_write_filter(
    struct tp_writer *w, const struct tp_who *who, const struct tp_groups *groups);

/* A value, its interval, its share; returns the column behind them. */
size_t tp_write_estimate(struct tp_writer *w, const struct tp_who *who,
    const struct tp_sum *sum, int figure);

size_t tp_estimate_columns(const struct tp_who *who);

/* A function and its place in the source, to the end of the line; "" is no colour. */
void tp_write_step(struct tp_writer *w, const struct tp_who *who,
    const struct tp_step *step, size_t column, const char *colour);

/* Three lines: who held most at the peak, or holds most now. For a summary. */
void tp_sites_write_briefly(struct tp_writer *w, const struct tp_who *who);

/* Live and resident bytes over the run, and how busy it was. */
void tp_time_write(struct tp_writer *w, const struct tp_profile *profile);

/*
 * Writes `text` in at most `limit` columns; when it is longer its middle is left out. 0
 * is no limit. Returns the columns written.
 */
size_t tp_write_middle(struct tp_writer *w, const char *text, size_t limit);

/* "name (file.c:12)" for a sentence; ASCII, and at most 72 columns. */
enum { TP_PLACE_WORDS = 80 };
struct tp_place;
const char *tp_human_place(char out[TP_PLACE_WORDS], const struct tp_place *place);

/* "±3 %", "exact", or "<5.6 MiB" where the figure may well be any lower one. */
struct tp_estimate;
const char *tp_human_interval(char out[TP_HUMAN_BYTES],
    const struct tp_estimate *estimate, bool bytes, bool unicode);

/* ---- hints.c: what to look at first ------------------------------------------------ */

enum { TP_HINTS = 4, TP_HINT_BYTES = 200 };

/*
 * Fills at most TP_HINTS sentences, the gravest first, and returns how many. `who` may be
 * NULL: then nothing is said of call sites.
 */
size_t tp_hints_build(char hints[TP_HINTS][TP_HINT_BYTES],
    const struct tp_profile *profile, const struct tp_who *who);

#endif
