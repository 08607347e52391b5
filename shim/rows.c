/* SPDX-License-Identifier: MIT */
/*
 * rows.c - rows that have been worked out, packed, for all threads.
 *
 * Idea: a program calls malloc from few thousand places. What is found out about an
 * address (a microsecond or two) is kept in a table of 16 Ki entries of 16 bytes, which
 * threads read and write without locks. An entry that was torn between two writers does
 * not match its check; one made before a library was unloaded does not match the epoch.
 *
 * Each address has two neighbouring places in one cache line: a new row takes the first
 * and moves what was there to the second.
 */
#include "shim/unwind.h"

#include "pool/os.h"
#include "shim/stack.h"

#include <string.h>

struct tp_rows tp_rows;

bool tp_rows_open(void)
{
    struct tp_packed *expected = NULL;
    if (atomic_load_explicit(&tp_rows.table, memory_order_acquire)) return true;
    struct tp_packed *table = tp_os_map(TP_ROWS * sizeof(*table));
    if (!table) return false;
    // Releases the zeros to whoever finds the table; meets the load above.
    if (!atomic_compare_exchange_strong_explicit(&tp_rows.table, &expected, table,
            memory_order_acq_rel, memory_order_acquire))
        tp_os_unmap(table, TP_ROWS * sizeof(*table));
    return true;
}

void tp_rows_forget(void)
{
    // What was found out about the libraries comes before; meets tp_rows_salt().
    atomic_fetch_add_explicit(&tp_rows.epoch, 1, memory_order_release);
}

void tp_rows_less(_Atomic(uint32_t) *count)
{
    uint32_t n = atomic_load(count);
    while (n && !atomic_compare_exchange_weak(count, &n, n - 1)) continue;
}

bool tp_rows_enter(void)
{
    // Each side says first what it does and looks then what the other does: seq_cst, in
    // one order for all four, so one of the two sees the other.
    atomic_fetch_add(&tp_rows.guessing, 1);
    if (atomic_load(&tp_rows.closing) == 0) return true;
    tp_rows_leave();
    return false;
}

void tp_rows_leave(void)
{
    tp_rows_less(&tp_rows.guessing);
}

static void keep(uintptr_t address, uint64_t row, uint64_t salt)
{
    struct tp_packed *table =
        atomic_load_explicit(&tp_rows.table, memory_order_relaxed);
    size_t place = tp_rows_place(address);
    struct tp_packed *first = tp_rows_entry(table, place);
    struct tp_packed *second = tp_rows_entry(table, place ^ TP_ROWS_NEXT);
    uint64_t check = atomic_load_explicit(&first->check, memory_order_relaxed);
    uint64_t old = atomic_load_explicit(&first->row, memory_order_relaxed);
    atomic_store_explicit(&second->check, check, memory_order_relaxed);
    atomic_store_explicit(&second->row, old, memory_order_relaxed);
    atomic_store_explicit(
        &first->check, tp_rows_check(address, row, salt), memory_order_relaxed);
    atomic_store_explicit(&first->row, row, memory_order_relaxed);
}

/* ---- packing ---- */

/* A register that lies `n` from the CFA, in words below it; 0: that does not fit. */
static uint64_t slot_of(int64_t n)
{
    if (n >= 0 || n % 8 || -n / 8 >= 1 << TP_PACKED_SLOT) return 0;
    return (uint64_t)(-n / 8);
}

static bool pack_offset(int64_t n, uint64_t *row)
{
    int64_t most = (int64_t)1 << (TP_PACKED_OFFSET - 1);
    if (n % 8 || n >= most || n < -most) return false;
    *row |= (uint64_t)n << TP_PACKED_OFFSET_AT;
    return true;
}

/* True when the expression at `at` is these bytes. */
static bool reads(struct tp_span span, int64_t at, const uint8_t *text, size_t n)
{
    uintptr_t start = (uintptr_t)at;
    return start >= span.start && start < span.end && span.end - start > n &&
        *(const uint8_t *)start == n && memcmp((const void *)(start + 1), text, n) == 0;
}

