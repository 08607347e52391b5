/* SPDX-License-Identifier: MIT */
/*
 * human.c - numbers as people read them, the same in every locale.
 *
 * Idea: three or four digits and a unit, all of one width, so that columns line up
 * and an eye can run down them.
 */
#include "report/emit.h"

#include <stdio.h>
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
