/* SPDX-License-Identifier: MIT */
/*
 * index.c - names of a module on disk, by build id.
 *
 *     +--------+------------------------+---------------------------+---------------+
 *     | header | rows: offset, symbols  | symbols: function, file,  | texts, each   |
 *     |        | by offset, ascending   | line, inlined             | ended by NUL  |
 *     +--------+------------------------+---------------------------+---------------+
 *
 * Idea: what an address of a file with that build id means does not change, so it is
 * looked up once. The file holds the addresses that reports have asked for, not all; one
 * report adds to what others have found. It knows nothing of paths or of this machine and
 * may be copied to another.
 *
 * Trusts nothing: a checksum finds damage, and every number is checked against its bound
 * all the same. Little-endian, as everything here. A file that is half written has another
 * name; of two writers the last wins, and the other's addresses are looked up again some day.
 */
#include "report/symbols.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    VERSION = 1,
    STALE_S = 3600,      // age of a part that nobody writes any more
    TOUCH_S = 600,       // a use is noted at most this often
    INLINED = 1,         // flags of a symbol
    INDEX_MOST = 65536,  // files in the folder that are looked at
};

static const char magic[8] = "TPNAMES";
static const char suffix[] = ".names";
static const char part_suffix[] = ".part";

struct header {
    char magic[8];
    uint32_t version;
    uint32_t quality;  // enum tp_quality
    uint64_t origin_bytes;
    uint64_t origin_time_ns;
    uint8_t id[TP_FORMAT_BUILD_ID];
    uint32_t id_bytes;
    uint64_t n_rows;
    uint64_t n_symbols;
    uint64_t text_bytes;
    uint64_t checksum;  // of all other bytes
};
static_assert(sizeof(struct header) == 88, "written as it is");

struct row {
    uint64_t offset;
    uint32_t first;  // symbol
    uint32_t n;
};
static_assert(sizeof(struct row) == 16, "written as it is");

struct symbol {
    uint32_t function;  // from the beginning of the texts
    uint32_t file;
    uint32_t line;
    uint32_t flags;
};
static_assert(sizeof(struct symbol) == 16, "written as it is");

/* ---- bytes ------------------------------------------------------------------------------ */

/* A sum of 64-bit words that depends on their order; finds damage, not malice. */
static uint64_t sum_of(const unsigned char *bytes, size_t n)
{
    uint64_t sum = 14695981039346656037u ^ n;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + i, n - i < 8 ? n - i : 8);
        sum = (sum ^ word) * 1099511628211u;
        sum ^= sum >> 29;
    }
    return sum;
}

static uint64_t checksum_of(const unsigned char *bytes, size_t n)
{
    struct header header;
    memcpy(&header, bytes, sizeof(header));
    header.checksum = 0;
    unsigned char head[sizeof(header)];
    memcpy(head, &header, sizeof(header));
    return sum_of(head, sizeof(head)) ^
        sum_of(bytes + sizeof(header), n - sizeof(header)) * 3;
}

bool tp_index_seal(unsigned char *bytes, size_t n)
{
    if (n < sizeof(struct header)) return false;
    uint64_t sum = checksum_of(bytes, n);
    memcpy(bytes + offsetof(struct header, checksum), &sum, sizeof(sum));
    return true;
}

/* The three parts of an index whose extents have been checked. */
struct parts {
    struct header header;
    const unsigned char *rows;
    const unsigned char *symbols;
    const char *texts;
};

static bool check_extents(struct parts *out, const unsigned char *bytes, size_t n)
{
    if (n < sizeof(out->header) || n > TP_INDEX_FILE_BYTES) return false;
    memcpy(&out->header, bytes, sizeof(out->header));
    const struct header *header = &out->header;
    if (memcmp(header->magic, magic, sizeof(magic)) != 0 || header->version != VERSION)
        return false;
    size_t left = n - sizeof(*header);
    if (header->n_rows > left / sizeof(struct row)) return false;
    left -= header->n_rows * sizeof(struct row);
    if (header->n_symbols > left / sizeof(struct symbol)) return false;
    left -= header->n_symbols * sizeof(struct symbol);
    if (header->text_bytes != left || left == 0 || bytes[n - 1] != '\0') return false;
    out->rows = bytes + sizeof(*header);
    out->symbols = out->rows + header->n_rows * sizeof(struct row);
    out->texts = (const char *)out->symbols + header->n_symbols * sizeof(struct symbol);
    return header->checksum == checksum_of(bytes, n);
}

