# SPDX-License-Identifier: MIT
"""What scripts/bench times: the patterns of tests/bench and real programs.

A workload has a name, a command, what goes in and comes out, and how many threads it
keeps busy at most: it is bound to as many processors.
"""
import collections
import os
import shutil
import sys

import inputs
import machine

# Threads that each pattern runs with; a pattern that knows none has one. The name is
# followed by the number when there are several.
PATTERNS = {"bignum": [1], "random": [1], "large": [1], "grow": [1], "zeroed": [1],
            "tree": [1], "strings": [1], "medium": [1], "sparse": [1], "start": [1],
            "server": [1, 2, 4], "threads": [1, 2, 4], "pipeline": [1, 2, 4],
            "handover": [2, 4], "fan-in": [4], "fan-out": [4], "sharing": [2, 4]}
# Patterns that are another one with a third argument.
SHAPES = {"fan-in": ("handover", "in"), "fan-out": ("handover", "out")}
IDLE = {"sparse": 2.0}  # seconds of a whole run in which the program only rests

Workload = collections.namedtuple(
    "Workload", "name command stdin outputs env threads idle server",
    defaults=(None, (), {}, 1, 0.0, False))


def pattern_names():
    """{name of the workload: (pattern, threads)} of all patterns."""
    names = {}
    for pattern, threads in PATTERNS.items():
        for n in threads:
            names[pattern if threads == [1] else f"{pattern}-{n}"] = (pattern, n)
    return names


class Programs:
    """Writes the input of the real programs into a folder and lists all workloads."""

    def __init__(self, folder, build_dir, share):
        self.folder, self.build_dir, self.share = folder, build_dir, share
        self.found = []
        self.add_patterns()
        self.add_programs()

    def file(self, name, text):
        """Writes an input; returns its path."""
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        return path

    def part(self, full):
        """The share of a whole workload that this run does."""
        return max(1, round(full * self.share))

    def add(self, name, program, *arguments, **more):
        """Adds a workload; names a program that is not there."""
        if not program or not shutil.which(program):
            print(f"bench: skipping {name}: no program for it", file=sys.stderr)
            return
        self.found.append(Workload(name, [program, *arguments], **more))

    def add_patterns(self):
        """The patterns, with each number of threads."""
        for name, (pattern, threads) in pattern_names().items():
            source, *shape = SHAPES.get(pattern, (pattern,))
            program = os.path.join(self.build_dir, "tests", "bench", "bench-" + source)
            if not os.path.exists(program):
                machine.die(f"cannot find {program}: not built")
            self.add(name, program, str(self.part(100)), str(threads), *shape,
                     threads=threads, idle=IDLE.get(pattern, 0.0) * self.part(100) / 100)

    def add_programs(self):
        """Real programs, one thread each."""
        # The distribution's Python if there is one: others may be wrapped in scripts.
        python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
        script = self.file("records.py", inputs.json_script(self.part(5)))
        self.add("python", python, "-I", script)
        self.add("py-malloc", python, script, env={"PYTHONMALLOC": "malloc"})
        self.add("sqlite3", "sqlite3", "-batch", ":memory:",
                 stdin=self.file("items.sql", inputs.sql(self.part(200000))))
        self.add("cc1", machine.capture("gcc", "-print-prog-name=cc1"), "-quiet", "-O2",
                 self.file("large.c", inputs.c_source(self.part(130))), "-o", "large.s",
                 outputs=["large.s"])
        self.add("z3", "z3", self.file("problems.smt2", inputs.smt(self.part(2))))
        self.add("gs", "gs", "-q", "-dSAFER", "-dBATCH", "-dNOPAUSE", "-sDEVICE=ppmraw",
                 "-r150", "-dGraphicsAlphaBits=4", "-dTextAlphaBits=4", "-sOutputFile=-",
                 self.file("pages.ps", inputs.postscript(self.part(3))))
        self.add("perl", "perl",
                 self.file("words.pl", inputs.perl_script(self.part(60000))),
                 env={"PERL_HASH_SEED": "0"})
        server = os.path.join(self.folder, "redis-server")
        if shutil.which("redis-check-rdb"):
            os.symlink(shutil.which("redis-check-rdb"), server)
        self.add("redis", server, "--port", "0", "--unixsocket", "redis.sock",
                 "--dir", ".", "--save", "", "--appendonly", "no",
                 "--enable-debug-command", "yes",
                 stdin=self.file("redis.txt", inputs.redis_commands()),
                 env={"REQUESTS": str(self.part(120000))}, server=True)


def choose(text, known, what):
    """Returns the names given in `text`, in the order of `known`; all when None. The name
    of a pattern means it with each number of threads."""
    if text is None:
        return list(known)
    wanted = text.split(",")
    for name in wanted:
        if not any(name in (k, k.rpartition("-")[0]) for k in known):
            machine.die(f"unknown {what} {name}: one of {', '.join(known)}")
    return [k for k in known if k in wanted or
            (k.rpartition("-")[0] in wanted and k.rpartition("-")[2].isdigit())]
