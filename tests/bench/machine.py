# SPDX-License-Identifier: MIT
"""The machine that scripts/bench runs on: its packages, processors and libraries."""
import collections
import glob
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TIMEOUT = 120  # seconds one run may take
PEERS = {"jemalloc": ("libjemalloc.so.2", "libjemalloc2"),
         "mimalloc": ("libmimalloc.so.2", "libmimalloc2.0"),
         "tcmalloc": ("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4")}
PROFILING = "jemalloc-prof"  # the same library as jemalloc, and this in MALLOC_CONF:
PROF_CONF = "prof:true,prof_active:true,prof_final:true,prof_prefix:"
OURS = {"tidepool-off": "sample=off,exit=off,signal=off", "tidepool": ""}
ALLOCATORS = ["glibc", *PEERS, PROFILING, *OURS]
# redis-tools holds the server too; redis-server would also start a daemon.
PACKAGES = ["gcc", "libc6-dev", "python3", "perl", "sqlite3", "redis-tools", "z3",
            "ghostscript", "heaptrack", "libc-devtools", "valgrind",
            *(package for _, package in PEERS.values())]
BUILD_PACKAGES = ["meson", "ninja-build", "pkg-config", "binutils", "libjemalloc-dev",
                  "libdw-dev", "libiberty-dev"]

# settings: {variable: value}; the text @OUT@ in a value is a folder for what is written.
Allocator = collections.namedtuple("Allocator", "name library settings")


def die(text):
    """Ends the script: wrong use, or something is missing."""
    print(f"bench: {text}", file=sys.stderr)
    sys.exit(2)


def capture(*command, **options):
    """Returns what a command prints, or "" when it cannot run or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT,
                              check=True, **options).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


# ---- packages -------------------------------------------------------------------


def package_version(package):
    """Returns the version of an installed package, "" for any other."""
    status = capture("dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", package)
    return status[3:].strip() if status.startswith("ii") else ""


def install(packages):
    """Installs those of the packages that are missing."""
    missing = [p for p in packages if not package_version(p)]
    if not missing:
        return
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    print("bench: installing", *missing, file=sys.stderr)
    try:
        subprocess.run([*apt, "update"], stdout=sys.stderr, check=True)
        subprocess.run([*apt, "install", "-y", "--no-install-recommends", *missing],
                       stdout=sys.stderr, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        die(f"cannot install {' '.join(missing)}: {error}")


def build():
    """Builds what is timed, as a release; returns the folder."""
    folder = os.path.join(ROOT, "build-bench")
    steps = [["ninja", "-C", folder, "bench-programs", "shim/libtidepool.so",
              "tests/run/fastpath"]]
    if not os.path.exists(os.path.join(folder, "build.ninja")):
        steps.insert(0, ["meson", "setup", "--buildtype=release", folder, ROOT])
    for step in steps:
        try:
            done = subprocess.run(step, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True, check=False)
        except OSError as error:
            die(f"cannot run {step[0]}: {error.strerror.lower()}")
        if done.returncode:
            print(done.stdout[-4000:], file=sys.stderr)
            die(f"cannot build: {' '.join(step)} failed")
    return folder


# ---- processors -----------------------------------------------------------------


def parse_cpus(text):
    """Returns the set that text such as 0,2 or 2-3 means."""
    cpus = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        cpus.update(range(int(low), int(high or low) + 1))
    return cpus


def cpus_for(n_threads):
    """The processors that a program of so many threads is bound to: the last ones, for
    the first has most of the system's own work."""
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[-n_threads:]


# ---- allocators -----------------------------------------------------------------


def find_libc():
    """Preloading libc itself changes nothing, except for a program that is linked
    with an allocator of its own, as Debian's redis-server is: that one is bypassed."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            if os.path.basename(line.split()[-1]).startswith("libc.so"):
                return line.split()[-1]
    return ""


def find_library(name):
    """Returns the path of one of the distribution's libraries, or ""."""
    for pattern in (f"/usr/lib/{os.uname().machine}-*/{name}", f"/lib/*/{name}",
                    f"/usr/lib*/{name}"):
        for path in sorted(glob.glob(pattern)):
            return path
    return ""


def can_profile(library):
    """Whether this jemalloc was built with its profiler; it says so itself."""
    env = {**os.environ, "LD_PRELOAD": library, "MALLOC_CONF": "stats_print:true"}
    done = subprocess.run(["/bin/true"], env=env, capture_output=True, text=True, check=False)
    return "config.prof: true" in done.stderr


def settings_of(name):
    """The environment variables that make the allocator what its name says."""
    if name == PROFILING:
        return {"MALLOC_CONF": PROF_CONF + "@OUT@/jeprof"}
    if name in OURS:
        return {"TIDEPOOL": ",".join(filter(None, [OURS[name], "out=@OUT@/%e.%p.tide"]))}
    return {}


def find_allocators(names, build_dir, chosen):
    """Returns the Allocators of these names. One that is missing ends the script, or is
    only named when the user chose. jemalloc without a profiler is always only named."""
    found = []
    for name in names:
        if name == "glibc":
            path = find_libc()
        elif name in OURS:
            path = os.path.join(build_dir, "shim", "libtidepool.so")
        else:
            path = find_library(PEERS[name.removesuffix("-prof")][0])
        if name == PROFILING and path and not can_profile(path):
            print("bench: skipping jemalloc-prof: the profiler is not built in",
                  file=sys.stderr)
        elif path and os.path.exists(path):
            found.append(Allocator(name, path, settings_of(name)))
        elif chosen:
            print(f"bench: skipping {name}: its library was not found", file=sys.stderr)
        else:
            die(f"cannot find the library of {name}")
    if "glibc" not in [a.name for a in found]:
        die("glibc must be among the allocators: everything is compared with it")
    return found


# ---- what stands above the figures ----------------------------------------------


def read_field(path, key, separator):
    """Returns what stands behind the key in a file of lines."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(key):
                return line.split(separator, 1)[1].strip().strip('"')
    return "unknown"


def describe(rounds, share):
    """Returns lines about the machine, the versions and the measurement."""
    memory = int(read_field("/proc/meminfo", "MemTotal", ":").split()[0])
    versions = [f"{name} {package_version(package).split('-')[0].split('+')[0]}"
                for name, (_, package) in [*PEERS.items(), ("heaptrack", ("", "heaptrack"))]]
    revision = capture("git", "-C", ROOT, "describe", "--always", "--dirty")
    return [f"{read_field('/proc/cpuinfo', 'model name', ':')}, "
            f"{len(os.sched_getaffinity(0))} CPUs used of {os.cpu_count()}, "
            f"{memory / 2**20:.0f} GiB",
            f"{read_field('/etc/os-release', 'PRETTY_NAME', '=')}, "
            f"Linux {os.uname().release}, {os.confstr('CS_GNU_LIBC_VERSION')}",
            f"{', '.join(versions)}; Tidepool {revision or 'unknown'}",
            f"Medians of {rounds} rounds" +
            ("" if share == 1 else f", {share * 100:g} % of the work: too short to be fair")]
