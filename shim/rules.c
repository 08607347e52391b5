/* SPDX-License-Identifier: MIT */
/*
 * rules.c - one row of the unwind table, worked out from bytes.
 *
 *     .eh_frame_hdr   sorted (function, FDE) pairs --binary search--> FDE
 *     FDE             one function: where, how long, a program, and its CIE
 *     CIE             what many FDEs share: units, encodings, a program that runs first
 *
 * Idea: the two programs are run until they pass the address; what the registers' rules
 * are then is the row. Every read goes through struct tp_bytes, which ends where the
 * readable bytes end, and reads zeros from there on; so a broken table gives a wrong
 * row or none, and never a fault or a loop: every operation consumes a byte.
 */
#include "shim/unwind.h"

#include <string.h>

/* DWARF 4 section 7.23, and what GNU and ARM have added. */
enum {
    CFA_ADVANCE = 0x40,
    CFA_OFFSET = 0x80,
    CFA_RESTORE = 0xc0,
    CFA_PRIMARY = 0xc0,

    CFA_NOP = 0x00,
    CFA_SET_LOC = 0x01,
    CFA_ADVANCE_1 = 0x02,
    CFA_ADVANCE_2 = 0x03,
    CFA_ADVANCE_4 = 0x04,
    CFA_OFFSET_EXTENDED = 0x05,
    CFA_RESTORE_EXTENDED = 0x06,
    CFA_UNDEFINED = 0x07,
    CFA_SAME_VALUE = 0x08,
    CFA_REGISTER = 0x09,
    CFA_REMEMBER = 0x0a,
    CFA_RECALL = 0x0b,
    CFA_DEF_CFA = 0x0c,
    CFA_DEF_CFA_REGISTER = 0x0d,
    CFA_DEF_CFA_OFFSET = 0x0e,
    CFA_DEF_CFA_EXPRESSION = 0x0f,
    CFA_EXPRESSION = 0x10,
    CFA_OFFSET_EXTENDED_SF = 0x11,
    CFA_DEF_CFA_SF = 0x12,
    CFA_DEF_CFA_OFFSET_SF = 0x13,
    CFA_VAL_OFFSET = 0x14,
    CFA_VAL_OFFSET_SF = 0x15,
    CFA_VAL_EXPRESSION = 0x16,
    CFA_MIPS_ADVANCE_8 = 0x1d,
    CFA_NEGATE_RA_STATE_WITH_PC = 0x2c,
    CFA_NEGATE_RA_STATE = 0x2d,
    CFA_ARGS_SIZE = 0x2e,
    CFA_NEGATIVE_OFFSET_EXTENDED = 0x2f,
};

/* ---- CIE and FDE ---- */

struct cie {
    uint64_t code_unit;
    int64_t data_unit;
    uint32_t ra;
    unsigned encoding;  // of addresses in its FDEs
    bool has_lengths;   // of augmentation data
    bool is_signal;
    struct tp_bytes program;
};

/* An entry's content behind its length; false at the end of the section. */
static bool open_entry(struct tp_bytes *entry, unsigned *out_id_bytes)
{
    uint64_t length = tp_bytes_fixed(entry, 4);
    *out_id_bytes = 4;
    if (length == 0xffffffff) {
        length = tp_bytes_fixed(entry, 8);
        *out_id_bytes = 8;
    }
    if (entry->short_of || length < *out_id_bytes || length > entry->end - entry->at)
        return false;
    entry->end = entry->at + length;
    return true;
}

