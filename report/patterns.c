/* SPDX-License-Identifier: MIT */
/*
 * patterns.c - the user's regular expressions, as far as they can be had for little.
 *
 * regcomp() of glibc writes repetitions out before it looks at them: three of them
 * within each other, 500 times each, took it a minute and gigabytes.
 */
#include "report/frames.h"

#include <stdlib.h>
#include <string.h>

enum {
    PATTERN_BYTES = 1000,  // of a pattern,
    PATTERN_MOST = 2000,   // and characters of it with its repetitions written out
};

/* The last character of the set [...] that begins here, or of the text. */
static const char *end_of_set(const char *at)
{
    at += at[1] == '^' ? 2 : 1;  // a ] that comes first is one of the set
    const char *end = *at ? strchr(at + 1, ']') : NULL;
    return end ? end : at - (*at == '\0');
}

/*
 * How many single characters the pattern has once its repetitions are written out, as
 * regcomp() of glibc does it: x{2,5} as five, x+ and x{1,} as two. More than `most`: so
 * much is known. What is wrong in it is regcomp()'s to say.
 */
static size_t written_out(const char **at, size_t most)
{
    size_t sum = 0, last = 0;
    for (; **at && **at != ')' && sum <= most; (*at)++) {
        size_t times = 1;
        char *end;
        if (**at == '(') {
            (*at)++;
            sum += last = written_out(at, most);
            if (!**at) break;
            continue;
        }
        if (**at == '+') {
            times = 2;
        } else if (**at == '{') {
            unsigned long low = strtoul(*at + 1, &end, 10), high = low + 1;
            if (*end == ',') high = strtoul(end + 1, &end, 10);
            times = high > low ? high : low + 1;
            while (**at && **at != '}') (*at)++;
            if (!**at) break;
        } else {
            if (**at == '\\' && (*at)[1])
                (*at)++;
            else if (**at == '[')
                *at = end_of_set(*at);
            sum += last = 1;
            continue;
        }
        size_t more = 0;
        bool far = __builtin_mul_overflow(last, times - 1, &more) || more > most;
        last += far ? most : more;
        sum += far ? most + 1 : more;
    }
    return sum;
}

static bool is_moderate(const char *text)
{
    const char *at = text;
    if (strlen(text) > PATTERN_BYTES) return false;
    size_t sum = 0;
    // A ')' that closes nothing is a character like others.
    for (; *at && sum <= PATTERN_MOST; at += *at != '\0')
        sum += written_out(&at, PATTERN_MOST) + 1;
    return sum <= PATTERN_MOST;
}

bool tp_patterns_add(struct tp_patterns *patterns, const char *option, const char *text,
    struct tp_error *error)
{
    if (!is_moderate(text))
        return tp_error_set(error,
            "--%s: '%.40s...' is too long, or repeats too much, for a pattern", option,
            text);
    regex_t *grown =
        realloc(patterns->list, (patterns->n + 1) * sizeof(patterns->list[0]));
    if (!grown) return tp_error_set(error, "out of memory");
    patterns->list = grown;
    regex_t *fresh = &patterns->list[patterns->n];
    int why = regcomp(fresh, text, REG_EXTENDED | REG_NOSUB);
    if (why == 0) {
        patterns->n++;
        return true;
    }
    char words[128];
    regerror(why, fresh, words, sizeof(words));
    return tp_error_set(
        error, "--%s: '%.200s' is no regular expression: %s", option, text, words);
}
