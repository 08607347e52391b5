#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fastpath.py - malloc and free of small sizes cost at most 26 instructions each.

A malloc and a free of a larger block, again and again, cost at most 400 together, on
average. Without samples, and without those calls that find a tick due: under
single-stepping, which takes a thousand times as long, both come with every few blocks.

fastpath.c counts the instructions of every call in a warm steady state. The fast path
is what most calls take: the mode must be within the budget, for each size; the whole
distribution is printed, for the slow paths (a refill, a flush) are part of the truth.
"""

import collections
import os
import platform

import tidepool
from tidepool import require

BUDGET = 26
BUDGET_OF_PAIR = 400
TICKS = 0.07  # of the calls: one in sixteen looks at the clock


def count(program, library, options, *words):
    """Returns {(call, size): Counter of instructions}."""
    with tidepool.Place() as place:
        env = place.environment(preload=False,
                                TIDEPOOL=f"out={place.out}/%p.tide{options}")
        done = tidepool.run([program, library, *words], env, timeout=100)
    if done.status == tidepool.SKIP:
        tidepool.skip("this system forbids ptrace")
    require(done.status == 0, f"counting failed: {done.status} {done.stderr.decode()}")
    counts = collections.defaultdict(collections.Counter)
    for line in done.stdout.decode().splitlines():
        name, size, instructions = line.split()
        counts[name, int(size)][int(instructions)] += 1
    require(counts and min(min(r) for r in counts.values()) > 0, "nothing was counted")
    return counts


def mean_of(row):
    """Returns the mean of a Counter of numbers, but for the highest few."""
    numbers = sorted(row.elements())
    usual = numbers[:len(numbers) - int(TICKS * len(numbers))]
    return sum(usual) / len(usual)


def main():
    if platform.machine() != "x86_64":
        tidepool.skip("single-step markers exist for x86-64 only")
    program = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "fastpath")
    library = tidepool.from_environment("TIDEPOOL_LIBRARY")
    counts = count(program, library, "")
    print(f"{'call':12} {'mode':>4}  instructions x calls")
    worst = 0
    for (name, size), row in sorted(counts.items()):
        mode = row.most_common(1)[0][0]
        worst = max(worst, mode)
        print(f"{name + ' ' + str(size):12} {mode:4}  " +
              " ".join(f"{count}x{n}" for count, n in sorted(row.items())[:12]))
    require(len(counts) == 24, "something was not counted")
    require(worst <= BUDGET, f"{worst} instructions are more than {BUDGET}")

    pairs = count(program, library, ",sample=1G", "pairs")
    require(len(pairs) == 6, "some pairs were not counted")
    for size in sorted({size for _, size in pairs}):
        mean = {name: mean_of(pairs[name, size]) for name in ("malloc", "free")}
        both = mean["malloc"] + mean["free"]
        print(f"pair of {size}: {mean['malloc']:.0f} + {mean['free']:.0f}")
        require(both <= BUDGET_OF_PAIR,
                f"a pair of {size} takes {both:.0f} instructions, more than {BUDGET_OF_PAIR}")


if __name__ == "__main__":
    tidepool.main(main)
