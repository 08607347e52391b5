/* SPDX-License-Identifier: MIT */
/*
 * unwind.h - from a frame to its caller's: the parts that stack.c walks with.
 *
 *     object.c   address -> the file mapped there, its segments, its build id
 *     bytes.c    numbers in bytes that may be anything
 *     rules.c    address -> how the caller's registers are found (one row of .eh_frame)
 *     reach.c    which memory is stack, and may be read
 *     steps.c    one step with all registers, whatever the row says
 *     rows.c     the rows that have been worked out, packed, for all threads
 *
 * Idea: rules.c is a pure function of bytes that it is given, and follows none of them
 * out of the spans that it is given with them. So it is tested on files, and on files
 * that are broken. Formats: System V ABI (x86-64 and aarch64 supplements), Linux
 * Standard Base 5.0 chapter 10 (.eh_frame), DWARF 4 sections 2.5 and 6.4.
 *
 * Holds always: nothing is allocated, no lock of the loader is taken, no byte is read
 * that is not known to be mapped.
 *
 * Knows nothing of: samples, sites, the live file.
 */
#ifndef TP_SHIM_UNWIND_H
#define TP_SHIM_UNWIND_H

#include "pool/base.h"
#include "shim/format.h"

#include <stdatomic.h>

/* Registers by their numbers in DWARF. */
#if defined(__aarch64__)
enum { TP_REGISTER_FP = 29, TP_REGISTER_RA = 30, TP_REGISTER_SP = 31 };
enum { TP_REGISTERS = 32 };
#else
enum { TP_REGISTER_FP = 6, TP_REGISTER_SP = 7, TP_REGISTER_RA = 16 };
enum { TP_REGISTERS = 17 };
#endif

struct tp_span {
    uintptr_t start;
    uintptr_t end;  // first byte behind it
};

/* ---- object.c: what the loader has mapped ---- */

struct tp_object {
    struct tp_span span;  // from its first segment to its last; may have holes
    const void *headers;  // its program headers; NULL: not to be had
    size_t n_headers;
    uintptr_t base;    // added to addresses of the file
    uintptr_t header;  // its .eh_frame_hdr; 0: has none
    const void *map;   // what the loader knows it by
    const char *name;  // as the loader has it: "" for the executable
};

/*
 * The file mapped at `address`. False: none, or a C library (before 2.35) that cannot
 * be asked without a lock. Context: anywhere; lock-free.
 */
bool tp_object_at(uintptr_t address, struct tp_object *out);

enum { TP_SEGMENT_EXECUTE = 1, TP_SEGMENT_READ = 4 };  // as p_flags

/* The segment that holds `address`, its flags as `want` asks at least. */
bool tp_object_segment(const struct tp_object *object, uintptr_t address, uint32_t want,
    struct tp_span *out);

/* Copies its build id; returns the bytes, 0 when it has none. */
size_t tp_object_build_id(const struct tp_object *object, uint8_t *out, size_t most);

/* ---- rules.c: one row of the table that .eh_frame describes ---- */

enum tp_how {              // a register's value in the caller
    TP_HOW_SAME = 0,       // as it is; also where nothing is said
    TP_HOW_UNDEFINED,      // lost; the return address: there is no caller
    TP_HOW_AT,             // in memory at CFA + n
    TP_HOW_IS,             // is CFA + n
    TP_HOW_REGISTER,       // in register n
    TP_HOW_AT_EXPRESSION,  // in memory where the expression at n says
    TP_HOW_IS_EXPRESSION,  // is what the expression at n says
};

struct tp_rule {
    int64_t n;  // an expression is the address of its length (ULEB128), bytes follow
    enum tp_how how;
};

struct tp_row {
    uint32_t cfa_register;  // CFA = that + cfa.n, unless `how` is IS_EXPRESSION
    int64_t cfa_offset;     // last said; an expression does not make it forgotten
    bool is_signed;         // the return address carries a signature (aarch64)
    struct tp_rule cfa;
    struct tp_rule rules[TP_REGISTERS];
};

