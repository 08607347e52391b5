#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tree.py TEST - `tidepool run` of families: everyone is in the recording, once.

The families are made by the scene `kin`. Its words say what each process takes, always
another number, so a process is known by what it counted: a fork counts what it took,
a program what it took and the few blocks of its start, which `kin` without words tells.

What holds in every recording (check_sums): the dumps that count are one of each program
of each process; they sum to the processes of the tree, these to the programs, and both
to the sum; a fork's inheritance is in none of them.
"""

import copy
import json
import os
import pwd
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import tidepool
from tidepool import require

FIGURES = ("allocations", "frees", "live_blocks", "requested_bytes", "allocated_bytes",
           "freed_bytes", "live_bytes")


class Family(tidepool.Place):
    """A place with copies of kin under the names alpha, beta, ... in its work folder."""

    def __init__(self, user=None):
        super().__init__(user)
        self.as_user = {"user": user.pw_uid, "group": user.pw_gid} if user else {}
        self.kin = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "kin")
        self.command = tidepool.from_environment("TIDEPOOL_COMMAND")
        self.recording = os.path.join(self.work, "x.tide")
        for name in ("alpha", "beta", "gamma"):
            shutil.copy(self.kin, os.path.join(self.work, name))

    def start(self, *words, out=None, **more):
        """Starts `tidepool run`; the words are those of the program alpha, or a command."""
        env = self.environment(preload=False)
        env["TIDEPOOL_LIB"] = tidepool.from_environment("TIDEPOOL_LIBRARY")
        command = list(words) if words[0].startswith("/") else ["./alpha", *words]
        return subprocess.Popen([self.command, "run", "-q", "-o", out or self.recording,
                                 "--", *command], env=env, cwd=self.work,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                **self.as_user, **more)

    def run(self, *words, status=0, said="", out=None, **more):
        """Runs to the end, checks status and stderr; the report, its sums checked."""
        before = set(folders())
        child = self.start(*words, out=out, **more)
        _, stderr = child.communicate(timeout=60)
        text = stderr.decode()
        require(child.returncode == status, f"ended with {child.returncode}: {text}")
        require(re.fullmatch(said, text), f"said {text!r}, not {said!r}")
        self.folder = None
        for folder in set(folders()) - before:
            if run_text(folder).get("pid") == str(child.pid):
                self.folder = folder
        if out or said:
            return None
        require(not self.folder, f"{self.folder} was left behind")
        left = [n for n in os.listdir(self.work) if n.startswith("x.tide")]
        require(left == ["x.tide"], f"one recording is wanted, there are {left}")
        return self.report()

    def report(self, *files):
        done = subprocess.run([self.command, "report", "--format", "json",
                               *(files or [self.recording])], capture_output=True,
                              timeout=60, check=False)
        require(done.returncode == 0, f"report says {done.stderr.decode()}")
        return check_sums(json.loads(done.stdout))

    def base(self):
        """What alpha counts when it does nothing."""
        document = self.run("take", "0")
        os.unlink(self.recording)
        return document["sum"]


def folders():
    return [os.path.join(folder, n) for folder in ("/dev/shm", "/tmp")
            if os.path.isdir(folder) for n in os.listdir(folder)
            if n.startswith("tidepool-run.")]


def run_text(folder):
    """The text that a run leaves in its folder; empty without one."""
    try:
        with open(os.path.join(folder, "run"), encoding="utf-8") as text:
            return dict(line.rstrip("\n").split("=", 1) for line in text)
    except OSError:
        return {}


def own(recording):
    """What the process did itself, from the totals and what it inherited."""
    totals, given = recording["totals"], recording["process"]["inherited"]
    given = dict(given, live_blocks=given["allocations"] - given["frees"],
                 freed_bytes=given["allocated_bytes"] - given["live_bytes"])
    return {key: totals[key] - given[key] for key in FIGURES}


def check_sums(document):
    recordings, tree = document["recordings"], document["tree"]
    tidepool.check_all(recordings)
    seen = [i for node in tree for i in node["recordings"]]
    require(seen == list(range(len(recordings))), f"the tree has the recordings {seen}")
    require(sum(len(n["children"]) for n in tree) == sum("parent" in n for n in tree),
            "a child that its parent does not know")
    names = set()
    for i, node in enumerate(tree):
        require(all(tree[c].get("parent") == i for c in node["children"]), "lost children")
        require({recordings[k]["process"]["pid"] for k in node["recordings"]} ==
                {node["pid"]}, "a process of several pids")
        counting = [recordings[k] for k in node["recordings"]
                    if recordings[k]["dump"]["counts"]]
        names.update((node["pid"], r["process"]["start_time"], r["process"]["name"])
                     for r in counting)
        for key in FIGURES:
            require(node[key] == sum(own(r)[key] for r in counting),
                    f"process {node['pid']}: {key}")
    counting = [r for r in recordings if r["dump"]["counts"]]
    require(len(names) == len(counting), "a program counts twice")
    for program in document["programs"]:
        of_it = [r for r in counting if r["process"]["exe"] == program["exe"]]
        require(program["processes"] == len(of_it), f"processes of {program['name']}")
        for key in FIGURES:
            require(program[key] == sum(own(r)[key] for r in of_it),
                    f"program {program['name']}: {key}")
    for key in FIGURES:
        for rows in (tree, document["programs"]):
            require(document["sum"][key] == sum(row[key] for row in rows), f"sum: {key}")
    require(document["sum"]["processes"] == len(tree), "sum: processes")
    return document


def shape(document, base):
    """The tree as nested tuples (name, blocks taken, reason, children...)."""
    tree = document["tree"]

    def describe(node):
        recordings = [document["recordings"][i] for i in node["recordings"]]
        programs = sum(1 for r in recordings if r["dump"]["counts"]
                       and not r["process"]["forked"])
        taken = node["allocations"] - programs * base["allocations"]
        require(node["requested_bytes"] == programs * base["requested_bytes"] + taken * 173,
                f"{node['name']} took {taken}, but other bytes")
        return (node["name"], taken, node["reason"],
                *(describe(tree[c]) for c in node["children"]))
    return [describe(node) for node in tree if "parent" not in node]


def expect(document, base, *wanted):
    found = shape(document, base)
    require(found == list(wanted), f"the tree is {found}, not {list(wanted)}")


def lies():
    """The checks of this file find a wrong figure wherever it is."""
    def is_found(lie):
        try:
            check_sums(lie)
        except tidepool.Failure:
            return True
        return False

    with Family() as place:
        right = place.run(*"take 101 fork [ take 53 ] exec ./beta [ take 7 ]".split())
    rows = [(key, i) for key in ("tree", "programs") for i in range(len(right[key]))]
    for key, i in [("sum", None), *rows]:
        for figure in FIGURES:
            lie = copy.deepcopy(right)
            (lie[key] if i is None else lie[key][i])[figure] += 1
            require(is_found(lie), f"a lie about {figure} of {key} {i} is not found")
    for change in (lambda d: d["tree"][0]["recordings"].pop(),
                   lambda d: d["tree"][0]["children"].append(0),
                   lambda d: d["recordings"][0]["dump"].update(counts=False),
                   lambda d: d["recordings"][2]["process"]["inherited"].update(frees=0)):
        lie = copy.deepcopy(right)
        change(lie)
        require(is_found(lie), "a lie is not found")


def forks():
    """Children of children without exec; blocks of the parent are in no sum twice."""
    with Family() as place:
        base = place.base()
        document = place.run(*"""take 1009 fork [ take 53 fork [ take 17 ] ]
                             fork [ take 31 exit 3 ] take 7""".split())
        expect(document, base, ("alpha", 1016, "exit", ("alpha", 53, "exit",
               ("alpha", 17, "exit")), ("alpha", 31, "exit")))
        require([p["processes"] for p in document["programs"]] == [4], "programs")
        require(document["sum"]["allocations"] == base["allocations"] + 1016 + 53 + 17 + 31,
                "the sum counts an inheritance")


def programs():
    """spawn, vfork, and an exec of five programs in one process."""
    with Family() as place:
        base = place.base()
        document = place.run(*"""take 101 spawn ./beta [ take 53 spawn ./gamma [ take 7 ] ]
            vfork ./gamma [ take 31 ] exec ./beta [ take 11 exec ./gamma [ take 13
            exec ./alpha [ take 17 exec ./gamma [ take 19 exit 9 ] ] ] ]""".split(),
                             status=9)
        expect(document, base, ("gamma", 101 + 11 + 13 + 17 + 19, "exit",
               ("beta", 53, "exit", ("gamma", 7, "exit")), ("gamma", 31, "exit")))
        require(document["tree"][0]["recordings"] == [0, 1, 2, 3, 4], "five programs")
        count = {p["name"]: (p["processes"], p["allocations"] -
                             p["processes"] * base["allocations"])
                 for p in document["programs"]}
        require(count == {"alpha": (2, 101 + 17), "beta": (2, 53 + 11),
                          "gamma": (4, 7 + 31 + 13 + 19)}, f"programs: {count}")


def shells():
    """A shell's children, and a child with an empty environment, which is not covered."""
    with Family() as place:
        base = place.base()
        document = place.run("/bin/sh", "-c",
                             "./alpha take 53; env -i ./beta take 7; ./gamma take 31; true")
        shell, *children = [n for n in document["tree"]]
        require(shell["name"] in ("sh", "dash", "bash") and "parent" not in shell,
                f"the shell is {shell}")
        rows = {n["name"]: n for n in children}
        require(sorted(rows) == ["alpha", "env", "gamma"] and len(children) == 3,
                f"children: {[n['name'] for n in children]}")
        require(all(n["parent"] == 0 for n in children), "children of another")
        for name, n in (("alpha", 53), ("gamma", 31)):
            require(rows[name]["allocations"] == base["allocations"] + n, name)


