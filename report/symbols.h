/* SPDX-License-Identifier: MIT */
/*
 * symbols.h - how an address becomes a name: the parts behind tp_symbols_resolve().
 *
 *     module record --debug_files.c--> files that are known to be the module's
 *     files, addresses --dwarf.c, symtab.c, demangle.c--> functions and lines
 *     JIT addresses --perf_map.c--> functions
 *     all of it --names.c--> a table in memory <--index.c--> a file for the next report
 *     symbols.c knows what dumps ask for, lookup.c has it answered in parallel
 *
 * Idea: a wrong name is worse than none. A file is believed when its build id is that of
 * the module; one without a build id when it has not changed since it was loaded. What is
 * found for a build id never changes, unless better debug information turns up, so it is
 * kept on disk and the next report opens no debug information at all.
 *
 * Holds always:
 *   - nothing read from a file is trusted: neither ELF, DWARF, names, maps nor our own
 *     index;
 *   - every handle of libdw belongs to one thread at a time. It may pass from one to
 *     another under a lock; libdw's own locking is not relied on.
 *
 * Knows nothing of: text, JSON, figures.
 */
#ifndef TP_REPORT_SYMBOLS_H
#define TP_REPORT_SYMBOLS_H

#include "report/sites.h"

#include <pthread.h>

/* ---- names.c: what is known of one module ------------------------------------------ */

enum {
    TP_NAMES_CHAIN = 64,   // functions kept of one address
    TP_NAMES_TEXT = 2048,  // bytes kept of one name or path
};

struct tp_named {
    uint64_t offset;
    const struct tp_symbol *symbols;  // innermost first
    uint32_t n;                       // at least 1
};

/*
 * Addresses of one module and their functions. Rows move while it grows; symbols and
 * texts stay where they are until the end. All zero is an empty table.
 */
struct tp_names {
    struct tp_named *rows;  // by offset, once sorted
    size_t n_rows;
    size_t room;
    size_t n_symbols;
    struct tp_names_piece *pieces;  // memory of symbols and texts
    struct tp_names_text *texts;    // every text once, a hash table
    size_t n_texts;
    size_t texts_room;  // a power of two
};

/* A text of the table's own, at most TP_NAMES_TEXT bytes of it; NULL without memory. */
const char *tp_names_text(struct tp_names *names, const char *text, size_t n);

/*
 * Adds a row; copies symbols and their texts. Needs: tp_names_sort() before it is found.
 * Fails: without memory; the table is as it was.
 */
bool tp_names_add(
    struct tp_names *names, uint64_t offset, const struct tp_symbol *symbols, size_t n);

/* Puts the rows in order; of several with one offset the first that was added stays. */
void tp_names_sort(struct tp_names *names);

/* NULL when the address is not in the table. Needs: sorted. */
const struct tp_named *tp_names_find(const struct tp_names *names, uint64_t offset);

void tp_names_fini(struct tp_names *names);

/* ---- demangle.c -------------------------------------------------------------------- */

/*
 * Writes the name as its programmer knows it: C++, Rust or D without their encoding,
 * others as they are, without a symbol version. Cut to `size` bytes, which shows as "...".
 * Needs: size >= 8. Context: any thread; time and memory are bounded whatever the name.
 */
void tp_demangle(char *out, size_t size, const char *name);

/* ---- elf_facts.c, debug_files.c: the files of a module ------------------------------------------- */

struct tp_build_id {
    uint8_t bytes[TP_FORMAT_BUILD_ID];
    uint8_t n;  // 0: none
};

/* How much a file can tell; higher is better. */
enum tp_quality {
    TP_QUALITY_NONE = 0,
    TP_QUALITY_EXPORTS = 1,  // .dynsym
    TP_QUALITY_SYMBOLS = 2,  // .symtab
    TP_QUALITY_DWARF = 3,
};

/* What names were taken from. */
struct tp_origin {
    enum tp_quality quality;
    uint64_t bytes;    // size of that file
    uint64_t time_ns;  // of its last change
};

/* What we want to know about; texts are the caller's. */
struct tp_wanted_module {
    struct tp_build_id id;
    const char *path;     // as the loader has it
    uint64_t span_bytes;  // from the lowest mapped address to the end
    uint64_t loaded_ns;   // CLOCK_REALTIME; 0: unknown
    uint64_t start;       // mapped from here to there, in process `pid`
    uint64_t end;
    uint32_t flags;  // enum tp_module_flags
    uint32_t pid;    // 0: it does not run any more
};

/* What an ELF file says of itself. */
struct tp_elf_facts {
    struct tp_build_id id;
    uint64_t span_bytes;   // of all segments that are loaded
    uint64_t bytes;        // of memory that reading it may take
    enum tp_quality best;  // by its own sections alone
    char *link;            // .gnu_debuglink; NULL without
    uint32_t link_crc;
    char *shared;  // .gnu_debugaltlink: debug information that several files share
    struct tp_build_id shared_id;
};

/* False when it is no ELF program or library. Needs: an open regular file. */
bool tp_elf_facts_read(struct tp_elf_facts *out, int fd);
void tp_elf_facts_fini(struct tp_elf_facts *facts);

/* The open files of a module; -1 and NULL where there is none. */
struct tp_debug_files {
    int main_fd;  // the module's own file, or one with debug information alone
    char *main_path;
    int debug_fd;  // its separate debug information
    char *debug_path;
    int shared_fd;    // what that refers to
    char *main_link;  // name by which `shared_fd` is asked for
    struct tp_origin origin;
    uint64_t bytes;  // of memory that reading them may take
};

/* Where to look; `folders` as gdb's debug-file-directory, NULL: /usr/lib/debug. */
struct tp_debug_places {
    const char *folders;
    bool debuginfod;
};

