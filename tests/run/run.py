#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""run.py [--plain] NAME - runs one scene and compares its account with its head.

A scene is a tiny program, NAME.c or NAME.cpp beside this file, built as TIDEPOOL_SCENES/NAME. The
comment at its top says what its account must be, in lines of these kinds:

  case: WORD               what follows holds for this case only; lines before the
                           first case hold for all. Each case is a run of its own
  program: NAME            TIDEPOOL_SCENES/NAME instead: another build of the source
  arg: WORDS               arguments
  env: NAME=VALUE          added to the environment
  options: KEY=VALUE,...   added to TIDEPOOL (out= is set to {out}/%e.%p.%n.tide);
                           {out} and {work} stand for the two folders
  preload: NAME            TIDEPOOL_SCENES/libNAME.so, preloaded before the library
  preload_after: NAME      the same, after it
  audit: NAME              the same, as LD_AUDIT
  ignore: SIGNAL           ignored by the one who starts the scene
  limit: NAME SIZEm        a resource limit that holds from the start, in MiB
  status: 0 | SIGABRT      how it ends (default 0); 77 is a skip, its stderr says why
  stderr: REGEX            what it writes there (default: nothing)
  plain: no                --plain cannot run this case
  let: NAME = EXPRESSION   a name for the expressions of expect
  expect: EXPRESSION       a Python expression that must be true

Names in an expression:
  said      what the scene wrote, lines `key value` or `key index value`
  dumps     the recordings of the process itself, by sequence; first, last of them
  delta     the second dump less the first: exact, whatever start-up allocated
  children  the recordings of its children
  live      the recording that `tidepool report PID` gives after its end
  files     names in the out folder; work, out: those folders
  matches(account, said)   every total, class and call that the scene counted itself
  stacks(account)          {functions of the scene and its libraries, innermost first: allocations}
  stacks(account, leaf, figure='live_blocks')   the same, of stacks whose innermost function
                           is `leaf`, and another figure
  tenants(account)         {library that was unloaded: how often it had been there}
  innermost(stacks)        {innermost function: allocations}

--plain runs the cases without the library: only the scene's own checks count.
SCENE_OPTIONS in the environment is added to the options of every case.
"""

import ast
import builtins
import collections
import os
import re
import resource
import signal
import subprocess
import sys

import tidepool
from tidepool import Failure, require

HERE = os.path.dirname(os.path.abspath(__file__))
KEYS = ("case", "program", "arg", "env", "options", "preload", "preload_after", "audit", "ignore", "limit",
        "status", "stderr", "plain", "let", "expect")


class Node(dict):
    """A JSON object whose keys can be written after a dot."""

    def __getattr__(self, key):
        if key not in self:
            raise Failure(f"the account has no key {key}: {sorted(self)}")
        return self[key]


class Skipped(Exception):
    """The scene ended with 77: what it needs is not to be had here; the text says why."""


def nodes(value):
    if isinstance(value, dict):
        return Node((k, nodes(v)) for k, v in value.items())
    return [nodes(v) for v in value] if isinstance(value, list) else value


def cases_of(path):
    """The cases of a scene's head comment: a list of lists of (key, value)."""
    with open(path, encoding="utf-8") as source:
        head = source.read().split("*/\n")
    text = next(part for part in head if f"{os.path.basename(path)} - " in part)
    common, cases = [], []
    for line in text.splitlines():
        found = re.match(r" \*\s+(\w+): (.*)", line)
        if found and found[1] in KEYS:
            if found[1] == "case":
                cases.append(list(common))
            (cases[-1] if cases else common).append(found.groups())
        elif re.match(r" \*\s{6,}\S", line) and (cases or common):
            lines = cases[-1] if cases else common  # a long line goes on, indented
            lines[-1] = (lines[-1][0], lines[-1][1] + " " + line[2:].strip())
    return cases or [common]


def less(later, earlier):
    """later - earlier, number by number; rows are matched by size or by thread."""
    if isinstance(later, dict):
        return Node((k, less(v, (earlier or {}).get(k))) for k, v in later.items())
    if isinstance(later, list):
        def name(row):
            return row.get("size_bytes", row.get("tid")) if isinstance(row, dict) else 0
        before = {name(row): row for row in earlier or []}
        rows = []
        for row in later:
            rows.append(less(row, before.get(name(row))))
            if isinstance(row, dict):
                rows[-1].update((k, row[k]) for k in ("size_bytes", "tid") if k in row)
        return rows
    if isinstance(later, (int, float)) and not isinstance(later, bool):
        return later - (earlier or 0)
    return later


