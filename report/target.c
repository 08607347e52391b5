/* SPDX-License-Identifier: MIT */
/*
 * target.c - will the preload reach this program?
 *
 * Idea: the dynamic linker loads us, so a program without one (no PT_INTERP), with one
 * of another word size or C library, or with more rights than its caller, is not
 * covered. That can be read off the file before it starts; a script is judged by the
 * program that its first line names.
 */
#include "report/run.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { HEAD_BYTES = 4096, SCRIPTS_FOLLOWED = 4 };

char *tp_target_find(const char *command)
{
    if (strchr(command, '/')) return strdup(command);
    const char *folders = getenv("PATH");
    if (!folders) folders = "/bin:/usr/bin";
    while (true) {
        size_t n = strcspn(folders, ":");
        char *path = NULL;
        struct stat status;
        if (asprintf(&path, "%.*s%s%s", (int)n, folders, n ? "/" : "", command) < 0)
            return NULL;
        if (access(path, X_OK) == 0 && stat(path, &status) == 0 &&
            S_ISREG(status.st_mode))
            return path;
        free(path);
        if (!folders[n]) return NULL;
        folders += n + 1;
    }
}

static bool note(char out[TP_TARGET_NOTE], const char *path, const char *why)
{
    const char *slash = strrchr(path, '/');
    snprintf(out, TP_TARGET_NOTE, "%.60s will not be covered: %s",
        slash ? slash + 1 : path, why);
    return true;
}

/* The dynamic linker turns preloading off for a program that gains rights. */
static bool judge_rights(char out[TP_TARGET_NOTE], const char *path, int fd)
{
    struct stat status;
    if (fstat(fd, &status) < 0) return false;
    bool user = (status.st_mode & S_ISUID) && status.st_uid != getuid();
    bool group = (status.st_mode & S_ISGID) && status.st_gid != getgid();
    if (user || group) return note(out, path, "it is setuid or setgid");
    if (getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0)
        return note(out, path, "it has file capabilities");
    return false;
}

/* Judges the program headers of a 64-bit file whose first `n` bytes are `head`. */
static bool judge_headers(char out[TP_TARGET_NOTE], const char *path, int fd,
    const unsigned char *head, size_t n)
{
    Elf64_Ehdr file;
    if (n < sizeof(file)) return false;
    memcpy(&file, head, sizeof(file));
    if (file.e_phentsize != sizeof(Elf64_Phdr)) return false;
    for (unsigned i = 0; i < file.e_phnum && i < 128; i++) {
        Elf64_Phdr row;
        char linker[256] = "";
        off_t at = (off_t)(file.e_phoff + i * sizeof(row));
        if (pread(fd, &row, sizeof(row), at) != (ssize_t)sizeof(row)) return false;
        if (row.p_type != PT_INTERP) continue;
        (void)!pread(fd, linker, sizeof(linker) - 1, (off_t)row.p_offset);
        return strstr(linker, "ld-musl") && note(out, path, "it uses musl, not glibc");
    }
    return note(out, path, "it is statically linked");
}

/* The program that a script names in its first line; the caller frees it. */
static char *script_program(const unsigned char *head)
{
    const char *text = (const char *)head + 2;
    text += strspn(text, " \t");
    return strndup(text, strcspn(text, " \t\r\n"));
}

bool tp_target_judge(char out_note[TP_TARGET_NOTE], const char *path)
{
    bool judged = false;
    char *file = strdup(path);
    for (int i = 0; file && i < SCRIPTS_FOLLOWED; i++) {
        unsigned char head[HEAD_BYTES + 1] = { 0 };
        int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0) break;
        ssize_t n = pread(fd, head, HEAD_BYTES, 0);
        char *next = NULL;
        if (n > 2 && memcmp(head, "#!", 2) == 0)
            next = script_program(head);
        else if (n > EI_CLASS && memcmp(head, ELFMAG, SELFMAG) == 0) {
            judged = judge_rights(out_note, file, fd);
            if (!judged && head[EI_CLASS] != ELFCLASS64)
                judged = note(out_note, file, "it is a 32-bit program");
            else if (!judged)
                judged = judge_headers(out_note, file, fd, head, (size_t)n);
        }
        close(fd);
        free(file);
        file = next;
    }
    free(file);
    return judged;
}
