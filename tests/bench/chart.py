# SPDX-License-Identifier: MIT
"""Draws the results of scripts/bench as SVG: a row for each workload, a dot for each
allocator, on a logarithmic scale of the ratio to glibc. It needs nothing but text.

Colours follow the reader's choice of light or dark.
"""
import math
import statistics
from xml.sax.saxutils import escape

import figures
from machine import PEERS

NAME = "tidepool"
ROW, TOP, LABELS, GAP, PANEL, FOOT = 20, 122, 104, 40, 370, 74
WIDTH = LABELS + 2 * PANEL + GAP + 36
# metric, title, lowest and highest ratio, ticks
PANELS = [("wall", "wall time", 0.2, 5, [0.25, 0.5, 1, 2, 4]),
          ("mean", "mean resident memory", 0.6, 3.2, [0.7, 1, 1.4, 2, 2.8])]

# class: (what is coloured, light, dark)
COLOURS = {"ground": ("fill", "#ffffff", "#11161c"),
           "band": ("fill", "#f5f7f9", "#171e26"),
           "text": ("fill", "#24313d", "#d7e0e8"),
           "soft": ("fill", "#6a7885", "#8b9aa8"),
           "grid": ("stroke", "#dde3e8", "#2a343f"),
           "one": ("stroke", "#8896a3", "#66757f"),
           "jemalloc": ("fill", "#c08a3e", "#d9a55c"),
           "mimalloc": ("fill", "#7d6bb3", "#a394d6"),
           "tcmalloc": ("fill", "#b0606f", "#d28390"),
           "tidepool": ("fill", "#0b8a83", "#2cc4b8"),
           "spread": ("stroke", "#0b8a83", "#2cc4b8")}


def style():
    """Returns the style sheet: both sets of colours."""
    light = "".join(f".{c}{{{what}:{colour}}}" for c, (what, colour, _) in COLOURS.items())
    dark = "".join(f".{c}{{{what}:{colour}}}" for c, (what, _, colour) in COLOURS.items())
    return ("<style>text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif}"
            ".title{font-size:17px;font-weight:600}.bold{font-weight:600}"
            ".grid,.one,.spread{fill:none;stroke-width:1}.spread{stroke-width:3;opacity:.35;"
            "stroke-linecap:round}.peer{opacity:.85}"
            f"{light}@media (prefers-color-scheme:dark){{{dark}}}</style>")


class Panel:
    """One of the two halves: from a ratio to a place, and what is drawn there."""

    def __init__(self, left, panel):
        self.left = left
        self.metric, self.title, self.low, self.high, self.ticks = panel

    def x(self, ratio):
        """The place of a ratio, within the panel."""
        ratio = min(max(ratio, self.low), self.high)
        return self.left + PANEL * (math.log(ratio / self.low)
                                    / math.log(self.high / self.low))

    def frame(self, bottom):
        """Yields title, grid and scale."""
        yield text(self.left, TOP - 32, self.title, "text bold")
        yield text(self.left + PANEL, TOP - 32, "lower is better", "soft", "end")
        for tick in self.ticks:
            kind = "one" if tick == 1 else "grid"
            x = self.x(tick)
            yield f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{bottom}"/>'
            yield text(x, TOP - 13, "glibc" if tick == 1 else f"{tick:g}", "soft", "middle")

    def mark(self, ratio, y, kind, radius):
        """Returns a dot; a ratio that is outside gets an arrowhead at the edge."""
        x = self.x(ratio)
        title = f"<title>{kind} {figures.short(ratio)}</title>"
        if self.low <= ratio <= self.high:
            return f'<circle class="{kind}" cx="{x:.1f}" cy="{y}" r="{radius}">{title}</circle>'
        out = 6 if ratio > self.high else -6
        return (f'<path class="{kind}" d="M{x:.1f} {y - 5}L{x + out:.1f} {y}L{x:.1f} {y + 5}z">'
                f"{title}</path>")

    def row(self, samples, y):
        """Yields the dots of one workload, ours last, with its spread."""
        for peer in PEERS:
            ratio = figures.ratios(samples, self.metric, peer)
            if ratio:
                yield self.mark(statistics.median(ratio), y, peer, 4).replace(
                    f'class="{peer}"', f'class="peer {peer}"')
        ratio = figures.ratios(samples, self.metric, NAME)
        if ratio:
            yield (f'<line class="spread" x1="{self.x(min(ratio)):.1f}" '
                   f'x2="{self.x(max(ratio)):.1f}" y1="{y}" y2="{y}"/>')
            yield self.mark(statistics.median(ratio), y, NAME, 5.5)

    def means(self, results, y):
        """Yields the geometric means, as larger dots; ours with its figure."""
        for name in (*PEERS, NAME):
            mean = figures.summary(results, self.metric, name)
            if not math.isnan(mean):
                yield self.mark(mean, y, name, 5 if name != NAME else 7)
        ours = figures.summary(results, self.metric, NAME)
        if not math.isnan(ours):
            yield text(self.left + PANEL, y + 4, figures.short(ours), "tidepool bold", "end")


def text(x, y, words, kind, anchor="start"):
    """Returns a line of text."""
    return (f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
            f"{escape(words)}</text>")


def legend(y):
    """Yields a dot and a name for each allocator."""
    x = LABELS
    for name in (NAME, *PEERS):
        yield f'<circle class="{name}" cx="{x + 6}" cy="{y - 4}" r="{5.5 if name == NAME else 4}"/>'
        yield text(x + 17, y, name, "text bold" if name == NAME else "text")
        x += 96
    yield text(x + 8, y, "dots: medians; bar: lowest to highest round", "soft")


def draw(results, machine):
    """Returns the chart as text. Needs results of glibc in each workload."""
    n_rows = len(results) + 1
    bottom = TOP + n_rows * ROW + 6
    panels = [Panel(LABELS + i * (PANEL + GAP), panel) for i, panel in enumerate(PANELS)]
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + FOOT}" '
           f'width="{WIDTH}" height="{bottom + FOOT}" role="img" '
           'aria-label="Time and memory of allocators, as ratios to glibc">', style(),
           f'<rect class="ground" width="{WIDTH}" height="{bottom + FOOT}" rx="8"/>',
           text(LABELS, 34, "Time and memory, profiling on, as a ratio to glibc", "text title"),
           *legend(58)]
    for number in range(0, n_rows, 2):
        out.append(f'<rect class="band" x="8" width="{WIDTH - 16}" y="{TOP + number * ROW}" '
                   f'height="{ROW}" rx="3"/>')
    for panel in panels:
        out += panel.frame(bottom)
    middle = TOP + ROW // 2
    out.append(text(LABELS - 14, middle + 4, "geomean", "text bold", "end"))
    for panel in panels:
        out += panel.means(results, middle)
    for number, (workload, samples) in enumerate(results.items(), 1):
        y = middle + number * ROW
        out.append(text(LABELS - 14, y + 4, workload, "text", "end"))
        for panel in panels:
            out += panel.row(samples, y)
    for number, line in enumerate(["; ".join(machine[:2]), *machine[2:]]):
        out.append(text(LABELS, bottom + 24 + 17 * number, line, "soft"))
    return "\n".join([*out, "</svg>", ""])
