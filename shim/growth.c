/* SPDX-License-Identifier: MIT */
/*
 * growth.c - further parts of the live file, mapped and given back without opening it.
 *
 * By the time that a process has many threads it may have changed its root or its user,
 * or have given up open(2). So the file is as long as it can ever be from the beginning,
 * a hole but for the first part, and mremap of a shared mapping with an old size of 0
 * maps its pages, and those behind them, a second time. From there
 *
 *   - a new part: MADV_POPULATE_WRITE reserves its pages, and says so when it cannot;
 *     then they move to where the counters are;
 *   - a part that nobody needs: anonymous pages take its place first, so that whoever
 *     walks over it meanwhile reads zeros (a hole in a full file system would be a
 *     SIGBUS), then MADV_REMOVE makes the hole.
 *
 * Where the kernel or a limit is in the way, the file is opened by its name, only if it
 * is still ours, and never in a sandbox.
 */
#include "shim/output.h"

#include "pool/os.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum {
    TRIES = 100,     // of a call that signals may cut short
    PART_TRIES = 3,  // of a child, which must not go on in its parent's pages
};

bool tp_growth_map_part(int fd, void *at, size_t bytes, uint64_t offset)
{
    return mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
               (off_t)offset) != MAP_FAILED;
}

int tp_growth_reserve(int fd, uint64_t offset, uint64_t bytes)
{
    if (tp_os_file_limit() < offset + bytes) return EFBIG;
    int error = EINTR;
    for (int i = 0; error == EINTR && i < TRIES; i++)
        error = posix_fallocate(fd, (off_t)offset, (off_t)bytes);
    return error;
}

/* ---- blind: through what is mapped already ---- */

/* The file from its start to `end`, mapped a second time; NULL, errno says why. */
static char *map_again(const struct tp_live_place *place, uint64_t end)
{
    if (end > place->length) {
        errno = EFBIG;
        return NULL;
    }
    char *all = mremap(place->start, 0, (size_t)end, MREMAP_MAYMOVE);
    return all == MAP_FAILED ? NULL : all;
}

static bool put_anonymous(void *at, size_t bytes)
{
    return mmap(at, bytes, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
}

static int map_blind(
    const struct tp_live_place *place, void *at, uint64_t offset, size_t bytes)
{
    char *all = map_again(place, offset + bytes);
    if (!all) return errno;
    char *part = all + offset;
    int error = EINTR;
    for (int i = 0; error == EINTR && i < TRIES; i++)
        error = madvise(part, bytes, MADV_POPULATE_WRITE) == 0 ? 0 : errno;
    int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    if (!error && mremap(part, bytes, bytes, flags, at) == MAP_FAILED) {
        error = errno;
        // The kernel may have unmapped the place already; nothing was counted there yet.
        put_anonymous(at, bytes);
    }
    tp_os_unmap(all, error ? offset + bytes : offset);
    return error;
}

static int punch_blind(const struct tp_live_place *place, uint64_t offset, size_t bytes)
{
    char *all = map_again(place, offset + bytes);
    if (!all) return errno;
    int error = madvise(all + offset, bytes, MADV_REMOVE) == 0 ? 0 : errno;
    tp_os_unmap(all, offset + bytes);
    return error;
}

/* ---- by name ---- */

/* Below 0: minus an errno. */
static int open_again(const struct tp_live_place *place)
{
    if (tp_os_is_sandboxed()) return -EPERM;
    int fd = open(place->path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return -errno;
    struct stat status;
    int error = fstat(fd, &status) == 0 ? 0 : errno;
    if (!error && (status.st_dev != place->device || status.st_ino != place->inode))
        error = ENOENT;
    if (error) close(fd);
    return error ? -error : fd;
}

int tp_growth_map(
    const struct tp_live_place *place, void *at, uint64_t offset, size_t bytes)
{
    if (map_blind(place, at, offset, bytes) == 0) return 0;
    int fd = open_again(place);
    if (fd < 0) return -fd;
    int error = tp_growth_reserve(fd, offset, bytes);
    if (!error && !tp_growth_map_part(fd, at, bytes, offset)) error = errno;
    close(fd);
    return error;
}

bool tp_growth_part(void *at, size_t bytes, size_t keep)
{
    for (int i = 0; i < PART_TRIES; i++) {
        char *copy = tp_os_map(bytes);
        if (!copy) continue;
        tp_snapshot_read(copy, at, keep);
        int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
        if (mremap(copy, bytes, bytes, flags, at) != MAP_FAILED) return true;
        tp_os_unmap(copy, bytes);
    }
    return false;
}

bool tp_growth_release(
    const struct tp_live_place *place, void *at, uint64_t offset, size_t bytes)
{
    if (!put_anonymous(at, bytes)) return false;
    tp_os_no_huge(at, bytes);
    if (!place || punch_blind(place, offset, bytes) == 0) return true;
    int fd = open_again(place);
    if (fd < 0) return true;  // the file keeps its pages
    // Not the C library's: a thread could be cancelled in it, with a lock in its hands.
    syscall(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
        (off_t)offset, (off_t)bytes);
    close(fd);
    return true;
}
