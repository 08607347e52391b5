/* SPDX-License-Identifier: MIT */
/*
 * auditor.c - a library for LD_AUDIT: allocates at every library and every binding.
 *
 * Built as libauditor.so, not as a scene. It lives in a namespace and a heap of its
 * own, before anything of the program runs.
 */
#include <link.h>
#include <stdlib.h>
#include <string.h>

unsigned la_version(unsigned version)
{
    free(strdup("of the auditor"));
    return version < LAV_CURRENT ? version : LAV_CURRENT;
}

unsigned la_objopen(struct link_map *map, Lmid_t space, uintptr_t *cookie)
{
    (void)space;
    *cookie = (uintptr_t)strdup(map->l_name);
    return 0;
}

unsigned la_objclose(uintptr_t *cookie)
{
    free((void *)*cookie);
    return 0;
}

char *la_objsearch(const char *name, uintptr_t *cookie, unsigned flag)
{
    (void)cookie;
    (void)flag;
    free(malloc(strlen(name) + 100));
    return (char *)(uintptr_t)name;
}