/* The letters of an augmentation that begins with z, and the data that they tell of. */
static void read_augmentation(
    struct cie *cie, struct tp_bytes *cie_bytes, uintptr_t text)
{
    uint64_t length = tp_bytes_uleb(cie_bytes);
    struct tp_bytes data = *cie_bytes;
    tp_bytes_skip(cie_bytes, length);
    data.end = cie_bytes->at;
    for (const char *letter = (const char *)text + 1; *letter; letter++) {
        switch (*letter) {
        case 'L':
            tp_bytes_fixed(&data, 1);
            break;
        case 'P':
            tp_bytes_form(&data, (unsigned)tp_bytes_fixed(&data, 1));
            break;
        case 'R':
            cie->encoding = (unsigned)tp_bytes_fixed(&data, 1);
            break;
        case 'S':
            cie->is_signal = true;
            break;
        case 'B':  // the other of two keys signs return addresses
        case 'G':  // frames are tagged
            break;
        default:
            return;  // its data, and all that follows, cannot be told apart
        }
    }
}

static bool read_cie(struct cie *out, struct tp_bytes bytes)
{
    unsigned id_bytes;
    *out = (struct cie){ .encoding = TP_POINTER_ABSOLUTE };
    if (!open_entry(&bytes, &id_bytes) || tp_bytes_fixed(&bytes, id_bytes) != 0)
        return false;
    unsigned version = (unsigned)tp_bytes_fixed(&bytes, 1);
    if (version != 1 && version != 3 && version != 4) return false;
    uintptr_t text = bytes.at;
    while (tp_bytes_fixed(&bytes, 1)) continue;
    if (bytes.short_of) return false;
    const char *letters = (const char *)text;
    if (strcmp(letters, "eh") == 0) tp_bytes_skip(&bytes, 8);
    if (version == 4 &&
        (tp_bytes_fixed(&bytes, 1) != 8 || tp_bytes_fixed(&bytes, 1) != 0))
        return false;
    out->code_unit = tp_bytes_uleb(&bytes);
    out->data_unit = tp_bytes_sleb(&bytes);
    out->ra =
        (uint32_t)(version == 1 ? tp_bytes_fixed(&bytes, 1) : tp_bytes_uleb(&bytes));
    out->has_lengths = letters[0] == 'z';
    if (out->has_lengths) {
        read_augmentation(out, &bytes, text);
    } else if (letters[0] && strcmp(letters, "eh") != 0) {
        return false;
    }
    out->program = bytes;
    return !bytes.short_of && out->ra < TP_REGISTERS;
}

struct fde {
    struct cie cie;
    uintptr_t start;  // of the code
    uintptr_t end;
    struct tp_bytes program;
};

/* Reads the FDE at `bytes`; false also for a CIE. `bytes` is set behind the entry. */
static bool read_fde(struct fde *out, struct tp_span section, struct tp_bytes *bytes)
{
    unsigned id_bytes;
    struct tp_bytes entry = *bytes;
    if (!open_entry(&entry, &id_bytes)) {
        bytes->at = bytes->end;
        return false;
    }
    bytes->at = entry.end;
    uintptr_t here = entry.at;
    uint64_t back = tp_bytes_fixed(&entry, id_bytes);
    if (back == 0 || back > here - section.start) return false;
    if (!read_cie(&out->cie, tp_bytes_from(section, here - back))) return false;
    out->start = tp_bytes_pointer(&entry, out->cie.encoding, 0, 0);
    uint64_t length = tp_bytes_form(&entry, out->cie.encoding);
    if (out->cie.has_lengths) tp_bytes_skip(&entry, tp_bytes_uleb(&entry));
    out->end = out->start + length;
    out->program = entry;
    return !entry.short_of && out->end >= out->start;
}

/* ---- the index ---- */

struct index {
    uintptr_t frames;   // .eh_frame
    unsigned encoding;  // of the pairs
    uint64_t n;         // pairs; 0: there is no table
    struct tp_bytes pairs;
};

