# SPDX-License-Identifier: MIT
"""words.py TEST - wrong words to the command: one line, and the status for it."""

import re
import subprocess
import sys

import tidepool
from tidepool import require

WRONG = [  # words, status, what the line says
    ("report --bogus", 2, "unrecognized option '--bogus'"),
    ("report --sort", 2, "option '--sort' requires an argument"),
    ("report --sort=x", 2, "--sort takes .*"),
    ("report --format=x", 2, "unknown format 'x'; it is one of text, json, pprof, folded, .*"),
    ("report --types=x", 2, "--types takes peak, temporary .*"),
    ("report --types=peak,x", 2, "--types takes peak, temporary .*"),
    ("report --f", 2, "option '--f' is ambiguous.*"),
    ("report --full=3", 2, "option '--full' doesn't allow an argument"),
    ("report --focus ((a{1,500}){1,500}){1,500}", 2, "--focus: .* repeats too much.*"),
    ("dump", 2, "which process.*"),
    ("dump -x", 2, "invalid option -- 'x'"),
    ("dump 1 2", 2, "one PID or FOLDER at a time"),
    ("ls --keep=q", 2, "--keep takes a size.*"),
    ("ls --force", 2, "--force goes with --clean"),
    ("run --bogus", 125, "unrecognized option '--bogus'"),
    ("run --color=x true", 125, "--color takes .*"),
    ("run", 125, "which program.*"),
    ("ls --a\x1b[31m\nb", 2, r"unrecognized option '--a\?\[31m\?b'"),
    ("bogus", 2, "there is no command 'bogus'.*"),
    ("bo\ngus", 2, r"there is no command 'bo\?gus'.*"),
]


def wrong_words():
    for text, status, line in WRONG:
        with tidepool.Place() as place:
            done = tidepool.run(
                [tidepool.from_environment("TIDEPOOL_COMMAND"), *text.split(" ")],
                place.environment(preload=False), place.work)
        said = done.stderr.decode()
        require(done.status == status, f"{text!r} ended with {done.status}: {said}")
        require(re.fullmatch(f"tidepool: {line}\n", said), f"{text!r} said {said!r}")
        require(not done.stdout, f"{text!r} wrote {done.stdout}")


def help_is_no_error():
    command = tidepool.from_environment("TIDEPOOL_COMMAND")
    for name in ("run", "report", "dump", "ls"):
        for word, begin in (("--help", f"Usage: tidepool {name} "), ("--version", "tidepool ")):
            done = subprocess.run([command, name, word], capture_output=True, text=True,
                                  timeout=60, check=False)
            require(done.returncode == 0 and not done.stderr, f"{name} {word}: {done}")
            require(done.stdout.startswith(begin), f"{name} {word}: {done.stdout}")


if __name__ == "__main__":
    tidepool.main(globals()[sys.argv[1]])
