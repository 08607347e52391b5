# SPDX-License-Identifier: MIT
"""raw.py - the records of who allocates, as a live file or dump has them (shim/format.h).

Idea: the report brings weights to the exact counts, so its sums hold whatever the file
says. What the writer promises of the file itself is looked at here.
"""

import collections
import math
import struct

HEADER = struct.Struct("<8sIIQIIIII")
ROW = struct.Struct("<IIQQQ")
SAMPLING, SITES, SAMPLES = 9, 12, 13  # kinds of regions
LARGE = 48  # class of blocks above the pools
ONE = 4096  # `blocks` of a block with the weight 1

Sums = collections.namedtuple("Sums", "samples blocks requested bytes")
Site = collections.namedtuple("Site", "index size_class taken freed")
Sample = collections.namedtuple("Sample", "site bytes interval")
File = collections.namedtuple("File", "mode samples dropped sites live")


def read(path):
    """What one live file, or the first dump of a file, has of sites and samples."""
    with open(path, "rb") as file:
        data = file.read()
    rows = HEADER.unpack_from(data)
    places = collections.defaultdict(list)  # kind: where its records are, in order
    for i in range(rows[8]):
        kind, size, count, offset, _ = ROW.unpack_from(data, rows[2] + i * rows[7])
        places[kind] += range(offset, offset + count * size, size)
    mode, _, _, samples, dropped = struct.unpack_from("<IIQQQ", data, places[SAMPLING][0])
    sites, live = [], []
    for index, at in enumerate(places[SITES]):
        _, size_class, used = struct.unpack_from("<IHH", data, at)
        if used == 1:
            sites.append(Site(index, size_class, *(
                Sums(*struct.unpack_from("<4Q", data, at + half)) for half in (16, 64))))
    for at in places[SAMPLES]:
        site, state, _, size, _, interval = struct.unpack_from("<IIQQQQ", data, at)
        if state == 1:
            live.append(Sample(site, size, interval))
    return File(mode, samples, dropped, sites, live)


def weight(sample):
    """`blocks` of a live sample: 1 / p, where p = 1 - exp(-bytes / interval)."""
    return -ONE / math.expm1(-sample.bytes / sample.interval) if sample.interval > 1 else ONE
