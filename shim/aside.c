/* SPDX-License-Identifier: MIT */
/*
 * aside.c - where another allocator serves the program we are as good as not there.
 *
 * Idea: an executable that defines malloc, free, calloc or realloc wins over every
 * preload, and so does a library preloaded before us. What it does not define would
 * be ours; two heaps that free each other's blocks are a crash, and one that works
 * without us must work with us. So when one of the four names is not ours, every
 * call that still reaches us is handed on to whoever would have had it: the next
 * library in the order of look-up, most often the C library.
 *
 * Holds always: the verdict is reached inside the first call that reaches us, before
 * any block of ours exists, and does not change.
 */
#include "shim/life.h"

#include "pool/host.h"
#include "pool/pool.h"

#include <dlfcn.h>
#include <link.h>

struct tp_aside tp_aside;
struct tp_next tp_next;

/* True when `name` is not ours; notes whose it is. */
static bool is_taken(const char *name, const void *our_base)
{
    Dl_info theirs;
    const ElfW(Sym) *symbol = NULL;
    struct link_map *map = NULL;
    void *chosen = dlsym(RTLD_DEFAULT, name);
    if (!chosen || !dladdr1(chosen, &theirs, (void **)(void *)&symbol, RTLD_DL_SYMENT))
        return false;
    // In a non-PIE program the undefined symbol stands for its way to ours.
    bool defined = symbol && symbol->st_shndx != SHN_UNDEF;
    if (!defined || theirs.dli_fbase == our_base) return false;
    tp_aside.name = name;
    tp_aside.library = theirs.dli_fname;
    // The executable is the first of all.
    tp_aside.own = dladdr1(chosen, &theirs, (void **)(void *)&map, RTLD_DL_LINKMAP) &&
        !map->l_prev;
    return true;
}

static void find(const char *name, void *out_function)
{
    *(void **)out_function = dlsym(RTLD_NEXT, name);
}

static void find_next(void)
{
    find("malloc", &tp_next.malloc);
    find("calloc", &tp_next.calloc);
    find("realloc", &tp_next.realloc);
    find("memalign", &tp_next.memalign);
    find("aligned_alloc", &tp_next.aligned_alloc);
    find("posix_memalign", &tp_next.posix_memalign);
    find("valloc", &tp_next.valloc);
    find("pvalloc", &tp_next.pvalloc);
    find("reallocarray", &tp_next.reallocarray);
    find("malloc_trim", &tp_next.malloc_trim);
    find("mallopt", &tp_next.mallopt);
    find("mallinfo", &tp_next.mallinfo);
    find("mallinfo2", &tp_next.mallinfo2);
    find("malloc_info", &tp_next.malloc_info);
    find("malloc_stats", &tp_next.malloc_stats);
}

void tp_aside_decide(void)
{
    static const char *const names[] = { "malloc", "free", "calloc", "realloc" };
    atomic_store_explicit(&tp_aside.state, TP_ASIDE_DECIDING, memory_order_relaxed);
    Dl_info ours;
    bool taken = false;
    bool known = dladdr(&tp_aside, &ours);
    for (size_t i = 0; known && !taken && i < sizeof(names) / sizeof(names[0]); i++)
        taken = is_taken(names[i], ours.dli_fbase);
    find("free", &tp_next.free);
    find("malloc_usable_size", &tp_next.malloc_usable_size);
    if (taken) find_next();
    // Meets the acquire in tp_is_aside().
    atomic_store_explicit(
        &tp_aside.state, taken ? TP_ASIDE_YES : TP_ASIDE_NO, memory_order_release);
}

bool tp_aside_ask(void)
{
    tp_pool_start();
    // While it is being decided dlsym() may call: it does without memory.
    return atomic_load_explicit(&tp_aside.state, memory_order_acquire) == TP_ASIDE_YES;
}

void *tp_host_next_alloc(size_t size)
{
    return tp_next.malloc(size);
}

void tp_host_next_free(void *p)
{
    tp_next.free(p);
}