/* Where to look, and what may be read. The two spans may be the same. */
struct tp_sheet {
    uintptr_t header;      // .eh_frame_hdr
    struct tp_span index;  // readable bytes around it
    struct tp_span rules;  // readable bytes around .eh_frame
};

enum { TP_ROWS_KEPT = 12 };  // depth of DW_CFA_remember_state that is followed

/* What finding a row needs beside a few words of stack; anything before and after. */
struct tp_rules_scratch {
    struct tp_row row;      // the result
    uintptr_t start;        // of the function
    bool is_signal;         // the frame is that of a signal's return
    uint32_t ra;            // column of the return address
    bool is_guess;          // said by the caller: the address is no more than likely
    struct tp_span bytes;   // in which expressions of the row lie
    struct tp_row initial;  // after the CIE: what DW_CFA_restore goes back to
    struct tp_row kept[TP_ROWS_KEPT];
};

enum tp_rules_found {
    TP_RULES_FOUND,
    TP_RULES_NONE,  // the sheet does not cover this code
    TP_RULES_BAD,   // it cannot be followed
};

/* Sees to a sheet for `object`; false: it has none that can be read. */
bool tp_rules_sheet(const struct tp_object *object, struct tp_sheet *out);

/*
 * Completes a sheet of which header and index are known: `.eh_frame` is where the
 * header says. False: the header is broken.
 */
bool tp_rules_frames(const struct tp_sheet *sheet, uintptr_t *out_address);

/* Works out the row for code at `address` into `scratch`. Pure. */
enum tp_rules_found tp_rules_find(
    const struct tp_sheet *sheet, uintptr_t address, struct tp_rules_scratch *scratch);

/* ---- bytes.c: numbers and pointers in bytes ---- */

struct tp_bytes {
    uintptr_t at;
    uintptr_t end;
    bool short_of;  // more was asked for than there is; everything reads as 0 since
};

/* From `at` to the end of `span`; nothing at all when it lies outside. */
struct tp_bytes tp_bytes_from(struct tp_span span, uintptr_t at);

/* The next `n` bytes as a little-endian number, n at most 8. */
uint64_t tp_bytes_fixed(struct tp_bytes *bytes, unsigned n);
uint64_t tp_bytes_uleb(struct tp_bytes *bytes);
int64_t tp_bytes_sleb(struct tp_bytes *bytes);
void tp_bytes_skip(struct tp_bytes *bytes, uint64_t n);

enum { TP_POINTER_ABSOLUTE = 0x00, TP_POINTER_OMIT = 0xff };  // two of the encodings

/* Size of a pointer's form; 0 when it is not fixed. */
unsigned tp_bytes_of(unsigned encoding);

/* The number of a pointer, nothing added to it. */
uint64_t tp_bytes_form(struct tp_bytes *bytes, unsigned encoding);

/*
 * A pointer as `encoding` has it; `data` and `function` are what it may be relative
 * to. What would have to be fetched from elsewhere (indirect; only personality
 * routines are) is not known: the bytes count as short.
 */
uintptr_t tp_bytes_pointer(
    struct tp_bytes *bytes, unsigned encoding, uintptr_t data, uintptr_t function);

/* ---- reach.c: the memory that is stack ---- */

/*
 * A window of readable stack. The thread's own stack is one window from the first frame
 * to the last. Of any other (an alternate signal stack, a coroutine's) nothing is known
 * but that we stand on it: the window is a page, and moves when the kernel says that
 * the next one can be read.
 */
struct tp_reach {
    uintptr_t low;
    uintptr_t high;    // at least low + 8
    uintptr_t anchor;  // a moving window stays near to this; 0: it does not move
};

/* What is remembered of a thread's stack, so that it is found out once. */
struct tp_reach_known {
    uintptr_t self;  // the thread: its pthread_self()
    uintptr_t low;   // [low, self) is its stack
};

