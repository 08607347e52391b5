/* SPDX-License-Identifier: MIT */
/*
 * object.c - what the loader has mapped, asked without its lock.
 *
 * dl_iterate_phdr() takes a lock that a thread inside dlopen() holds, and which a forked
 * child may inherit for ever. _dl_find_object() (glibc 2.35) takes none. An older C
 * library has no such thing: then there are no rules, and frame pointers are all.
 *
 * The loader tells the span of a file but not its segments, and there may be holes
 * between them; of an executable with holes it tells one segment. So the program headers
 * are read where they are mapped: at the start of the span, for the executable where
 * the kernel says.
 */
#include "shim/unwind.h"

#include "pool/os.h"

#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

/* struct dl_find_object of the C library's manual (glibc 2.35 and later, 64 bit). */
struct found {
    unsigned long long flags;
    void *start;
    void *end;
    struct link_map *map;
    void *eh_frame;  // PT_GNU_EH_FRAME
    unsigned long long reserved[7];
};

/* By a name of ours: an older <dlfcn.h> does not declare it, a newer one otherwise. */
int tp_find_object(void *address, struct found *out) __asm__("_dl_find_object")
    __attribute__((weak));

/* Headers that begin a file mapped at `start`; false: there is none. */
static bool read_elf(struct tp_object *object, uintptr_t start)
{
    const ElfW(Ehdr) *elf = (const void *)start;
    if (start % TP_PAGE || memcmp(elf->e_ident, ELFMAG, SELFMAG) != 0 ||
        elf->e_ident[EI_CLASS] != ELFCLASS64 ||
        elf->e_phentsize != sizeof(ElfW(Phdr)) || elf->e_phoff > TP_PAGE ||
        elf->e_phoff % 8 ||
        elf->e_phnum > (TP_PAGE - elf->e_phoff) / sizeof(ElfW(Phdr)))
        return false;
    object->headers = (const void *)(start + elf->e_phoff);
    object->n_headers = elf->e_phnum;
    return true;
}

/* The executable's as the kernel tells, unless the loader was run as a program. */
static bool read_main(struct tp_object *object)
{
    uintptr_t at = getauxval(AT_PHDR);
    const ElfW(Phdr) *header = (const ElfW(Phdr) *)at;
    size_t n = at ? getauxval(AT_PHNUM) : 0;
    for (size_t i = 0; i < n; i++) {
        if (header[i].p_type != PT_PHDR || object->base + header[i].p_vaddr != at)
            continue;
        object->headers = header;
        object->n_headers = n;
        return true;
    }
    return false;
}

/*
 * Sees to the headers. Of a file with holes the loader tells one segment only; then the
 * first page of the file is where its address 0 is, if that can be read.
 */
static void find_headers(struct tp_object *object)
{
    if (!object->name[0] && read_main(object)) return;
    if (object->span.end - object->span.start >= TP_PAGE &&
        (tp_os_is_sandboxed() || tp_reach_can_read(object->span.start)) &&
        read_elf(object, object->span.start))
        return;
    if (object->base && tp_reach_can_read(object->base)) read_elf(object, object->base);
}

/* Makes the span that of all segments. */
static void widen(struct tp_object *object)
{
    const ElfW(Phdr) *header = object->headers;
    for (size_t i = 0; i < object->n_headers; i++) {
        if (header[i].p_type != PT_LOAD) continue;
        uintptr_t start = object->base + header[i].p_vaddr;
        uintptr_t end = start + header[i].p_memsz;
        if (start < object->span.start) object->span.start = start & ~(TP_PAGE - 1ul);
        if (end > object->span.end) object->span.end = end;
    }
}

bool tp_object_at(uintptr_t address, struct tp_object *out)
{
    struct found found;
    if (!tp_find_object || tp_find_object((void *)address, &found) != 0) return false;
    *out = (struct tp_object){
        .span = { (uintptr_t)found.start, (uintptr_t)found.end },
        .base = found.map ? found.map->l_addr : 0,
        .header = (uintptr_t)found.eh_frame,
        .map = found.map,
        .name = found.map && found.map->l_name ? found.map->l_name : "",
    };
    // What is mapped last may be asked for up to its very end.
    if (address < out->span.start || address >= out->span.end) return false;
    find_headers(out);
    widen(out);
    return true;
}

/* What a header says is mapped, as far as it lies in the object. */
static bool span_of(
    const struct tp_object *object, const ElfW(Phdr) * header, struct tp_span *out)
{
    uintptr_t start = object->base + header->p_vaddr;
    // Pages past the end of the file are not there to be read: bytes of the file only.
    uintptr_t end = start + header->p_filesz;
    if (start < object->span.start || end > object->span.end || end < start)
        return false;
    *out = (struct tp_span){ start, end };
    return true;
}

bool tp_object_segment(const struct tp_object *object, uintptr_t address, uint32_t want,
    struct tp_span *out)
{
    const ElfW(Phdr) *header = object->headers;
    for (size_t n = object->n_headers; n > 0; n--, header++)
        if (header->p_type == PT_LOAD && (header->p_flags & want) == want &&
            span_of(object, header, out) && address >= out->start && address < out->end)
            return true;
    return false;
}

/* The build id in the notes of `span`. */
static size_t build_id_in(struct tp_span span, size_t align, uint8_t *out, size_t most)
{
    for (uintptr_t at = span.start; span.end - at >= sizeof(ElfW(Nhdr));) {
        const ElfW(Nhdr) *note = (const void *)at;
        size_t name = tp_align_up(note->n_namesz, align);
        size_t content = tp_align_up(note->n_descsz, align);
        if (name + content > span.end - at - sizeof(*note)) return 0;
        const char *text = (const char *)(note + 1);
        if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == sizeof(ELF_NOTE_GNU) &&
            memcmp(text, ELF_NOTE_GNU, sizeof(ELF_NOTE_GNU)) == 0) {
            size_t bytes = note->n_descsz < most ? note->n_descsz : most;
            memcpy(out, text + name, bytes);
            return bytes;
        }
        at += sizeof(*note) + name + content;
    }
    return 0;
}

size_t tp_object_build_id(const struct tp_object *object, uint8_t *out, size_t most)
{
    const ElfW(Phdr) *header = object->headers;
    for (size_t n = object->n_headers; n > 0; n--, header++) {
        struct tp_span notes, loaded;
        if (header->p_type != PT_NOTE || !span_of(object, header, &notes)) continue;
        if (!tp_object_segment(object, notes.start, TP_SEGMENT_READ, &loaded)) continue;
        if (notes.start % 4 || notes.end > loaded.end) continue;
        size_t align = header->p_align == 8 ? 8 : 4;
        size_t bytes = build_id_in(notes, align, out, most);
        if (bytes) return bytes;
    }
    return 0;
}
