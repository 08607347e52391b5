# SPDX-License-Identifier: MIT
"""What scripts/bench feeds to real programs: made here, the same in every run.

Each function takes an amount and returns text. Randomness comes from generators with
fixed seeds, so that two machines do the same work.
"""
import random

PYTHON_JSON = """
import hashlib, json, random
rng = random.Random(1)
def record(i):
    return {"id": i, "name": "user-%012x" % rng.getrandbits(48), "score": rng.random(),
            "tags": ["tag%d" % rng.randrange(1000) for _ in range(rng.randrange(8))],
            "text": "lorem ipsum dolor " * rng.randrange(40),
            "nested": {"k%d" % k: [k, k * 1.5, None, True] for k in range(6)}}
data = [record(i) for i in range(8000)]
for step in range(@N@):
    text = json.dumps(data, indent=step % 2 or None)
    data = json.loads(text)
print(hashlib.sha256(text.encode()).hexdigest())
"""

SQL = """
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, owner INT, price REAL, note TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < @N@)
  INSERT INTO item SELECT i, printf('item-%08x', i * 2654435761 % 4294967296),
    i * 7919 % 5000, i % 1000 / 7.0, substr(hex(i * 65537) || hex(i), 1, i % 90) FROM n;
CREATE INDEX by_owner ON item(owner, price);
CREATE INDEX by_name ON item(name);
SELECT owner, count(*), round(sum(price), 3) s, group_concat(substr(name, -3), '')
  FROM item GROUP BY owner ORDER BY s DESC, owner LIMIT 50;
SELECT count(*) FROM item a JOIN item b ON b.name = a.name AND b.id <= a.id;
UPDATE item SET note = note || name, price = price + 1 WHERE owner % 3 = 0;
DELETE FROM item WHERE owner % 7 = 0;
SELECT count(*), sum(length(note)), round(sum(price), 2), max(upper(note)) FROM item;
"""

PERL_WORDS = """
use strict; my ($seed, %count, %by, @line) = (1);
for my $n (1 .. @N@) {
    my @word;
    for (1 .. 12) {
        $seed = ($seed * 1103515245 + 12345) % 2147483648;
        push @word, join '', map { chr(97 + ($seed >> $_) % 26) } 5, 9, 13;
    }
    push @line, my $text = join ' ', @word;
    $count{$_}++ for split / /, $text;
    push @{$by{substr $text, 0, 2}}, length($text) . ":" . reverse $text;
    (my $copy = $text) =~ s/(\\w+) (\\w+)/$2-$1/g;
    $line[-1] .= $copy;
    splice @line, 0, 500 if @line > 5000;
}
print "$_ $count{$_}\\n" for sort keys %count;
print scalar(@{$by{$_}}), "\\n" for sort keys %by;
print length(join '', @line), "\\n";
"""

POSTSCRIPT_PAGE = """
/Times-Roman findfont 11 scalefont setfont
0 1 60 { /y exch def 40 780 y 12 mul sub moveto
  0 1 14 { y mul @PAGE@ add 7919 mul 99991 mod (     ) cvs show ( glyph ) show } for } for
0 1 400 { /i exch def i 401 div 1 i 401 div sub 0.5 setrgbcolor newpath
  300 400 moveto i 37 mul 600 mod i 91 mul 800 mod i 53 mul 600 mod i 29 mul 800 mod
  i 71 mul 600 mod i 17 mul 800 mod curveto 3 setlinewidth stroke } for
<< /ShadingType 2 /ColorSpace /DeviceRGB /Coords [0 0 600 0] /Extend [true true]
  /Function << /FunctionType 2 /Domain [0 1] /C0 [1 0 0] /C1 [0 0 1] /N 1.5 >> >>
newpath 300 400 200 0 360 arc clip shfill showpage
"""


def json_script(n_rounds):
    """Python: dumps and loads a list of 8000 records."""
    return PYTHON_JSON.replace("@N@", str(n_rounds))


