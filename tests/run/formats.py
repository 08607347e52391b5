# SPDX-License-Identifier: MIT
"""formats.py CASE - other people's tools read what `tidepool report --format` writes.

Of a program whose sites are known, recorded exactly and by samples; the totals that each
tool finds must be those of the JSON.

  formats_pprof       go tool pprof: each sample type; our own reader: the stricter rules
  formats_pprof_npm   npm's pprof-format: each sample type
  formats_heap        jeprof, google-pprof and go tool pprof: live and allocated
  formats_heaptrack   heaptrack_print: calls, temporary ones, peak and leaked, by stack
  formats_speedscope  npm's speedscope: its own schema; the sums of our profiles
  formats_plain       folded and csv: sums; what view options leave
  formats_processes   --pid, --merge and neither, of a recording of several processes
  formats_files       names choose formats and compression; a full disk leaves no file
  packed              .tide.zst: dump, run and report; cut off, spoiled, a bomb
"""

import collections
import csv
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys

import tidepool
from tidepool import require

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "golden"))
import profile_proto  # noqa: E402

TYPES = {"alloc_objects": "allocations", "alloc_space": "allocated_bytes",
         "inuse_objects": "live_blocks", "inuse_space": "live_bytes",
         "peak_space": "peak_bytes"}
OPTIONS = {"exact": "sample=all", "sampled": "sample=16k"}


def command(*words, status=0, env=None):
    """What the command writes; what it says on stderr is in .said."""
    tool = tidepool.from_environment("TIDEPOOL_COMMAND")
    done = subprocess.run([tool, *map(str, words)], capture_output=True, timeout=100,
                          env=env, check=False)
    require(done.returncode == status,
            f"{words} ended with {done.returncode}: {done.stderr.decode()}")
    return done.stdout if status == 0 else done.stderr.decode()


def record(place, kind, *arguments):
    """A recording of the program with known sites: its path, and its JSON."""
    scene = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "known_sites")
    path = os.path.join(place.work, f"{kind}.tide")
    options = f"{OPTIONS[kind]},out={path.replace(',', chr(92) + ',')}"
    done = tidepool.run([scene, *(arguments or ["alone"])], place.environment(options))
    require(done.status == 0, f"known_sites ended with {done.status}")
    return path, tidepool.read(path)[-1]


def each(place, end, *words):
    """(path of the export, JSON of the recording) of both recordings."""
    for kind in OPTIONS:
        path, recording = record(place, kind)
        out = os.path.join(place.work, kind + end)
        command("report", "-o", out, *words, path)
        yield out, recording


def tool(words, **more):
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False, **more)
    require(done.returncode == 0, f"{words} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def same(what, found, wanted):
    print(f"{what}: {found}")
    require(found == wanted, f"{what}: found {found}, the JSON has {wanted}")


# ---- pprof --------------------------------------------------------------------------------


def go_total(place, path, *words):
    """The sum over all samples, by go tool pprof; it runs without any network."""
    env = dict(os.environ, HOME=place.work, PPROF_TMPDIR=place.work, GOFLAGS="-mod=mod")
    said = tool(["go", "tool", "pprof", "-top", "-symbolize=none", "-nodefraction=0",
                 "-nodecount=1000000", "-unit=B", *words, path], env=env)
    return int(re.search(r"of ([0-9]+)B? total", said)[1]) if "total" in said else 0


def formats_pprof():
    with tidepool.Place() as place:
        found = list(each(place, ".pb.gz", "--types", "peak,temporary"))
        for path, recording in found:
            with open(path, "rb") as file:
                profile = profile_proto.Profile(file.read())
            totals = profile.totals()
            for name, key in TYPES.items():
                same(f"{name} of {path}", totals[name], recording["totals"][key])
            temporary = sum(s["temporary_blocks"] for s in recording["sites"])
            same("temporary", totals["temporary_objects"], temporary)
            require(profile.default == "inuse_space" and profile.time and profile.duration,
                    "the profile lacks its time or default")
            names = {n for _, stack in profile.samples for _, _, l in stack for n, _, _ in l}
            require({"at_peak", "main"} <= names, f"functions have no names: {names}")
            require(profile.mappings[0][2].endswith("/known_sites"), "the program is not first")
            re.compile(profile.drop)
        tidepool.program("go")
        for path, recording in found:
            for name, key in TYPES.items():
                same(f"go, {name}", go_total(place, path, f"-sample_index={name}"),
                     recording["totals"][key])


def node_modules(place):
    """Installs the locked packages; the test is skipped where they cannot be had."""
    tidepool.program("npm")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(HERE, "npm", name), place.work)
    done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                          cwd=place.work, capture_output=True, timeout=120, check=False)
    if done.returncode:
        tidepool.skip(f"npm cannot install the packages: {done.stderr.decode()[-300:]}")
    return os.path.join(place.work, "node_modules")