def said_of(stdout):
    said = Node()
    for line in stdout.decode().splitlines():
        key, *numbers = line.split()
        numbers = [int(n) for n in numbers]
        if len(numbers) == 2:
            said.setdefault(key, {})[numbers[0]] = numbers[1]
        else:
            said[key] = numbers[0]
    return said


def matches(account, said):
    """Compares all that the scene counted (scene.h, say_book) with the account."""
    totals_match(account, said)
    sizes = {row["size_bytes"]: row for row in account["size_classes"]}
    pairs = [("allocations", "taken"), ("frees", "given"), ("requested_bytes", "asked")]
    for key, word in pairs:
        counted = {}
        for size, number in said.get(word, {}).items():
            row = size if size in sizes else "large"
            counted[row] = counted.get(row, 0) + number
        for size, row in list(sizes.items()) + [("large", account["large"])]:
            require(row[key] == counted.get(size, 0),
                    f"class {size}: {key} {row[key]}, the scene counted "
                    f"{counted.get(size, 0)}")
    return True


def totals_match(account, said):
    """The sums alone, where the sizes of the blocks do not tell whose they are."""
    for key in tidepool.SUMS:
        require(account.totals[key] == said[key],
                f"totals.{key}: {account.totals[key]}, the scene counted {said[key]}")
    return True


def threads_match(account, said, key, word):
    """Per thread: account.threads[].key, where the scene said `word TID number`."""
    rows = {row["tid"]: row[key] for row in account["threads"]}
    for tid, number in said[word].items():
        require(rows.get(tid) == number,
                f"thread {tid}: {key} {rows.get(tid)}, the scene counted {number}")
    return True


def stacks(account, leaf=None, figure="allocations"):
    """A figure by call stack, where the innermost frame is the scene's, or `leaf`."""
    found = collections.Counter()
    folder = os.path.realpath(os.environ["TIDEPOOL_SCENES"])
    for site in account.sites:
        own = [os.path.dirname(os.path.realpath(f.module)) == folder for f in site.stack]
        names = tuple(re.split(r"[.(]", frame.function)[0]
                      for frame, is_own in zip(site.stack, own) if is_own)
        if own and site[figure] and (site.stack[0].function == leaf if leaf else own[0]):
            found[names[:names.index("main") + 1] if "main" in names else names] += site[figure]
    return found


def tenants(account):
    """How often a library of the scenes' was there, where it is no more."""
    return collections.Counter(os.path.basename(module.path) for module in account.modules
                               if "tenant" in module.path and "unloaded_seconds" in module)


def innermost(found):
    sums = collections.Counter()
    for names, allocations in found.items():
        sums[names[0]] += allocations
    return sums


def start(name, lines, place, plain):
    """Runs one case; returns (what it left, the values of its lines)."""
    def values(key):
        found = [v for k, v in lines if k == key]
        if key in ("env", "options", "arg"):
            return [v.replace("{out}", place.out).replace("{work}", place.work)
                    for v in found]
        return found

    scene = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"),
                         (values("program") or [name])[-1])
    options = values("options") + [o for o in [os.environ.get("SCENE_OPTIONS")] if o]
    env = place.environment(",".join(options), preload=not plain,
                            SCENE_PLAIN="1" if plain else "",
                            **dict(v.split("=", 1) for v in values("env")))
    def libraries(key):
        return [os.path.join(os.environ["TIDEPOOL_SCENES"], f"lib{n}.so")
                for n in values(key)]

    ours = [env["LD_PRELOAD"]] if not plain else []
    env["LD_PRELOAD"] = ":".join(libraries("preload") + ours + libraries("preload_after"))

    if values("audit"):
        env["LD_AUDIT"] = libraries("audit")[-1]

    def prepare():
        for word in values("ignore"):
            signal.signal(getattr(signal, word), signal.SIG_IGN)
        for name_and_size in values("limit"):
            word, size = name_and_size.rstrip("m").split()
            resource.setrlimit(getattr(resource, word), (int(size) << 20, int(size) << 20))

    words = [w for v in values("arg") for w in v.split()]
    done = tidepool.run([scene] + words, env, cwd=place.work, preexec_fn=prepare)
    wanted = (values("status") or ["0"])[-1]
    number = 128 + getattr(signal, wanted) if wanted.startswith("SIG") else int(wanted)
    text = done.stderr.decode(errors="replace")
    if done.status == 77:
        raise Skipped(text.strip())
    require(done.status == number,
            f"ended with {done.status}, not {number}; stderr: {text[-800:]}")
    if not plain:
        for pattern in values("stderr"):
            require(re.search(pattern, text), f"stderr lacks {pattern!r}: {text[-800:]}")
        require(values("stderr") or not text, f"stderr is not empty: {text[-800:]}")
    return done, values("let"), values("expect")


