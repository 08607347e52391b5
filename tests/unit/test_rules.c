/* SPDX-License-Identifier: MIT */
/*
 * test_rules.c - rows of unwind tables: small ones written here, and broken ones.
 */
#include "shim/unwind.h"

#include "tests/unit/elf_image.h"
#include "tests/unit/tp_test.h"

#include <string.h>

enum { CODE = 0x1000, LENGTH = 0x100, MUTANTS = 3000, PLACES = 40 };

/* A section with one CIE and one FDE, and an index without a table before it. */
static struct {
    uint8_t bytes[512];
    size_t n;
    struct tp_sheet sheet;
    struct tp_rules_scratch scratch;
} book;

static void put(const void *bytes, size_t n)
{
    assert_true(book.n + n <= sizeof(book.bytes));
    memcpy(book.bytes + book.n, bytes, n);
    book.n += n;
}

static void put_u32(uint32_t value)
{
    put(&value, 4);
}

/* Ends the entry that began at `start` with its length, padded with DW_CFA_nop. */
static void close_entry(size_t start)
{
    while ((book.n - start) % 4) put("", 1);
    uint32_t length = (uint32_t)(book.n - start - 4);
    memcpy(book.bytes + start, &length, 4);
}

/* `letters` is the augmentation, with its NUL; its data is what pointers need. */
static void write_book(const char *letters, const void *program, size_t bytes)
{
    uint64_t code[2] = { CODE, LENGTH };
    memset(&book, 0, sizeof(book));
    uintptr_t start = (uintptr_t)book.bytes;
    put("\x01\x1b\xff\xff", 4);  // .eh_frame by pcrel sdata4, no table
    put_u32(4);                  // and that is right behind
    size_t cie = book.n;
    put_u32(0), put_u32(0), put("\x01", 1), put(letters, strlen(letters) + 1);
    put("\x01\x78\x10", 3);  // units 1 and -8, return address in column 16
    if (letters[0] == 'z') put("\x01", 1), put("", 1);  // pointers are absolute
    put("\x0c\x07\x08\x90\x01", 5);                     // CFA = rsp + 8, ra at CFA - 8
    close_entry(cie);
    size_t fde = book.n;
    put_u32(0), put_u32((uint32_t)(fde + 4 - cie)), put(code, 16);
    if (letters[0] == 'z') put("", 1);
    put(program, bytes);
    close_entry(fde);
    put_u32(0);
    struct tp_span all = { start, start + book.n };
    book.sheet = (struct tp_sheet){ .header = start, .index = all, .rules = all };
}

static enum tp_rules_found find(uintptr_t address)
{
    return tp_rules_find(&book.sheet, address, &book.scratch);
}

#define WRITE(letters, program) write_book(letters, program, sizeof(program) - 1)

static void assert_cfa(uintptr_t address, unsigned number, int64_t n)
{
    assert_int_equal(find(address), TP_RULES_FOUND);
    assert_int_equal(book.scratch.row.cfa.how, TP_HOW_IS);
    assert_int_equal(book.scratch.row.cfa_register, number);
    assert_int_equal(book.scratch.row.cfa.n, n);
}

static void assert_rule(unsigned number, enum tp_how how, int64_t n)
{
    assert_int_equal(book.scratch.row.rules[number].how, how);
    assert_int_equal(book.scratch.row.rules[number].n, n);
}

static void row_is_that_of_the_address(void **state)
{
    (void)state;
    // push rbp; mov rsp, rbp; ... pop rbp
    WRITE("", "\x41\x0e\x10\x86\x02\x43\x0d\x06\x02\x60\x0c\x07\x08");
    assert_int_equal(find(CODE - 1), TP_RULES_NONE);
    assert_cfa(CODE, 7, 8);
    assert_rule(6, TP_HOW_SAME, 0);
    assert_rule(16, TP_HOW_AT, -8);
    assert_cfa(CODE + 1, 7, 16);
    assert_rule(6, TP_HOW_AT, -16);
    assert_cfa(CODE + 3, 7, 16);
    assert_cfa(CODE + 4, 6, 16);
    assert_cfa(CODE + 0x63, 6, 16);
    assert_cfa(CODE + 0x64, 7, 8);
    assert_cfa(CODE + LENGTH - 1, 7, 8);
    assert_int_equal(find(CODE + LENGTH), TP_RULES_NONE);
}

