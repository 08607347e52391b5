/* SPDX-License-Identifier: MIT */
/*
 * foreign.c - pointers that are not ours: blocks go to who made them, nonsense ends.
 *
 * Blocks come from libraries that were linked past us (RTLD_DEEPBIND, dlmopen), from
 * callers of __libc_malloc, and from an allocator that stands behind us and has names
 * of its own. Nonsense comes too: addresses on the stack, of variables, of nothing.
 * Given to glibc's free, that is an abort with luck, and a crash or a heap quietly
 * broken without. So what glibc writes in front of each of its blocks is looked at
 * first, as far as it has been the same since ever: what lacks it is stopped here,
 * with a line that says why. What has it goes to glibc, which looks closer.
 *
 * A block of another namespace's main heap would do harm in ours: nobody can free it
 * but the C library over there, so it is counted and left alone.
 */
#include "pool/host.h"
#include "pool/os.h"
#include "shim/output.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

/* glibc's free under its other name, which nobody interposes. */
extern void __libc_free(void *p);

/* What stands in front of every block of glibc's. */
struct chunk {
    size_t before;  // of a mapping of its own: bytes from its start to here
    size_t size;    // of the whole chunk, and in the low bits:
};

enum { MAPPED = 2, OTHER_HEAP = 4, CHUNK_BITS = 7 };

/* True when 8 bytes there can be read. The address is a multiple of 8. */
static bool is_readable(uintptr_t at)
{
    // The kernel copies the set before it finds that there is no such way to set it.
    if (tp_os_is_sandboxed()) return true;  // as far as we may ask
    int saved = errno;
    bool good = syscall(SYS_rt_sigprocmask, -1, at, NULL, 8) == 0 || errno != EFAULT;
    errno = saved;
    return good;
}

/* Why no block of glibc's begins at `p`; NULL when one may. */
static const char *fault(const void *p)
{
    uintptr_t at = (uintptr_t)p;
    if (at % TP_MIN_ALIGN) return "no block begins at such an address";
    if (at < tp_os_page() || !is_readable(at - sizeof(struct chunk)))
        return "there is no memory";
    const struct chunk *chunk = (const struct chunk *)p - 1;
    size_t size = chunk->size & ~(size_t)CHUNK_BITS;
    if (size < 2 * sizeof(struct chunk) || size % TP_MIN_ALIGN || size > PTRDIFF_MAX)
        return "no block begins there";
    if (chunk->size & MAPPED) {
        size_t page = tp_os_page() - 1;
        bool whole = !((at - sizeof(struct chunk) - chunk->before) & page) &&
            !((chunk->before + size) & page);
        return whole ? NULL : "no block begins there";
    }
    // Another chunk follows each that is not a mapping of its own.
    return is_readable(at - sizeof(struct chunk) + size) ? NULL
                                                         : "no block begins there";
}

/* True for a block in the main heap of a C library in another namespace. */
static bool is_from_elsewhere(const void *p)
{
    const struct chunk *chunk = (const struct chunk *)p - 1;
    if (!tp_live_process()->namespaces || chunk->size & (MAPPED | OTHER_HEAP))
        return false;
    // Ours has the break of the process to itself.
    return (uintptr_t)p < tp_boot.first_break || (uintptr_t)p >= (uintptr_t)sbrk(0);
}

/* An allocator that stands behind us and may have given out what is not ours. */
static bool has_other(void)
{
    return tp_next.free && tp_next.free != __libc_free;
}

void tp_host_foreign_free(void *p)
{
    const char *why = fault(p);
    if (why && has_other())
        tp_next.free(p);
    else if (why)
        tp_die("invalid free of %p: %s", p, why);
    else if (!is_from_elsewhere(p))
        __libc_free(p);
}

size_t tp_host_foreign_bytes(const void *p)
{
    if (fault(p))
        return has_other() ? tp_next.malloc_usable_size((void *)(uintptr_t)p) : 0;
    const struct chunk *chunk = (const struct chunk *)p - 1;
    size_t size = chunk->size & ~(size_t)CHUNK_BITS;
    return size - (chunk->size & MAPPED ? sizeof(struct chunk) : sizeof(size_t));
}
