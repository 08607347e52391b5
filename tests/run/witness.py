#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""witness.py memusage - glibc's own libmemusage.so and the account must agree.

The same program runs once under each. memusage counts calls of malloc, calloc, realloc
and free; it counts free(NULL) too, which frees no block and is not in the account, so
the program makes none. Both start before main and end with the process; the library
itself must not be the cause of a single call.
"""

import glob
import os
import re

import tidepool
from tidepool import require

# "malloc|  8001  20090123  0": calls, bytes, failed calls
ROW = r"\b{}\|\s+(\d+)\s+(\d+)\s+(\d+)"


def memusage(program, library, place):
    env = place.environment(preload=False, LD_PRELOAD=library)
    done = tidepool.run([program], env)
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr.decode())
    counts = {}
    for name in ("malloc", "calloc", "realloc"):
        found = re.search(ROW.format(name), text)
        require(found, f"memusage says nothing of {name}: {text[:2000]}")
        counts[name] = int(found[1])
    found = re.search(r"\bfree\|\s+(\d+)\s+(\d+)", text)
    counts["free"] = int(found[1])
    heap = re.search(r"heap total: (\d+), heap peak: (\d+)", text)
    return counts, [int(n) for n in heap.groups()], done


def main():
    libraries = glob.glob("/usr/lib/*/libmemusage.so") + glob.glob("/lib*/libmemusage.so")
    if not libraries:
        tidepool.skip("libmemusage.so is not installed")
    program = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "witness_work")
    with tidepool.Place() as place:
        theirs, heap, other = memusage(program, libraries[0], place)
        done = tidepool.run([program], place.environment())
        require((done.status, done.stdout) == (other.status, other.stdout),
                "the program itself differs")
        require(theirs["realloc"] > 10000, f"the table was not understood: {theirs}")
        recording = tidepool.check_all(place.dumps())[-1]
        ours = {name: recording["calls"][name] for name in theirs}
        print(f"memusage: {theirs}, heap total {heap[0]}\ntidepool: {ours}")
        require(ours == theirs, f"memusage counts {theirs}, the account says {ours}")


if __name__ == "__main__":
    tidepool.main(main)
