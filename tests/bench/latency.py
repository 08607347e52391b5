# SPDX-License-Identifier: MIT
"""How long single calls take under each allocator, as latency.c times them.

Results are {threads: {allocator: {call: {figure: [nanoseconds of each round]}}}}, the
number of threads as text, for that is what JSON keeps.
"""
import os
import statistics

import runner as running
from workloads import Workload

THREADS = ["1", "2", "4"]
CALLS = ["malloc", "free"]
FIGURES = ["p50", "p99", "p99.99", "max"]


def parse(text):
    """Returns {call: {figure: ns}} of what the program printed; Failure otherwise."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 6 and words[0] in CALLS:
            found[words[0]] = dict(zip(FIGURES, map(float, words[2:])))
    if list(found) != CALLS:
        raise running.Failure("no times were printed")
    return found


def measure_threads(runner, workload, allocators, rounds, shift):
    """Returns {allocator: {call: {figure: [ns]}}} and the complaints."""
    by_name = {a.name: a for a in allocators}
    times = {name: {c: {f: [] for f in FIGURES} for c in CALLS} for name in by_name}
    complaints = []

    def once(name, turn):
        running.progress(f"{workload.name}: round {turn + 1} of {rounds}, {name}")
        try:
            runner.finish(runner.start(workload, by_name[name]), by_name[name])
            for call, row in parse(runner.read("stdout").decode()).items():
                for figure, nanoseconds in row.items():
                    times[name][call][figure].append(nanoseconds)
            return True
        except running.Failure as failure:
            complaints.append(f"{workload.name} under {name}: {failure}")
            del times[name]
            return False

    running.take_turns(list(by_name), rounds, shift, once)
    running.progress("")
    return times, complaints


def measure(runner, build_dir, allocators, rounds, share):
    """Returns the results and the complaints."""
    program = os.path.join(build_dir, "tests", "bench", "bench-latency")
    results, complaints = {}, []
    for shift, threads in enumerate(THREADS):
        workload = Workload("latency-" + threads,
                            [program, str(round(100 * share)), threads], threads=int(threads))
        results[threads], found = measure_threads(runner, workload, allocators, rounds, shift)
        complaints += found
    return results, complaints


def medians(results, threads, call, figure):
    """Returns {allocator: nanoseconds}, the medians over the rounds."""
    return {name: statistics.median(calls[call][figure])
            for name, calls in results.get(threads, {}).items()}


def duration(ns):
    """Returns text with three digits and a unit."""
    for unit, factor in (("ns", 1), ("us", 1e3), ("ms", 1e6)):
        if ns < 999.5 * factor or unit == "ms":
            return f"{ns / factor:.3g} {unit}"
    return ""


def rows_of(results, call, spread=False):
    """Yields rows of text: threads, allocator, one cell for each figure."""
    for threads, allocators in results.items():
        for name, calls in allocators.items():
            row = [threads, name]
            for figure in FIGURES:
                ns = calls[call][figure]
                cell = duration(statistics.median(ns))
                if spread:
                    cell += f" ({duration(min(ns))}-{duration(max(ns))})"
                row.append(cell)
            yield row


def print_tables(results):
    """Prints a table for each of the two calls."""
    for call in CALLS:
        print(f"\nlatency of {call}: threads, allocator, median of the rounds (lowest-highest)")
        for row in [["", "", *FIGURES], *rows_of(results, call, True)]:
            print((row[0].ljust(3) + row[1].ljust(14)
                   + "".join(cell.ljust(30) for cell in row[2:])).rstrip())


def best_peer(results, threads, figure, peers):
    """Returns (name, ns of malloc) of the fastest of the peers, None without any."""
    found = {n: ns for n, ns in medians(results, threads, "malloc", figure).items()
             if n in peers}
    return min(found.items(), key=lambda item: item[1]) if found else None
