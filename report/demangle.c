/* SPDX-License-Identifier: MIT */
/*
 * demangle.c - encoded names become those that their programmers wrote.
 *
 * Idea: libiberty knows the encodings of C++, Rust (both) and D. Names come from files
 * that nobody has checked, and the encodings refer back to parts of themselves: a name of
 * some hundred bytes can stand for a text of any length. So the text is taken from
 * libiberty piece by piece, and once we have what we keep, its work is left by longjmp:
 * the functions that hand out pieces hold their state on the stack. That of D hands out
 * nothing before it has finished; names with many references back stay as they are.
 *
 * libiberty limits its own recursion, and refuses C++ names of more than 1024 bytes: they
 * are shown encoded.
 */
#include "report/symbols.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <libiberty/demangle.h>

enum {
    ENCODED_BYTES = 8 * 1024,  // of a name that is worth trying
    D_BYTES = 1024,
    D_REFERENCES = 16,  // each may double the text
};

struct text {
    char *bytes;
    size_t size;
    size_t used;
    bool full;
    jmp_buf enough;
};

static void cut(char *out, size_t size)
{
    size_t n = size - 4;
    while (n && ((unsigned char)out[n] & 0xc0) == 0x80)
        n--;  // inside of a UTF-8 letter
    memcpy(out + n, "...", 4);
}

/* Appends a piece; does not return once nothing more fits. */
static void take_piece(const char *piece, size_t n, void *argument)
{
    struct text *text = argument;
    if (!n) return;  // then there may be no piece at all
    size_t room = text->size - 1 - text->used;
    if (n > room) {
        memcpy(text->bytes + text->used, piece, room);
        text->used += room;
        text->full = true;
        longjmp(text->enough, 1);
    }
    memcpy(text->bytes + text->used, piece, n);
    text->used += n;
}

typedef int decoder(const char *, int, demangle_callbackref, void *);

/* Apart, so that nothing that longjmp() could spoil is a variable of this function. */
static bool run(decoder *decode, const char *name, struct text *text)
{
    if (setjmp(text->enough)) return true;
    return decode(name, DMGL_PARAMS | DMGL_ANSI, take_piece, text) != 0;
}

/* True when `decode` knows the name; it is in `out` then. */
static bool decode_with(decoder *decode, char *out, size_t size, const char *name)
{
    struct text text = { .bytes = out, .size = size };
    if (!run(decode, name, &text) || !text.used) return false;
    out[text.used] = '\0';
    if (text.full) cut(out, size);
    return true;
}

static void copy(char *out, size_t size, const char *name, size_t n)
{
    bool long_one = n >= size;
    memcpy(out, name, long_one ? size - 1 : n);
    out[long_one ? size - 1 : n] = '\0';
    if (long_one) cut(out, size);
}

static bool decode_d(char *out, size_t size, const char *name)
{
    size_t references = 0;
    for (const char *at = name; *at; at++) references += *at == 'Q';
    if (references > D_REFERENCES || strlen(name) > D_BYTES) return false;
    char *text = dlang_demangle(name, DMGL_PARAMS | DMGL_ANSI);
    if (text) copy(out, size, text, strlen(text));
    free(text);
    return text != NULL;
}

void tp_demangle(char *out, size_t size, const char *name)
{
    size_t n = strnlen(name, ENCODED_BYTES + 1);
    if (n <= ENCODED_BYTES && name[0] == '_') {
        // Legacy Rust looks like C++ with a hash at the end, so it is tried first.
        if ((name[1] == 'R' || name[1] == 'Z') &&
            decode_with(rust_demangle_callback, out, size, name))
            return;
        if ((name[1] == 'Z' || strncmp(name, "_GLOBAL_", 8) == 0) &&
            decode_with(cplus_demangle_v3_callback, out, size, name))
            return;
        if (name[1] == 'D' && decode_d(out, size, name)) return;
    }
    // A version follows a name as `@VERSION` or `@@VERSION`.
    const char *version = n <= ENCODED_BYTES ? strchr(name, '@') : NULL;
    copy(out, size, name, version && version > name ? (size_t)(version - name) : n);
}
