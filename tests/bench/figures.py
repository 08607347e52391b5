# SPDX-License-Identifier: MIT
"""What scripts/bench makes of its samples: ratios, tables, limits, CSV.

Results are {workload: {allocator: [sample of each round]}}. A ratio is always taken
between two samples of the same round; everything else is a median or a mean of those.
"""
import csv
import math
import statistics

METRICS = {"wall": ("wall time", "s", lambda s: s.wall),
           "cpu": ("user + system time", "s", lambda s: s.user + s.system),
           "rss": ("peak RSS", "MiB", lambda s: s.rss / 1024),
           "faults": ("minor faults", "1000", lambda s: s.faults / 1000)}


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
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def short(number):
    """Returns at least three digits of a positive number, in few characters."""
    if math.isnan(number):
        return "-"
    return f"{number:.2f}" if number < 9.995 else f"{number:.{int(number < 99.95)}f}"


def rows_of(results, metric, names, spread):
    """Yields rows of text: workload, the figure of glibc, a ratio for each name."""
    for workload, samples in results.items():
        base = samples.get("glibc")
        row = [workload, short(statistics.median(map(METRICS[metric][2], base)))
               if base else "-"]
        for name in names:
            ratio = ratios(samples, metric, name)
            cell = short(statistics.median(ratio)) if ratio else "failed"
            if ratio and spread:
                cell += f" {short(min(ratio))}-{short(max(ratio))}"
            row.append(cell)
        yield row
    means = [geometric_mean(medians(results, metric, n).values()) for n in names]
    yield ["geomean", ""] + [short(mean) for mean in means]


def print_table(results, metric, names, spread):
    title, unit, _ = METRICS[metric]
    print(f"\n{title}: glibc in {unit}, the others as a ratio to it"
          + (" (median lowest-highest)" if spread else ""))
    for row in [["", "glibc", *names], *rows_of(results, metric, names, spread)]:
        cells = ("  " + cell.ljust(14) if spread else cell.rjust(13) for cell in row[2:])
        print((row[0].ljust(10) + row[1].rjust(7) + "".join(cells)).rstrip())


def print_markdown(results, names, machine):
    """Prints what README.md shows: the machine, and tables of time and of memory."""
    print(*(line + "  " for line in machine), sep="\n")
    for metric in ("wall", "rss"):
        title, unit, _ = METRICS[metric]
        spread = metric == "wall"
        print(f"\n| {title} | glibc, {unit} | " + " | ".join(names) + " |")
        print("|---|" + "--:|" * (1 + len(names)))
        for row in rows_of(results, metric, names, spread):
            bold = "**" if row[0] == "geomean" else ""
            print("| " + " | ".join(f"{bold}{c}{bold}" if c else "" for c in row) + " |")


def judge(results):
    """Prints how Tidepool stands against its limits; returns whether it keeps them."""
    wall, rss = medians(results, "wall", "tidepool"), medians(results, "rss", "tidepool")
    if not wall:
        return True
    mimalloc = medians(results, "wall", "tidepool", "mimalloc")
    off = medians(results, "wall", "tidepool", "tidepool-off")
    worst, heaviest = max(wall, key=wall.get), max(rss, key=rss.get)
    limits = [("wall time, geometric mean, to glibc", geometric_mean(wall.values()),
               1.00, ""),
              ("wall time, worst workload, to glibc", wall[worst], 1.10, worst),
              ("peak RSS, geometric mean, to glibc", geometric_mean(rss.values()), 1.15,
               f"worst {short(rss[heaviest])}, {heaviest}")]
    if mimalloc:
        limits.insert(1, ("wall time, geometric mean, to mimalloc",
                          geometric_mean(mimalloc.values()), 1.05,
                          f"worst {short(max(mimalloc.values()))}, "
                          f"{max(mimalloc, key=mimalloc.get)}"))
    print("\nTidepool, profiling on:")
    for text, value, limit, note in limits:
        verdict = "PASS " if value <= limit else "short"
        print(f"  {verdict} {text:40} {value:6.3f} <= {limit:.2f}  {note}")
    if off:
        print(f"        {'wall time, geometric mean, to profiling off':40} "
              f"{geometric_mean(off.values()):.3f}")
    return all(value <= limit for _, value, limit, _ in limits)


def write_csv(path, results, machine):
    """Writes every sample on a line of its own; the machine stands in comments."""
    with open(path, "w", encoding="utf-8", newline="") as out:
        out.writelines(f"# {line}\n" for line in machine)
        rows = csv.writer(out)
        rows.writerow(["workload", "allocator", "round", "wall_seconds", "user_seconds",
                       "system_seconds", "peak_rss_kib", "minor_faults"])
        for workload, samples in results.items():
            for name, runs in samples.items():
                for number, run in enumerate(runs, 1):
                    rows.writerow([workload, name, number, f"{run.wall:.6f}",
                                   f"{run.user:.6f}", f"{run.system:.6f}", run.rss,
                                   run.faults])
