/* SPDX-License-Identifier: MIT */
/*
 * options.c - TIDEPOOL=key=value,...: one table, parsed once.
 *
 * A comma inside a value is written "\,". A key that is unknown or a value that does
 * not fit is left at its default and named in one line: the program always runs.
 */
#include "shim/life.h"

#include "pool/os.h"

#include <signal.h>
#include <string.h>

enum kind {
    FLAG,
    SIZE,
    TIME,
    COUNT,
    PATH,
    RATE,
    SIGNAL,
    INTERVAL,
    LIVE,
    SUMMARY,
    UNWIND,
    DEEPBIND
};

struct key {
    const char *name;
    enum kind kind;
    size_t offset;  // of the field in struct tp_options
    const char *fallback;
    uint64_t least;  // bounds of SIZE and COUNT
    uint64_t most;
    const char *help;
};

#define FIELD(field) offsetof(struct tp_options, field)

static const struct key keys[] = {
    { "sample", RATE, FIELD(sample), "512k", 0, 0,
        "mean bytes between samples; off, all" },
    { "out", PATH, FIELD(out), "tidepool.%e.%p.tide", 0, 0,
        "where dumps go: %e program, %p pid, %h host, %n sequence, %t time" },
    { "exit", FLAG, FIELD(exit), "on", 0, 0, "dump at exit" },
    { "signal", SIGNAL, FIELD(signal), "USR1", 0, 0,
        "dump on this signal: USR2, RTMIN+3, a number, off" },
    { "interval", INTERVAL, FIELD(interval_ns), "off", 0, 0,
        "dump every 30s, 5m, or every 1g allocated" },
    { "live", LIVE, FIELD(live), "auto", 0, 0,
        "folder of the live file; off: lost on SIGKILL" },
    { "command", FLAG, FIELD(command), "on", 0, 0,
        "keep the command line, which may hold secrets" },
    { "summary", SUMMARY, FIELD(summary), "off", 0, 0,
        "text summary with each dump: stderr or a path" },
    { "follow", FLAG, FIELD(follow), "on", 0, 0, "children inherit the preload" },
    { "deepbind", DEEPBIND, FIELD(keep_deepbind), "strip", 0, 0,
        "dlopen with RTLD_DEEPBIND: strip, keep" },
    { "depth", COUNT, FIELD(depth), "64", 1, 256, "frames kept per stack" },
    { "unwind", UNWIND, FIELD(unwind), "auto", 0, 0, "auto, fp, dwarf" },
    { "zero", FLAG, FIELD(zero), "off", 0, 0, "clear blocks when they are freed" },
    { "check", FLAG, FIELD(check), "off", 0, 0, "catch every misuse, then abort" },
    { "reserve", SIZE, FIELD(reserve), "auto", 8 << 20, (uint64_t)1 << 46,
        "address space for the pools" },
    { "purge", TIME, FIELD(purge_ns), "1s", 0, 0,
        "how long empty memory is kept; off, 0" },
};
enum { KEYS = sizeof(keys) / sizeof(keys[0]) };

struct tp_options tp_options;

/* ---- values: each parser writes its field and returns true, or does nothing ---- */

static bool is(const char *text, const char *word)
{
    return strcmp(text, word) == 0;
}

/* Digits, then the rest. False without digits or when the number is too large. */
static bool parse_digits(const char *text, uint64_t *out, const char **out_rest)
{
    uint64_t value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (value > (UINT64_MAX - digit) / 10) return false;
        value = value * 10 + digit;
    }
    *out = value;
    *out_rest = at;
    return at > text;
}

static bool multiply(uint64_t value, uint64_t unit, uint64_t *out)
{
    return unit && !__builtin_mul_overflow(value, unit, out);
}

static bool parse_size(const char *text, uint64_t *out)
{
    uint64_t value;
    const char *unit;
    if (!parse_digits(text, &value, &unit)) return false;
    if (!*unit) return multiply(value, 1, out);
    if (unit[1]) return false;
    switch (*unit) {
    case 'k':
    case 'K':
        return multiply(value, 1024, out);
    case 'm':
    case 'M':
        return multiply(value, 1024 * 1024, out);
    case 'g':
    case 'G':
        return multiply(value, 1024 * 1024 * 1024, out);
    default:
        return false;
    }
}