def formats_pprof_npm():
    with tidepool.Place() as place:
        node_modules(place)
        script = """
            const {Profile} = require('pprof-format');
            const bytes = require('zlib').gunzipSync(require('fs').readFileSync(process.argv[1]));
            const p = Profile.decode(bytes), sums = {};
            p.sampleType.forEach((t, i) => sums[p.stringTable.strings[Number(t.type)]] =
                Number(p.sample.reduce((sum, s) => sum + BigInt(s.value[i]), 0n)));
            console.log(JSON.stringify(sums));"""
        for path, recording in each(place, ".pb.gz"):
            totals = json.loads(tool(["node", "-e", script, path], cwd=place.work))
            for name, value in totals.items():
                same(f"pprof-format, {name}", value, recording["totals"][TYPES[name]])
            require(len(totals) == 4, f"types: {totals}")


# ---- the other formats --------------------------------------------------------------------


def formats_heap():
    with tidepool.Place() as place:
        found = list(each(place, ".heap"))
        scene = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "known_sites")
        readers = [name for name in ("jeprof", "google-pprof", "go") if shutil.which(name)]
        if not readers:
            tidepool.skip("neither jeprof nor google-pprof nor go is installed")
        for path, recording in found:
            for name in readers:
                for option, kind in (("inuse_space", "inuse_space"), ("alloc_space",) * 2):
                    wanted = recording["totals"][TYPES[kind]]
                    if name == "go":
                        total = go_total(place, path, f"-sample_index={option}")
                    else:
                        said = tool([name, "--text", "--show_bytes", f"--{option}", scene, path])
                        total = int(re.search(r"Total: (\d+) B", said)[1])
                        require("at_peak" in said or kind == "inuse_space",
                                f"{name} has no names:\n{said}")
                    same(f"{name}, {kind}", total, wanted)


def heaptrack_sums(path, kind):
    """{stack of function names, innermost first: cost}, and the sum."""
    out = path + "." + kind
    tool(["heaptrack_print", "-f", path, "--flamegraph-cost-type", kind, "-F", out,
          "--disable-embedded-suppressions", "--disable-builtin-suppressions",
          "-p0", "-a0", "-T0"])
    found = collections.Counter()
    with open(out, encoding="utf-8") as lines:
        for line in lines:
            names, cost = line.rsplit(" ", 1)
            stack = [re.sub(r" \([^()]*\)$", "", n) for n in names.strip(";").split(";")]
            if int(cost):
                found[tuple(reversed(stack))] += int(cost)
    return found


def formats_heaptrack():
    tidepool.program("heaptrack_print")
    with tidepool.Place() as place:
        for arguments in (["alone"], ["eight"]):
            path, recording = record(place, "exact", *arguments)
            for end in (".heaptrack", ".heaptrack.zst", ".heaptrack.gz"):
                out = path + end
                command("report", "-o", out, path)
            for kind, key in (("allocations", "allocations"), ("peak", "peak_bytes"),
                              ("leaked", "live_bytes"), ("temporary", "temporary_blocks")):
                sums = [heaptrack_sums(path + end, kind)
                        for end in (".heaptrack", ".heaptrack.zst", ".heaptrack.gz")]
                require(sums[0] == sums[1] == sums[2], f"{kind}: compression changes it")
                wanted = sum(site[key] for site in recording["sites"])
                if kind == "temporary":  # of those at the peak all but one lose it
                    most = 1 if arguments == ["alone"] else 9
                    require(wanted - most < sum(sums[0].values()) <= wanted,
                            f"temporary: {sum(sums[0].values())} of {wanted}")
                    continue
                same(f"heaptrack_print {arguments[0]}, {kind}", sum(sums[0].values()), wanted)
                leaks = sum(s[key] for s in recording["sites"]
                            if any(f["function"] == "leak" for f in s["stack"][:1]))
                same(f"{kind} of leak()", sum(n for stack, n in sums[0].items()
                                             if stack[0] == "leak"), leaks)
            os.remove(path)
        path, _ = record(place, "sampled")
        out = path + ".heaptrack"
        said = command("report", "-o", out, path, status=2)
        require(re.fullmatch("tidepool: [^\n]*sample=all[^\n]*\n", said), f"it said {said!r}")
        require(not os.path.exists(out), "a file was left")


