#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""guards.py TEST - what is put in the way of our files, and what must not be in them.

Whatever stands where a file of ours should be, it is left as it is, nothing is written
through it, nobody waits for it, and the program runs on. Secrets of the environment are
in no file; those of the command line are not with command=off.
"""

import os
import pwd
import shutil
import signal
import stat
import sys
import tempfile

import tidepool
from tidepool import require

OBSTACLES = ("file", "link", "dangling", "fifo", "folder")


def scene(name):
    return os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), name)


def obstruct(path, kind, victim):
    """Puts something at `path`; plain calls, because it runs between fork and exec."""
    if kind == "file":
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
    elif kind in ("link", "dangling"):
        os.symlink(victim if kind == "link" else victim + "-not", path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        os.mkdir(path)


def is_as_it_was(path, kind, victim):
    now = os.lstat(path)
    kinds = {"file": stat.S_ISREG, "link": stat.S_ISLNK, "dangling": stat.S_ISLNK,
             "fifo": stat.S_ISFIFO, "folder": stat.S_ISDIR}
    require(kinds[kind](now.st_mode), f"{path} is no {kind} any more")
    require(kind != "file" or (now.st_size == 0 and now.st_mode & 0o777 == 0o644),
            f"{path} was written to")
    require(kind != "folder" or not os.listdir(path), f"{path} holds something")
    with open(victim, "rb") as file:
        require(file.read() == b"precious\n", "the victim was written to")
    require(not os.path.exists(victim + "-not"), "the dangling link was followed")


def each(test):
    """Runs test(place, kind, victim) for every kind of obstacle."""
    for kind in OBSTACLES:
        with tidepool.Place() as place:
            victim = os.path.join(place.top, "victim")
            with open(victim, "wb") as file:
                file.write(b"precious\n")
            test(place, kind, victim)


def prints(place, options, lines=0, prepare=None, **env):
    done = tidepool.run([scene("prints")], place.environment(options, **env), place.work,
                        preexec_fn=prepare)
    require((done.status, done.stdout) == (7, b"sum 25032004\n"),
            f"ended with {done.status}: {done.stderr}")
    said = done.stderr.decode().splitlines()
    require(len(said) == lines and all(l.startswith("tidepool: cannot ") for l in said),
            f"stderr: {said}")
    return done


def start_of_self():
    with open("/proc/self/stat", encoding="ascii") as text:
        return text.read().rsplit(")", 1)[1].split()[19]


def live_name():
    """The live file: the process that obstructs its name is the one that execs."""
    def test(place, kind, victim):
        def prepare():
            obstruct(os.path.join(place.live, f"tidepool.{os.getpid()}.{start_of_self()}.0"),
                     kind, victim)
        env = place.environment()
        done = tidepool.run([scene("limits"), "nothing", "kill"], env, place.work,
                            preexec_fn=prepare)
        require(done.status == 128 + signal.SIGKILL and not done.stderr, f"{done.stderr}")
        names = sorted(os.listdir(place.live))
        require(len(names) == 2 and names[1].endswith(".1"), f"{kind}: {names}")
        is_as_it_was(os.path.join(place.live, names[0]), kind, victim)
        recording = tidepool.read(os.path.join(place.live, names[1]))[0]
        tidepool.check(recording)
        require(recording["totals"]["allocations"] >= 40100, "not everything is in it")
    each(test)


def dump_name():
    def test(place, kind, victim):
        path = os.path.join(place.out, "x.tide")
        obstruct(path, kind, victim)
        prints(place, f"out={path}")
        is_as_it_was(path, kind, victim)
        tidepool.check(tidepool.read(path + ".1")[0])
        require(os.stat(path + ".1").st_mode & 0o777 == 0o600, "the dump is not private")
    each(test)


def part_name():
    def test(place, kind, victim):
        path = os.path.join(place.out, "x.tide")
        def prepare():
            obstruct(f"{path}.{os.getpid()}.part", kind, victim)
        done = prints(place, f"out={path}", prepare=prepare)
        is_as_it_was(f"{path}.{done.pid}.part", kind, victim)
        require(len(os.listdir(place.out)) == 2, f"{os.listdir(place.out)}")
        tidepool.check(tidepool.read(path)[0])
    each(test)


def summary_name():
    """A file of one's own is appended to, as documented; nothing else."""
    def test(place, kind, victim):
        path = os.path.join(place.top, "summary")
        obstruct(path, kind, victim)
        if kind == "file":
            prints(place, f"summary={path}")
            require(os.path.getsize(path) > 100, "no summary")
            return
        prints(place, f"summary={path}", lines=1)
        is_as_it_was(path, kind, victim)
        tidepool.check_all(place.dumps())
    each(test)


