/* SPDX-License-Identifier: MIT */
/*
 * wrapper.c - another preloaded library: wraps calls of the system, as tracers do.
 *
 * Built as libwrapper.so, not as a scene. Every wrapped call allocates, and ends the
 * program when that fails; the calls are counted in WRAPPED_CALLS.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static char calls[] = "WRAPPED_CALLS=000000";

static void *next(const char *name)
{
    char *text = strdup(name);
    if (!text) _exit(96);
    void *found = dlsym(RTLD_NEXT, text);
    free(text);
    if (!found) _exit(95);
    for (char *digit = calls + sizeof calls - 2; *digit != '='; digit--) {
        if (++*digit <= '9') break;
        *digit = '0';
    }
    return found;
}

__attribute__((constructor)) static void start(void)
{
    putenv(calls);
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return ((int (*)(const char *, int, ...))next("open"))(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return ((int (*)(const char *, int, ...))next("open64"))(path, flags, mode);
}

void *mmap(void *at, size_t bytes, int access, int flags, int fd, off_t offset)
{
    void *(*real)(void *, size_t, int, int, int, off_t) =
        (void *(*)(void *, size_t, int, int, int, off_t))next("mmap");
    return real(at, bytes, access, flags, fd, offset);
}

void *mmap64(void *at, size_t bytes, int access, int flags, int fd, off64_t offset)
{
    void *(*real)(void *, size_t, int, int, int, off64_t) =
        (void *(*)(void *, size_t, int, int, int, off64_t))next("mmap64");
    return real(at, bytes, access, flags, fd, offset);
}

int munmap(void *at, size_t bytes)
{
    return ((int (*)(void *, size_t))next("munmap"))(at, bytes);
}

int madvise(void *at, size_t bytes, int advice)
{
    return ((int (*)(void *, size_t, int))next("madvise"))(at, bytes, advice);
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    return ((int (*)(clockid_t, struct timespec *))next("clock_gettime"))(clock, out);
}

int fsync(int fd)
{
    return ((int (*)(int))next("fsync"))(fd);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    return ((ssize_t(*)(int, const void *, size_t))next("write"))(fd, bytes, n);
}

ssize_t read(int fd, void *bytes, size_t n)
{
    return ((ssize_t(*)(int, void *, size_t))next("read"))(fd, bytes, n);
}

int close(int fd)
{
    return ((int (*)(int))next("close"))(fd);
}
