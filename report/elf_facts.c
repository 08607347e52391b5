/* SPDX-License-Identifier: MIT */
/*
 * elf_facts.c - what an ELF file says of itself, as far as names are concerned.
 *
 * Idea: before a file is believed, its build id is compared; before it is opened for good,
 * its memory is reckoned with. Both are in headers and sections that cost next to nothing
 * to read. Sections are those of gdb and elfutils: .gnu_debuglink holds a name, padding to
 * four bytes and a checksum; .gnu_debugaltlink a name and a build id.
 */
#include "report/symbols.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <elfutils/libdwelf.h>
#include <gelf.h>

enum { LOOSE = 5 };  // old compressed sections: bytes that come of one, guessed

static pthread_once_t library_ready = PTHREAD_ONCE_INIT;

/* libelf wants to be told which version of ELF its user knows. */
static void prepare_library(void)
{
    (void)elf_version(EV_CURRENT);
}

/* Keeps the bytes of an id that the format keeps. */
static void set_id(struct tp_build_id *out, const void *bytes, size_t n)
{
    out->n = (uint8_t)(n < TP_FORMAT_BUILD_ID ? n : TP_FORMAT_BUILD_ID);
    memcpy(out->bytes, bytes, out->n);
}

static void read_segments(struct tp_elf_facts *out, Elf *elf)
{
    uint64_t low = UINT64_MAX, high = 0;
    size_t n = 0;
    if (elf_getphdrnum(elf, &n) < 0) return;
    for (size_t i = 0; i < n && i < INT32_MAX; i++) {
        GElf_Phdr row;
        if (!gelf_getphdr(elf, (int)i, &row) || row.p_type != PT_LOAD) continue;
        if (row.p_vaddr < low) low = row.p_vaddr;
        if (row.p_vaddr + row.p_memsz > high) high = row.p_vaddr + row.p_memsz;
    }
    if (low < high) out->span_bytes = high - low;
}

/* What the section is good for by itself. */
static enum tp_quality quality_of(const char *name, const GElf_Shdr *header)
{
    if (header->sh_type == SHT_NOBITS) return TP_QUALITY_NONE;
    if (header->sh_type == SHT_SYMTAB) return TP_QUALITY_SYMBOLS;
    if (header->sh_type == SHT_DYNSYM) return TP_QUALITY_EXPORTS;
    bool info = strcmp(name, ".debug_info") == 0 || strcmp(name, ".zdebug_info") == 0;
    return info ? TP_QUALITY_DWARF : TP_QUALITY_NONE;
}

/* A name, a NUL and the build id of the file that it names. */
static void read_shared(struct tp_elf_facts *out, Elf_Scn *section)
{
    const Elf_Data *data = elf_rawdata(section, NULL);
    if (!data || !data->d_buf || out->shared) return;
    const char *name = data->d_buf;
    size_t n = strnlen(name, data->d_size);
    if (!n || n + 1 >= data->d_size) return;
    out->shared = strdup(name);
    set_id(&out->shared_id, name + n + 1, data->d_size - n - 1);
}

static void read_section(struct tp_elf_facts *out, Elf_Scn *section, const char *name,
    const GElf_Shdr *header)
{
    GElf_Chdr packed;
    enum tp_quality quality = quality_of(name, header);
    if (quality > out->best) out->best = quality;
    if (header->sh_type == SHT_NOBITS) return;
    if (strcmp(name, ".gnu_debugaltlink") == 0) read_shared(out, section);
    if ((header->sh_flags & SHF_COMPRESSED) && gelf_getchdr(section, &packed))
        out->bytes += packed.ch_size;
    else if (strncmp(name, ".zdebug_", 8) == 0)
        out->bytes += LOOSE * header->sh_size;
}

static void read_sections(struct tp_elf_facts *out, Elf *elf)
{
    size_t names;
    Elf_Scn *section = NULL;
    if (elf_getshdrstrndx(elf, &names) < 0) return;
    while ((section = elf_nextscn(elf, section))) {
        GElf_Shdr header;
        if (!gelf_getshdr(section, &header)) continue;
        const char *name = elf_strptr(elf, names, header.sh_name);
        if (name) read_section(out, section, name, &header);
    }
}

static void read_links(struct tp_elf_facts *out, Elf *elf)
{
    GElf_Word crc;
    const char *name = dwelf_elf_gnu_debuglink(elf, &crc);
    if (name && name[0] && !strchr(name, '/')) {
        out->link = strdup(name);
        out->link_crc = crc;
    }
}

bool tp_elf_facts_read(struct tp_elf_facts *out, int fd)
{
    struct stat status;
    GElf_Ehdr header;
    const void *id;
    memset(out, 0, sizeof(*out));
    if (fstat(fd, &status) < 0 || status.st_size <= 0) return false;
    pthread_once(&library_ready, prepare_library);
    Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    bool good = elf && elf_kind(elf) == ELF_K_ELF && gelf_getehdr(elf, &header) &&
        (header.e_type == ET_EXEC || header.e_type == ET_DYN);
    if (good) {
        out->bytes = (uint64_t)status.st_size;
        ssize_t n = dwelf_elf_gnu_build_id(elf, &id);
        if (n > 0) set_id(&out->id, id, (size_t)n);
        read_segments(out, elf);
        read_sections(out, elf);
        read_links(out, elf);
    }
    if (elf) elf_end(elf);
    return good;
}

void tp_elf_facts_fini(struct tp_elf_facts *facts)
{
    free(facts->link);
    free(facts->shared);
    memset(facts, 0, sizeof(*facts));
}