/* Before the first use, from the thread that runs main() if that can be. */
void tp_reach_open(void);

/* True where the main thread's stack pointer was first: no frame lies further out. */
bool tp_reach_begins(uintptr_t sp);

/* The window for the stack that `sp` points into. */
void tp_reach_at(struct tp_reach *reach, struct tp_reach_known *known, uintptr_t sp);

/* Moves the window to `at`, when that may be read. Cold. */
bool tp_reach_move(struct tp_reach *reach, uintptr_t at);

/* True when the page of `at` can be read; false also where that cannot be asked. */
bool tp_reach_can_read(uintptr_t at);

/* Loads a word of a stack that no sanitizer has been told of. */
#define TP_NOT_SANITIZED __attribute__((no_sanitize("address", "thread")))
static inline TP_NOT_SANITIZED uintptr_t tp_reach_load(uintptr_t at)
{
    return *(const volatile uintptr_t *)at;
}

/* The word at `at`; false when it is out of reach. Context: hot. */
static inline TP_NOT_SANITIZED bool tp_reach_word(
    struct tp_reach *reach, uintptr_t at, uintptr_t *out)
{
    bool in = at >= reach->low && at <= reach->high - sizeof(uintptr_t) && at % 8 == 0;
    if (TP_UNLIKELY(!in) && !tp_reach_move(reach, at)) return false;
    *out = tp_reach_load(at);
    return true;
}

/* ---- steps.c: with all registers ---- */

struct tp_registers {
    uint64_t value[TP_REGISTERS];
    uint64_t known;  // a bit a register
    uintptr_t pc;
    bool exact;  // pc is the instruction that was interrupted, not a return address
};

enum tp_step {
    TP_STEP_DONE,
    TP_STEP_SIGNAL,  // done, out of a signal's frame: the stack may be another
    TP_STEP_ENDS,    // the thread begins here
    TP_STEP_NO_RULE,
    TP_STEP_BAD_RULE,
    TP_STEP_BAD_MEMORY,
};

/* The address to look up for a frame: of the call, not behind it. */
static inline uintptr_t tp_step_key(uintptr_t pc, bool exact)
{
    return exact ? pc : pc - 1;
}

/* Takes the signature off a return address; all addresses of user space stay. */
static inline uintptr_t tp_step_strip(uintptr_t pc)
{
    return pc & (((uintptr_t)1 << 56) - 1) & ~((uintptr_t)0xff << 48);
}

/* From the frame in `registers` to its caller. Needs: a row from tp_rules_find(). */
enum tp_step tp_step_out(struct tp_registers *registers, struct tp_reach *reach,
    const struct tp_rules_scratch *rules);

/*
 * Out of the frame that the kernel has put under a signal handler, whose return address
 * `pc` is: all registers as they were interrupted.
 */
enum tp_step tp_step_signal(struct tp_registers *registers, struct tp_reach *reach);

/* True when the code at `pc`, in `object`, is the return from a signal handler. */
bool tp_step_is_signal(const struct tp_object *object, uintptr_t pc);

/* True when a call is what lies before `pc`, in memory of any kind. */
bool tp_step_is_call(uintptr_t pc);

/* ---- rows.c: the process-wide cache ---- */

/*
 * A row in 64 bits. Nearly every row fits: the CFA is the stack or the frame pointer and
 * a constant; return address and frame pointer lie under it.
 */
enum tp_packed_kind {
    TP_PACKED_EMPTY = 0,
    TP_PACKED_SP,      // CFA = stack pointer + offset
    TP_PACKED_FP,      // CFA = frame pointer + offset
    TP_PACKED_DEREF,   // CFA = word at frame pointer + offset; it points to the old one
    TP_PACKED_SIGNAL,  // the kernel's frame under a signal handler
    TP_PACKED_END,     // the thread begins here
    TP_PACKED_COMPLEX,  // does not fit
    TP_PACKED_GUESS,    // there is none: try the frame pointer
    TP_PACKED_NONE,     // there is none, and that is it
    TP_PACKED_BAD,      // it cannot be followed
};

