#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""build.py [COMPILATIONS [ROUNDS]] - what `tidepool run` costs a build of small files.

Each round builds the same files with `make -j2`, first plainly and then under `tidepool
run -q`. Printed are the times, by the clock and of the processors, and their ratios, the
size of the recording, the most that stood in the folder in memory, and how long the
report takes. Nobody may be missing; a ratio is never judged. Environment as for tests/run.
"""

import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "run"))
import tidepool  # noqa: E402 (the folder above is not a package)
import tree  # noqa: E402
from tidepool import require  # noqa: E402

FUNCTIONS = 8  # in a source file


def write_sources(folder, n):
    for i in range(n):
        with open(os.path.join(folder, f"f{i}.c"), "w", encoding="ascii") as source:
            source.write("#include <stdio.h>\n#include <stdlib.h>\n")
            for k in range(FUNCTIONS):
                source.write(f"int g{i}_{k}(int n) {{ int s = 0; for (int i = 0; i < n; "
                             f"i++) s += i * {k}; printf(\"%d\", s); return s; }}\n")
    with open(os.path.join(folder, "Makefile"), "w", encoding="ascii") as rules:
        rules.write("all: " + " ".join(f"f{i}.o" for i in range(n)) +
                    "\nclean:\n\t@rm -f *.o\n%.o: %.c\n\t@gcc -c -O1 -o $@ $<\n")


def folder_bytes(pid):
    """What the folder of this run holds now, live files apart: (bytes, files)."""
    for folder in tree.folders():
        if tree.run_text(folder).get("pid") != str(pid):
            continue
        sizes = []
        for path in tree.recordings_in(folder):
            try:
                sizes.append(os.path.getsize(path))
            except OSError:
                pass  # taken meanwhile
        return sum(sizes), len(sizes)
    return 0, 0


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def build(folder, *before):
    """Seconds of one build, those of the processors, and the most that its folder held."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    env["TIDEPOOL_LIB"] = tidepool.from_environment("TIDEPOOL_LIBRARY")
    subprocess.run(["make", "-s", "-C", folder, "clean"], env=env, check=True)
    most, begin, used = (0, 0), time.monotonic(), cpu_seconds()
    child = subprocess.Popen([*before, "make", "-s", "-j2", "-C", folder], env=env)
    while child.poll() is None:
        if before:
            most = max(most, folder_bytes(child.pid))
        time.sleep(0.25 if before else 0.05)
    seconds = time.monotonic() - begin
    require(child.returncode == 0, f"make ended with {child.returncode}")
    return seconds, cpu_seconds() - used, most


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    for name in ("make", "gcc"):
        tidepool.program(name)
    command = tidepool.from_environment("TIDEPOOL_COMMAND")
    ratios = []
    with tempfile.TemporaryDirectory(prefix="tidepool-build-") as folder:
        write_sources(folder, n)
        out = os.path.join(folder, "x.tide")
        for _ in range(rounds):
            plain, plain_cpu, _ = build(folder)
            under, under_cpu, most = build(folder, command, "run", "-q", "-o", out)
            ratios.append((under / plain, under_cpu / plain_cpu))
            begin = time.monotonic()
            text = subprocess.run([command, "report", out], capture_output=True, check=True)
            reading = time.monotonic() - begin
            size = os.path.getsize(out)
            processes = int(re.search(r"Processes\s+([\d,]+)", text.stdout.decode())[1]
                            .replace(",", ""))
            print(f"{n} compilations: plain {plain:.2f} s, tidepool run {under:.2f} s, "
                  f"ratio {under / plain:.3f}; of the processors {plain_cpu:.2f} s, "
                  f"{under_cpu:.2f} s, ratio {under_cpu / plain_cpu:.3f}; {processes} "
                  f"processes in {size / 1e6:.1f} MB, at most {most[1]} dumps "
                  f"({most[0] / 1e6:.2f} MB) in memory; report {reading:.2f} s and "
                  f"{text.stdout.count(10)} lines", flush=True)
            require(processes >= 3 * n, "processes are missing")
            os.unlink(out)
        medians = [statistics.median(column) for column in zip(*ratios)]
        print(f"median ratios of {rounds}: {medians[0]:.3f} by the clock, "
              f"{medians[1]:.3f} of the processors")


if __name__ == "__main__":
    tidepool.main(main)