static bool read_index(struct index *out, const struct tp_sheet *sheet)
{
    struct tp_bytes bytes = tp_bytes_from(sheet->index, sheet->header);
    if (tp_bytes_fixed(&bytes, 1) != 1) return false;
    unsigned frames = (unsigned)tp_bytes_fixed(&bytes, 1);
    unsigned count = (unsigned)tp_bytes_fixed(&bytes, 1);
    out->encoding = (unsigned)tp_bytes_fixed(&bytes, 1);
    out->frames = tp_bytes_pointer(&bytes, frames, sheet->header, 0);
    out->n = tp_bytes_pointer(&bytes, count, sheet->header, 0);
    out->pairs = bytes;
    unsigned bytes_each = 2 * tp_bytes_of(out->encoding);
    if (count == TP_POINTER_OMIT || out->encoding == TP_POINTER_OMIT || bytes_each == 0)
        out->n = 0;
    if (out->n && out->n > (bytes.end - bytes.at) / bytes_each) return false;
    return !bytes.short_of;
}

bool tp_rules_frames(const struct tp_sheet *sheet, uintptr_t *out_address)
{
    struct index index;
    if (!read_index(&index, sheet)) return false;
    *out_address = index.frames;
    return true;
}

bool tp_rules_sheet(const struct tp_object *object, struct tp_sheet *out)
{
    uintptr_t frames;
    out->header = object->header;
    return object->header &&
        tp_object_segment(object, object->header, TP_SEGMENT_READ, &out->index) &&
        tp_rules_frames(out, &frames) &&
        tp_object_segment(object, frames, TP_SEGMENT_READ, &out->rules);
}

/* The FDE that the last pair not above `address` leads to. */
static bool search(const struct index *index, const struct tp_sheet *sheet,
    uintptr_t address, struct fde *out)
{
    unsigned bytes_each = 2 * tp_bytes_of(index->encoding);
    uint64_t low = 0, high = index->n;  // pairs below `low` are not above the address
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct tp_bytes pair = index->pairs;
        tp_bytes_skip(&pair, middle * bytes_each);
        if (tp_bytes_pointer(&pair, index->encoding, sheet->header, 0) <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0) return false;
    struct tp_bytes pair = index->pairs;
    tp_bytes_skip(&pair, (low - 1) * bytes_each);
    tp_bytes_pointer(&pair, index->encoding, sheet->header, 0);
    uintptr_t at = tp_bytes_pointer(&pair, index->encoding, sheet->header, 0);
    struct tp_bytes bytes = tp_bytes_from(sheet->rules, at);
    return read_fde(out, sheet->rules, &bytes);
}

/* The same without a table: every entry in turn, up to the one of length 0. */
static bool look_through(const struct index *index, const struct tp_sheet *sheet,
    uintptr_t address, struct fde *out)
{
    struct tp_bytes bytes = tp_bytes_from(sheet->rules, index->frames);
    while (bytes.at < bytes.end)
        if (read_fde(out, sheet->rules, &bytes) && address >= out->start &&
            address < out->end)
            return true;
    return false;
}

/* ---- the program ---- */

struct machine {
    struct tp_rules_scratch *scratch;
    const struct cie *cie;
    uintptr_t address;  // the row for this is wanted
    uintptr_t at;       // the row is that for code from here
    unsigned n_kept;
};

static void set(struct machine *machine, uint64_t number, enum tp_how how, int64_t n)
{
    // Others (vectors, flags) are of no use in finding the caller.
    if (number >= TP_REGISTERS) return;
    machine->scratch->row.rules[number] = (struct tp_rule){ .n = n, .how = how };
}

static void restore(struct machine *machine, uint64_t number)
{
    if (number >= TP_REGISTERS) return;
    machine->scratch->row.rules[number] = machine->scratch->initial.rules[number];
}

static void set_expression(
    struct machine *machine, struct tp_bytes *program, uint64_t number, enum tp_how how)
{
    set(machine, number, how, (int64_t)program->at);
    tp_bytes_skip(program, tp_bytes_uleb(program));
}

static void set_cfa(struct machine *machine, uint64_t number, int64_t n)
{
    struct tp_row *row = &machine->scratch->row;
    row->cfa_register = number < TP_REGISTERS ? (uint32_t)number : TP_REGISTERS;
    row->cfa_offset = n;
    row->cfa = (struct tp_rule){ .n = n, .how = TP_HOW_IS };
}

