#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""sites.py CASE - who allocates: every figure of a known program, site by site.

  sites_exact      sample=all: counts, bytes, live, temporary and the peak are the truth
  sites_eight      sample=all, eight threads: bytes at the peak within 1 % of the truth
  sites_heaptrack  sample=all: allocations, temporary, peak and leaked bytes of every stack are
                   those that heaptrack finds in the same program
  sites_sampled    the default way: sites sum to the exact totals, and hold the truth
  sites_dumps      both ways, dump after dump while eight threads run: sums hold in every one
"""

import collections
import glob
import os
import subprocess
import sys

import tidepool
from tidepool import require

KEPT, PEAK, LATER, BRIEF, THREADS = 101, 1009, 499, 2003, 8
OURS = {"leak", "at_peak", "after_peak", "large", "brief", "grow", "deep", "run_alone",
        "run_eight", "run_mixed", "in_thread", "in_thread_too", "be_one_of_eight", "main"}


def known_sites(place, options, *arguments):
    program = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "known_sites")
    done = tidepool.run([program, *arguments], place.environment(options))
    require(done.status == 0, f"known_sites ended with {done.status}: {done.stderr.decode()}")
    return tidepool.check_all(place.dumps())


def chain(site):
    """The program's own functions of a stack, innermost first."""
    return tuple(f["function"] for f in site["stack"] if f["function"] in OURS)


def by_leaf(recording):
    """{innermost function: sums of the figures} for the sites in the program."""
    found = collections.defaultdict(collections.Counter)
    for site in recording["sites"]:
        names = chain(site)
        if names:
            for key in list(tidepool.FIGURES) + ["samples", "temporary_blocks"]:
                      found[names[0]][key] += site.get(key, 0)
    return found


def expect(found, name, **figures):
    require(name in found, f"no site of {name}: {sorted(found)}")
    for key, truth in figures.items():
        require(found[name][key] == truth,
                      f"{name}: {found[name][key]} {key}, the truth is {truth}")


def exact():
    with tidepool.Place() as place:
        recording = known_sites(place, "sample=all", "alone")[-1]
        tidepool.check_sites(recording)
        require(recording["sampling"]["mode"] == "exact", "the mode is not exact")
        found = by_leaf(recording)
        left = sum(1 for i in range(LATER) if i % 7 == 0)
        expect(found, "leak", allocations=KEPT, live_blocks=KEPT, live_bytes=KEPT * 48,
                     peak_bytes=KEPT * 48, temporary_blocks=0)
        expect(found, "at_peak", allocations=PEAK, live_blocks=0, peak_bytes=PEAK * 1024)
        expect(found, "large", allocations=1, live_blocks=0, peak_bytes=1 << 20)
        expect(found, "after_peak", allocations=LATER, live_blocks=left,
                     live_bytes=left * 512, peak_bytes=0)
        expect(found, "brief", allocations=BRIEF, live_blocks=0, temporary_blocks=BRIEF)
        require(found["brief"]["peak_bytes"] in (0, 96), "temporary blocks at the peak")
        chains = {chain(s) for s in recording["sites"]}
        require(("leak", "run_alone", "main") in chains, f"a stack is not there: {chains}")
        require(("leak", *["deep"] * 6, "run_alone", "main") in chains,
                      f"the stack of the recursion is not there: {chains}")
        requested = sum(site["live_requested_bytes"] for site in recording["sites"])
        require(requested == recording["totals"]["live_requested_bytes"],
                      "live requested bytes do not add up")
        require(recording["sampling"]["stacks_failed"] == 0, "stacks were lost")


