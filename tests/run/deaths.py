#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""deaths.py TEST - a process that memory kills leaves its account, to the last block.

The scene `hungry` says how many mebibytes it holds and takes the next, in a group whose
memory is limited (cgroup v2, or the older kind; skipped where none can be made) or
under a limit of its own.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import time

import tidepool
from tidepool import require

LIMIT = 64 << 20
MEBIBYTE = 1 << 20


def hungry():
    return os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "hungry")


@contextlib.contextmanager
def group(together=False):
    """A cgroup with LIMIT bytes; yields what puts the caller into it."""
    kinds = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
             ("/sys/fs/cgroup", "memory.max")]
    for top, knob in kinds:
        folder = os.path.join(top, f"tidepool-test-{os.getpid()}")
        try:
            os.mkdir(folder)
        except OSError:
            continue
        try:
            with open(os.path.join(folder, knob), "w", encoding="ascii") as file:
                file.write(str(LIMIT))
            for more in ("memory.swap.max",) + (("memory.oom.group",) if together else ()):
                with contextlib.suppress(OSError):
                    with open(os.path.join(folder, more), "w", encoding="ascii") as file:
                        file.write("1" if more.endswith("group") else "0")
        except OSError:
            os.rmdir(folder)
            continue
        break
    else:
        tidepool.skip("no cgroup with a limit on memory can be made here")

    def enter():
        with open(os.path.join(folder, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write(str(os.getpid()))

    try:
        yield enter
    finally:
        for _ in range(100):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
                break
            time.sleep(0.05)


def last_said(done):
    lines = done.stdout.decode().split()
    require(len(lines) >= 20, f"hungry died too early: {lines}")
    return int(lines[-1])


def compare(recording, have):
    """`have` blocks of a mebibyte, and perhaps the one under way."""
    require(recording["dump"]["reason"] == "killed", f"reason {recording['dump']}")
    large = recording["large"]
    require(have <= large["live_blocks"] <= have + 1,
            f"{large['live_blocks']} large blocks, it held {have}")
    require(have * MEBIBYTE <= large["requested_bytes"] <= (have + 1) * MEBIBYTE,
            f"{large} does not tell {have} MiB")
    require(recording["totals"]["peak_bytes"] >= have * MEBIBYTE, "a peak below that")
    tidepool.check(recording)


def oom():
    """The kernel's out-of-memory killer: SIGKILL, and the live file has it all."""
    with tidepool.Place() as place, group() as enter:
        done = tidepool.run([hungry()], place.environment(), place.work,
                            preexec_fn=enter)
        require(done.status == 128 + 9, f"hungry ended with {done.status}")
        compare(tidepool.read_pid(place, done.pid), last_said(done))


def oom_run():
    """The same under `tidepool run`, which may die with it: then the files tell."""
    command = tidepool.from_environment("TIDEPOOL_COMMAND")
    with tidepool.Place() as place, group() as enter:
        out = os.path.join(place.out, "x.tide")
        env = place.environment(preload=False)
        done = tidepool.run([command, "run", "-o", out, "-q", "--", "sh", "-c",
                             f'echo $$ >{place.work}/pid; "{hungry()}"; exit $?'],
                            env, place.work, preexec_fn=enter)
        require(done.status == 128 + 9, f"run ended with {done.status}: {done.stderr}")
        rows = tidepool.read(out)
        killed = [r for r in rows if r["process"]["name"] == "hungry"]
        require(len(killed) == 1, f"{len(killed)} records of hungry")
        compare(killed[0], last_said(done))


def address_space():
    """RLIMIT_AS: malloc says no, the program goes on, the dump says how often."""
    with tidepool.Place() as place:
        done = tidepool.run(
            [hungry()], place.environment(), place.work,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS,
                                                  (2 * LIMIT, 2 * LIMIT)))
        require(done.status == 9, f"hungry ended with {done.status}")
        recording = tidepool.check_all(place.dumps())[0]
        require(recording["dump"]["reason"] == "exit", "no dump at exit")
        require(recording["calls"]["failed"] == 1, f"{recording['calls']}")
        require(recording["large"]["live_blocks"] == last_said(done), "blocks are missing")


def stopped():
    """A process that hangs is read as it is, and goes on as if nothing had been."""
    with tidepool.Place() as place:
        child = subprocess.Popen(["cat"], env=place.environment(), stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE)
        try:
            child.stdin.write(b"x\n")
            child.stdin.flush()
            require(child.stdout.readline() == b"x\n", "cat does not answer")
            os.kill(child.pid, 19)
            first, second = (tidepool.read_pid(place, child.pid) for _ in range(2))
            require(first["totals"] == second["totals"], "it moves while it is stopped")
            require(first["dump"]["reason"] == "live", json.dumps(first["dump"]))
            os.kill(child.pid, 18)
            require(child.communicate(b"y\n", timeout=30)[0] == b"y\n", "cat lost a line")
            require(child.returncode == 0, "cat failed")
        finally:
            child.kill()
            child.wait()


if __name__ == "__main__":
    tests = {f.__name__: f for f in (oom, oom_run, address_space, stopped)}
    tidepool.main(tests[sys.argv[1]])
