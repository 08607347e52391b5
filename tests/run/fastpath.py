#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fastpath.py - malloc and free of small sizes cost at most 26 instructions each.

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


def main():
    if platform.machine() != "x86_64":
        tidepool.skip("single-step markers exist for x86-64 only")
    program = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "fastpath")
    library = tidepool.from_environment("TIDEPOOL_LIBRARY")
    with tidepool.Place() as place:
        env = place.environment(preload=False, TIDEPOOL=f"out={place.out}/%p.tide")
        done = tidepool.run([program, library], env, timeout=100)
    if done.status == tidepool.SKIP:
        tidepool.skip("this system forbids ptrace")
    require(done.status == 0, f"counting failed: {done.status} {done.stderr.decode()}")
    counts = collections.defaultdict(collections.Counter)
    for line in done.stdout.decode().splitlines():
        name, size, count = line.split()
        counts[name, int(size)][int(count)] += 1
    print(f"{'call':12} {'mode':>4}  instructions x calls")
    worst = 0
    for (name, size), row in sorted(counts.items()):
        mode = row.most_common(1)[0][0]
        worst = max(worst, mode)
        print(f"{name + ' ' + str(size):12} {mode:4}  " +
              " ".join(f"{count}x{n}" for count, n in sorted(row.items())[:12]))
    require(len(counts) == 24 and min(min(r) for r in counts.values()) > 0,
            "nothing was counted")
    require(worst <= BUDGET, f"{worst} instructions are more than {BUDGET}")


if __name__ == "__main__":
    tidepool.main(main)