def killed():
    """SIGKILL, SIGSEGV, abort, a limit: the dead are in the recording, exactly."""
    with Family() as place:
        base = place.base()
        document = place.run(*"""take 101 spawn ./alpha [ take 53 kill 9 ]
            spawn ./alpha [ take 31 kill 11 ] spawn ./beta [ take 17 kill 6 ]
            fork [ take 20011 kill 9 ]""".split())
        expect(document, base, ("alpha", 101, "exit", ("alpha", 53, "killed"),
               ("alpha", 31, "killed"), ("beta", 17, "killed"), ("alpha", 20011, "killed")))
        os.unlink(place.recording)
        document = place.run(*"fork [ limit 256 exec ./beta [ take 7 starve ] ]".split())
        beta = document["tree"][1]
        require(beta["reason"] == "killed" and beta["live_bytes"] > 1 << 20,
                f"of the starved is known: {beta}")
        os.unlink(place.recording)
        document = place.run("take", "101", "kill", "9", status=137)
        expect(document, base, ("alpha", 101, "killed"))


def dumps():
    """Several dumps of one process stay several; the last counts."""
    with Family() as place:
        base = place.base()
        document = place.run(*"take 53 dump take 31 dump fork [ take 7 dump ]".split())
        expect(document, base, ("alpha", 84, "exit", ("alpha", 7, "exit")))
        found = [(r["dump"]["reason"], r["dump"]["counts"]) for r in document["recordings"]]
        require(found == [("signal", False), ("signal", False), ("exit", True),
                          ("signal", False), ("exit", True)], f"dumps: {found}")


