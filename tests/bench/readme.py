# SPDX-License-Identifier: MIT
"""Writes what scripts/bench measured into README.md, between its two marks, and the chart.

What falls short of its limit is named in the row of its figure.
"""
import os

import chart
import exact
import figures
import instructions
import latency
import limits
import machine
import profilers

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
CHART = "tests/bench/chart.svg"
WORDS = ("", "short of")


def table(rows, bold=()):
    """Returns a table in Markdown; the first row is the head, `bold` names columns. Words
    stand to the left, below a head that is empty or one of WORDS."""
    head, *rest = rows
    strong = {i for i, name in enumerate(head) if name in bold}

    def line(row):
        cells = (f"**{c}**" if c and (i in strong or row[0] == "geomean") else c
                 for i, c in enumerate(row))
        return "| " + " | ".join(cells) + " |"

    sides = "".join("---|" if name in WORDS else "--:|" for name in head[1:])
    return "\n".join([line(head), "|---|" + sides, *map(line, rest)])


def details(title, body):
    """Returns a part that is folded away."""
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def summary_table(results, names):
    """One row for each metric: the geometric means."""
    rows = [["geometric mean, to glibc", *names]]
    for metric in figures.SUMMED_UP:
        rows.append([figures.METRICS[metric][0],
                     *(figures.short(figures.summary(results, metric, n)) for n in names)])
    return table(rows, ("tidepool",))


def limits_table(found):
    """One row for each limit, with its verdict."""
    rows = [["limit", "measured", "at most", "", ""]]
    for limit in found:
        word = limits.verdict(limit)
        rows.append([limit.text, f"{limit.value:.3f}", f"{limit.limit:.2f}",
                     word if word == "PASS" else "**short**", limit.note])
    return table(rows)


def workloads_table(results, metric, names):
    """One row for each workload; for wall time, what falls short stands at its end."""
    title, unit, _ = figures.METRICS[metric]
    rows = [[title, f"glibc, {unit}", *names]]
    rows += figures.rows_of(results, metric, names, metric == "wall")
    if metric == "wall":
        short = limits.shortfalls(results)
        rows = [rows[0] + ["short of"], *(row + [short.get(row[0], "")] for row in rows[1:])]
    return table(rows, ("tidepool",))


def latency_table(results):
    """One row for each number of threads and allocator: malloc and free side by side."""
    head = ["threads", "", *(f"{c} {f}" for c in latency.CALLS for f in latency.FIGURES)]
    rows = zip(*(latency.rows_of(results, call) for call in latency.CALLS))
    return table([head, *(a + b[2:] for a, b in rows)])


def parts(data):
    """Yields the pieces of the text between the marks."""
    yield "  \n".join(line + "." for line in data["machine"])
    results = data.get("table")
    if results:
        names = [n for n in data["allocators"] if n != "glibc"]
        yield f"![time and memory as ratios to glibc]({CHART})"
        yield summary_table(results, names)
    found = limits.of_all(data)
    if found:
        yield limits_table(found)
    if results:
        yield "\n".join(figures.notes(results, data["share"]))
        for metric in ("wall", "peak", "mean", "faults"):
            yield details(f"Each workload: {figures.METRICS[metric][0]}",
                          workloads_table(results, metric, names))
    if data.get("latency"):
        yield details("Single calls: how long malloc and free take",
                      latency_table(data["latency"]))
    if data.get("profilers"):
        yield from profilers_parts(data["profilers"], data.get("absent", []))
    if data.get("instructions", {}).get("pairs"):
        counted = data["instructions"]
        yield details("Instructions of a pair of malloc and free (callgrind, user mode)",
                      table([["", *instructions.names_of(counted)],
                             *instructions.rows_of(counted)], ("tidepool",)))


def profilers_parts(results, missing):
    """Yields the comparison with other profilers."""
    yield ("Other profilers on the same programs, as wall time added to glibc's; `tidepool, "
           "all` counts every block with its stack, as heaptrack does:")
    yield table([["", "glibc, s", *profilers.names_of(results)], *profilers.rows_of(results)],
                ("tidepool", profilers.EXACT))
    sentences = [*profilers.sentences(results),
                 *(f"Not measured: {text}." for text in missing)]
    yield "\n".join(f"- {text}" for text in sentences)
    ratios = exact.summary(results)
    if ratios:
        yield ("Exact mode against heaptrack, added time: " +
               ", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items()) + ".")


def update(folder, data):
    """Writes README.md and the chart below the folder."""
    path = os.path.join(folder, "README.md")
    try:
        with open(path, encoding="utf-8") as file:
            before, begin, rest = file.read().partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            machine.die(f"{path} has no {BEGIN} with {END} after it")
        text = before + begin + "\n" + "\n\n".join(filter(None, parts(data))) + "\n" + end + after
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        if data.get("table"):
            target = os.path.join(folder, CHART)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "w", encoding="utf-8") as file:
                file.write(chart.draw(data["table"], data["machine"]))
    except OSError as error:
        machine.die(f"cannot write {error.filename}: {error.strerror.lower()}")
