/* SPDX-License-Identifier: MIT */
/*
 * write.c - the buffered writer, safe text, and JSON without commas.
 */
#include "report/emit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the buffer ------------------------------------------------------------------ */

static void send_all(struct tp_writer *writer, const char *bytes, size_t n)
{
    if (writer->pack && !writer->error && !tp_pack_write(writer->pack, bytes, n))
        writer->error = errno;
    if (writer->pack) return;
    while (n > 0 && !writer->error) {
        ssize_t sent = write(writer->fd, bytes, n);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) {
            writer->error = errno;
            return;
        }
        bytes += sent;
        n -= (size_t)sent;
    }
}

static void flush(struct tp_writer *writer)
{
    send_all(writer, writer->buffer, writer->used);
    writer->used = 0;
}

void tp_writer_init(struct tp_writer *writer, int fd)
{
    writer->fd = fd;
    writer->error = 0;
    writer->colour = false;
    writer->unicode = false;
    writer->pack = NULL;
    writer->used = 0;
    writer->depth = 0;
}

/* The name of the locale for characters, by the rules of setlocale(3). */
static const char *locale_name(void)
{
    static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *value = getenv(names[i]);
        if (value && *value) return value;
    }
    return "";
}

void tp_writer_adorn(struct tp_writer *writer, const char *when)
{
    const char *locale = locale_name();
    const char *none = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    writer->unicode = strcasestr(locale, "utf-8") || strcasestr(locale, "utf8");
    if (strcmp(when, "auto") != 0)
        writer->colour = strcmp(when, "always") == 0;
    else if (none && *none)
        writer->colour = false;
    else
        writer->colour = isatty(writer->fd) && term && strcmp(term, "dumb") != 0;
}

void tp_writer_pack(struct tp_writer *writer, enum tp_packing packing)
{
    if (packing == TP_PACKING_NONE) return;
    flush(writer);
    writer->pack = tp_pack_open(packing, writer->fd);
    if (!writer->pack && !writer->error) writer->error = ENOMEM;
}

bool tp_writer_finish(
    struct tp_writer *writer, const char *name, struct tp_error *error)
{
    flush(writer);
    if (!tp_pack_close(writer->pack) && !writer->error) writer->error = errno;
    writer->pack = NULL;
    if (!writer->error) return true;
    return tp_error_set(error, "cannot write %s: %s", name, strerror(writer->error));
}

static bool is_file(const char *output)
{
    return output && strcmp(output, "-") != 0;
}

static const char *name_of(const char *output)
{
    return is_file(output) ? output : "the output";
}

bool tp_writer_open(struct tp_writer *writer, const char *output, const char *colour,
    struct tp_error *error)
{
    int fd = STDOUT_FILENO;
    if (is_file(output))
        fd = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return tp_error_set(error, "cannot write %s: %s", output, strerror(errno));
    tp_writer_init(writer, fd);
    tp_writer_adorn(writer, colour);
    return true;
}

bool tp_writer_close(
    struct tp_writer *writer, const char *output, struct tp_error *error)
{
    bool good = tp_writer_finish(writer, name_of(output), error);
    if (is_file(output) && close(writer->fd) < 0 && good)
        good = tp_error_set(error, "cannot write %s: %s", output, strerror(errno));
    return good;
}

void tp_write_bytes(struct tp_writer *writer, const char *bytes, size_t n)
{
    if (n > sizeof(writer->buffer) - writer->used) flush(writer);
    if (n > sizeof(writer->buffer)) {
        send_all(writer, bytes, n);
        return;
    }
    memcpy(writer->buffer + writer->used, bytes, n);
    writer->used += n;
}

void tp_write_text(struct tp_writer *writer, const char *text)
{
    tp_write_bytes(writer, text, strlen(text));
}

