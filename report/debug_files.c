/* SPDX-License-Identifier: MIT */
/*
 * debug_files.c - the files of a module: the module itself and its debug information.
 *
 * Idea: the path in a dump is what the loader saw. Since then the file may have been
 * replaced, deleted, or be another one in our mount namespace; the dump may come from
 * another machine. So a path is only where to look; whether it is the file is decided by
 * its build id. The order of places is gdb's: by build id, by .gnu_debuglink, then, only
 * when asked, the debuginfod servers. libdw would ask those whenever $DEBUGINFOD_URLS is
 * set; we look for ourselves, and open libdebuginfod only when it is wanted.
 */
#include "report/symbols.h"

#include <dirent.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SPAN_SLACK = 64 * 1024,  // pages at both ends, of the largest size
    VDSO_BYTES = 1 << 20,    // more than any has
};

static const char debug_folders[] = "/usr/lib/debug";

/* A file that has been looked at. */
struct candidate {
    int fd;
    struct stat status;
    struct tp_elf_facts facts;
};

static bool same_id(const struct tp_build_id *a, const struct tp_build_id *b)
{
    return a->n && a->n == b->n && memcmp(a->bytes, b->bytes, a->n) == 0;
}

static uint64_t nanoseconds(const struct timespec *time)
{
    return (uint64_t)time->tv_sec * 1000000000u + (uint64_t)time->tv_nsec;
}

static void let_go(struct candidate *candidate)
{
    if (candidate->fd >= 0) close(candidate->fd);
    tp_elf_facts_fini(&candidate->facts);
    candidate->fd = -1;
}

/* Takes over `fd`; it is closed when it is no ELF file. */
static bool look_at_fd(struct candidate *out, int fd)
{
    memset(out, 0, sizeof(*out));
    out->fd = fd;
    if (fd >= 0 && fstat(fd, &out->status) == 0 && S_ISREG(out->status.st_mode) &&
        tp_elf_facts_read(&out->facts, fd))
        return true;
    let_go(out);
    return false;
}

