#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kills.py COUNT [SEED] - SIGKILL at random moments of a churn with forks, COUNT times.

Each time storm_churn runs, eight threads and four forked children at work, and is killed
with its whole process group 20 to 200 ms after its threads began; three times of four it
samples much more often than usual, every block, or is exact, and so spends more of its
time off the fast path. Whatever it left must
be readable, hold the identities within one operation per thread, and be there for every
child that was well under way; `tidepool ls --clean` must leave nothing. The seed is
printed: the same one waits for the same times. Environment as for tests/run.

The program keeps a book of its own in another mapped file: what it had begun and what it
had done. Each account is that book and what the C library took before the threads began,
which is the same number each time: every kill says between which bounds it lies, and
these must meet.
"""

import collections
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "run"))
import raw  # noqa: E402 (the folder above is not a package)
import tidepool  # noqa: E402 (the folder above is not a package)
from tidepool import require  # noqa: E402

OPTIONS = ("", ",sample=1", ",sample=1k", ",sample=all")
CHILDREN = "4"
THREADS = 8


def churn_and_kill(place, wait, options):
    """Returns the pid that was killed, and the children that must have left a file."""
    path = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "storm_churn")
    child = subprocess.Popen([path, "60", CHILDREN, f"{place.work}/book"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, start_new_session=True,
                             env=place.environment(f"exit=off,live={place.live}{options}"))
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


class Bounds:
    """Where a number lies that is the same each time, by all that was seen of it."""

    def __init__(self, what):
        self.what, self.low, self.high = what, float("-inf"), float("inf")

    def meet(self, low, high):
        require(low <= self.high and high >= self.low, f"{self.what} beyond the book: {low} "
                f"to {high} by this account, {self.low} to {self.high} by those before")
        self.low, self.high = max(self.low, low), min(self.high, high)


class Books:
    """The accounts against the programs' own books."""

    def __init__(self):
        self.taken, self.given = Bounds("allocations"), Bounds("frees")

    def compare(self, path, totals):
        with open(path, "rb") as file:
            rows = [struct.unpack("<4Q32x", file.read(64)) for _ in range(THREADS)]
        taking, taken, giving, given = (sum(column) for column in zip(*rows))
        require(taking - taken <= THREADS and giving - given <= THREADS, f"a book: {rows}")
        self.taken.meet(totals["allocations"] - taking, totals["allocations"] - taken)
        self.given.meet(totals["frees"] - giving, totals["frees"] - given)


def command(*words):
    done = subprocess.run([tidepool.from_environment("TIDEPOOL_COMMAND"), *words],
                          capture_output=True, timeout=60, check=False)
    require(done.returncode == 0 and done.stderr == b"",
            f"{words[:3]} ended with {done.returncode}: {done.stderr.decode()[-400:]}")
    return done.stdout


def check_sites(recording, path):
    """What the file itself has of sites, within one operation of every thread.

    A forked child copies its parent's figures while the parent's threads go on, one
    after another: there only what refers to something is looked at.
    Exact: of each size class the sites have as many blocks taken, and freed, as were
    counted. Sampled: they have every sample, and those not yet freed are on record,
    each with its weight. What the report makes of it sums to the totals.
    """
    file, totals = raw.read(path), recording["totals"]
    tidepool.check_sites(recording)
    require(file.dropped == 0, f"{file.dropped} samples were dropped")
    slack = float("inf") if recording["process"]["forked"] else len(recording["threads"])
    said = f"{recording['process']['pid']}, {recording['sampling']['mode']}, {len(recording['threads'])} threads"
    if recording["sampling"]["mode"] == "exact":
        for side, key in (("taken", "allocations"), ("freed", "frees")):
            counted = collections.Counter()
            for site in file.sites:
                counted[site.size_class] += getattr(site, side).blocks
            away = [abs(row[key] - counted[i] / raw.ONE) for i, row in
                    enumerate(recording["size_classes"])]
            away.append(abs(recording["large"][key] - counted[raw.LARGE] / raw.ONE))
            require(sum(away) <= slack, f"{said}: sites miss {sum(away)} {key} of {totals[key]}")
        return
    taken = sum(site.taken.samples for site in file.sites)
    require(abs(file.samples - taken) <= slack,
            f"{said}: sites have {taken} of {file.samples} samples")
    live = collections.defaultdict(list)
    for sample in file.live:
        live[sample.site].append(sample)
    away = other = 0
    for site in file.sites:
        there = live.pop(site.index, [])
        lacks = abs(site.taken.samples - site.freed.samples - len(there))
        weights = sum(map(raw.weight, there))
        away += lacks
        other += abs(site.taken.blocks - site.freed.blocks - weights) > len(there) + 1
    require(not live, f"{said}: samples of sites that are not there: {live}")
    require(away <= slack, f"{said}: {away} of {len(file.live)} live samples are beside their sites")
    require(other <= slack, f"{said}: {other} sites have other weights than their live samples")


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
        require(time.monotonic() < deadline,
                f"{what() if callable(what) else what} after 30 s")
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
    of_pid = {int(os.path.basename(path).split(".")[1]): path for path in paths}
    return {r["process"]["pid"]: (r, of_pid[r["process"]["pid"]]) for r in found}


def one(place, wait, options, books):
    """One kill; returns how many accounts were left."""
    pid, children = churn_and_kill(place, wait, options)
    left = read_left(place)
    require(pid in left, "the killed process left no account")
    require(children <= set(left), f"no account of children {children - set(left)}")
    for recording, path in left.values():
        require(recording["dump"]["reason"] == "killed", "not told as killed")
        tidepool.check(recording)
        check_sites(recording, path)
    left = {each: recording for each, (recording, path) in left.items()}
    books.compare(f"{place.work}/book", left[pid]["totals"])
    require(left[pid]["totals"]["allocations"] > 0 and len(left[pid]["threads"]) >= 9,
            "threads are missing from the account")
    require(all(left[c]["totals"]["allocations"] > 1000 for c in children),
            "a child's account is empty")
    wait_for(lambda: clean(place), lambda: f"--clean leaves {os.listdir(place.live)}")
    return len(left)


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 1000003
    print(f"kills: {count}, seed {seed}", flush=True)
    dice = random.Random(seed)
    begin, accounts, failures, books = time.monotonic(), 0, 0, Books()
    for i in range(count):
        wait = dice.uniform(0.02, 0.2)
        with tidepool.Place() as place:
            try:
                accounts += one(place, wait, OPTIONS[i % len(OPTIONS)], books)
            except tidepool.Failure as failure:
                failures += 1
                print(f"kill {i} after {wait * 1000:.1f} ms: {failure}", flush=True)
    print(f"{count} kills left {accounts} accounts; {time.monotonic() - begin:.0f} s; beside "
          f"the book {books.taken.low} to {books.taken.high} allocations, "
          f"{books.given.low} to {books.given.high} frees")
    require(failures == 0, f"{failures} of {count} kills went wrong")


if __name__ == "__main__":
    tidepool.main(main)
