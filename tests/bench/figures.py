# SPDX-License-Identifier: MIT
"""What scripts/bench makes of its samples: ratios, means, tables, CSV.

Results are {workload: {allocator: [sample of each round]}}. A ratio is always taken
between two samples of the same round; everything else is a median or a mean of those.
"""
import collections
import csv
import math
import statistics

# seconds; KiB: the peak, the mean over time, at the end; page faults; how many readings
# the mean was made of; the digest of all output.
Sample = collections.namedtuple(
    "Sample", "wall user system peak mean end faults readings digest")

METRICS = {"wall": ("wall time", "s", lambda s: s.wall),
           "user": ("user time", "s", lambda s: s.user),
           "system": ("system time", "s", lambda s: s.system),
           "cpu": ("user + system time", "s", lambda s: s.user + s.system),
           "faults": ("page faults", "1000", lambda s: s.faults / 1000),
           "peak": ("peak RSS", "MiB", lambda s: s.peak / 1024),
           "mean": ("mean RSS", "MiB", lambda s: s.mean / 1024)}
SPREAD = ("wall", "mean")  # metrics whose table shows lowest and highest
SUMMED_UP = ("wall", "cpu", "faults", "peak", "mean")  # user or system may be near zero
PROCESSES = 400  # that start.c starts, all in all
LEAST = {"user": 0.02, "system": 0.02}  # seconds: a ratio to less says nothing
FEW = 5  # a mean of fewer readings than that is named


def ratios(samples, metric, name, base="glibc"):
    """Returns the ratio in each round, or [] when one of the two has no samples."""
    value = METRICS[metric][2]
    return [value(a) / max(value(b), 1e-9)
            for a, b in zip(samples.get(name, []), samples.get(base, []))]


def medians(results, metric, name, base="glibc"):
    """Returns {workload: median ratio} where both allocators have samples."""
    found = {w: ratios(s, metric, name, base) for w, s in results.items()}
    return {w: statistics.median(r) for w, r in found.items() if r}


def geometric_mean(values):
    """Returns it, or nan when there are none, or one is not positive."""
    values = list(values)
    if not values or min(values) <= 0:
        return math.nan
    return math.exp(sum(map(math.log, values)) / len(values))


def median_of(samples, metric, name):
    """Returns the median of the figure itself, nan without samples."""
    values = list(map(METRICS[metric][2], samples.get(name, [])))
    return statistics.median(values) if values else math.nan


def summary(results, metric, name, base="glibc"):
    """Returns the geometric mean over all workloads of the ratio to the base."""
    return geometric_mean(medians(results, metric, name, base).values())


def short(number):
    """Returns at least three digits of a positive number, in few characters."""
    if math.isnan(number):
        return "-"
    return f"{number:.2f}" if number < 9.995 else f"{number:.{int(number < 99.95)}f}"


def cell_of(samples, metric, name, spread):
    """Returns the text for one allocator and one workload."""
    ratio = ratios(samples, metric, name)
    if not ratio:
        return "failed"
    if median_of(samples, metric, "glibc") < LEAST.get(metric, 0):
        return "-"
    cell = short(statistics.median(ratio))
    return cell + f" ({short(min(ratio))}-{short(max(ratio))})" if spread else cell


def rows_of(results, metric, names, spread):
    """Yields rows of text: workload, the figure of glibc, a ratio for each name."""
    for workload, samples in results.items():
        yield [workload, short(median_of(samples, metric, "glibc")),
               *(cell_of(samples, metric, name, spread) for name in names)]
    if metric in SUMMED_UP:
        yield ["geomean", "", *(short(summary(results, metric, n)) for n in names)]


def print_columns(rows, spread=False):
    """Prints rows of cells, the first to the left, the others in columns."""
    width = max(len(row[0]) for row in rows)
    for row in rows:
        cells = ("  " + cell.ljust(17) if spread else cell.rjust(14) for cell in row[2:])
        print((row[0].ljust(width) + row[1].rjust(8) + "".join(cells)).rstrip())


def print_table(results, metric, names):
    """Prints one metric of all workloads."""
    title, unit, _ = METRICS[metric]
    spread = metric in SPREAD
    print(f"\n{title}: glibc in {unit}, the others as a ratio to it"
          + (" (lowest-highest)" if spread else ""))
    print_columns([["", "glibc", *names], *rows_of(results, metric, names, spread)], spread)


def notes(results, share):
    """Returns sentences about single workloads: rest, start, means of few readings."""
    found = []
    if "sparse" in results:
        ends = {n: statistics.median(s.end for s in runs) / 1024
                for n, runs in results["sparse"].items()}
        found.append("Resident at the end of sparse, after one block in a thousand stayed: "
                     + ", ".join(f"{n} {short(mib)} MiB" for n, mib in ends.items()) + ".")
    if "start" in results:
        n_processes = max(1, PROCESSES * round(100 * share) // 100)
        times = {n: statistics.median(s.wall for s in runs) / n_processes
                 for n, runs in results["start"].items()}
        found.append("A process of start, /bin/true, takes: "
                     + ", ".join(f"{n} {t * 1000:.2f} ms" for n, t in times.items()) + ".")
    readings = {w: min((s.readings for runs in samples.values() for s in runs), default=FEW)
                for w, samples in results.items()}
    few = [f"{w} ({n})" for w, n in readings.items() if n < FEW]
    if few:
        found.append(f"Mean RSS of fewer than {FEW} readings in the shortest run, not to be "
                     f"trusted: {', '.join(few)}.")
    return found


def write_csv(path, results, machine):
    """Writes every sample on a line of its own; the machine stands in comments."""
    with open(path, "w", encoding="utf-8", newline="") as out:
        out.writelines(f"# {line}\n" for line in machine)
        rows = csv.writer(out)
        rows.writerow(["workload", "allocator", "round", "wall_seconds", "user_seconds",
                       "system_seconds", "peak_rss_kib", "mean_rss_kib", "end_rss_kib",
                       "page_faults", "rss_readings"])
        for workload, samples in results.items():
            for name, runs in samples.items():
                for number, run in enumerate(runs, 1):
                    rows.writerow([workload, name, number, f"{run.wall:.6f}",
                                   f"{run.user:.6f}", f"{run.system:.6f}", *run[3:8]])
