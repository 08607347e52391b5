/* SPDX-License-Identifier: MIT */
/*
 * test_target.c - what is said of a program before it starts; made-up executables.
 *
 * The files are built here: a header, an interpreter, symbols, libraries, a note. Each
 * is then cut off at every length and spoilt at random: an answer, whatever it is,
 * must come, and the sanitizers see that nothing outside of the file was looked at.
 */
#include "tests/unit/report/test.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report/run.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test_target.XXXXXX");
    return mkdtemp(folder) ? chdir(folder) : -1;
}

static int clear_folder(void **state)
{
    (void)state;
    static const char *const names[] = { "program", "script", "env", "other" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) unlink(names[i]);
    return chdir("/") || rmdir(folder);
}

/* ---- a made-up executable ------------------------------------------------------------ */

enum { ROOM = 4096 };

struct program {
    unsigned char bytes[ROOM];
    size_t n;
    unsigned n_sections;
    Elf64_Shdr sections[8];
};

static uint64_t put(struct program *program, const void *bytes, size_t n)
{
    size_t at = (program->n + 7) & ~(size_t)7;
    assert_true(at + n <= ROOM);
    if (n) memcpy(program->bytes + at, bytes, n);
    program->n = at + n;
    return at;
}

static void add_section(struct program *program, uint32_t type, uint32_t link,
    uint64_t each, const void *bytes, size_t n)
{
    assert_true(program->n_sections < 8);
    program->sections[program->n_sections++] = (Elf64_Shdr){ .sh_type = type,
        .sh_link = link,
        .sh_entsize = each,
        .sh_offset = put(program, bytes, n),
        .sh_size = n };
}

static Elf64_Ehdr *head_of(struct program *program)
{
    return (Elf64_Ehdr *)(void *)program->bytes;
}

/* An executable with the interpreter `linker`; NULL: a static one. */
static void begin(struct program *program, const char *linker)
{
    memset(program, 0, sizeof(*program));
    Elf64_Ehdr head = { .e_type = ET_DYN, .e_ehsize = sizeof(head) };
    memcpy(head.e_ident, ELFMAG, SELFMAG);
    head.e_ident[EI_CLASS] = ELFCLASS64;
    put(program, &head, sizeof(head));
    Elf64_Phdr rows[2] = { { .p_type = PT_LOAD }, { .p_type = PT_NULL } };
    if (linker) {
        rows[1].p_type = PT_INTERP;
        rows[1].p_offset = put(program, linker, strlen(linker) + 1);
        rows[1].p_filesz = strlen(linker) + 1;
    }
    head_of(program)->e_phoff = put(program, rows, sizeof(rows));
    head_of(program)->e_phnum = 2;
    head_of(program)->e_phentsize = sizeof(Elf64_Phdr);
    add_section(program, SHT_NULL, 0, 0, NULL, 0);
}

/* Symbols of one table, the names separated by blanks. */
static void add_symbols(
    struct program *program, uint32_t type, const char *names, uint16_t section)
{
    char text[256] = "";
    Elf64_Sym symbols[8] = { { .st_name = 0 } };
    size_t n = 1, at = 1;
    for (const char *name = names; *name; n++) {
        size_t length = strcspn(name, " ");
        symbols[n].st_name = (uint32_t)at;
        symbols[n].st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
        symbols[n].st_shndx = section;
        memcpy(text + at, name, length);
        at += length + 1;
        name += length + (name[length] == ' ');
    }
    add_section(program, type, program->n_sections + 1, sizeof(Elf64_Sym), symbols,
        n * sizeof(Elf64_Sym));
    add_section(program, SHT_STRTAB, 0, 0, text, at);
}

static void add_library(struct program *program, const char *name)
{
    char text[64] = "";
    strcpy(text + 1, name);
    Elf64_Dyn rows[3] = { { .d_tag = DT_DEBUG },
        { .d_tag = DT_NEEDED, .d_un.d_val = 1 }, { .d_tag = DT_NULL } };
    add_section(program, SHT_DYNAMIC, program->n_sections + 1, sizeof(Elf64_Dyn), rows,
        sizeof(rows));
    add_section(program, SHT_STRTAB, 0, 0, text, strlen(name) + 2);
}

static void add_go_note(struct program *program)
{
    struct {
        Elf64_Nhdr head;
        char name[4];
        char id[8];
    } note = { { 4, 8, 4 }, "Go\0", "build-i" };
    add_section(program, SHT_NOTE, 0, 0, &note, sizeof(note));
}

