/* SPDX-License-Identifier: MIT */
/*
 * dwarf.c - functions, inlined ones among them, and lines by debug information.
 *
 *     addresses in order -> compilation units -> one walk over the tree of each
 *
 * Idea: libdw answers for one address with a walk over a unit's tree. We have many
 * addresses and take all those of a unit along on one walk: each is handed down through
 * the scopes that cover it, and the functions among them are its chain.
 *
 * Units are found by their own ranges, not by .debug_aranges, which clang leaves out. A
 * range outside of the program's code is one of a function that the linker dropped, and
 * says nothing. DWARF gives line and file of the innermost function in the line table, and
 * those of the others where the inlined call is described (DWARF 5, 3.3.8.2).
 */
#include "report/symbols.h"

#include <dwarf.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <elfutils/libdwfl.h>

enum {
    SCOPES = 256,       // nested in each other; deeper ones are left out
    SEGMENTS = 64,      // of code, in one file
    UNIT_RANGES = 4096  // first room
};

struct range {
    uint64_t start;
    uint64_t end;
};

struct unit {
    Dwarf_Die die;   // of the file itself
    Dwarf_Die tree;  // where its functions are: the same, or in a .dwo file
};

struct unit_range {
    uint64_t start;
    uint64_t end;
    uint64_t reach;  // the highest end of this and all before it
    uint32_t unit;
};

struct tp_dwarf {
    Dwfl *dwfl;
    Dwfl_Module *module;
    struct tp_debug_files files;
    struct tp_symtab *symtab;
    Dwarf *dwarf;  // NULL: symbols only
    Dwarf_Addr bias;
    struct range code[SEGMENTS];
    size_t n_code;
    struct unit *units;
    size_t n_units;
    struct unit_range *ranges;
    size_t n_ranges;
    bool units_read;
};

/* One address on its way through a unit. */
struct question {
    uint64_t pc;  // as the debug information counts
    size_t index;
    uint32_t unit;
    uint32_t n;  // functions around it; the outermost is the first
    Dwarf_Die chain[TP_NAMES_CHAIN];
};

/* ---- files ---------------------------------------------------------------------------- */

/* libdw asks for the separate debug information, or for what that refers to. */
static int find_debuginfo(Dwfl_Module *module, void **userdata, const char *name,
    Dwarf_Addr base, const char *file_name, const char *link, GElf_Word crc,
    char **out_path)
{
    (void)module, (void)name, (void)base, (void)file_name, (void)crc;
    struct tp_debug_files *files = *userdata;
    if (!files) return -1;
    bool shared = link && files->main_link && strcmp(link, files->main_link) == 0;
    int *fd = shared ? &files->shared_fd : &files->debug_fd;
    int given = *fd;  // libdw closes it
    *fd = -1;
    if (given >= 0 && !shared && files->debug_path)
        *out_path = strdup(files->debug_path);
    return given;
}

static int find_elf(Dwfl_Module *module, void **userdata, const char *name,
    Dwarf_Addr base, char **out_path, Elf **out_elf)
{
    (void)module, (void)userdata, (void)name, (void)base, (void)out_path, (void)out_elf;
    return -1;
}

static void read_code(struct tp_dwarf *dwarf)
{
    GElf_Addr bias;
    size_t n = 0;
    Elf *elf = dwfl_module_getelf(dwarf->module, &bias);
    if (!elf || elf_getphdrnum(elf, &n) < 0) return;
    for (size_t i = 0; i < n && i < INT32_MAX && dwarf->n_code < SEGMENTS; i++) {
        GElf_Phdr row;
        if (!gelf_getphdr(elf, (int)i, &row) || row.p_type != PT_LOAD) continue;
        if (!(row.p_flags & PF_X) || row.p_vaddr + row.p_memsz < row.p_vaddr) continue;
        dwarf->code[dwarf->n_code++] =
            (struct range){ row.p_vaddr + bias, row.p_vaddr + row.p_memsz + bias };
    }
}

