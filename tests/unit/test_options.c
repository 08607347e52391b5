/* SPDX-License-Identifier: MIT */
/*
 * test_options.c - every key, every bound, and what is said of the rest.
 */
#include "shim/life.h"

#include "tests/unit/tp_test.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static struct tp_options options;

static void parse(const void *text)
{
    tp_options_parse(text, &options);
}

/* Parses and returns what was complained about. */
static const char *complaint(const char *text)
{
    return test_words(parse, text);
}

static void assert_good(const char *text)
{
    const char *words = complaint(text);
    if (*words) fail_msg("TIDEPOOL=%s: %s", text, words);
}

static void defaults_hold_without_a_text(void **state)
{
    (void)state;
    memset(&options, 0x5a, sizeof(options));
    assert_string_equal(complaint(NULL), "");
    assert_int_equal(options.sample, 512 * 1024);
    assert_string_equal(options.out, "tidepool.%e.%p.tide");
    assert_true(options.exit);
    assert_int_equal(options.signal, SIGUSR1);
    assert_int_equal(options.interval_ns, 0);
    assert_int_equal(options.interval_bytes, 0);
    assert_int_equal(options.live, TP_LIVE_AUTO);
    assert_string_equal(options.live_path, "");
    assert_int_equal(options.summary, TP_SUMMARY_OFF);
    assert_true(options.follow);
    assert_int_equal(options.depth, 64);
    assert_int_equal(options.unwind, TP_UNWIND_AUTO);
    assert_false(options.zero || options.check);
    assert_int_equal(options.reserve, 0);
    assert_int_equal(options.purge_ns, 1000000000);
}

static void empty_text_means_the_defaults(void **state)
{
    (void)state;
    struct tp_options defaults;
    parse(NULL);
    defaults = options;
    static const char *const texts[] = { "", ",", ",,,," };
    for (int i = 0; i < 3; i++) {
        assert_good(texts[i]);
        assert_memory_equal(&options, &defaults, sizeof(options));
    }
}

static void numbers_are_read_with_their_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t field;
        uint64_t value;
    } rows[] = {
#define ROW(text, field, value) { text, offsetof(struct tp_options, field), value }
        ROW("sample=1", sample, 1),  // a mean distance, as any other number
        ROW("sample=all", sample, TP_SAMPLE_ALL),
        ROW("sample=off", sample, 0),
        ROW("sample=1023", sample, 1023),
        ROW("sample=4k", sample, 4096),
        ROW("sample=3M", sample, 3 << 20),
        ROW("sample=1g", sample, 1 << 30),
        ROW("sample=1024G", sample, (uint64_t)1 << 40),
        ROW("interval=500ms", interval_ns, 500000000),
        ROW("interval=30s", interval_ns, 30000000000),
        ROW("interval=5m", interval_ns, 300000000000),
        ROW("interval=2h", interval_ns, 7200000000000),
        ROW("interval=1g", interval_bytes, 1 << 30),
        ROW("interval=64k", interval_bytes, 65536),
        ROW("interval=1000", interval_bytes, 1000),
        ROW("interval=5m,interval=off", interval_ns, 0),
        ROW("interval=1g,interval=5m", interval_bytes, 0),
        ROW("reserve=8m", reserve, 8 << 20),
        ROW("reserve=65536g", reserve, (uint64_t)1 << 46),
        ROW("reserve=1g,reserve=auto", reserve, 0),
        ROW("purge=off", purge_ns, UINT64_MAX),
        ROW("purge=0", purge_ns, 0),
        ROW("purge=0s", purge_ns, 0),
        ROW("purge=10ms", purge_ns, 10000000),
#undef ROW
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t value;
        assert_good(rows[i].text);
        memcpy(&value, (char *)&options + rows[i].field, sizeof(value));
        if (value != rows[i].value) fail_msg("%s gives %lu", rows[i].text, value);
    }
    assert_good("depth=1");
    assert_int_equal(options.depth, 1);
    assert_good("depth=256");
    assert_int_equal(options.depth, 256);
}

static void deepbind_is_kept_or_stripped(void **state)
{
    (void)state;
    assert_good("");
    assert_false(options.keep_deepbind);
    assert_good("deepbind=keep");
    assert_true(options.keep_deepbind);
    assert_good("deepbind=keep,deepbind=strip");
    assert_false(options.keep_deepbind);
}

static void flags_have_four_spellings(void **state)
{
    (void)state;
    static const char *const on[] = { "check=on", "check=1", "check=yes",
        "check=true" };
    static const char *const off[] = { "exit=off", "exit=0", "exit=no", "exit=false" };
    for (int i = 0; i < 4; i++) {
        assert_good(on[i]);
        assert_true(options.check && options.exit);
        assert_good(off[i]);
        assert_false(options.check || options.exit);
    }
    assert_good("zero=on,follow=off");
    assert_true(options.zero);
    assert_false(options.follow);
}

