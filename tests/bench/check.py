#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""check.py BENCH-LAUNCH BENCH-LATENCY - the instruments of scripts/bench measure right.

Figures that are known beforehand go through ratios, limits, table and chart; the launcher
runs programs whose memory, time and end are known. Nothing here is fast or slow.
"""
import os
import subprocess
import sys
import tempfile
import xml.dom.minidom

sys.dont_write_bytecode = True
# pylint: disable=wrong-import-position
import chart  # noqa: E402
import exact  # noqa: E402
import figures  # noqa: E402
import latency  # noqa: E402
import limits  # noqa: E402
import machine  # noqa: E402
import profilers  # noqa: E402
import readme  # noqa: E402
import runner  # noqa: E402
import workloads  # noqa: E402

FIELDS = ["status", "wall", "user", "system", "peak", "minor", "major", "mean", "end",
          "readings"]


def require(truth, what):
    """Ends the check when something is not as it must be."""
    if not truth:
        sys.exit(f"check: {what}")


def near(value, wanted, what):
    """The same for a figure."""
    require(abs(value - wanted) < 1e-6, f"{what} is {value}, not {wanted}")


def sample(wall, peak, mean):
    """A sample of which only this much matters."""
    return figures.Sample(wall, wall, 0.0, peak, mean, peak, 1000, 50, "")


def table(ours_b=1.0):
    """Two workloads: in a Tidepool takes half of glibc's time, in b `ours_b` of it."""
    return {
        "a": {"glibc": [sample(2, 100, 100), sample(4, 100, 100), sample(2, 100, 100)],
              "mimalloc": [sample(1, 200, 100)] * 3,
              "tidepool-off": [sample(1, 100, 100), sample(2, 100, 100), sample(1, 100, 100)],
              "tidepool": [sample(1, 100, 80), sample(2, 100, 80), sample(1, 100, 80)]},
        "b": {"glibc": [sample(1, 100, 100)] * 3, "mimalloc": [sample(2, 50, 100)] * 3,
              "tidepool-off": [sample(ours_b, 100, 100)] * 3,
              "tidepool": [sample(ours_b, 121, 125)] * 3}}


def check_figures():
    """Ratios are of one round, means geometric, limits say what is short."""
    results = table()
    near(figures.medians(results, "wall", "tidepool")["a"], 0.5, "ratio within a round")
    near(figures.summary(results, "wall", "tidepool"), 0.5 ** 0.5, "mean wall")
    near(figures.summary(results, "mean", "tidepool"), 1, "mean of mean RSS")
    near(figures.summary(results, "peak", "tidepool", "mimalloc"), 1.21 ** 0.5, "mean peak")
    by_text = {limit.text: limit for limit in limits.of_table(results)}
    verdicts = [limits.verdict(limit) for limit in by_text.values()]
    near(by_text["wall time, worst workload, to the best there"].value, 1, "worst to best")
    require(verdicts.count("short") == 2, f"{verdicts}: both of the peak were short")
    slow = {x.text: x for x in limits.of_table(table(ours_b=1.5))}
    require(slow["wall time, worst workload, to glibc"].note == "1 above: b 1.50",
            "what is above is not named")
    require(limits.shortfalls(table(ours_b=1.5)) == {"b": "slower than glibc"},
            "the shortfall of b is not said")


def check_latency():
    """The program prints what is parsed; the limit compares with the fastest."""
    times = {"tidepool": 120.0, "mimalloc": 100.0, "glibc": 300.0, "tidepool-off": 1.0}
    results = {"1": {n: {c: {f: [ns] * 3 for f in latency.FIGURES} for c in latency.CALLS}
                     for n, ns in times.items()}}
    limit, = limits.of_latency(results)
    near(limit.value, 1.2, "the tail to the best")
    require(latency.duration(1234) == "1.23 us", "durations read badly")
    done = subprocess.run([sys.argv[2], "1", "2"], capture_output=True, text=True, check=True)
    for row in latency.parse(done.stdout).values():
        values = [row[figure] for figure in latency.FIGURES]
        require(values == sorted(values) and values[-1] > 0, f"{values} do not rise")


def check_profilers():
    """Added time is the run's less the plain run's; who is not slower adds nothing."""
    results = {"x": {"glibc": [1.0, 2.0], "tidepool": [0.9, 2.0], profilers.EXACT: [1.5, 2.5],
                     "heaptrack": [11.0, 7.0], "libmemusage": [2.0, 4.0]}}
    near(exact.summary(results)["x"], (0.05 + 0.1) / 2, "exact mode to heaptrack")
    near(profilers.share_of(results, "tidepool", "heaptrack")[0], 0, "nothing added")
    whole, each = profilers.share_of(results, profilers.EXACT, "heaptrack")
    near(whole, 0.375 / 6.25, "exact mode as a share of heaptrack")
    near(each["x"], whole, "the share of the only program")
    require(not profilers.share_of(results, "heaptrack", "tidepool")[1],
            "a ratio to nothing was taken")
    require(any("heaptrack" in text for text in profilers.sentences(results)), "no ratio")
    require(profilers.absent(["jemalloc-prof"], profilers.names_of(results)) ==
            ["jemalloc with prof:true: not built in"], "what is missing is not said")