static bool look_at(struct candidate *out, const char *path)
{
    // A name from a dump may be a pipe's, or a tape's.
    return look_at_fd(out, open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
}

/* ---- the module's own file --------------------------------------------------------------- */

/*
 * `mapped`: the name leads to the very file that the process has mapped. Without a build
 * id any other must be of the same extent, and unchanged since it was loaded.
 */
static bool is_the_module(const struct tp_wanted_module *module,
    const struct candidate *candidate, bool mapped)
{
    const struct tp_elf_facts *facts = &candidate->facts;
    if (module->id.n) return same_id(&module->id, &facts->id);
    if (facts->id.n) return false;
    if (mapped) return true;
    uint64_t a = facts->span_bytes, b = module->span_bytes;
    if ((a > b ? a - b : b - a) > SPAN_SLACK) return false;
    return module->loaded_ns &&
        nanoseconds(&candidate->status.st_ctim) <= module->loaded_ns;
}

static bool try_module(struct candidate *out, const struct tp_wanted_module *module,
    const char *path, bool mapped)
{
    if (!look_at(out, path)) return false;
    if (is_the_module(module, out, mapped)) return true;
    let_go(out);
    return false;
}

/* The name in map_files of some mapping of the module. */
static bool find_mapping(char *out, size_t size, const struct tp_wanted_module *module)
{
    char folder[64];
    bool found = false;
    snprintf(folder, sizeof(folder), "/proc/%u/map_files", module->pid);
    DIR *stream = opendir(folder);
    const struct dirent *entry;
    while (stream && !found && (entry = readdir(stream))) {
        char *rest;
        unsigned long long start = strtoull(entry->d_name, &rest, 16);
        found = *rest == '-' && start >= module->start && start < module->end;
        if (found) snprintf(out, size, "%s/%.64s", folder, entry->d_name);
    }
    if (stream) closedir(stream);
    return found;
}

/* By way of the process, which still runs: what it has mapped, be it deleted or not. */
static bool try_process(struct candidate *out, const struct tp_wanted_module *module,
    char *path, size_t size)
{
    if (!module->pid) return false;
    snprintf(path, size, "/proc/%u/exe", module->pid);
    if ((module->flags & TP_MODULE_MAIN) && try_module(out, module, path, true))
        return true;
    snprintf(path, size, "/proc/%u/root%s", module->pid, module->path);
    if (module->path[0] == '/' && try_module(out, module, path, false)) return true;
    return find_mapping(path, size, module) && try_module(out, module, path, true);
}

/* Our own: of the same kernel it is the same. */
static bool try_vdso(struct candidate *out, const struct tp_wanted_module *module)
{
    const unsigned char *image = (const unsigned char *)getauxval(AT_SYSINFO_EHDR);
    Elf64_Ehdr header;
    if (!(module->flags & TP_MODULE_VDSO) || !image || !module->id.n) return false;
    memcpy(&header, image, sizeof(header));
    // Its section headers are its end.
    uint64_t bytes = header.e_shoff + (uint64_t)header.e_shnum * header.e_shentsize;
    if (bytes < sizeof(header) || bytes > VDSO_BYTES) return false;
    int fd = memfd_create("vdso", MFD_CLOEXEC);
    if (fd >= 0 && write(fd, image, bytes) != (ssize_t)bytes) {
        close(fd);
        fd = -1;
    }
    if (!look_at_fd(out, fd)) return false;
    if (is_the_module(module, out, false)) return true;
    let_go(out);
    return false;
}

/* The path without the mark that the kernel puts behind the name of a deleted file. */
static bool without_mark(char *out, size_t size, const char *path)
{
    static const char mark[] = " (deleted)";
    size_t n = strlen(path), length = sizeof(mark) - 1;
    if (n <= length || strcmp(path + n - length, mark) != 0) return false;
    snprintf(out, size, "%.*s", (int)(n - length), path);
    return true;
}

static bool find_module(struct candidate *out, const struct tp_wanted_module *module,
    char *path, size_t size)
{
    snprintf(path, size, "%s", module->path);
    if (try_vdso(out, module)) return true;
    if (module->flags & TP_MODULE_VDSO) return false;
    // Where the process looks is better than where we do; with a build id it is the same.
    if (!module->id.n && try_process(out, module, path, size)) return true;
    snprintf(path, size, "%s", module->path);
    if (path[0] == '/' && try_module(out, module, path, false)) return true;
    if (path[0] == '/' && without_mark(path, size, module->path) &&
        try_module(out, module, path, false))
        return true;
    return module->id.n && try_process(out, module, path, size);
}

/* ---- separate debug information ------------------------------------------------------------ */

/* CRC-32 of IEEE 802.3, as .gnu_debuglink has it. False: the file cannot be read. */
static bool crc_of(int fd, uint32_t *out)
{
    uint32_t table[256];
    unsigned char bytes[16 * 1024];
    uint32_t crc = UINT32_MAX;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] & 1 ? table[i] >> 1 ^ 0xedb88320u : table[i] >> 1;
    }
    off_t at = 0;
    ssize_t got;
    while ((got = pread(fd, bytes, sizeof(bytes), at)) > 0) {
        for (ssize_t i = 0; i < got; i++)
            crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 0xff];
        at += got;
    }
    *out = ~crc;
    return got == 0;
}

struct search {
    const struct tp_build_id *id;  // of what is looked for
    uint32_t crc;                  // without an id
    enum tp_quality above;         // it has to be better than this
    struct candidate found;
    char *path;
};

/* Keeps the file when it is what is looked for. */
static bool consider(struct search *search, int fd, const char *path)
{
    struct candidate candidate;
    uint32_t crc;
    if (!look_at_fd(&candidate, fd)) return false;
    bool right = search->id->n ? same_id(search->id, &candidate.facts.id)
                               : crc_of(candidate.fd, &crc) && crc == search->crc;
    if (right && candidate.facts.best > search->above &&
        (search->path = strdup(path))) {
        search->found = candidate;
        return true;
    }
    let_go(&candidate);
    return false;
}