static void remembered_rows_come_back(void **state)
{
    (void)state;
    WRITE("zR", "\x0e\x20\x83\x03\x41\x0a\x0e\x08\xc3\x41\x0b");
    assert_cfa(CODE, 7, 32);
    assert_rule(3, TP_HOW_AT, -24);
    assert_cfa(CODE + 1, 7, 8);
    assert_rule(3, TP_HOW_SAME, 0);
    assert_cfa(CODE + 2, 7, 32);
    assert_rule(3, TP_HOW_AT, -24);
    assert_int_equal(book.scratch.is_signal, false);
}

static void offset_outlives_an_expression(void **state)
{
    (void)state;
    WRITE("zR", "\x0e\x30\x0f\x02\x77\x08\x41\x0d\x07");
    assert_int_equal(find(CODE), TP_RULES_FOUND);
    assert_int_equal(book.scratch.row.cfa.how, TP_HOW_IS_EXPRESSION);
    assert_cfa(CODE + 1, 7, 48);
}

static void every_kind_of_rule_is_read(void **state)
{
    (void)state;
    WRITE("zRS",
        "\x14\x03\x02"          // val_offset rbx 2
        "\x15\x0c\x7e"          // val_offset_sf r12 -2
        "\x09\x0d\x03"          // register r13 rbx
        "\x07\x0e"              // undefined r14
        "\x10\x0f\x02\x77\x08"  // expression r15 breg7 8
        "\x16\x06\x02\x77\x10"  // val_expression rbp breg7 16
        "\x11\x00\x7d"          // offset_extended_sf rax -3
        "\x2f\x01\x04"          // negative_offset_extended rdx 4
        "\x05\x02\x05\x08\x02"  // offset_extended rcx 5, then same_value
        "\x2e\x30\x05\x40\x01"  // args_size; a register that we do not follow
        "\x03\x00\x01");        // advance by 256: out of the function
    assert_cfa(CODE + 5, 7, 8);
    assert_rule(3, TP_HOW_IS, -16);
    assert_rule(12, TP_HOW_IS, 16);
    assert_rule(13, TP_HOW_REGISTER, 3);
    assert_rule(14, TP_HOW_UNDEFINED, 0);
    assert_rule(0, TP_HOW_AT, 24);
    assert_rule(1, TP_HOW_AT, 32);
    assert_rule(2, TP_HOW_SAME, 0);
    assert_int_equal(book.scratch.row.rules[15].how, TP_HOW_AT_EXPRESSION);
    assert_memory_equal((void *)book.scratch.row.rules[15].n, "\x02\x77\x08", 3);
    assert_int_equal(book.scratch.row.rules[6].how, TP_HOW_IS_EXPRESSION);
    assert_true(book.scratch.is_signal);
}

static void what_cannot_be_followed_is_no_row(void **state)
{
    (void)state;
    WRITE("zR", "\x0b");  // recall without remember
    assert_int_equal(find(CODE), TP_RULES_BAD);
    WRITE("zR", "\x3f");  // no such operation
    assert_int_equal(find(CODE), TP_RULES_BAD);
    WRITE("zR", "\x0f\x7f\x30");  // an expression longer than the entry
    assert_int_equal(find(CODE), TP_RULES_BAD);
    WRITE("zR", "\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a");
    assert_int_equal(find(CODE), TP_RULES_BAD);
    WRITE("q", "\x0e\x10");  // an augmentation that nobody knows
    assert_int_equal(find(CODE), TP_RULES_NONE);
}

/* ---- steps ---- */

static uintptr_t stack[8] = { 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88 };

/* Steps out of CODE with rsp at the stack; the result's registers. */
static enum tp_step step(struct tp_registers *out)
{
    uintptr_t low = (uintptr_t)stack;
    struct tp_reach reach = { .low = low, .high = low + sizeof(stack) };
    *out = (struct tp_registers){ .pc = CODE + 1, .known = 1u << 7 | 1u << 3 };
    out->value[7] = low;
    out->value[3] = 5;
    assert_int_equal(find(CODE), TP_RULES_FOUND);
    return tp_step_out(out, &reach, &book.scratch);
}

