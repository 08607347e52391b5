# SPDX-License-Identifier: MIT
"""profile_proto.py - reads profile.proto, and insists on what its readers insist on.

The numbers of the fields are those of github.com/google/pprof, proto/profile.proto. Also
a program: profile_proto.py FILE prints the profile as text.
"""

import gzip
import sys

REPEATED = {  # message: the fields that may come more than once, and their names
    "profile": {1: "types", 2: "samples", 3: "mappings", 4: "locations", 5: "functions",
                6: "strings", 13: "comments"},
    "location": {4: "lines"}, "sample": {1: "locations", 2: "values", 3: "labels"}}


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7f) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return value, at


def fields(data):
    """{number: [values]} of a message; numbers are ints, the rest bytes."""
    found, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        assert key & 7 in (0, 2), f"wire type {key & 7}"
        if key & 7 == 0:
            value, at = varint(data, at)
        else:
            n, at = varint(data, at)
            value, at = data[at:at + n], at + n
            assert len(value) == n, "a field is cut off"
        found.setdefault(key >> 3, []).append(value)
    return found


def packed(values):
    """Numbers of a packed field, signed."""
    out = []
    for data in values:
        at = 0
        while at < len(data):
            value, at = varint(data, at)
            out.append(value - (1 << 64) if value >> 63 else value)
    return out


class Profile:
    """A profile whose references lead somewhere, by the rules of the strictest reader."""

    def __init__(self, data):
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        top = fields(data)
        self.strings = [s.decode() for s in top[6]]  # strict: no byte that is not UTF-8
        assert self.strings[0] == "", "the first string is not empty"
        one = lambda message, number: message.get(number, [0])[0]
        text = lambda message, number: self.strings[one(message, number)]
        kind = lambda data: tuple(text(fields(data), n) for n in (1, 2))
        self.types = [kind(t) for t in top[1]]
        assert self.types[-1] == ("inuse_space", "bytes"), "inuse_space is not the last type"
        self.period_type, self.period = kind(top[11][0]), one(top, 12)
        self.time, self.duration = one(top, 9), one(top, 10)
        self.comments = [self.strings[n] for n in top.get(13, [])]
        self.default, self.drop = text(top, 14), text(top, 7)

        def table(number):
            rows = [fields(row) for row in top.get(number, [])]
            ids = [one(row, 1) for row in rows]
            assert ids == list(range(1, len(rows) + 1)), f"ids of field {number}: {ids}"
            return rows

        self.functions = [tuple(text(f, n) for n in (2, 4)) for f in table(5)]
        assert all(name for name, _ in self.functions), "a function without a name"
        self.mappings = [(one(m, 2), one(m, 3), text(m, 5), text(m, 6),
                          tuple(one(m, n) for n in (7, 8, 9, 10))) for m in table(3)]
        for i, (start, end, *_) in enumerate(self.mappings):
            assert start < end and not any(s < end and start < e
                                           for s, e, *_ in self.mappings[:i]), "mappings overlap"
        self.locations = []
        for location in table(4):
            lines = [fields(line) for line in location.get(4, [])]
            assert lines, "a location without a line"
            address, mapping = one(location, 3), one(location, 2)
            if mapping:
                start, end, *_ = self.mappings[mapping - 1]
                assert start <= address < end, "an address outside its mapping"
            self.locations.append((address, mapping, [
                (*self.functions[one(line, 1) - 1], one(line, 2)) for line in lines]))
        addresses = [address for address, _, _ in self.locations]
        assert 0 not in addresses and len(set(addresses)) == len(addresses), "equal addresses"
        self.samples = []
        for sample in (fields(s) for s in top.get(2, [])):
            values, stack = packed(sample.get(2, [])), packed(sample.get(1, []))
            assert len(values) == len(self.types) and stack, f"a bad sample: {sample}"
            self.samples.append((values, [self.locations[i - 1] for i in stack]))
        stacks = [tuple(l[0] for l in stack) for _, stack in self.samples]
        assert len(set(stacks)) == len(stacks), "a stack occurs twice"

    def totals(self):
        sums = [sum(values[i] for values, _ in self.samples) for i in range(len(self.types))]
        return {name: value for (name, _), value in zip(self.types, sums)}

    def text(self):
        """All of it, for people and for comparing."""
        out = [f"types {' '.join('/'.join(t) for t in self.types)}",
               f"default {self.default}", f"period {self.period} {'/'.join(self.period_type)}",
               f"time {self.time} duration {self.duration}"]
        out += [f"comment {c}" for c in self.comments]
        for start, end, path, build_id, flags in self.mappings:
            out.append(f"mapping {start:#x}-{end:#x} {path} {build_id} {flags}")
        for values, stack in self.samples:
            out.append(f"sample {' '.join(map(str, values))}")
            for address, mapping, lines in stack:
                said = " <- ".join(f"{name} {file}:{line}" for name, file, line in lines)
                out.append(f"  {address:#x} in {mapping}: {said}")
        return "\n".join(out) + "\n"


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        print(Profile(file.read()).text(), end="")
