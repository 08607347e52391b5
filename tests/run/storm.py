#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""storm.py TEST - reading and killing a program in the middle of its work.

signal_storm    SIGUSR1 twenty times a second for ten seconds during churn of eight
                threads: every dump parses, no counter falls, the result is right
interval_storm  the same by interval=50ms, for two seconds
live_reads      `tidepool report PID` of the running program, again and again
kill            SIGKILL at many moments: the live file is there and reads
"""

import os
import subprocess
import sys
import time

import tidepool
from tidepool import require

STARTED = b"started\n"


class Churn:
    """storm_churn for some seconds, eight threads at work once it exists."""

    def __init__(self, place, seconds, options="", **env):
        path = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "storm_churn")
        self.child = subprocess.Popen([path, str(seconds)], stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE,
                                      env=place.environment(options, **env))
        require(self.child.stdout.readline() == STARTED, "the churn did not start")

    def end(self):
        out, err = self.child.communicate(timeout=60)
        require((out, err, self.child.returncode) == (b"right\n", b"", 0),
                f"the churn ended with {self.child.returncode}: {out} {err}")


def finished(recordings, at_least, reason):
    tidepool.check_all(recordings, at_least)
    tidepool.monotone(recordings)
    reasons = [r["dump"]["reason"] for r in recordings]
    require(reasons == [reason] * (len(reasons) - 1) + ["exit"], f"reasons: {reasons}")
    require([r["dump"]["sequence"] for r in recordings] == list(range(len(recordings))),
            "a dump is missing from the sequence")
    require(len(recordings[-1]["threads"]) >= 9, "threads are missing at the end")


def signal_storm():
    with tidepool.Place() as place:
        churn = Churn(place, 10)
        begin, sent = time.monotonic(), 0
        while churn.child.poll() is None and time.monotonic() < begin + 9.5:
            churn.child.send_signal(10)
            sent += 1
            time.sleep(max(0, begin + sent * 0.05 - time.monotonic()))
        churn.end()
        # A signal that comes while one is pending is merged by the kernel.
        finished(place.dumps(), sent - sent // 10, "signal")
        print(f"{sent} signals, {len(os.listdir(place.out))} dumps")


def interval_storm():
    with tidepool.Place() as place:
        Churn(place, 2, "interval=50ms").end()
        finished(place.dumps(), 20, "interval")


def live_reads():
    with tidepool.Place() as place:
        churn = Churn(place, 3)
        reads = []
        while churn.child.poll() is None and len(reads) < 40:
            try:
                reads.append(tidepool.read_pid(place, churn.child.pid))
            except tidepool.Failure:
                require(churn.child.wait() is not None, "a living process was not read")
                break
            time.sleep(0.05)
        churn.end()
        require(len(reads) >= 20, f"only {len(reads)} reads of the live file")
        reads = [r for r in reads if r["dump"]["reason"] == "live"]
        require(len(reads) >= 19, "a living process was not read as live")
        tidepool.check_all(reads)
        tidepool.monotone(reads)


def kill():
    for moment in range(10):
        with tidepool.Place() as place:
            folder = os.path.join(place.top, "chosen")
            os.mkdir(folder)
            churn = Churn(place, 20, f"live={folder}")
            time.sleep(0.013 * moment * moment)
            churn.child.kill()
            churn.child.communicate()
            left = os.listdir(folder)
            require(len(left) == 1, f"live files left by the killed process: {left}")
            found = tidepool.read(os.path.join(folder, left[0]))
            tidepool.check_all(found)
            require(found[0]["process"]["pid"] == churn.child.pid, "another pid")
            require(found[0]["totals"]["allocations"] > 0, "an empty account")
            require(found[0]["dump"]["reason"] == "killed", "not told as killed")
            require(not os.listdir(place.out), "a killed process made a dump")


if __name__ == "__main__":
    tidepool.main({"signal_storm": signal_storm, "interval_storm": interval_storm,
                   "live_reads": live_reads, "kill": kill}[sys.argv[1]])