static bool __attribute__((format(printf, 2, 3)))
consider_path(struct search *search, const char *format, ...)
{
    char path[PATH_MAX];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(path, sizeof(path), format, arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n >= sizeof(path)) return false;
    return consider(
        search, open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), path);
}

static void hex_of(char *out, const struct tp_build_id *id)
{
    for (size_t i = 0; i < id->n; i++) sprintf(out + 2 * i, "%02x", id->bytes[i]);
    out[2 * id->n] = '\0';
}

/* Calls `look` for each folder of the list until one has it. */
static bool each_folder(struct search *search, const struct tp_debug_places *places,
    bool (*look)(struct search *, const char *folder, const void *), const void *what)
{
    const char *at = places->folders ? places->folders : debug_folders;
    char folder[PATH_MAX];
    while (*at) {
        size_t n = strcspn(at, ":");
        snprintf(folder, sizeof(folder), "%.*s", (int)n, at);
        if (folder[0] == '/' && look(search, folder, what)) return true;
        at += n + (at[n] == ':');
    }
    return false;
}

static bool look_by_id(struct search *search, const char *folder, const void *unused)
{
    char hex[2 * TP_FORMAT_BUILD_ID + 1];
    (void)unused;
    if (search->id->n < 2) return false;
    hex_of(hex, search->id);
    return consider_path(search, "%s/.build-id/%.2s/%s.debug", folder, hex, hex + 2) ||
        consider_path(search, "%s/.build-id/%.2s/%s", folder, hex, hex + 2);
}

struct named {
    const char *folder;  // of the module
    const char *link;
};

/* On systems where /lib is /usr/lib, packages name files either way. */
static bool look_by_name(struct search *search, const char *folder, const void *what)
{
    const struct named *named = what;
    bool usr = strncmp(named->folder, "/usr/", 5) == 0;
    return consider_path(search, "%s%s/%s", folder, named->folder, named->link) ||
        (usr &&
            consider_path(search, "%s%s/%s", folder, named->folder + 4, named->link)) ||
        (!usr &&
            consider_path(search, "%s/usr%s/%s", folder, named->folder, named->link));
}

static bool find_by_link(struct search *search, const struct tp_debug_places *places,
    const struct named *named)
{
    return consider_path(search, "%s/%s", named->folder, named->link) ||
        consider_path(search, "%s/.debug/%s", named->folder, named->link) ||
        each_folder(search, places, look_by_name, named);
}