def run_folder():
    """XDG_RUNTIME_DIR of another user, or one that others may write to, is not used."""
    def spoil(path, how):
        if how == "foreign":
            os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
        else:
            os.chmod(path, how)
    for how in (["foreign"] if os.geteuid() == 0 else []) + [0o777, 0o770, 0o1777, 0o700]:
        with tidepool.Place() as place:
            spoil(place.live, how)
            done = tidepool.run([scene("limits"), "nothing", "kill"], place.environment(),
                                place.work)
            require(done.status == 128 + signal.SIGKILL and not done.stderr, f"{done.stderr}")
            left = os.listdir(place.live)
            for folder in ("/dev/shm", "/tmp") if how != 0o700 else ():
                found = [n for n in os.listdir(folder) if n.startswith(f"tidepool.{done.pid}.")]
                for name in found:
                    tidepool.check(tidepool.read(os.path.join(folder, name))[0])
                    os.unlink(os.path.join(folder, name))
                if found:
                    break
            else:
                require(how == 0o700, f"{how}: there is no live file elsewhere")
            require(len(left) == (1 if how == 0o700 else 0), f"{how}: {left}")


def secure():
    """AT_SECURE: no file, no dump, no word, whatever the environment asks for."""
    if os.geteuid() != 0:
        tidepool.skip("needs root")
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="tidepool-test-") as top:
        if os.statvfs(top).f_flag & os.ST_NOSUID:
            tidepool.skip("setuid programs have no effect in /var/tmp")
        user = pwd.getpwnam("nobody")
        os.chmod(top, 0o755)
        mine = os.path.join(top, "mine")
        os.mkdir(mine, 0o700)
        os.chown(mine, user.pw_uid, user.pw_gid)
        for mode in (0o755, 0o4755):
            program = os.path.join(top, f"secured{mode:o}")
            shutil.copy(scene("secured"), program)
            os.chmod(program, mode)
            env = {"TIDEPOOL": f"out={mine}/x.tide,live={mine},summary={mine}/s,nonsense=1",
                   "XDG_RUNTIME_DIR": mine}
            done = tidepool.run(["setpriv", "--reuid", "nobody", "--clear-groups", program],
                                env, mine)
            if done.status == 127:
                tidepool.skip(f"another user cannot reach the library: {done.stderr}")
            require((done.status, done.stdout) == (4, b"done 1\n"), f"{done.status} {done.stderr}")
            if mode == 0o755:
                require(sorted(os.listdir(mine)) == ["s", "x.tide"] and b"nonsense" in done.stderr,
                        f"the library is not at work: {os.listdir(mine)} {done.stderr}")
                for name in os.listdir(mine):
                    os.unlink(os.path.join(mine, name))
            else:
                require(not os.listdir(mine) and not done.stderr,
                        f"{os.listdir(mine)} {done.stderr}")


def secrets():
    """What a user would not show around: never the environment, the arguments if asked."""
    for options, kept in (("", True), ("command=off", False)):
        with tidepool.Place() as place:
            env = place.environment(f"{options},summary={place.out}/s", PASSWORD="hunter2-env")
            done = tidepool.run([scene("limits"), "nothing", "kill", "--token=hunter2-arg"], env,
                                place.work)
            require(done.status == 128 + signal.SIGKILL, f"{done.status}")
            tidepool.run([scene("limits"), "nothing"], env, place.work)
            paths = [os.path.join(f, n) for f in (place.live, place.out) for n in os.listdir(f)]
            require(len(paths) == 3, f"{paths}")
            for path in paths:
                with open(path, "rb") as file:
                    content = file.read()
                require(b"hunter2-env" not in content, f"{path} holds the environment")
                require((b"hunter2-arg" in content) == (kept and path.startswith(place.live)),
                        f"{options}: {path}: the argument")
            command = tidepool.read(os.path.join(place.live, os.listdir(place.live)[0]))[0]
            require(bool(command["process"]["command"]) == kept, f"{command['process']}")


TESTS = {"live_name": live_name, "dump_name": dump_name, "part_name": part_name,
         "summary_name": summary_name, "run_folder": run_folder, "secure": secure,
         "secrets": secrets}

if __name__ == "__main__":
    tidepool.main(TESTS[sys.argv[1]])