static void a_step_restores_what_the_row_says(void **state)
{
    (void)state;
    struct tp_registers out;
    WRITE("zR", "\x0e\x20\x86\x02\x83\x03\x09\x0c\x03");
    assert_int_equal(step(&out), TP_STEP_DONE);
    assert_int_equal(out.pc, 0x44);
    assert_int_equal(out.value[7], (uintptr_t)&stack[4]);
    assert_int_equal(out.value[6], 0x33);
    assert_int_equal(out.value[3], 0x22);
    assert_int_equal(out.value[12], 5);  // rbx before it was restored
    assert_false(out.exact);
    WRITE("zR", "\x07\x10");
    assert_int_equal(step(&out), TP_STEP_ENDS);
    WRITE("zR", "\x0e\x60");
    assert_int_equal(step(&out), TP_STEP_BAD_MEMORY);
    WRITE("zR", "\x0c\x0c\x08");  // CFA from r12, which nobody knows
    assert_int_equal(step(&out), TP_STEP_BAD_RULE);
}

/* The value of an expression, as a rule for rbp; `fails` when there is none. */
static bool value_of(const void *expression, size_t n, uint64_t *out)
{
    uint8_t program[64] = { 0x16, 6, (uint8_t)n };
    struct tp_registers registers;
    memcpy(program + 3, expression, n);
    write_book("zR", program, n + 3);
    assert_int_equal(step(&registers), TP_STEP_DONE);
    *out = registers.value[6];
    return registers.known >> 6 & 1;
}

#define ASSERT_VALUE(expression, wanted)                                 \
    do {                                                                 \
        uint64_t got = 0;                                                \
        assert_true(value_of(expression, sizeof(expression) - 1, &got)); \
        assert_int_equal(got, (uint64_t)(wanted));                       \
    } while (0)
#define ASSERT_NO_VALUE(expression)                                       \
    do {                                                                  \
        uint64_t got = 0;                                                 \
        assert_false(value_of(expression, sizeof(expression) - 1, &got)); \
    } while (0)

static void expressions_have_values(void **state)
{
    (void)state;
    ASSERT_VALUE("", (uintptr_t)&stack[1]);  // the CFA is there at the beginning
    ASSERT_VALUE("\x77\x08\x06", 0x22);
    ASSERT_VALUE("\x77\x03\x94\x02", 0);
    ASSERT_VALUE("\x77\x08\x94\x01", 0x22);
    ASSERT_VALUE("\x09\xff", -1);
    ASSERT_VALUE("\x08\xff", 255);
    ASSERT_VALUE("\x0b\xfe\xff", -2);
    ASSERT_VALUE("\x0d\xff\xff\xff\xff", -1);
    ASSERT_VALUE("\x10\x80\x01", 128);
    ASSERT_VALUE("\x11\x7f", -1);
    ASSERT_VALUE("\x38\x33\x1b", 2);
    ASSERT_VALUE("\x09\xf8\x33\x1b", -2);
    ASSERT_VALUE("\x38\x33\x1d", 2);
    ASSERT_VALUE("\x38\x33\x1c", 5);
    ASSERT_VALUE("\x38\x33\x16\x1c", -5);
    ASSERT_VALUE("\x31\x32\x33\x17\x1c\x1c", 3 - (1 - 2));  // rot: 3 1 2
    ASSERT_VALUE("\x31\x32\x14", 1);
    ASSERT_VALUE("\x31\x32\x33\x15\x02", 1);
    ASSERT_VALUE("\x33\x24\x38\x38\x24", 8 << 8);
    ASSERT_VALUE("\x09\xf0\x32\x26", -4);
    ASSERT_VALUE("\x09\xf0\x08\x3c\x25", 15);
    ASSERT_VALUE("\x09\xfb\x19\x1f", -5);
    ASSERT_VALUE("\x31\x20", -2);
    ASSERT_VALUE("\x31\x23\x07", 8);
    ASSERT_VALUE("\x32\x33\x2d", 1);
    ASSERT_VALUE("\x09\xff\x33\x2a", 0);
    ASSERT_VALUE("\x31\x28\x01\x00\x35\x36", 6);  // a jump over lit5
    ASSERT_VALUE("\x80\x00", CODE + 1);           // rip
    ASSERT_VALUE("\x92\x03\x01", 6);
    ASSERT_VALUE("\x09\x80\x0f\0\0\0\0\0\0\0\x80\x09\xff\x1b\x16\x13",
        (uint64_t)1 << 63);  // the quotient that does not fit
}