def formats_speedscope():
    with tidepool.Place() as place:
        found = list(each(place, ".speedscope.json"))
        names = {"live bytes": "live_bytes", "bytes at the peak": "peak_bytes",
                 "allocated bytes": "allocated_bytes", "allocations": "allocations"}
        for path, recording in found:
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
            for profile in document["profiles"]:
                require(profile["endValue"] == sum(profile["weights"]), "endValue is no sum")
                require(len(profile["samples"]) == len(profile["weights"]), "lengths differ")
                if profile["name"] in names:
                    same(profile["name"], profile["endValue"],
                         recording["totals"][names[profile["name"]]])
        try:
            import jsonschema
        except ImportError:
            tidepool.skip("python3-jsonschema is not installed")
        modules = node_modules(place)
        schema = next((os.path.join(folder, "file-format-schema.json")
                       for folder, _, files in os.walk(os.path.join(modules, "speedscope"))
                       if "file-format-schema.json" in files), None)
        require(schema, "npm's speedscope has no schema")
        with open(schema, encoding="utf-8") as file:
            schema = json.load(file)
        for path, _ in found:
            with open(path, encoding="utf-8") as file:
                jsonschema.validate(json.load(file), schema)
        print("speedscope's own schema accepts both")


def formats_plain():
    with tidepool.Place() as place:
        sorts = {"live": "live_bytes", "peak": "peak_bytes", "allocated": "allocated_bytes",
                 "count": "allocations"}
        for kind in OPTIONS:
            path, recording = record(place, kind)
            for sort, key in sorts.items():
                lines = command("report", "--format", "folded", "--sort", sort, path).decode()
                rows = [line.rsplit(" ", 1) for line in lines.splitlines()]
                same(f"folded, {sort}", sum(int(n) for _, n in rows), recording["totals"][key])
                require(len({r[0] for r in rows}) == len(rows), "a stack is there twice")
            text = command("report", "--format", "csv", path).decode()
            require(text.count("\r\n") == text.count("\n"), "a line does not end in CR LF")
            rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
            for key in sorts.values():
                same(f"csv, {key}", sum(int(r[key]) for r in rows), recording["totals"][key])
                require(all(int(r[key + "_low"]) <= int(r[key]) <= int(r[key + "_high"])
                            for r in rows), f"{key} is outside its interval")
            full = list(csv.DictReader(io.StringIO(
                command("report", "--format", "csv", "--full", path).decode(), newline="")))
            require(len(full) > len(rows) or kind == "sampled", "--full has no more rows")
            require(any("main" in row["callers"].split("\n") for row in full), "no callers")
        lines = command("report", "--format", "folded", "--sort", "count", "--focus", "^leak$",
                        path).decode().splitlines()
        require(all("leak" in line for line in lines), f"--focus leaves {lines}")
        hidden = command("report", "--format", "folded", "--sort", "count", "--hide", "^leak$",
                         path).decode()
        require(";leak " not in hidden, f"--hide leaves leak:\n{hidden}")


def formats_processes():
    scene = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "known_sites")
    with tidepool.Place() as place:
        path = os.path.join(place.work, "two.tide")
        command("run", "-q", "--sample", "all", "-o", path, "--", "/bin/sh", "-c",
                f"{scene} alone; {scene} eight; true",
                env=place.environment(preload=False))
        recordings = [r for r in tidepool.read(path) if r["dump"]["counts"]]
        require(len(recordings) == 3, f"{len(recordings)} processes")
        tool_path = tidepool.from_environment("TIDEPOOL_COMMAND")

        def totals(*words):
            done = subprocess.run([tool_path, "report", "--format", "pprof", *words, path],
                                  capture_output=True, timeout=100, check=False)
            require(done.returncode == 0, done.stderr.decode())
            return profile_proto.Profile(done.stdout).totals(), done.stderr.decode()

        highest = max(recordings, key=lambda r: r["totals"]["peak_bytes"])
        found, said = totals()
        same("the one with the highest peak", found["alloc_space"],
             highest["totals"]["allocated_bytes"])
        require(re.fullmatch(r"tidepool: of 3 programs this is known_sites, process \d+; .*\n",
                             said), f"it said {said!r}")
        for recording in recordings:
            found, said = totals("--pid", str(recording["process"]["pid"]))
            same("one of them", found["alloc_space"], recording["totals"]["allocated_bytes"])
            require(not said, f"it said {said!r}")
        found, said = totals("--merge")
        for name in ("alloc_objects", "alloc_space", "inuse_space"):
            same(f"all together, {name}", found[name],
                 sum(r["totals"][TYPES[name]] for r in recordings))
        require(not said, f"it said {said!r}")


