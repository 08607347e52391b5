/* SPDX-License-Identifier: MIT */
/*
 * test_say.c - messages: what they may hold, where they are cut, how they look.
 */
#include "pool/os.h"

#include "tests/unit/tp_test.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

static char out[128];

static void every_conversion_is_understood(void **state)
{
    (void)state;
    size_t n = tp_format(out, sizeof(out), "%s|%c|%u|%lu|%p|%%", "abc", 'x', UINT_MAX,
        ULONG_MAX, (void *)0xdeadbeef);
    assert_string_equal(out, "abc|x|4294967295|18446744073709551615|0xdeadbeef|%");
    assert_int_equal(n, strlen(out));
    tp_format(out, sizeof(out), "%u%p", 0u, (void *)0);
    assert_string_equal(out, "00x0");
}

static void missing_text_is_named(void **state)
{
    (void)state;
    const char *volatile none = NULL;
    tp_format(out, sizeof(out), "<%s>", none);
    assert_string_equal(out, "<(null)>");
}

static void causes_are_given_in_words(void **state)
{
    (void)state;
    static const struct {
        int error;
        const char *words;
    } causes[] = {
        { EACCES, "permission denied" },
        { EPERM, "operation not permitted" },
        { ENOENT, "no such folder" },
        { ENOTDIR, "not a folder" },
        { EEXIST, "already exists" },
        { ENOSPC, "no space left" },
        { EDQUOT, "quota exceeded" },
        { ENOMEM, "out of memory" },
        { EROFS, "read-only file system" },
        { EMFILE, "too many open files" },
        { ENFILE, "too many open files in the system" },
        { EFBIG, "file size limit reached" },
        { EIO, "input/output error" },
        { ENOSYS, "not supported by this kernel" },
        { ELOOP, "a symbolic link stands in the way" },
        { ENAMETOOLONG, "name too long" },
        { EXDEV, "error 18" },
    };
    for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
        tp_format(out, sizeof(out), "%d", causes[i].error);
        assert_string_equal(out, causes[i].words);
    }
}

static void text_is_cut_where_the_buffer_ends(void **state)
{
    (void)state;
    memset(out, '#', sizeof(out));
    assert_int_equal(tp_format(out, 8, "%s%u", "01234", 56789u), 7);
    assert_string_equal(out, "0123456");
    assert_int_equal(out[8], '#');
    assert_int_equal(tp_format(out, 1, "%s", "abc"), 0);
    assert_string_equal(out, "");
}

static void format_keeps_control_characters(void **state)
{
    (void)state;
    tp_format(out, sizeof(out), "%s", "a\tb\n");
    assert_string_equal(out, "a\tb\n");
}

static void say_plainly(const void *argument)
{
    tp_say("cannot write %s: %d", (const char *)argument, ENOSPC);
}

static void message_is_one_line_with_our_name(void **state)
{
    (void)state;
    assert_string_equal(test_words(say_plainly, "x.tide"),
        "tidepool: cannot write x.tide: no space left\n");
}

static void control_characters_are_tamed(void **state)
{
    (void)state;
    assert_string_equal(test_words(say_plainly, "\x1b[31m\n\x7f\t\xc3\xa9"),
        "tidepool: cannot write ?[31m???\xc3\xa9: no space left\n");
}

static void long_message_is_cut_and_still_a_line(void **state)
{
    (void)state;
    char text[2 * TP_SAY_MAX];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    const char *words = test_words(say_plainly, text);
    size_t n = strlen(words);
    assert_int_equal(n, TP_SAY_MAX - 1);
    assert_ptr_equal(strchr(words, '\n'), words + n - 1);
    assert_int_equal(words[n - 2], 'x');
}

static void longest_message_is_not_cut(void **state)
{
    (void)state;
    size_t frame = strlen("tidepool: cannot write : no space left\n");
    char text[TP_SAY_MAX];
    size_t n = TP_SAY_MAX - 1 - frame;
    memset(text, 'x', n);
    text[n] = '\0';
    const char *words = test_words(say_plainly, text);
    assert_int_equal(strlen(words), TP_SAY_MAX - 1);
    assert_string_equal(words + TP_SAY_MAX - 1 - 6, " left\n");
}

static void errno_survives_a_message_that_nobody_reads(void **state)
{
    (void)state;
    int kept = dup(STDERR_FILENO);
    close(STDERR_FILENO);
    errno = EXDEV;
    tp_say("nobody is there");
    int seen = errno;
    dup2(kept, STDERR_FILENO);
    close(kept);
    assert_int_equal(seen, EXDEV);
}

static void die(void *argument)
{
    (void)argument;
    tp_die("double free of %p", (void *)0x1230);
}

static void death_has_last_words(void **state)
{
    (void)state;
    const char *words = test_last_words(die, NULL);
    assert_non_null(words);
    assert_string_equal(words, "tidepool: double free of 0x1230\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_conversion_is_understood),
        cmocka_unit_test(missing_text_is_named),
        cmocka_unit_test(causes_are_given_in_words),
        cmocka_unit_test(text_is_cut_where_the_buffer_ends),
        cmocka_unit_test(format_keeps_control_characters),
        cmocka_unit_test(message_is_one_line_with_our_name),
        cmocka_unit_test(control_characters_are_tamed),
        cmocka_unit_test(long_message_is_cut_and_still_a_line),
        cmocka_unit_test(longest_message_is_not_cut),
        cmocka_unit_test(errno_survives_a_message_that_nobody_reads),
        cmocka_unit_test(death_has_last_words),
    };
    return cmocka_run_group_tests_name("say", tests, NULL, NULL);
}