struct tp_dwarf *tp_dwarf_open(struct tp_debug_files *files)
{
    static const Dwfl_Callbacks callbacks = {
        .find_elf = find_elf,
        .find_debuginfo = find_debuginfo,
        .section_address = dwfl_offline_section_address,
    };
    struct tp_dwarf *dwarf = calloc(1, sizeof(*dwarf));
    if (!dwarf) {
        tp_debug_files_close(files);
        return NULL;
    }
    dwarf->files = *files;
    memset(files, 0, sizeof(*files));
    files->main_fd = files->debug_fd = files->shared_fd = -1;
    dwarf->dwfl = dwfl_begin(&callbacks);
    if (dwarf->dwfl && dwarf->files.main_fd >= 0) {
        dwfl_report_begin(dwarf->dwfl);
        // At its own addresses: 0 is added to them.
        dwarf->module = dwfl_report_elf(dwarf->dwfl, dwarf->files.main_path,
            dwarf->files.main_path, dwarf->files.main_fd, 0, true);
        if (dwarf->module) dwarf->files.main_fd = -1;  // libdw closes it
        dwfl_report_end(dwarf->dwfl, NULL, NULL);
    }
    if (!dwarf->module) {
        tp_dwarf_close(dwarf);
        return NULL;
    }
    void **userdata;
    dwfl_module_info(dwarf->module, &userdata, NULL, NULL, NULL, NULL, NULL, NULL);
    *userdata = &dwarf->files;
    read_code(dwarf);
    dwarf->dwarf = dwfl_module_getdwarf(dwarf->module, &dwarf->bias);
    dwarf->symtab = tp_symtab_make(dwarf->module);
    return dwarf;
}

void tp_dwarf_close(struct tp_dwarf *dwarf)
{
    if (!dwarf) return;
    tp_symtab_free(dwarf->symtab);
    free(dwarf->units);
    free(dwarf->ranges);
    if (dwarf->dwfl) dwfl_end(dwarf->dwfl);
    tp_debug_files_close(&dwarf->files);
    free(dwarf);
}

uint64_t tp_dwarf_bytes(const struct tp_dwarf *dwarf)
{
    return dwarf->files.bytes;
}

/* ---- units ------------------------------------------------------------------------------ */

static bool is_code(const struct tp_dwarf *dwarf, uint64_t start, uint64_t end)
{
    start += dwarf->bias;
    end += dwarf->bias;
    for (size_t i = 0; i < dwarf->n_code; i++)
        if (start >= dwarf->code[i].start && start < end && end <= dwarf->code[i].end)
            return true;
    return false;
}

static bool add_range(
    struct tp_dwarf *dwarf, size_t *room, uint64_t start, uint64_t end, size_t unit)
{
    if (!is_code(dwarf, start, end)) return true;
    if (dwarf->n_ranges == *room) {
        size_t more = *room ? 2 * *room : UNIT_RANGES;
        void *grown = realloc(dwarf->ranges, more * sizeof(dwarf->ranges[0]));
        if (!grown) return false;
        dwarf->ranges = grown;
        *room = more;
    }
    dwarf->ranges[dwarf->n_ranges++] =
        (struct unit_range){ .start = start, .end = end, .unit = (uint32_t)unit };
    return true;
}

/* A unit that does not say where its code is may have any of it. */
static bool add_unit_ranges(struct tp_dwarf *dwarf, size_t *room, size_t unit)
{
    Dwarf_Addr base, start, end;
    Dwarf_Die *die = &dwarf->units[unit].die;
    ptrdiff_t at = 0;
    bool any = false;
    while ((at = dwarf_ranges(die, at, &base, &start, &end)) > 0) {
        any = true;
        if (!add_range(dwarf, room, start, end, unit)) return false;
    }
    if (any || dwarf_hasattr(die, DW_AT_ranges)) return true;
    for (size_t i = 0; i < dwarf->n_code; i++)
        if (!add_range(dwarf, room, dwarf->code[i].start - dwarf->bias,
                dwarf->code[i].end - dwarf->bias, unit))
            return false;
    return true;
}

