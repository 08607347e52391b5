#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""stack.py PROGRAM - our walks in a program that runs, against libunwind's.

The library stack_oracle is preloaded; every so many calls of malloc it walks the stack
both ways and compares frame by frame. Of all stacks 99.5 % must be equal, and what is
remembered must be what is walked. stack_gtk is a program with a window.
"""

import contextlib
import glob
import os
import re
import subprocess
import sys

import tidepool
from tidepool import require

C_SOURCE = """
struct list { struct list *next; int value; };
int sum(struct list *l) { int n = 0; for (; l; l = l->next) n += l->value; return n; }
double mean(const double *a, int n) { double s = 0; for (int i = 0; i < n; i++) s += a[i];
 return n ? s / n : 0; }
"""


def compiler(place):
    done = subprocess.run(["gcc", "-print-prog-name=cc1"], capture_output=True, text=True,
                          check=False)
    source = os.path.join(place.out, "source.c")
    with open(source, "w", encoding="utf-8") as file:
        file.write(C_SOURCE)
    return [done.stdout.strip(), "-O2", "-quiet", source, "-o", "/dev/null"]


# Program: its command, and every which call of malloc is looked at.
PROGRAMS = {
    "stack_python": (lambda place: [sys.executable, "-c",
                              "import json, re, decimal; json.dumps(list(range(20000)))"], 97),
    "stack_sqlite": (lambda place: ["sqlite3", ":memory:",
                              "create table t(a, b); with recursive c(x) as (select 1 union "
                              "all select x + 1 from c where x < 20000) insert into t select "
                              "x, hex(randomblob(20)) from c; select count(*) from t;"], 31),
    "stack_git": (lambda place: ["git", "--no-pager", "-C", os.path.dirname(__file__), "log",
                           "--stat", "-n", "10"], 13),
    "stack_gcc": (compiler, 13),
    "stack_perl": (lambda place: ["perl", "-e", "my %h; $h{$_ % 977} .= q(x) for 1 .. 20000;"], 13),
    "stack_node": (lambda place: ["node", "-e", "let a = []; for (let i = 0; i < 1e5; i++) "
                            "a.push({x: i}); JSON.stringify(a)"], 997),
    "stack_gtk": (lambda place: [tidepool.program("gtk3-demo"), "--run=textview", "--autoquit"], 7),
    "stack_throws": (lambda place: [os.path.join(
        tidepool.from_environment("TIDEPOOL_SCENES"), "throws")], 997),
}


def main():
    command, every = PROGRAMS[sys.argv[1]]
    oracle = glob.glob(os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"),
                                    "libstack_oracle.so"))
    if not oracle:
        tidepool.skip("no libunwind to compare with")
    with tidepool.Place() as place:
        result = os.path.join(place.out, "result")
        env = dict(os.environ, LD_PRELOAD=oracle[0], STACK_RESULT=result,
                   STACK_EVERY=str(every), PYTHONMALLOC="malloc", SCENE_PLAIN="1")
        with tidepool.Screen() if sys.argv[1] == "stack_gtk" else contextlib.nullcontext({}) as screen:
            try:
                words = command(place)
                subprocess.run(words, env=env | screen, stdout=subprocess.DEVNULL, check=True,
                               timeout=150)
            except FileNotFoundError as missing:
                tidepool.skip(f"{missing.filename} is not installed")
        text = open(result, encoding="utf-8").read()
    print(text)
    sums = [{k: int(v) for k, v in re.findall(r"(\w+) (\d+)", line)}
            for line in text.splitlines() if line.startswith("stacks ")]
    stacks = sum(row["stacks"] for row in sums)
    require(stacks >= 20, f"only {stacks} stacks were compared")
    same = sum(row["same"] for row in sums)
    require(same >= 0.995 * stacks, f"{same} of {stacks} stacks are the same")
    require(sum(row["remembered"] for row in sums) == stacks, "what is remembered differs")
    recalled = sum(row["recalled"] for row in sums)
    require(sum(row["wrong"] for row in sums) == 0, "what is recalled differs")
    require(recalled > 0, "no stack was recalled")


if __name__ == "__main__":
    tidepool.main(main)
