/* SPDX-License-Identifier: MIT */
/*
 * target.c - will the preload reach this program?
 *
 * Idea: the dynamic linker loads us, so a program without one (no PT_INTERP), with one
 * of another word size or C library, or with more rights than its caller, is not
 * covered; nor is one whose own malloc wins over every preload. All that can be read off
 * the file before it starts (elf.c); a script is judged by the program that its first
 * line names. With the runtime of a sanitizer, which insists on being the first of all
 * libraries, a program would not even start: it runs without us.
 */
#include "report/run.h"

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

static enum tp_target note(char out[TP_TARGET_NOTE], const char *path, const char *how,
    const char *why, const char *what)
{
    const char *slash = strrchr(path, '/');
    snprintf(out, TP_TARGET_NOTE, "%.60s will %s: %s%s", slash ? slash + 1 : path, how,
        why, what);
    return TP_TARGET_NOTED;
}

/* The dynamic linker turns preloading off for a program that gains rights. */
static const char *judge_rights(int fd)
{
    struct stat status;
    if (fstat(fd, &status) < 0) return NULL;
    bool user = (status.st_mode & S_ISUID) && status.st_uid != getuid();
    bool group = (status.st_mode & S_ISGID) && status.st_gid != getgid();
    if (user || group) return "it is setuid or setgid";
    if (getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0)
        return "it has file capabilities";
    return NULL;
}

/* Why nothing of it will be covered; NULL when something will. */
static const char *judge_whole(const struct tp_elf *elf)
{
    if (elf->is_32_bit) return "it is a 32-bit program";
    if (elf->is_foreign) return "it is made for another processor";
    if (!elf->linked) return "it is statically linked";
    if (strstr(elf->linker, "ld-musl")) return "it uses musl, not glibc";
    if (elf->own_malloc) return "it has an allocator of its own";
    return NULL;
}

static enum tp_target judge_program(
    char out[TP_TARGET_NOTE], const char *path, int fd, const struct tp_elf *elf)
{
    static const char not [] = "not be covered", part[] = "be covered in part";
    const char *why = judge_rights(fd);
    if (!why) why = judge_whole(elf);
    if (why) return note(out, path, not, why, "");
    if (elf->sanitizer) {
        note(out, path, not, "it runs without the library, which may not come before ",
            elf->sanitizer);
        return TP_TARGET_ALONE;
    }
    if (elf->is_go) return note(out, path, part, "Go has a heap of its own", "");
    if (elf->hidden_malloc)
        return note(out, path, part, "it has an allocator of its own inside", "");
    return TP_TARGET_GOOD;
}

/* The next word of the first line of a script, from `*at` on; the caller frees it. */
static char *next_word(const char **at)
{
    *at += strspn(*at, " \t");
    size_t n = strcspn(*at, " \t\r\n");
    char *word = n ? strndup(*at, n) : NULL;
    *at += n;
    return word;
}

/* The program that a script names in its first line; the caller frees it. */
static char *script_program(const unsigned char *head)
{
    const char *at = (const char *)head + 2;
    char *program = next_word(&at);
    const char *slash = program ? strrchr(program, '/') : NULL;
    if (!slash || strcmp(slash, "/env") != 0) return program;
    // env looks for the first word that is neither an option nor a setting.
    char *word = next_word(&at);
    while (word && (word[0] == '-' || strchr(word, '='))) {
        free(word);
        word = next_word(&at);
    }
    char *found = word ? tp_target_find(word) : NULL;
    free(word);
    if (!found) return program;
    free(program);
    return found;
}

enum tp_target tp_target_judge(char out_note[TP_TARGET_NOTE], const char *path)
{
    enum tp_target judged = TP_TARGET_GOOD;
    char *file = strdup(path);
    for (int i = 0; file && i < SCRIPTS_FOLLOWED; i++) {
        unsigned char head[HEAD_BYTES + 1] = { 0 };
        int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0) break;
        struct tp_elf elf;
        char *next = NULL;
        if (pread(fd, head, HEAD_BYTES, 0) > 2 && memcmp(head, "#!", 2) == 0)
            next = script_program(head);
        else if (tp_elf_read(&elf, fd))
            judged = judge_program(out_note, file, fd, &elf);
        close(fd);
        free(file);
        file = next;
    }
    free(file);
    return judged;
}
