/* SPDX-License-Identifier: MIT */
/*
 * raw.c - what the library asks the system for, it asks the kernel itself.
 *
 * Tracers, sandboxes and clocks of a test's making are preloaded too, and wrap open,
 * mmap or clock_gettime. Their wrappers allocate: called from inside of the allocator
 * that would wait for a lock of its own, or find no heap yet. And what they write down,
 * forbid or invent is meant for the program. So the linker leads every such call of the
 * library here (--wrap, in meson.build), and none of them passes a wrapper.
 *
 * Each function has the C library's meaning; only what we use of it is there.
 */
#include "pool/os.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// The linker knows these names, the compiler does not.
#define RAW __attribute__((used, visibility("hidden")))

RAW int __wrap_open64(const char *path, int flags, ...);
RAW int __wrap_open(const char *path, int flags, ...);
RAW int __wrap_creat(const char *path, mode_t mode);
RAW int __wrap_close(int fd);
RAW ssize_t __wrap_read(int fd, void *bytes, size_t n);
RAW ssize_t __wrap_write(int fd, const void *bytes, size_t n);
RAW ssize_t __wrap_pwrite64(int fd, const void *bytes, size_t n, off_t at);
RAW void *__wrap_mmap64(void *at, size_t n, int access, int flags, int fd, off_t from);
RAW int __wrap_munmap(void *at, size_t n);
RAW int __wrap_mprotect(void *at, size_t n, int access);
RAW int __wrap_madvise(void *at, size_t n, int advice);
RAW void *__wrap_mremap(void *at, size_t n, size_t to, int flags, ...);
RAW int __wrap_unlink(const char *path);
RAW int __wrap_link(const char *from, const char *to);
RAW ssize_t __wrap_readlink(const char *path, char *out, size_t n);
RAW int __wrap_clock_gettime(clockid_t clock, struct timespec *out);
RAW time_t __wrap_time(time_t *out);
extern int __real_clock_gettime(clockid_t clock, struct timespec *out);

int __wrap_open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* jemalloc's, which only ever reads. */
int __wrap_open(const char *path, int flags, ...)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, 0);
}

int __wrap_creat(const char *path, mode_t mode)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int __wrap_close(int fd)
{
    return (int)syscall(SYS_close, fd);
}

ssize_t __wrap_read(int fd, void *bytes, size_t n)
{
    return syscall(SYS_read, fd, bytes, n);
}

ssize_t __wrap_write(int fd, const void *bytes, size_t n)
{
    return syscall(SYS_write, fd, bytes, n);
}

ssize_t __wrap_pwrite64(int fd, const void *bytes, size_t n, off_t at)
{
    return syscall(SYS_pwrite64, fd, bytes, n, at);
}

void *__wrap_mmap64(void *at, size_t n, int access, int flags, int fd, off_t from)
{
    return (void *)syscall(SYS_mmap, at, n, access, flags, fd, from);
}

int __wrap_munmap(void *at, size_t n)
{
    return (int)syscall(SYS_munmap, at, n);
}

int __wrap_mprotect(void *at, size_t n, int access)
{
    return (int)syscall(SYS_mprotect, at, n, access);
}

int __wrap_madvise(void *at, size_t n, int advice)
{
    return (int)syscall(SYS_madvise, at, n, advice);
}

void *__wrap_mremap(void *at, size_t n, size_t to, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    void *wish = flags & MREMAP_FIXED ? va_arg(rest, void *) : NULL;
    va_end(rest);
    return (void *)syscall(SYS_mremap, at, n, to, flags, wish);
}

int __wrap_unlink(const char *path)
{
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int __wrap_link(const char *from, const char *to)
{
    return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

ssize_t __wrap_readlink(const char *path, char *out, size_t n)
{
    return syscall(SYS_readlinkat, AT_FDCWD, path, out, n);
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *out)
{
    // A filter may kill for the call; the C library's needs none.
    if (tp_os_is_sandboxed()) return __real_clock_gettime(clock, out);
    return (int)syscall(SYS_clock_gettime, clock, out);
}

time_t __wrap_time(time_t *out)
{
    struct timespec now = { 0 };
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