def somebody():
    """A user to whom permissions mean something, if there is one who may run all this."""
    if os.geteuid() != 0:
        return None
    user = pwd.getpwnam("nobody")
    for name in ("TIDEPOOL_LIBRARY", "TIDEPOOL_COMMAND"):
        path = tidepool.from_environment(name)
        done = subprocess.run(["test", "-r", path], user=user.pw_uid, group=user.pw_gid,
                              check=False)
        if done.returncode:
            print("as root, to whom permissions mean nothing")
            return None
    return user


def outputs():
    """What cannot be a recording is refused before the start; exit=off is overruled."""
    with Family() as place:
        fifo = os.path.join(place.work, "fifo")
        mark = os.path.join(place.work, "mark")
        os.mkfifo(fifo)
        for out in ("-", "/dev/null", fifo, place.work):
            place.run("mark", mark, status=125, out=out, said="tidepool: .*\n")
            require(not os.path.exists(mark), f"-o {out}: the program ran")
        env = dict(place.environment(preload=False), TIDEPOOL="exit=off",
                   TIDEPOOL_LIB=tidepool.from_environment("TIDEPOOL_LIBRARY"))
        subprocess.run([place.command, "run", "-q", "-o", place.recording, "./alpha"],
                       cwd=place.work, env=env, check=True, **place.as_user)
        require([n["reason"] for n in place.report()["tree"]] == ["exit"], "exit=off")