def sql(n_rows):
    """SQLite: one table, two indexes, grouping, joining, updating, deleting."""
    return SQL.replace("@N@", str(n_rows))


def perl_script(n_lines):
    """Perl: splits, joins, reverses and counts the words of made-up lines."""
    return PERL_WORDS.replace("@N@", str(n_lines))


def postscript(n_pages):
    """PostScript: text, curves and a clipped shading on each page."""
    return "%!PS\n" + "".join(POSTSCRIPT_PAGE.replace("@PAGE@", str(page))
                              for page in range(n_pages))


def c_source(n_functions):
    """Returns a C file without includes: loops, switches, calls, arrays, structs."""
    rng = random.Random(3)
    text = ["struct cell { int a, b; double d; struct cell *next; };",
            "static int table[256];"]
    for f in range(n_functions):
        text.append(f"int f{f}(int x, int y, struct cell *c)\n{{")
        text.append("    int v[8] = { x, y, x + y, x - y, x ^ y, x & y, 1, 2 };")
        for _ in range(rng.randrange(6, 14)):
            i, j, k, n = (rng.randrange(8) for _ in range(4))
            text.append(rng.choice([
                f"    v[{i}] = v[{j}] * {n + 3} + (v[{k}] >> {n}) - table[v[{j}] & 255];",
                f"    for (int i = 0; i < v[{i}]; i++) v[{j}] += table[(i * {n}) & 255];",
                f"    if (v[{i}] > v[{j}] + {n}) v[{k}] ^= v[{n}]; else c->d *= v[{k}];",
                f"    switch (v[{i}] & 3) {{ case 0: v[{j}]++; break; case 1: v[{k}] *= 3;"
                f" break; case 2: table[{n}] = v[{j}]; break;"
                f" default: c->a -= v[{n}]; }}",
                f"    while (c->next && c->b < v[{i}]) {{ c = c->next; v[{j}] += c->a; }}",
                f"    v[{i}] += f{rng.randrange(f or 1)}(v[{j}], v[{k}], c);",
            ]))
        text.append("    return v[0] + v[1] * v[2] - v[3] + v[4] + v[5] + v[6] - v[7];")
        text.append("}")
    return "\n".join(text) + "\n"


def smt(n_problems):
    """SMT-LIB: factors of a product of two primes, and queens on growing boards."""
    text, primes = [], [8009, 7993, 7963]
    for problem in range(n_problems):
        text.append("(push)")
        for v in "ab":
            text.append(f"(declare-const {v} (_ BitVec 26))\n"
                        f"(assert (bvult (_ bv1 26) {v}))\n"
                        f"(assert (bvult {v} (_ bv8192 26)))")
        text.append(f"(assert (= (bvmul a b) (_ bv{primes[problem % 3] * 8011} 26)))")
        text.append("(check-sat)\n(pop)\n(push)")
        n = 20 + 2 * problem
        for i in range(n):
            text.append(f"(declare-const q{i} Int)\n"
                        f"(assert (and (<= 0 q{i}) (< q{i} {n})))")
        for i in range(n):
            for k in range(i):
                d = i - k
                text.append(f"(assert (and (distinct q{i} q{k}) "
                            f"(distinct (- q{i} q{k}) {d})"
                            f" (distinct (- q{k} q{i}) {d})))")
        text.append("(check-sat)\n(pop)")
    return "\n".join(text) + "\n"


def redis_commands():
    """Returns fixed commands whose effect is compared between allocators."""
    rng = random.Random(4)
    text = ["FLUSHALL SYNC"]
    for i in range(5000):
        key, value = rng.randrange(700), "v" * rng.randrange(1, 300)
        text.append(rng.choice([
            f"SET s{key} {value}", f"APPEND s{key} {value}", f"LPUSH l{key} {value} {i}",
            f"HSET h{key} f{i} {value}", f"ZADD z{key} {i} m{value}", f"SADD e{key} {i}",
            f"DEL h{key}", f"RPOP l{key}"]))
    return "\n".join(text) + "\n"
