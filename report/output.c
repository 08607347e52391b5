/* SPDX-License-Identifier: MIT */
/*
 * output.c - names of recordings, and placing them without overwriting anything.
 */
#include "report/run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report/model.h"
#include "report/pack.h"

enum { NAMES_TRIED = 100000 };

/* ---- patterns ---------------------------------------------------------------------- */

/* Writes what `letter` stands for; false for a letter that stands for nothing. */
static bool write_word(FILE *to, char letter, const struct tp_output_words *words)
{
    char host[65] = "host";
    switch (letter) {
    case 'e':
        for (const char *at = words->program; *at; at++)
            fputc(*at == '/' ? '_' : *at, to);
        return true;
    case 'p':
        fprintf(to, "%" PRIu32, words->pid);
        return true;
    case 'h':
        gethostname(host, sizeof(host) - 1);
        fputs(host, to);
        return true;
    case 'n':
        fprintf(to, "%" PRIu64, words->sequence);
        return true;
    case 't':
        fprintf(to, "%" PRIu64, words->unix_time);
        return true;
    case '%':
        fputc('%', to);
        return true;
    default:
        return false;
    }
}

bool tp_output_expand(char **out_path, const char *pattern,
    const struct tp_output_words *words, struct tp_error *error)
{
    size_t size = 0;
    FILE *to = open_memstream(out_path, &size);
    if (!to) return tp_error_set(error, "out of memory");
    for (const char *at = pattern; *at; at++) {
        if (*at == '%' && at[1] && write_word(to, at[1], words))
            at++;
        else
            fputc(*at, to);
    }
    if (fclose(to) == 0 && size > 0) return true;
    free(*out_path);
    *out_path = NULL;
    return tp_error_set(error, "the name '%s' is empty", pattern);
}

/* ---- placing ------------------------------------------------------------------------- */

bool tp_output_write(int fd, const void *bytes, size_t n)
{
    const unsigned char *at = bytes;
    while (n > 0) {
        ssize_t sent = write(fd, at, n);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return false;
        at += sent;
        n -= (size_t)sent;
    }
    return true;
}

/* Moves `from` to `to` unless that exists; sets errno. */
static bool move_without_replacing(const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return true;
    if (errno != EINVAL && errno != ENOSYS) return false;
    if (link(from, to) < 0) return false;  // a file system without that flag
    unlink(from);
    return true;
}

/* "wanted", then "wanted.1", "wanted.2", ...; NULL: out of memory. */
static char *nth_name(const char *wanted, const char *suffix, unsigned i)
{
    char *name = NULL;
    int made = i ? asprintf(&name, "%s%s.%u", wanted, suffix, i)
                 : asprintf(&name, "%s%s", wanted, suffix);
    return made < 0 ? NULL : name;
}

bool tp_output_settle(
    char **out_path, const char *part, const char *wanted, struct tp_error *error)
{
    for (unsigned i = 0; i < NAMES_TRIED; i++) {
        char *name = nth_name(wanted, "", i);
        if (!name) return tp_error_set(error, "out of memory");
        if (move_without_replacing(part, name)) {
            *out_path = name;
            return true;
        }
        int why = errno;
        free(name);
        errno = why;
        if (why != EEXIST) break;
    }
    return tp_error_set(error, "cannot write %s: %s", wanted, strerror(errno));
}

bool tp_output_begin(
    char **out_part, int *out_fd, const char *wanted, struct tp_error *error)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    for (unsigned i = 0; i < NAMES_TRIED; i++) {
        char *name = nth_name(wanted, ".part", i);
        if (!name) return tp_error_set(error, "out of memory");
        *out_fd = open(name, flags, 0600);
        if (*out_fd >= 0) {
            *out_part = name;
            return true;
        }
        int why = errno;
        free(name);
        errno = why;
        if (why != EEXIST) break;
    }
    return tp_error_set(error, "cannot write %s: %s", wanted, strerror(errno));
}

bool tp_output_send(
    int fd, enum tp_packing packing, const struct tp_image *images, size_t n_images)
{
    struct tp_pack *pack = NULL;
    bool good = true;
    if (packing != TP_PACKING_NONE && !(pack = tp_pack_open(packing, fd))) {
        errno = ENOMEM;
        return false;
    }
    for (size_t i = 0; good && i < n_images; i++)
        good = pack ? tp_pack_write(pack, images[i].bytes, images[i].n_bytes)
                    : tp_output_write(fd, images[i].bytes, images[i].n_bytes);
    return tp_pack_close(pack) && good;
}

enum tp_packing tp_output_packing(const char *name)
{
    enum tp_packing packing = tp_packing_of(name);
    return packing == TP_PACKING_ZSTD ? packing : TP_PACKING_NONE;
}

bool tp_output_place(char **out_path, const char *wanted, const struct tp_image *images,
    size_t n_images, struct tp_error *error)
{
    char *part = NULL;
    int fd = -1;
    if (!tp_output_begin(&part, &fd, wanted, error)) return false;
    bool good = tp_output_send(fd, tp_output_packing(wanted), images, n_images);
    if (!good) tp_error_set(error, "cannot write %s: %s", wanted, strerror(errno));
    if (close(fd) < 0 && good)
        good = tp_error_set(error, "cannot write %s: %s", wanted, strerror(errno));
    good = good && tp_output_settle(out_path, part, wanted, error);
    if (!good) unlink(part);
    free(part);
    return good;
}

/* Compresses all bytes of one file into another. */
static bool pack_file(int from, int to)
{
    enum { PORTION = 1 << 16 };
    struct tp_pack *pack = tp_pack_open(TP_PACKING_ZSTD, to);
    unsigned char *bytes = malloc(PORTION);
    bool good = pack && bytes;
    int why = good ? 0 : ENOMEM;
    for (off_t at = 0; good;) {
        ssize_t n = pread(from, bytes, PORTION, at);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) break;
        good = n > 0 && tp_pack_write(pack, bytes, (size_t)n);
        if (!good) why = errno;
        at += n;
    }
    if (pack && !tp_pack_close(pack) && good) {
        good = false;
        why = errno;
    }
    free(bytes);
    errno = why;
    return good;
}

bool tp_output_pack(
    char **out_part, const char *part, const char *wanted, struct tp_error *error)
{
    int to = -1;
    int from = open(part, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0)
        return tp_error_set(error, "cannot read %s: %s", part, strerror(errno));
    bool good = tp_output_begin(out_part, &to, wanted, error);
    if (good && !pack_file(from, to))
        good = tp_error_set(error, "cannot write %s: %s", wanted, strerror(errno));
    if (to >= 0 && close(to) < 0 && good)
        good = tp_error_set(error, "cannot write %s: %s", wanted, strerror(errno));
    close(from);
    if (good) return true;
    if (to >= 0) {
        unlink(*out_part);
        free(*out_part);
    }
    return false;
}
