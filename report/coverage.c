/* SPDX-License-Identifier: MIT */
/*
 * coverage.c - what the account does not see, in plain words.
 *
 * Idea: one sentence for each thing that is so, and not a word where nothing is. That
 * another allocator serves the program, and that foreign blocks were freed, is among
 * the hints (hints.c): there it comes first.
 */
#include "report/emit.h"
#include "report/model.h"

#include <stdio.h>
#include <string.h>

/* Writes a row like those of the totals; only the first has a name. */
static void write_row(struct tp_writer *w, bool *first, const char *sentence)
{
    tp_write_format(w, "  %-12s%s\n", *first ? "Coverage" : "", sentence);
    *first = false;
}

static void write_count(
    struct tp_writer *w, bool *first, uint64_t n, const char *one, const char *several)
{
    char text[TP_HUMAN_BYTES];
    char sentence[160];
    tp_human_count(text, (int64_t)(n & INT64_MAX));
    snprintf(sentence, sizeof(sentence), "%s %s", text, n == 1 ? one : several);
    if (n) write_row(w, first, sentence);
}

void tp_coverage_write(struct tp_writer *w, const struct tp_profile *profile)
{
    static const struct {
        const char *reason;
        const char *sentence;
    } sentences[] = {
        { "no_range",
            "No address space for the pools: every block is counted as large." },
        { "no_live_file",
            "The account was in anonymous memory: SIGKILL would have lost it." },
        { "sandboxed",
            "It gave up system calls: no dump was written, this is its live file." },
        { "deepbind_kept",
            "A library was opened with RTLD_DEEPBIND: its blocks are not counted." },
    };
    bool first = true;
    for (size_t i = 0; i < profile->n_coverage_reasons; i++)
        for (size_t k = 0; k < sizeof(sentences) / sizeof(sentences[0]); k++)
            if (strcmp(profile->coverage_reasons[i], sentences[k].reason) == 0)
                write_row(w, &first, sentences[k].sentence);
    write_count(w, &first, profile->deepbind_stripped,
        "library was opened without the RTLD_DEEPBIND that was asked for.",
        "libraries were opened without the RTLD_DEEPBIND that was asked for.");
    write_count(w, &first, profile->namespaces,
        "namespace of dlmopen has a heap of its own, which is not counted.",
        "namespaces of dlmopen have heaps of their own, which are not counted.");
}