static bool parse_time(const char *text, uint64_t *out_ns)
{
    uint64_t value;
    const char *unit;
    if (!parse_digits(text, &value, &unit)) return false;
    uint64_t second = 1000000000u;
    if (is(unit, "ms")) return multiply(value, second / 1000, out_ns);
    if (is(unit, "s")) return multiply(value, second, out_ns);
    if (is(unit, "m")) return multiply(value, 60 * second, out_ns);
    if (is(unit, "h")) return multiply(value, 3600 * second, out_ns);
    if (!*unit && value == 0) return multiply(0, 1, out_ns);
    return false;
}

static bool parse_flag(const char *text, bool *out)
{
    bool on = is(text, "on") || is(text, "1") || is(text, "yes") || is(text, "true");
    bool off = is(text, "off") || is(text, "0") || is(text, "no") || is(text, "false");
    if (on || off) *out = on;
    return on || off;
}

static bool parse_signal(const char *text, int *out)
{
    static const struct {
        const char *name;
        int number;
    } names[] = { { "off", 0 }, { "USR1", SIGUSR1 }, { "USR2", SIGUSR2 },
        { "HUP", SIGHUP }, { "QUIT", SIGQUIT }, { "ALRM", SIGALRM },
        { "WINCH", SIGWINCH }, { "URG", SIGURG }, { "IO", SIGIO }, { "PWR", SIGPWR },
        { "PROF", SIGPROF }, { "VTALRM", SIGVTALRM } };
    if (strncmp(text, "SIG", 3) == 0) text += 3;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (is(text, names[i].name)) {
            *out = names[i].number;
            return true;
        }

    int base = 0, sign = 1;
    if (strncmp(text, "RTMIN", 5) == 0) base = SIGRTMIN;
    if (strncmp(text, "RTMAX", 5) == 0) base = SIGRTMAX, sign = -1;
    uint64_t number = 0;
    const char *rest = base ? text + 5 : text;
    if (base && *rest && *rest++ != (sign > 0 ? '+' : '-')) return false;
    if ((!base || *rest) && !parse_digits(rest, &number, &rest)) return false;
    if (*rest || number > 64) return false;
    int value = base + sign * (int)number;
    bool good = (!base && value == 0) ||
        (value >= 1 && value <= SIGRTMAX && value != SIGKILL && value != SIGSTOP &&
            (value < 32 || value >= SIGRTMIN) && (!base || value >= SIGRTMIN));
    if (good) *out = value;
    return good;
}

static bool copy_path(const char *text, char *out)
{
    size_t length = strlen(text);
    if (length == 0 || length >= TP_PATH) return false;
    memcpy(out, text, length + 1);
    return true;
}

static bool parse_rate(const char *text, uint64_t *out)
{
    if (is(text, "off")) return multiply(0, 1, out);
    if (is(text, "all")) return multiply(1, TP_SAMPLE_ALL, out);
    uint64_t bytes;
    if (!parse_size(text, &bytes) || bytes == 0 || bytes > (uint64_t)1 << 40)
        return false;
    *out = bytes;
    return true;
}

static bool parse_interval(const char *text, struct tp_options *options)
{
    uint64_t ns = 0, bytes = 0;
    if (!is(text, "off")) {
        // "5m" is minutes: only k and g, and plain digits, can mean bytes.
        bool good = parse_time(text, &ns) || parse_size(text, &bytes);
        if (!good || (!ns && !bytes)) return false;
    }
    options->interval_ns = ns;
    options->interval_bytes = bytes;
    return true;
}

static bool parse_live(const char *text, struct tp_options *options)
{
    if (is(text, "auto"))
        options->live = TP_LIVE_AUTO;
    else if (is(text, "off"))
        options->live = TP_LIVE_OFF;
    else if (copy_path(text, options->live_path))
        options->live = TP_LIVE_PATH;
    else
        return false;
    return true;
}

static bool parse_summary(const char *text, struct tp_options *options)
{
    if (is(text, "off"))
        options->summary = TP_SUMMARY_OFF;
    else if (is(text, "stderr"))
        options->summary = TP_SUMMARY_STDERR;
    else if (copy_path(text, options->summary_path))
        options->summary = TP_SUMMARY_PATH;
    else
        return false;
    return true;
}

static bool parse_unwind(const char *text, enum tp_unwind *out)
{
    if (is(text, "auto"))
        *out = TP_UNWIND_AUTO;
    else if (is(text, "fp"))
        *out = TP_UNWIND_FP;
    else if (is(text, "dwarf"))
        *out = TP_UNWIND_DWARF;
    else
        return false;
    return true;
}

