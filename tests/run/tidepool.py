# SPDX-License-Identifier: MIT
"""tidepool.py - runs a program under the library and reads the account it leaves.

Idea: a test names a command; this module runs it with the preload and an `out`
pattern inside a folder of its own, turns every dump found there into JSON with
`tidepool report --format json`, and checks the identities that hold in every
dump (interface.md section 4), whatever the program was.

Holds always:
  - a test leaves nothing behind: live files and dumps sit in its own folder;
  - a missing tool is a skip (exit 77) with the reason printed, never a pass;
  - only processes that the test started are ever signalled, by their pid.

Environment, set by meson: TIDEPOOL_LIBRARY, TIDEPOOL_COMMAND (paths).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

SKIP = 77
SUMS = ("allocations", "frees", "requested_bytes", "allocated_bytes", "freed_bytes")
FIGURES = ("allocations", "allocated_bytes", "live_blocks", "live_bytes", "peak_bytes")
TAKING = ("malloc", "calloc", "realloc", "reallocarray", "aligned_alloc",
          "posix_memalign", "memalign", "valloc", "pvalloc")


class Failure(Exception):
    """The test found something wrong; the text says what."""


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIP)


def require(statement, text):
    if not statement:
        raise Failure(text)


def program(name, *more):
    """Path of an installed program; the test is skipped when there is none."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    for folder in more:
        found = found or shutil.which(name, path=folder)
    return found or skip(f"{name} is not installed")


def from_environment(name):
    path = os.environ.get(name)
    if not path or not os.path.exists(path):
        skip(f"{name} names no file: {path}")
    return path


class Place:
    """A folder for one test: dumps, live files, and whatever the program writes.

    On tmpfs where there is one, as the live file wants it, or in `under`. `user` (pid entry) owns it
    when the programs of the test run as somebody else.
    """

    def __init__(self, user=None, under=None):
        shm = under or "/dev/shm"
        self.top = tempfile.mkdtemp(prefix="tidepool-test-",
                                    dir=shm if os.access(shm, os.W_OK) else None)
        self.live, self.out, self.work = (os.path.join(self.top, name)
                                          for name in ("live", "out", "work"))
        for folder in (self.live, self.out, self.work):
            os.mkdir(folder, 0o700)
        if user:
            for folder in (self.top, self.live, self.out, self.work):
                os.chown(folder, user.pw_uid, user.pw_gid)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        shutil.rmtree(self.top, ignore_errors=True)

    def fresh_work(self):
        shutil.rmtree(self.work, ignore_errors=True)
        os.mkdir(self.work)
        return self.work

    def environment(self, options="", preload=True, **more):
        """The environment of a run; `options` are keys for TIDEPOOL."""
        env = {k: v for k, v in os.environ.items()
               if not k.startswith(("TIDEPOOL", "LD_", "MALLOC_", "MESON"))}
        env.update(LC_ALL="C.UTF-8", XDG_RUNTIME_DIR=self.live, TZ="UTC")
        if preload:
            env["LD_PRELOAD"] = from_environment("TIDEPOOL_LIBRARY")
            keys = [] if "out=" in options else [f"out={self.out}/%e.%p.%n.tide"]
            env["TIDEPOOL"] = ",".join(keys + ([options] if options else []))
        env.update(more)
        return env

    def dumps(self, folder=None):
        """Every recording below the out folder, in the order of (pid, sequence)."""
        folder = folder or self.out
        files = [os.path.join(folder, name) for name in sorted(os.listdir(folder))
                 if not name.endswith(".part")]  # a dump that a kill cut short
        recordings = []
        for start in range(0, len(files), 64):
            recordings += read(*files[start:start + 64])
        return sorted(recordings,
                      key=lambda r: (r["process"]["pid"], r["dump"]["sequence"]))


class Screen:
    """A display of our own for programs with windows; the test is skipped without Xvfb."""

    def __enter__(self):
        ready, tell = os.pipe()
        self.server = subprocess.Popen(
            [program("Xvfb"), "-displayfd", str(tell), "-screen", "0", "1024x768x24", "-nolisten",
             "tcp"], pass_fds=[tell], stderr=subprocess.DEVNULL)
        os.close(tell)
        with os.fdopen(ready) as said:
            number = said.readline().strip()  # comes when clients may
        require(number, "Xvfb did not start")
        return {"DISPLAY": ":" + number, "NO_AT_BRIDGE": "1"}

    def __exit__(self, *unused):
        self.server.terminate()
        self.server.wait()


