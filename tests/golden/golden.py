#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""golden.py TIDEPOOL [--update] - the committed dumps must give the committed reports.

Every dumps/NAME.tide must be what make_dump.py makes, and `tidepool report` of it must
be expected/NAME.END byte for byte in every format, pprof as text (the version of the tool
stands as @VERSION@ there). With --update the dumps and the expectations are written anew.
"""
import difflib
import os
import pathlib
import subprocess
import sys

import make_dump
import profile_proto

HERE = pathlib.Path(__file__).parent
DUMPS, EXPECTED = HERE / "dumps", HERE / "expected"
FORMATS = {"txt": "text", "json": "json", "folded": "folded", "heap": "heap", "csv": "csv",
           "speedscope.json": "speedscope", "pprof.txt": "pprof", "heaptrack": "heaptrack"}
WHOLE = ("text", "json")  # of all processes anyway


def report(tool, name, form):
    """What the tool says, with its version replaced."""
    clean = {k: v for k, v in os.environ.items()
             if k not in ("NO_COLOR", "LC_CTYPE", "LANG", "LD_PRELOAD", "TIDEPOOL")}
    clean["LC_ALL"] = "C"
    words = [tool, "report", "--format", form] + ([] if form in WHOLE else ["--merge"])
    out = subprocess.run([*words, f"dumps/{name}.tide"], cwd=HERE, env=clean,
                         capture_output=True, check=False)
    if out.returncode or out.stderr:
        return f"status {out.returncode}\n{out.stderr.decode()}"
    version = os.environ["TIDEPOOL_VERSION"]
    if form == "pprof":
        text = profile_proto.Profile(out.stdout).text()
        return text.replace(f"comment tidepool {version}", "comment tidepool @VERSION@", 1)
    text = out.stdout.decode().replace(f"tidepool@{version}", "tidepool@@VERSION@", 1)
    if form == "json":
        text = text.replace(f'"version": "{version}"', '"version": "@VERSION@"', 1)
    return text


def check(tool, name, end, update):
    """Prints the difference, if any, and returns whether there is none."""
    path = EXPECTED / f"{name}.{end}"
    seen = report(tool, name, FORMATS[end])
    if update:
        path.write_bytes(seen.encode())
    wanted = path.read_bytes().decode() if path.exists() else ""
    diff = difflib.unified_diff(wanted.splitlines(), seen.splitlines(), f"{name}.{end}",
                                "tidepool report", lineterm="")
    print("\n".join(f"# {line}" for line in diff))
    return seen == wanted


def main():
    tool, update = os.path.abspath(sys.argv[1]), "--update" in sys.argv
    said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
    os.environ["TIDEPOOL_VERSION"] = said.split()[1]
    n, bad = 0, 0
    print(f"1..{len(make_dump.GOLDEN) * (1 + len(FORMATS))}")
    for name, make in make_dump.GOLDEN.items():
        path = DUMPS / f"{name}.tide"
        if update:
            path.write_bytes(make())
        results = [(f"{name}.tide is what the generator makes",
                    path.exists() and path.read_bytes() == make())]
        results += [(f"{name}.{end} is byte for byte the same",
                     check(tool, name, end, update)) for end in FORMATS]
        for what, good in results:
            n, bad = n + 1, bad + (not good)
            print(f"{'ok' if good else 'not ok'} {n} - {what}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
