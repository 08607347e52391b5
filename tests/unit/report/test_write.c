/* SPDX-License-Identifier: MIT */
/*
 * test_write.c - safe text, JSON without commas, and errors that stick.
 */
#include "tests/unit/report/test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void write_nested(struct tp_writer *writer, void *argument)
{
    (void)argument;
    tp_json_begin(writer, NULL, '{');
    tp_json_uint(writer, "most", UINT64_MAX);
    tp_json_begin(writer, "rows", '[');
    tp_json_int(writer, NULL, -7);
    tp_json_bool(writer, NULL, true);
    tp_json_begin(writer, NULL, '{');
    tp_json_end(writer);
    tp_json_end(writer);
    tp_json_seconds(writer, "seconds", 1002003456);
    tp_json_rate(writer, "rate", 2.0005);
    tp_json_end(writer);
}

static void json_stands_in_its_commas(void **state)
{
    (void)state;
    char *text = test_written(write_nested, NULL);
    assert_string_equal(text,
        "{\n  \"most\": 18446744073709551615,\n  \"rows\": [\n    -7,\n    true,\n    {}\n"
        "  ],\n  \"seconds\": 1.002003,\n  \"rate\": 2.001\n}\n");
    free(text);
}

static void write_string(struct tp_writer *writer, void *argument)
{
    tp_json_text(writer, NULL, argument);
}

static void expect_json(const char *text, const char *expected)
{
    char copy[64];
    strcpy(copy, text);
    char *written = test_written(write_string, copy);
    assert_string_equal(written, expected);
    free(written);
}

static void json_strings_are_valid_whatever_the_bytes(void **state)
{
    (void)state;
    expect_json("plain", "\"plain\"");
    expect_json("a\"b\\c\n\x01\x7f", "\"a\\\"b\\\\c\\n\\u0001\\u007f\"");
    expect_json("\xc3\xa9\xe2\x82\xac", "\"\xc3\xa9\xe2\x82\xac\"");
    expect_json("\xff\xc3(", "\"\\ufffd\\ufffd(\"");
    expect_json("cut \xe2\x82", "\"cut \\ufffd\\ufffd\"");
}

static void only_well_formed_characters_have_a_length(void **state)
{
    (void)state;
    assert_int_equal(tp_utf8_length(""), 0);
    assert_int_equal(tp_utf8_length("a"), 1);
    assert_int_equal(tp_utf8_length("\xc3\xa9"), 2);
    assert_int_equal(tp_utf8_length("\xf0\x9f\x90\x9a"), 4);
    assert_int_equal(tp_utf8_length("\xc0\xaf"), 0);          // too long a form
    assert_int_equal(tp_utf8_length("\xed\xa0\x80"), 0);      // half a pair
    assert_int_equal(tp_utf8_length("\xf4\x90\x80\x80"), 0);  // beyond the last
    assert_int_equal(tp_utf8_length("\x80"), 0);
}

static void write_columns(struct tp_writer *writer, void *argument)
{
    (void)argument;
    tp_write_column(writer, "\x1b[31mred", 6);
    tp_write_text(writer, "|");
    tp_write_column(writer, "\xc3\xa9", 3);
    tp_write_text(writer, "|");
    tp_write_clean(writer, "abcdefgh", 6);
    tp_write_text(writer, "|");
    tp_write_clean(writer, "abcdef", 6);
    tp_write_text(writer, "|");
    tp_write_clean(writer, "\xc2\x9b\tx", 6);
}

static void terminals_get_nothing_that_steers_them(void **state)
{
    (void)state;
    char *text = test_written(write_columns, NULL);
    assert_string_equal(text, "?[31mr|\xc3\xa9  |abc...|abcdef|???x");
    free(text);
}

static void long_texts_pass_the_buffer(void **state)
{
    (void)state;
    struct tp_writer writer;
    struct tp_error error;
    static char text[3 * TP_WRITER_BYTES];
    int ends[2];
    memset(text, 'x', sizeof(text) - 1);
    assert_int_equal(pipe(ends), 0);
    tp_writer_init(&writer, ends[1]);
    tp_write_text(&writer, "ab");
    tp_write_text(&writer, text);
    assert_true(tp_writer_finish(&writer, "pipe", &error));
    close(ends[1]);
    size_t n = 0;
    char buffer[4096];
    ssize_t got;
    while ((got = read(ends[0], buffer, sizeof(buffer))) > 0) n += (size_t)got;
    close(ends[0]);
    assert_int_equal(n, sizeof(text) + 1);
}

static void a_failed_write_is_told_at_the_end(void **state)
{
    (void)state;
    struct tp_writer writer;
    struct tp_error error;
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    tp_writer_init(&writer, fd);
    for (int i = 0; i < 5000; i++) tp_write_text(&writer, "again ");
    assert_false(tp_writer_finish(&writer, "x.json", &error));
    assert_string_equal(error.text, "cannot write x.json: No space left on device");
    close(fd);
}

static void colour_is_never_for_a_file_unless_asked(void **state)
{
    (void)state;
    struct tp_writer writer;
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    tp_writer_init(&writer, fd);
    tp_writer_adorn(&writer, "auto");
    assert_false(writer.colour);
    tp_writer_adorn(&writer, "always");
    assert_true(writer.colour);
    tp_writer_adorn(&writer, "never");
    assert_false(writer.colour);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_stands_in_its_commas),
        cmocka_unit_test(json_strings_are_valid_whatever_the_bytes),
        cmocka_unit_test(only_well_formed_characters_have_a_length),
        cmocka_unit_test(terminals_get_nothing_that_steers_them),
        cmocka_unit_test(long_texts_pass_the_buffer),
        cmocka_unit_test(a_failed_write_is_told_at_the_end),
        cmocka_unit_test(colour_is_never_for_a_file_unless_asked),
    };
    return cmocka_run_group_tests_name("write", tests, NULL, NULL);
}