static bool add_row(
    struct tp_names *names, const struct parts *parts, uint64_t i, uint64_t *previous)
{
    struct row row;
    struct tp_symbol symbols[TP_NAMES_CHAIN];
    memcpy(&row, parts->rows + i * sizeof(row), sizeof(row));
    if (i && row.offset <= *previous) return false;
    *previous = row.offset;
    if (!row.n || row.n > TP_NAMES_CHAIN || row.first > parts->header.n_symbols ||
        row.n > parts->header.n_symbols - row.first)
        return false;
    for (uint32_t k = 0; k < row.n; k++) {
        struct symbol symbol;
        memcpy(&symbol, parts->symbols + ((size_t)row.first + k) * sizeof(symbol),
            sizeof(symbol));
        if (symbol.function >= parts->header.text_bytes ||
            symbol.file >= parts->header.text_bytes)
            return false;
        symbols[k] = (struct tp_symbol){ .function = parts->texts + symbol.function,
            .file = parts->texts + symbol.file,
            .line = symbol.line,
            .inlined = (symbol.flags & INLINED) != 0 };
    }
    return tp_names_add(names, row.offset, symbols, row.n);
}

bool tp_index_parse(struct tp_names *names, struct tp_origin *out_origin,
    const unsigned char *bytes, size_t n, const struct tp_build_id *id)
{
    struct parts parts;
    uint64_t previous = 0;
    size_t before = names->n_rows;
    size_t symbols_before = names->n_symbols;
    if (!check_extents(&parts, bytes, n)) return false;
    const struct header *header = &parts.header;
    if (!id->n || header->id_bytes != id->n ||
        memcmp(header->id, id->bytes, id->n) != 0)
        return false;
    if (header->quality == TP_QUALITY_NONE || header->quality > TP_QUALITY_DWARF)
        return false;
    for (uint64_t i = 0; i < header->n_rows; i++) {
        if (add_row(names, &parts, i, &previous)) continue;
        names->n_rows = before;
        names->n_symbols = symbols_before;
        return false;
    }
    tp_names_sort(names);
    out_origin->quality = (enum tp_quality)header->quality;
    out_origin->bytes = header->origin_bytes;
    out_origin->time_ns = header->origin_time_ns;
    return true;
}

/* ---- the folder ------------------------------------------------------------------------------ */

/* True when the folder is there, or could be made, and is ours alone to write. */
static bool have_folder(const char *path, bool make)
{
    struct stat status;
    if (make && mkdir(path, 0700) < 0 && errno != EEXIST) return false;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode) &&
        status.st_uid == geteuid();
}

char *tp_index_folder(void)
{
    const char *home = getenv("XDG_CACHE_HOME");
    char *base = NULL, *folder = NULL;
    bool own = home && home[0] == '/';
    if (!own) home = getenv("HOME");
    if (!home || home[0] != '/') return NULL;
    if (asprintf(&base, own ? "%s" : "%s/.cache", home) < 0) return NULL;
    // With another user's home, as under sudo, we leave nothing that is not theirs.
    bool good = (own || have_folder(home, false)) && have_folder(base, true) &&
        asprintf(&folder, "%s/tidepool", base) >= 0;
    free(base);
    if (!good) return NULL;
    if (have_folder(folder, true)) return folder;
    free(folder);
    return NULL;
}

static char *path_of(const char *folder, const struct tp_build_id *id)
{
    char hex[2 * TP_FORMAT_BUILD_ID + 1];
    char *path;
    for (size_t i = 0; i < id->n; i++) sprintf(hex + 2 * i, "%02x", id->bytes[i]);
    hex[2 * id->n] = '\0';
    return asprintf(&path, "%s/%s%s", folder, hex, suffix) < 0 ? NULL : path;
}

/* All bytes of the file, which the caller frees. */
static unsigned char *read_all(int fd, size_t *out_n)
{
    struct stat status;
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size <= 0 ||
        status.st_size > TP_INDEX_FILE_BYTES)
        return NULL;
    // A use is noted in the time of last change: that of last access may be switched off.
    struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_NOW } };
    if (time(NULL) - status.st_mtime > TOUCH_S) (void)futimens(fd, times);
    size_t n = (size_t)status.st_size;
    unsigned char *bytes = malloc(n);
    if (bytes && tp_image_read(fd, bytes, n, 0) != n) {
        free(bytes);
        bytes = NULL;
    }
    *out_n = n;
    return bytes;
}