static void signals_have_names_and_numbers(void **state)
{
    (void)state;
    const struct {
        const char *text;
        int number;
    } rows[] = {
        { "signal=off", 0 },
        { "signal=0", 0 },
        { "signal=USR1", SIGUSR1 },
        { "signal=SIGUSR2", SIGUSR2 },
        { "signal=HUP", SIGHUP },
        { "signal=QUIT", SIGQUIT },
        { "signal=ALRM", SIGALRM },
        { "signal=WINCH", SIGWINCH },
        { "signal=URG", SIGURG },
        { "signal=IO", SIGIO },
        { "signal=PWR", SIGPWR },
        { "signal=PROF", SIGPROF },
        { "signal=VTALRM", SIGVTALRM },
        { "signal=12", 12 },
        { "signal=RTMIN", SIGRTMIN },
        { "signal=RTMIN+3", SIGRTMIN + 3 },
        { "signal=SIGRTMIN+3", SIGRTMIN + 3 },
        { "signal=RTMAX", SIGRTMAX },
        { "signal=RTMAX-2", SIGRTMAX - 2 },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_good(rows[i].text);
        if (options.signal != rows[i].number) fail_msg("%s", rows[i].text);
    }
}

static void words_choose_or_are_paths(void **state)
{
    (void)state;
    assert_good("live=off,summary=stderr,unwind=fp");
    assert_int_equal(options.live, TP_LIVE_OFF);
    assert_int_equal(options.summary, TP_SUMMARY_STDERR);
    assert_int_equal(options.unwind, TP_UNWIND_FP);
    assert_good("live=/run/x,summary=s.txt,unwind=dwarf,out=a.tide");
    assert_int_equal(options.live, TP_LIVE_PATH);
    assert_string_equal(options.live_path, "/run/x");
    assert_int_equal(options.summary, TP_SUMMARY_PATH);
    assert_string_equal(options.summary_path, "s.txt");
    assert_int_equal(options.unwind, TP_UNWIND_DWARF);
    assert_string_equal(options.out, "a.tide");
    assert_good("live=auto,summary=off,unwind=auto");
    assert_int_equal(options.live, TP_LIVE_AUTO);
}

static void value_out_of_bounds_leaves_the_default(void **state)
{
    (void)state;
    static const char *const texts[] = { "sample=0", "sample=-1", "sample=1025g",
        "sample=1kb", "sample=k", "sample= 1", "sample=", "sample=99999999999999999999",
        "sample=18446744073709551615g", "exit=maybe", "exit=ON", "exit", "signal=KILL",
        "signal=9", "signal=19", "signal=65", "signal=-1", "signal=SIG",
        "signal=RTMAX+1", "signal=RTMIN-1", "signal=RTMIN+99", "signal=RTMAX-50",
        "signal=usr1", "interval=0", "interval=0s", "interval=5x", "interval=99999999h",
        "depth=0", "depth=257", "depth=1k", "depth=many", "unwind=libunwind",
        "deepbind=on", "zero=2", "reserve=8191k", "reserve=65537g", "reserve=off",
        "purge=1", "purge=1d", "purge=auto", "out=", "live=", "summary=" };
    struct tp_options defaults;
    parse(NULL);
    defaults = options;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const char *words = complaint(texts[i]);
        if (!strstr(words, "tidepool: TIDEPOOL: bad value '"))
            fail_msg("%s is taken", texts[i]);
        if (memcmp(&options, &defaults, sizeof(options)) != 0)
            fail_msg("%s leaves a trace", texts[i]);
    }
}

static void complaint_names_the_key_and_what_is_used(void **state)
{
    (void)state;
    assert_string_equal(complaint("exit=maybe"),
        "tidepool: TIDEPOOL: bad value 'maybe' for exit, using on\n");
    assert_string_equal(
        complaint("colour=red"), "tidepool: TIDEPOOL: unknown key 'colour'\n");
    assert_string_equal(
        complaint("depth"), "tidepool: TIDEPOOL: bad value '' for depth, using 64\n");
    assert_string_equal(complaint("Exit=on,sample=x,=,exit=off"),
        "tidepool: TIDEPOOL: unknown key 'Exit'; bad value 'x' for sample, using 512k; "
        "unknown key ''\n");
    assert_false(options.exit);
}

static void complaint_is_one_tame_line_however_long(void **state)
{
    (void)state;
    assert_string_equal(complaint("exit=\x1b[2J\n"),
        "tidepool: TIDEPOOL: bad value '?[2J?' for exit, using on\n");
    char text[4096];
    for (size_t i = 0; i < sizeof(text) - 1; i++) text[i] = "nonsense,"[i % 9];
    text[sizeof(text) - 1] = '\0';
    const char *words = complaint(text);
    assert_in_range(strlen(words), 256, TP_SAY_MAX - 1);
    assert_ptr_equal(strchr(words, '\n'), words + strlen(words) - 1);
}

static void escaped_comma_belongs_to_the_value(void **state)
{
    (void)state;
    assert_good("out=a\\,b\\\\c,exit=off");
    assert_string_equal(options.out, "a,b\\c");
    assert_false(options.exit);
    assert_good("out=x\\");
    assert_string_equal(options.out, "x\\");
    assert_good("out=a=b");
    assert_string_equal(options.out, "a=b");
}