def hidden():
    """No descriptors, no permissions, another folder: the dump has its place all the same."""
    with Family(somebody()) as place:
        base = place.base()
        bare = os.path.join(place.work, "bare")
        os.mkdir(bare, 0o555)
        document = place.run(*f"""take 101 spawn ./beta [ take 53 cd {bare} hide ]
                             spawn ./gamma [ take 31 cd / hide exit 3 ]""".split())
        expect(document, base, ("alpha", 101, "exit", ("beta", 53, "exit"),
                                ("gamma", 31, "exit")))


def daemons():
    """One ends before the main process, one goes on: its account stays and goes on."""
    with Family() as place:
        base = place.base()
        go, done = (os.path.join(place.work, n) for n in ("go", "done"))
        document = place.run(*f"take 101 daemon [ take 53 mark {done} ] until {done}".split())
        names = sorted(n["allocations"] for n in document["tree"][1:])
        require(names == [0, 53] and "parent" in document["tree"][2], f"{names}")
        os.unlink(place.recording)
        os.unlink(done)
        place.run(*f"""take 101 daemon [ exec ./beta [ take 53 mark {done} until {go}
                  take 31 ] ] until {done}""".split(),
                  said="tidepool: 1 process of this run goes on; see /(dev/shm|tmp)/tidepool-run.*\n")
        try:
            text = run_text(place.folder)
            require("recording" not in text, "the finished recording is told as a part")
            node, = [n for n in place.report()["tree"] if n["name"] == "beta"]
            require((node["reason"], node["allocations"]) ==
                    ("request", base["allocations"] + 53), f"the daemon: {node}")
            open(go, "w", encoding="utf-8").close()
            last, = wait_for(lambda: recordings_in(place.folder))
            node, = place.report(last)["tree"]
            require((node["reason"], node["allocations"]) ==
                    ("exit", base["allocations"] + 84), f"the daemon at its end: {node}")
        finally:
            shutil.rmtree(place.folder)


def out_of_sight():
    """A process in a pid namespace of its own outlives the run: its account stays."""
    if os.geteuid() != 0:
        tidepool.skip("this needs root")
    unshare = tidepool.program("unshare")
    probe = subprocess.run([unshare, "-pf", "true"], capture_output=True, check=False)
    if probe.returncode:
        tidepool.skip(f"no pid namespace here: {probe.stderr.decode()}")
    with Family() as place:
        base = place.base()
        go, done = (os.path.join(place.work, n) for n in ("go", "done"))
        # A kill of unshare leaves its child, which is process 1 of the namespace, behind.
        place.run("/bin/sh", "-c", f"""setsid {unshare} -pf ./beta take 53 mark {done} \
                  until {go} take 31 >/dev/null 2>&1 & u=$!
                  until test -e {done}; do sleep 0.02; done; kill -9 $u; wait $u; exit 0""",
                  said="(.*\n)*tidepool: 1 process of this run goes on; see "
                  "/(dev/shm|tmp)/tidepool-run.*\n")
        try:
            node, = [n for n in place.report()["tree"] if n["name"] == "beta"]
            require((node["reason"], node["allocations"]) ==
                    ("request", base["allocations"] + 53), f"out of sight: {node}")
            open(go, "w", encoding="utf-8").close()
            last, = wait_for(lambda: recordings_in(place.folder))
            node, = place.report(last)["tree"]
            require((node["reason"], node["allocations"]) ==
                    ("exit", base["allocations"] + 84), f"at its end: {node}")
        finally:
            shutil.rmtree(place.folder)


def recordings_in(folder):
    return [os.path.join(folder, n) for n in os.listdir(folder)
            if re.search(r"\.tide(\.\d+)?$", n)]