def read(*targets):
    """`tidepool report --format json` of files or a pid; the list of recordings."""
    command = [from_environment("TIDEPOOL_COMMAND"), "report", "--format", "json"]
    if all(os.path.isfile(str(t)) for t in targets) and len(targets) > 1:
        with tempfile.NamedTemporaryFile(suffix=".tide") as joined:
            for target in targets:
                with open(target, "rb") as part:
                    shutil.copyfileobj(part, joined)
            joined.flush()
            return read(joined.name)
    done = subprocess.run(command + [str(t) for t in targets], capture_output=True,
                          timeout=60, check=False)
    require(done.returncode == 0,
            f"report of {targets} ended with {done.returncode}: "
            f"{done.stderr.decode(errors='replace')}")
    document = json.loads(done.stdout)
    require(document["schema"] == "tidepool.report/1", "the schema has another name")
    return document["recordings"]


def read_pid(place, pid):
    """The report of a process by its pid, living or dead, as a user would ask."""
    done = subprocess.run([from_environment("TIDEPOOL_COMMAND"), "report", "--format",
                           "json", str(pid)], capture_output=True, timeout=60,
                          env=place.environment(preload=False), check=False)
    require(done.returncode == 0,
            f"report {pid} ended with {done.returncode}: {done.stderr.decode()}")
    return json.loads(done.stdout)["recordings"][0]


class Done:
    """What a run left: status (128+n as the shell has it), stdout, stderr, pid."""

    def __init__(self, status, stdout, stderr, pid):
        self.status = status if status >= 0 else 128 - status
        self.stdout, self.stderr, self.pid = stdout, stderr, pid

    def same_as(self, other, what, stderr=True):
        names = ("status", "stdout") + (("stderr",) if stderr else ())
        for name in names:
            mine, theirs = getattr(self, name), getattr(other, name)
            require(mine == theirs, f"{what}: {name} differs under Tidepool:\n"
                    f"  without: {str(mine)[-400:]}\n  with:    {str(theirs)[-400:]}")


def run(command, env, cwd=None, stdin=b"", timeout=None, **more):
    """Runs to the end in a session of its own; a hang is a failure."""
    timeout = timeout or float(os.environ.get("SCENE_SECONDS", "60"))
    child = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             start_new_session=True, **more)
    try:
        out, err = child.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise Failure(f"{command} did not end within {timeout} s") from None
    return Done(child.returncode, out, err, child.pid)


def same(place, command, what=None, stdin=b"", stderr=True, timeout=60, **env):
    """The same run without and with Tidepool; returns both outcomes.

    Each run starts in an empty folder; what was there after the second stays.
    """
    what = what or os.path.basename(command[0])
    outcomes = []
    for preload in (False, True):
        cwd = place.fresh_work()
        outcomes.append(run(command, place.environment(preload=preload, **env), cwd,
                            stdin, timeout))
    outcomes[0].same_as(outcomes[1], what, stderr)
    return outcomes


def check_all(recordings, at_least=1):
    """Checks the identities of each; says how many there were."""
    require(len(recordings) >= at_least,
            f"{len(recordings)} dumps where {at_least} were expected")
    for recording in recordings:
        check(recording)
    print(f"identities hold in {len(recordings)} dumps")
    return recordings


def check(recording):
    """The identities of interface.md section 4, which hold in every dump."""
    process, dump = recording["process"], recording["dump"]
    name = f"{process['name']} {process['pid']} dump {dump['sequence']}"

    def equal(left, right, text):
        require(left == right, f"{name}: {text}: {left} != {right}")

    totals, calls = recording["totals"], recording["calls"]
    equal(totals["live_blocks"], totals["allocations"] - totals["frees"],
          "live_blocks = allocations - frees")
    equal(totals["live_bytes"], totals["allocated_bytes"] - totals["freed_bytes"],
          "live_bytes = allocated - freed")
    for key in ("allocations", "frees", "live_blocks", "live_bytes",
                "requested_bytes"):
        equal(sum(c[key] for c in classes(recording)), totals[key],
              f"sum of classes and large = totals.{key}")
    for key in SUMS:
        equal(sum(t[key] for t in recording["threads"]), totals[key],
              f"sum of threads = totals.{key}")
    for row in recording["size_classes"]:
        size = row["size_bytes"]
        equal(row["live_blocks"], row["allocations"] - row["frees"],
              f"class {size}: live_blocks")
        equal(row["live_bytes"], row["live_blocks"] * size, f"class {size}: live_bytes")
        require(row["requested_bytes"] <= row["allocations"] * size,
                f"{name}: class {size} was asked for more than it has")
    check_peak(totals, name)
    check_calls(recording, totals, calls, name)


