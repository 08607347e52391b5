#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""startup.py - a program that does nothing starts and ends within 1 ms of its plain time.

/bin/true with and without the library, in turns, so that both see the same machine. The
times that a tenth of the runs stay below are compared: what else the machine does at
the same moment is not what is asked for.
"""

import os
import statistics
import time

import tidepool
from tidepool import require

ROUNDS, LIMIT_MS = 300, 1.0


def once(env):
    begin = time.perf_counter()
    pid = os.posix_spawn("/bin/true", ["true"], env)
    status = os.waitpid(pid, 0)[1]
    require(status == 0, f"/bin/true ended with {status}")
    return (time.perf_counter() - begin) * 1000


def main():
    with tidepool.Place() as place:
        plain, ours = place.environment(preload=False), place.environment()
        times = [(once(plain), once(ours)) for _ in range(ROUNDS)]
        for name in os.listdir(place.out)[50:]:  # checking some is enough
            os.unlink(os.path.join(place.out, name))
        tidepool.check_all(place.dumps(), 50)
    for name, part in (("median", 5), ("tenth", 1)):
        without, with_it = (statistics.quantiles([t[i] for t in times], n=10)[part - 1]
                            for i in (0, 1))
        print(f"/bin/true, {name}: {without:.3f} ms, under Tidepool {with_it:.3f} ms")
    require(with_it - without <= LIMIT_MS,
            f"{with_it - without:.3f} ms more than without, {LIMIT_MS} are allowed")


if __name__ == "__main__":
    tidepool.main(main)