/*
 * Opens the best files that are certainly the module's. Nothing found is an answer too:
 * quality NONE. Asks servers only when places->debuginfod.
 */
void tp_debug_files_open(struct tp_debug_files *out,
    const struct tp_wanted_module *module, const struct tp_debug_places *places);
void tp_debug_files_close(struct tp_debug_files *files);

/* ---- symtab.c: functions by the symbol table ----------------------------------------- */

struct tp_symtab;
struct Dwfl_Module;

/* All functions of the module, in order; NULL without memory. Texts are the module's. */
struct tp_symtab *tp_symtab_make(struct Dwfl_Module *module);

/* The name of the function at `address`, encoded; NULL when none covers it. */
const char *tp_symtab_find(const struct tp_symtab *table, uint64_t address);

void tp_symtab_free(struct tp_symtab *table);

/* ---- dwarf.c: functions by debug information ------------------------------------------ */

struct tp_dwarf;

/* Takes over the files, which are closed even when it fails: NULL, no such file. */
struct tp_dwarf *tp_dwarf_open(struct tp_debug_files *files);
void tp_dwarf_close(struct tp_dwarf *dwarf);

/* Bytes that it may hold. */
uint64_t tp_dwarf_bytes(const struct tp_dwarf *dwarf);

/*
 * Looks up `n` addresses of the file, in ascending order, and adds a row for each; one of
 * which nothing is known gets one symbol without a name. Fails: without memory.
 */
bool tp_dwarf_look_up(
    struct tp_dwarf *dwarf, const uint64_t *offsets, size_t n, struct tp_names *names);

/* ---- index.c: names on disk ------------------------------------------------------------ */

enum {
    TP_INDEX_FILE_BYTES = 64 << 20,     // more than that is not kept of one module
    TP_INDEX_FOLDER_BYTES = 256 << 20,  // nor that of all
};

/*
 * The folder of the indexes, made when it is not there; the caller frees it. NULL when
 * there can be none: no home, not writable, or it is somebody else's.
 */
char *tp_index_folder(void);

/*
 * Adds what the bytes of an index hold to `names`, sorted. False, with nothing added,
 * when they are damaged or of another build id.
 */
bool tp_index_parse(struct tp_names *names, struct tp_origin *out_origin,
    const unsigned char *bytes, size_t n, const struct tp_build_id *id);

/* The same from the folder. A use counts when files are removed for their age. */
bool tp_index_read(struct tp_names *names, struct tp_origin *out_origin,
    const char *folder, const struct tp_build_id *id);

/*
 * Writes the names, and with them those that another report has written meanwhile and
 * that are as good. Written beside and renamed. Fails silently: it is a cache. Needs: sorted.
 */
bool tp_index_write(struct tp_names *names, const struct tp_origin *origin,
    const char *folder, const struct tp_build_id *id);

/* Sets the checksum of an index; false when the bytes are too few to be one. */
bool tp_index_seal(unsigned char *bytes, size_t n);

/* Removes what was used longest ago until the folder holds at most `bytes`. */
void tp_index_prune(const char *folder, uint64_t bytes);

/* ---- perf_map.c: code made at run time ---------------------------------------------------- */

/*
 * Looks up addresses in ascending order in the text of a map, lines `START SIZE NAME` with
 * hexadecimal numbers, and adds a row for each that it finds. Later lines win; lines of
 * another form are left out. Fails: without memory.
 */
bool tp_perf_map_parse(struct tp_names *names, const char *text, size_t n_bytes,
    const uint64_t *addresses, size_t n);

/* The same from the map that the dump's process wrote, if there is one to be trusted. */
bool tp_perf_map_look_up(struct tp_names *names, const struct tp_dump *dump, bool runs,
    const uint64_t *addresses, size_t n);

/* ---- lookup.c: modules side by side --------------------------------------------------------- */

/* A module, whatever dumps it occurs in. One worker at a time has it. */
struct tp_unit {
    struct tp_wanted_module about;
    char *path;  // behind about.path
    struct tp_names names;
    struct tp_origin origin;
    bool index_read;
    uint64_t *wanted;  // addresses to look up, in ascending order
    size_t n_wanted;
    size_t room;
    uint64_t file_bytes;     // a guess, for the order of work
    struct tp_dwarf *dwarf;  // open and in the list; NULL while a worker has it
    struct tp_unit *newer;   // in the list of open ones
    struct tp_unit *older;
};

struct tp_lookup {
    struct tp_symbols_wish wish;
    struct tp_debug_places places;
    char *folder;          // of the indexes; NULL: none
    pthread_mutex_t lock;  // of what follows
    pthread_cond_t closed;
    struct tp_unit *newest;
    struct tp_unit *oldest;
    uint64_t open_bytes;  // of the list, and of what workers have
    uint64_t most_bytes;  // that it ever was
    unsigned opened;      // modules, so far
    bool written;         // the folder has grown
};

void tp_lookup_init(struct tp_lookup *lookup, const struct tp_symbols_wish *wish);
void tp_lookup_fini(struct tp_lookup *lookup);
void tp_unit_free(struct tp_unit *unit);

/*
 * Looks up what the units want: afterwards each such address has a row in `names`, be it
 * one without a name. Fails: without memory. Context: one thread at a time.
 */
bool tp_lookup_run(struct tp_lookup *lookup, struct tp_unit **units, size_t n);

/* ---- symbols.c, for the tests ------------------------------------------------------------- */

/* Modules whose files were opened for their names; what the index knew needs none. */
unsigned tp_symbols_opened(const struct tp_symbols *symbols);

/* The most modules that were open at one time, and their bytes. */
uint64_t tp_symbols_most_bytes(const struct tp_symbols *symbols);

#endif
