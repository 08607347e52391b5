# SPDX-License-Identifier: MIT
"""What Tidepool is held to, and whether it keeps to it: PASS or short, a line for each."""
import collections
import math
import statistics

import exact
import figures
import latency
from machine import PEERS

NAME = "tidepool"
WALL, WALL_PEER = 0.95, 1.00       # geometric mean of wall time: to glibc, to the best peer
WORST, WORST_PEER = 1.03, 1.10     # each workload: to glibc, to the best there
MEMORY = {"mimalloc": 1.00, "glibc": 1.05}  # geometric mean of peak and of mean RSS
TAIL = 1.20                        # p99.99 of malloc: to the best peer
PROFILING = 1.01                   # geometric mean of wall time: to profiling off

Limit = collections.namedtuple("Limit", "text value limit note")


def verdict(limit):
    """PASS or short."""
    return "PASS" if limit.value <= limit.limit else "short"


def best_single_peer(results):
    """Returns the peer with the lowest geometric mean of wall time, None without any."""
    means = {p: figures.summary(results, "wall", p) for p in PEERS}
    means = {p: mean for p, mean in means.items() if not math.isnan(mean)}
    return min(means, key=means.get) if means else None


def to_best(results):
    """Returns {workload: (ratio to the fastest other allocator there, its name)}."""
    found = {}
    for base in ("glibc", *PEERS):
        for workload, ratio in figures.medians(results, "wall", NAME, base).items():
            found[workload] = max(found.get(workload, (0, "")), (ratio, base))
    return found


def above(ratios, limit):
    """Names those above the limit, the worst first."""
    names = [w for w in sorted(ratios, key=ratios.get, reverse=True) if ratios[w] > limit]
    text = ", ".join(f"{w} {figures.short(ratios[w])}" for w in names[:4])
    return f"{len(names)} above: {text}" + (", ..." if names[4:] else "") if names else ""


def of_table(results):
    """Yields the Limits of time and memory over the workloads."""
    wall = figures.medians(results, "wall", NAME)
    if not wall:
        return
    yield Limit("wall time, geometric mean, to glibc",
                figures.geometric_mean(wall.values()), WALL, f"{len(wall)} workloads")
    best = best_single_peer(results)
    if best:
        yield Limit("wall time, geometric mean, to the best peer",
                    figures.summary(results, "wall", NAME, best), WALL_PEER, best)
    yield Limit("wall time, worst workload, to glibc", max(wall.values()), WORST,
                above(wall, WORST) or max(wall, key=wall.get))
    if best:
        ratios = {f"{w} ({peer})": ratio for w, (ratio, peer) in to_best(results).items()}
        yield Limit("wall time, worst workload, to the best there", max(ratios.values()),
                    WORST_PEER, above(ratios, WORST_PEER) or max(ratios, key=ratios.get))
    for metric in ("peak", "mean"):
        for base, limit in MEMORY.items():
            ratios = figures.medians(results, metric, NAME, base)
            if ratios:
                worst = max(ratios, key=ratios.get)
                yield Limit(f"{metric} RSS, geometric mean, to {base}",
                            figures.geometric_mean(ratios.values()), limit,
                            f"worst {figures.short(ratios[worst])}, {worst}")
    off = figures.medians(results, "wall", NAME, "tidepool-off")
    if off:
        yield Limit("wall time, geometric mean, profiling on to off",
                    figures.geometric_mean(off.values()), PROFILING, "")


def of_latency(results):
    """Yields the Limits of the slowest calls."""
    for threads in results:
        best = latency.best_peer(results, threads, "p99.99", ("glibc", *PEERS))
        ours = latency.medians(results, threads, "malloc", "p99.99").get(NAME)
        if best and ours:
            count = "1 thread" if threads == "1" else f"{threads} threads"
            yield Limit(f"p99.99 of malloc, {count}, to the best", ours / max(best[1], 1e-9),
                        TAIL, f"{latency.duration(ours)}, {best[0]} "
                        f"{latency.duration(best[1])}")


def of_all(data):
    """Returns the Limits of everything that was measured."""
    found = [*of_table(data.get("table", {})), *of_latency(data.get("latency", {}))]
    return found + [Limit(*row) for row in exact.limits(data.get("profilers", {}))]


def print_all(found):
    """Prints a line for each; returns whether all are kept."""
    if found:
        print("\nTidepool, profiling on:")
    for limit in found:
        print(f"  {verdict(limit):5} {limit.text:49}{limit.value:7.3f} <= {limit.limit:.2f}  "
              f"{limit.note}".rstrip())
    return all(verdict(limit) == "PASS" for limit in found)


def shortfalls(results):
    """Returns {workload: what it falls short of}, for the last column of a table."""
    found = {}
    peers = to_best(results)
    for workload, samples in results.items():
        ratio = figures.ratios(samples, "wall", NAME)
        words = []
        if ratio and statistics.median(ratio) > WORST:
            words.append("slower than glibc" + (", within the spread" if min(ratio) <= 1
                                                else ""))
        if workload in peers and peers[workload][0] > WORST_PEER and \
                peers[workload][1] != "glibc":
            words.append(f"{figures.short(peers[workload][0])} of {peers[workload][1]}")
        if words:
            found[workload] = "; ".join(words)
    return found
