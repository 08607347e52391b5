/* SPDX-License-Identifier: MIT */
/*
 * names.c - a finished file gets a name that nobody has.
 *
 * Whatever stands in the way, a file, a link that leads nowhere, somebody else's, stays
 * as it is: the caller tries the next name.
 */
#include "shim/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

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
