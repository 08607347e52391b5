/* SPDX-License-Identifier: MIT */
/*
 * pack.c - compressing on the way to a file, by zlib or libzstd.
 */
#include "report/pack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zlib.h>
#include <zstd.h>

enum {
    BUFFER = 1 << 16,
    PORTION = 1 << 30,  // zlib counts in 32 bits
    GZIP_WINDOW = 15 + 16,
    ZSTD_LEVEL = 6,
};

struct tp_pack {
    enum tp_packing packing;
    int fd;
    int error;  // errno of what failed first
    z_stream gzip;
    ZSTD_CCtx *zstd;
    unsigned char out[BUFFER];
};

static const char *end_of(enum tp_packing packing)
{
    return packing == TP_PACKING_GZIP ? ".gz" : ".zst";
}

enum tp_packing tp_packing_of(const char *name)
{
    size_t n = strlen(name);
    if (n > 3 && strcmp(name + n - 3, ".gz") == 0) return TP_PACKING_GZIP;
    if (n > 4 && strcmp(name + n - 4, ".zst") == 0) return TP_PACKING_ZSTD;
    return TP_PACKING_NONE;
}

size_t tp_packing_stem(const char *name)
{
    enum tp_packing packing = tp_packing_of(name);
    return strlen(name) - (packing == TP_PACKING_NONE ? 0 : strlen(end_of(packing)));
}

struct tp_pack *tp_pack_open(enum tp_packing packing, int fd)
{
    struct tp_pack *pack = calloc(1, sizeof(*pack));
    if (!pack) return NULL;
    pack->packing = packing;
    pack->fd = fd;
    bool good;
    if (packing == TP_PACKING_GZIP) {
        // Without a name and a time in its header: equal input, equal bytes.
        good = deflateInit2(&pack->gzip, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW,
                   8, Z_DEFAULT_STRATEGY) == Z_OK;
    } else {
        pack->zstd = ZSTD_createCCtx();
        good = pack->zstd &&
            !ZSTD_isError(ZSTD_CCtx_setParameter(
                pack->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL)) &&
            !ZSTD_isError(ZSTD_CCtx_setParameter(pack->zstd, ZSTD_c_checksumFlag, 1));
    }
    if (good) return pack;
    ZSTD_freeCCtx(pack->zstd);
    free(pack);
    return NULL;
}

static void send_out(struct tp_pack *pack, size_t n)
{
    const unsigned char *at = pack->out;
    while (n > 0 && !pack->error) {
        ssize_t sent = write(pack->fd, at, n);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) {
            pack->error = errno;
            return;
        }
        at += sent;
        n -= (size_t)sent;
    }
}

/* Returns when all of the input is taken, and with `end` when the stream is closed. */
static void run_gzip(struct tp_pack *pack, const void *bytes, size_t n, bool end)
{
    int result = Z_OK;
    pack->gzip.next_in = (unsigned char *)(uintptr_t)bytes;  // zlib only reads it
    pack->gzip.avail_in = (unsigned)n;
    do {
        pack->gzip.next_out = pack->out;
        pack->gzip.avail_out = BUFFER;
        result = deflate(&pack->gzip, end ? Z_FINISH : Z_NO_FLUSH);
        if (result == Z_STREAM_ERROR) pack->error = EIO;
        send_out(pack, BUFFER - pack->gzip.avail_out);
    } while (!pack->error && (end ? result != Z_STREAM_END : !pack->gzip.avail_out));
}

static void run_zstd(struct tp_pack *pack, const void *bytes, size_t n, bool end)
{
    ZSTD_inBuffer in = { bytes, n, 0 };
    size_t left = 0;
    do {
        ZSTD_outBuffer out = { pack->out, BUFFER, 0 };
        left = ZSTD_compressStream2(
            pack->zstd, &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
        if (ZSTD_isError(left)) {
            pack->error = ENOMEM;  // nothing else can be wrong with a compression
            return;
        }
        send_out(pack, out.pos);
    } while (!pack->error && (end ? left != 0 : in.pos < in.size));
}

static void run(struct tp_pack *pack, const void *bytes, size_t n, bool end)
{
    if (pack->error) return;
    if (pack->packing == TP_PACKING_GZIP)
        run_gzip(pack, bytes, n, end);
    else
        run_zstd(pack, bytes, n, end);
}

bool tp_pack_write(struct tp_pack *pack, const void *bytes, size_t n)
{
    const unsigned char *at = bytes;
    while (n > 0 && !pack->error) {
        size_t portion = n < PORTION ? n : PORTION;
        run(pack, at, portion, false);
        at += portion;
        n -= portion;
    }
    errno = pack->error;
    return !pack->error;
}

bool tp_pack_close(struct tp_pack *pack)
{
    if (!pack) return true;
    run(pack, "", 0, true);
    int error = pack->error;
    if (pack->packing == TP_PACKING_GZIP) deflateEnd(&pack->gzip);
    ZSTD_freeCCtx(pack->zstd);
    free(pack);
    errno = error;
    return !error;
}
