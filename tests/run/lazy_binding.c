/* SPDX-License-Identifier: MIT */
/*
 * lazy_binding.c - blocks taken on the way from a PLT entry to the function.
 *
 * The plugin's first call finds out where to go, which runs a function of the plugin's
 * that allocates. Between that one and the caller lie the loader's frames, one of which
 * keeps its CFA in rbx, and the PLT's, which is described by an expression.
 *
 * plain: no
 * case: auto
 * options: sample=all
 * expect: stacks(last) == {('choose', 'lazy_work', 'main'): 17,
 *         ('take_plainly', 'lazy_work', 'main'): 2}
 * expect: last.sampling.stacks_failed == 0
 * case: dwarf
 * options: sample=all,unwind=dwarf
 * expect: stacks(last) == {('choose', 'lazy_work', 'main'): 17,
 *         ('take_plainly', 'lazy_work', 'main'): 2}
 * case: sampled
 * options: sample=1
 * expect: set(stacks(last)) == {('choose', 'lazy_work', 'main'),
 *         ('take_plainly', 'lazy_work', 'main')}
 * expect: last.sampling.stacks_failed == 0
 * case: fp
 * options: sample=all,unwind=fp
 * expect: innermost(stacks(last)) == {'choose': 17, 'take_plainly': 2}
 */
#include "scene.h"

#include <dlfcn.h>

int main(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 64);
    MUST(n > 0);
    path[n] = 0;
    strcpy(strrchr(path, '/') + 1, "liblazy_plug.so");
    void *plug = dlopen(path, RTLD_LAZY);
    MUST(plug);
    void *(*work)(size_t) = (void *(*)(size_t))dlsym(plug, "lazy_work");
    MUST(work && work(100) && work(2000));
    return 0;
}