#if !defined(__aarch64__)
/*
 * gcc realigns the stack behind a pushed copy of the return address, and keeps where
 * the CFA is in a word under the frame pointer: CFA = *(rbp + n), rbp = *(rbp).
 */
static bool pack_realigned(const struct tp_rules_scratch *scratch, uint64_t *row)
{
    static const uint8_t old_fp[] = { 0x76, 0x00 };  // DW_OP_breg6 0
    const struct tp_rule *fp = &scratch->row.rules[TP_REGISTER_FP];
    struct tp_bytes bytes = { .at = (uintptr_t)scratch->row.cfa.n,
        .end = scratch->bytes.end };
    uint64_t length = tp_bytes_uleb(&bytes);
    uintptr_t end = bytes.at + length;
    if (length > 12 || tp_bytes_fixed(&bytes, 1) != 0x76) return false;  // DW_OP_breg6
    int64_t n = tp_bytes_sleb(&bytes);
    if (tp_bytes_fixed(&bytes, 1) != 0x06 || bytes.at != end) return false;  // deref
    if (fp->how != TP_HOW_AT_EXPRESSION || !reads(scratch->bytes, fp->n, old_fp, 2))
        return false;
    *row |= TP_PACKED_DEREF;
    return pack_offset(n, row);
}

/*
 * The linker describes its PLT by one expression for all entries: CFA = rsp + 8, and 8
 * more from the 11th (10th) byte of 16 on, where the entry has pushed a number.
 */
static bool pack_plt(
    const struct tp_rules_scratch *scratch, uintptr_t address, uint64_t *row)
{
    // breg7 8; breg16 0; lit15; and; lit `from`; ge; lit3; shl; plus
    uint8_t text[] = { 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0, 0x2a, 0x33, 0x24, 0x22 };
    for (unsigned from = 9; from <= 11; from++) {
        text[6] = (uint8_t)(0x30 + from);
        if (!reads(scratch->bytes, scratch->row.cfa.n, text, sizeof(text))) continue;
        *row |= TP_PACKED_SP;
        return pack_offset(8 + (address % 16 >= from ? 8 : 0), row);
    }
    return false;
}
#else
static bool pack_realigned(const struct tp_rules_scratch *scratch, uint64_t *row)
{
    (void)scratch;
    (void)row;
    return false;
}

static bool pack_plt(
    const struct tp_rules_scratch *scratch, uintptr_t address, uint64_t *row)
{
    (void)scratch;
    (void)address;
    (void)row;
    return false;
}
#endif

static bool pack_cfa(
    const struct tp_rules_scratch *scratch, uintptr_t address, uint64_t *row)
{
    const struct tp_row *from = &scratch->row;
    if (from->cfa.how == TP_HOW_IS_EXPRESSION)
        return pack_realigned(scratch, row) || pack_plt(scratch, address, row);
    if (from->cfa_register != TP_REGISTER_SP && from->cfa_register != TP_REGISTER_FP)
        return false;
    *row |= from->cfa_register == TP_REGISTER_SP ? TP_PACKED_SP : TP_PACKED_FP;
    return pack_offset(from->cfa.n, row);
}

/* The return address: on x86-64 right under the CFA, on aarch64 somewhere, or in x30. */
static bool pack_ra(const struct tp_rule *rule, uint64_t *row)
{
#if defined(__aarch64__)
    if (rule->how == TP_HOW_SAME) return true;
    uint64_t slot = rule->how == TP_HOW_AT ? slot_of(rule->n) : 0;
    *row |= slot << TP_PACKED_RA_AT;
    return slot != 0;
#else
    (void)row;
    return rule->how == TP_HOW_AT && rule->n == -8;
#endif
}

