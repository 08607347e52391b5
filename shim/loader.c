/* SPDX-License-Identifier: MIT */
/*
 * loader.c - RTLD_DEEPBIND is taken out of dlopen, and nobody sees that we were there.
 *
 * A library that is opened with RTLD_DEEPBIND takes free from the C library and not
 * from us, while the C library itself, and so strdup, goes on to call our malloc: the
 * first such block that it frees ends the program. So the flag is taken out, counted
 * and reported; deepbind=keep leaves it in.
 *
 * The loader looks at the return address of dlopen: whose RUNPATH and $ORIGIN count,
 * and which namespace the library goes to, follows from the caller. Therefore the
 * real dlopen is always called last and in our place, by a jump that leaves the
 * return address alone. A compiler that can promise it must; gcc 12 does it from -O2
 * on, where the library always is, and the scene `plugins` sees when it does not.
 *
 * A namespace of dlmopen has a C library and a heap of its own, and never us in it.
 * What comes from there to our free is told apart by foreign.c; here they are counted.
 *
 * After a dlclose an address may belong to another library: modules.c finds out. That
 * comes after the real dlclose, which asks for nobody's return address.
 */
#include "shim/output.h"
#include "shim/stack.h"

#include <dlfcn.h>
#include <stdatomic.h>

#if defined(__has_attribute) && __has_attribute(musttail)
#define TP_JUMP __attribute__((musttail))
#else
#define TP_JUMP
#endif

TP_EXPORT void *dlopen(const char *path, int mode);
TP_EXPORT void *dlmopen(Lmid_t space, const char *path, int mode);
TP_EXPORT int dlclose(void *library);

static struct {
    // Found once; more than one thread may find the same.
    void *(*_Atomic open)(const char *, int);
    void *(*_Atomic open_in)(Lmid_t, const char *, int);
    int (*_Atomic close)(void *);
} loader;

void tp_loader_open(void)
{
    loader.open = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
    loader.open_in = (void *(*)(Lmid_t, const char *, int))dlsym(RTLD_NEXT, "dlmopen");
    loader.close = (int (*)(void *))dlsym(RTLD_NEXT, "dlclose");
}

static void count(uint32_t *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* The mode to pass on. Context: any thread, also before our constructor. */
static TP_COLD int without_deepbind(int mode)
{
    if (!(mode & RTLD_DEEPBIND) || tp_is_aside()) return mode;
    struct tp_process_record *process = tp_live_process();
    if (tp_options.keep_deepbind) {
        __atomic_fetch_or(
            &process->flags, (uint32_t)TP_PROCESS_DEEPBIND_KEPT, __ATOMIC_RELAXED);
        return mode;
    }
    count(&process->deepbind_stripped);
    return mode & ~RTLD_DEEPBIND;
}

/* True when there is something to do before the jump. */
static inline bool is_special(int mode, bool known)
{
    return TP_UNLIKELY((mode & RTLD_DEEPBIND) || !known);
}

static TP_COLD int prepare(int mode)
{
    if (!atomic_load_explicit(&loader.open, memory_order_relaxed)) tp_loader_open();
    return without_deepbind(mode);
}

static TP_COLD int prepare_in(Lmid_t space, int mode)
{
    if (!atomic_load_explicit(&loader.open_in, memory_order_relaxed)) tp_loader_open();
    if (space == LM_ID_NEWLM) count(&tp_live_process()->namespaces);
    return space == LM_ID_BASE ? without_deepbind(mode) : mode;
}

void *dlopen(const char *path, int mode)
{
    bool known = atomic_load_explicit(&loader.open, memory_order_relaxed);
    if (is_special(mode, known)) mode = prepare(mode);
    TP_JUMP return atomic_load_explicit(&loader.open, memory_order_relaxed)(path, mode);
}

void *dlmopen(Lmid_t space, const char *path, int mode)
{
    mode = prepare_in(space, mode);
    TP_JUMP return atomic_load_explicit(&loader.open_in, memory_order_relaxed)(
        space, path, mode);
}

int dlclose(void *library)
{
    if (!atomic_load_explicit(&loader.close, memory_order_relaxed)) tp_loader_open();
    tp_modules_closing();
    int done = atomic_load_explicit(&loader.close, memory_order_relaxed)(library);
    tp_modules_unloaded();
    return done;
}