def check_readme():
    """The text goes between the marks only; the chart is well-formed."""
    data = {"machine": ["one", "two", "three"], "share": 1, "table": table(1.5),
            "allocators": ["glibc", "mimalloc", "tidepool-off", "tidepool"]}
    with tempfile.TemporaryDirectory(prefix="tidepool-bench-") as folder:
        path = os.path.join(folder, "README.md")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
        readme.update(folder, data)
        readme.update(folder, data)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        require(text.startswith(f"before\n{readme.BEGIN}\none.") and "old" not in text
                and text.endswith(f"\n{readme.END}\nafter\n"), "README.md is not as it was")
        require("**short**" in text and "slower than glibc" in text, "a limit is not said")
        drawn = xml.dom.minidom.parse(os.path.join(folder, readme.CHART))
    dots = [e for e in drawn.getElementsByTagName("circle") if e.hasAttribute("cx")]
    require(len(dots) >= 10, "dots are missing in the chart")
    require(chart.Panel(0, chart.PANELS[0]).x(1) == chart.PANEL / 2, "1 is not in the middle")


def check_turns():
    """Each takes its turn in each round, in rotation; who fails is left out."""
    seen = []
    runner.take_turns(["a", "b", "c"], 3, 1,
                      lambda item, turn: seen.append((item, turn)) or item != "b")
    require(seen == [("b", 0), ("c", 0), ("a", 0), ("c", 1), ("a", 1), ("a", 2), ("c", 2)],
            f"turns are {seen}")
    known = ["server-1", "server-4", "fan-in-4", "large", "jemalloc", "jemalloc-prof"]
    require(workloads.choose("jemalloc,server", known, "x") ==
            ["server-1", "server-4", "jemalloc"], "choosing is wrong")
    require(machine.parse_cpus("0,2-4") == {0, 2, 3, 4}, "processors are read wrong")


def launch(folder, library, cpus, *command):
    """Runs the launcher; returns its figures by name."""
    cost = os.path.join(folder, "cost")
    subprocess.run([sys.argv[1], cost, "20", library, cpus, *command], check=True)
    with open(cost, encoding="utf-8") as line:
        return dict(zip(FIELDS, map(int, line.read().split()), strict=True))


def check_launch():
    """Memory that is held half of the time is half of the mean; a bad end is told."""
    cpu = str(min(os.sched_getaffinity(0)))
    mib = 1024
    script = ("import sys,time; time.sleep(.2); x = b'x' * (64 << 20); time.sleep(.2); del x;"
              f"time.sleep(.2); import os; sys.exit(os.sched_getaffinity(0) != {{{cpu}}})")
    with tempfile.TemporaryDirectory(prefix="tidepool-bench-") as folder:
        seen = launch(folder, "", cpu, sys.executable, "-c", script)
        require(seen["status"] == 0, f"not bound to processor {cpu}")
        require(seen["wall"] > 6e8 and seen["readings"] > 20, f"too little was seen: {seen}")
        require(seen["peak"] > 64 * mib and seen["end"] < 40 * mib, f"memory is {seen}")
        require(seen["end"] + 4 * mib < seen["mean"] < seen["peak"] - 4 * mib,
                f"the mean is not between: {seen}")
        require(launch(folder, "", "", "/bin/false")["status"] != 0, "an end was missed")


def check_runner():
    """Who fails or answers differently is named and has no figures; the others go on."""
    build_dir = os.path.abspath(os.path.join(os.path.dirname(sys.argv[1]), "..", ".."))
    libc = machine.find_libc()
    allocators = [machine.Allocator("glibc", libc, {}),
                  machine.Allocator("odd", libc, {"ODD": "x"}),
                  machine.Allocator("bad", libc, {"ODD": "exit"})]
    workload = workloads.Workload("w", ["/bin/sh", "-c", '[ "$ODD" = exit ] && exit 3; '
                                        'echo "$ODD"'], threads=2)
    with tempfile.TemporaryDirectory(prefix="tidepool-bench-") as folder:
        turn = runner.Runner(folder, build_dir)
        found, complaints = runner.run_workload(turn, workload, allocators, 2, 0)
    require(list(found) == ["glibc"] and len(found["glibc"]) == 2, f"{found} have figures")
    require(sorted(complaints) == ["w under bad: exit status 3: ",
                                   "w under odd: its output differs from that of the first run"],
            f"complaints are {complaints}")


def main():
    """All of it."""
    if len(sys.argv) != 3:
        sys.exit("usage: check.py BENCH-LAUNCH BENCH-LATENCY")
    for check in (check_figures, check_latency, check_profilers, check_readme, check_turns,
                  check_launch, check_runner):
        check()
    print("check: the instruments are well")


if __name__ == "__main__":
    main()
