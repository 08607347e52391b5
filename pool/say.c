/* SPDX-License-Identifier: MIT */
/*
 * say.c - messages without stdio, without malloc, in one write.
 */
#include "pool/os.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A sticky sink: what does not fit is dropped, the terminator always fits. */
struct sink {
    bool tame;  // for a terminal: control characters become '?'
    char *at;
    char *end;  // last byte, kept for the terminator
};

static void put(struct sink *sink, char c)
{
    bool wild = (unsigned char)c < ' ' || c == 0x7f;
    if (sink->at < sink->end) *sink->at++ = wild && sink->tame ? '?' : c;
}

static void put_text(struct sink *sink, const char *text)
{
    for (text = text ? text : "(null)"; *text; text++) put(sink, *text);
}

static void put_number(struct sink *sink, unsigned long value, unsigned base)
{
    char digits[24];
    int n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (n) put(sink, digits[--n]);
}

/* The few causes we meet, in plain words; strerror() may allocate. */
static void put_error(struct sink *sink, int error)
{
    static const struct {
        int error;
        const char *words;
    } causes[] = {
        { EACCES, "permission denied" },
        { EPERM, "operation not permitted" },
        { ENOENT, "no such folder" },
        { ENXIO, "nobody reads there" },
        { ENOTDIR, "not a folder" },
        { EEXIST, "already exists" },
        { ENOSPC, "no space left" },
        { EDQUOT, "quota exceeded" },
        { ENOMEM, "out of memory" },
        { EROFS, "read-only file system" },
        { EMFILE, "too many open files" },
        { ENFILE, "too many open files in the system" },
        { EFBIG, "file size limit reached" },
        { EIO, "input/output error" },
        { ENOSYS, "not supported by this kernel" },
        { ELOOP, "a symbolic link stands in the way" },
        { ENAMETOOLONG, "name too long" },
    };
    for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++)
        if (causes[i].error == error) {
            put_text(sink, causes[i].words);
            return;
        }
    put_text(sink, "error ");
    put_number(sink, (unsigned long)error, 10);
}

static void put_format(struct sink *sink, const char *format, va_list args)
{
    for (; *format; format++) {
        if (*format != '%') {
            put(sink, *format);
            continue;
        }
        bool is_long = *++format == 'l';
        if (is_long) format++;
        switch (*format) {
        case 's':
            put_text(sink, va_arg(args, const char *));
            break;
        case 'c':
            put(sink, (char)va_arg(args, int));
            break;
        case 'd':
            put_error(sink, va_arg(args, int));
            break;
        case 'p':
            put_text(sink, "0x");
            put_number(sink, (unsigned long)va_arg(args, void *), 16);
            break;
        case 'u':
            put_number(sink,
                is_long ? va_arg(args, unsigned long) : va_arg(args, unsigned), 10);
            break;
        case '\0':
            return;
        default:
            put(sink, *format);
        }
    }
}

size_t tp_format(char *out, size_t size, const char *format, ...)
{
    struct sink sink = { false, out, out + size - 1 };
    va_list args;
    va_start(args, format);
    put_format(&sink, format, args);
    va_end(args);
    *sink.at = '\0';
    return (size_t)(sink.at - out);
}

static void say(const char *format, va_list args)
{
    char line[TP_SAY_MAX];
    struct sink sink = { true, line, line + sizeof(line) - 1 };
    put_text(&sink, "tidepool: ");
    put_format(&sink, format, args);
    if (sink.at == sink.end) sink.at--;
    *sink.at++ = '\n';

    int saved = errno;
    struct tp_quiet quiet;
    tp_os_quiet(&quiet);
    ssize_t written = write(STDERR_FILENO, line, (size_t)(sink.at - line));
    (void)written;  // nobody is left to tell
    tp_os_loud(&quiet);
    errno = saved;
}

void tp_say(const char *format, ...)
{
    if (tp_os_is_sandboxed()) return;
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

void tp_say_last(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

void tp_die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    abort();
}
