/* SPDX-License-Identifier: MIT */
/*
 * steps.c - one step with all registers, for rows that a packed row cannot express.
 *
 * Such rows are few: a CFA from another register (the loader's lazy binding keeps its
 * own in rbx), a register saved where an expression says, a frame of more than 512 KiB.
 * One of them anywhere in a stack means the whole walk again from here, with every
 * register carried along; a microsecond a frame.
 *
 * Why not libunwind: linked to, it takes over the program's C++ exceptions and its
 * backtrace(); opened privately it is opened at a moment when we may be inside the
 * loader; and it takes locks, opens a pipe to try addresses with, and needs 6 KiB of
 * stack. In the tests it is what we are compared with.
 */
#include "shim/unwind.h"

#include "pool/os.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

/* DWARF 4 section 7.7.1. */
enum {
    OP_ADDR = 0x03,
    OP_DEREF = 0x06,
    OP_CONST_1U = 0x08,
    OP_CONST_8S = 0x0f,
    OP_CONSTU = 0x10,
    OP_CONSTS = 0x11,
    OP_DUP = 0x12,
    OP_DROP = 0x13,
    OP_OVER = 0x14,
    OP_PICK = 0x15,
    OP_SWAP = 0x16,
    OP_ROT = 0x17,
    OP_ABS = 0x19,
    OP_AND = 0x1a,
    OP_DIV = 0x1b,
    OP_MINUS = 0x1c,
    OP_MOD = 0x1d,
    OP_MUL = 0x1e,
    OP_NEG = 0x1f,
    OP_NOT = 0x20,
    OP_OR = 0x21,
    OP_PLUS = 0x22,
    OP_PLUS_UCONST = 0x23,
    OP_SHL = 0x24,
    OP_SHR = 0x25,
    OP_SHRA = 0x26,
    OP_XOR = 0x27,
    OP_BRA = 0x28,
    OP_EQ = 0x29,
    OP_GE = 0x2a,
    OP_GT = 0x2b,
    OP_LE = 0x2c,
    OP_LT = 0x2d,
    OP_NE = 0x2e,
    OP_SKIP = 0x2f,
    OP_LIT = 0x30,
    OP_REG = 0x50,
    OP_BREG = 0x70,
    OP_REGX = 0x90,
    OP_BREGX = 0x92,
    OP_DEREF_SIZE = 0x94,
    OP_NOP = 0x96,
};

/* Operations run, since some of them jump; values held. No compiler comes near. */
enum { RUN_MOST = 1000, HELD_MOST = 32 };

struct machine {
    struct tp_bytes code;
    uintptr_t start;  // of the code: no jump goes before it
    const struct tp_registers *registers;
    struct tp_reach *reach;
    unsigned n;  // values held
    bool fails;
    bool bad_memory;
    uint64_t held[HELD_MOST];
};

static void push(struct machine *machine, uint64_t value)
{
    if (machine->n == HELD_MOST)
        machine->fails = true;
    else
        machine->held[machine->n++] = value;
}

/* The value `depth` below the top. */
static uint64_t look(struct machine *machine, uint64_t depth)
{
    if (depth >= machine->n) {
        machine->fails = true;
        return 0;
    }
    return machine->held[machine->n - 1 - depth];
}

static uint64_t pop(struct machine *machine)
{
    uint64_t value = look(machine, 0);
    if (machine->n) machine->n--;
    return value;
}

static uint64_t value_of(struct machine *machine, uint64_t number)
{
    if (number >= TP_REGISTERS || !(machine->registers->known >> number & 1)) {
        machine->fails = true;
        return 0;
    }
    return machine->registers->value[number];
}

/* `n` bytes of the stack at `at`, anyhow aligned. */
static uint64_t fetch(struct machine *machine, uintptr_t at, uint64_t n)
{
    uintptr_t low = 0, high = 0, first = at & ~(uintptr_t)7;
    unsigned shift = (unsigned)(at - first) * 8;
    if (n < 1 || n > 8) machine->fails = true;
    if (machine->fails) return 0;
    if (!tp_reach_word(machine->reach, first, &low) ||
        (shift / 8 + n > 8 && !tp_reach_word(machine->reach, first + 8, &high)))
        machine->fails = machine->bad_memory = true;
    uint64_t value = shift ? low >> shift | high << (64 - shift) : low;
    return n == 8 ? value : value & (((uint64_t)1 << 8 * n) - 1);
}