static int compare_ranges(const void *a, const void *b)
{
    const struct unit_range *left = a, *right = b;
    if (left->start != right->start) return left->start < right->start ? -1 : 1;
    return left->end < right->end ? 1 : left->end > right->end ? -1 : 0;
}

static bool read_units(struct tp_dwarf *dwarf)
{
    size_t room = 0, ranges_room = 0;
    Dwarf_CU *cu = NULL;
    Dwarf_Half version;
    uint8_t type;
    Dwarf_Die die, split;
    if (dwarf->units_read || !dwarf->dwarf) return true;
    dwarf->units_read = true;
    while (dwarf_get_units(dwarf->dwarf, cu, &cu, &version, &type, &die, &split) == 0) {
        // Partial units are parts of others, type units have no code.
        if (dwarf_tag(&die) != DW_TAG_compile_unit &&
            dwarf_tag(&die) != DW_TAG_skeleton_unit)
            continue;
        if (dwarf->n_units == room) {
            room = room ? 2 * room : 256;
            void *grown = realloc(dwarf->units, room * sizeof(dwarf->units[0]));
            if (!grown) return false;
            dwarf->units = grown;
        }
        struct unit *unit = &dwarf->units[dwarf->n_units++];
        unit->die = die;
        unit->tree = split.addr ? split : die;
        if (!add_unit_ranges(dwarf, &ranges_room, dwarf->n_units - 1)) return false;
    }
    if (dwarf->n_ranges)
        qsort(dwarf->ranges, dwarf->n_ranges, sizeof(dwarf->ranges[0]), compare_ranges);
    uint64_t reach = 0;
    for (size_t i = 0; i < dwarf->n_ranges; i++) {
        if (dwarf->ranges[i].end > reach) reach = dwarf->ranges[i].end;
        dwarf->ranges[i].reach = reach;
    }
    return true;
}

/* The unit whose range around `pc` is the smallest; UINT32_MAX: none. */
static uint32_t find_unit(const struct tp_dwarf *dwarf, uint64_t pc)
{
    size_t low = 0, high = dwarf->n_ranges;
    uint64_t best = UINT64_MAX;
    uint32_t found = UINT32_MAX;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (dwarf->ranges[middle].start <= pc)
            low = middle + 1;
        else
            high = middle;
    }
    for (size_t i = low; i > 0 && dwarf->ranges[i - 1].reach > pc; i--) {
        const struct unit_range *range = &dwarf->ranges[i - 1];
        if (range->end <= pc || range->end - range->start >= best) continue;
        best = range->end - range->start;
        found = range->unit;
    }
    return found;
}

/* ---- the walk over a unit ---------------------------------------------------------------- */

struct walk {
    struct question *questions;  // of one unit, in order of their addresses
    size_t n;
    bool everywhere;  // also into functions that cover none of them
};

