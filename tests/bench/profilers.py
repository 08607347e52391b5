# SPDX-License-Identifier: MIT
"""What profiling costs, beside other profilers on the same programs.

Everything runs the way users do it: `heaptrack PROGRAM` with its compressed file, libc's
libmemusage and Tidepool by LD_PRELOAD, jemalloc with prof:true and a profile at the end.
No program is bound to a processor here, for heaptrack works in two processes.

Added time is the run's less that of the plain run on glibc, within one round. Results
are {workload: {way: [seconds of each round]}}.
"""
import collections
import math
import os
import shutil
import statistics
import subprocess
import tempfile
import time

import figures
import machine
import runner as running

# Programs, and how many threads each has.
WORKLOADS = {"strings": 1, "random": 1, "tree": 1, "server-4": 4, "py-malloc": 1,
             "sqlite3": 1}
SHARE, QUICK_SHARE = 0.1, 0.02  # of the whole workload: heaptrack takes its time
ROUNDS = 3  # at most
EXACT = "tidepool, all"  # every block with its stack, as heaptrack
LIMIT = 900  # seconds
NOTICED = 0.02  # of the plain run: what adds less is not compared

Way = collections.namedtuple("Way", "name prefix env", defaults=([], {}))


def preload(library, name=None, value=None):
    """The environment of a preloaded library with one setting."""
    return {"LD_PRELOAD": library, **({name: value} if name else {})}


def ways(allocators, only_exact=False):
    """Returns the Ways that can be had here, the plain one first; @OUT@ in a setting is
    the folder for what is written."""
    library = {a.name: a.library for a in allocators}
    found = [Way("glibc")]
    if "tidepool" in library:
        found.append(Way(EXACT, env=preload(library["tidepool"], "TIDEPOOL",
                                            "sample=all,out=@OUT@/%p.tide")))
    if shutil.which("heaptrack"):
        found.append(Way("heaptrack", ["heaptrack", "-o", "@OUT@/heaptrack"]))
    if only_exact:
        return found
    memusage = machine.find_library("libmemusage.so")
    if memusage:
        found.append(Way("libmemusage", env=preload(memusage)))
    for name in ("tidepool", "tidepool-off", "jemalloc", machine.PROFILING):
        if name in library:
            settings = next(a.settings for a in allocators if a.name == name)
            found.append(Way(name, env={**preload(library[name]), **settings}))
    return found


def absent(asked, names):
    """Says which profilers could not be measured, of the allocators asked for and of those
    that are no allocators; names are the ways that there are."""
    reasons = {"heaptrack": "heaptrack is not installed",
               "libmemusage": "libmemusage.so is not installed",
               machine.PROFILING: "jemalloc with prof:true: not built in"}
    wanted = {"heaptrack", "libmemusage", *asked}
    return [text for name, text in reasons.items() if name in wanted and name not in names]


