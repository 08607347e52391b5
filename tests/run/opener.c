/* SPDX-License-Identifier: MIT */
/*
 * opener.c - opens what its caller names: whose RUNPATH counts is this library's.
 *
 * Built as libopener.so with RUNPATH=$ORIGIN, not as a scene. Preloaded, with
 * OPEN_EARLY set, it opens a library in its constructor.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

void *opener_open(const char *name, int mode);

void *opener_open(const char *name, int mode)
{
    void *volatile handle = dlopen(name, mode);  // volatile: a call, not a jump
    return handle;
}

__attribute__((constructor)) static void start(void)
{
    const char *name = getenv("OPEN_EARLY");
    if (!name) return;
    unsetenv("OPEN_EARLY");
    if (!opener_open(name, RTLD_NOW | RTLD_DEEPBIND)) _exit(97);
}
