#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""limits.py TEST - a process that narrows what it may do, or is narrowed from outside.

The scene `limits` does something to itself (loses its root, its user, its descriptors,
...) and then lets a hundred threads work, which need four bays of counters. It must end
as ever, and its live file must hold all of them: nothing but memory calls is needed for
that. Where the narrowing is in its surroundings, the scene `prints` runs in a mount
namespace of its own. What needs root is skipped without it.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys

import tidepool
from tidepool import require

SUM = b"sum 6920000\n"
DISK = "/var/tmp"  # a folder that no test hides


def as_root():
    if os.geteuid() != 0:
        tidepool.skip("needs root")


def scene(name="limits"):
    return os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), name)


def lines_of(done):
    lines = done.stderr.decode().splitlines()
    require(all(line.startswith("tidepool: cannot ") for line in lines),
            f"stderr: {done.stderr}")
    return lines


def works(place, words, options="", most_lines=0, **more):
    """It ends as it does without the library."""
    done = tidepool.run([scene(), *words], place.environment(options), place.work, **more)
    require((done.status, done.stdout) == (7, SUM),
            f"{words}: ended with {done.status}: {done.stdout} {done.stderr}")
    require(len(lines_of(done)) <= most_lines, f"{words}: {done.stderr}")


def left_by(place, words, options="", folder=None, **more):
    """It is killed; the recording of the live file that it leaves."""
    env = place.environment(options)
    env["TIDEPOOL"] += f",live={folder or place.live}"
    done = tidepool.run([scene(), *words, "kill"], env, place.work, **more)
    require((done.status, done.stdout) == (128 + signal.SIGKILL, SUM),
            f"{words}: ended with {done.status}: {done.stdout} {done.stderr}")
    lines_of(done)
    names = os.listdir(folder or place.live)
    require(len(names) == 1, f"{words}: {names} are left")
    path = os.path.join(folder or place.live, names[0])
    recording = tidepool.read(path)[0]
    blocks = os.stat(path).st_blocks * 512
    os.unlink(path)
    tidepool.check(recording)
    return recording, blocks


def whole(recording, what):
    require(recording["dump"]["complete"] and recording["dump"]["reason"] == "killed",
            f"{what}: {recording['dump']}")
    require(recording["totals"]["allocations"] >= 40100 and
            sum(1 for t in recording["threads"] if t["allocations"] == 400) >= 100,
            f"{what}: {recording['totals']}, {len(recording['threads'])} threads")


def narrowed(what, most_lines=0):
    """The scene narrows itself: it works, and the live file has every bay."""
    with tidepool.Place() as place:
        works(place, [what], most_lines=most_lines)
        shutil.rmtree(place.work)
        os.mkdir(place.work)
        for name in os.listdir(place.live):  # what it could not remove is complete
            path = os.path.join(place.live, name)
            require(most_lines and tidepool.read(path)[0]["dump"]["reason"] == "exit",
                    f"{name} is left")
            os.unlink(path)
        recording, blocks = left_by(place, [what])
        whole(recording, what)
        require(blocks <= (160 + 4 * 64) * 1024, f"the file takes {blocks} bytes")
        tidepool.check_all(place.dumps(), 1 - most_lines)


def chroot():
    as_root()
    narrowed("chroot", 1)


def setuid():
    as_root()
    narrowed("setuid", 1)


def files():
    narrowed("files", 1)


def size():
    narrowed("size", 1)


def maps():
    """No further mapping: malloc may return NULL, and what it gives is sound."""
    with tidepool.Place() as place:
        works(place, ["maps"], most_lines=1)
        recording, _ = left_by(place, ["maps"])
        require(recording["dump"]["complete"], f"{recording['dump']}")


def stack():
    for size in (256 << 10, resource.RLIM_INFINITY):
        def limit(most=size):
            resource.setrlimit(resource.RLIMIT_STACK, (most, resource.RLIM_INFINITY))
        if resource.getrlimit(resource.RLIMIT_STACK)[1] != resource.RLIM_INFINITY:
            tidepool.skip("the stack is limited already")
        with tidepool.Place() as place:
            works(place, ["nothing"], preexec_fn=limit)
            whole(left_by(place, ["nothing"], preexec_fn=limit)[0], "stack")


def few_files():
    """One descriptor, as many as the loader needs."""
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))
    with tidepool.Place() as place:
        works(place, ["nothing"], preexec_fn=limit)
        whole(left_by(place, ["nothing"], preexec_fn=limit)[0], "few files")


def umask():
    """Not even the owner may read: but the files that we make."""
    def mask():
        os.umask(0o777)
    with tidepool.Place() as place:
        summary = os.path.join(place.out, "..", "summary")
        works(place, ["nothing"], f"summary={summary}", preexec_fn=mask)
        for path in [os.path.join(place.out, n) for n in os.listdir(place.out)] + [summary]:
            require(os.stat(path).st_mode & 0o777 == 0o600, f"{path}: {os.stat(path)}")
        tidepool.check_all(place.dumps())
        whole(left_by(place, ["nothing"], preexec_fn=mask)[0], "umask")


def space():
    """Little address space from the first thread on: fewer threads' arenas, no less."""
    narrowed("space")


def disk():
    """A live file that is not on tmpfs; and where there are no shared mappings."""
    with tidepool.Place(under=DISK) as place:
        works(place, ["nothing"], f"live={place.live}")
        whole(left_by(place, ["nothing"])[0], "disk")
        tidepool.check_all(place.dumps())