static bool keep(struct machine *machine)
{
    if (machine->n_kept == TP_ROWS_KEPT) return false;
    machine->scratch->kept[machine->n_kept++] = machine->scratch->row;
    return true;
}

static bool recall(struct machine *machine)
{
    if (machine->n_kept == 0) return false;
    machine->scratch->row = machine->scratch->kept[--machine->n_kept];
    return true;
}

/* Numbers are taken modulo 2^64, as everything in this language. */
static int64_t times(int64_t unit, uint64_t n)
{
    return (int64_t)((uint64_t)unit * n);
}

/* Operations that define the CFA. False: it is none of them. */
static bool run_cfa(
    struct machine *machine, struct tp_bytes *program, unsigned operation)
{
    struct tp_row *row = &machine->scratch->row;
    int64_t unit = machine->cie->data_unit;
    uint64_t number;
    switch (operation) {
    case CFA_DEF_CFA:
        number = tp_bytes_uleb(program);
        set_cfa(machine, number, (int64_t)tp_bytes_uleb(program));
        return true;
    case CFA_DEF_CFA_SF:
        number = tp_bytes_uleb(program);
        set_cfa(machine, number, times(unit, (uint64_t)tp_bytes_sleb(program)));
        return true;
    case CFA_DEF_CFA_REGISTER:
        // After an expression DWARF forbids it; hand-written code does it, and gcc's
        // own unwinder then takes the offset from before.
        set_cfa(machine, tp_bytes_uleb(program), row->cfa_offset);
        return true;
    case CFA_DEF_CFA_OFFSET:
        set_cfa(machine, row->cfa_register, (int64_t)tp_bytes_uleb(program));
        return true;
    case CFA_DEF_CFA_OFFSET_SF:
        set_cfa(
            machine, row->cfa_register, times(unit, (uint64_t)tp_bytes_sleb(program)));
        return true;
    case CFA_DEF_CFA_EXPRESSION:
        row->cfa.how = TP_HOW_IS_EXPRESSION;
        row->cfa.n = (int64_t)program->at;
        tp_bytes_skip(program, tp_bytes_uleb(program));
        return true;
    }
    return false;
}

/* Operations that move on in the code; false: none of them. */
static bool run_advance(
    struct machine *machine, struct tp_bytes *program, unsigned operation)
{
    uint64_t unit = machine->cie->code_unit;
    switch (operation) {
    case CFA_SET_LOC:
        machine->at = tp_bytes_pointer(program, machine->cie->encoding, 0, 0);
        return true;
    case CFA_ADVANCE_1:
        machine->at += tp_bytes_fixed(program, 1) * unit;
        return true;
    case CFA_ADVANCE_2:
        machine->at += tp_bytes_fixed(program, 2) * unit;
        return true;
    case CFA_ADVANCE_4:
        machine->at += tp_bytes_fixed(program, 4) * unit;
        return true;
    case CFA_MIPS_ADVANCE_8:
        machine->at += tp_bytes_fixed(program, 8) * unit;
        return true;
    case CFA_NEGATE_RA_STATE_WITH_PC:
    case CFA_NEGATE_RA_STATE:
        machine->scratch->row.is_signed = !machine->scratch->row.is_signed;
        return true;
    case CFA_ARGS_SIZE:
        tp_bytes_uleb(program);
        return true;
    }
    return operation == CFA_NOP;
}