/*
 * The bits of a row, from the lowest. The offset is on top, so that one shift tells it:
 * a walk waits for it.
 */
enum {
    TP_PACKED_KIND = 4,
    TP_PACKED_SLOT = 12,    // words below the CFA, 0: not saved; twice: return address
                            // (aarch64 only) and frame pointer
    TP_PACKED_MODULE = 16,  // record + 1
    TP_PACKED_OFFSET = 20,  // signed, in bytes

    TP_PACKED_RA_AT = TP_PACKED_KIND,
    TP_PACKED_FP_AT = TP_PACKED_RA_AT + TP_PACKED_SLOT,
    TP_PACKED_MODULE_AT = TP_PACKED_FP_AT + TP_PACKED_SLOT,
    TP_PACKED_OFFSET_AT = TP_PACKED_MODULE_AT + TP_PACKED_MODULE,
};
static_assert(TP_PACKED_OFFSET_AT + TP_PACKED_OFFSET == 64, "a row is one word");

static inline uint64_t tp_packed_bits(uint64_t row, unsigned at, unsigned n)
{
    return row >> at & (((uint64_t)1 << n) - 1);
}

static inline enum tp_packed_kind tp_packed_kind(uint64_t row)
{
    return (enum tp_packed_kind)tp_packed_bits(row, 0, TP_PACKED_KIND);
}

/* In bytes. */
static inline uintptr_t tp_packed_offset(uint64_t row)
{
    return (uintptr_t)((int64_t)row >> TP_PACKED_OFFSET_AT);
}

/* Bytes below the CFA; 0: not saved. */
static inline uintptr_t tp_packed_fp(uint64_t row)
{
    return tp_packed_bits(row, TP_PACKED_FP_AT, TP_PACKED_SLOT) * 8;
}

static inline uintptr_t tp_packed_ra(uint64_t row)
{
    return tp_packed_bits(row, TP_PACKED_RA_AT, TP_PACKED_SLOT) * 8;
}

static inline uint32_t tp_packed_module(uint64_t row)
{
    return (uint32_t)tp_packed_bits(row, TP_PACKED_MODULE_AT, TP_PACKED_MODULE);
}

/*
 * Two words that threads write and read without a lock, relaxed. `check` says what
 * `row` is for; halves of two entries do not match each other.
 */
struct tp_packed {
    _Atomic(uint64_t) check;
    _Atomic(uint64_t) row;
};

enum { TP_ROWS_LOG = 14, TP_ROWS = 1 << TP_ROWS_LOG };

extern struct tp_rows {
    struct tp_packed *_Atomic table;  // mapped on first use; written with release
    _Atomic(uint32_t) epoch;     // of the loader; rows of an earlier one match no more
    _Atomic(uint32_t) closing;   // threads that unload libraries; seq_cst, as is
    _Atomic(uint32_t) guessing;  // threads that read what a guess has led to
    bool frame_pointers;         // way FP: rows are used in our own code only
    bool guess;                  // code without rules is tried with its frame pointer
    struct tp_span own;          // this library; empty when it is part of the program
} tp_rows;

/* True for code of this library. */
static inline bool tp_rows_is_own(uintptr_t pc)
{
    return pc - tp_rows.own.start < tp_rows.own.end - tp_rows.own.start;
}

/* Maps the table. False: no memory. */
bool tp_rows_open(void);

static inline uint64_t tp_rows_salt(void)
{
    // Meets the release in tp_rows_forget().
    return (uint64_t)atomic_load_explicit(&tp_rows.epoch, memory_order_acquire) << 40;
}

/* All rows are out of date. */
void tp_rows_forget(void);

/* What `check` is for this row: the product keeps near rows from looking alike. */
static inline uint64_t tp_rows_check(uintptr_t address, uint64_t row, uint64_t salt)
{
    return (address ^ salt) + row * 0x9e3779b97f4a7c15u;
}