static void last_word_counts(void **state)
{
    (void)state;
    assert_good("exit=off,sample=1k,exit=on,sample=2k");
    assert_true(options.exit);
    assert_int_equal(options.sample, 2048);
}

static void path_of_the_longest_kind_fits(void **state)
{
    (void)state;
    char text[4 + TP_PATH + 1] = "out=";
    memset(text + 4, 'x', TP_PATH);
    text[4 + TP_PATH - 1] = '\0';
    assert_good(text);
    assert_int_equal(strlen(options.out), TP_PATH - 1);
    text[4 + TP_PATH - 1] = 'x';
    assert_non_null(strstr(complaint(text), "bad value 'xxx"));
    assert_string_equal(options.out, "tidepool.%e.%p.tide");
}

static void nonsense_leaves_everything_in_bounds(void **state)
{
    (void)state;
    static const char *const words[] = { "sample", "out", "exit", "signal", "interval",
        "live", "depth", "reserve", "purge", "=", ",", "\\", "1", "99", "k", "RTMIN+",
        "off", "auto", "\n", "\xff", "SIG", "%", "/", "-" };
    uint64_t seed = 23;
    int kept = dup(STDERR_FILENO), nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, STDERR_FILENO);
    bool good = true;
    for (int i = 0; i < 5000; i++) {
        char text[512] = "";
        for (size_t n = test_below(&seed, 24); n > 0; n--)
            strcat(text, words[test_below(&seed, sizeof(words) / sizeof(words[0]))]);
        parse(text);
        good = good && options.depth >= 1 && options.depth <= 256 &&
            options.signal >= 0 && options.signal <= SIGRTMAX &&
            options.sample <= (uint64_t)1 << 40 && options.out[0] &&
            memchr(options.out, 0, TP_PATH) && memchr(options.live_path, 0, TP_PATH) &&
            memchr(options.summary_path, 0, TP_PATH);
    }
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(nowhere);
    assert_true(good);
}

static void help_is_a_table_of_all_keys(void **state)
{
    (void)state;
    static const char *const heads[] = { "  sample=512k ", "  out=tidepool.%e.%p.tide ",
        "  exit=on ", "  signal=USR1 ", "  interval=off ", "  live=auto ",
        "  command=on ", "  summary=off ", "  follow=on ", "  deepbind=strip ",
        "  depth=64 ", "  unwind=auto ", "  zero=off ", "  check=off ",
        "  reserve=auto ", "  purge=1s " };
    enum { KEYS = sizeof(heads) / sizeof(heads[0]), COLUMN = 33 };
    const char *line = complaint("help");
    const char *first = "tidepool: TIDEPOOL=key=value,...\n";
    assert_memory_equal(line, first, strlen(first));
    line += strlen(first);
    for (int i = 0; i < KEYS; i++) {
        assert_memory_equal(line, "tidepool: ", 10);
        line += 10;
        assert_memory_equal(line, heads[i], strlen(heads[i]));
        size_t length = strcspn(line, "\n");
        assert_true(length > COLUMN && length <= 110);
        assert_int_equal(line[COLUMN + 1], ' ');
        assert_int_not_equal(line[COLUMN + 2], ' ');
        line += length + 1;
    }
    assert_string_equal(line, "");
    assert_int_equal(options.depth, 64);
}

static void relative_paths_are_made_absolute(void **state)
{
    (void)state;
    assert_good("out=a.tide,summary=b.txt,live=c");
    tp_options_resolve(&options, "/some/folder");
    assert_string_equal(options.out, "/some/folder/a.tide");
    assert_string_equal(options.summary_path, "/some/folder/b.txt");
    assert_string_equal(options.live_path, "/some/folder/c");
    tp_options_resolve(&options, "/other");
    assert_string_equal(options.out, "/some/folder/a.tide");

    assert_good("out=a.tide");
    tp_options_resolve(&options, "");
    assert_string_equal(options.out, "a.tide");
    tp_options_resolve(&options, "/");
    assert_string_equal(options.out, "/a.tide");
    assert_string_equal(options.live_path, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_hold_without_a_text),
        cmocka_unit_test(empty_text_means_the_defaults),
        cmocka_unit_test(numbers_are_read_with_their_units),
        cmocka_unit_test(deepbind_is_kept_or_stripped),
        cmocka_unit_test(flags_have_four_spellings),
        cmocka_unit_test(signals_have_names_and_numbers),
        cmocka_unit_test(words_choose_or_are_paths),
        cmocka_unit_test(value_out_of_bounds_leaves_the_default),
        cmocka_unit_test(complaint_names_the_key_and_what_is_used),
        cmocka_unit_test(complaint_is_one_tame_line_however_long),
        cmocka_unit_test(escaped_comma_belongs_to_the_value),
        cmocka_unit_test(last_word_counts),
        cmocka_unit_test(path_of_the_longest_kind_fits),
        cmocka_unit_test(nonsense_leaves_everything_in_bounds),
        cmocka_unit_test(help_is_a_table_of_all_keys),
        cmocka_unit_test(relative_paths_are_made_absolute),
    };
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