def filling():
    """A tmpfs that has room for the file, and not for its growth."""
    as_root()
    with tidepool.Place() as place:
        small = os.path.join(place.top, "small")
        os.mkdir(small)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", small],
                          check=False).returncode:
            tidepool.skip("no tmpfs can be mounted here")
        try:
            works(place, ["nothing"], f"live={small}")
            require(tidepool.check_all(place.dumps())[0]["dump"]["complete"],
                    "a dump is made from memory, which has everything")
            # Without samples, whose tables would take the room of a bay now and then.
            recording, _ = left_by(place, ["nothing"], "sample=off", folder=small)
            require(not recording["dump"]["complete"] and
                    recording["coverage"]["reasons"] == ["lost_counts"],
                    f"{recording['dump']} {recording['coverage']}")
            require(recording["totals"]["allocations"] > 40 * 400, "less than two bays")
        finally:
            subprocess.run(["umount", small], check=False)


# Works longer than a tick, so that there is a timeline, and is killed.
SLOW = """
import os, time
for i in range(40): kept = [b'x' * (1000 + n) for n in range(999)]; time.sleep(0.02)
os.kill(os.getpid(), 9)
"""


def no_sites():
    """A tmpfs that has room for the counters only: they are whole, and the file says so."""
    as_root()
    with tidepool.Place() as place:
        small = os.path.join(place.top, "small")
        os.mkdir(small)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "none", small],
                          check=False).returncode:
            tidepool.skip("no tmpfs can be mounted here")
        try:
            env = place.environment(f"live={small}")
            done = subprocess.run([sys.executable, "-c", SLOW], env=env, cwd=place.work,
                                  capture_output=True, timeout=60, check=False)
            require(done.returncode == -signal.SIGKILL and done.stderr == b"", f"{done}")
            path = os.path.join(small, os.listdir(small)[0])
            with open(path, "rb") as file:
                flags = int.from_bytes(file.read(36)[32:], "little")
            require(flags == 2, f"flags {flags}, not LOST_SITES alone")
            recording = tidepool.read(path)[0]
            tidepool.check(recording)
            require(recording["dump"]["reason"] == "killed" and
                    recording["totals"]["allocations"] > 40 * 999 / 2, f"{recording['totals']}")
        finally:
            subprocess.run(["umount", small], check=False)


def in_namespace(script, pattern, lines):
    """Runs `prints` after `script`, in a mount namespace of its own."""
    as_root()
    with tidepool.Place(under=DISK) as place:
        for path in (scene("prints"), tidepool.from_environment("TIDEPOOL_LIBRARY")):
            shutil.copy(path, place.top)
        env = place.environment()
        del env["XDG_RUNTIME_DIR"]
        library = os.path.join(place.top, "libtidepool.so")
        command = (f'mount --make-rprivate / && {script} && '
                   f'LD_PRELOAD={library} exec {place.top}/prints')
        del env["LD_PRELOAD"]
        done = tidepool.run(["unshare", "-m", "sh", "-c", command], env, place.work)
        if b"unshare: " in done.stderr or b"mount: " in done.stderr:
            tidepool.skip(f"no mount namespace: {done.stderr.decode()}")
        require((done.status, done.stdout) == (7, b"sum 25032004\n"),
                f"ended with {done.status}: {done.stderr}")
        found = lines_of(done)
        require(len(found) == lines and all(pattern in line for line in found),
                f"stderr: {found}")
        return tidepool.check_all(place.dumps())[0]


def no_proc():
    recording = in_namespace("mount -t tmpfs none /proc", "", 0)
    require(recording["process"]["name"] == "prints", f"{recording['process']}")


def no_shm():
    in_namespace("mount -t tmpfs none /dev", "", 0)


def full_shm():
    small = "mount -t tmpfs -o size=64k none"
    recording = in_namespace(f"{small} /dev/shm && {small} /tmp", "live file: no space", 1)
    require(recording["coverage"]["reasons"] == ["no_live_file"], f"{recording['coverage']}")


def no_sharing():
    """A file system that cannot do what we want: the next folder, or memory."""
    as_root()
    with tidepool.Place() as place:
        folder = os.path.join(place.top, "pages")
        os.mkdir(folder)
        if subprocess.run(["mount", "-t", "hugetlbfs", "none", folder], check=False,
                          capture_output=True).returncode:
            tidepool.skip("no hugetlbfs can be mounted here")
        try:
            works(place, ["nothing"], f"live={folder}", most_lines=1)
            require(not os.listdir(folder), f"left: {os.listdir(folder)}")
            tidepool.check_all(place.dumps())
        finally:
            subprocess.run(["umount", folder], check=False)


def signals():
    """No word of ours brings a signal: a full file, or a pipe that nobody reads."""
    def no_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    for options in ("", "summary=stderr", "live=/nowhere"):
        with tidepool.Place() as place:
            for limit in (no_files, None):
                read, write = os.pipe()
                log = os.open(os.path.join(place.work, "log"), os.O_RDWR | os.O_CREAT, 0o600)
                target = log if limit else write
                os.close(read)
                child = subprocess.Popen([scene("prints")], env=place.environment(options),
                                         stdout=subprocess.PIPE, stderr=target,
                                         preexec_fn=limit, start_new_session=True)
                out = child.communicate(timeout=60)[0]
                os.close(write)
                os.close(log)
                require((child.returncode, out) == (7, b"sum 25032004\n"),
                        f"{options} {limit}: ended with {child.returncode}")


TESTS = {"chroot": chroot, "setuid": setuid, "gone": lambda: narrowed("gone"),
         "closed": lambda: narrowed("closed"), "files": files, "size": size, "maps": maps,
         "stack": stack, "few_files": few_files, "umask": umask, "space": space,
         "disk": disk, "filling": filling, "no_sites": no_sites, "no_proc": no_proc,
         "no_shm": no_shm, "full_shm": full_shm, "no_sharing": no_sharing, "write_signals": signals}

if __name__ == "__main__":
    tidepool.main(TESTS[sys.argv[1]])