def formats_files():
    with tidepool.Place() as place:
        path, _ = record(place, "exact")
        begins = {"a.json": b"{", "a.json.gz": b"\x1f\x8b", "a.json.zst": b"\x28\xb5\x2f\xfd",
                  "a.pb.gz": b"\x1f\x8b", "a.pprof": b"\x1f\x8b", "a.folded": b"main;",
                  "a.speedscope.json": b"{", "a.heap": b"heap profile:", "a.csv": b"function,",
                  "a.heaptrack": b"v 10400 3", "a.txt": b"known_sites"}
        for name, begin in begins.items():
            out = os.path.join(place.work, name)
            command("report", "-o", out, path)
            with open(out, "rb") as file:
                require(file.read(len(begin)) == begin, f"{name} does not begin with {begin}")
        with gzip.open(os.path.join(place.work, "a.json.gz")) as file:
            require(json.load(file)["schema"], "the JSON is not there")
        said = command("report", "--format", "nonsense", path, status=2)
        for name in ("text", "pprof", "folded", "speedscope", "heap", "csv", "json", "heaptrack"):
            require(name in said, f"{name} is not in {said!r}")
            full = command("report", "--format", name, "-o", "/dev/full", path, status=2)
            require(re.fullmatch("tidepool: cannot write [^\n]*\n", full), f"{full!r}")
            require(os.path.exists("/dev/full"), "/dev/full is gone")


def packed():
    tidepool.program("zstd")
    with tidepool.Place() as place:
        path, recording = record(place, "exact")
        small = os.path.join(place.work, "small.tide.zst")
        command("dump", "-q", "-o", small, path)
        require(os.path.getsize(small) < os.path.getsize(path) / 2, "it is not smaller")
        tool(["zstd", "-q", "-t", small])
        require(tidepool.read(small)[-1] == recording, "it reads otherwise")
        two = os.path.join(place.work, "two.tide.zst")
        with open(two, "wb") as out:
            for _ in range(2):
                with open(small, "rb") as part:
                    out.write(part.read())
        require(len(tidepool.read(two)) == 2, "two after one another are not two")
        scene = os.path.join(tidepool.from_environment("TIDEPOOL_SCENES"), "known_sites")
        ran = os.path.join(place.work, "ran.tide.zst")
        command("run", "-q", "-o", ran, "--", scene, "alone", env=place.environment(preload=False))
        tool(["zstd", "-q", "-t", ran])
        require(tidepool.read(ran)[0]["process"]["name"] == "known_sites", "run packs nothing")
        require(sorted(n for n in os.listdir(place.work) if "part" in n) == [], "parts are left")

        with open(small, "rb") as file:
            whole = file.read()
        bad = os.path.join(place.work, "bad.tide.zst")
        with open(path, "rb") as file:
            image = file.read()
        for what, content, line in (
                ("cut off", whole[:-9], "truncated at byte"),
                ("spoiled", whole[:60] + b"\xaa" * 9 + whole[69:], "damaged"),
                ("more behind it", whole + b"more", "damaged"),
                ("no recording", None, "not a Tidepool recording"),
                ("half a dump", image[:len(image) - 8], "truncated at byte"),
                ("a bomb", image * (600_000_000 // len(image)), "unpacks to more than")):
            with open(bad, "wb") as file:
                if content is None:
                    content = b"nothing at all" * 100
                if what in ("cut off", "spoiled", "more behind it"):
                    file.write(content)
                else:
                    file.write(subprocess.run(["zstd", "-q", "-c"], input=content, timeout=100,
                                              capture_output=True, check=True).stdout)
            said = command("report", bad, status=2)
            require(re.fullmatch(f"tidepool: cannot read [^\n]*{line}[^\n]*\n", said),
                    f"{what}: it said {said!r}")


if __name__ == "__main__":
    tidepool.main(globals()[sys.argv[1]])
