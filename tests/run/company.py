#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""company.py TEST - in the company of real allocators, sanitizers and tracers.

jemalloc     preloaded before and after us, and used by its own names
sanitizers   programs that insist on being first: `tidepool run` lets them run alone
signal_off   signal=off: the library installs no handler (strace counts)
notes        what `tidepool run` says before it starts a program
"""

import glob
import json
import os
import re
import subprocess
import sys

import tidepool
from tidepool import require

MIX = """
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
int main(void)
{
    void *(*make)(size_t, int) = (void *(*)(size_t, int))dlsym(RTLD_DEFAULT, "mallocx");
    if (!make) return 2;
    for (size_t i = 1; i < 2000; i++) {
        char *p = make(i * 37, 0);
        if (!p) return 3;
        memset(p, 0x5a, i * 37);
        free(p);
        char *q = make(i, 0);
        memset(q, 0x5a, i);
        q = realloc(q, i + 70001);
        for (size_t at = 0; at < i; at++) if (q[at] != 0x5a) return 4;
        free(q);
        free(malloc(i));
    }
    return 7;
}
"""


HIDDEN = """
#include <stdlib.h>
#include <string.h>
static char arena[1 << 20];
static size_t used;
__attribute__((visibility("hidden"))) void *malloc(size_t size)
{
    used = (used + size + 31) & ~(size_t)15;
    return used < sizeof arena ? arena + used - ((size + 15) & ~(size_t)15) : NULL;
}
__attribute__((visibility("hidden"))) void free(void *p)
{
    if (p && ((char *)p < arena || (char *)p >= arena + sizeof arena)) abort();
}
int main(void)
{
    for (int i = 1; i < 100; i++) free(memset(malloc(i), 1, i));
    return strdup("of the C library, and of ours") ? 7 : 1;
}
"""


def scene(name):
    return os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), name)


def compiled(place, text, *options):
    """The program of that source; the test is skipped where it cannot be built."""
    source, out = os.path.join(place.top, "p.c"), os.path.join(place.top, "program")
    with open(source, "w", encoding="utf-8") as file:
        file.write(text)
    done = subprocess.run([tidepool.program("gcc"), "-w", source, "-o", out, *options],
                          capture_output=True, check=False)
    if done.returncode:
        tidepool.skip(f"cannot be built: {options} {done.stderr.decode()[-200:]}")
    return out


def jemalloc():
    found = glob.glob("/usr/lib/*/libjemalloc.so.2") + glob.glob("/usr/lib*/libjemalloc.so.2")
    if not found:
        tidepool.skip("libjemalloc.so.2 is not installed")
    ours = tidepool.from_environment("TIDEPOOL_LIBRARY")
    for order, active in (((found[0], ours), False), ((ours, found[0]), True)):
        with tidepool.Place() as place:
            env = place.environment(LD_PRELOAD=":".join(order))
            done = tidepool.run([scene("prints")], env, place.work)
            require((done.status, done.stdout) == (7, b"sum 25032004\n"),
                    f"{order}: {done.status} {done.stderr}")
            last = tidepool.check_all(place.dumps())[-1]
            coverage = last["coverage"]
            if active:
                require(coverage["allocator"] == "active" and not done.stderr, str(coverage))
                require(last["totals"]["allocations"] > 5003, "nothing was counted")
            else:
                require(coverage["allocator"] == "inert" and
                        coverage["reasons"] == ["other_malloc"], str(coverage))
                require(re.fullmatch(rb"tidepool: malloc of [^\n]+libjemalloc[^\n]+\n",
                                     done.stderr), f"said {done.stderr}")
                require(last["totals"]["allocations"] == 0, "something was counted")
    with tidepool.Place() as place:  # blocks of mallocx() come to our free and realloc
        program = compiled(place, MIX)
        for check in ("off", "on"):
            env = place.environment(f"check={check}", LD_PRELOAD=f"{ours}:{found[0]}")
            done = tidepool.run([program], env, place.work)
            require((done.status, done.stderr) == (7, b""), f"{done.status} {done.stderr}")
        last = tidepool.check_all(place.dumps())[-1]
        require(last["coverage"]["foreign_frees"] == 2 * 1999, str(last["coverage"]))


def sanitizers():
    text = "#include <stdio.h>\n#include <stdlib.h>\n" \
           'int main(void) { char *p = malloc(99); puts(p ? "fine" : "no"); free(p); return 5; }\n'
    command = tidepool.from_environment("TIDEPOOL_COMMAND")
    tried = 0
    for kind, name in (("address", "AddressSanitizer"), ("thread", "ThreadSanitizer")):
        with tidepool.Place() as place:
            program = compiled(place, text, f"-fsanitize={kind}", "-lpthread")
            plain = tidepool.run([program], place.environment(preload=False), place.work)
            if plain.status != 5:
                continue  # not even alone
            tried += 1
            env = place.environment(preload=False)
            env["TIDEPOOL_LIB"] = tidepool.from_environment("TIDEPOOL_LIBRARY")
            done = tidepool.run([command, "run", "-q", program], env, place.work)
            require((done.status, done.stdout) == (5, b"fine\n"),
                    f"{kind}: {done.status} {done.stderr}")
            require(f"may not come before {name}".encode() in done.stderr, str(done.stderr))
    if not tried:
        tidepool.skip("no sanitizer works here")


def signal_off():
    strace = tidepool.program("strace")
    counts = {}
    for option in (None, "signal=off", "signal=USR1"):
        with tidepool.Place() as place:
            log = os.path.join(place.top, "log")
            env = place.environment(option or "", preload=False)
            command = [strace, "-f", "-qq", "-o", log, "-e", "trace=rt_sigaction"]
            if option:
                full = place.environment(option)
                command += ["-E", f"LD_PRELOAD={full['LD_PRELOAD']}",
                            "-E", f"TIDEPOOL={full['TIDEPOOL']}"]
            done = tidepool.run(command + [scene("prints")], env, place.work)
            if done.status != 7:
                tidepool.skip(f"nothing can be traced here: {done.stderr.decode()[-200:]}")
            counts[option] = open(log, encoding="utf-8").read().count("rt_sigaction(")
    print("calls of rt_sigaction:", counts)
    require(counts["signal=off"] == counts[None], f"signal=off is not off: {counts}")
    require(counts["signal=USR1"] > counts[None], f"nothing is counted: {counts}")


def notes():
    """On real programs: their own malloc is told, nothing is said of others."""
    command = tidepool.from_environment("TIDEPOOL_COMMAND")
    for name, words in (("own_malloc", "it has an allocator of its own"),
                        ("own_malloc_no_pie", "it has an allocator of its own"),
                        ("partial_malloc_2", "it has an allocator of its own"),
                        ("known_one_no_pie", None), ("prints", None)):
        with tidepool.Place() as place:
            env = place.environment(preload=False)
            env["TIDEPOOL_LIB"] = tidepool.from_environment("TIDEPOOL_LIBRARY")
            out = os.path.join(place.out, "x.tide")
            done = tidepool.run([command, "run", "-q", "-o", out, scene(name)], env, place.work)
            first = done.stderr.decode().split("\n")[0]
            wanted = f"tidepool: {name} will not be covered: {words}" if words else ""
            require(first == wanted, f"{name}: said {first!r}, not {wanted!r}")
            state = json.loads(subprocess.run([command, "report", "--format", "json", out],
                                              capture_output=True, check=True).stdout)
            allocator = state["recordings"][0]["coverage"]["allocator"]
            require((allocator == "inert") == bool(words), f"{name}: {allocator}")
    with tidepool.Place() as place:  # an allocator that nothing can replace
        program = compiled(place, HIDDEN, "-fno-builtin")
        env = place.environment(preload=False)
        env["TIDEPOOL_LIB"] = tidepool.from_environment("TIDEPOOL_LIBRARY")
        done = tidepool.run([command, "run", "-q", program], env, place.work)
        require((done.status, done.stderr.decode()) == (7, "tidepool: program will be covered "
                "in part: it has an allocator of its own inside\n"),
                f"{done.status} {done.stderr}")


if __name__ == "__main__":
    tidepool.main(globals()[sys.argv[1]])
