#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kills.py COUNT [SEED] - SIGKILL at random moments of a churn with forks, COUNT times.

Each time storm_churn runs, eight threads and four forked children at work, and is killed
with its whole process group 20 to 200 ms after its threads began. Whatever it left must
be readable, hold the identities within one operation per thread, and be there for every
child that was well under way; `tidepool ls --clean` must leave nothing. The seed is
printed: the same one waits for the same times. Environment as for tests/run.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "run"))
import tidepool  # noqa: E402 (the folder above is not a package)
from tidepool import require  # noqa: E402

CHILDREN = "4"


def churn_and_kill(place, wait):
    """Returns the pid that was killed, and the children that must have left a file."""
    path = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "storm_churn")
    child = subprocess.Popen([path, "60", CHILDREN], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, start_new_session=True,
                             env=place.environment(f"exit=off,live={place.live}"))
    try:
        require(child.stdout.readline() == b"started\n", "the churn did not start")
        time.sleep(wait)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate(timeout=60)
    require(err == b"", f"the churn said: {err.decode()[-400:]}")
    said = [line.split() for line in out.decode().splitlines()]
    there = {int(pid) for word, pid in said if word == "child"}
    return child.pid, there - {int(pid) for word, pid in said if word == "leaves"}


def command(*words):
    done = subprocess.run([tidepool.from_environment("TIDEPOOL_COMMAND"), *words],
                          capture_output=True, timeout=60, check=False)
    require(done.returncode == 0 and done.stderr == b"",
            f"{words[:3]} ended with {done.returncode}: {done.stderr.decode()[-400:]}")
    return done.stdout


def has_ended(pid):
    """No such process any more, or a zombie without further threads."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return True
    return fields[0] in "ZX" and int(fields[17]) <= 1


def wait_for(statement, what):
    """A killed process is there until the kernel has taken it apart."""
    deadline = time.monotonic() + 30
    while not statement():
        require(time.monotonic() < deadline, f"{what} after 30 s")
        time.sleep(0.001)


def clean(place):
    command("ls", "-q", "--clean", place.live)
    return os.listdir(place.live) == []


def read_left(place):
    """The accounts of all live files by pid; each has one, and it is of that process."""
    names = sorted(os.listdir(place.live))
    pids = {int(name.split(".")[1]) for name in names}
    wait_for(lambda: all(has_ended(pid) for pid in pids), "a killed process still runs")
    names = [name for name in names if not name.endswith(".new")]  # killed at its birth
    paths = [os.path.join(place.live, name) for name in names]
    found = json.loads(command("report", "--format", "json", *paths))["recordings"]
    require(sorted(r["process"]["pid"] for r in found) ==
            sorted(int(name.split(".")[1]) for name in names),
            "a file is not the account of the process in its name")
    return {recording["process"]["pid"]: recording for recording in found}


def one(place, wait):
    """One kill; returns how many accounts were left."""
    pid, children = churn_and_kill(place, wait)
    left = read_left(place)
    require(pid in left, "the killed process left no account")
    require(children <= set(left), f"no account of children {children - set(left)}")
    for recording in left.values():
        require(recording["dump"]["reason"] == "killed", "not told as killed")
        tidepool.check(recording)
    require(left[pid]["totals"]["allocations"] > 0 and len(left[pid]["threads"]) >= 9,
            "threads are missing from the account")
    require(all(left[c]["totals"]["allocations"] > 1000 for c in children),
            "a child's account is empty")
    wait_for(lambda: clean(place), f"--clean leaves {os.listdir(place.live)}")
    return len(left)


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 1000003
    print(f"kills: {count}, seed {seed}", flush=True)
    dice = random.Random(seed)
    begin, accounts, failures = time.monotonic(), 0, 0
    for i in range(count):
        wait = dice.uniform(0.02, 0.2)
        with tidepool.Place() as place:
            try:
                accounts += one(place, wait)
            except tidepool.Failure as failure:
                failures += 1
                print(f"kill {i} after {wait * 1000:.1f} ms: {failure}", flush=True)
    print(f"{count} kills left {accounts} accounts; {time.monotonic() - begin:.0f} s")
    require(failures == 0, f"{failures} of {count} kills went wrong")


if __name__ == "__main__":
    tidepool.main(main)
