/* SPDX-License-Identifier: MIT */
/*
 * human.c - numbers as people read them, the same in every locale.
 *
 * Idea: three or four digits and a unit, all of one width, so that columns line up
 * and an eye can run down them.
 */
#include "report/emit.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

const char *tp_human_count(char out[TP_HUMAN_BYTES], int64_t count)
{
    char plain[24];
    uint64_t size = count < 0 ? 0 - (uint64_t)count : (uint64_t)count;
    int n = snprintf(plain, sizeof(plain), "%llu", (unsigned long long)size);
    char *to = out;
    if (count < 0) *to++ = '-';
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0) *to++ = ',';
        *to++ = plain[i];
    }
    *to = '\0';
    return out;
}

const char *tp_human_size(char out[TP_HUMAN_BYTES], int64_t bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB",
        "EiB" };
    double value = bytes < 0 ? -(double)bytes : (double)bytes;
    size_t unit = 0;
    while (value >= 999.95 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    const char *sign = bytes < 0 ? "-" : "";
    if (unit == 0)
        snprintf(out, TP_HUMAN_BYTES, "%s%.0f %s", sign, value, units[0]);
    else
        snprintf(out, TP_HUMAN_BYTES, "%s%.1f %s", sign, value, units[unit]);
    return out;
}

const char *tp_human_time(char out[TP_HUMAN_BYTES], uint64_t ns)
{
    static const struct {
        double ns;
        const char *name;
    } units[] = { { 1e9, "s" }, { 1e6, "ms" }, { 1e3, "us" } };
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        double value = (double)ns / units[i].ns;
        if (value < 0.9995) continue;
        int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
        snprintf(out, TP_HUMAN_BYTES, "%.*f %s", decimals, value, units[i].name);
        return out;
    }
    snprintf(out, TP_HUMAN_BYTES, "%llu ns", (unsigned long long)ns);
    return out;
}

const char *tp_human_rate(char out[TP_HUMAN_BYTES], double per_second)
{
    static const char *const units[] = { "", "k", "M", "G", "T" };
    size_t unit = 0;
    while (per_second >= 999.5 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        per_second /= 1000;
        unit++;
    }
    int decimals = per_second < 9.95 ? 1 : 0;
    snprintf(out, TP_HUMAN_BYTES, "%.*f%s", decimals, per_second, units[unit]);
    return out;
}

const char *tp_human_date(char out[TP_HUMAN_BYTES], uint64_t unix_ns)
{
    struct tm parts;
    time_t seconds = (time_t)(unix_ns / 1000000000);
    out[0] = '\0';
    if (unix_ns == 0 || !gmtime_r(&seconds, &parts)) return out;
    char head[TP_HUMAN_BYTES];
    if (strftime(head, sizeof(head), "%Y-%m-%dT%H:%M:%S", &parts) == 0) return out;
    snprintf(out, TP_HUMAN_BYTES, "%.24s.%03uZ", head,
        (unsigned)(unix_ns % 1000000000 / 1000000));
    return out;
}

const char *tp_human_age(char out[TP_HUMAN_BYTES], uint64_t ns)
{
    static const struct {
        uint64_t seconds;
        const char *name;
    } units[] = { { 2 * 86400, "d" }, { 2 * 3600, "h" }, { 2 * 60, "min" } };
    uint64_t seconds = ns / 1000000000;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (seconds < units[i].seconds) continue;
        uint64_t count = seconds / (units[i].seconds / 2);
        snprintf(
            out, TP_HUMAN_BYTES, "%llu %s", (unsigned long long)count, units[i].name);
        return out;
    }
    snprintf(out, TP_HUMAN_BYTES, "%llu s", (unsigned long long)seconds);
    return out;
}

struct unit {
    const char *name;
    uint64_t worth;
};

/* A whole number and one of the units, the last of which has no name and ends them. */
static bool parse(uint64_t *out, const char *text, const struct unit *units)
{
    char *end;
    if (!isdigit((unsigned char)*text)) return false;
    errno = 0;
    unsigned long long count = strtoull(text, &end, 10);
    while (units->name[0] && strcasecmp(end, units->name) != 0) units++;
    if (errno || (!units->name[0] && *end)) return false;
    return !__builtin_mul_overflow((uint64_t)count, units->worth, out);
}

bool tp_human_parse_size(uint64_t *out_bytes, const char *text)
{
    static const struct unit units[] = { { "k", 1 << 10 }, { "m", 1 << 20 },
        { "g", 1 << 30 }, { "", 1 } };
    return parse(out_bytes, text, units);
}

bool tp_human_parse_time(uint64_t *out_ns, const char *text)
{
    enum { SECOND = 1000000000 };
    static const struct unit units[] = { { "ms", SECOND / 1000 }, { "s", SECOND },
        { "m", 60ULL * SECOND }, { "h", 3600ULL * SECOND }, { "d", 86400ULL * SECOND },
        { "", SECOND } };
    return parse(out_ns, text, units);
}