bool tp_index_read(struct tp_names *names, struct tp_origin *out_origin,
    const char *folder, const struct tp_build_id *id)
{
    size_t n = 0;
    char *path = id->n ? path_of(folder, id) : NULL;
    if (!path) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    unsigned char *bytes = fd >= 0 ? read_all(fd, &n) : NULL;
    if (fd >= 0) close(fd);
    bool good = bytes && tp_index_parse(names, out_origin, bytes, n, id);
    free(bytes);
    free(path);
    return good;
}

/* ---- writing ----------------------------------------------------------------------------------- */

/* Where each text of the table stands, by its address: a hash table of its own. */
struct places {
    struct place {
        const char *text;
        uint32_t at;
    } * slots;
    size_t room;  // a power of two
    size_t text_bytes;
};

/* The place of a text, a new one at the end when it has none. */
static uint32_t place_of(struct places *places, const char *text)
{
    if (!text[0]) return 0;
    size_t i = ((uintptr_t)text * 0x9e3779b97f4a7c15u >> 20) & (places->room - 1);
    while (places->slots[i].text && places->slots[i].text != text)
        i = (i + 1) & (places->room - 1);
    if (!places->slots[i].text) {
        places->slots[i].text = text;
        places->slots[i].at = (uint32_t)places->text_bytes;
        places->text_bytes += strlen(text) + 1;
    }
    return places->slots[i].at;
}

/* Texts are told apart by their addresses, of which the table has one each. */
static bool place_all(struct places *places, const struct tp_names *names)
{
    places->room = 256;
    while (places->room < 2 * (names->n_texts + 1)) places->room *= 2;
    places->slots = calloc(places->room, sizeof(places->slots[0]));
    places->text_bytes = 1;  // the empty text
    if (!places->slots) return false;
    for (size_t i = 0; i < names->n_rows; i++) {
        for (uint32_t k = 0; k < names->rows[i].n; k++) {
            (void)place_of(places, names->rows[i].symbols[k].function);
            (void)place_of(places, names->rows[i].symbols[k].file);
        }
        if (places->text_bytes > TP_INDEX_FILE_BYTES) return false;
    }
    return true;
}

static void fill(unsigned char *bytes, const struct header *header,
    const struct tp_names *names, struct places *places)
{
    unsigned char *rows = bytes + sizeof(*header);
    unsigned char *symbols = rows + names->n_rows * sizeof(struct row);
    char *texts = (char *)symbols + header->n_symbols * sizeof(struct symbol);
    uint32_t first = 0;
    memcpy(bytes, header, sizeof(*header));
    for (size_t i = 0; i < names->n_rows; i++) {
        const struct tp_named *named = &names->rows[i];
        struct row row = { .offset = named->offset, .first = first, .n = named->n };
        memcpy(rows + i * sizeof(row), &row, sizeof(row));
        for (uint32_t k = 0; k < named->n; k++, first++) {
            const struct tp_symbol *from = &named->symbols[k];
            struct symbol symbol = { .function = place_of(places, from->function),
                .file = place_of(places, from->file),
                .line = from->line,
                .flags = from->inlined ? INLINED : 0 };
            memcpy(symbols + first * sizeof(symbol), &symbol, sizeof(symbol));
        }
    }
    texts[0] = '\0';
    for (size_t i = 0; i < places->room; i++)
        if (places->slots[i].text)
            strcpy(texts + places->slots[i].at, places->slots[i].text);
}

/* The whole file in memory, which the caller frees; NULL when it would be too large. */
static unsigned char *lay_out(const struct tp_names *names,
    const struct tp_origin *origin, const struct tp_build_id *id, size_t *out_n)
{
    struct places places = { 0 };
    unsigned char *bytes = NULL;
    struct header header = { .version = VERSION,
        .quality = origin->quality,
        .origin_bytes = origin->bytes,
        .origin_time_ns = origin->time_ns,
        .id_bytes = id->n,
        .n_rows = names->n_rows };
    memcpy(header.magic, magic, sizeof(magic));
    memcpy(header.id, id->bytes, id->n);
    for (size_t i = 0; i < names->n_rows; i++) header.n_symbols += names->rows[i].n;
    if (place_all(&places, names)) {
        header.text_bytes = places.text_bytes;
        *out_n = sizeof(header) + header.n_rows * sizeof(struct row) +
            header.n_symbols * sizeof(struct symbol) + header.text_bytes;
        if (*out_n <= TP_INDEX_FILE_BYTES) bytes = malloc(*out_n);
    }
    if (bytes) {
        fill(bytes, &header, names, &places);
        (void)tp_index_seal(bytes, *out_n);
    }
    free(places.slots);
    return bytes;
}