static void expressions_that_go_wrong_have_none(void **state)
{
    (void)state;
    ASSERT_NO_VALUE("\x13\x13");      // nothing left
    ASSERT_NO_VALUE("\x31\x30\x1b");  // by zero
    ASSERT_NO_VALUE("\x31\x30\x1d");
    ASSERT_NO_VALUE("\x2f\xfd\xff");      // for ever
    ASSERT_NO_VALUE("\x12\x2f\xfc\xff");  // for ever, and ever more
    ASSERT_NO_VALUE("\x2f\x7f\x7f");      // out of it
    ASSERT_NO_VALUE("\x30\x06");          // what lies at 0
    ASSERT_NO_VALUE("\x77\x08\x94\x09");  // nine bytes
    ASSERT_NO_VALUE("\x7c\x00");          // r12 is not known
    ASSERT_NO_VALUE("\xff");
}

/* ---- broken bytes ---- */

/* A library of this machine that is small enough to be spoiled often. */
static const char *const victims[] = { "/lib/x86_64-linux-gnu/libm.so.6",
    "/lib/aarch64-linux-gnu/libm.so.6", "/lib64/libm.so.6", "/usr/lib/libm.so.6" };

static void spoil(struct image *image, uint64_t from, uint64_t *seed)
{
    size_t span = image->size - from;
    uint64_t kind = test_below(seed, 3);
    // Where the index is, and the bytes behind, which mostly are .eh_frame.
    size_t at = from + test_below(seed, test_below(seed, 2) ? span : span / 64);
    if (kind == 0) image->bytes[at] = (char)test_random(seed);
    if (kind == 1) image->bytes[at] ^= (char)(1u << test_below(seed, 8));
    if (kind == 2 && span > 16)
        memset(image->bytes + from + test_below(seed, span - 8),
            test_below(seed, 2) ? 0xff : 0x80, 8);
}

/* Looks up and steps; what comes out is of no interest. */
static void use(struct image *image, uint64_t *seed)
{
    static struct tp_rules_scratch scratch;
    uintptr_t low = (uintptr_t)stack, start = (uintptr_t)image->bytes;
    for (unsigned i = 0; i < PLACES; i++) {
        uintptr_t address = start + test_below(seed, image->size);
        if (tp_rules_find(&image->sheet, address, &scratch) != TP_RULES_FOUND) continue;
        struct tp_reach reach = { .low = low, .high = low + sizeof(stack) };
        struct tp_registers registers = { .pc = address, .known = UINT32_MAX };
        for (unsigned r = 0; r < TP_REGISTERS; r++) registers.value[r] = low + 8;
        tp_step_out(&registers, &reach, &scratch);
    }
}

static void broken_tables_do_no_harm(void **state)
{
    (void)state;
    struct image image = { 0 };
    unsigned i = 0;
    while (i < 4 && !image_open(&image, victims[i])) i++;
    if (i == 4) skip();
    char *good = malloc(image.size);
    assert_non_null(good);
    memcpy(good, image.bytes, image.size);
    uint64_t from = image.header, seed = 20260101;
    for (unsigned round = 0; round < MUTANTS; round++) {
        for (size_t n = 1 + test_below(&seed, 6); n > 0; n--)
            spoil(&image, from, &seed);
        use(&image, &seed);
        memcpy(image.bytes + from, good + from, image.size - from);
        // Ends anywhere: everything behind is out of bounds.
        struct tp_sheet whole = image.sheet;
        uintptr_t end = image.sheet.header + test_below(&seed, image.size - from);
        image.sheet.index.end = image.sheet.rules.end = end;
        use(&image, &seed);
        image.sheet = whole;
    }
    free(good);
    image_close(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(row_is_that_of_the_address),
        cmocka_unit_test(remembered_rows_come_back),
        cmocka_unit_test(offset_outlives_an_expression),
        cmocka_unit_test(every_kind_of_rule_is_read),
        cmocka_unit_test(what_cannot_be_followed_is_no_row),
        cmocka_unit_test(a_step_restores_what_the_row_says),
        cmocka_unit_test(expressions_have_values),
        cmocka_unit_test(expressions_that_go_wrong_have_none),
        cmocka_unit_test(broken_tables_do_no_harm),
    };
    return cmocka_run_group_tests_name("rules", tests, NULL, NULL);
}
