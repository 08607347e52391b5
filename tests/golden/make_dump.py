#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_dump.py FOLDER - writes the golden dumps straight from the layout of shim/format.h.

Nothing of the library or of the reader is used, so that a mistake in either shows.
All counts are primes and all sizes odd, so that a wrong factor cannot go unseen.
"""
import struct
import sys

N_CLASSES, LARGE, BUCKETS = 48, 48, 160
PROCESS, EXE, COMMAND, CLASSES, TOTALS, THREADS, ENDED, LATENCY = range(1, 9)
SAMPLING, MODULES, NODES, SITES, SAMPLES, TIMELINE = range(9, 15)
ONE = 4096  # a block in the sums of a site
LIVE, DUMP = 1, 2
FREE, RUNNING, PARKED, SHARED = range(4)
ENTRIES = 9
START_UNIX = 1_800_000_000_123_456_789
START_MONOTONIC = 5_000_000_000
LIVE_BYTES = 163861  # of the live file behind each dump: a prime
START_TICKS = 7_000_000_000
TICKS_A_NS = 3  # the cycle counter runs at 3 GHz


def class_sizes():
    """16 to 128 in steps of 16, then four a doubling: the first 48 such sizes."""
    sizes = [16 * i for i in range(1, 9)]
    base = 128
    while len(sizes) < N_CLASSES:
        sizes += [base + base // 4 * i for i in range(1, 5)]
        base *= 2
    return sizes[:N_CLASSES]


SIZES = class_sizes()


def text(value, size):
    return value.encode()[:size - 1].ljust(size, b"\0")


def process(pid=4711, ppid=997, flags=0, name="teapot", host="harbour", after_ns=0,
            inherited=(0, 0, 0, 0, 0)):
    """`inherited`: allocations, frees, live, requested and allocated bytes."""
    return struct.pack(
        "<4I4Q16s64s64s5Q24x", pid, ppid, flags, 4096, START_UNIX + after_ns,
        START_MONOTONIC + after_ns, START_TICKS + after_ns * TICKS_A_NS, 123457 + pid,
        bytes(range(1, 17)), text(name, 64), text(host, 64), *inherited)


def classes(slabs):
    """`slabs`: class index -> slabs in use."""
    return b"".join(
        struct.pack("<3Q", size, slabs.get(i, 0), slabs.get(i, 0) * 65536)
        for i, size in enumerate(SIZES))


def totals(net=0, slack=0, single=0, low=0, high=0, estimate=0, peak_ns=0, running=1,
           started=1, foreign=0, large=0, self_bytes=300007):
    ticks = START_TICKS + peak_ns * TICKS_A_NS if peak_ns else 0
    return struct.pack(
        "<6qQ2I8Q64x", net, slack, single, low, high, estimate, ticks, running, started,
        foreign, 1 << 40, 1 << 22, 0, large, self_bytes, 0, started - running)


def sums(taken, frees, large=(0, 0), remote=0):
    """A thread's six figures, from {class: (allocations, requested)} and {class: frees}."""
    size = SIZES + [0]
    return (sum(n for n, _ in taken.values()), sum(frees.values()),
            sum(b for _, b in taken.values()),
            sum(n * size[c] for c, (n, _) in taken.items()) + large[0],
            sum(n * size[c] for c, n in frees.items()) + large[1], remote)


def slot(state=RUNNING, tid=4711, name="teapot", taken=None, frees=None, large=(0, 0),
         remote=0, calls=None, failed=None, realloc=(0, 0, 0, 0), epoch=0,
         base=((0,) * 6, (0,) * 6), room=0, high=0, limit=65536):
    taken, frees, calls, failed = taken or {}, frees or {}, calls or {}, failed or {}
    out = struct.pack("<4q2I3Q", room, high + limit, high, limit, state, tid, epoch,
                      START_MONOTONIC + 1009, remote)
    out += struct.pack("<49Q", *(frees.get(c, 0) for c in range(49)))
    out += b"".join(struct.pack("<2Q", *taken.get(c, (0, 0))) for c in range(49))
    out += struct.pack("<2Q", *large)
    out += struct.pack("<9Q", *(calls.get(e, 0) for e in range(ENTRIES)))
    out += struct.pack("<9Q", *(failed.get(e, 0) for e in range(ENTRIES)))
    out += struct.pack("<5Q", *realloc, 13)
    out += text(name, 16)
    out += struct.pack("<6Q", *base[0]) + struct.pack("<6Q", *base[1]) + bytes(496)
    return out


def ended(slot_index, tid, epoch, name, figures):
    return struct.pack("<2I3Q16s6Q32x", slot_index, tid, epoch, START_MONOTONIC + 1009,
                       START_MONOTONIC + 2003, text(name, 16), *figures)