static bool write_all(int fd, const unsigned char *bytes, size_t n)
{
    while (n) {
        ssize_t done = write(fd, bytes, n);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        bytes += done;
        n -= (size_t)done;
    }
    return true;
}

/* Beside the file, then in its place. */
static bool replace(const char *path, const unsigned char *bytes, size_t n)
{
    static _Atomic(unsigned) counter;  // two threads of ours do not share a part
    char *part;
    if (asprintf(&part, "%s.%ld.%u%s", path, (long)getpid(), counter++, part_suffix) <
        0)
        return false;
    int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool good = fd >= 0 && write_all(fd, bytes, n);
    if (fd >= 0 && close(fd) < 0) good = false;
    if (good && rename(part, path) < 0) good = false;
    if (!good && fd >= 0) unlink(part);
    free(part);
    return good;
}

bool tp_index_write(struct tp_names *names, const struct tp_origin *origin,
    const char *folder, const struct tp_build_id *id)
{
    struct tp_names there = { 0 };
    struct tp_origin its = { 0 };
    size_t n;
    if (!id->n || origin->quality == TP_QUALITY_NONE) return false;
    if (tp_index_read(&there, &its, folder, id) && its.quality > origin->quality) {
        tp_names_fini(&there);
        return false;  // somebody had better debug information
    }
    size_t known = names->n_rows;
    for (size_t i = 0; its.quality == origin->quality && i < there.n_rows; i++) {
        const struct tp_named *row = &there.rows[i];
        if (!tp_names_add(names, row->offset, row->symbols, row->n)) break;
    }
    if (names->n_rows > known) tp_names_sort(names);  // ours stay before theirs
    tp_names_fini(&there);
    char *path = path_of(folder, id);
    unsigned char *bytes = path ? lay_out(names, origin, id, &n) : NULL;
    bool good = bytes && replace(path, bytes, n);
    free(bytes);
    free(path);
    return good;
}

/* ---- its size -------------------------------------------------------------------------------------- */

struct file {
    char *name;
    uint64_t bytes;
    time_t used;
};

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), length = strlen(end);
    return n > length && strcmp(name + n - length, end) == 0;
}

static int compare_files(const void *a, const void *b)
{
    const struct file *left = a, *right = b;
    return left->used < right->used ? -1 : left->used > right->used;
}

/* Reads the folder, and removes parts whose writers must be dead. */
static size_t list_files(struct file **out, DIR *stream, uint64_t *out_bytes)
{
    const struct dirent *entry;
    size_t n = 0, room = 0;
    while (n < INDEX_MOST && (entry = readdir(stream))) {
        struct stat status;
        bool part = ends_with(entry->d_name, part_suffix);
        if (!part && !ends_with(entry->d_name, suffix)) continue;
        if (fstatat(dirfd(stream), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISREG(status.st_mode))
            continue;
        if (part) {
            if (time(NULL) - status.st_mtime > STALE_S)
                unlinkat(dirfd(stream), entry->d_name, 0);
            continue;
        }
        if (n == room) {
            room = room ? 2 * room : 64;
            void *grown = realloc(*out, room * sizeof(**out));
            if (!grown) break;
            *out = grown;
        }
        char *name = strdup(entry->d_name);
        if (!name) break;
        (*out)[n++] = (struct file){
            .name = name, .bytes = (uint64_t)status.st_size, .used = status.st_mtime
        };
        *out_bytes += (uint64_t)status.st_size;
    }
    return n;
}

void tp_index_prune(const char *folder, uint64_t bytes)
{
    struct file *files = NULL;
    uint64_t all = 0;
    DIR *stream = opendir(folder);
    if (!stream) return;
    size_t n = list_files(&files, stream, &all);
    if (n) qsort(files, n, sizeof(files[0]), compare_files);
    for (size_t i = 0; i < n; i++) {
        if (all > bytes && unlinkat(dirfd(stream), files[i].name, 0) == 0)
            all -= files[i].bytes;
        free(files[i].name);
    }
    free(files);
    closedir(stream);
}