/* Operations on one register, or on all. False: none that is known, or it cannot be. */
static bool run_register(
    struct machine *machine, struct tp_bytes *program, unsigned operation)
{
    if (operation == CFA_REMEMBER) return keep(machine);
    if (operation == CFA_RECALL) return recall(machine);
    uint64_t number = tp_bytes_uleb(program);
    int64_t unit = machine->cie->data_unit;
    switch (operation) {
    case CFA_OFFSET_EXTENDED:
        set(machine, number, TP_HOW_AT, times(unit, tp_bytes_uleb(program)));
        return true;
    case CFA_OFFSET_EXTENDED_SF:
        set(machine, number, TP_HOW_AT, times(unit, (uint64_t)tp_bytes_sleb(program)));
        return true;
    case CFA_NEGATIVE_OFFSET_EXTENDED:
        set(machine, number, TP_HOW_AT, times(unit, 0 - tp_bytes_uleb(program)));
        return true;
    case CFA_VAL_OFFSET:
        set(machine, number, TP_HOW_IS, times(unit, tp_bytes_uleb(program)));
        return true;
    case CFA_VAL_OFFSET_SF:
        set(machine, number, TP_HOW_IS, times(unit, (uint64_t)tp_bytes_sleb(program)));
        return true;
    case CFA_RESTORE_EXTENDED:
        restore(machine, number);
        return true;
    case CFA_UNDEFINED:
        set(machine, number, TP_HOW_UNDEFINED, 0);
        return true;
    case CFA_SAME_VALUE:
        set(machine, number, TP_HOW_SAME, 0);
        return true;
    case CFA_REGISTER:
        set(machine, number, TP_HOW_REGISTER, (int64_t)tp_bytes_uleb(program));
        return true;
    case CFA_EXPRESSION:
        set_expression(machine, program, number, TP_HOW_AT_EXPRESSION);
        return true;
    case CFA_VAL_EXPRESSION:
        set_expression(machine, program, number, TP_HOW_IS_EXPRESSION);
        return true;
    }
    return false;
}

/* Runs until the address is passed or the program ends. False: it cannot be followed. */
static bool run(struct machine *machine, struct tp_bytes program)
{
    while (program.at < program.end) {
        unsigned operation = (unsigned)tp_bytes_fixed(&program, 1);
        unsigned low = operation & ~(unsigned)CFA_PRIMARY;
        switch (operation & CFA_PRIMARY) {
        case CFA_ADVANCE:
            machine->at += low * machine->cie->code_unit;
            break;
        case CFA_OFFSET:
            set(machine, low, TP_HOW_AT,
                times(machine->cie->data_unit, tp_bytes_uleb(&program)));
            break;
        case CFA_RESTORE:
            restore(machine, low);
            break;
        default:
            if (!run_advance(machine, &program, operation) &&
                !run_cfa(machine, &program, operation) &&
                !run_register(machine, &program, operation))
                return false;
        }
        if (program.short_of) return false;
        if (machine->at > machine->address) return true;
    }
    return true;
}

enum tp_rules_found tp_rules_find(
    const struct tp_sheet *sheet, uintptr_t address, struct tp_rules_scratch *scratch)
{
    struct index index;
    struct fde fde;
    if (!read_index(&index, sheet)) return TP_RULES_BAD;
    bool found = index.n ? search(&index, sheet, address, &fde)
                         : look_through(&index, sheet, address, &fde);
    if (!found || address < fde.start || address >= fde.end) return TP_RULES_NONE;

    memset(&scratch->row, 0, sizeof(scratch->row));
    scratch->row.cfa_register = TP_REGISTERS;  // nothing is known of it yet
    scratch->row.cfa.how = TP_HOW_IS;
    scratch->start = fde.start;
    scratch->is_signal = fde.cie.is_signal;
    scratch->ra = fde.cie.ra;
    scratch->bytes = sheet->rules;
    struct machine machine = {
        .scratch = scratch, .cie = &fde.cie, .address = address, .at = fde.start
    };
    if (!run(&machine, fde.cie.program)) return TP_RULES_BAD;
    scratch->initial = scratch->row;
    machine.at = fde.start;
    if (!run(&machine, fde.program)) return TP_RULES_BAD;
    const struct tp_row *row = &scratch->row;
    if (row->cfa.how == TP_HOW_IS && row->cfa_register >= TP_REGISTERS)
        return TP_RULES_BAD;
    return TP_RULES_FOUND;
}
