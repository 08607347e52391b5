/* SPDX-License-Identifier: MIT */
/*
 * text_place.c - a place in a program on one line, however long its name is.
 *
 *     std::vector<>::_M_realloc_insert<>()  vector.tcc:440
 *
 * Idea: what does not fit loses first what C++ repeats (arguments of templates and
 * functions, the type of the result), then the middle of its name: both ends tell more.
 */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "report/emit.h"
#include "report/frames.h"

enum {
    PLAIN = 80,   // columns where there is no terminal
    NARROW = 76,  // a page is never narrower
    WIDE = 200,   // and never wider
    LEAST = 16,   // columns that a place always has
};

size_t tp_page_columns(const struct tp_writer *w)
{
    struct winsize size;
    if (!isatty(w->fd) || ioctl(w->fd, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
        return PLAIN;
    if (size.ws_col < NARROW) return NARROW;
    return size.ws_col > WIDE ? WIDE : size.ws_col;
}

/* Characters of a text, as a terminal counts them. */
static size_t columns_of(const char *text)
{
    size_t columns = 0;
    while (*text) {
        size_t n = tp_utf8_length(text);
        text += n ? n : 1;
        columns++;
    }
    return columns;
}

static const char *skip(const char *text, size_t columns)
{
    while (*text && columns-- > 0) {
        size_t n = tp_utf8_length(text);
        text += n ? n : 1;
    }
    return text;
}

size_t tp_write_middle(struct tp_writer *w, const char *text, size_t limit)
{
    size_t columns = columns_of(text);
    const char *gap = w->unicode ? "\u2026" : "...";
    size_t wide = w->unicode ? 1 : 3;
    if (limit == 0 || columns <= limit) {
        tp_write_column(w, text, columns);
        return columns;
    }
    if (limit <= 2 * wide) {
        tp_write_column(w, text, limit);
        return limit;
    }
    size_t end = (limit - wide) / 2;
    tp_write_column(w, text, limit - wide - end);
    tp_write_text(w, gap);
    tp_write_column(w, skip(text, columns - end), end);
    return limit;
}

/*
 * A long name of C++ without what is rarely wanted: "A<>::f<>()" of "void A<B>::f<C>(D)".
 * False: nothing can be left out.
 */
static bool abbreviate(char *out, size_t size, const char *name)
{
    static const char nameless[] = "(anonymous namespace)";
    size_t n = 0;
    unsigned depth = 0;
    // <T as Trait>::f is of Rust, and an operator may have such signs in its name.
    if (name[0] == '<' || strstr(name, "operator")) return false;
    for (const char *at = name; *at; at++) {
        if (n + sizeof(nameless) >= size) return false;
        if (depth == 0 && strncmp(at, nameless, sizeof(nameless) - 1) == 0) {
            memcpy(out + n, at, sizeof(nameless) - 1);
            n += sizeof(nameless) - 1;
            at += sizeof(nameless) - 2;
        } else if (*at == '<' || *at == '(') {
            if (depth++ == 0) out[n++] = *at;
        } else if ((*at == '>' || *at == ')') && depth > 0) {
            if (--depth == 0) out[n++] = *at;
        } else if (depth == 0 && *at == ' ' && strncmp(at, " const", 6) != 0) {
            n = 0;  // that was the type of the result
        } else if (depth == 0) {
            out[n++] = *at;
        }
    }
    out[n] = '\0';
    return n > 0 && depth == 0 && n < strlen(name);
}

/* One place: the function, and where that is in the source; `colour` may be empty. */
void tp_write_step(struct tp_writer *w, const struct tp_who *who,
    const struct tp_step *step, size_t column, const char *colour)
{
    const struct tp_place *place = step->place;
    char where[300] = "";
    char again[48] = "";
    const char *file = place->file;
    const char *slash = strrchr(file, '/');
    if (slash && slash[1] && !who->view->full) file = slash + 1;
    if (file[0] && place->line)
        snprintf(where, sizeof(where), "  %.270s:%u", file, place->line);
    else if (file[0])
        snprintf(where, sizeof(where), "  %.270s", file);
    else if (place->known && place->module[0])
        snprintf(where, sizeof(where), "  [%.270s]", place->module);
    if (step->repeats && step->cycle > 1)
        snprintf(again, sizeof(again), "  x%u with the next %u", step->repeats + 1,
            step->cycle - 1);
    else if (step->repeats)
        snprintf(again, sizeof(again), "  x%u", step->repeats + 1);

    size_t room = 0;
    size_t limit = 0;
    if (!who->view->full) {
        room = who->columns > column + LEAST ? who->columns - column : LEAST;
        size_t tail = strlen(again);
        size_t wanted = columns_of(where);
        limit = wanted < room / 2 ? wanted : room / 2;
        if (columns_of(place->function) + tail + wanted <= room) limit = wanted;
        room = room > limit + tail + 4 ? room - limit - tail : 4;
    }
    char brief[300];
    const char *name = place->function;
    if (room && columns_of(name) > room && abbreviate(brief, sizeof(brief), name))
        name = brief;
    if (colour[0]) tp_paint(w, colour);
    tp_write_middle(w, name, room);
    if (colour[0]) tp_unpaint(w);
    tp_paint(w, TP_DIM);
    if (where[0]) tp_write_middle(w, where, limit);
    tp_write_text(w, again);
    tp_unpaint(w);
    tp_write_text(w, "\n");
}

const char *tp_human_place(char out[TP_PLACE_WORDS], const struct tp_place *place)
{
    char brief[300];
    const char *name = place->function;
    const char *slash = strrchr(place->file, '/');
    const char *file = slash && slash[1] ? slash + 1 : place->file;
    bool long_name = strlen(name) > 40;
    if (long_name && abbreviate(brief, sizeof(brief), name)) name = brief;
    long_name = strlen(name) > 40;
    snprintf(out, TP_PLACE_WORDS, "%.*s%s", long_name ? 37 : 40, name,
        long_name ? "..." : "");
    size_t n = strlen(out);
    if (file[0] && place->line)
        snprintf(out + n, TP_PLACE_WORDS - n, " (%.19s:%u)", file, place->line);
    for (char *at = out; *at; at++)
        if ((unsigned char)*at < 0x20 || (unsigned char)*at >= 0x7f) *at = '?';
    return out;
}
