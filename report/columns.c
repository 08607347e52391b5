/* SPDX-License-Identifier: MIT */
/*
 * columns.c - figures in columns, titles and bars: what the pages of text share.
 */
#include "report/emit.h"

#include <string.h>

enum { BAR = 20 };  // columns of a full bar

void tp_paint(struct tp_writer *w, const char *code)
{
    if (w->colour) tp_write_text(w, code);
}

void tp_unpaint(struct tp_writer *w)
{
    tp_paint(w, "\033[0m");
}

void tp_write_title(struct tp_writer *w, const char *title, const char *columns)
{
    tp_paint(w, TP_BOLD);
    tp_write_text(w, title);
    tp_unpaint(w);
    tp_paint(w, TP_DIM);
    tp_write_text(w, columns);
    tp_unpaint(w);
    tp_write_text(w, "\n");
}

void tp_write_heading(struct tp_writer *w, const char *title, const char *columns)
{
    tp_write_text(w, "\n");
    tp_write_title(w, title, columns);
}

void tp_write_size(struct tp_writer *w, int64_t bytes, int width)
{
    char text[TP_HUMAN_BYTES];
    tp_human_size(text, bytes);
    bool plain = strcmp(text + strlen(text) - 2, " B") == 0;
    tp_write_format(w, "%*s%s", plain ? width - 2 : width, text, plain ? "  " : "");
}

void tp_write_time(struct tp_writer *w, uint64_t ns, int width)
{
    char text[TP_HUMAN_BYTES];
    tp_human_time(text, ns);
    bool plain = strcmp(text + strlen(text) - 2, " s") == 0;
    tp_write_format(w, "%*s%s", plain ? width - 1 : width, text, plain ? " " : "");
}

void tp_end_line(struct tp_writer *w)
{
    while (w->used > 0 && w->buffer[w->used - 1] == ' ') w->used--;
    tp_write_text(w, "\n");
}

void tp_write_count(struct tp_writer *w, uint64_t count, int width)
{
    char text[TP_HUMAN_BYTES];
    tp_human_count(text, (int64_t)(count & INT64_MAX));
    if ((int)strlen(text) >= width) tp_human_rate(text, (double)count);
    tp_write_format(w, "%*s", width, text);
}

void tp_write_bar(struct tp_writer *w, double part, double whole)
{
    double eighths = whole > 0 ? part / whole * BAR * 8 : 0;
    if (eighths <= 0) return;
    unsigned n = eighths < BAR * 8 ? (unsigned)(eighths + 0.5) : BAR * 8;
    tp_paint(w, TP_BLUE);
    if (w->unicode) {
        static const char *const ends[] = { "", "▏", "▎", "▍", "▌", "▋", "▊", "▉" };
        for (unsigned i = 0; i < n / 8; i++) tp_write_text(w, "█");
        tp_write_text(w, n ? ends[n % 8] : ends[1]);
    } else {
        unsigned whole_columns = n < 8 ? 1 : (n + 4) / 8;
        for (unsigned i = 0; i < whole_columns; i++) tp_write_text(w, "#");
    }
    tp_unpaint(w);
}
