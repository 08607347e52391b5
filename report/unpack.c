/* SPDX-License-Identifier: MIT */
/*
 * unpack.c - a compressed recording as a stream of its bytes.
 *
 * How much a file may unpack to: 58 dumps of a process that hardly did anything were seen
 * to become 68 times smaller, a gigabyte of zeros 32 000 times. Between the two is the
 * line, above what one small recording may have without being suspicious.
 */
#include "report/pack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zstd.h>

#include "report/report.h"

enum {
    BUFFER = 1 << 16,
    WINDOW_LOG = 27,  // 128 MiB to look back: as much as the tool zstd does by default
    RATIO_MAX = 1000,
    ALWAYS_GOOD = 256 << 20,  // bytes
};

struct tp_unpack {
    int fd;
    const char *name;
    ZSTD_DCtx *zstd;
    off_t from;     // in the file, of what comes after the buffer
    uint64_t size;  // of the file when it was opened
    uint64_t at;    // bytes given
    uint64_t most;  // to be given
    bool ended;     // the file has
    bool inside;    // a frame has begun and not ended
    ZSTD_inBuffer in;
    unsigned char buffer[BUFFER];
};

/* Reads until the buffer is full or the file at its end; false with errno. */
static bool refill(struct tp_unpack *unpack)
{
    size_t n = 0;
    while (n < BUFFER) {
        ssize_t got = pread(unpack->fd, unpack->buffer + n, BUFFER - n, unpack->from);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return false;
        if (got == 0) break;
        n += (size_t)got;
        unpack->from += got;
    }
    unpack->ended = n < BUFFER || (uint64_t)unpack->from >= unpack->size;
    unpack->in = (ZSTD_inBuffer){ unpack->buffer, n, 0 };
    return true;
}

/* A frame of zstd, or one of those to be skipped that pzstd begins with (RFC 8878). */
static bool begins_packed(int fd)
{
    static const unsigned char frame[4] = { 0x28, 0xb5, 0x2f, 0xfd };
    static const unsigned char skipped[3] = { 0x2a, 0x4d, 0x18 };
    unsigned char found[4];
    return pread(fd, found, sizeof(found), 0) == sizeof(found) &&
        (memcmp(found, frame, sizeof(frame)) == 0 ||
            ((found[0] & 0xf0) == 0x50 &&
                memcmp(found + 1, skipped, sizeof(skipped)) == 0));
}

bool tp_unpack_open(
    struct tp_unpack **out, int fd, const char *name, struct tp_error *error)
{
    struct stat status;
    *out = NULL;
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || !begins_packed(fd))
        return true;
    struct tp_unpack *unpack = calloc(1, sizeof(*unpack));
    if (!unpack) return tp_error_set(error, "out of memory");
    unpack->fd = fd;
    unpack->name = name;
    unpack->size = (uint64_t)status.st_size;
    if (__builtin_mul_overflow(unpack->size, (uint64_t)RATIO_MAX, &unpack->most))
        unpack->most = UINT64_MAX / 2;
    unpack->most += ALWAYS_GOOD;
    unpack->zstd = ZSTD_createDCtx();
    if (!unpack->zstd ||
        ZSTD_isError(
            ZSTD_DCtx_setParameter(unpack->zstd, ZSTD_d_windowLogMax, WINDOW_LOG))) {
        tp_unpack_close(unpack);
        return tp_error_set(error, "out of memory");
    }
    *out = unpack;
    return true;
}

void tp_unpack_close(struct tp_unpack *unpack)
{
    if (!unpack) return;
    ZSTD_freeDCtx(unpack->zstd);
    free(unpack);
}

/* Unpacks into `out` until it is full or there is no more. */
static bool fill(struct tp_unpack *unpack, ZSTD_outBuffer *out, struct tp_error *error)
{
    while (out->pos < out->size) {
        if (unpack->in.pos == unpack->in.size && !unpack->ended && !refill(unpack))
            return tp_error_set(
                error, "cannot read %s: %s", unpack->name, strerror(errno));
        bool last = unpack->in.pos == unpack->in.size;
        if (last && !unpack->inside) return true;
        size_t before = out->pos;
        size_t result = ZSTD_decompressStream(unpack->zstd, out, &unpack->in);
        if (ZSTD_isError(result))
            return tp_error_set(error, "cannot read %s: damaged: %s", unpack->name,
                ZSTD_getErrorName(result));
        unpack->inside = result != 0;
        if (last && unpack->inside && out->pos == before)
            return tp_error_set(error, "cannot read %s: truncated at byte %lld",
                unpack->name, (long long)unpack->from);
    }
    return true;
}

bool tp_unpack_read(
    struct tp_unpack *unpack, void *to, size_t n, size_t *out_n, struct tp_error *error)
{
    uint64_t left = tp_unpack_left(unpack);
    // One byte more than there may be tells whether there is one.
    ZSTD_outBuffer out = { to, n < left ? n : (size_t)left, 0 };
    if (!fill(unpack, &out, error)) return false;
    unpack->at += out.pos;
    *out_n = out.pos;
    if (out.pos == n || out.pos < out.size) return true;
    unsigned char more;
    ZSTD_outBuffer beyond = { &more, 1, 0 };
    if (!fill(unpack, &beyond, error)) return false;
    if (beyond.pos == 0) return true;
    return tp_error_set(error,
        "cannot read %s: it unpacks to more than %llu MiB, which no recording of its size "
        "does; if it is one, unpack it with zstd -d",
        unpack->name, (unsigned long long)(unpack->most >> 20));
}

bool tp_unpack_ended(const struct tp_unpack *unpack)
{
    return unpack->ended && !unpack->inside && unpack->in.pos == unpack->in.size;
}

uint64_t tp_unpack_at(const struct tp_unpack *unpack)
{
    return unpack->at;
}

uint64_t tp_unpack_left(const struct tp_unpack *unpack)
{
    return unpack->most - unpack->at;
}