def run_case(name, lines, plain):
    with tidepool.Place() as place:
        done, lets, expressions = start(name, lines, place, plain)
        if plain:
            return
        every = [nodes(r) for r in place.dumps()]
        for recording in every:
            tidepool.check(recording)
        own = [r for r in every if r.process.pid == done.pid]
        names = {
            "said": said_of(done.stdout), "dumps": own, "files": os.listdir(place.out),
            "children": [r for r in every if r.process.pid != done.pid],
            "work": place.work, "out": place.out, "os": os, "matches": matches,
            "totals_match": totals_match, "threads_match": threads_match, "stacks": stacks, "innermost": innermost,
            "tenants": tenants, "stderr": done.stderr.decode(),
            "read": lambda *targets: [nodes(r) for r in tidepool.read(*targets)],
        }
        if own:
            numbers = [r.dump.sequence for r in own]
            if numbers == sorted(set(numbers)):  # not so after an exec
                tidepool.monotone(own)
            names.update(first=own[0], last=own[-1])
        if len(own) > 1:
            names["delta"] = less(own[1], own[0])
        if any("live" in names_in(e) for e in expressions):
            names["live"] = nodes(tidepool.read_pid(place, done.pid))
            tidepool.check(names["live"])
        for let in lets:
            word, text = let.split(" = ", 1)
            names[word] = eval(text, names)  # as those below
        for expression in expressions:
            explain(expression, names)


def names_in(expression):
    """The names that an expression takes from outside itself."""
    nodes_in = [n for n in ast.walk(ast.parse(expression, mode="eval"))
                if isinstance(n, ast.Name)]
    own = {n.id for n in nodes_in if isinstance(n.ctx, ast.Store)}
    return {n.id for n in nodes_in} - own


def explain(expression, names):
    """Fails with both sides of a comparison, which is what one wants to know."""
    missing = names_in(expression) - set(names) - set(dir(builtins))
    require(not missing, f"{expression}: there is no {', '.join(sorted(missing))} "
            f"(dumps: {len(names['dumps'])}, files: {names['files']})")

    def value(text):
        return eval(text, names)  # our own head comments, nobody else's

    if value(expression):
        return
    tree = ast.parse(expression, mode="eval").body
    sides = [ast.unparse(s) for s in [tree.left] + tree.comparators] \
        if isinstance(tree, ast.Compare) else []
    raise Failure(f"expected {expression}; " +
                  ", ".join(f"{s} = {str(value(s))[:300]}" for s in sides))


def main():
    plain = "--plain" in sys.argv
    names = [a for a in sys.argv[1:] if not a.startswith("--")]
    if len(names) != 1:
        sys.exit(__doc__)
    source = os.path.join(HERE, names[0])
    cases = cases_of(source + (".cpp" if os.path.exists(source + ".cpp") else ".c"))
    failures = skips = 0
    for lines in cases:
        word = next((v for k, v in lines if k == "case"), "-")
        if plain and ("plain", "no") in lines:
            print(f"{names[0]} {word}: not for --plain")
            continue
        try:
            run_case(names[0], lines, plain)
            print(f"{names[0]} {word}: passed")
        except Skipped as skipped:
            skips += 1
            print(f"{names[0]} {word}: skipped: {skipped}")
        except (Failure, subprocess.SubprocessError, OSError) as failure:
            failures += 1
            print(f"{names[0]} {word}: FAILED: {failure}")
    sys.exit(1 if failures else 77 if skips == len(cases) else 0)


if __name__ == "__main__":
    main()
