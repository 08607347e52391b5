/* SPDX-License-Identifier: MIT */
/*
 * symtab.c - functions by the symbol table of a file.
 *
 * Idea: libdw finds the best table that there is: .symtab of the file or of its debug
 * information, else .dynsym, with .gnu_debugdata where libdw was built for it. Asking it
 * for an address costs a walk over all symbols, so they are sorted here, once.
 *
 * Of several names for one place we keep the one that others see: global before weak
 * before local, then the one with fewer leading underscores, then the shorter one.
 */
#include "report/symbols.h"

#include <stdlib.h>
#include <string.h>

#include <elfutils/libdwfl.h>

enum {
    UNSIZED_BYTES = 4096,  // at most, of a function whose size is not told
    BACK = 32,             // symbols looked at for one that is around another
};

struct function {
    uint64_t start;
    uint64_t end;
    const char *name;
    GElf_Word section;
    uint8_t rank;  // lower is better
    bool sized;
};

struct tp_symtab {
    size_t n;
    struct function rows[];
};

static uint8_t rank_of(const GElf_Sym *symbol, const char *name)
{
    unsigned bind = GELF_ST_BIND(symbol->st_info);
    unsigned rank = bind == STB_GLOBAL ? 0 : bind == STB_WEAK ? 1 : 2;
    return (uint8_t)(rank * 8 + (strspn(name, "_") & 7));
}

static int compare(const void *a, const void *b)
{
    const struct function *left = a, *right = b;
    if (left->start != right->start) return left->start < right->start ? -1 : 1;
    if (left->sized != right->sized) return left->sized ? -1 : 1;
    if (left->rank != right->rank) return left->rank < right->rank ? -1 : 1;
    size_t left_n = strlen(left->name), right_n = strlen(right->name);
    if (left_n != right_n) return left_n < right_n ? -1 : 1;
    return strcmp(left->name, right->name);
}

/* Fills `out` from symbol `i`; false when it is no function. */
static bool read_symbol(struct function *out, Dwfl_Module *module, int i)
{
    GElf_Sym symbol;
    GElf_Addr address;
    GElf_Word section = SHN_UNDEF;
    const char *name =
        dwfl_module_getsym_info(module, i, &symbol, &address, &section, NULL, NULL);
    if (!name || !name[0] || section == SHN_UNDEF || section == SHN_ABS) return false;
    unsigned type = GELF_ST_TYPE(symbol.st_info);
    // Assembly has labels without a type; `$x` and `.L` mark places, not functions.
    bool label = type == STT_NOTYPE && name[0] != '$' && name[0] != '.';
    if (type != STT_FUNC && type != STT_GNU_IFUNC && !label) return false;
    uint64_t end = address + symbol.st_size;
    *out = (struct function){ .start = address,
        .end = end < address ? UINT64_MAX : end,
        .name = name,
        .section = section,
        .rank = rank_of(&symbol, name),
        .sized = symbol.st_size != 0 };
    return true;
}

/* One row a place, and an end for each. */
static void settle(struct tp_symtab *table)
{
    size_t n = 0;
    for (size_t i = 0; i < table->n; i++)
        if (!n || table->rows[n - 1].start != table->rows[i].start)
            table->rows[n++] = table->rows[i];
    table->n = n;
    for (size_t i = 0; i < n; i++) {
        struct function *row = &table->rows[i];
        if (row->sized) continue;
        uint64_t most = row->start + UNSIZED_BYTES;
        bool followed = i + 1 < n && table->rows[i + 1].section == row->section;
        row->end = followed && row[1].start < most ? row[1].start : most;
    }
}

struct tp_symtab *tp_symtab_make(struct Dwfl_Module *module)
{
    int n = dwfl_module_getsymtab(module);
    if (n < 0) n = 0;
    struct tp_symtab *table =
        calloc(1, sizeof(*table) + (size_t)n * sizeof(table->rows[0]));
    if (!table) return NULL;
    for (int i = 0; i < n; i++)
        if (read_symbol(&table->rows[table->n], module, i)) table->n++;
    qsort(table->rows, table->n, sizeof(table->rows[0]), compare);
    settle(table);
    return table;
}

const char *tp_symtab_find(const struct tp_symtab *table, uint64_t address)
{
    size_t low = 0, high = table->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->rows[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    for (size_t i = low, tries = 0; i > 0 && tries < BACK; i--, tries++)
        if (address < table->rows[i - 1].end) return table->rows[i - 1].name;
    return NULL;
}

void tp_symtab_free(struct tp_symtab *table)
{
    free(table);
}
