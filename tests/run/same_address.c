/* SPDX-License-Identifier: MIT */
/*
 * same_address.c - two libraries, one after the other where the first one was.
 *
 * They differ in nothing but the name of their function, so every address that the
 * second one allocates from is one that the first one did. The account knows each block
 * by the library that was there, at exit and after a kill.
 *
 * plain: no
 * let: truth = {('first_tenant', 'main'): 31 * 20, ('second_tenant', 'main'): 37 * 20}
 * case: exact
 * options: sample=all
 * expect: stacks(last) == truth
 * expect: said.same == 39
 * expect: tenants(last) == {'libfirst_tenant.so': 20, 'libsecond_tenant.so': 20}
 * case: sampled
 * options: sample=1
 * expect: set(stacks(last)) == set(truth)
 * expect: tenants(last) == {'libfirst_tenant.so': 20, 'libsecond_tenant.so': 20}
 * case: dwarf
 * options: sample=all,unwind=dwarf
 * expect: stacks(last) == truth
 * case: fp
 * options: sample=all,unwind=fp
 * expect: innermost(stacks(last)) == {'first_tenant': 31 * 20, 'second_tenant': 37 * 20}
 * case: killed
 * options: sample=all
 * arg: killed
 * status: SIGKILL
 * expect: stacks(live) == truth
 * expect: tenants(live) == {'libfirst_tenant.so': 20, 'libsecond_tenant.so': 20}
 * case: still_there
 * options: sample=all
 * arg: still_there
 * expect: stacks(last) == truth
 */
#include "scene.h"

#include <dlfcn.h>
#include <link.h>

enum { ROUNDS = 20 };

static const struct {
    const char *file, *function;
    unsigned blocks;
} tenant[2] = { { "libfirst_tenant.so", "first_tenant", 31 },
    { "libsecond_tenant.so", "second_tenant", 37 } };

int main(int argc, char **argv)
{
    char path[4096];
    uintptr_t before = 0;
    number same = 0;
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 64);
    MUST(n > 0);
    path[n] = 0;
    for (unsigned i = 0; i < 2 * ROUNDS; i++) {
        strcpy(strrchr(path, '/') + 1, tenant[i % 2].file);
        void *library = dlopen(path, RTLD_NOW);
        MUST(library);
        struct link_map *map = library;
        if (map->l_addr == before) same++;
        before = map->l_addr;
        void *(*work)(size_t) =
            (void *(*)(size_t))dlsym(library, tenant[i % 2].function);
        MUST(work);
        for (unsigned k = 0; k < tenant[i % 2].blocks; k++) MUST(work(48 + k));
        if (argc > 1 && !strcmp(argv[1], "still_there") && i == 2 * ROUNDS - 1) break;
        MUST(!dlclose(library));
    }
    say("same", same);
    if (argc > 1 && !strcmp(argv[1], "killed")) kill(getpid(), SIGKILL);
    return 0;
}
