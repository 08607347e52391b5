# SPDX-License-Identifier: MIT
"""Runs workloads under allocators in turn, and collects what each run cost.

Rounds: every allocator takes its turn in each, in an order that rotates, so that slow
changes of the machine meet all of them. A run in advance warms up the files.
"""
import hashlib
import os
import shutil
import subprocess
import sys
import time

import machine
from figures import Sample

TIMEOUT = machine.TIMEOUT


class Failure(Exception):
    """One run went wrong; the text says how."""


class Runner:
    """Runs workloads, each in a fresh folder below one temporary folder."""

    def __init__(self, folder, build_dir):
        self.folder = folder
        self.launch = os.path.join(build_dir, "tests", "bench", "bench-launch")
        self.work = os.path.join(folder, "work")
        self.cost = os.path.join(folder, "cost")
        self.dumps = os.path.join(folder, "dumps")
        if not os.path.exists(self.launch):
            machine.die(f"cannot find {self.launch}: not built")

    def path(self, name):
        """The path of a file in the folder of the present run."""
        return os.path.join(self.work, name)

    def read(self, name):
        """The bytes of that file."""
        with open(self.path(name), "rb") as data:
            return data.read()

    def start(self, workload, allocator, stdin=None):
        """Starts the program under the allocator, in a world that is always the same."""
        for folder in (self.work, self.dumps):
            shutil.rmtree(folder, ignore_errors=True)
            os.mkdir(folder)
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": self.work,
               "LC_ALL": "C.UTF-8", "TMPDIR": self.work, "PYTHONHASHSEED": "0",
               **workload.env}
        for name, value in allocator.settings.items():
            env[name] = value.replace("@OUT@", self.dumps)
        with open(self.cost, "wb"):
            pass  # nothing of an earlier run can be taken for this one's
        cpus = ",".join(map(str, machine.cpus_for(workload.threads)))
        with open(stdin or os.devnull, "rb") as source, \
                open(self.path("stdout"), "wb") as out, \
                open(self.path("stderr"), "wb") as err:
            return subprocess.Popen(
                [self.launch, self.cost, str(TIMEOUT), allocator.library, cpus,
                 *workload.command],
                stdin=source, stdout=out, stderr=err, cwd=self.work, env=env)

    def finish(self, process, allocator):
        """Waits and judges what happened; returns the Sample, without a digest."""
        try:
            process.wait(TIMEOUT + 10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return self.judge(allocator, self.read("stderr").decode(errors="replace").strip())

    def judge(self, allocator, complaint):
        """Returns the Sample of a run that has ended; Failure when it did not end well."""
        with open(self.cost, encoding="utf-8") as line:
            cost = [int(word) for word in line.read().split()]
        if len(cost) == 10 and cost[1] >= TIMEOUT * 1e9:
            raise Failure(f"killed after {TIMEOUT} seconds")
        if len(cost) != 10 or cost[0]:
            status = os.waitstatus_to_exitcode(cost[0]) if cost else "unknown"
            raise Failure(f"exit status {status}: {complaint[-300:]}")
        if "cannot be preloaded" in complaint:
            raise Failure(complaint[:300])
        if allocator.name in ("tidepool", machine.PROFILING) and not os.listdir(self.dumps):
            raise Failure("no dump was written: was it really preloaded?")
        wall, user, system, peak, minor, major, mean, end, readings = cost[1:]
        return Sample(wall / 1e9, user / 1e6, system / 1e6, peak, mean or peak, end or peak,
                      minor + major, readings, "")

    def run(self, workload, allocator):
        """Runs the workload once. Failure when it did not end well."""
        if workload.server:
            return self.run_redis(workload, allocator)
        process = self.start(workload, allocator, workload.stdin)
        sample = self.finish(process, allocator)
        digest = hashlib.sha256()
        for output in ["stdout", *workload.outputs]:
            digest.update(self.read(output))
        return sample._replace(wall=sample.wall - workload.idle, digest=digest.hexdigest())

    def ask_redis(self, n_requests):
        """Sends the timed requests; returns the seconds they take."""
        bench = ["redis-benchmark", "-s", self.path("redis.sock"), "-q", "-P", "16",
                 "-r", "100000", "-d", "200"]
        begin = time.monotonic()
        for count, tests in [(n_requests, "set,get,lpush,lpop,sadd,hset,zadd"),
                             (n_requests // 12, "lrange_100")]:
            subprocess.run([*bench, "-n", str(count), "-t", tests],
                           stdout=subprocess.DEVNULL, timeout=TIMEOUT, check=True)
        return time.monotonic() - begin

    def run_redis(self, workload, allocator):
        """The server runs under the allocator, the clients do not; the time is theirs.
        Fixed commands after the timed part leave a data set that must be the same."""
        client = ["redis-cli", "-s", self.path("redis.sock")]
        process = self.start(workload, allocator)
        try:
            deadline = time.monotonic() + 10
            while machine.capture(*client, "ping") != "PONG":
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Failure("the server does not answer")
                time.sleep(0.02)
            wall = self.ask_redis(int(workload.env["REQUESTS"]))
            with open(workload.stdin, "rb") as commands:
                subprocess.run(client, stdin=commands, stdout=subprocess.DEVNULL,
                               timeout=TIMEOUT, check=True)
            digest = hashlib.sha256(machine.capture(*client, "debug", "digest").encode())
            machine.capture(*client, "shutdown", "nosave")
            sample = self.finish(process, allocator)
            return sample._replace(wall=wall, digest=digest.hexdigest())
        except (OSError, subprocess.SubprocessError) as error:
            raise Failure(str(error)) from error
        finally:
            if process.poll() is None:
                process.kill()  # the server dies with its launcher
                process.wait()


def progress(text):
    """Shows on a terminal where we are; "" clears the line."""
    if sys.stderr.isatty():
        print(f"\r{text}\033[K", end="", file=sys.stderr, flush=True)


def take_turns(items, rounds, shift, act):
    """Calls act(item, round) for each item in each round, in an order that rotates;
    `shift` tells where the first round begins. An item whose act() returns False is
    left out from then on."""
    out = set()
    for turn in range(rounds):
        first = (turn + shift) % len(items)
        for item in items[first:] + items[:first]:
            if item not in out and act(item, turn) is False:
                out.add(item)


def run_workload(runner, workload, allocators, rounds, shift):
    """Returns {allocator: [Sample of each round]} and the complaints."""
    by_name = {a.name: a for a in allocators}
    samples, complaints, digests = {name: [] for name in by_name}, [], []

    def once(name, turn):
        progress(f"{workload.name}: round {turn + 1} of {rounds}, {name}")
        try:
            sample = runner.run(workload, by_name[name])
            digests.append(sample.digest)
            if sample.digest != digests[0]:
                raise Failure("its output differs from that of the first run")
            samples[name].append(sample)
            return True
        except Failure as failure:
            complaints.append(f"{workload.name} under {name}: {failure}")
            del samples[name]
            return False

    if once("glibc", -1):
        samples["glibc"].clear()
        take_turns(list(by_name), rounds, shift, once)
    progress("")
    return {name: found for name, found in samples.items() if found}, complaints


def run_all(runner, workloads, allocators, rounds):
    """Returns {workload: {allocator: [Sample of each round]}} and the complaints."""
    results, complaints = {}, []
    for shift, workload in enumerate(workloads):
        results[workload.name], found = run_workload(runner, workload, allocators, rounds,
                                                     shift)
        complaints += found
    return results, complaints
