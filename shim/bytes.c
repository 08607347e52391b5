/* SPDX-License-Identifier: MIT */
/*
 * bytes.c - numbers and pointers in bytes that may be anything.
 *
 * Idea: whoever reads need not look after the end. It is looked after here, once: behind
 * it everything reads as 0, and `short_of` tells afterwards. So a broken length leads
 * to a wrong number, which is checked by what it means, and never to a fault.
 */
#include "shim/unwind.h"

#include <string.h>

/* Encodings of pointers, LSB 5.0 section 10.5: a form, what is added, and a flag. */
enum {
    PE_ULEB = 0x01,
    PE_U2 = 0x02,
    PE_U4 = 0x03,
    PE_U8 = 0x04,
    PE_SLEB = 0x09,
    PE_S2 = 0x0a,
    PE_S4 = 0x0b,
    PE_S8 = 0x0c,
    PE_FORM = 0x0f,

    PE_PC = 0x10,
    PE_DATA = 0x30,
    PE_FUNCTION = 0x40,
    PE_ALIGNED = 0x50,
    PE_BASE = 0x70,

    PE_INDIRECT = 0x80,
};

uint64_t tp_bytes_fixed(struct tp_bytes *bytes, unsigned n)
{
    uint64_t value = 0;
    if (bytes->at > bytes->end || bytes->end - bytes->at < n) {
        bytes->short_of = true;
        bytes->at = bytes->end;
        return 0;
    }
    memcpy(&value, (const void *)bytes->at, n);  // both machines are little-endian
    bytes->at += n;
    return value;
}

/* Both kinds: seven bits a byte, the lowest first; the sign is in the last one. */
static uint64_t read_leb(struct tp_bytes *bytes, bool is_signed)
{
    uint64_t value = 0, byte;
    unsigned shift = 0;
    do {
        byte = tp_bytes_fixed(bytes, 1);
        if (shift < 64) value |= (byte & 0x7f) << shift;
        shift += 7;
    } while (byte & 0x80);
    if (is_signed && shift < 64 && byte & 0x40) value |= ~(uint64_t)0 << shift;
    return value;
}

uint64_t tp_bytes_uleb(struct tp_bytes *bytes)
{
    return read_leb(bytes, false);
}

int64_t tp_bytes_sleb(struct tp_bytes *bytes)
{
    return (int64_t)read_leb(bytes, true);
}

void tp_bytes_skip(struct tp_bytes *bytes, uint64_t n)
{
    if (bytes->at > bytes->end || bytes->end - bytes->at < n) {
        bytes->short_of = true;
        bytes->at = bytes->end;
    } else {
        bytes->at += n;
    }
}

struct tp_bytes tp_bytes_from(struct tp_span span, uintptr_t at)
{
    if (at < span.start || at > span.end) at = span.end;
    return (struct tp_bytes){ .at = at, .end = span.end };
}

unsigned tp_bytes_of(unsigned encoding)
{
    switch (encoding & PE_FORM) {
    case PE_U2:
    case PE_S2:
        return 2;
    case PE_U4:
    case PE_S4:
        return 4;
    case TP_POINTER_ABSOLUTE:
    case PE_U8:
    case PE_S8:
        return 8;
    }
    return 0;
}

uint64_t tp_bytes_form(struct tp_bytes *bytes, unsigned encoding)
{
    switch (encoding & PE_FORM) {
    case PE_ULEB:
        return tp_bytes_uleb(bytes);
    case PE_SLEB:
        return (uint64_t)tp_bytes_sleb(bytes);
    case PE_S2:
        return (uint64_t)(int16_t)tp_bytes_fixed(bytes, 2);
    case PE_S4:
        return (uint64_t)(int32_t)tp_bytes_fixed(bytes, 4);
    }
    unsigned n = tp_bytes_of(encoding);
    if (!n) bytes->short_of = true;
    return tp_bytes_fixed(bytes, n);
}

uintptr_t tp_bytes_pointer(
    struct tp_bytes *bytes, unsigned encoding, uintptr_t data, uintptr_t function)
{
    if (encoding == TP_POINTER_OMIT) return 0;
    if ((encoding & PE_BASE) == PE_ALIGNED)
        tp_bytes_skip(bytes, tp_align_up(bytes->at, 8) - bytes->at);
    uintptr_t at = bytes->at;
    uint64_t value = tp_bytes_form(bytes, encoding);
    if (encoding & PE_INDIRECT) bytes->short_of = true;
    switch (encoding & PE_BASE) {
    case TP_POINTER_ABSOLUTE:
    case PE_ALIGNED:
        return value;
    case PE_PC:
        return value ? at + value : 0;
    case PE_DATA:
        return value ? data + value : 0;
    case PE_FUNCTION:
        return value ? function + value : 0;
    }
    bytes->short_of = true;
    return 0;
}