void tp_write_format(struct tp_writer *writer, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    if (n < 0) return;
    tp_write_bytes(
        writer, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

/* ---- text that others chose --------------------------------------------------------- */

static bool continues(const unsigned char *at, size_t n)
{
    for (size_t i = 1; i <= n; i++)
        if ((at[i] & 0xc0) != 0x80) return false;
    return true;
}

size_t tp_utf8_length(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    if (at[0] < 0x80) return at[0] != 0;
    if (at[0] >= 0xc2 && at[0] <= 0xdf) return continues(at, 1) ? 2 : 0;
    if (at[0] >= 0xe0 && at[0] <= 0xef) {
        if (!continues(at, 2)) return 0;
        if (at[0] == 0xe0 && at[1] < 0xa0) return 0;   // too long a form
        if (at[0] == 0xed && at[1] >= 0xa0) return 0;  // half of a surrogate pair
        return 3;
    }
    if (at[0] >= 0xf0 && at[0] <= 0xf4) {
        if (!continues(at, 3)) return 0;
        if (at[0] == 0xf0 && at[1] < 0x90) return 0;
        if (at[0] == 0xf4 && at[1] >= 0x90) return 0;
        return 4;
    }
    return 0;
}

/* Bytes of the next character that a terminal may have as it is; 0: it may not. */
static size_t printable(const char *text)
{
    unsigned char first = (unsigned char)text[0];
    size_t n = tp_utf8_length(text);
    if (first < 0x20 || first == 0x7f) return 0;
    if (first == 0xc2 && (unsigned char)text[1] < 0xa0) return 0;  // C1 controls
    return n;
}

/* Writes at most `width` characters and returns how many; moves *text past them. */
static size_t write_some(struct tp_writer *writer, const char **text, size_t width)
{
    size_t columns = 0;
    while (**text && columns < width) {
        size_t n = printable(*text);
        tp_write_bytes(writer, n ? *text : "?", n ? n : 1);
        *text += n ? n : 1;
        columns++;
    }
    return columns;
}

void tp_write_column(struct tp_writer *writer, const char *text, size_t width)
{
    size_t columns = write_some(writer, &text, width);
    while (columns++ < width) tp_write_bytes(writer, " ", 1);
}

void tp_write_clean(struct tp_writer *writer, const char *text, size_t limit)
{
    size_t columns = 0;
    for (const char *at = text; *at && columns <= limit; columns++) {
        size_t n = printable(at);
        at += n ? n : 1;
    }
    bool cut = columns > limit && limit > 3;
    write_some(writer, &text, cut ? limit - 3 : limit);
    if (cut) tp_write_text(writer, "...");
}

/* ---- JSON ---------------------------------------------------------------------------- */

/* The outer levels and tables take a line an item, what is inside stays on one. */
static bool spread(const struct tp_writer *writer)
{
    unsigned depth = writer->depth;
    return depth <= 3 || (depth == 4 && writer->open[depth - 1].kind == '[');
}

static void indent(struct tp_writer *writer)
{
    tp_write_text(writer, "\n");
    for (unsigned i = 0; i < writer->depth; i++) tp_write_text(writer, "  ");
}

static void write_quoted(struct tp_writer *writer, const char *text)
{
    tp_write_text(writer, "\"");
    while (*text) {
        unsigned char first = (unsigned char)*text;
        size_t n = tp_utf8_length(text);
        if (first == '"' || first == '\\')
            tp_write_format(writer, "\\%c", first);
        else if (first == '\n')
            tp_write_text(writer, "\\n");
        else if (first == '\t')
            tp_write_text(writer, "\\t");
        else if (first < 0x20 || first == 0x7f)
            tp_write_format(writer, "\\u%04x", first);
        else if (n)
            tp_write_bytes(writer, text, n);
        else
            tp_write_text(writer, "\\ufffd");
        text += n ? n : 1;
    }
    tp_write_text(writer, "\"");
}

/* Whatever must stand before the next value: comma, line, key. */
static void lead_in(struct tp_writer *writer, const char *key)
{
    if (writer->depth > 0) {
        bool *begun = &writer->open[writer->depth - 1].begun;
        if (*begun) tp_write_text(writer, spread(writer) ? "," : ", ");
        *begun = true;
        if (spread(writer)) indent(writer);
    }
    if (!key) return;
    write_quoted(writer, key);
    tp_write_text(writer, ": ");
}

void tp_json_begin(struct tp_writer *writer, const char *key, char kind)
{
    lead_in(writer, key);
    tp_write_bytes(writer, &kind, 1);
    if (writer->depth >= TP_JSON_DEPTH) __builtin_trap();  // no emitter nests so deep
    writer->open[writer->depth].kind = kind;
    writer->open[writer->depth].begun = false;
    writer->depth++;
}

void tp_json_end(struct tp_writer *writer)
{
    bool lines = spread(writer) && writer->open[writer->depth - 1].begun;
    char kind = writer->open[--writer->depth].kind;
    if (lines) indent(writer);
    tp_write_text(writer, kind == '{' ? "}" : "]");
    if (writer->depth == 0) tp_write_text(writer, "\n");
}

void tp_json_uint(struct tp_writer *writer, const char *key, uint64_t value)
{
    lead_in(writer, key);
    tp_write_format(writer, "%llu", (unsigned long long)value);
}

void tp_json_int(struct tp_writer *writer, const char *key, int64_t value)
{
    lead_in(writer, key);
    tp_write_format(writer, "%lld", (long long)value);
}

void tp_json_bool(struct tp_writer *writer, const char *key, bool value)
{
    lead_in(writer, key);
    tp_write_text(writer, value ? "true" : "false");
}

void tp_json_text(struct tp_writer *writer, const char *key, const char *value)
{
    lead_in(writer, key);
    write_quoted(writer, value);
}

void tp_json_seconds(struct tp_writer *writer, const char *key, uint64_t ns)
{
    lead_in(writer, key);
    tp_write_format(writer, "%llu.%06llu", (unsigned long long)(ns / 1000000000),
        (unsigned long long)(ns % 1000000000 / 1000));
}

void tp_json_rate(struct tp_writer *writer, const char *key, double value)
{
    lead_in(writer, key);
    bool sane = value > 0 && value < 1e15;
    uint64_t thousandths = sane ? (uint64_t)(value * 1000 + 0.5) : 0;
    tp_write_format(writer, "%llu.%03llu", (unsigned long long)(thousandths / 1000),
        (unsigned long long)(thousandths % 1000));
}
