# SPDX-License-Identifier: MIT
"""What counting every block with its call stack costs: sample=all against heaptrack.

A figure is the time that is added to the plain run on glibc, as a ratio of the two,
within one round; profilers.py runs the programs. The limit is for the worst program and
for the geometric mean of all.
"""
import statistics

import figures
import profilers

LIMIT = 0.1


def ratios(times):
    """Returns what ours adds to what heaptrack adds, in each round."""
    return [(ours - plain) / (theirs - plain) for plain, ours, theirs in
            zip(*(times.get(name, []) for name in ("glibc", profilers.EXACT, "heaptrack")))
            if theirs > plain]


def summary(results):
    """Returns {program: median ratio}. A program that is not slower at all counts as a
    thousandth, so that there is a geometric mean."""
    found = {name: ratios(times) for name, times in results.items()}
    return {name: max(statistics.median(r), 0.001) for name, r in found.items() if r}


def limits(results):
    """Returns (text, value, limit, note) for the worst program and for the mean."""
    found = summary(results)
    if not found:
        return []
    worst = max(found, key=found.get)
    return [("exact mode, geometric mean, added to heaptrack's",
             figures.geometric_mean(found.values()), LIMIT, f"{len(found)} programs"),
            ("exact mode, worst program, added to heaptrack's", found[worst], LIMIT, worst)]


def print_table(results):
    """Prints a row for each program."""
    print("\nexact mode: time added to glibc's, as a ratio to what heaptrack adds")
    print(f"{'':12}{'threads':>8}{'plain s':>9}{'tidepool s':>12}{'heaptrack s':>13}"
          f"{'ratio':>9}   lowest-highest")
    for name, times in results.items():
        found = ratios(times)
        if not found:
            print(f"{name:12}  no figure: a way failed, or heaptrack added nothing")
            continue
        plain, ours, theirs = (statistics.median(times[way])
                               for way in ("glibc", profilers.EXACT, "heaptrack"))
        print(f"{name:12}{profilers.WORKLOADS.get(name, 1):8}{plain:9.2f}{ours:12.2f}"
              f"{theirs:13.2f}{statistics.median(found):9.3f}   "
              f"{min(found):.3f}-{max(found):.3f}")
