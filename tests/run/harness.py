#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""harness.py - the checks of tidepool.py and run.py find what they are made to find.

A made-up recording, right in every identity, must pass; each small lie must not.
"""

import copy
import glob
import os

import run
import tidepool
from tidepool import Failure, require


def right():
    """Seven mallocs of 100, two of 5000 on a second thread, one large; some freed."""
    def row(size, taken, given, asked):
        return {"allocations": taken, "frees": given, "live_blocks": taken - given,
                "live_bytes": (taken - given) * size, "requested_bytes": asked, "slabs": 1,
                "slab_bytes": 65536, "size_bytes": size}

    large = row(200704, 1, 0, 200003)
    del large["size_bytes"]
    return {
        "dump": {"reason": "exit", "sequence": 0, "complete": True},
        "process": {"pid": 7, "name": "made-up"},
        "totals": {"allocations": 11, "frees": 4, "live_blocks": 7, "requested_bytes": 210803,
                   "allocated_bytes": 8 * 112 + 2 * 5120 + 200704,
                   "freed_bytes": 3 * 112 + 5120, "live_bytes": 5 * 112 + 5120 + 200704,
                   "peak_bytes": 211840, "peak_bytes_low": 211840, "peak_bytes_high": 211840,
                   "peak_exact": True, "peak_seconds": 0.5},
        "calls": {"malloc": 9, "calloc": 0, "realloc": 4, "reallocarray": 0,
                  "aligned_alloc": 0, "posix_memalign": 0, "memalign": 1, "valloc": 0,
                  "pvalloc": 0, "free": 2, "realloc_in_place": 1, "realloc_moved": 1,
                  "failed": 1},
        "size_classes": [row(112, 8, 3, 800), row(5120, 2, 1, 10000), row(9216, 0, 0, 0)],
        "large": large,
        "threads": [
            {"tid": 7, "running": True, "allocations": 9, "frees": 3, "requested_bytes": 200803,
             "allocated_bytes": 8 * 112 + 200704, "freed_bytes": 3 * 112, "remote_frees": 0},
            {"tid": 8, "running": False, "allocations": 2, "frees": 1, "requested_bytes": 10000,
             "allocated_bytes": 10240, "freed_bytes": 5120, "remote_frees": 1}],
    }


def numbers(value, path=()):
    """The path of every number below a JSON value."""
    if isinstance(value, bool):
        return
    if isinstance(value, (int, float)):
        yield path
    for key, part in (value.items() if isinstance(value, dict) else
                      enumerate(value) if isinstance(value, list) else ()):
        yield from numbers(part, path + (key,))


def found(recording):
    try:
        tidepool.check(recording)
    except Failure:
        return True
    return False


UNCHECKED = ("pid", "tid", "sequence", "slabs", "slab_bytes", "peak_seconds", "remote_frees")


def main():
    require(not found(right()), "a right recording does not pass")
    lies = 0
    for path in numbers(right()):
        if path[-1] in UNCHECKED or path == ("size_classes", 2, "size_bytes"):
            continue
        lie = copy.deepcopy(right())
        where = lie
        for key in path[:-1]:
            where = where[key]
        where[path[-1]] += 1
        require(found(lie), f"one more at {path} goes unnoticed")
        lies += 1
    require(lies > 50, f"only {lies} lies were tried")
    later = copy.deepcopy(right())
    later["totals"]["frees"] -= 1
    try:
        tidepool.monotone([right(), later])
        raise AssertionError("a counter that falls goes unnoticed")
    except Failure:
        pass
    difference = run.less(run.nodes(later), run.nodes(right()))
    require(difference.totals.frees == -1 and difference.size_classes[1].size_bytes == 5120,
            "the difference of two accounts is wrong")
    said = run.said_of(b"live 5\ntaken 112 8\ntaken 5120 2\n")
    require(said == {"live": 5, "taken": {112: 8, 5120: 2}}, f"said: {said}")
    check_heads()


def check_heads():
    """Every scene says what it expects, in lines that can be read."""
    helpers = {"early", "hungry", "fastpath", "fault", "kin", "leader_gone", "storm_churn",
               "witness_work", "plug", "opener", "other_malloc", "wrapper", "auditor",
               "many_tls", "stack_oracle", "known_sites",
               "lazy_plug", "tenant"}
    for path in glob.glob(os.path.join(run.HERE, "*.c*")):
        name = os.path.basename(path).rsplit(".", 1)[0]
        if name in helpers:
            continue
        for lines in run.cases_of(path):
            keys = [k for k, v in lines]
            require("expect" in keys or "status" in keys or "stderr" in keys,
                    f"{name} expects nothing: {lines}")
            for key, value in lines:
                if key == "expect":
                    run.names_in(value)  # raises where it is no Python


if __name__ == "__main__":
    tidepool.main(main)
