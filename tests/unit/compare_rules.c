/* SPDX-License-Identifier: MIT */
/*
 * compare_rules.c [SECONDS [FILE...]] - our rows against those of libdw.
 *
 * Every function of every shared library of this machine that has an index (within the
 * time), each row at its first and its last address: the CFA, and the rule of each
 * register that a walk follows. Exit status: 0 all the same, 1 not, 77 nothing to do.
 */
#include "tests/unit/elf_image.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <glob.h>
#include <stdio.h>
#include <time.h>

enum { ROWS_A_FUNCTION = 60, FUNCTIONS = 1500, SHOWN = 20 };

static struct {
    unsigned files, differences;
    unsigned long functions, rows, expressions, undecided;
} seen;

static struct tp_rules_scratch scratch;

static const uint8_t *bytes_at(int64_t address)
{
    return (const uint8_t *)(uintptr_t)address;
}

/* Our expression begins with this operation, and is as long as can be told. */
static bool same_expression(const struct tp_rule *rule, const Dwarf_Op *ops, size_t n)
{
    seen.expressions++;
    return n > 0 && bytes_at(rule->n)[0] > 0 && bytes_at(rule->n)[1] == ops[0].atom;
}

static bool same_cfa(Dwarf_Frame *frame)
{
    Dwarf_Op *ops;
    size_t n;
    const struct tp_row *row = &scratch.row;
    if (dwarf_frame_cfa(frame, &ops, &n) != 0 || n == 0) return false;
    if (row->cfa.how == TP_HOW_IS_EXPRESSION) return same_expression(&row->cfa, ops, n);
    return n == 1 && ops[0].atom == DW_OP_bregx && ops[0].number == row->cfa_register &&
        ops[0].number2 == (Dwarf_Word)row->cfa.n;
}

static bool same_rule(Dwarf_Frame *frame, unsigned number)
{
    Dwarf_Op memory[3], *ops;
    size_t n;
    const struct tp_rule *rule = &scratch.row.rules[number];
    if (dwarf_frame_register(frame, (int)number, memory, &ops, &n) != 0) return false;
    bool is_value = n > 0 && ops[n - 1].atom == DW_OP_stack_value;
    Dwarf_Word offset = n > 1 && ops[1].atom == DW_OP_plus_uconst ? ops[1].number : 0;
    switch (rule->how) {
    case TP_HOW_SAME:
        // Of the stack pointer the ABI says that it is the CFA; so do we, when we step.
        return n == 0 || (number == TP_REGISTER_SP && is_value && offset == 0);
    case TP_HOW_UNDEFINED:
        return n == 0 && ops == memory;
    case TP_HOW_AT:
        return n > 0 && !is_value && offset == (Dwarf_Word)rule->n;
    case TP_HOW_IS:
        return is_value && offset == (Dwarf_Word)rule->n;
    case TP_HOW_REGISTER:
        return n == 1 && ops[0].atom == DW_OP_regx &&
            ops[0].number == (Dwarf_Word)rule->n;
    default:
        // The CFA comes first on the stack, then the expression.
        return n > 1 && same_expression(rule, ops + 1, n - 1) &&
            is_value == (rule->how == TP_HOW_IS_EXPRESSION);
    }
}

/* libdw has none where an expression is followed by a register without an offset. */
static bool has_no_cfa(Dwarf_Frame *frame)
{
    Dwarf_Op *ops;
    size_t n;
    return dwarf_frame_cfa(frame, &ops, &n) != 0 || n == 0;
}

