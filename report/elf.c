/* SPDX-License-Identifier: MIT */
/*
 * elf.c - what an executable says of itself, as far as a preload is concerned.
 *
 * Idea: the program headers name the dynamic linker, the section headers lead to the
 * symbols, the libraries and the notes; strip leaves them there. Nothing in the file
 * is trusted: whatever lies outside of it, or is larger than any program has, is as
 * if it were not there. A file without section headers is judged by the rest.
 */
#include "report/run.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SEGMENTS = 128,
    SECTIONS = 4096,
    NOTE_BYTES = 64,                 // the head of a note section
    NOTE_GO = 4,                     // type of Go's build id
    PART_BYTES = 256 * 1024 * 1024,  // of any one part of the file that we read
};

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { OTHER_ORDER = ELFDATA2MSB };
#else
enum { OTHER_ORDER = ELFDATA2LSB };
#endif

#if defined(__x86_64__)
enum { OUR_MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { OUR_MACHINE = EM_AARCH64 };
#else
enum { OUR_MACHINE = EM_NONE };
#endif

struct file {
    int fd;
    uint64_t bytes;
    Elf64_Ehdr head;
    Elf64_Shdr *sections;
    unsigned n_sections;
};

/* Reads exactly `n` bytes that lie inside the file. */
static bool read_at(const struct file *file, void *out, uint64_t at, size_t n)
{
    if (at > file->bytes || n > file->bytes - at) return false;
    return pread(file->fd, out, n, (off_t)at) == (ssize_t)n;
}

/* A copy of a part of the file, which the caller frees; NULL when it is not there. */
static void *copy_part(const struct file *file, uint64_t at, uint64_t n)
{
    if (!n || n > PART_BYTES || at > file->bytes || n > file->bytes - at) return NULL;
    void *copy = malloc(n);
    if (copy && !read_at(file, copy, at, n)) {
        free(copy);
        copy = NULL;
    }
    return copy;
}

/* ---- program headers -------------------------------------------------------------- */

static void read_linker(const struct file *file, struct tp_elf *out)
{
    if (file->head.e_phentsize != sizeof(Elf64_Phdr)) {
        out->linked = true;  // who knows
        return;
    }
    for (unsigned i = 0; i < file->head.e_phnum && i < SEGMENTS; i++) {
        Elf64_Phdr row;
        uint64_t at = file->head.e_phoff + i * sizeof(row);
        if (!read_at(file, &row, at, sizeof(row))) {
            out->linked = true;
            return;
        }
        if (row.p_type != PT_INTERP) continue;
        size_t n = row.p_filesz < sizeof(out->linker) ? (size_t)row.p_filesz
                                                      : sizeof(out->linker) - 1;
        out->linked = true;
        if (!read_at(file, out->linker, row.p_offset, n)) n = 0;
        out->linker[n] = '\0';
        return;
    }
}

/* ---- section headers -------------------------------------------------------------- */

static void open_sections(struct file *file)
{
    unsigned n = file->head.e_shnum;
    if (!n || n > SECTIONS || file->head.e_shentsize != sizeof(Elf64_Shdr)) return;
    file->sections = copy_part(file, file->head.e_shoff, n * sizeof(Elf64_Shdr));
    if (file->sections) file->n_sections = n;
}

struct strings {
    char *text;
    uint64_t bytes;
};

/* The strings that `section` refers to; the caller frees the text. */
static bool open_strings(
    struct strings *out, const struct file *file, const Elf64_Shdr *section)
{
    if (section->sh_link >= file->n_sections) return false;
    const Elf64_Shdr *link = &file->sections[section->sh_link];
    if (link->sh_type != SHT_STRTAB) return false;
    out->text = copy_part(file, link->sh_offset, link->sh_size);
    out->bytes = link->sh_size;
    if (out->text) out->text[out->bytes - 1] = '\0';  // as it should be anyway
    return out->text != NULL;
}

static const char *string_at(const struct strings *strings, uint64_t at)
{
    return at < strings->bytes ? strings->text + at : "";
}

static bool is_function(const Elf64_Sym *symbol)
{
    unsigned type = ELF64_ST_TYPE(symbol->st_info);
    return symbol->st_shndx != SHN_UNDEF && (type == STT_FUNC || type == STT_GNU_IFUNC);
}

/* Which of malloc, free, calloc and realloc a table of symbols defines, as bits. */
static unsigned find_malloc(const struct file *file, const Elf64_Shdr *section)
{
    static const char *const names[] = { "malloc", "free", "calloc", "realloc" };
    unsigned found = 0;
    struct strings strings;
    if (section->sh_entsize != sizeof(Elf64_Sym)) return 0;
    size_t n = section->sh_size / sizeof(Elf64_Sym);
    Elf64_Sym *symbols = copy_part(file, section->sh_offset, n * sizeof(Elf64_Sym));
    if (!symbols || !open_strings(&strings, file, section)) {
        free(symbols);
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_function(&symbols[i])) continue;
        const char *name = string_at(&strings, symbols[i].st_name);
        for (unsigned k = 0; k < sizeof(names) / sizeof(names[0]); k++)
            if (strcmp(name, names[k]) == 0) found |= 1u << k;
    }
    free(strings.text);
    free(symbols);
    return found;
}

