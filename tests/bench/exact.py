# SPDX-License-Identifier: MIT
"""What counting every block with its call stack costs: sample=all against heaptrack.

Both profile the same programs the way users do: `LD_PRELOAD` with sample=all, its exit
dump included, and `heaptrack PROGRAM`, its compressed file included. A figure is the
time that is added to the plain run on glibc, as a ratio of the two, within one round.
"""
import os
import shutil
import statistics
import subprocess
import tempfile
import time

WORKLOADS = {"strings": 1, "random": 1, "tree": 1, "server": 4}  # threads
SHARE = 10  # percent of the full workload: heaptrack takes its time
LIMIT = 0.1


def seconds(command, env, folder):
    begin = time.monotonic()
    subprocess.run(command, env=env, cwd=folder, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=900, check=True)
    return time.monotonic() - begin


def run_round(program, share, library, folder):
    """Wall time of the plain run, under Tidepool, under heaptrack."""
    plain = {"PATH": os.environ.get("PATH", os.defpath), "HOME": folder, "LC_ALL": "C.UTF-8"}
    ours = {**plain, "LD_PRELOAD": library, "TIDEPOOL": f"sample=all,out={folder}/%p.tide"}
    command = [program, str(share)]
    times = (seconds(command, plain, folder), seconds(command, ours, folder),
             seconds(["heaptrack", "-o", folder + "/heaptrack", *command], plain, folder))
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    return times


def compare(build_dir, library, rounds, quick):
    """Prints a row for each workload; True when all keep the limit."""
    if not shutil.which("heaptrack"):
        print("bench: heaptrack is not installed")
        return False
    share = 2 if quick else SHARE
    print(f"\nexact mode: time added to glibc's, {rounds} rounds, {share} % of the workload\n"
          f"{'':12}{'threads':>8}{'plain s':>9}{'tidepool s':>12}{'heaptrack s':>13}"
          f"{'added, ratio':>14}")
    kept = True
    for name, threads in WORKLOADS.items():
        program = os.path.join(build_dir, "tests", "bench", "bench-" + name)
        with tempfile.TemporaryDirectory(prefix="tidepool-bench-") as folder:
            run_round(program, share, library, folder)  # warms up
            times = [run_round(program, share, library, folder) for _ in range(rounds)]
        ratios = [(ours - plain) / (theirs - plain) for plain, ours, theirs in times]
        plain, ours, theirs = (statistics.median(column) for column in zip(*times))
        ratio = statistics.median(ratios)
        kept = kept and ratio <= LIMIT
        print(f"{name:12}{threads:8}{plain:9.2f}{ours:12.2f}{theirs:13.2f}{ratio:14.3f}"
              f"   {min(ratios):.3f}-{max(ratios):.3f}")
    return kept