def check_sites(recording):
    """Sites sum to the exact totals, and every figure lies in its interval."""
    for key in FIGURES:
        said = sum(site[key] for site in recording["sites"])
        truth = recording["totals"][key]
        require(said == truth, f"sites sum to {said} {key}, the total is {truth}")
        for site in recording["sites"]:
            low, high = site[key + "_ci95"]
            require(low <= site[key] <= high, f"{key} of a site is outside of its interval")


def check_peak(totals, name):
    low, peak, high = (totals[k] for k in
                       ("peak_bytes_low", "peak_bytes", "peak_bytes_high"))
    require(0 <= low <= peak <= high, f"{name}: peak {low} <= {peak} <= {high}")
    require(high >= totals["live_bytes"], f"{name}: more lives than the peak can be")
    if totals["peak_exact"]:
        require(low == peak == high, f"{name}: an exact peak has a range")


def torn(totals):
    """How far figures may be apart that are read while other threads go on."""
    return 1000 + totals["allocations"] // 100


def check_calls(recording, totals, calls, name):
    """Every block came from an entry point and went through one.

    taking calls = blocks made + reallocs in place + realloc(p, 0) + failures
    frees        = free of a block + reallocs that moved + realloc(p, 0)
    While other threads run, a dump sees their counters one after another: then the
    two sides may differ by what happened meanwhile. A forked child has the counters of
    its parent's threads as they were, each perhaps within a call. A killed process stood
    still before it was read: then every thread may be within one call, no more.
    """
    taken = sum(calls[e] for e in TAKING)
    freed = taken - calls["realloc_in_place"] - calls["failed"] - totals["allocations"]
    other = totals["frees"] - calls["free"] - calls["realloc_moved"]
    running = sum(1 for t in recording["threads"] if t["running"])
    # Of a fork every other thread may be one of its parent's, caught within a call.
    pid = recording["process"]["pid"]
    inherited = sum(1 for t in recording["threads"] if t["tid"] != pid) \
        if recording["process"].get("forked") else 0
    slack = inherited if running <= 1 else torn(totals)
    if recording["dump"]["reason"] == "killed":
        slack = inherited + running
    # A signal may have stopped its thread between a call's count and its outcome.
    if recording["dump"]["reason"] == "signal":
        slack = max(slack, 1)
    require(abs(freed - other) <= slack,
            f"{name}: calls do not add up: {freed} reallocs to nothing by the taking "
            f"side, {other} by the freeing side; {calls} {totals}")
    reallocs = calls["realloc"] + calls["reallocarray"]
    require(-slack <= freed and
            freed + calls["realloc_in_place"] + calls["realloc_moved"] <=
            reallocs + slack, f"{name}: more outcomes of realloc than calls: {calls}")
    if running <= 1:
        require(totals["live_blocks"] >= 0 and totals["live_bytes"] >= 0,
                f"{name}: fewer than no blocks live")


def classes(recording):
    return recording["size_classes"] + [recording["large"]]


def monotone(recordings):
    """In a row of dumps of one process no counter ever falls.

    The peak rises too: where it is not exact, a later estimate may be lower than an
    earlier one, but never than what was proven then. The calls of malloc and free are
    differences of counters, which a dump reads one after the other. Threads that ended
    without a record share a row without a number, as does one that ends just now: its
    record takes the figures out of there.
    """
    for earlier, later in zip(recordings, recordings[1:]):
        where = f"dump {later['dump']['sequence']}"
        for key in SUMS:
            require(later["totals"][key] >= earlier["totals"][key],
                    f"{where}: totals.{key} fell")
        require(later["totals"]["peak_bytes"] >= earlier["totals"]["peak_bytes_low"],
                f"{where}: the peak fell")
        now = {c.get("size_bytes"): c for c in classes(later)}
        for old in classes(earlier):
            size = old.get("size_bytes")
            for key in ("allocations", "frees", "requested_bytes"):
                require(now[size][key] >= old[key], f"{where}: class {size} {key} fell")
        for key, value in earlier["calls"].items():
            slack = torn(later["totals"]) if key in ("malloc", "free") else 0
            require(later["calls"][key] >= value - slack, f"{where}: calls.{key} fell")
        rows = {t["tid"]: t for t in later["threads"] if t["tid"] or t["running"]}
        for old in earlier["threads"]:
            new = rows.get(old["tid"]) if old["tid"] or old["running"] else None
            for key in SUMS if new else ():
                require(new[key] >= old[key],
                        f"{where}: thread {old['tid']} {key} fell")


def main(test):
    """Runs test() and turns what happens into an exit status."""
    try:
        test()
    except Failure as failure:
        print(f"FAILED: {failure}")
        sys.exit(1)
    print("passed")