static void jump(struct machine *machine, int64_t distance)
{
    struct tp_bytes *code = &machine->code;
    if (distance < (int64_t)(machine->start - code->at) ||
        distance > (int64_t)(code->end - code->at))
        machine->fails = true;
    else
        code->at += (uintptr_t)distance;
}

/* Constants: by size from 1 to 8 bytes, unsigned and signed in turn. */
static uint64_t constant(struct tp_bytes *code, unsigned operation)
{
    unsigned bytes = 1u << (operation - OP_CONST_1U) / 2;
    uint64_t value = tp_bytes_fixed(code, bytes);
    unsigned unused = 64 - 8 * bytes;
    if ((operation - OP_CONST_1U) % 2 == 0) return value;
    return (uint64_t)((int64_t)(value << unused) >> unused);
}

/* Operations on the topmost values alone; false: none of them. */
static bool run_shuffle(struct machine *machine, unsigned operation)
{
    uint64_t a, b, c;
    switch (operation) {
    case OP_DUP:
        push(machine, look(machine, 0));
        return true;
    case OP_DROP:
        pop(machine);
        return true;
    case OP_OVER:
        push(machine, look(machine, 1));
        return true;
    case OP_PICK:
        push(machine, look(machine, tp_bytes_fixed(&machine->code, 1)));
        return true;
    case OP_SWAP:
        a = pop(machine), b = pop(machine);
        push(machine, a), push(machine, b);
        return true;
    case OP_ROT:
        a = pop(machine), b = pop(machine), c = pop(machine);
        push(machine, a), push(machine, c), push(machine, b);
        return true;
    case OP_ABS:
        a = pop(machine);
        push(machine, (int64_t)a < 0 ? 0 - a : a);
        return true;
    case OP_NEG:
        push(machine, 0 - pop(machine));
        return true;
    case OP_NOT:
        push(machine, ~pop(machine));
        return true;
    }
    return operation == OP_NOP;
}

/* Operations on two values, the upper one second; false: none of them. */
static bool run_two(struct machine *machine, unsigned operation)
{
    if (operation < OP_AND || operation > OP_NE) return false;
    uint64_t b = pop(machine), a = pop(machine), value = 0;
    int64_t sa = (int64_t)a, sb = (int64_t)b;
    switch (operation) {
    case OP_AND:
        value = a & b;
        break;
    case OP_DIV:
        // The one quotient that does not fit would be a fault.
        if (sb == 0)
            machine->fails = true;
        else
            value = sb == -1 ? 0 - a : (uint64_t)(sa / sb);
        break;
    case OP_MINUS:
        value = a - b;
        break;
    case OP_MOD:
        if (b == 0)
            machine->fails = true;
        else
            value = a % b;
        break;
    case OP_MUL:
        value = a * b;
        break;
    case OP_OR:
        value = a | b;
        break;
    case OP_PLUS:
        value = a + b;
        break;
    case OP_SHL:
        value = b < 64 ? a << b : 0;
        break;
    case OP_SHR:
        value = b < 64 ? a >> b : 0;
        break;
    case OP_SHRA:
        value = (uint64_t)(sa >> (b < 64 ? b : 63));
        break;
    case OP_XOR:
        value = a ^ b;
        break;
    case OP_EQ:
        value = sa == sb;
        break;
    case OP_GE:
        value = sa >= sb;
        break;
    case OP_GT:
        value = sa > sb;
        break;
    case OP_LE:
        value = sa <= sb;
        break;
    case OP_LT:
        value = sa < sb;
        break;
    case OP_NE:
        value = sa != sb;
        break;
    }
    push(machine, value);
    return true;
}