static void end(struct program *program)
{
    Elf64_Ehdr *head = head_of(program);
    size_t n = program->n_sections * sizeof(Elf64_Shdr);
    head->e_shnum = (uint16_t)program->n_sections;
    head->e_shentsize = sizeof(Elf64_Shdr);
    head->e_shoff = put(program, program->sections, n);
}

static void write_file(const char *path, const void *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
}

static void expect(enum tp_target judged, const char *words)
{
    char note[TP_TARGET_NOTE] = "";
    assert_int_equal(tp_target_judge(note, "program"), judged);
    assert_string_equal(note, words);
}

static void expect_of(struct program *program, enum tp_target judged, const char *words)
{
    end(program);
    write_file("program", program->bytes, program->n);
    expect(judged, words);
}

static const char glibc[] = "/lib64/ld-linux-x86-64.so.2";

/* ---- what is said ----------------------------------------------------------------------- */

static void an_ordinary_program_is_passed_over(void **state)
{
    (void)state;
    struct program program;
    begin(&program, glibc);
    add_symbols(&program, SHT_DYNSYM, "malloc free", SHN_UNDEF);
    add_symbols(&program, SHT_SYMTAB, "main malloc_hook free_all", 7);
    add_library(&program, "libc.so.6");
    expect_of(&program, TP_TARGET_GOOD, "");
}

static void headers_tell_the_kind(void **state)
{
    (void)state;
    struct program program;
    begin(&program, NULL);
    expect_of(&program, TP_TARGET_NOTED,
        "program will not be covered: it is statically linked");
    begin(&program, "/lib/ld-musl-x86_64.so.1");
    expect_of(&program, TP_TARGET_NOTED,
        "program will not be covered: it uses musl, not glibc");
    begin(&program, glibc);
    head_of(&program)->e_ident[EI_CLASS] = ELFCLASS32;
    expect_of(&program, TP_TARGET_NOTED,
        "program will not be covered: it is a 32-bit program");
    begin(&program, glibc);
    head_of(&program)->e_machine = EM_S390;
    expect_of(&program, TP_TARGET_NOTED,
        "program will not be covered: it is made for another processor");
    begin(&program, glibc);
    head_of(&program)->e_ident[EI_DATA] = ELFDATA2MSB;
    expect_of(&program, TP_TARGET_NOTED,
        "program will not be covered: it is made for another processor");
}

static void an_allocator_of_its_own_is_seen(void **state)
{
    (void)state;
    static const char *const names[] = { "malloc", "main free", "calloc x",
        "a realloc" };
    struct program program;
    for (size_t i = 0; i < 4; i++) {
        begin(&program, glibc);
        add_library(&program, "libc.so.6");
        add_symbols(&program, SHT_DYNSYM, names[i], 7);
        expect_of(&program, TP_TARGET_NOTED,
            "program will not be covered: it has an allocator of its own");
    }
    begin(&program, glibc);
    add_symbols(&program, SHT_DYNSYM, "malloc free", SHN_UNDEF);
    add_symbols(&program, SHT_SYMTAB, "malloc free", 7);
    expect_of(&program, TP_TARGET_NOTED,
        "program will be covered in part: it has an allocator of its own inside");
    begin(&program, glibc);
    add_symbols(&program, SHT_SYMTAB, "malloc", 7);
    expect_of(&program, TP_TARGET_GOOD, "");
}

static void sanitizers_run_alone(void **state)
{
    (void)state;
    static const char *const libraries[] = { "libasan.so.8", "libtsan.so.2",
        "libclang_rt.asan-x86_64.so", "libubsan.so.1", "liblsan.so.0" };
    static const char begin_of_note[] =
        "program will not be covered: it runs without the "
        "library, which may not come before ";
    struct program program;
    for (size_t i = 0; i < 5; i++) {
        char words[TP_TARGET_NOTE] = "";
        const char *name = i == 1 ? "ThreadSanitizer" : "AddressSanitizer";
        if (i < 3) snprintf(words, sizeof(words), "%s%s", begin_of_note, name);
        begin(&program, glibc);
        add_library(&program, libraries[i]);
        expect_of(&program, i < 3 ? TP_TARGET_ALONE : TP_TARGET_GOOD, words);
    }
}

static void go_is_told(void **state)
{
    (void)state;
    struct program program;
    begin(&program, glibc);
    add_go_note(&program);
    expect_of(&program, TP_TARGET_NOTED,
        "program will be covered in part: Go has a heap of its own");
}

