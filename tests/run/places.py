#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""places.py TEST - hostile places: the program runs as ever, one line says what is lost.

Each test runs the scene `prints` where the library cannot have what it wants, and
compares its stdout and exit status with a run without the library. stderr may hold
exactly one line of ours, which must name the matter; what dumps there are must hold.
"""

import os
import re
import resource
import subprocess
import sys

import tidepool
from tidepool import require


def program():
    return os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "prints")


def compare(place, options="", pattern="", lines=1, more=None, wrap=(), **env):
    """Without and with the library; returns the second run."""
    command = list(wrap) + [program()]
    kept = {k: v for k, v in env.items() if k != "TIDEPOOL"}
    plain = tidepool.run(command, place.environment(preload=False, **kept), place.work,
                         preexec_fn=more)
    done = tidepool.run(command, place.environment(options, **env), place.work,
                        preexec_fn=more)
    plain.same_as(done, "prints", stderr=False)
    require(plain.status == 7 and plain.stderr == b"", f"prints itself failed: {plain.stderr}")
    text = done.stderr.decode()
    said = text.splitlines()
    require(len(said) == lines, f"{len(said)} lines on stderr, not {lines}: {text!r}")
    for line in said:
        require(line.startswith("tidepool: ") and re.search(pattern, line),
                f"the line does not say {pattern!r}: {line!r}")
    if said:
        print("said:", " | ".join(said))
    return done


def limit(what, value):
    return lambda: resource.setrlimit(what, (value, value))


def ulimit_v():
    """64 MB of address space: the pools get a smaller range, or none."""
    with tidepool.Place() as place:
        done = compare(place, lines=0, more=limit(resource.RLIMIT_AS, 64 << 20)) \
            if silent_under_limit(place) else \
            compare(place, pattern="address space|reserve|range",
                    more=limit(resource.RLIMIT_AS, 64 << 20))
        require(tidepool.check_all(place.dumps())[0]["totals"]["allocations"] > 5003,
                "not everything was counted")
        require(done.status == 7, "another status")


def silent_under_limit(place):
    """Nothing is lost when a smaller range does: then there is nothing to say."""
    done = tidepool.run([program()], place.environment(out="", options=f"out={place.work}/x"),
                        place.work, preexec_fn=limit(resource.RLIMIT_AS, 64 << 20))
    return done.stderr == b""


def data_limit():
    """RLIMIT_DATA counts private writable mappings: 64 MB of them must do.

    With less the program may get NULL, which it answers with status 1: an error of its
    own, never a crash of ours. Below 4 MB the loader has no room for a library.
    """
    with tidepool.Place() as place:
        for megabytes in (64, 32, 28, 24, 20, 16, 12, 8, 6, 4):
            done = tidepool.run([program()], place.environment(), place.work,
                                preexec_fn=limit(resource.RLIMIT_DATA, megabytes << 20))
            require(done.status == 7 or (megabytes < 64 and done.status == 1),
                    f"{megabytes} MB: ended with {done.status}: {done.stderr}")
            require(done.status == 1 or done.stdout == b"sum 25032004\n", "another sum")
        tidepool.check_all(place.dumps())


def full_tmpfs():
    """The folder of live files and the one of dumps are on a full file system."""
    if os.geteuid() != 0:
        tidepool.skip("mounting a small tmpfs needs root")
    with tidepool.Place() as place:
        full = os.path.join(place.top, "full")
        os.mkdir(full)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", full],
                                 capture_output=True, check=False)
        if mounted.returncode:
            tidepool.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode()}")
        try:
            with open(os.path.join(full, "filler"), "wb", buffering=0) as filler:
                try:
                    while filler.write(b"x" * 4096):
                        pass
                except OSError:
                    pass
            compare(place, f"live={full}", "live|space|memory")
            check_left(full)
            tidepool.check_all(place.dumps())
            compare(place, f"out={full}/x.tide", "cannot write|space|x.tide")
            check_left(full)
        finally:
            subprocess.run(["umount", full], check=False)


def check_left(folder):
    left = os.listdir(folder)
    require(left == ["filler"], f"half a file was left on the full file system: {left}")


def unwritable():
    """Neither the live file nor the dump can be created where they should."""
    with tidepool.Place() as place:
        folder = "/proc/self/no-such-folder"
        compare(place, f"live={folder}", "live|no-such-folder|memory")
        tidepool.check_all(place.dumps())
        compare(place, f"out={folder}/x.tide", "no-such-folder")


def nonsense():
    """Each word that is no option is told in one line, and everything else works."""
    with tidepool.Place() as place:
        out = f"out={place.out}/%e.%p.%n.tide"
        for count, text in ((1, "sampel=1"), (1, "sample=lots"), (1, "depth=99999"),
                            (1, "check=perhaps"), (1, "signal=FOO"), (1, "purge=1x"),
                            (2, "=,,,unwind"), (2, "\\,\\,=\\,,interval=soon"),
                            (1, "x" * 5000), (1, "\x01\xff\n=%s%n")):
            env = place.environment(TIDEPOOL=f"{out},{text}")
            done = tidepool.run([program()], env, place.work)
            require((done.status, done.stdout) == (7, b"sum 25032004\n"),
                    f"{text[:40]!r}: ended with {done.status}")
            lines = done.stderr.decode(errors="replace").splitlines()
            require(1 <= len(lines) <= count + 2 and
                    all(line.startswith("tidepool: ") for line in lines),
                    f"{text[:40]!r}: stderr is {done.stderr[:400]!r}")
        tidepool.check_all(place.dumps(), 10)


def help():
    """TIDEPOOL=help prints the table of keys, and the program runs."""
    with tidepool.Place() as place:
        done = tidepool.run([program()], place.environment(TIDEPOOL="help"), place.work)
        require((done.status, done.stdout) == (7, b"sum 25032004\n"), "the program differs")
        for key in ("sample", "out", "exit", "signal", "interval", "live", "summary",
                    "follow", "depth", "unwind", "command", "zero", "check", "reserve", "purge"):
            require(re.search(rf"(?m)^(tidepool:)?\s*{key}\b", done.stderr.decode()),
                    f"the table lacks {key}: {done.stderr.decode()}")


def file_size():
    """RLIMIT_FSIZE of 4 KiB: no SIGXFSZ may reach the program."""
    with tidepool.Place() as place:
        done = tidepool.run([program()], place.environment(), place.work,
                            preexec_fn=limit(resource.RLIMIT_FSIZE, 4096))
        require((done.status, done.stdout) == (7, b"sum 25032004\n"),
                f"ended with {done.status}: {done.stderr}")
        lines = done.stderr.decode().splitlines()
        require(1 <= len(lines) <= 2 and all(l.startswith("tidepool: ") for l in lines),
                f"stderr is {done.stderr}")


def closed_descriptors():
    """stdin, stdout and stderr closed: our files must not become the program's."""
    with tidepool.Place() as place:
        done = tidepool.run(["sh", "-c", 'exec "$0" <&- >&- 2>&-', program()],
                            place.environment(), place.work)
        require((done.stdout, done.stderr) == (b"", b""), "something was written")
        tidepool.check_all(place.dumps())


if __name__ == "__main__":
    tidepool.main(globals()[sys.argv[1]])