def seconds(way, workload, folder):
    """Runs a program once. OSError or SubprocessError when that failed."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": folder, "LC_ALL": "C.UTF-8",
           "PYTHONHASHSEED": "0", **workload.env}
    env.update({k: v.replace("@OUT@", folder) for k, v in way.env.items()})
    prefix = [word.replace("@OUT@", folder) for word in way.prefix]
    with open(workload.stdin or os.devnull, "rb") as source:
        begin = time.monotonic()
        subprocess.run([*prefix, *workload.command], env=env, cwd=folder, stdin=source,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       timeout=LIMIT, check=True)
        return time.monotonic() - begin


def measure_program(workload, chosen, rounds, shift):
    """Returns {way: [seconds of each round]} and the complaints; a run in advance warms
    up."""
    by_name = {way.name: way for way in chosen}
    times, complaints = {name: [] for name in by_name}, []

    def once(name, turn):
        running.progress(f"profilers, {workload.name}: round {turn + 1} of {rounds}, {name}")
        try:
            with tempfile.TemporaryDirectory(prefix="tidepool-bench-") as folder:
                times[name].append(seconds(by_name[name], workload, folder))
            return True
        except (OSError, subprocess.SubprocessError) as error:
            complaints.append(f"{workload.name} under {name}: {error}")
            del times[name]
            return False

    if once("glibc", -1):
        times["glibc"].clear()
        running.take_turns(list(by_name), rounds, shift, once)
    running.progress("")
    return times, complaints


def measure(workloads, chosen, rounds):
    """Returns the results and the complaints."""
    results, complaints = {}, []
    for shift, workload in enumerate(workloads):
        results[workload.name], found = measure_program(workload, chosen, rounds, shift)
        complaints += found
    return results, complaints


# ---- what is made of it ----------------------------------------------------------


def added(times, way, base="glibc"):
    """Returns the time that the way adds, as a share of the base run, in each round."""
    return [t / plain - 1 for t, plain in zip(times.get(way, []), times.get(base, []))]


def overhead(results, way, base="glibc"):
    """Returns the geometric mean over the programs of the ratio to the base."""
    found = [statistics.median(a) + 1 for a in (added(t, way, base) for t in results.values())
             if a]
    return figures.geometric_mean(found)


def share_of(results, ours, theirs):
    """Returns (ratio, {program: ratio}): what ours adds to glibc to what theirs adds, all
    programs together and each, by their medians. What is not slower adds nothing. A program
    to which theirs adds less than NOTICED is left out: a ratio to nearly nothing is noise."""
    pairs = {}
    for name, times in results.items():
        found = added(times, ours), added(times, theirs)
        if all(found) and statistics.median(found[1]) >= NOTICED:
            pairs[name] = max(statistics.median(found[0]), 0), statistics.median(found[1])
    if not pairs:
        return math.nan, {}
    sums = [sum(column) for column in zip(*pairs.values())]
    return sums[0] / sums[1], {name: a / b for name, (a, b) in pairs.items()}


def percent(number):
    """Returns a share as text, signed."""
    return f"{number * 100:+.0f} %" if abs(number) < 9.995 else f"x {number + 1:.0f}"


def names_of(results):
    """The ways that were measured, in order, without the plain one."""
    found = dict.fromkeys(name for times in results.values() for name in times)
    return [name for name in found if name != "glibc"]


def rows_of(results):
    """Yields rows of text: program, plain seconds, what each way adds."""
    names = names_of(results)
    for workload, times in results.items():
        cells = [added(times, name) for name in names]
        yield [workload, figures.short(statistics.median(times.get("glibc") or [0])),
               *(percent(statistics.median(cell)) if cell else "failed" for cell in cells)]
    yield ["geomean", "", *(percent(overhead(results, name) - 1) for name in names)]


def sentences(results):
    """Yields what profiling costs each profiler, and how ours stands to the others."""
    names = names_of(results)
    for ours, off in (("tidepool", "tidepool-off"), (machine.PROFILING, "jemalloc")):
        if ours in names and off in names:
            yield (f"{ours} against {off}, the same allocator without profiling: "
                   f"{percent(overhead(results, ours, off) - 1)}.")
    for ours in ("tidepool", EXACT):
        for theirs in ("heaptrack", "libmemusage", machine.PROFILING):
            if ours in names and theirs in names:
                whole, each = share_of(results, ours, theirs)
                if not each:
                    yield f"{theirs} adds too little here for a ratio to {ours}."
                    continue
                worst = max(each, key=each.get)
                yield (f"Added by {ours} as a share of what {theirs} adds: {whole:.3f} over "
                       f"{len(each)} of {len(results)} programs, at worst {each[worst]:.3f} "
                       f"({worst}).")


def print_tables(results, missing):
    """Prints the table, the ratios, and what is missing, as absent() tells it."""
    print("\nprofilers: wall time added to that of the plain run on glibc (s)")
    figures.print_columns([["", "glibc", *names_of(results)], *rows_of(results)])
    print(*sentences(results), sep="\n")
    for text in missing:
        print(f"not measured: {text}")
