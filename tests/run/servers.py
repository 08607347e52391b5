#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""servers.py NAME - servers under load answer the same with and without Tidepool.

Everything listens on Unix sockets or a free port of the loopback, in a folder of the
test; every process is ended through the pid that this file got when it started it.
"""

import contextlib
import glob
import hashlib
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import tidepool
from tidepool import Failure, program, require


@contextlib.contextmanager
def server(command, env, cwd, ready, log=None, **more):
    """A server in the foreground; ended with SIGTERM, which must end it well."""
    with open(log or os.devnull, "wb") as output:
        child = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL,
                                 stdout=output, stderr=output, start_new_session=True,
                                 **more)
    try:
        end = time.monotonic() + 20
        while not ready():
            if child.poll() is not None or time.monotonic() > end:
                text = open(log, errors="replace").read()[-800:] if log else ""
                raise Failure(f"{command[0]} did not start: {child.poll()} {text}")
            time.sleep(0.02)
        yield child
        child.send_signal(signal.SIGTERM)
        child.wait(30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # our own session, whatever is left
        child.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    def ready():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0
    return ready


def redis():
    """Fixed commands give the same answers; then redis-benchmark, then a shutdown."""
    path, client, bench = (program(n) for n in ("redis-server", "redis-cli",
                                                "redis-benchmark"))
    seen = []
    for preload in (False, True):
        with tidepool.Place() as place:
            path_socket = os.path.join(place.top, "socket")
            conf = [path, "--port", "0", "--unixsocket", path_socket, "--dir", place.work,
                    "--save", "", "--appendonly", "yes", "--daemonize", "no"]
            env = place.environment(preload=preload)
            plain = place.environment(preload=False)
            log = os.path.join(place.top, "log")
            with server(conf, env, place.work, lambda: os.path.exists(path_socket), log) as child:
                text = "\n".join([f"set k{i} {'v' * (i % 500)}" for i in range(500)] +
                                 [f"rpush list {i}" for i in range(300)] +
                                 [f"zadd z {i} m{i * 7919 % 10007}" for i in range(300)] +
                                 ["strlen k499", "lrange list 290 -1", "zcard z",
                                  "eval 'local t = {} for i=1,500 do t[i]=i end return #t' 0",
                                  "flushall", "dbsize", "nonsense"])
                done = tidepool.run([client, "-s", path_socket], plain, stdin=text.encode())
                load = tidepool.run([bench, "-s", path_socket, "-n", "20000", "-q", "-P", "8",
                                     "-c", "20", "-t", "set,get,lpush,lrange_100,mset",
                                     "-d", "100", "-r", "1000"], env)
                require(load.status == 0 and b"MSET" in load.stdout, f"{load.stderr}")
                tidepool.run([client, "-s", path_socket], plain, stdin=b"bgsave\nbgrewriteaof\n")
                time.sleep(0.3)
            digest = done.stdout
            seen.append((done.status, digest, child.returncode))
            if preload:
                tidepool.check_all(place.dumps(), 2)
    require(seen[0] == seen[1], f"redis answers differ: {str(seen)[:600]}")


NGINX = """daemon off; worker_processes 2; pid {top}/pid; error_log {top}/error;
events {{ worker_connections 256; }}
http {{ access_log off; client_body_temp_path {top}/b; proxy_temp_path {top}/p;
 fastcgi_temp_path {top}/f; uwsgi_temp_path {top}/u; scgi_temp_path {top}/s;
 gzip on; gzip_min_length 10; gzip_types *;
 server {{ listen 127.0.0.1:{port}; root {work}; autoindex on;
  location /again/ {{ proxy_pass http://127.0.0.1:{port}/; }} }} }}
"""


def nginx():
    """Files, listings, errors and a proxied page under concurrent load."""
    path = program("nginx")
    seen = []
    for preload in (False, True):
        with tidepool.Place() as place:
            os.chmod(place.top, 0o755)
            os.chmod(place.work, 0o755)
            port = free_port()
            for i in range(20):
                with open(os.path.join(place.work, f"page{i}.txt"), "w", encoding="ascii") as f:
                    f.write(f"line {i}\n" * (1 + i * 1000))
                os.utime(f.name, (1e9, 1e9))
            conf = os.path.join(place.top, "conf")
            with open(conf, "w", encoding="ascii") as file:
                user = "user root;" if os.geteuid() == 0 else ""
                file.write(user + NGINX.format(top=place.top, work=place.work, port=port))
            log = os.path.join(place.top, "log")
            with server([path, "-c", conf, "-p", place.top], place.environment(preload=preload),
                        place.work, answers(port), log) as child:
                digest = pages(port)
                load(port)
                require(child.poll() is None, "nginx ended under load")
            require(not os.path.getsize(os.path.join(place.top, "error")) or
                    "emerg" not in open(os.path.join(place.top, "error")).read(), "nginx errors")
            seen.append((digest, child.returncode))
            if preload:
                tidepool.check_all(place.dumps(), 3)
    require(seen[0] == seen[1], f"nginx answers differ: {seen}")


def pages(port):
    digest = hashlib.sha256()
    for path in [f"page{i}.txt" for i in range(20)] + ["", "again/page7.txt", "again/"] * 3:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}",
                                         headers={"Accept-Encoding": "gzip"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            digest.update(answer.read())
    return digest.hexdigest()


def load(port):
    """ab where it is installed; otherwise a few hundred requests of our own."""
    url = f"http://127.0.0.1:{port}/page9.txt"
    try:
        bench = subprocess.run(["ab", "-q", "-n", "3000", "-c", "16", url],
                               capture_output=True, timeout=60, check=False)
        text = bench.stdout.decode()
        require(bench.returncode == 0 and re.search(r"Failed requests:\s+0\b", text), text)
    except FileNotFoundError:
        for _ in range(300):
            urllib.request.urlopen(url, timeout=10).read()


def postgresql():
    """initdb, a server, pgbench and queries, as a user who is not root."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    if not found:
        tidepool.skip("PostgreSQL is not installed")
    folder = os.path.dirname(found[-1])
    user = None
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            user = pwd.getpwnam("nobody")
    seen = [postgresql_run(folder, user, preload) for preload in (False, True)]
    require(seen[0] == seen[1], f"PostgreSQL answers differ: {str(seen)[:900]}")


QUERIES = """select count(*), sum(abalance * 0) from pgbench_accounts;
select string_agg(i::text, ',' order by i desc) from generate_series(1, 300) i;
select md5(string_agg(md5(i::text), '' order by i)) from generate_series(1, 20000) i;
create table t as select i, repeat('x', i % 999) as s from generate_series(1, 20000) i;
create index on t (s); select max(length(s)), count(distinct s) from t;
select * from no_such_table;
"""


def readable(path, user):
    """A copy of the library where the other user can read it, if he cannot as it is."""
    parts = path.split("/")
    closed = any(not os.stat("/".join(parts[:n]) or "/").st_mode & 0o001
                 for n in range(1, len(parts)))
    return user and closed


def postgresql_run(folder, user, preload):
    with tidepool.Place(user) as place:
        def tool(name, *words):
            return [os.path.join(folder, name), *words]

        more = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        env = place.environment(preload=preload, PGHOST=place.top, PGUSER="tester",
                                PGDATABASE="postgres", HOME=place.top)
        if preload and readable(env["LD_PRELOAD"], user):
            copy = os.path.join(place.top, "libtidepool.so")
            with open(env["LD_PRELOAD"], "rb") as source, open(copy, "wb") as target:
                target.write(source.read())
            os.chmod(copy, 0o755)
            env["LD_PRELOAD"] = copy
        data = os.path.join(place.top, "data")

        def run(*command, stdin=b""):
            return tidepool.run(command, env, place.work, stdin, timeout=90, **more)

        made = run(*tool("initdb", "-D", data, "-U", "tester", "-A", "trust", "-N",
                         "--no-locale", "-E", "UTF8"))
        require(made.status == 0 and (not preload or b"tidepool: " not in made.stderr),
                f"initdb: {made.stderr.decode()}")
        log = os.path.join(place.top, "log")
        ready = os.path.join(place.top, ".s.PGSQL.5432")
        with server(tool("postgres", "-D", data, "-k", place.top, "-c", "listen_addresses=",
                         "-c", "fsync=off"), env, place.work,
                    lambda: os.path.exists(ready) and
                    run(*tool("pg_isready", "-q")).status == 0, log, **more) as child:
            loaded = run(*tool("pgbench", "-i", "-q", "-s", "1"))
            require(loaded.status == 0, f"pgbench -i: {loaded.stderr.decode()}")
            bench = run(*tool("pgbench", "-c", "4", "-j", "2", "-t", "100"))
            require(bench.status == 0 and b"400/400" in bench.stdout, f"{bench.stderr}")
            asked = run(*tool("psql", "-At"), stdin=QUERIES.encode())
            require(child.poll() is None, "the server ended")
        if preload:
            require("tidepool: " not in open(log, errors="replace").read(), "words in the log")
            tidepool.check_all(place.dumps(), 8)
        return asked.status, asked.stdout, asked.stderr, child.returncode


if __name__ == "__main__":
    tidepool.main({"redis": redis, "nginx": nginx, "postgresql": postgresql}[sys.argv[1]])
