/* SPDX-License-Identifier: MIT */
/*
 * pack.h - bytes that are compressed on their way: out by gzip or zstd, in by zstd.
 *
 * Idea: both ways are streams with a buffer of their own, so that memory does not depend
 * on how much passes. What comes in is not trusted: a few bytes may claim to be
 * terabytes, so a stream ends with an error where it has given more than any recording
 * of that size would.
 *
 * Knows nothing of: what the bytes are.
 */
#ifndef TP_REPORT_PACK_H
#define TP_REPORT_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tp_error;

enum tp_packing {
    TP_PACKING_NONE,
    TP_PACKING_GZIP,
    TP_PACKING_ZSTD,
};

/* What the end of a name says: .gz, .zst, or anything else. */
enum tp_packing tp_packing_of(const char *name);

/* Bytes of the name before that end. */
size_t tp_packing_stem(const char *name);

/* ---- pack.c: out --------------------------------------------------------------------- */

struct tp_pack;

/* A stream into `fd`, which stays the caller's; not of TP_PACKING_NONE. NULL: no memory. */
struct tp_pack *tp_pack_open(enum tp_packing packing, int fd);

/* Takes all of it. Fails: false with errno set, and so does every later call. */
bool tp_pack_write(struct tp_pack *pack, const void *bytes, size_t n);

/* Writes the end and frees; NULL is good. Fails: false with errno, if anything has. */
bool tp_pack_close(struct tp_pack *pack);

/* ---- unpack.c: in ---------------------------------------------------------------------- */

struct tp_unpack;

/*
 * A stream out of a regular file that begins like one of zstd; `fd` stays the caller's,
 * and its offset is not moved. NULL in *out for any other file. `name` is for messages
 * and must outlive it. Fails: without memory.
 */
bool tp_unpack_open(
    struct tp_unpack **out, int fd, const char *name, struct tp_error *error);
void tp_unpack_close(struct tp_unpack *unpack);

/*
 * The next `n` bytes, or as many as there are before the end, in *out_n. Fails: when the
 * stream is damaged, cut off, or unpacks to more than it should; with a line.
 */
bool tp_unpack_read(struct tp_unpack *unpack, void *to, size_t n, size_t *out_n,
    struct tp_error *error);

/* True when no byte is left; while that is not known yet, false. */
bool tp_unpack_ended(const struct tp_unpack *unpack);

/* Bytes given so far. */
uint64_t tp_unpack_at(const struct tp_unpack *unpack);

/* How many more there may be. */
uint64_t tp_unpack_left(const struct tp_unpack *unpack);

#endif