static bool parse_deepbind(const char *text, bool *out_keep)
{
    bool keep = is(text, "keep"), strip = is(text, "strip");
    if (keep || strip) *out_keep = keep;
    return keep || strip;
}

static bool parse_bounded(const struct key *key, const char *text, uint64_t *out)
{
    uint64_t value;
    if (!parse_size(text, &value) || value < key->least || value > key->most)
        return false;
    *out = value;
    return true;
}

static bool parse_value(
    const struct key *key, const char *text, struct tp_options *options)
{
    void *field = (char *)options + key->offset;
    uint64_t value;
    switch (key->kind) {
    case FLAG:
        return parse_flag(text, field);
    case PATH:
        return copy_path(text, field);
    case RATE:
        return parse_rate(text, field);
    case SIGNAL:
        return parse_signal(text, field);
    case INTERVAL:
        return parse_interval(text, options);
    case LIVE:
        return parse_live(text, options);
    case SUMMARY:
        return parse_summary(text, options);
    case UNWIND:
        return parse_unwind(text, field);
    case DEEPBIND:
        return parse_deepbind(text, field);
    case SIZE:
        if (is(text, "auto")) return multiply(0, 1, field);
        return parse_bounded(key, text, field);
    case TIME:
        if (is(text, "off")) return multiply(UINT64_MAX, 1, field);
        return parse_time(text, field);
    case COUNT:
        if (!parse_bounded(key, text, &value)) return false;
        *(uint32_t *)field = (uint32_t)value;
        return true;
    }
    return false;
}

/* ---- the text as a whole ---- */

static const struct key *find_key(const char *name)
{
    for (size_t i = 0; i < KEYS; i++)
        if (is(name, keys[i].name)) return &keys[i];
    return NULL;
}

static void print_help(void)
{
    tp_say("TIDEPOOL=key=value,...");
    for (size_t i = 0; i < KEYS; i++) {
        char pad[32];
        size_t width = strlen(keys[i].name) + strlen(keys[i].fallback);
        size_t n = 0;
        while (width + n < 30) pad[n++] = ' ';
        pad[n] = '\0';
        tp_say("  %s=%s%s  %s", keys[i].name, keys[i].fallback, pad, keys[i].help);
    }
}

/* Copies the next item, without its escapes, and steps over its comma. */
static const char *next_item(const char *text, char *out, size_t size)
{
    size_t n = 0;
    for (; *text && *text != ','; text++) {
        if (text[0] == '\\' && text[1]) text++;
        if (n + 1 < size) out[n++] = *text;
    }
    out[n] = '\0';
    return *text ? text + 1 : text;
}

/* One item; false with the reason appended to `complaint`. */
static bool parse_item(char *item, struct tp_options *out, char *complaint, size_t size)
{
    size_t used = strlen(complaint);
    const char *comma = used ? "; " : "";
    char *value = strchr(item, '=');
    if (value) *value++ = '\0';
    const struct key *key = find_key(item);
    if (!key) {
        tp_format(complaint + used, size - used, "%sunknown key '%s'", comma, item);
        return false;
    }
    if (value && parse_value(key, value, out)) return true;
    tp_format(complaint + used, size - used, "%sbad value '%s' for %s, using %s", comma,
        value ? value : "", key->name, key->fallback);
    return false;
}

void tp_options_parse(const char *text, struct tp_options *out)
{
    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < KEYS; i++) parse_value(&keys[i], keys[i].fallback, out);
    if (!text) return;
    char complaint[TP_SAY_MAX - 64] = "";
    while (*text) {
        char item[TP_PATH + 32];
        text = next_item(text, item, sizeof(item));
        if (is(item, "help"))
            print_help();
        else if (item[0])
            parse_item(item, out, complaint, sizeof(complaint));
    }
    if (complaint[0]) tp_say("TIDEPOOL: %s", complaint);
}

static void make_absolute(char *path, const char *folder)
{
    char whole[TP_PATH];
    if (path[0] == '/' || !path[0]) return;
    bool root = folder[0] == '/' && !folder[1];
    size_t length =
        tp_format(whole, sizeof(whole), "%s%s%s", folder, root ? "" : "/", path);
    memcpy(path, whole, length + 1);
}

void tp_options_resolve(struct tp_options *options, const char *folder)
{
    if (!folder[0]) return;
    make_absolute(options->out, folder);
    make_absolute(options->live_path, folder);
    make_absolute(options->summary_path, folder);
}
