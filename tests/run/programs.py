#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""programs.py NAME - a real program does the same with and without Tidepool.

stdout, stderr and exit status of both runs are compared, and the files that the run
left behind; then the identities are checked in every dump of every process of it.
"""

import hashlib
import os
import subprocess
import sys

import tidepool
from tidepool import program, require, same


def tree(folder):
    """Names and contents of all files below a folder, as one digest."""
    digest = hashlib.sha256()
    for path, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            full = os.path.join(path, name)
            digest.update(os.path.relpath(full, folder).encode())
            if not os.path.islink(full):
                with open(full, "rb") as file:
                    digest.update(file.read())
    return digest.hexdigest()


def write(place, name, text):
    path = os.path.join(place.top, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def python3():
    """CPython on JSON, with its pools and with malloc for everything; and threads."""
    text = """
import json, sys, threading, collections, re
def work(seed, out):
    rows = [{"id": i, "name": "row %d" % (i * seed), "tags": list(range(i % 17))}
            for i in range(9973)]
    text = json.dumps(rows)
    back = json.loads(text)
    words = collections.Counter(re.findall("[a-z]+", text))
    out[seed] = (len(text), sum(len(r["tags"]) for r in back), words["row"])
out = {}
threads = [threading.Thread(target=work, args=(s, out)) for s in (1, 2, 3, 5)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sorted(out.items()))
print("to stderr", file=sys.stderr)
sys.exit(11)
"""
    for more in ({}, {"PYTHONMALLOC": "malloc"}):
        with tidepool.Place() as place:
            done = same(place, [program("python3"), "-c", text], **more)[0]
            require(done.status == 11, "the script itself failed")
            found = tidepool.check_all(place.dumps())[-1]
            require(not more or found["totals"]["allocations"] > 100000,
                    "PYTHONMALLOC=malloc made few blocks")
    with tidepool.Place() as place:
        code = ("import multiprocessing as m\n"
                "with m.get_context('fork').Pool(3) as p:\n"
                "    print(p.map(str.upper, ['%d' % i * 999 for i in range(99)])[7][:9])")
        same(place, [program("python3"), "-c", code], "multiprocessing")
        tidepool.check_all(place.dumps())


def perl():
    text = """my %h; $h{"k" . ($_ * 7919 % 10007)} .= "v" x ($_ % 50) for 1..200000;
