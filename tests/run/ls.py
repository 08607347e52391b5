#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""ls.py TEST - finding and cleaning what processes leave behind.

Every test names its own folders to `tidepool ls`, so that it neither offers nor removes
what others have left. Those that need the usual folders make a mount namespace of their
own, with empty ones. Live files are made by processes that were killed; some are then
altered: another pid, another start, another time.
"""

import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

import tidepool
from tidepool import require

TOTAL = 16            # header.total_bytes
RECORD = 4096         # where a live file has its process record
END = 56              # header.time_unix_ns
PID, START = 0, 40    # in the record
REASON = 28           # in the header
DAY = 86400
STATES = ("running", "stopped", "killed", "exited")


def start(place, folder=None, program="storm_churn", options=""):
    """A process under the library with its live file in `folder`, well under way."""
    path = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), program)
    keys = f"live={folder or place.live}" + ("," + options if options else "")
    child = subprocess.Popen([path, "60"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             env=place.environment(keys))
    require(child.stdout.readline() in (b"started\n", b"on\n"), "it did not start")
    return child


def end(child):
    child.kill()
    child.communicate()
    return child.pid


def live_path(folder, pid):
    found = [n for n in os.listdir(folder) if n.split(".")[:2] == ["tidepool", str(pid)]]
    require(len(found) == 1, f"live files of {pid}: {found}")
    return os.path.join(folder, found[0])


def orphan(place, folder=None):
    """The path of a live file whose process was killed."""
    return live_path(folder or place.live, end(start(place, folder)))


def alter(path, at, value, size=8):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(value.to_bytes(size, "little"))


def made_up(path, pid, jiffies, n=0):
    """A copy of a live file, without the hole behind it, that says it is of another process."""
    other = os.path.join(os.path.dirname(path), f"tidepool.{pid}.{jiffies}.{n}")
    with open(path, "rb") as file, open(other, "wb") as copy:
        file.seek(TOTAL)
        n_bytes = int.from_bytes(file.read(8), "little")
        file.seek(0)
        copy.write(file.read(n_bytes))
    os.chmod(other, 0o600)
    alter(other, RECORD + PID, pid, 4)
    alter(other, RECORD + START, jiffies)
    return other


def tool(place, *words, status=0, wrap=(), **more):
    done = subprocess.run([*wrap, tidepool.from_environment("TIDEPOOL_COMMAND"), *words],
                          capture_output=True, timeout=60, check=False,
                          env=place.environment(preload=False), **more)
    require(done.returncode == status, f"{words} ended with {done.returncode}: "
            f"{done.stderr.decode()} {done.stdout.decode()}")
    return done.stdout.decode(), done.stderr.decode()


def ls(place, *words, **more):
    document = json.loads(tool(place, "ls", "--format", "json", *words, **more)[0])
    require(document["schema"] == "tidepool.ls/1", "the schema has another name")
    return document


def row(document, path):
    """The row of a file; None when it is not listed."""
    rows = [p for p in document["processes"] if p.get("file") == path]
    require(len(rows) <= 1, f"{path} has {len(rows)} rows")
    return rows[0] if rows else None


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def need_root():
    if os.geteuid() != 0:
        tidepool.skip("this needs root")


def ls_running():
    """A running, a stopped and a killed process, and no process at all."""
    with tidepool.Place() as place:
        out, err = tool(place, "ls", place.live)
        require(len(out.splitlines()) == 1 and "no process" in out and not err, out)
        children = [start(place) for _ in range(3)]
        running, stopped, killed = (c.pid for c in children)
        children[1].send_signal(signal.SIGSTOP)
        end(children[2])
        deadline = time.monotonic() + 20
        while open(f"/proc/{stopped}/stat", encoding="ascii").read().split()[2] != "T":
            require(time.monotonic() < deadline, "it does not stop")
        document = ls(place, place.live)
        states = {p["pid"]: p["state"] for p in document["processes"]}
        require(states == {running: "running", stopped: "stopped", killed: "killed"}, states)
        for process in document["processes"]:
            require(process["name"] == "storm_churn" and
                    process["command"][0].endswith("storm_churn") and
                    process["command"][1:] == ["60"], f"of the process: {process}")
            require(process["file"] == live_path(place.live, process["pid"]) and
                    process["file_bytes"] > 65536 and process["allocations"] > 0 and
                    process["peak_bytes"] >= process["live_bytes"], f"figures: {process}")
            require(process["removable"] == (process["pid"] == killed), f"{process}")
            require(("end_time" in process) == (process["pid"] == killed), f"{process}")
            require(process["ppid"] == os.getpid(), f"another parent: {process}")
        out = tool(place, "ls", place.live)[0]
        head, *rows = out.split("\n\n")[0].splitlines()
        require([r.split()[0] for r in rows] == ["running", "stopped", "killed"], out)
        require(head.split()[:7] == ["STATE", "PID", "PROGRAM", "AGE", "LIVE", "PEAK", "FILE"]
                and all(len(r) <= 99 for r in rows[:2]), out)
        require(f"tidepool report {running}" in out and "tidepool ls --clean" in out, out)
        require("\033" not in out and "\033[" in
                tool(place, "ls", "--color=always", place.live)[0], "colour is wrong")
        require(tool(place, "ls", "-q", place.live) == ("", ""), "-q is not quiet")
        tool(place, "ls", "-o", f"{place.work}/x.json", place.live)
        require(len(json.load(open(f"{place.work}/x.json"))["processes"]) == 3, "-o x.json")
        tool(place, "ls", "--clean", place.live)
        require(sorted(os.listdir(place.live)) == sorted(
            os.path.basename(live_path(place.live, p)) for p in (running, stopped)),
            "cleaning took the file of a process that is there")
        for child in children[:2]:
            end(child)
        tool(place, "ls", "--clean", place.live)
        require(os.listdir(place.live) == [], "something is left")
        out = tool(place, "ls", "--clean", place.live)[0]
        require(out == "nothing to remove\n", out)


def ls_number_reused():
    """An account of an earlier process of a number that runs now, with and without us."""
    with tidepool.Place() as place:
        child = start(place)
        running = live_path(place.live, child.pid)
        old = made_up(orphan(place), child.pid, 7)
        document = ls(place, place.live)
        require(row(document, old)["state"] == "killed", "an earlier process runs again")
        require(row(document, running)["state"] == "running", "the running one is not told")
        other = made_up(old, os.getpid(), 7)
        out, err = tool(place, "report", "--format", "json", str(os.getpid()))
        process = json.loads(out)["recordings"][0]
        require(process["dump"]["reason"] == "killed" and
                process["process"]["pid"] == os.getpid(), f"{process['dump']}")
        require("does not run under Tidepool now" in err, f"no word of it: {err!r}")
        out, err = tool(place, "dump", "-o", f"{place.work}/x.tide", str(os.getpid()))
        require("does not run under Tidepool now" in err, f"no word of it: {err!r}")
        tool(place, "ls", "--clean", place.live)
        require(not os.path.exists(other) and not os.path.exists(old), "not removed")
        require(os.listdir(place.live) == [os.path.basename(running)], "the living one's")
        end(child)


def ls_exec():
    """A program that is replaced behind our back keeps its number and its start."""
    number = {"x86_64": 59, "aarch64": 221}[os.uname().machine]
    code = ("import ctypes, os, sys\n"
            "c = ctypes.CDLL(None)\n"
            "def text(*words):\n"
            "    return (ctypes.c_char_p * (len(words) + 1))(*words, None)\n"
            "env = text(*[f'{k}={v}'.encode() for k, v in os.environ.items()])\n"
            f"c.syscall({number}, sys.argv[1].encode(), text(b'second', b'60'), env)\n")
    with tidepool.Place() as place:
        churn = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "storm_churn")
        child = subprocess.Popen([sys.executable, "-c", code, churn], stdout=subprocess.PIPE,
                                 env=place.environment(f"live={place.live}"))
        require(child.stdout.readline() == b"started\n", "the second program did not start")
        first, second = sorted(os.listdir(place.live), key=lambda n: n.split(".")[3])
        require(first.split(".")[:3] == second.split(".")[:3], f"{first} {second}")
        first, second = (os.path.join(place.live, n) for n in (first, second))
        document = ls(place, place.live)
        require(row(document, second)["state"] == "running", "the second program runs")
        require(row(document, first)["state"] == "killed", "the first one does not")
        require(row(document, first)["name"].startswith("python"), "another first program")
        report = tidepool.read(first)[0]
        require(report["dump"]["reason"] == "killed", f"report: {report['dump']}")
        require(tidepool.read(second)[0]["dump"]["reason"] == "live", "report of the second")
        tool(place, "ls", "--clean", place.live)
        require(os.listdir(place.live) == [os.path.basename(second)], "wrongly cleaned")
        end(child)


def ls_foreign():
    """Whatever has the name of a live file and is none stays where it is."""
    with tidepool.Place() as place:
        good = orphan(place)
        target = os.path.join(place.work, "target")
        shutil.copyfile(good, target)

        def name(n):
            return os.path.join(place.live, f"tidepool.1073741822.9.{n}")
        os.symlink(target, name(0))
        os.symlink(good, name(1))
        with open(name(2), "wb") as file:
            file.write(b"TIDEPOOL is what I call my diary")
        os.mkfifo(name(3))
        os.mkdir(name(4))
        with open(name(5), "wb"):
            os.chmod(name(5), 0o644)
        shutil.copyfile(good, name(6))      # the account of another process
        with open(good, "rb") as whole, open(name(7), "wb") as file:
            file.write(whole.read(5000))    # cut short
        os.chmod(name(7), 0o600)
        shutil.copyfile(good, name(8) + ".tide")
        shutil.copyfile(good, name(9) + "x")
        shutil.copyfile(good, os.path.join(place.live, "tidepool.1.2"))
        before = sorted(os.listdir(place.live))
        document = ls(place, place.live)
        require([p["file"] for p in document["processes"]] == [good], f"{document}")
        require([oct(os.lstat(name(n)).st_mode) for n in range(10) if os.path.lexists(name(n))]
                == [oct(os.lstat(name(n)).st_mode) for n in range(8)], "modes")
        require(mode(target) != 0o400, "a link was followed")
        document = ls(place, "--clean", "--force", place.live)
        require(document["removed"] == [good], f"{document['removed']}")
        before.remove(os.path.basename(good))
        require(sorted(os.listdir(place.live)) == before, "what is not ours was removed")
        # A process that ended before it began to count leaves nothing but zeros.
        os.close(os.open(name(10), os.O_CREAT | os.O_WRONLY, 0o600))
        os.truncate(name(10), 163840)
        require(row(ls(place, place.live), name(10))["state"] == "killed", "unborn")
        require(ls(place, "--clean", place.live)["removed"] == [name(10)], "unborn")
        child = start(place)  # its next file may be in the making
        making = live_path(place.live, child.pid)[:-1] + "1.new"
        os.close(os.open(making, os.O_CREAT | os.O_WRONLY, 0o600))
        require(ls(place, "--clean", place.live)["removed"] == [], "one that is being made")
        end(child)
        require(sorted(ls(place, "--clean", place.live)["removed"]) ==
                [making[:-5] + "0", making], "one that was being made")
        child = start(place)  # killed when it was filled, on the way to its name
        end(child)
        filled = live_path(place.live, child.pid)
        os.rename(filled, filled + ".new")
        require(ls(place, "--clean", place.live)["removed"] == [filled + ".new"], "filled")


def ls_others():
    """Files of another user: what root sees, and what the other user may not."""
    need_root()
    nobody = pwd.getpwnam("nobody")
    drop = ["setpriv", "--reuid", "nobody", "--clear-groups"]
    tidepool.program("setpriv")
    with tidepool.Place() as place:
        os.chmod(place.top, 0o755)
        os.chmod(place.live, 0o777)
        mine, theirs, closed = orphan(place), orphan(place), os.path.join(place.top, "closed")
        os.chown(theirs, nobody.pw_uid, -1)
        child = start(place)
        running = live_path(place.live, child.pid)
        os.mkdir(closed, 0o700)
        copy = os.path.join(place.top, "tidepool")
        shutil.copyfile(tidepool.from_environment("TIDEPOOL_COMMAND"), copy)
        os.chmod(copy, 0o755)

        def as_nobody(*words):
            done = subprocess.run([*drop, copy, "ls", "--format", "json", *words],
                                  capture_output=True, check=False,
                                  env=place.environment(preload=False))
            require(done.returncode == 0 and done.stderr == b"", f"{done.stderr.decode()}")
            return json.loads(done.stdout)
        require(as_nobody(closed)["processes"] == [], "a closed folder has something in it")
        document = as_nobody(place.live)
        require(row(document, theirs)["removable"], "their own is not theirs")
        require(not row(document, mine)["removable"], "they may remove root's")
        require("allocations" not in row(document, mine), "they may read root's")
        require(row(document, running)["state"] == "running", "a running process is not told")
        require(mode(mine) == 0o600 and mode(theirs) == 0o400, "offered to the wrong user")
        os.chmod(theirs, 0o600)
        ls(place, place.live)
        require(mode(mine) == 0o400 and mode(theirs) == 0o600,
                "root's listing has offered what is not root's")
        require(as_nobody("--clean", place.live)["removed"] == [theirs], "wrongly cleaned")
        os.chown(mine, nobody.pw_uid, -1)
        require(ls(place, "--clean", place.live)["removed"] == [mine], "root may clean all")
        end(child)


def ls_limits():
    """--older and --keep; what goes by itself, and what does not."""
    with tidepool.Place() as place:
        first = orphan(place)
        paths = [made_up(first, 1073741800 + i, 9) for i in range(4)]
        os.unlink(first)
        now = time.time()
        for i, path in enumerate(paths):  # ended now, and 1, 2, 3 days ago
            alter(path, END, int((now - i * DAY) * 1e9))
        for words in (["--keep", "1m"], ["--clean", "--older", "soon"],
                      ["--clean", "--keep", "1x"], ["--force"]):
            tool(place, "ls", *words, place.live, status=2)
        size = ls(place, place.live)["processes"][0]["file_bytes"]

        def cleaned(*words):
            return sorted(ls(place, "--clean", *words, place.live)["removed"])
        require(cleaned("--older", "60h") == [paths[3]], "the oldest")
        require(cleaned("--older", "60h") == [], "nothing is so old any more")
        require(cleaned("--older", "12h", "--keep", str(2 * size)) == [paths[2]], "both")
        require(cleaned("--keep", str(2 * size + 5)) == [], "there is no more than that")
        require(cleaned("--keep", str(size)) == [paths[1]], "all but one, oldest first")
        require(cleaned() == [paths[0]], "the last")


def ls_offered():
    """Nothing goes by itself that was not offered a week ago, or is beyond 256 MiB."""
    with tidepool.Place() as place:
        first = orphan(place)
        paths = [made_up(first, 1073741800 + i, 9) for i in range(3)]
        os.unlink(first)
        week, month = (time.time() - n * DAY for n in (7.01, 30))
        for path in paths:
            alter(path, END, int(month * 1e9))
            os.utime(path, (month, month))
        document = ls(place, place.live)
        require(document["removed"] == [] and
                not any(p["offered"] for p in document["processes"]), "not offered before")
        require(all(mode(p) == 0o400 and os.stat(p).st_mtime > week for p in paths),
                "they were not offered, or long ago")
        require(tool(place, "ls", "-q", place.live) == ("", "") and
                ls(place, place.live)["removed"] == [], "offered just now")
        os.utime(paths[1], (week, week))
        tool(place, "ls", "-q", place.live)
        require(os.path.exists(paths[1]), "removed without a word")
        out = tool(place, "ls", place.live)[0]
        require(not os.path.exists(paths[1]) and os.path.exists(paths[0]), "by age")
        require(out.startswith("removed 1 live file (") and
                "had listed before" in out.splitlines()[0], out)
        os.chmod(paths[0], 0o600)  # not offered, however old
        os.utime(paths[0], (month, month))
        require(ls(place, place.live)["removed"] == [], "removed without an offer")
    # On disk: memory is too good for files that are only long.
    with tempfile.TemporaryDirectory() as folder, tidepool.Place() as place:
        first = orphan(place)
        paths = [made_up(first, 1073741800 + i, 9) for i in range(3)]
        paths = [shutil.move(p, folder) for p in paths]
        for i, path in enumerate(paths):
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, 120 << 20)
            os.utime(path, (time.time() - DAY * (3 - i),) * 2)
        require(ls(place, folder)["removed"] == [], "nothing was offered")
        for i, path in enumerate(paths):
            os.utime(path, (time.time() - DAY * (3 - i),) * 2)
        require(ls(place, folder)["removed"] == [paths[0]], "the first offered goes first")


def abandoned(place, name="tidepool-run.Ab3dE1", pid=1073741823):
    """The folder of a run that was killed: a dump, a live file, a recording cut short."""
    folder = os.path.join(place.live, name)
    os.mkdir(folder, 0o700)
    churn = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "storm_churn")
    for where in (folder, place.work):
        subprocess.run([churn, "0.01"], check=True, stdout=subprocess.DEVNULL,
                       env=place.environment(f"live={folder},out={where}/%e.%p.tide"))
    left = orphan(place, folder)
    part = os.path.join(place.work, "mine.tide.part")
    dump = [n for n in os.listdir(place.work) if n.endswith(".tide")][0]
    with open(os.path.join(place.work, dump), "rb") as file:
        whole = file.read()
    os.unlink(os.path.join(place.work, dump))
    with open(part, "wb") as file:
        file.write(whole + whole[:5000])
    with open(os.path.join(folder, "run"), "w", encoding="ascii") as file:
        file.write(f"pid={pid}\nstart=77\nrecording={part}\ncommand=make -j2 all\n")
    return folder, left, part


def ls_runs():
    """What an interrupted run left: listed, kept, reported, packed, and then removed."""
    with tidepool.Place() as place:
        folder, left, part = abandoned(place)
        document = ls(place, place.live)
        run = document["runs"][0]
        require((run["folder"], run["state"], run["dumps"], run["live_files"], run["packed"],
                 run["command"], run["recording"]) ==
                (folder, "abandoned", 1, 1, False, "make -j2 all", part), f"{run}")
        require(not row(document, left)["removable"] and mode(left) == 0o600,
                "a part of a run is offered by itself")
        out = tool(place, "ls", place.live)[0]
        require("RUNS CUT OFF" in out and f"tidepool dump {folder}" in out and
                "--clean" not in out, out)
        out = tool(place, "ls", "--clean", place.live)[0]
        require("nothing to remove" in out and f"tidepool dump {folder}" in out, out)
        require(os.path.exists(left) and os.path.exists(part), "unpacked dumps are gone")
        pid = int(left.split(".")[-3])
        found = tidepool.read_pid(place, pid)
        require(found["dump"]["reason"] == "killed" and found["process"]["pid"] == pid,
                f"the report by its number: {found['dump']}")
        out, err = tool(place, "report", "--format", "json", folder)
        found = json.loads(out)["recordings"]
        tidepool.check_all(found)
        require(sorted(r["dump"]["reason"] for r in found) == ["exit", "exit", "killed"],
                "not all of the folder is in its report")
        require("1 file in" in err, f"what was cut short is not told: {err!r}")
        recording = os.path.join(place.work, "packed.tide")
        out, err = tool(place, "dump", folder, "-o", recording)
        require(out == recording + "\n" and "1 file in" in err, f"{out!r} {err!r}")
        require(len(tidepool.check_all(tidepool.read(recording))) == 3, "it is not whole")
        os.unlink(recording)
        os.unlink(os.path.join(folder, "packed"))

        # Not into the folder itself, and not packed with a file that cannot be read.
        before = sorted(os.listdir(folder))
        for words in (["dump", "."], ["dump", "-o", f"{folder}/x.tide", folder]):
            err = tool(place, *words, status=2, cwd=folder)[1]
            require("name another place" in err and sorted(os.listdir(folder)) == before,
                    f"packed into the folder itself: {err!r}")
        junk = os.path.join(folder, "junk.tide")
        with open(junk, "wb") as file:
            file.write(b"junk")
        tool(place, "dump", folder, "-o", recording)
        require(ls(place, "--clean", place.live)["removed"] == [] and os.path.exists(junk),
                "a file that could not be packed is gone")
        os.unlink(junk)
        os.unlink(recording)
        with open("/dev/full", "wb") as full:
            done = subprocess.run([tidepool.from_environment("TIDEPOOL_COMMAND"), "dump",
                                   folder, "-o", recording], stdout=full, check=False,
                                  stderr=subprocess.PIPE)
        require(done.returncode == 2 and b"cannot write the output" in done.stderr,
                f"a name that nobody could read: {done}")
        os.unlink(recording)
        tool(place, "dump", folder, "-o", recording)
        require(ls(place, place.live)["runs"][0]["packed"], "not marked as packed")
        removed = ls(place, "--clean", place.live)["removed"]
        require(sorted(removed) == [folder, left] and not os.path.exists(part) and
                os.listdir(place.live) == [], f"removed: {removed}")

        folder, left, part = abandoned(place)
        with open(os.path.join(folder, "notes.txt"), "wb"):
            pass
        err = tool(place, "ls", "--clean", "--force", folder, status=2)[1]
        require("cannot remove" in err and os.listdir(folder) == ["notes.txt"],
                f"what is not ours was removed, or nothing said: {err!r}")
        os.unlink(os.path.join(folder, "notes.txt"))
        os.rmdir(folder)

        # A run that goes on, by its own word; then one with nothing but live files.
        folder, left, part = abandoned(place, pid=os.getpid())
        with open("/proc/self/stat", encoding="ascii") as file:
            jiffies = file.read().rsplit(")", 1)[1].split()[19]
        with open(os.path.join(folder, "run"), "w", encoding="ascii") as file:
            file.write(f"pid={os.getpid()}\nstart={jiffies}\nrecording={part}\n")
        document = ls(place, "--clean", "--force", place.live)
        require(document["runs"][0]["state"] == "running" and document["removed"] == [],
                f"a run that goes on: {document}")
        for name in os.listdir(folder):
            if name.endswith(".tide") or name == "run":
                os.unlink(os.path.join(folder, name))
        require(sorted(ls(place, "--clean", place.live)["removed"]) == [folder, left],
                "a folder of nobody with a live file")
        os.mkdir(folder)
        require(ls(place, "--clean", place.live)["removed"] == [], "a run that just begins")
        os.utime(folder, (time.time() - 3600,) * 2)
        require(ls(place, "--clean", place.live)["removed"] == [folder], "an old empty one")

        # One whose processes go on though nobody says whose it is.
        os.mkdir(folder)
        child = start(place, folder)
        document = ls(place, "--clean", "--force", place.live)
        require(document["runs"][0]["state"] == "running" and document["removed"] == [],
                "a run of which a process goes on")
        end(child)
        require(len(ls(place, "--clean", place.live)["removed"]) == 2, "it has ended")


def ls_exited():
    """A process that could not write its dump leaves its file stamped so."""
    with tidepool.Place() as place:
        path = orphan(place)
        alter(path, REASON, 1, 4)
        require(row(ls(place, place.live), path)["state"] == "exited", "not told")
        require("exited" in tool(place, "ls", place.live)[0], "not told")


def ls_leader():
    """A process whose first thread has ended runs all the same."""
    with tidepool.Place() as place:
        child = start(place, program="leader_gone")
        path = live_path(place.live, child.pid)
        require(row(ls(place, "--clean", place.live), path)["state"] == "running", "by maps")
        require(tidepool.read_pid(place, child.pid)["dump"]["reason"] == "live", "report")
        child.communicate(timeout=20)
        require(child.returncode == 0 and os.listdir(place.live) == [], "its end")


def ls_unseen():
    """A process in another pid namespace is out of sight, and safe."""
    need_root()
    unshare = tidepool.program("unshare")
    with tidepool.Place() as place:
        child = start(place)
        path = live_path(place.live, child.pid)
        apart = [unshare, "--pid", "--fork", "--mount-proc"]
        probe = subprocess.run([*apart, "true"], capture_output=True, check=False)
        if probe.returncode:
            tidepool.skip(f"no pid namespace here: {probe.stderr.decode()}")
        document = ls(place, "--clean", place.live, wrap=apart)
        require(document["removed"] == [] and row(document, path)["state"] == "running",
                f"{document}")
        end(child)
        require(ls(place, "--clean", place.live, wrap=apart)["removed"] == [path],
                "an orphan of a process out of sight stays for ever")


def ls_usual():
    """The usual folders, empty ones of our own: found, reported, removed by themselves."""
    need_root()
    unshare = tidepool.program("unshare")
    probe = subprocess.run([unshare, "--mount", "mount", "-t", "tmpfs", "none", "/tmp"],
                           capture_output=True, check=False)
    if probe.returncode:
        tidepool.skip(f"no mount namespace here: {probe.stderr.decode()}")
    here = os.path.abspath(__file__)
    done = subprocess.run([unshare, "--mount", sys.executable, here, "in_usual"],
                          capture_output=True, check=False, timeout=120)
    if done.returncode == tidepool.SKIP:
        tidepool.skip(done.stdout.decode())
    require(done.returncode == 0, done.stdout.decode() + done.stderr.decode())


def in_usual():
    """The inner half of ls_usual: in a mount namespace of its own."""
    names = ("TIDEPOOL_LIBRARY", "TIDEPOOL_COMMAND", "TIDEPOOL_SCENES")
    paths = [tidepool.from_environment(name) for name in names]
    subprocess.run(["mount", "-t", "tmpfs", "none", "/dev/shm"], check=True)
    os.mkdir("/dev/shm/used")  # the build may be below /tmp, which is about to be hidden
    for name, path in zip(names, paths):
        os.environ[name] = os.path.join("/dev/shm/used", os.path.basename(path))
        if os.path.isdir(path):
            os.mkdir(os.environ[name])
            path = os.path.join(path, "storm_churn")
        shutil.copy(path, os.environ[name])
    subprocess.run(["mount", "-t", "tmpfs", "none", "/tmp"], check=True)
    with tidepool.Place() as place:
        inner = "/dev/shm/tidepool-run.aaaaaa"
        os.mkdir(inner)
        paths = [orphan(place, folder) for folder in (place.live, "/dev/shm", "/tmp", inner)]
        nowhere = start(place, options="live=off")
        document = ls(place)
        require(sorted(p["file"] for p in document["processes"] if "file" in p and
                       p["state"] == "killed") == sorted(paths), f"{document}")
        bare = [p for p in document["processes"] if p["pid"] == nowhere.pid]
        require(len(bare) == 1 and "file" not in bare[0] and bare[0]["name"] == "storm_churn"
                and bare[0]["state"] == "running", f"without a live file: {bare}")
        end(nowhere)
        for path in paths:
            pid = path.split(".")[-3]
            require(tidepool.read_pid(place, pid)["dump"]["reason"] == "killed", path)
        for path in paths[1:3]:
            os.utime(path, (time.time() - 8 * DAY,) * 2)
        out = tool(place, "ls")[0]
        require(out.startswith("removed 2 live files"), out)
        require([os.path.exists(p) for p in paths] == [True, False, False, True], "which")
        tool(place, "ls", "--clean")
        require([p for p in paths if os.path.exists(p)] == [], "not all removed")


if __name__ == "__main__":
    tidepool.main(globals()[sys.argv[1]])
