/* SPDX-License-Identifier: MIT */
/*
 * emit.c - the table of formats.
 */
#include "report/emit.h"

#include <stddef.h>
#include <string.h>

static const struct tp_emitter emitters[] = {
    { "text", "txt", tp_text_write },
    { "json", "json", tp_json_write },
};

enum { N_EMITTERS = sizeof(emitters) / sizeof(emitters[0]) };

const struct tp_emitter *tp_emitter_find(const char *name)
{
    for (size_t i = 0; i < N_EMITTERS; i++)
        if (strcmp(emitters[i].name, name) == 0) return &emitters[i];
    return NULL;
}

const struct tp_emitter *tp_emitter_for_path(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *dot = strrchr(slash ? slash : path, '.');
    for (size_t i = 0; dot && i < N_EMITTERS; i++)
        if (strcmp(emitters[i].extension, dot + 1) == 0) return &emitters[i];
    return NULL;
}