/* Operations that bring a value from elsewhere, or jump; false: none of them. */
static bool run_bring(struct machine *machine, unsigned operation)
{
    struct tp_bytes *code = &machine->code;
    uint64_t number;
    if (operation >= OP_CONST_1U && operation <= OP_CONST_8S) {
        push(machine, constant(code, operation));
        return true;
    }
    switch (operation) {
    case OP_ADDR:
        push(machine, tp_bytes_fixed(code, 8));
        return true;
    case OP_DEREF:
        push(machine, fetch(machine, pop(machine), 8));
        return true;
    case OP_DEREF_SIZE:
        number = tp_bytes_fixed(code, 1);
        push(machine, fetch(machine, pop(machine), number));
        return true;
    case OP_CONSTU:
        push(machine, tp_bytes_uleb(code));
        return true;
    case OP_CONSTS:
        push(machine, (uint64_t)tp_bytes_sleb(code));
        return true;
    case OP_PLUS_UCONST:
        number = tp_bytes_uleb(code);
        push(machine, pop(machine) + number);
        return true;
    case OP_REGX:
        push(machine, value_of(machine, tp_bytes_uleb(code)));
        return true;
    case OP_BREGX:
        number = value_of(machine, tp_bytes_uleb(code));
        push(machine, number + (uint64_t)tp_bytes_sleb(code));
        return true;
    case OP_SKIP:
        jump(machine, (int16_t)tp_bytes_fixed(code, 2));
        return true;
    case OP_BRA:
        number = tp_bytes_fixed(code, 2);
        if (pop(machine)) jump(machine, (int16_t)number);
        return true;
    }
    return false;
}

/* Runs the expression whose length is at `at`; its value is what remains on top. */
static enum tp_step evaluate(
    struct machine *machine, struct tp_span span, uintptr_t at, uint64_t *out)
{
    if (at < span.start || at > span.end) return TP_STEP_BAD_RULE;
    struct tp_bytes *code = &machine->code;
    *code = (struct tp_bytes){ .at = at, .end = span.end };
    uint64_t length = tp_bytes_uleb(code);
    if (code->short_of || length > code->end - code->at) return TP_STEP_BAD_RULE;
    code->end = code->at + length;
    machine->start = code->at;
    for (unsigned i = 0; code->at < code->end && !machine->fails; i++) {
        unsigned operation = (unsigned)tp_bytes_fixed(code, 1);
        if (i == RUN_MOST) machine->fails = true;
        if (operation >= OP_LIT && operation < OP_LIT + 32)
            push(machine, operation - OP_LIT);
        else if (operation >= OP_REG && operation < OP_REG + 32)
            push(machine, value_of(machine, operation - OP_REG));
        else if (operation >= OP_BREG && operation < OP_BREG + 32)
            push(machine,
                value_of(machine, operation - OP_BREG) + (uint64_t)tp_bytes_sleb(code));
        else if (!run_shuffle(machine, operation) && !run_bring(machine, operation) &&
            !run_two(machine, operation))
            machine->fails = true;
        if (code->short_of) machine->fails = true;
    }
    *out = pop(machine);
    if (machine->bad_memory) return TP_STEP_BAD_MEMORY;
    return machine->fails ? TP_STEP_BAD_RULE : TP_STEP_DONE;
}

/* What a rule says of a register; `number` is its own. */
static enum tp_step apply(struct machine *machine, const struct tp_rules_scratch *rules,
    const struct tp_rule *rule, uint64_t cfa, uint64_t *out)
{
    struct tp_registers const *registers = machine->registers;
    uint64_t at = cfa + (uint64_t)rule->n;
    enum tp_step step = TP_STEP_DONE;
    switch (rule->how) {
    case TP_HOW_IS:
        *out = at;
        return TP_STEP_DONE;
    case TP_HOW_REGISTER:
        if ((uint64_t)rule->n >= TP_REGISTERS || !(registers->known >> rule->n & 1))
            return TP_STEP_BAD_RULE;
        *out = registers->value[rule->n];
        return TP_STEP_DONE;
    case TP_HOW_AT_EXPRESSION:
    case TP_HOW_IS_EXPRESSION:
        machine->n = 0;
        machine->fails = machine->bad_memory = false;
        push(machine, cfa);
        step = evaluate(machine, rules->bytes, (uintptr_t)rule->n, &at);
        *out = at;
        if (step != TP_STEP_DONE || rule->how == TP_HOW_IS_EXPRESSION) return step;
        break;
    case TP_HOW_AT:
        break;
    default:
        return TP_STEP_BAD_RULE;
    }
    return tp_reach_word(machine->reach, at, out) ? TP_STEP_DONE : TP_STEP_BAD_MEMORY;
}

