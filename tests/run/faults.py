#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""faults.py MODE [STEP] - the n-th system call of the library fails, for n = 1, 2, 3, ...

The scene `faulty` must print what it prints without the library and end as it does; on
stderr there may be lines of ours; what files there are must parse, and their identities
hold. Modes (see fault.c, which makes the calls fail):

  once         the n-th call alone, with the error that fits it: no malloc returns NULL
  interrupted  the same with EINTR, where a call may be cut short
  files        every call from the n-th on, but for those that get memory
  scarce       every call from the n-th on: then the program may get NULL

Every STEP-th n is tried (default: 1, all of them); the first runs, start-up, always are.
"""

import os
import sys

import tidepool
from tidepool import require

MODES = {"once": ("once", "all"), "interrupted": ("once", "all"),
         "files": ("on", "files"), "scarce": ("on", "all")}
SAID = {b"child 353", b"sum 15532"}
STARTING = 12  # calls of which each is tried in any case


class Faults:
    def __init__(self, mode):
        self.mode, self.failed, self.complete = mode, {}, 0
        self.driver = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "fault")
        self.scene = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "faulty")

    def run(self, n):
        """Runs with the n-th call failing; returns the number of calls that there were."""
        with tidepool.Place() as place:
            report = os.path.join(place.top, "report")
            env = place.environment(FAULT_LIBRARY="libtidepool.so")
            env["FAULT_PRELOAD"] = env.pop("LD_PRELOAD")
            if self.mode == "interrupted":
                env["FAULT_EINTR"] = "1"
            command = [self.driver, str(n), *MODES[self.mode], report, self.scene]
            done = tidepool.run(command + (["scarce"] if self.mode == "scarce" else []),
                                env, place.work)
            if done.status == 77:
                tidepool.skip(f"nothing can be traced here: {done.stdout}")
            with open(report, encoding="ascii") as text:
                names, count = text.read().split("\n")[:2]
            where = f"call {n} of {count} ({names[:99]})"
            for name in names.split()[:1]:
                self.failed[name] = self.failed.get(name, 0) + 1
            require((done.status, set(done.stdout.split(b"\n")) - {b""}) == (5, SAID),
                    f"{where}: ended with {done.status}: {done.stdout} {done.stderr}")
            lines = done.stderr.decode().splitlines()
            require(len(lines) <= 6 and all(l.startswith("tidepool: cannot ") for l in lines
                                            if "no address space" not in l),
                    f"{where}: stderr is {done.stderr}")
            self.check_files(place, where)
            return int(count)

    def check_files(self, place, where):
        try:
            paths = [os.path.join(place.live, name) for name in os.listdir(place.live)]
            left = [tidepool.read(path)[0] for path in paths if not is_stillborn(path, where)]
            for recording in left + place.dumps():
                if recording["dump"]["complete"]:
                    tidepool.check(recording)
                    self.complete += 1
        except tidepool.Failure as failure:
            raise tidepool.Failure(f"{where}: {failure}") from None


def is_stillborn(path, where):
    """True for a file that could neither be filled nor removed."""
    with open(path, "rb") as file:
        return "unlink" in where and file.read(8) != b"TIDEPOOL"


def main():
    mode, step = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    faults = Faults(mode)
    n, runs, failures = 1, 0, 0
    while True:
        try:
            if n > faults.run(n):
                break
        except tidepool.Failure as failure:
            failures += 1
            print(f"FAILED: {failure}", flush=True)
        runs += 1
        n += 1 if n < STARTING else step
    print(f"{mode}: {runs} runs, {faults.complete} accounts hold; the call that failed:",
          ", ".join(f"{k} {v}" for k, v in sorted(faults.failed.items())))
    require(runs > STARTING and len(faults.failed) >= 7, "hardly anything was tried")
    require(not failures, f"{failures} of {runs} runs failed")


if __name__ == "__main__":
    tidepool.main(main)