static void compare(
    const struct image *image, const char *path, Dwarf_Frame *frame, Dwarf_Addr address)
{
    static const unsigned numbers[] = { 3, 6, 7, 12, 13, 14, 15, 16 };
    bool is_signal = false;
    uintptr_t at = (uintptr_t)image->bytes + address;
    enum tp_rules_found found = tp_rules_find(&image->sheet, at, &scratch);
    bool same = found == TP_RULES_FOUND && same_cfa(frame);
    unsigned wrong = same ? 0 : 99;
    int ra = dwarf_frame_info(frame, NULL, NULL, &is_signal);
    same = same && is_signal == scratch.is_signal && ra == (int)scratch.ra;
    for (unsigned i = 0; same && i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (!same_rule(frame, numbers[i])) same = false, wrong = numbers[i];
    seen.rows++;
    if (!same && has_no_cfa(frame)) {
        seen.undecided++;
        return;
    }
    if (!same && seen.differences++ < SHOWN)
        printf("%s: at %#lx: found %d, differs in %u\n", path, (unsigned long)address,
            (int)found, wrong);
}

/* All rows of the function at `address`, or the first of very many. */
static void compare_function(
    const struct image *image, const char *path, Dwarf_CFI *cfi, Dwarf_Addr address)
{
    seen.functions++;
    for (unsigned i = 0; i < ROWS_A_FUNCTION; i++) {
        Dwarf_Frame *frame;
        Dwarf_Addr start, end;
        if (dwarf_cfi_addrframe(cfi, address, &frame) != 0) return;
        dwarf_frame_info(frame, &start, &end, NULL);
        compare(image, path, frame, address);
        if (end > address + 1) compare(image, path, frame, end - 1);
        free(frame);
        if (end <= address) return;
        address = end;
    }
}

/* The functions of the index, in even steps when there are very many. */
static void compare_image(const struct image *image, const char *path, Dwarf_CFI *cfi)
{
    const uint8_t *header = (const uint8_t *)image->bytes + image->header;
    uint32_t n;
    if (header[2] != 0x03 || header[3] != 0x3b) return;  // udata4; datarel sdata4
    memcpy(&n, header + 8, 4);
    uint32_t step = n / FUNCTIONS + 1;
    for (uint32_t i = 0; i < n; i += step) {
        int32_t start;
        memcpy(&start, header + 12 + (size_t)i * 8, 4);
        compare_function(image, path, cfi, image->header + (uint64_t)(int64_t)start);
    }
    seen.files++;
}

static void compare_file(const char *path)
{
    struct image image;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    Elf *elf = fd >= 0 ? elf_begin(fd, ELF_C_READ_MMAP, NULL) : NULL;
    Dwarf_CFI *cfi = elf && elf_kind(elf) == ELF_K_ELF ? dwarf_getcfi_elf(elf) : NULL;
    if (cfi && image_open(&image, path)) {
        compare_image(&image, path, cfi);
        image_close(&image);
    }
    if (cfi) dwarf_cfi_end(cfi);
    if (elf) elf_end(elf);
    if (fd >= 0) close(fd);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int n, char **words)
{
    glob_t found = { 0 };
    double end = now() + (n > 1 ? atof(words[1]) : 10);
    elf_version(EV_CURRENT);
    glob("/lib/x86_64-linux-gnu/ld-linux*", 0, NULL, &found);
    glob("/usr/lib/x86_64-linux-gnu/lib[c-z]*.so*", GLOB_APPEND, NULL, &found);
    glob("/usr/lib/x86_64-linux-gnu/lib[ab]*.so*", GLOB_APPEND, NULL, &found);
    for (int i = 2; i < n; i++) compare_file(words[i]);
    for (size_t i = 0; n <= 2 && i < found.gl_pathc && now() < end; i++) {
        struct stat status;  // each library once, not by its other names
        if (lstat(found.gl_pathv[i], &status) == 0 && S_ISREG(status.st_mode))
            compare_file(found.gl_pathv[i]);
    }
    globfree(&found);
    printf("%u files, %lu functions, %lu rows, %lu expressions, %u differences\n",
        seen.files, seen.functions, seen.rows, seen.expressions, seen.differences);
    printf("%lu rows of which libdw says nothing\n", seen.undecided);
    if (seen.rows == 0) return 77;
    return seen.differences || seen.undecided > seen.rows / 10000 ? 1 : 0;
}