static enum tp_step find_cfa(
    struct machine *machine, const struct tp_rules_scratch *rules, uint64_t *out)
{
    const struct tp_row *row = &rules->row;
    const struct tp_registers *registers = machine->registers;
    if (row->cfa.how == TP_HOW_IS_EXPRESSION)
        return evaluate(machine, rules->bytes, (uintptr_t)row->cfa.n, out);
    if (row->cfa_register >= TP_REGISTERS ||
        !(registers->known >> row->cfa_register & 1))
        return TP_STEP_BAD_RULE;
    *out = registers->value[row->cfa_register] + (uint64_t)row->cfa.n;
    return TP_STEP_DONE;
}

enum tp_step tp_step_out(struct tp_registers *registers, struct tp_reach *reach,
    const struct tp_rules_scratch *rules)
{
    const struct tp_rule *ra = &rules->row.rules[rules->ra];
    if (ra->how == TP_HOW_UNDEFINED) return TP_STEP_ENDS;
#if !defined(__aarch64__)
    // Expressions ask for it by its number; there is no such register to leave it in.
    registers->value[TP_REGISTER_RA] = registers->pc;
    registers->known |= (uint64_t)1 << TP_REGISTER_RA;
    if (ra->how == TP_HOW_SAME) return TP_STEP_BAD_RULE;
#endif
    struct machine machine = { .registers = registers, .reach = reach };
    uint64_t cfa = 0, value[TP_REGISTERS], known = registers->known;
    enum tp_step step = find_cfa(&machine, rules, &cfa);
    if (step != TP_STEP_DONE) return step;
    memcpy(value, registers->value, sizeof(value));
    value[TP_REGISTER_SP] = cfa;
    for (unsigned i = 0; i < TP_REGISTERS; i++) {
        const struct tp_rule *rule = &rules->row.rules[i];
        uint64_t bit = (uint64_t)1 << i;
        if (rule->how == TP_HOW_SAME) continue;
        step = rule->how == TP_HOW_UNDEFINED
            ? TP_STEP_BAD_RULE
            : apply(&machine, rules, rule, cfa, &value[i]);
        known = step == TP_STEP_DONE ? known | bit : known & ~bit;
        // Of the others it is enough to know that they are not known.
        if (step != TP_STEP_DONE && (i == rules->ra || i == TP_REGISTER_SP))
            return step;
    }
    if (!(known >> rules->ra & 1)) return TP_STEP_BAD_RULE;
    memcpy(registers->value, value, sizeof(value));
    registers->known = known;
    registers->pc = tp_step_strip(value[rules->ra]);
    registers->exact = rules->is_signal;
    if (!registers->pc) return TP_STEP_ENDS;
    return rules->is_signal ? TP_STEP_SIGNAL : TP_STEP_DONE;
}

/* ---- frames of signals ---- */

#if defined(__aarch64__)

// Linux, arch/arm64/kernel/signal.c: struct rt_sigframe is siginfo, then ucontext.
enum { CONTEXT_AT = 128 };

static enum tp_step read_context(
    struct tp_registers *registers, struct tp_reach *reach, uintptr_t context)
{
    uintptr_t at =
        context + offsetof(ucontext_t, uc_mcontext) + offsetof(mcontext_t, regs);
    for (unsigned i = 0; i < TP_REGISTERS; i++)
        if (!tp_reach_word(reach, at + 8 * i, &registers->value[i]))
            return TP_STEP_BAD_MEMORY;
    at = context + offsetof(ucontext_t, uc_mcontext) + offsetof(mcontext_t, pc);
    return tp_reach_word(reach, at, &registers->pc) ? TP_STEP_SIGNAL
                                                    : TP_STEP_BAD_MEMORY;
}