/* The row without a module; what does not fit is COMPLEX. */
static uint64_t pack(const struct tp_rules_scratch *scratch, uintptr_t address)
{
    uint64_t row = 0;
    const struct tp_rule *fp = &scratch->row.rules[TP_REGISTER_FP];
    if (scratch->row.rules[scratch->ra].how == TP_HOW_UNDEFINED) return TP_PACKED_END;
    if (scratch->is_signal || scratch->ra != TP_REGISTER_RA ||
        scratch->row.rules[TP_REGISTER_SP].how != TP_HOW_SAME ||
        !pack_cfa(scratch, address, &row) ||
        !pack_ra(&scratch->row.rules[scratch->ra], &row))
        return TP_PACKED_COMPLEX;
    if (tp_packed_kind(row) == TP_PACKED_DEREF || fp->how == TP_HOW_SAME) return row;
    uint64_t slot = fp->how == TP_HOW_AT ? slot_of(fp->n) : 0;
    if (!slot) return TP_PACKED_COMPLEX;
    return row | slot << TP_PACKED_FP_AT;
}

/* ---- finding out ---- */

static uint64_t none(void)
{
    return tp_rows.guess ? TP_PACKED_GUESS : TP_PACKED_NONE;
}

static uint64_t row_of(
    const struct tp_object *object, uintptr_t address, struct tp_rules_scratch *scratch)
{
    struct tp_sheet sheet = { 0 };
    enum tp_rules_found found = TP_RULES_NONE;
    if (!tp_rules_sheet(object, &sheet))
        sheet.rules.end = 0;
    else
        found = tp_rules_find(&sheet, address, scratch);
    // The return address of a handler is the first byte of the code that returns.
    if ((found != TP_RULES_FOUND || scratch->is_signal) &&
        tp_step_is_signal(object, address + 1))
        return TP_PACKED_SIGNAL;
    if (found == TP_RULES_BAD) return TP_PACKED_BAD;
    if (found == TP_RULES_NONE) {
        // Where makecontext() lets a coroutine return to is no place behind a call, but
        // the first byte of a function, and no function lies right before.
        bool begins = sheet.rules.end &&
            tp_rules_find(&sheet, address + 1, scratch) == TP_RULES_FOUND &&
            scratch->start == address + 1;
        return begins ? TP_PACKED_END : none();
    }
    uint64_t row = pack(scratch, address);
    bool own = address - tp_rows.own.start < tp_rows.own.end - tp_rows.own.start;
    if (!tp_rows.frame_pointers || own || row == TP_PACKED_END) return row;
    return TP_PACKED_GUESS;
}

static uint64_t make(uintptr_t address, uint64_t salt, struct tp_rules_scratch *scratch)
{
    struct tp_object object;
    struct tp_span code;
    // Where no file is mapped something else may be soon: that is not kept.
    if (!tp_object_at(address, &object) ||
        !tp_object_segment(&object, address, TP_SEGMENT_EXECUTE, &code))
        return none();
    uint64_t row = row_of(&object, address, scratch);
    uint32_t module = tp_module_of(address);
    if (module < 1u << TP_PACKED_MODULE) row |= (uint64_t)module << TP_PACKED_MODULE_AT;
    keep(address, row, salt);
    return row;
}

uint64_t tp_rows_make(
    uintptr_t address, uint64_t salt, struct tp_rules_scratch *scratch)
{
    if (!scratch->is_guess) return make(address, salt, scratch);
    if (!tp_rows_enter()) return TP_PACKED_NONE;
    uint64_t row = make(address, salt, scratch);
    tp_rows_leave();
    return row;
}

void tp_stack_open(enum tp_stack_way way)
{
    struct tp_object object;
    tp_reach_open();
    tp_rows.frame_pointers = way == TP_STACK_FP;
    tp_rows.guess = way != TP_STACK_DWARF;
    // Linked into a program, as by a test, all frames are the program's.
    if (tp_object_at((uintptr_t)tp_stack_open, &object) && object.name[0])
        tp_rows.own = object.span;
}