my $s = join ",", map { "$_=" . length $h{$_} } sort keys %h; print length $s, "\n";
my @a = map { [ split //, "abc" x $_ ] } 1..500; print scalar(map { @$_ } @a), "\n";
warn "to stderr\n"; exit 12;"""
    with tidepool.Place() as place:
        require(same(place, [program("perl"), "-e", text])[0].status == 12, "perl failed")
        tidepool.check_all(place.dumps())


def ruby():
    text = """h = Hash.new; 200_000.times { |i| h["k#{i * 7919 % 10007}"] = "v" * (i % 99) }
puts h.sort.map { |k, v| k + v }.join.size
t = 4.times.map { |n| Thread.new { (1..20000).map { |i| (i * n).to_s }.join.size } }
p t.map(&:value); GC.start; warn "to stderr"; exit 13"""
    with tidepool.Place() as place:
        require(same(place, [program("ruby"), "-e", text])[0].status == 13, "ruby failed")
        tidepool.check_all(place.dumps())


def node():
    text = """const zlib = require('zlib'), crypto = require('crypto');
let rows = []; for (let i = 0; i < 50000; i++) rows.push({ id: i, s: 'x'.repeat(i % 97) });
let text = JSON.stringify(rows); let packed = zlib.deflateSync(text);
console.log(text.length, zlib.inflateSync(packed).length, Buffer.alloc(9999991).length);
console.log(crypto.createHash('sha256').update(text).digest('hex'));
console.error('to stderr'); process.exitCode = 14;"""
    with tidepool.Place() as place:
        require(same(place, [program("node"), "-e", text])[0].status == 14, "node failed")
        tidepool.check_all(place.dumps())


def sqlite3():
    text = b"""create table t(a integer primary key, b text, c blob);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
  insert into t select i, 'text ' || (i * 7919 % 10007), zeroblob(i % 300) from n;
create index x on t(b);
select count(*), sum(length(c)), max(b) from t;
select b, count(*) from t group by b order by 2 desc, 1 limit 5;
delete from t where a % 3 = 0; vacuum; select count(*) from t; pragma integrity_check;
"""
    with tidepool.Place() as place:
        done = same(place, [program("sqlite3"), ":memory:"], stdin=text)[0]
        require(b"40000" in done.stdout and b"ok" in done.stdout, str(done.stdout))
        same(place, [program("sqlite3"), "file.db"], stdin=text)
        tidepool.check_all(place.dumps(), 2)


def compiler(name):
    path = program(name)
    body = "\n".join(f"""static int f{i}(int a, int b) {{ struct s {{ int x[{i % 9 + 1}]; }} s = {{ {{ a }} }};
  for (int i = 0; i < b; i++) s.x[i % {i % 9 + 1}] += i * {i} ^ a; return s.x[0]; }}"""
                     for i in range(120))
    calls = "".join(f"r += f{i}(r, argc);" for i in range(120))
    with tidepool.Place() as place:
        source = write(place, "file.c", f"#include <stdio.h>\n#include <stdlib.h>\n{body}\n"
                       f"int main(int argc, char **argv) {{ int r = 0; (void)argv; {calls}"
                       f' printf("%d\\n", r); undeclared_warning: return 0; }}\n')
        outputs = []
        for preload in (False, True):
            done = tidepool.run([path, "-O2", "-Wall", "-g", source, "-o", "program"],
                                place.environment(preload=preload), place.fresh_work())
            outputs.append((done, tree(place.work)))
        outputs[0][0].same_as(outputs[1][0], name)
        require(outputs[0][0].status == 0 and outputs[0][0].stderr, "no warning was given")
        require(outputs[0][1] == outputs[1][1], "the built programs differ")
        bad = write(place, "bad.c", "int main(void) { return x; }\n")
        require(same(place, [path, "-c", bad])[0].status == 1, "an error went unnoticed")
        tidepool.check_all(place.dumps(), 4 if name == "gcc" else 2)


def git():
    path = program("git")
    fixed = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
             "GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000",
             **{f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")}}
    with tidepool.Place() as place:
        plain = place.environment(preload=False, HOME=place.top, **fixed)
        origin = os.path.join(place.top, "origin")

        def prepare(*words):
            subprocess.run([path, "-C", origin, *words], env=plain, check=True,
                           capture_output=True)
        os.mkdir(origin)
        prepare("init", "-q", "-b", "main")
        for commit in range(30):
            for name in range(0, 40, 1 + commit % 5):
                with open(os.path.join(origin, f"f{name}"), "a", encoding="utf-8") as file:
                    file.write(f"{commit} {name * 7919}\n" * 50)
            prepare("add", "-A")
            prepare("commit", "-q", "-m", f"commit {commit}")
        script = (f'"{path}" clone -q --no-hardlinks "file://{origin}" copy && cd copy && '
                  f'"{path}" -c pack.threads=2 gc -q --aggressive && "{path}" fsck --full && '
                  f'"{path}" log --stat --oneline | tail -n 40 && '
                  f'"{path}" blame f0 | tail -n 5; "{path}" checkout no-such-branch')
        done = same(place, ["sh", "-c", script], "git", HOME=place.top, **fixed)[0]
        require(done.status == 1 and b"2000 insertions" in done.stdout, f"{done.stdout} {done.stderr}")
        tidepool.check_all(place.dumps(), 8)


def xz():
    with tidepool.Place() as place:
        os.mkdir(os.path.join(place.top, "data"))
        for i in range(50):
            write(place, f"data/file{i}", f"line {i * 7919}\n" * (i * 300))
        script = (f'{program("tar")} --sort=name --mtime=@0 --owner=0 --group=0 '
                  f'-C "{place.top}" -cf data.tar data && {program("xz")} -6 -T2 -k data.tar && '
                  f'{program("gzip")} -9 -n -k data.tar && xz -t data.tar.xz && '
                  f'tar -tJf data.tar.xz | tail -n 3 && mkdir out && tar -xzf data.tar.gz -C out && '
                  f'sha256sum data.tar data.tar.xz data.tar.gz out/data/file49; tar -xf nothing')
        require(same(place, ["sh", "-c", script], "tar and xz")[0].status == 2, "no error")
        tidepool.check_all(place.dumps(), 6)


def find():
    with tidepool.Place() as place:
        same(place, [program("find"), "/usr/share/doc", "/etc/no-such", "-xdev", "-name", "c*",
                     "-size", "-9k", "-printf", "%p %s %m\n"], "find", timeout=100)
        script = "find /usr/share/perl* -type f | sort | xargs -n 50 wc -c | awk '{s+=$1} END {print s}'"
        same(place, ["sh", "-c", script], "find | sort | xargs")
        tidepool.check_all(place.dumps(), 4)


def bash():
    text = r"""declare -A seen; for ((i = 0; i < 20000; i++)); do seen[k$((i * 7919 % 10007))]+=x; done
echo ${#seen[@]}; s=; for i in {1..2000}; do s+="word $i "; done; echo ${#s} ${s//word/}| md5sum
f() { local a=("$@"); echo "${a[@]: -3}"; }; f {a..z}{0..9}; (exit 9); echo "sub $?"
x=$(for i in {1..50}; do echo $(echo nested $i) & wait; done); echo "${#x}"
trap 'echo leaving' EXIT; cat <<< "here" | while read -r w; do echo "$w"; done
echo "to stderr" >&2; kill -TERM $$"""
    with tidepool.Place() as place:
        done = same(place, [program("bash"), "-c", text])[0]
        require(done.status == 143 and b"sub 9" in done.stdout, f"{done.status} {done.stdout}")
        tidepool.check_all(place.dumps(), 20)


def java():
    text = """import java.util.*; public class Small { public static void main(String[] a) throws Exception {
  Map<String, List<Integer>> m = new TreeMap<>();
  for (int i = 0; i < 300000; i++) m.computeIfAbsent("k" + i % 997, k -> new ArrayList<>()).add(i);
  Thread[] t = new Thread[4]; long[] r = new long[4];
  for (int n = 0; n < 4; n++) { int k = n; t[n] = new Thread(() -> { StringBuilder b = new StringBuilder();
    for (int i = 0; i < 100000; i++) b.append(i * k); r[k] = b.length(); }); t[n].start(); }
  for (Thread x : t) x.join(); System.out.println(m.size() + " " + Arrays.toString(r));
  System.err.println("to stderr"); System.exit(15); } }"""
    path = program("java")
    with tidepool.Place() as place:
        same(place, [path, "-version"], "java -version", timeout=60)
        source = write(place, "Small.java", text)
        build = subprocess.run([program("javac"), "-d", place.top, source], check=False,
                               capture_output=True)
        require(build.returncode == 0, f"javac failed: {build.stderr.decode()}")
        done = same(place, [path, "-Xmx256m", "-cp", place.top, "Small"], timeout=100)[0]
        require(done.status == 15, f"java failed: {done.stderr}")
        tidepool.check_all(place.dumps(), 2)


def gtk():
    """A program with windows, as it is and with a stack taken at every block."""
    words = [program("gtk3-demo"), "--run=textview", "--autoquit"]
    with tidepool.Screen() as screen:
        for options in ("sample=1,depth=8", "sample=all,depth=8"):  # JSON of some MB
            with tidepool.Place() as place:
                done = tidepool.run(words, place.environment(options, **screen))
                require((done.status, done.stdout) == (0, b""), f"{done.status}, {done.stderr}")
                last = [r for r in tidepool.check_all(place.dumps())
                        if r["process"]["pid"] == done.pid][-1]
                tidepool.check_sites(last)
                require(last["totals"]["allocations"] > 20000, "there was hardly a window")
                require(last["sampling"]["stacks_failed"] * 200 <= last["sampling"]["samples"],
                        f"stacks were lost: {last['sampling']}")


TESTS = {"python3": python3, "perl": perl, "ruby": ruby, "node": node, "sqlite3": sqlite3,
         "gcc": lambda: compiler("gcc"), "clang": lambda: compiler("clang"), "git": git,
         "xz": xz, "find": find, "bash": bash, "java": java, "gtk": gtk}

if __name__ == "__main__":
    tidepool.main(TESTS[sys.argv[1]])
