/* SPDX-License-Identifier: MIT */
/*
 * emit.c - the table of formats.
 */
#include "report/emit.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "report/export.h"

static const struct tp_emitter emitters[] = {
    { "text", "txt", "a page to read", .write = tp_text_write },
    { "json", "json", "all there is, for programs", .write = tp_json_write },
    { "pprof", "pb.gz pprof pprof.gz", "profile.proto, for go tool pprof",
        TP_PACKING_GZIP, .write_sites = tp_pprof_write },
    { "folded", "folded", "a line a stack, for flame graphs",
        .write_sites = tp_folded_write },
    { "speedscope", "speedscope.json", "for speedscope.app",
        .write_sites = tp_speedscope_write },
    { "heap", "heap", "for jeprof and google-pprof", .write_sites = tp_heap_write },
    { "csv", "csv", "a row a place, for spreadsheets", .write_sites = tp_csv_write },
    { "heaptrack", "heaptrack", "for heaptrack, of recordings with sample=all",
        .write_sites = tp_heaptrack_write, .accepts = tp_heaptrack_accepts },
};

enum { N_EMITTERS = sizeof(emitters) / sizeof(emitters[0]) };

const struct tp_emitter *tp_emitter_find(const char *name)
{
    for (size_t i = 0; i < N_EMITTERS; i++)
        if (strcmp(emitters[i].name, name) == 0) return &emitters[i];
    return NULL;
}

/* Bytes of the longest of these words that the name ends in, after a dot; 0: of none. */
static size_t match(const char *words, const char *name, size_t n_name)
{
    size_t best = 0;
    while (*words) {
        size_t n = strcspn(words, " ");
        if (n > best && n_name > n && name[n_name - n - 1] == '.' &&
            memcmp(name + n_name - n, words, n) == 0)
            best = n;
        words += n + (words[n] == ' ');
    }
    return best;
}

static const struct tp_emitter *match_all(const char *name, size_t n_name, bool packed)
{
    const struct tp_emitter *best = NULL;
    size_t most = 0;
    for (size_t i = 0; i < N_EMITTERS; i++) {
        size_t n = match(emitters[i].extensions, name, n_name);
        if (n <= most || (packed && emitters[i].packing)) continue;
        best = &emitters[i];
        most = n;
    }
    return best;
}

const struct tp_emitter *tp_emitter_for_path(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    const struct tp_emitter *found = match_all(name, strlen(name), false);
    return found ? found : match_all(name, tp_packing_stem(name), true);
}

enum tp_packing tp_emitter_packing(const struct tp_emitter *emitter, const char *path)
{
    return emitter->packing || !path ? emitter->packing : tp_packing_of(path);
}

const char *tp_emitter_names(char out[TP_EMITTER_NAMES])
{
    size_t n = 0;
    for (size_t i = 0; i < N_EMITTERS && n < TP_EMITTER_NAMES; i++) {
        const char *between = i == 0 ? "" : i + 1 < N_EMITTERS ? ", " : " or ";
        n += (size_t)snprintf(
            out + n, TP_EMITTER_NAMES - n, "%s%s", between, emitters[i].name);
    }
    return out;
}

const struct tp_emitter *tp_emitter_at(size_t i)
{
    return i < N_EMITTERS ? &emitters[i] : NULL;
}

void tp_emitter_write(const struct tp_emitter *emitter, struct tp_writer *writer,
    const struct tp_report *report)
{
    struct tp_export export;
    if (emitter->write) {
        emitter->write(writer, report);
    } else if (tp_export_open(&export, report)) {
        emitter->write_sites(writer, &export);
        tp_export_close(&export);
    } else {
        writer->error = ENOMEM;
    }
}