def eight():
    with tidepool.Place() as place:
        recording = known_sites(place, "sample=all", "eight")[-1]
        tidepool.check_sites(recording)
        found = by_leaf(recording)
        for name, size in (("in_thread", 512), ("in_thread_too", 256)):
            truth = THREADS * PEAK * size
            said = found[name]["peak_bytes"]
            print(f"{name}: {said} bytes at the peak, in truth {truth}")
            require(abs(said - truth) <= truth / 100, f"{name}: not within 1 %")
            expect(found, name, allocations=THREADS * (PEAK + 2 * (PEAK // 3)), live_blocks=0)


def flame(file, kind):
    """{stack of the program's own functions, innermost first: cost}."""
    out = file + "." + kind
    done = subprocess.run(["heaptrack_print", "-f", file, "--flamegraph-cost-type", kind, "-F", out,
                                 "--disable-embedded-suppressions", "--disable-builtin-suppressions",
                                 "-p0", "-a0", "-T0"], capture_output=True, timeout=60, check=False)
    require(done.returncode == 0, f"heaptrack_print: {done.stderr.decode()}")
    found = collections.Counter()
    with open(out, encoding="utf-8") as lines:
        for line in lines:
            names, cost = line.rsplit(" ", 1)
            # "main (known_sites.c);run_alone (known_sites.c);leak (known_sites.c);"
            functions = [name.split(" ")[0] for name in names.split(";")]
            own = tuple(n for n in reversed(functions) if n in OURS)
            if own and int(cost):
                      found[own] += int(cost)
    return found


def heaptrack():
    tidepool.program("heaptrack")
    with tidepool.Place() as place:
        program = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "known_sites")
        done = tidepool.run(["heaptrack", "-o", place.work + "/h", program, "alone"],
                                  place.environment(preload=False))
        files = glob.glob(place.work + "/h*")
        require(done.status == 0 and files, f"heaptrack left nothing: {done.stderr.decode()}")
        recording = known_sites(place, "sample=all", "alone")[-1]
        for kind, key in (("allocations", "allocations"), ("peak", "peak_bytes"),
                                ("leaked", "live_bytes"), ("temporary", "temporary_blocks")):
            ours = collections.Counter()
            for site in recording["sites"]:
                      if chain(site) and site[key]:
                          ours[chain(site)] += site[key]
            theirs = flame(files[0], kind)
            if kind == "temporary":
                theirs, ours = (collections.Counter({s: n for s, n in found.items() if s[0] != "grow"})
                                for found in (theirs, ours))
            require(theirs, f"heaptrack shows no {kind}")
            print(f"{kind}: {len(theirs)} stacks, {sum(theirs.values())} in all")
            require(ours == theirs, f"{kind}: heaptrack has {theirs - ours} more, "
                          f"we have {ours - theirs} more")


def sampled():
    with tidepool.Place() as place:
        recording = known_sites(place, "sample=4k", "mixed", "200000")[-1]
        tidepool.check_sites(recording)
        require(recording["sampling"]["mode"] == "sampled", "the mode is not sampled")
        require(recording["sampling"]["samples"] > 1000, "hardly any sample")
        truth = {"brief": 200000, "at_peak": 200000, "after_peak": 2000, "large": 200,
                       "leak": 4000}
        found = by_leaf(recording)
        for name in ("at_peak", "large", "brief"):
            said = found[name]["allocations"]
            print(f"{name}: {said} allocations, in truth {truth[name]}")
            require(abs(said - truth[name]) < truth[name] / 5, f"{name} is far off")


def dumps():
    for options in ("sample=all", "sample=4k"):
        with tidepool.Place() as place:
            program = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "known_sites")
            done = tidepool.run([program, "eight"], place.environment(options + ",interval=512k"))
            require(done.status == 0, f"known_sites ended with {done.status}")
            recordings = tidepool.check_all(place.dumps(), at_least=3)
            for recording in recordings:
                      tidepool.check_sites(recording)
            print(f"{options}: sums hold in {len(recordings)} dumps")


if __name__ == "__main__":
    cases = (exact, eight, heaptrack, sampled, dumps)
    tidepool.main({"sites_" + case.__name__: case for case in cases}[sys.argv[1]])