static void a_script_for_env_is_judged_by_what_env_finds(void **state)
{
    (void)state;
    struct program program;
    char line[128], path[128], note[TP_TARGET_NOTE] = "";
    begin(&program, NULL);
    end(&program);
    write_file("other", program.bytes, program.n);
    const char *before = getenv("PATH");
    char *kept = before ? strdup(before) : NULL;
    snprintf(path, sizeof(path), "%s:/usr/bin:/bin", folder);
    setenv("PATH", path, 1);
    int n = snprintf(line, sizeof(line), "#!/usr/bin/env -S A=b other -x\n");
    write_file("script", line, (size_t)n);
    assert_int_equal(tp_target_judge(note, "script"), TP_TARGET_NOTED);
    assert_string_equal(note, "other will not be covered: it is statically linked");
    n = snprintf(line, sizeof(line), "#!/usr/bin/env no-such-program\n");
    write_file("script", line, (size_t)n);
    assert_int_equal(tp_target_judge(note, "script"), TP_TARGET_GOOD);
    write_file("script", "#!\n", 3);
    assert_int_equal(tp_target_judge(note, "script"), TP_TARGET_GOOD);
    if (kept) setenv("PATH", kept, 1);
    free(kept);
}

/* ---- what is not as it should be ---------------------------------------------------------- */

static void fill(struct program *program)
{
    begin(program, glibc);
    add_symbols(program, SHT_DYNSYM, "strlen malloc", 7);
    add_symbols(program, SHT_SYMTAB, "main free", 7);
    add_library(program, "libasan.so.8");
    end(program);
}

static void any_length_gives_an_answer(void **state)
{
    (void)state;
    struct program program;
    char note[TP_TARGET_NOTE];
    fill(&program);
    for (size_t n = 0; n <= program.n; n++) {
        write_file("program", program.bytes, n);
        enum tp_target judged = tp_target_judge(note, "program");
        if (n < EI_NIDENT) assert_int_equal(judged, TP_TARGET_GOOD);
        if (n == program.n) assert_int_equal(judged, TP_TARGET_NOTED);
    }
}

static void any_content_gives_an_answer(void **state)
{
    (void)state;
    static const uint64_t wild[] = { 0, 1, 7, 0xffff, 0x7fffffff, 0xffffffff,
        0x7fffffffffffffff, 0xffffffffffffffff, 0xfffffffffffff000 };
    struct program program;
    char note[TP_TARGET_NOTE];
    for (size_t at = EI_NIDENT; at + 8 <= ROOM; at += 4) {
        fill(&program);
        if (at + 8 > program.n) break;
        for (size_t i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
            memcpy(program.bytes + at, &wild[i], i < 5 ? 4 : 8);
            write_file("program", program.bytes, program.n);
            tp_target_judge(note, "program");
        }
    }
}

static void a_table_that_says_it_is_huge_is_left_out(void **state)
{
    (void)state;
    struct program program;
    fill(&program);
    Elf64_Shdr *sections = (void *)(program.bytes + head_of(&program)->e_shoff);
    sections[1].sh_size = UINT64_C(1) << 40;
    sections[2].sh_size = 0;
    sections[3].sh_link = 99;
    sections[5].sh_link = 1;  // not a table of strings
    write_file("program", program.bytes, program.n);
    expect(TP_TARGET_GOOD, "");
}

static void what_is_no_file_is_passed_over(void **state)
{
    (void)state;
    char note[TP_TARGET_NOTE];
    assert_int_equal(tp_target_judge(note, folder), TP_TARGET_GOOD);
    assert_int_equal(tp_target_judge(note, "/dev/null"), TP_TARGET_GOOD);
    assert_int_equal(tp_target_judge(note, "/no/such/file"), TP_TARGET_GOOD);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, clear_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(an_ordinary_program_is_passed_over),
        IN_FOLDER(headers_tell_the_kind),
        IN_FOLDER(an_allocator_of_its_own_is_seen),
        IN_FOLDER(sanitizers_run_alone),
        IN_FOLDER(go_is_told),
        IN_FOLDER(a_script_for_env_is_judged_by_what_env_finds),
        IN_FOLDER(any_length_gives_an_answer),
        IN_FOLDER(any_content_gives_an_answer),
        IN_FOLDER(a_table_that_says_it_is_huge_is_left_out),
        IN_FOLDER(what_is_no_file_is_passed_over),
    };
    return cmocka_run_group_tests_name("target", tests, NULL, NULL);
}