def bucket(ticks):
    if ticks < 4:
        return ticks
    top = ticks.bit_length() - 1
    return min(4 * (top - 1) + ((ticks >> (top - 2)) & 3), BUCKETS - 1)


def latency(name, ticks):
    """`ticks`: the samples, as (ticks, how many)."""
    buckets = [0] * BUCKETS
    for value, n in ticks:
        buckets[bucket(value)] += n
    count = sum(n for _, n in ticks)
    return text(name, 16) + struct.pack(
        "<4Q16x160Q", count, sum(v * n for v, n in ticks), min(v for v, _ in ticks),
        max(v for v, _ in ticks), *buckets)


def sampling(mode=1, depth=64, interval=524288, samples=0, ends=(), frames=0, peak=0,
             peak_bytes=0, dropped=0):
    ends = tuple(ends) + (0,) * (8 - len(ends))
    return struct.pack("<2I3Q8Q4Q2I2Q56x", mode, depth, interval, samples, dropped, *ends,
                       frames, frames * 17, samples, frames, peak, 0, peak_bytes, 0)


def module(path, base, start, end, build_id=b"", flags=0, after_ns=0):
    return struct.pack("<5Q2I20sB43x400s", base, start, end, START_MONOTONIC + after_ns, 0,
                       0, flags, build_id, len(build_id), path.encode("latin-1"))


def node(parent, module_index, offset):
    """`module_index`: in the table; None: the offset is an address."""
    return struct.pack("<2IQ", parent, 0 if module_index is None else module_index + 1, offset)


def site_sums(samples=(), large=False):
    """`samples`: (weight, requested bytes, usable bytes) each."""
    blocks = sum(int(w * ONE) for w, _, _ in samples)
    requested = sum(int(w * r) for w, r, _ in samples)
    usable = sum(int(w * u) for w, _, u in samples) if large else 0
    return struct.pack("<4Q2d", len(samples), blocks, requested, usable,
                       sum(w * (w - 1) for w, _, _ in samples),
                       sum(u * u * w * (w - 1) for w, _, u in samples) if large else 0.0)


def site(node_index, class_index, taken, freed=(), peak=0, end=0, at_peak=(0, 0, 0.0, 0.0),
         temporary=0):
    large = class_index == LARGE
    return (struct.pack("<I2H2I", node_index, class_index, 1, peak, end) +
            site_sums(taken, large) + site_sums(freed, large) +
            struct.pack("<2Q2d2Q", *at_peak, temporary, 0))


def sample(site_index, address, usable, requested, born_ns, interval=524288):
    return struct.pack("<2I6Q2I", site_index, 1, address, usable, requested, interval,
                       START_TICKS + born_ns * TICKS_A_NS, 1009, 0, 0)


def point(after_ns, live, most, rss, allocations, frees):
    return struct.pack("<Q2q3Q", START_TICKS + after_ns * TICKS_A_NS, live, most, rss,
                       allocations, frees)


