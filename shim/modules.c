/* SPDX-License-Identifier: MIT */
/*
 * modules.c - the loaded files that occur in stacks, each with a record.
 *
 * Idea: an address says nothing once its library is gone, so frames are kept as module
 * and offset. A record is never used again: a library that comes back, or another one
 * at the same address, gets a new one. What a record says is for the reader; what we
 * recognise a module by is in memory of our own, which nobody else can spoil.
 *
 * Holds always: a module is `alive` from when it is met until it is found gone; of two
 * that overlap at most one is alive.
 */
#include "pool/os.h"
#include "shim/life.h"
#include "shim/profile.h"
#include "shim/unwind.h"

#include <string.h>
#include <sys/auxv.h>

enum { WAITS = 1000 };  // of 50 us

/* By what a module is recognised. Written under the lock, `alive` last. */
struct known {
    struct tp_span span;
    uintptr_t place;  // by which the loader found it; not every part of a span will do
    const void *map;
    uint64_t identity;    // of its name and build id: the loader uses its memory again
    _Atomic(bool) alive;  // release; meets the load in find()
};

static struct {
    struct tp_lock lock;
    struct known
        *_Atomic known;  // by record; mapped on first use, written with release
} modules;

static uint64_t mix(uint64_t hash, const void *bytes, size_t n)
{
    // FNV-1a
    for (const uint8_t *at = bytes; n > 0; n--) hash = (hash ^ *at++) * 0x100000001b3u;
    return hash;
}

static uint64_t identity_of(const struct tp_object *object)
{
    uint8_t id[TP_FORMAT_BUILD_ID];
    size_t n = tp_object_build_id(object, id, sizeof(id));
    return mix(mix(0xcbf29ce484222325u, id, n), object->name, strlen(object->name));
}

static bool is_same(const struct known *known, const struct tp_object *object)
{
    return known->span.start == object->span.start &&
        known->span.end == object->span.end && known->map == object->map;
}

/* Record of the living module in which `address` lies; UINT32_MAX: none is known. */
static uint32_t find(uintptr_t address)
{
    const struct known *known =
        atomic_load_explicit(&modules.known, memory_order_acquire);
    if (!known) return UINT32_MAX;
    for (uint32_t i = tp_table_count(&tp_modules); i-- > 0;)
        if (atomic_load_explicit(&known[i].alive, memory_order_acquire) &&
            address >= known[i].span.start && address < known[i].span.end)
            return i;
    return UINT32_MAX;
}

/* The path that the reader is told; returns its flags. */
static uint32_t name(const struct tp_object *object, char *out, size_t size)
{
    uint32_t flags = 0;
    const char *path = object->name;
    uintptr_t vdso = getauxval(AT_SYSINFO_EHDR);
    if (vdso && vdso == object->span.start) {
        flags = TP_MODULE_VDSO;
        if (!path[0]) path = "[vdso]";
    } else if (!path[0]) {
        flags = TP_MODULE_MAIN;
        path = tp_boot.exe;
    }
    size_t n = strlen(path);
    if (n >= size) {
        n = size - 1;
        flags |= TP_MODULE_PATH_CUT;
    }
    memcpy(out, path, n);
    out[n] = '\0';
    return flags;
}

/* Fills record `i`; `end` is what makes it one. */
static void fill(uint32_t i, const struct tp_object *object)
{
    struct tp_module_record *record = tp_table_at(&tp_modules, i);
    if (!record) return;
    record->base = object->base;
    record->start = object->span.start;
    record->loaded_ns = tp_os_now_ns();
    record->epoch = atomic_load_explicit(&tp_rows.epoch, memory_order_relaxed);
    record->build_id_bytes =
        (uint8_t)tp_object_build_id(object, record->build_id, TP_FORMAT_BUILD_ID);
    record->flags = name(object, record->path, sizeof(record->path));
    __atomic_store_n(&record->end, (uint64_t)object->span.end, __ATOMIC_RELEASE);
}

/* Under the lock. */
static void retire(uint32_t i, struct known *known)
{
    struct tp_module_record *record = tp_table_at(&tp_modules, i);
    atomic_store_explicit(&known[i].alive, false, memory_order_release);
    if (record)
        __atomic_store_n(&record->unloaded_ns, tp_os_now_ns(), __ATOMIC_RELEASE);
}