/* The sanitizers whose runtime must be the first of all libraries. */
static const char *sanitizer_of(const char *library)
{
    static const struct {
        const char *begin;
        const char *name;
    } runtimes[] = {
        { "libasan.so", "AddressSanitizer" },
        { "libhwasan.so", "AddressSanitizer" },
        { "libtsan.so", "ThreadSanitizer" },
        { "libclang_rt.asan", "AddressSanitizer" },
        { "libclang_rt.hwasan", "AddressSanitizer" },
        { "libclang_rt.tsan", "ThreadSanitizer" },
    };
    for (size_t i = 0; i < sizeof(runtimes) / sizeof(runtimes[0]); i++)
        if (strncmp(library, runtimes[i].begin, strlen(runtimes[i].begin)) == 0)
            return runtimes[i].name;
    return NULL;
}

static const char *find_sanitizer(const struct file *file, const Elf64_Shdr *section)
{
    const char *found = NULL;
    struct strings strings;
    size_t n = section->sh_size / sizeof(Elf64_Dyn);
    Elf64_Dyn *rows = copy_part(file, section->sh_offset, n * sizeof(Elf64_Dyn));
    if (!rows || !open_strings(&strings, file, section)) {
        free(rows);
        return NULL;
    }
    for (size_t i = 0; i < n && !found && rows[i].d_tag != DT_NULL; i++)
        if (rows[i].d_tag == DT_NEEDED)
            found = sanitizer_of(string_at(&strings, rows[i].d_un.d_val));
    free(strings.text);
    free(rows);
    return found;
}

static bool is_go_note(const struct file *file, const Elf64_Shdr *section)
{
    unsigned char note[NOTE_BYTES] = { 0 };
    Elf64_Nhdr head;
    size_t n =
        section->sh_size < sizeof(note) ? (size_t)section->sh_size : sizeof(note);
    if (n < sizeof(head) + 4 || !read_at(file, note, section->sh_offset, n))
        return false;
    memcpy(&head, note, sizeof(head));
    return head.n_type == NOTE_GO && head.n_namesz == 4 &&
        memcmp(note + sizeof(head), "Go\0", 4) == 0;
}

static void read_sections(const struct file *file, struct tp_elf *out)
{
    unsigned shown = 0, all = 0;
    for (unsigned i = 0; i < file->n_sections; i++) {
        const Elf64_Shdr *section = &file->sections[i];
        if (section->sh_type == SHT_DYNSYM) shown |= find_malloc(file, section);
        if (section->sh_type == SHT_SYMTAB) all |= find_malloc(file, section);
        if (section->sh_type == SHT_DYNAMIC && !out->sanitizer)
            out->sanitizer = find_sanitizer(file, section);
        if (section->sh_type == SHT_NOTE && is_go_note(file, section))
            out->is_go = true;
    }
    out->own_malloc = shown != 0;
    out->hidden_malloc = !shown && (all & 3) == 3;
}

bool tp_elf_read(struct tp_elf *out, int fd)
{
    struct stat status;
    struct file file = { .fd = fd };
    memset(out, 0, sizeof(*out));
    if (fstat(fd, &status) < 0 || status.st_size < 0) return false;
    file.bytes = (uint64_t)status.st_size;
    if (!read_at(&file, &file.head, 0, EI_NIDENT) ||
        memcmp(file.head.e_ident, ELFMAG, SELFMAG) != 0)
        return false;
    out->is_32_bit = file.head.e_ident[EI_CLASS] == ELFCLASS32;
    out->is_foreign = file.head.e_ident[EI_DATA] == OTHER_ORDER;
    if (out->is_32_bit || out->is_foreign) return true;
    if (!read_at(&file, &file.head, 0, sizeof(file.head))) return false;
    unsigned machine = file.head.e_machine;
    out->is_foreign =
        OUR_MACHINE != EM_NONE && machine != EM_NONE && machine != OUR_MACHINE;
    read_linker(&file, out);
    open_sections(&file);
    read_sections(&file, out);
    free(file.sections);
    return true;
}