static size_t first_at(const struct walk *walk, uint64_t pc)
{
    size_t low = 0, high = walk->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (walk->questions[middle].pc < pc)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Adds the scope to the chains of what it covers, if it is a function. */
static bool cover(const struct walk *walk, Dwarf_Die *die, int tag, bool *out_ranges)
{
    Dwarf_Addr base, start, end;
    ptrdiff_t at = 0;
    bool any = false;
    *out_ranges = false;
    while ((at = dwarf_ranges(die, at, &base, &start, &end)) > 0) {
        *out_ranges = true;
        for (size_t i = first_at(walk, start); i < walk->n; i++) {
            struct question *question = &walk->questions[i];
            if (question->pc >= end) break;
            any = true;
            if (tag == DW_TAG_subprogram)
                question->n = 0;
            else if (tag != DW_TAG_inlined_subroutine || question->n == 0)
                continue;
            if (question->n < TP_NAMES_CHAIN) question->chain[question->n++] = *die;
        }
    }
    return any;
}

static bool may_hold_functions(int tag)
{
    switch (tag) {
    case DW_TAG_subprogram:
    case DW_TAG_inlined_subroutine:
    case DW_TAG_lexical_block:
    case DW_TAG_try_block:
    case DW_TAG_catch_block:
    case DW_TAG_with_stmt:
    case DW_TAG_entry_point:
    case DW_TAG_namespace:
    case DW_TAG_module:
    case DW_TAG_class_type:
    case DW_TAG_structure_type:
    case DW_TAG_union_type:
    case DW_TAG_interface_type:
        return true;
    default:
        return false;
    }
}

static void visit(const struct walk *walk, Dwarf_Die *parent, unsigned depth)
{
    Dwarf_Die die;
    if (depth > SCOPES || dwarf_child(parent, &die) != 0) return;
    do {
        int tag = dwarf_tag(&die);
        bool ranges = false;
        if (!may_hold_functions(tag)) continue;
        bool covers = cover(walk, &die, tag, &ranges);
        if (!dwarf_haschildren(&die)) continue;
        // A scope without ranges has them further down. A function without is abstract:
        // what is below it describes inlined calls, and code only in other functions.
        bool abstract = tag == DW_TAG_subprogram && !ranges;
        if (covers || (!ranges && !abstract) || walk->everywhere)
            visit(walk, &die, depth + 1);
    } while (dwarf_siblingof(&die, &die) == 0);
}

/* ---- what is told of an address ------------------------------------------------------------ */

static bool text_attribute(Dwarf_Die *die, unsigned name, const char **out)
{
    Dwarf_Attribute attribute;
    const char *text = dwarf_formstring(dwarf_attr_integrate(die, name, &attribute));
    if (!text || !text[0]) return false;
    *out = text;
    return true;
}

static uint64_t number_attribute(Dwarf_Die *die, unsigned name)
{
    Dwarf_Attribute attribute;
    Dwarf_Word value;
    if (dwarf_formudata(dwarf_attr(die, name, &attribute), &value) != 0) return 0;
    return value;
}

static uint32_t line_number(uint64_t line)
{
    return line <= UINT32_MAX ? (uint32_t)line : 0;
}

/* Where the call of an inlined function stands. */
static void read_call(struct tp_symbol *out, Dwarf_Die *inlined, Dwarf_Die *unit)
{
    Dwarf_Files *files;
    size_t n;
    uint64_t file = number_attribute(inlined, DW_AT_call_file);
    out->line = line_number(number_attribute(inlined, DW_AT_call_line));
    if (dwarf_getsrcfiles(unit, &files, &n) != 0 || file >= n) return;
    const char *name = dwarf_filesrc(files, file, NULL, NULL);
    if (name && out->line) out->file = name;
}

static void read_line(struct tp_symbol *out, Dwarf_Die *unit, uint64_t pc)
{
    int line = 0;
    Dwarf_Line *row = dwarf_getsrc_die(unit, pc);
    const char *name = row ? dwarf_linesrc(row, NULL, NULL) : NULL;
    if (!name || dwarf_lineno(row, &line) != 0) return;
    out->file = name;  // code that the compiler made up has a file, and line 0
    out->line = line > 0 ? (uint32_t)line : 0;
}

/* The name in the symbol table is whole where that of DWARF lacks what is around it. */
static bool is_encoded(const char *name)
{
    return name[0] == '_' && (name[1] == 'Z' || name[1] == 'R' || name[1] == 'D');
}

/*
 * The function's name in `text`, which has TP_NAMES_TEXT bytes; "" when it has none.
 * gcc gives functions that no other file sees no linkage name, but a symbol, unless they
 * were inlined.
 */
static void read_name(char *text, Dwarf_Die *die, const char *symbol)
{
    const char *name = "";
    if (!text_attribute(die, DW_AT_linkage_name, &name) &&
        !text_attribute(die, DW_AT_MIPS_linkage_name, &name)) {
        text_attribute(die, DW_AT_name, &name);
        if (symbol && (!name[0] || is_encoded(symbol))) name = symbol;
    }
    tp_demangle(text, TP_NAMES_TEXT, name);
}

static bool tell(const struct tp_dwarf *dwarf, const struct question *question,
    uint64_t offset, struct tp_names *names)
{
    struct tp_symbol symbols[TP_NAMES_CHAIN + 1];
    char text[TP_NAMES_TEXT];
    size_t n = question->n ? question->n : 1;
    struct unit *unit =
        question->unit == UINT32_MAX ? NULL : &dwarf->units[question->unit];
    for (size_t i = 0; i < n; i++) symbols[i] = (struct tp_symbol){ "", "", 0, false };
    if (unit) read_line(&symbols[0], &unit->die, question->pc);
    const char *symbol = dwarf->symtab ? tp_symtab_find(dwarf->symtab, offset) : NULL;
    for (size_t i = 0; i < n; i++) {
        bool outermost = i + 1 == n;
        if (question->n) {
            Dwarf_Die die = question->chain[question->n - 1 - i];
            read_name(text, &die, outermost ? symbol : NULL);
            if (!outermost) read_call(&symbols[i + 1], &die, &unit->tree);
        } else {
            tp_demangle(text, sizeof(text), symbol ? symbol : "");
        }
        symbols[i].function = tp_names_text(names, text, strlen(text));
        if (!symbols[i].function) return false;
        symbols[i].inlined = !outermost;
    }
    return tp_names_add(names, offset, symbols, n);
}

/* ---- all of it --------------------------------------------------------------------------------- */

static int compare_questions(const void *a, const void *b)
{
    const struct question *left = a, *right = b;
    if (left->unit != right->unit) return left->unit < right->unit ? -1 : 1;
    return left->pc < right->pc ? -1 : left->pc > right->pc;
}

/* True when no function was found, although by the symbols there is one. */
static bool is_missed(const struct tp_dwarf *dwarf, const struct question *question)
{
    return !question->n && dwarf->symtab &&
        tp_symtab_find(dwarf->symtab, question->pc + dwarf->bias);
}

static void walk_unit(
    const struct tp_dwarf *dwarf, struct question *questions, size_t n)
{
    struct walk walk = { .questions = questions, .n = n };
    if (questions[0].unit == UINT32_MAX) return;
    Dwarf_Die *tree = &dwarf->units[questions[0].unit].tree;
    visit(&walk, tree, 0);
    for (size_t i = 0; i < n && !walk.everywhere; i++)
        walk.everywhere = is_missed(dwarf, &questions[i]);
    if (!walk.everywhere) return;
    // Functions inside of functions lie outside of their ranges: a second, longer walk.
    for (size_t i = 0; i < n; i++) questions[i].n = 0;
    visit(&walk, tree, 0);
}

/* Walks unit by unit; `most` addresses at a time bound the memory. */
static bool look_up_some(struct tp_dwarf *dwarf, const uint64_t *offsets, size_t n,
    struct question *questions, struct tp_names *names)
{
    for (size_t i = 0; i < n; i++) {
        struct question *question = &questions[i];
        question->pc = offsets[i] - dwarf->bias;
        question->index = i;
        question->unit = find_unit(dwarf, question->pc);
        question->n = 0;
    }
    qsort(questions, n, sizeof(questions[0]), compare_questions);
    for (size_t i = 0; i < n;) {
        size_t next = i + 1;
        while (next < n && questions[next].unit == questions[i].unit) next++;
        walk_unit(dwarf, questions + i, next - i);
        for (; i < next; i++)
            if (!tell(dwarf, &questions[i], offsets[questions[i].index], names))
                return false;
    }
    return true;
}

bool tp_dwarf_look_up(
    struct tp_dwarf *dwarf, const uint64_t *offsets, size_t n, struct tp_names *names)
{
    enum { AT_ONCE = 4096 };
    if (!n) return true;
    if (!read_units(dwarf)) return false;
    size_t room = n < AT_ONCE ? n : AT_ONCE;
    struct question *questions = calloc(room, sizeof(questions[0]));
    bool good = questions != NULL;
    for (size_t i = 0; good && i < n; i += room)
        good = look_up_some(
            dwarf, offsets + i, n - i < room ? n - i : room, questions, names);
    free(questions);
    return good;
}
