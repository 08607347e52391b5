/* SPDX-License-Identifier: MIT */
/*
 * plugins.c - dlopen finds what it found without us, and DEEPBIND parts no heaps.
 *
 * Where a library is looked for follows from who calls dlopen: libopener.so has
 * RUNPATH=$ORIGIN, this program has none. A wrapper that merely calls the real dlopen
 * fails the first three cases.
 *
 * case: runpath
 * arg: runpath
 * expect: last.coverage.deepbind_stripped == 0
 * expect: last.coverage.namespaces == 0
 * case: runpath_deepbind
 * arg: runpath_deepbind
 * expect: last.coverage.deepbind_stripped == 1
 * case: origin
 * arg: origin
 * status: 0
 * case: early
 * arg: early
 * preload: opener
 * env: OPEN_EARLY=libplug.so
 * expect: last.coverage.deepbind_stripped == 1
 * expect: last.coverage.foreign_frees == 0
 * case: early_after
 * arg: early
 * preload_after: opener
 * env: OPEN_EARLY=libplug.so
 * expect: last.coverage.deepbind_stripped == 1
 * case: deepbind
 * arg: deepbind
 * plain: no
 * expect: last.coverage.deepbind_stripped == 1
 * expect: last.coverage.foreign_frees == 0
 * expect: last.coverage.reasons == []
 * case: deepbind_checked
 * arg: deepbind
 * options: check=on
 * plain: no
 * expect: last.coverage.deepbind_stripped == 1
 * case: deepbind_kept
 * arg: deepbind_kept
 * options: deepbind=keep
 * expect: last.coverage.deepbind_stripped == 0
 * expect: last.coverage.foreign_frees == 499
 * expect: last.coverage.reasons == ['deepbind_kept']
 * case: namespace
 * arg: namespace
 * plain: no
 * expect: last.coverage.namespaces == 1
 * expect: last.coverage.foreign_frees == 2 * 499
 * expect: last.coverage.reasons == ['namespaces']
 * case: namespace_checked
 * arg: namespace
 * options: check=on
 * plain: no
 * expect: last.coverage.foreign_frees == 2 * 499
 * case: within_namespace
 * arg: within_namespace
 * expect: last.coverage.namespaces == 1
 * case: no_such
 * arg: no_such
 * expect: last.coverage.deepbind_stripped == 1
 * expect: last.coverage.namespaces == 1
 */
#include "scene.h"

#include <dlfcn.h>

enum { BLOCKS = 499 };

static char path[4096];

/* The path of a library beside this program. */
static const char *beside(const char *name)
{
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 64);
    MUST(n > 0);
    path[n] = 0;
    strcpy(strrchr(path, '/') + 1, name);
    return path;
}

static void *function(void *library, const char *name)
{
    void *found = dlsym(library, name);
    MUST(found);
    return found;
}

static void *(*opener_in(Lmid_t space))(const char *, int)
{
    void *library = space ? dlmopen(space, beside("libopener.so"), RTLD_NOW)
                          : dlopen(beside("libopener.so"), RTLD_NOW);
    MUST(library);
    return (void *(*)(const char *, int))function(library, "opener_open");
}

static bool is(char **argv, const char *word)
{
    return argv[1] && !strcmp(argv[1], word);
}

/* Blocks cross between the program and the plugin in every direction. */
static void cross(void *plug)
{
    void *(*make)(size_t) = (void *(*)(size_t))function(plug, "plug_malloc");
    void (*drop)(void *) = (void (*)(void *))function(plug, "plug_free");
    char *(*text)(void) = (char *(*)(void))function(plug, "plug_text");
    for (unsigned i = 0; i < BLOCKS; i++) {
        free(make(i * 37));
        drop(malloc(i * 37));
        drop(strdup("from the program"));
        drop(text());
        free(text());
        free(realloc(make(i), i * 3 + 1));
    }
    MUST(!dlclose(plug));
}

/* Blocks of a heap that is not ours come to our free and realloc. */
static void receive(void *plug, bool all)
{
    void *(*make)(size_t) = (void *(*)(size_t))function(plug, "plug_malloc");
    static char *blocks[BLOCKS];
    for (unsigned i = 0; i < BLOCKS; i++) {
        MUST((blocks[i] = make(i * 307)));
        memset(blocks[i], 0x5a, i * 307);
        MUST(malloc_usable_size(blocks[i]) >= i * 307);
    }
    for (unsigned i = 0; i < BLOCKS; i++) free(blocks[i]);
    for (unsigned i = 0; all && i < BLOCKS; i++) {
        char *block = make(i * 307 + 1);
        memset(block, 0x5a, i * 307 + 1);
        block = realloc(block, 200003);
        for (unsigned at = 0; at <= i * 307; at++) MUST(block[at] == 0x5a);
        free(block);
    }
    MUST(!dlclose(plug));
}

int main(int argc, char **argv)
{
    (void)argc;
    if (is(argv, "runpath")) {
        MUST(opener_in(0)("libplug.so", RTLD_NOW));
        MUST(!dlopen("libplug-of-nobody.so", RTLD_NOW));
    } else if (is(argv, "runpath_deepbind")) {
        MUST(opener_in(0)("libplug.so", RTLD_LAZY | RTLD_DEEPBIND));
    } else if (is(argv, "origin")) {
        MUST(opener_in(0)("$ORIGIN/libplug.so", RTLD_NOW));
    } else if (is(argv, "early")) {
        MUST(dlopen(beside("libplug.so"), RTLD_NOW | RTLD_NOLOAD));
    } else if (is(argv, "deepbind")) {
        cross(dlopen(beside("libplug.so"), RTLD_NOW | RTLD_DEEPBIND));
    } else if (is(argv, "deepbind_kept")) {
        // Its strdup is the program's, its free is not: preload it without the mix.
        void *plug = dlopen(beside("libquiet_plug.so"), RTLD_NOW | RTLD_DEEPBIND);
        receive(plug, false);
    } else if (is(argv, "namespace")) {
        receive(dlmopen(LM_ID_NEWLM, beside("libplug.so"), RTLD_NOW), true);
    } else if (is(argv, "within_namespace")) {
        MUST(opener_in(LM_ID_NEWLM)("libplug.so", RTLD_NOW | RTLD_DEEPBIND));
    } else if (is(argv, "no_such")) {
        MUST(!dlopen("/no/such/library.so", RTLD_NOW | RTLD_DEEPBIND));
        const char *why = dlerror();
        MUST(why && strstr(why, "/no/such/library.so"));
        MUST(dlopen(NULL, RTLD_NOW));
        MUST(!dlmopen(LM_ID_NEWLM, "/no/such/library.so", RTLD_NOW) && dlerror());
    }
    return 0;
}
