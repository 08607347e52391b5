/* SPDX-License-Identifier: MIT */
/*
 * elf_image.h - the segments of a file, as the loader would place them, and its sheet.
 *
 * The image lies in one block of malloc: a sanitizer sees whoever reads past its end.
 */
#ifndef TP_TESTS_UNIT_ELF_IMAGE_H
#define TP_TESTS_UNIT_ELF_IMAGE_H

#include "shim/unwind.h"

#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { IMAGE_MOST = 256 << 20 };

struct image {
    char *bytes;  // address 0 of the file
    size_t size;
    uint64_t header;  // address of .eh_frame_hdr in the file
    struct tp_sheet sheet;
};

/* Places the segments of a 64-bit file; false: it is none, or has no unwind index. */
static inline bool image_place(struct image *image, const char *file, size_t bytes)
{
    const Elf64_Ehdr *elf = (const void *)file;
    if (bytes < sizeof(*elf) || memcmp(file, ELFMAG, SELFMAG) != 0 ||
        elf->e_ident[EI_CLASS] != ELFCLASS64 ||
        elf->e_phentsize != sizeof(Elf64_Phdr) ||
        elf->e_phoff + elf->e_phnum * sizeof(Elf64_Phdr) > bytes)
        return false;
    const Elf64_Phdr *header = (const void *)(file + elf->e_phoff);
    for (unsigned i = 0; i < elf->e_phnum; i++) {
        if (header[i].p_type == PT_GNU_EH_FRAME) image->header = header[i].p_vaddr;
        if (header[i].p_type != PT_LOAD) continue;
        if (header[i].p_offset + header[i].p_filesz > bytes) return false;
        size_t end = header[i].p_vaddr + header[i].p_filesz;
        if (end > image->size) image->size = end;
    }
    if (!image->header || image->size > IMAGE_MOST) return false;
    image->bytes = calloc(image->size, 1);
    for (unsigned i = 0; image->bytes && i < elf->e_phnum; i++)
        if (header[i].p_type == PT_LOAD)
            memcpy(image->bytes + header[i].p_vaddr, file + header[i].p_offset,
                header[i].p_filesz);
    return image->bytes != NULL;
}

/* What rules.c is told of the image: all of it may be read. */
static inline bool image_sheet(struct image *image)
{
    uintptr_t start = (uintptr_t)image->bytes, frames;
    struct tp_span all = { start, start + image->size };
    image->sheet = (struct tp_sheet){
        .header = start + image->header, .index = all, .rules = all
    };
    return tp_rules_frames(&image->sheet, &frames);
}

static inline bool image_open(struct image *image, const char *path)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && fstat(fd, &status) == 0 && status.st_size > 0;
    size_t bytes = good ? (size_t)status.st_size : 0;
    char *file = good ? mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
    if (fd >= 0) close(fd);
    *image = (struct image){ 0 };
    good = file != MAP_FAILED && image_place(image, file, bytes);
    if (file != MAP_FAILED) munmap(file, bytes);
    return good && image_sheet(image);
}

static inline void image_close(struct image *image)
{
    free(image->bytes);
    *image = (struct image){ 0 };
}

#endif