def dump(regions, state=DUMP, reason=1, sequence=0, after_ns=2_003_000_000, flags=0,
         rss=(30011392, 41008128)):
    """`regions`: (kind, bytes of a record, all records as bytes), in file order."""
    at = 128 + 32 * len(regions)
    rows, body = b"", b""
    for kind, record, content in regions:
        rows += struct.pack("<2I3Q", kind, record, len(content) // record, at + len(body), 0)
        body += content.ljust((len(content) + 7) // 8 * 8, b"\0")
    header = struct.pack(
        "<8s2IQ6I7Q24x", b"TIDEPOOL", 1, 128, at + len(body), state, reason, flags, 32,
        len(regions), 0, sequence, START_UNIX + after_ns, START_MONOTONIC + after_ns,
        START_TICKS + after_ns * TICKS_A_NS, *rss, LIVE_BYTES)
    return header + rows + body


def standard(who, what, slots, records=(), times=(), slabs=None,
             command=b"./teapot\0--short\0and stout\0", exe=b"/opt/tea/teapot"):
    return [
        (PROCESS, 256, who), (EXE, 1, exe), (COMMAND, 1, command),
        (CLASSES, 24, classes(slabs or {})), (TOTALS, 192, what),
        (THREADS, 2048, b"".join(slots)), (ENDED, 128, b"".join(records)),
        (LATENCY, 1344, b"".join(times))]


def one_thread():
    """997 blocks of 173 bytes, 101 of 17, 7 of 300007; most are freed; exact peak."""
    taken = {9: (997, 997 * 173), 1: (101, 101 * 17), LARGE: (7, 7 * 300007)}
    frees = {9: 991, 1: 101, LARGE: 5}
    large = (7 * 303104, 5 * 303104)
    _, _, _, allocated, freed, _ = sums(taken, frees, large)
    peak = allocated - 3 * 192
    return dump(standard(
        process(), totals(net=allocated - freed, single=peak, estimate=peak,
                          peak_ns=1_009_000_000, large=2 * 303104),
        [slot(taken=taken, frees=frees, large=large,
              calls={1: 103, 2: 43, 5: 11}, failed={0: 2, 1: 2},
              realloc=(19, 17, 5, 2))],
        times=[latency("refill", [(401, 89), (907, 7), (30011, 1)]),
               latency("large", [(9001, 11), (700001, 2)]),
               latency("refill", [(409, 13)])],
        slabs={9: 3, 1: 1}))


def sites():
    """Three stacks in two modules: of 10007 blocks of 192 four were sampled, all large ones."""
    taken = {9: (10007, 10007 * 173), LARGE: (7, 7 * 3000017)}
    frees = {9: 9001, LARGE: 5}
    large = (7 * 3002368, 5 * 3002368)
    _, _, _, allocated, freed, _ = sums(taken, frees, large)
    weight, heavy = 2731.1669, 1.0032688  # 1 / (1 - exp(-bytes / 512 KiB))
    small, big = (weight, 173, 192), (heavy, 3000017, 3002368)
    modules = [module("/opt/tea/teapot", 0x555555554000, 0x555555554000, 0x555555577000,
                      bytes(range(20)), flags=2),
               module("/usr/lib/libleaf.so.1", 0x7f0000000000, 0x7f0000000000,
                      0x7f0000023000, b"\x05\x07\x0b\x0d\x11\x13\x17\x1d",
                      after_ns=1009)]
    nodes = [node(0, None, 0), node(0, 0, 0x1009), node(1, 0, 0x200b), node(2, 1, 0x3001),
             node(1, None, 0x7f1234567891)]
    table = [bytes(160), site(3, 9, [small] * 3, [small] * 2),
             site(3, LARGE, [big] * 7, [big] * 5, peak=1,
                  at_peak=(int(3 * heavy * ONE), int(3 * heavy * 3002368), 0.01, 9e10)),
             site(4, 9, [small], [small], end=2, temporary=int(weight * ONE))]
    alive = [sample(1, 0x7e0000001000, 192, 173, 307_000_000),
             sample(2, 0x7e0000400000, 3002368, 3000017, 401_000_000),
             sample(2, 0x7e0000800000, 3002368, 3000017, 503_000_000)]
    points = [point(101_000_000, 1000003, 2000003, 9000960, 1009, 499),
              point(1_103_000_000, 3000017, 12000017, 0, 7001, 4001),
              point(2_003_000_000, allocated - freed, allocated - freed, 30011392, 10014,
                    9006)]
    peak = 3 * 3002368 + 17 * 192
    regions = standard(
        process(), totals(net=allocated - freed, single=peak, estimate=peak,
                          peak_ns=1_009_000_000, large=2 * 3002368),
        [slot(taken=taken, frees=frees, large=large)], slabs={9: 5})
    return dump(regions + [
        (SAMPLING, 208, sampling(samples=11, ends=(10, 0, 1), frames=31, peak=1,
                                 peak_bytes=peak)),
        (MODULES, 512, b"".join(modules)), (NODES, 16, b"".join(nodes)),
        (SITES, 160, b"".join(table)), (SAMPLES, 64, b"".join(alive)),
        (TIMELINE, 48, b"".join(points))])


def exact():
    """Every allocation with its stack; the name of a module is a formula and worse."""
    taken = {9: (101, 101 * 173), 1: (7, 7 * 17), LARGE: (1, 300007)}
    frees = {9: 90, 1: 7}
    large = (303104, 0)
    _, _, _, allocated, freed, _ = sums(taken, frees, large)
    small, tiny, big = (1, 173, 192), (1, 17, 32), (1, 300007, 303104)
    modules = [module("/opt/tea/=1+1;\"b\"\n\xc3(.so", 0x555555554000, 0x555555554000,
                      0x555555577000, bytes(range(20)), flags=2),
               module("/usr/lib/libleaf.so.1", 0x555555554000, 0x555555554000,
                      0x555555556000, b"\x05\x07\x0b", after_ns=1009)]
    nodes = [node(0, None, 0), node(0, 0, 0x1009), node(1, 0, 0x200b), node(1, 1, 0x1009),
             node(0, None, 0)]
    table = [bytes(160),
             site(2, 9, [small] * 101, [small] * 90, peak=1, at_peak=(31 * ONE, 0, 0.0, 0.0)),
             site(3, 1, [tiny] * 7, [tiny] * 7, temporary=5 * ONE),
             site(4, LARGE, [big], peak=1, at_peak=(ONE, 303104, 0.0, 0.0))]
    peak = 303104 + 31 * 192
    regions = standard(
        process(), totals(net=allocated - freed, single=peak, estimate=peak,
                          peak_ns=1_009_000_000, large=303104),
        [slot(taken=taken, frees=frees, large=large)], slabs={9: 5, 1: 1})
    return dump(regions + [
        (SAMPLING, 208, sampling(mode=2, interval=0, samples=109, ends=(109,), frames=218,
                                 peak=1, peak_bytes=peak)),
        (MODULES, 512, b"".join(modules)), (NODES, 16, b"".join(nodes)),
        (SITES, 160, b"".join(table))])


def threads():
    """A running thread in its second epoch, an ended one recorded, one not, one shared."""
    first = ({3: (211, 211 * 61)}, {3: 199})
    lost = ({5: (31, 31 * 83)}, {5: 29})
    both = ({3: (211 + 307, 211 * 61 + 307 * 59), 7: (53, 53 * 127)},
            {3: 199 + 293, 7: 47})
    base = sums(*first, remote=3)
    big = {12: (10007, 10007 * 251)}
    return dump(standard(
        process(pid=4713, name="tea-server"),
        totals(net=131072, slack=65536, single=2000, low=131072 - 40000,
               high=131072 + 70001, estimate=140009, peak_ns=1_500_450_007, running=2,
               started=5, foreign=3),
        [slot(tid=4713, name="main", taken=big, frees={12: 9973}, high=5003, room=101),
         slot(tid=4799, name="worker-2", taken=both[0], frees=both[1], epoch=1, remote=11,
              base=((0,) * 6, base), high=3001, room=-211),
         slot(state=PARKED, tid=4801, name="gone", taken=lost[0], frees=lost[1], epoch=1),
         slot(state=SHARED, tid=0, name="", taken={0: (13, 13 * 9)}, frees={0: 11}),
         slot(state=FREE, tid=0, name="")],
        records=[ended(1, 4788, 0, "worker-1", base),
                 ended(0, 4790, 0, "not yet", (1, 1, 1, 1, 1, 1)), bytes(128)],
        times=[latency("refill", [(601, 4999), (90001, 3)]),
               latency("new_slab", [(60013, 59)])],
        slabs={12: 2, 3: 1, 7: 1, 5: 1, 0: 1}), reason=2, sequence=4)


def hostile():
    """Names that steer a terminal or are no UTF-8; a command line with quotes."""
    raw = process(name="x")
    name = b"\x1b[31mred\xff\xc3(\xe2\x82\xac\""
    raw = raw[:64] + name.ljust(64, b"\0") + raw[128:]
    thread = bytearray(slot(taken={0: (1, 1)}, name="t"))
    at = thread.index(b"t" + bytes(15), 1200)
    thread[at:at + 16] = b"\x07a\xe2\x82" + b"b" * 12
    return dump(standard(
        raw, totals(single=16, net=16, estimate=16), [bytes(thread)],
        command=b"sh\0-c\0echo \"hi\"\n\x01\xfe\0"), reason=5)


def family():
    """A process, a program that it started and that was killed, and a fork of itself.

    The fork freed two of the blocks that it inherited, besides all of its own.
    """
    def child(pid, after_ns, n, n_freed, reason, **who):
        name = who.get("name", "teapot")
        taken, frees = {2: (n, n * 41)}, {2: n_freed}
        return dump(standard(
            process(pid=pid, ppid=4711, after_ns=after_ns, **who),
            totals(net=48 * (n - n_freed), single=48 * 3, estimate=48 * 3),
            [slot(tid=pid, name=name, taken=taken, frees=frees)],
            command=name.encode() + b"\0", exe=b"/opt/tea/" + name.encode()),
            reason=reason, after_ns=after_ns + 700_001_000)
    return (child(4723, 503_000_000, 103, 102, 1, flags=2,
                  inherited=(53, 50, 3 * 48, 53 * 41, 53 * 48)) +
            child(4721, 307_000_000, 1009, 1008, 5, name="cup") + one_thread())


def inert():
    """A program with its own malloc: nothing was counted, and that must be said."""
    return dump([(PROCESS, 256, process(flags=1)), (COMMAND, 1, b"kettle\0"),
                 (99, 24, bytes(48))], rss=(0, 0))


GOLDEN = {"one_thread": one_thread, "threads": threads, "sites": sites, "hostile": hostile,
          "exact": exact, "family": family, "inert": inert}

if __name__ == "__main__":
    for key, make in GOLDEN.items():
        with open(f"{sys.argv[1]}/{key}.tide", "wb") as out:
            out.write(make())