def wait_for(ready, seconds=30):
    """The first true value of ready(); waiting for ever is a failure."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = ready()
        if found:
            return found
        time.sleep(0.01)
    raise tidepool.Failure("nothing came of the waiting")


def run_killed():
    """kill -9 of `tidepool run` in the middle: folder and part together have everyone."""
    with Family() as place:
        base = place.base()
        go = os.path.join(place.work, "go")
        part = place.recording + ".part"
        child = place.start(*f"""take 101 spawn ./beta [ take 53 ] spawn ./gamma [ take 7
            until {go} ] spawn ./beta [ take 31 ] spawn ./beta [ take 17 kill 9 ]""".split())
        wait_for(lambda: os.path.exists(part) and os.path.getsize(part))
        folder, = [f for f in folders() if run_text(f).get("pid") == str(child.pid)]
        try:
            text = run_text(folder)
            with open(f"/proc/{child.pid}/stat", encoding="ascii") as stat:
                start = stat.read().rsplit(")", 1)[1].split()[19]
            require(text["start"] == start and text["recording"] == part and
                    text["command"].startswith("./alpha take 101 spawn ./beta [ take"),
                    f"the run says {text}")
            require([n["allocations"] - base["allocations"]
                     for n in place.report(part)["tree"]] == [53], "the part has others")
            child.kill()
            child.wait()
            open(go, "w", encoding="utf-8").close()
            child.communicate(timeout=60)  # the others have the pipes, too
            wait_for(lambda: any("/alpha." in n for n in recordings_in(folder)))
            left = [os.path.join(folder, n) for n in os.listdir(folder) if n != "run"]
            expect(place.report(part, *left), base,
                   ("alpha", 101, "exit", ("beta", 53, "exit"), ("gamma", 7, "exit"),
                    ("beta", 31, "exit"), ("beta", 17, "killed")))
        finally:
            shutil.rmtree(folder)


def full_recording():
    """No room for the recording: one line says so, and what it lacks stays."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (300000, resource.RLIM_INFINITY))

    words = "take 101".split()
    for i in range(60):
        words += f"spawn ./beta [ take {1000 + i} ]".split()
    for out in (None, "/nowhere/x.tide"):
        with Family() as place:
            place.run(*words, "exit", "3", status=3, preexec_fn=None if out else limit,
                      out=out, said="tidepool: cannot write .*/x.tide(\\.part)?: .*; "
                      "(what it lacks|the recording) stays in /.*/tidepool-run.*\n"
                      ".*\n?")
            try:
                part = place.recording + ".part"
                files = recordings_in(place.folder) + ([] if out else [part])
                require(len(files) > 1, f"too few files: {files}")
                taken = sorted(n["allocations"] for n in place.report(*files)["tree"])
                first = taken[0] - 101
                require(taken == [first + 101] + [first + 1000 + i for i in range(60)],
                        f"not everyone is there: {len(taken)} processes")
            finally:
                shutil.rmtree(place.folder)


def make():
    """A build of 60 compilations by two at a time: one file, and nobody is missing."""
    for name in ("make", "gcc"):
        tidepool.program(name)
    with Family() as place:
        for i in range(60):
            with open(os.path.join(place.work, f"f{i}.c"), "w", encoding="ascii") as source:
                source.write(f"int f{i}(int a) {{ return a * {i}; }}\n")
        with open(os.path.join(place.work, "Makefile"), "w", encoding="ascii") as rules:
            rules.write("all: " + " ".join(f"f{i}.o" for i in range(60)) +
                        "\n%.o: %.c\n\t@gcc -c -O1 -o $@ $<\n")
        document = place.run(tidepool.program("make"), "-j2", "-C", place.work, "-s")
        count = {p["name"]: p["processes"] for p in document["programs"]}
        top = document["tree"][0]
        require(top["name"] in ("make", "gmake"), f"the first is {top['name']}")
        require(count.get("cc1") == 60 and len(top["children"]) == 60, f"{count}")
        require(all("parent" in n for n in document["tree"][1:]), "a child without parent")
        objects = [n for n in os.listdir(place.work) if n.endswith(".o")]
        require(len(objects) == 60, "the build is not complete")
        size = os.path.getsize(place.recording)
        n = document["sum"]["processes"]
        print(f"{n} processes, {size // n} bytes each: {count}")
        require(size // n < 12288, "the dumps are too large")  # with the stacks of cc1


if __name__ == "__main__":
    tidepool.main({f.__name__: f for f in (lies, forks, programs, shells, killed, dumps,
                                           outputs, hidden,
                                           daemons, out_of_sight, run_killed,
                                           full_recording,
                                           make)}[sys.argv[1]])