/* Asks the servers of $DEBUGINFOD_URLS; their answers stay in the client's own cache. */
static bool find_by_servers(struct search *search)
{
    if (!search->id->n) return false;
    void *library = dlopen("libdebuginfod.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return false;
    // As in elfutils/debuginfod.h, which need not be installed. dlsym() gives pointers
    // to data; POSIX lets them be pointers to functions.
    void *(*begin)(void);
    int (*find)(void *, const unsigned char *, int, char **);
    void (*end)(void *);
    *(void **)&begin = dlsym(library, "debuginfod_begin");
    *(void **)&find = dlsym(library, "debuginfod_find_debuginfo");
    *(void **)&end = dlsym(library, "debuginfod_end");
    void *client = begin && find && end ? begin() : NULL;
    if (!client) return false;
    char *path = NULL;
    int fd = find(client, search->id->bytes, search->id->n, &path);
    bool found = fd >= 0 && consider(search, fd, path ? path : "debuginfod");
    free(path);
    end(client);
    return found;  // the library stays: it may have threads of its own
}

/* What several files share (dwz): named by one of them, which has it relative to itself. */
static void find_shared(struct tp_debug_files *out, const struct tp_elf_facts *facts,
    const char *path, const struct tp_debug_places *places)
{
    struct search search = { .id = &facts->shared_id };
    const char *slash = path ? strrchr(path, '/') : NULL;
    if (!facts->shared || !facts->shared_id.n) return;
    bool found = false;
    if (facts->shared[0] == '/')
        found = consider_path(&search, "%s", facts->shared);
    else if (slash)
        found =
            consider_path(&search, "%.*s/%s", (int)(slash - path), path, facts->shared);
    if (!found && !each_folder(&search, places, look_by_id, NULL) &&
        !(places->debuginfod && find_by_servers(&search)))
        return;
    out->shared_fd = search.found.fd;
    out->bytes += search.found.facts.bytes;
    search.found.fd = -1;
    let_go(&search.found);
    free(search.path);
    out->main_link = strdup(facts->shared);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void set_origin(struct tp_debug_files *out, const struct candidate *candidate)
{
    out->bytes += candidate->facts.bytes;
    if (candidate->facts.best <= out->origin.quality) return;
    out->origin.quality = candidate->facts.best;
    out->origin.bytes = (uint64_t)candidate->status.st_size;
    out->origin.time_ns = nanoseconds(&candidate->status.st_mtim);
}

/* What is better than the module's own symbols. */
static bool find_debug(struct search *search, const struct candidate *main,
    const char *path, const struct tp_wanted_module *module,
    const struct tp_debug_places *places)
{
    char folder[PATH_MAX];
    bool have = main->fd >= 0;
    if (module->id.n && each_folder(search, places, look_by_id, NULL)) return true;
    if (have && main->facts.link) {
        // The name is relative to the file, not to a link that leads to it.
        if (!realpath(path, folder)) snprintf(folder, sizeof(folder), "%s", path);
        char *slash = strrchr(folder, '/');
        if (slash) *slash = '\0';
        struct named named = { .folder = slash ? folder : ".",
            .link = main->facts.link };
        search->crc = main->facts.link_crc;
        if (find_by_link(search, places, &named)) return true;
    }
    return module->id.n && places->debuginfod && find_by_servers(search);
}

void tp_debug_files_open(struct tp_debug_files *out,
    const struct tp_wanted_module *module, const struct tp_debug_places *places)
{
    char path[PATH_MAX];
    struct candidate main = { .fd = -1 };
    memset(out, 0, sizeof(*out));
    out->main_fd = out->debug_fd = out->shared_fd = -1;
    bool have = find_module(&main, module, path, sizeof(path));
    struct search search = {
        .id = &module->id,
        .above = have ? main.facts.best : TP_QUALITY_NONE,
        .found = { .fd = -1 },
    };
    bool whole = have && main.facts.best == TP_QUALITY_DWARF;
    bool apart = !whole && !(module->flags & TP_MODULE_VDSO) &&
        find_debug(&search, &main, path, module, places);
    if (have) {
        out->main_path = strdup(path);
        out->main_fd = main.fd;
        main.fd = -1;
        set_origin(out, &main);
    }
    if (apart) {
        set_origin(out, &search.found);
        find_shared(out, &search.found.facts, search.path, places);
        // Alone it stands for the module: it has the same addresses.
        *(have ? &out->debug_path : &out->main_path) = search.path;
        *(have ? &out->debug_fd : &out->main_fd) = search.found.fd;
        search.found.fd = -1;
        let_go(&search.found);
    } else if (whole) {
        find_shared(out, &main.facts, path, places);
    }
    let_go(&main);
    if (out->main_fd >= 0 && !out->main_path) tp_debug_files_close(out);
}

void tp_debug_files_close(struct tp_debug_files *files)
{
    if (files->main_fd >= 0) close(files->main_fd);
    if (files->debug_fd >= 0) close(files->debug_fd);
    if (files->shared_fd >= 0) close(files->shared_fd);
    free(files->main_path);
    free(files->debug_path);
    free(files->main_link);
    memset(files, 0, sizeof(*files));
    files->main_fd = files->debug_fd = files->shared_fd = -1;
}