// mov x8, #__NR_rt_sigreturn; svc #0
static const uint8_t returns[][8] = { { 0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4 } };

#else

// Linux, arch/x86/include/asm/sigframe.h: the return address, then ucontext.
enum { CONTEXT_AT = 0 };

static enum tp_step read_context(
    struct tp_registers *registers, struct tp_reach *reach, uintptr_t context)
{
    // Where each register of DWARF is, in its order; the last is the address.
    static const uint8_t places[TP_REGISTERS] = { REG_RAX, REG_RDX, REG_RCX, REG_RBX,
        REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12,
        REG_R13, REG_R14, REG_R15, REG_RIP };
    uintptr_t at = context + offsetof(ucontext_t, uc_mcontext.gregs);
    for (unsigned i = 0; i < TP_REGISTERS; i++)
        if (!tp_reach_word(reach, at + 8 * places[i], &registers->value[i]))
            return TP_STEP_BAD_MEMORY;
    registers->pc = registers->value[TP_REGISTER_RA];
    return TP_STEP_SIGNAL;
}

// mov $__NR_rt_sigreturn, %rax; syscall. The first as glibc has it; then shorter.
static const uint8_t returns[][9] = {
    { 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05 },
    { 0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05, 0, 0 },
};

#endif

enum tp_step tp_step_signal(struct tp_registers *registers, struct tp_reach *reach)
{
    uintptr_t context = registers->value[TP_REGISTER_SP] + CONTEXT_AT;
    enum tp_step step = read_context(registers, reach, context);
    registers->known = ((uint64_t)1 << (TP_REGISTERS - 1) << 1) - 1;
    registers->exact = true;
    if (step == TP_STEP_SIGNAL && !registers->pc) return TP_STEP_ENDS;
    return step;
}

bool tp_step_is_signal(const struct tp_object *object, uintptr_t pc)
{
    struct tp_span code;
    if (!tp_object_segment(object, pc, TP_SEGMENT_EXECUTE | TP_SEGMENT_READ, &code) ||
        code.end - pc < sizeof(returns[0]))
        return false;
    if (memcmp((const void *)pc, returns[0], sizeof(returns[0])) == 0) return true;
#if !defined(__aarch64__)
    return memcmp((const void *)pc, returns[1], 7) == 0;
#else
    return false;
#endif
}

/* ---- calls ---- */

/*
 * By the kernel, which fails where nothing is mapped: whoever made this code may take it
 * away at any moment. False also where it cannot be asked.
 */
static bool copy_code(uintptr_t from, uint8_t *out, size_t n)
{
    if (tp_os_is_sandboxed()) return false;
    int saved = errno;
    struct iovec here = { out, n }, there = { (void *)from, n };
    long done = syscall(SYS_process_vm_readv, getpid(), &here, 1, &there, 1, 0);
    errno = saved;
    return done == (long)n;
}

bool tp_step_is_call(uintptr_t pc)
{
    enum { LONGEST = 7 };
    uint8_t code[LONGEST];
    if (pc < 2 * TP_PAGE || !copy_code(pc - LONGEST, code, LONGEST)) return false;
#if defined(__aarch64__)
    uint32_t word;
    memcpy(&word, code + LONGEST - 4, 4);
    return (word & 0xfc000000) == 0x94000000 || (word & 0xfffffc1f) == 0xd63f0000;
#else
    // call rel32 is e8 and four bytes; call r/m64 is ff, then /2 in the middle bits of
    // the next byte, two to seven bytes in all.
    const uint8_t *end = code + LONGEST;
    if (end[-5] == 0xe8) return true;
    for (int i = 2; i <= LONGEST; i++)
        if (end[-i] == 0xff && (end[1 - i] >> 3 & 7) == 2) return true;
    return false;
#endif
}
