# SPDX-License-Identifier: MIT
"""How many instructions calls take: a figure that does not depend on the machine's mood.

Two ways. Single-stepping (tests/run/fastpath.c) counts each call of Tidepool on its own,
in the library alone; tests hold it to limits. Callgrind counts whole runs of pairs.c
under every allocator: the instructions in user mode of a pair of malloc and free in the
steady state. What the kernel does for a call is not in either.
"""
import collections
import os
import re
import subprocess

import figures
import machine

SIZES = [16, 64, 1000, 8000, 40 << 10, 200 << 10, 1 << 20]
QUICK_SIZES = [64, 40 << 10]
PAIRS = 40000  # enough that the samples of a profiler, taken at random, even out


def label(size):
    """The size as people write it."""
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} B"


def single_step(build_dir, library):
    """Returns {call and size: [least, most frequent, mean, most]}; {} where it cannot be
    done. The counting program prints `call size count` for each call."""
    program = os.path.join(build_dir, "tests", "run", "fastpath")
    if not os.path.exists(program):
        return {}
    counts = collections.defaultdict(list)
    for line in machine.capture(program, library, env={"TIDEPOOL": "exit=off"}).splitlines():
        words = line.split()
        if len(words) == 3 and words[1].isdigit() and words[2].isdigit():
            counts[f"{words[0]} {words[1]}"].append(int(words[2]))
    return {call: [min(n), collections.Counter(n).most_common(1)[0][0],
                   round(sum(n) / len(n), 1), max(n)] for call, n in counts.items()}


def collected(program, size, pairs, allocator, folder):
    """Returns how many instructions one run took; None when valgrind failed."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "LD_PRELOAD": allocator.library}
    for name, value in allocator.settings.items():
        env[name] = value.replace("@OUT@", folder)
    try:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program,
             str(size), str(pairs)], env=env, cwd=folder, capture_output=True, text=True,
            timeout=machine.TIMEOUT, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    total = re.search(r"Collected : (\d+)", done.stderr)
    return int(total[1]) if total and done.returncode == 0 else None


def per_pair(program, size, allocator, folder):
    """Returns the instructions of one pair, loop included; None when it failed."""
    once = collected(program, size, PAIRS, allocator, folder)
    twice = collected(program, size, 2 * PAIRS, allocator, folder)
    return None if once is None or twice is None else (twice - once) / PAIRS


def measure(build_dir, allocators, folder, quick, progress):
    """Returns {"step": single_step(), "pairs": {size: {allocator: instructions}}}."""
    ours = next((a.library for a in allocators if a.name == "tidepool"), None)
    results = {"step": single_step(build_dir, ours) if ours else {}, "pairs": {}}
    if not machine.package_version("valgrind"):
        return results
    program = os.path.join(build_dir, "tests", "bench", "bench-pairs")
    loop = per_pair(program, 0, allocators[0], folder) or 0
    for size in QUICK_SIZES if quick else SIZES:
        row = {}
        for allocator in allocators:
            progress(f"instructions of {label(size)} under {allocator.name}")
            count = per_pair(program, size, allocator, folder)
            if count is not None:
                row[allocator.name] = round(count - loop, 1)
        results["pairs"][label(size)] = row
    progress("")
    return results


def names_of(results):
    """The allocators that were counted, in order."""
    return list(dict.fromkeys(n for row in results["pairs"].values() for n in row))


def rows_of(results):
    """Yields rows of text: the size, instructions of a pair under each allocator."""
    for size, row in results["pairs"].items():
        yield [size, *(f"{row[n]:.0f}" if n in row else "failed" for n in names_of(results))]


def print_tables(results):
    """Prints both counts."""
    if results["step"]:
        print("\ninstructions of single calls of Tidepool: least, most frequent, mean, most")
        for call, row in results["step"].items():
            print(f"{call:16}" + "".join(f"{count:10g}" for count in row))
    else:
        print("\ninstructions of single calls: this system forbids ptrace, or not x86-64")
    if results["pairs"]:
        print("\ninstructions of a pair of malloc and free, user mode (callgrind)")
        figures.print_columns([["", *names_of(results)], *rows_of(results)])
    else:
        print("\ninstructions of a pair: valgrind is not installed")