/*
 * The first of two neighbouring places for `address`, in words from the table's start.
 * Return addresses are spread over their low bits as well as over any product of them,
 * and those are there at once. They are one more than the address that is looked up.
 * The lowest bit is left out: a call takes two bytes, so none is wasted, and what is
 * left is the place of an entry with nothing to shift.
 */
enum { TP_ROWS_NEXT = 2 };  // the other place has this bit of the first one's turned
static inline size_t tp_rows_place(uintptr_t address)
{
    return (address + 1) & (2 * TP_ROWS - 2);
}

static inline struct tp_packed *tp_rows_entry(struct tp_packed *table, size_t place)
{
    return (struct tp_packed *)((uint64_t *)table + place);
}

/*
 * Whether what is mapped at an address that is only a guess may be read: who runs in a
 * library keeps it loaded, who guesses does not. True: no library is unloaded before
 * tp_rows_leave(). What the C library unloads of itself (iconv) is not heard of.
 */
bool tp_rows_enter(void);
void tp_rows_leave(void);
void tp_rows_less(_Atomic(uint32_t) *count);  // by one, unless a fork has set it to 0

/* Works the row out and keeps it; nothing is kept of a guess that may not be read. */
TP_COLD uint64_t tp_rows_make(
    uintptr_t address, uint64_t salt, struct tp_rules_scratch *scratch);

/* The packed row for code at `address` if it is there at once; else 0. Context: hot. */
static inline uint64_t tp_rows_peek(uintptr_t address, uint64_t salt)
{
    // Meets the release in tp_rows_open().
    struct tp_packed *table =
        atomic_load_explicit(&tp_rows.table, memory_order_relaxed);
    struct tp_packed *entry = tp_rows_entry(table, tp_rows_place(address));
    uint64_t row = atomic_load_explicit(&entry->row, memory_order_relaxed);
    uint64_t check = atomic_load_explicit(&entry->check, memory_order_relaxed);
    return check == tp_rows_check(address, row, salt) ? row : 0;
}

/* The packed row for code at `address`. Needs: the table. Context: hot. */
static inline uint64_t tp_rows_at(
    uintptr_t address, uint64_t salt, struct tp_rules_scratch *scratch)
{
    struct tp_packed *table =
        atomic_load_explicit(&tp_rows.table, memory_order_relaxed);
    size_t place = tp_rows_place(address);
    for (size_t i = 0; i < 2; i++, place ^= TP_ROWS_NEXT) {
        struct tp_packed *entry = tp_rows_entry(table, place);
        uint64_t row = atomic_load_explicit(&entry->row, memory_order_relaxed);
        uint64_t check = atomic_load_explicit(&entry->check, memory_order_relaxed);
        if (TP_LIKELY(check == tp_rows_check(address, row, salt) && row)) return row;
    }
    return tp_rows_make(address, salt, scratch);
}

/* ---- ways.c: out of our own library ---- */

enum { TP_WAYS = 4, TP_WAY_FRAMES = 15 };

/* A chain of our own calls, told by where its return addresses are. */
struct tp_way {
    uint32_t n;        // return addresses; 0: no way
    uint32_t out;      // from the stack pointer to that of the program's frame
    uint32_t fp_at;    // from there to where its frame pointer is; 0: in the register
    uint32_t last_at;  // the same for the program's address
    uint32_t ra_at[TP_WAY_FRAMES];
    uintptr_t ra[TP_WAY_FRAMES];
};

struct tp_ways {
    struct tp_way way[TP_WAYS];
    uint32_t next;
    uint32_t last;
};

/*
 * From a function of ours that is at `*pc`, exactly, to the frame of the program that
 * called us. False: nothing has changed, and our frames are to be walked.
 */
bool tp_ways_leave(struct tp_ways *ways, struct tp_reach *reach, uint64_t salt,
    struct tp_rules_scratch *scratch, uintptr_t *pc, uintptr_t *sp, uintptr_t *fp);

#endif