/* Retires what overlaps `object` but is not it. True: there was something. */
static bool retire_others(const struct tp_object *object, struct known *known)
{
    bool some = false;
    for (uint32_t i = tp_table_count(&tp_modules); i-- > 0;) {
        if (!atomic_load_explicit(&known[i].alive, memory_order_relaxed)) continue;
        if (known[i].span.start >= object->span.end ||
            known[i].span.end <= object->span.start)
            continue;
        retire(i, known);
        some = true;
    }
    return some;
}

/* Under the lock; nobody has it yet. */
static uint32_t add(const struct tp_object *object, uintptr_t place)
{
    struct known *known = atomic_load_explicit(&modules.known, memory_order_relaxed);
    if (!known) {
        known = tp_os_map(tp_modules.most * sizeof(*known));
        if (!known) return UINT32_MAX;
        // Meets the load in find().
        atomic_store_explicit(&modules.known, known, memory_order_release);
    }
    // Unloaded without our hearing of it, as the C library does with its own plugins.
    if (retire_others(object, known)) tp_rows_forget();
    uint32_t i = tp_table_add(&tp_modules);
    if (i >= tp_modules.most) return UINT32_MAX;
    fill(i, object);
    known[i].span = object->span;
    known[i].place = place;
    known[i].map = object->map;
    known[i].identity = identity_of(object);
    atomic_store_explicit(&known[i].alive, true, memory_order_release);
    return i;
}

/* The living module that `object` is; UINT32_MAX: it is new, or was replaced. */
static uint32_t recognise(const struct tp_object *object)
{
    uint32_t i = find(object->span.start);
    if (i == UINT32_MAX) return i;
    const struct known *known =
        atomic_load_explicit(&modules.known, memory_order_relaxed);
    bool same = is_same(&known[i], object) && known[i].identity == identity_of(object);
    return same ? i : UINT32_MAX;
}

uint32_t tp_module_of(uintptr_t address)
{
    struct tp_object object;
    if (!tp_object_at(address, &object)) return 0;
    uint32_t i = recognise(&object);
    if (i == UINT32_MAX) {
        tp_lock_enter(&modules.lock);
        i = recognise(&object);
        if (i == UINT32_MAX) i = add(&object, address);
        tp_lock_leave(&modules.lock);
    }
    return i + 1;  // UINT32_MAX: 0
}

void tp_modules_closing(void)
{
    atomic_fetch_add(&tp_rows.closing, 1);
    // A guess is looked up in microseconds. Longer than some tens of milliseconds only
    // a thread that is gone is at it: in the child of a raw clone, for one.
    for (unsigned tries = 0; tries < WAITS && atomic_load(&tp_rows.guessing); tries++)
        tp_os_pause();
}

/* Retires what is gone. Needs: no library is unloaded meanwhile. */
static void sweep(struct known *known);

void tp_modules_unloaded(void)
{
    tp_rows_less(&tp_rows.closing);
    struct known *known = atomic_load_explicit(&modules.known, memory_order_acquire);
    if (known && tp_rows_enter()) {
        sweep(known);
        tp_rows_leave();
    } else {
        // No module is known, but rows of one may be: they wait for the table. Or
        // another library goes at this moment: who unloads it will look.
        tp_rows_forget();
    }
}

static void sweep(struct known *known)
{
    bool some = false;
    tp_lock_enter(&modules.lock);
    for (uint32_t i = tp_table_count(&tp_modules); i-- > 0;) {
        struct tp_object object;
        if (!atomic_load_explicit(&known[i].alive, memory_order_relaxed)) continue;
        if (tp_object_at(known[i].place, &object) && is_same(&known[i], &object) &&
            known[i].identity == identity_of(&object))
            continue;
        retire(i, known);
        some = true;
    }
    tp_lock_leave(&modules.lock);
    if (some) tp_rows_forget();
}

void tp_modules_forked(void)
{
    atomic_store_explicit(&modules.lock.word, 0, memory_order_relaxed);
    atomic_store(&tp_rows.closing, 0);
    atomic_store(&tp_rows.guessing, 0);
}

const char *tp_module_path(uint32_t module)
{
    const struct tp_module_record *record =
        module ? tp_table_at(&tp_modules, module - 1) : NULL;
    if (!record || !__atomic_load_n(&record->end, __ATOMIC_ACQUIRE)) return "";
    // The file may be spoiled: what is not terminated is no path.
    return memchr(record->path, '\0', sizeof(record->path)) ? record->path : "";
}
