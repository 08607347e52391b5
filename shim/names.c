/* SPDX-License-Identifier: MIT */
/*
 * names.c - a finished file gets a name that nobody has; what live files are called.
 *
 * Whatever stands in the way, a file, a link that leads nowhere, somebody else's, stays
 * as it is: the caller tries the next name.
 */
#include "shim/output.h"

#include "pool/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NAMES = 100 };  // tried in a folder

int tp_names_give(const char *from, const char *to)
{
    if (syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS && errno != EPERM) return errno;
    // This file system, or a sandbox, cannot; a link cannot replace anything either.
    if (link(from, to) != 0) return errno;
    unlink(from);
    return 0;
}

static void set_name(char path[TP_PATH], const char *folder, unsigned n)
{
    tp_format(path, TP_PATH, "%s/tidepool.%u.%lu.%u", folder, tp_boot.pid,
        (unsigned long)tp_boot.start_jiffies, n);
}

int tp_names_create(char path[TP_PATH], char beside[TP_BESIDE], const char *folder)
{
    for (unsigned n = 0; n < NAMES; n++) {
        set_name(path, folder, n);
        tp_format(beside, TP_BESIDE, "%s.new", path);
        int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
        int fd = open(beside, flags, 0600);
        if (fd >= 0) return fd;
        if (errno != EEXIST) return -1;
    }
    return -1;
}

int tp_names_take(char path[TP_PATH], const char *beside, const char *folder)
{
    int error = EEXIST;
    for (unsigned n = 0; n < NAMES && error == EEXIST; n++) {
        set_name(path, folder, n);
        error = tp_names_give(beside, path);
    }
    return error;
}
