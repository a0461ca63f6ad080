#!/usr/bin/env python3
"""Draws a Grafana dashboard's file as an SVG, from a Prometheus, without Grafana.

Every query of every panel is asked over Prometheus' HTTP API, with the step and `$__rate_interval` that Grafana would take.
A query that is an error, or that gives nothing, ends this with a message, so a picture is a proof that all of them work.
Titles, places, units, legends and mappings are the file's; the look is Grafana's dark theme as near as little code comes.
Where Grafana scrolls (a long legend, many rows of states), the picture says how many more there are.

    docs/grafana/draw.py --prometheus http://127.0.0.1:9090 --dashboard docs/grafana/collage.json --minutes 15 --out view.svg
"""

import argparse
import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from html import escape

WIDTH, UNIT, GAP, TOP = 1200, 22, 6, 40  # px: of all, a row of the grid, between panels, above the grid
STEPS = 150  # points of a line
COLOURS = "73BF69 F2CC0C 8AB8FF FF780A F2495C 5794F2 B877D9 4DD0C8 56A64B FFB357 C0D8FF E02F44 A352CC 1F60C4 96D98D FF9830".split()
ORANGE, TEXT, DIM, GRID = "#FF9830", "#CCCCDC", "#8E8EA0", "#2C3035"
ORANGES = ["#3A2A1C", "#6B431C", "#9C5E1F", "#CD7A26", "#FF9830", "#FFCB8C"]


class Prometheus:
    """Answers for one span of time."""

    def __init__(self, url, minutes, end, variables):
        self.url = url.rstrip("/")
        targets = self.ask("targets", state="active")["activeTargets"]
        if not targets:
            sys.exit("this Prometheus scrapes nothing")
        self.scrape = max(seconds(target["scrapeInterval"]) for target in targets)
        self.span, self.end = minutes * 60, end
        self.step = max(self.scrape, math.ceil(self.span / STEPS))
        self.variables = variables

    def ask(self, path, **parameters):
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            told = json.loads(error.read() or b"{}").get("error", error.reason)
            sys.exit(f"Prometheus refuses {parameters.get('query', path)}\n  {told}")
        except urllib.error.URLError as error:
            sys.exit(f"no Prometheus at {self.url}: {error.reason}")

    def series(self, target, coarser=1):
        """[(labels, [(time, value)])] of a panel's target; times are from the begin of the span on."""
        step = self.step * coarser
        query = target["expr"]
        # Grafana's own rule for $__rate_interval.
        rate_interval = max(step + self.scrape, 4 * self.scrape)
        for name, value in [("__rate_interval", f"{rate_interval}s"), ("__range", f"{round(self.span)}s"), *self.variables]:
            query = query.replace(f"${name}", value)
        if target.get("instant"):
            answer = self.ask("query", query=query, time=self.end)
            return [(s["metric"], [(self.span, float(s["value"][1]))]) for s in answer["result"]]
        begin = self.end - self.span
        answer = self.ask("query_range", query=query, start=begin, end=self.end, step=step)
        numbers = lambda values: [(at - begin, float(value)) for at, value in values if math.isfinite(float(value))]
        found = [(s["metric"], numbers(s["values"])) for s in answer["result"]]
        return [(labels, points) for labels, points in found if points]


def seconds(duration):
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(int(n) * units[unit] for n, unit in re.findall(r"(\d+)(ms|s|m|h)", duration))


def named(target, labels):
    return re.sub(r"\{\{(\w+)\}\}", lambda label: labels.get(label[1], ""), target["legendFormat"])


def shown(value, unit, step=0.0):
    """A value as Grafana writes it; `step`, between ticks, decides how many decimals it needs."""

    def scaled(value, suffixes, base=1000.0, first=0):
        at = first
        while abs(value) >= base and at + 1 < len(suffixes):
            value, at, scale = value / base, at + 1, base ** (at + 1 - first)
        return plain(value, step / base ** (at - first)) + suffixes[at]

    def plain(value, step):
        decimals = 0 if not step else max(0, -math.floor(math.log10(step) + 1e-9))
        # A step such as 2.5 needs one more.
        decimals += bool(step) and abs(round(step, decimals) - step) > step / 100
        return f"{value:.{decimals}f}" if step else f"{value:.3g}"

    match unit:
        case "percent":
            return plain(value, step) + "%"
        case "percentunit":
            return plain(value * 100, step * 100) + "%"
        case "celsius":
            return plain(value, step) + " °C"
        case "watt":
            return scaled(value, [" W", " kW", " MW"])
        case "rotmhz":
            return scaled(value, [" MHz", " GHz"])
        case "mbytes":
            return scaled(value, [" MiB", " GiB", " TiB"], 1024.0)
        case "reqps":
            return scaled(value, [" req/s", "K req/s"])
        case "ops":
            return scaled(value, [" ops/s", "K ops/s"])
        case "s":
            for size, name in [(1, " s"), (1e-3, " ms"), (1e-6, " µs")]:
                if max(abs(value), step) >= size:
                    return plain(value / size, step / size) + name
            return plain(value, step) + " s"
        case "short":
            return scaled(value, ["", " K", " Mil", " Bil"])
        case _:
            sys.exit(f"the unit {unit} is not known here")


def text(x, y, words, size=10, fill=TEXT, anchor="start", more=""):
    anchor = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{fill}"{anchor}{more}>{escape(words)}</text>'


def wide(words, size=10):
    """Width of words, an estimate that is rather too large."""
    return len(words) * size * 0.6


def rect(x, y, w, h, fill, more=""):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" fill="{fill}"{more}/>'


def ticked(low, high, most, base=1):
    """Ticks between both, round in units of `base`, and the step from one to the next."""
    raw = (high - low) / most / base
    size = 10 ** math.floor(math.log10(raw))
    step = base * next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return step, [step * n for n in range(first, last + 1)]


def thinned(points, tolerance):
    """Douglas and Peucker: drops points that are nearer to the line than `tolerance`, in px."""
    keep, todo = {0, len(points) - 1}, [(0, len(points) - 1)]
    while todo:
        a, b = todo.pop()
        (ax, ay), (bx, by) = points[a], points[b]
        off = lambda p: abs((by - ay) * (p[0] - ax) - (bx - ax) * (p[1] - ay)) / (math.hypot(bx - ax, by - ay) or 1)
        far = max(range(a + 1, b), key=lambda i: off(points[i]), default=None)
        if far is not None and off(points[far]) > tolerance:
            keep.add(far)
            todo += [(a, far), (far, b)]
    return [points[i] for i in sorted(keep)]


class Panel:
    def __init__(self, panel, prometheus, tolerance):
        self.panel, self.span, self.end = panel, prometheus.span, prometheus.end
        self.step, self.tolerance = prometheus.step, tolerance
        column, place = (WIDTH - GAP) / 24, panel["gridPos"]
        self.x, self.y = place["x"] * column + GAP, TOP + place["y"] * UNIT
        self.w, self.h = place["w"] * column - GAP, place["h"] * UNIT - GAP
        self.unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "short")

    def draw(self, found):
        """`found`: [(target, labels, points)] of all targets."""
        if self.panel["type"] == "row":
            return text(self.x + 2, self.y + 14, "⌄  " + self.panel["title"], 13, more=' font-weight="500"')
        frame = rect(self.x, self.y, self.w, self.h, "#181B1F", f' stroke="{GRID}" rx="2"')
        title = text(self.x + 8, self.y + 15, self.panel["title"], 11.5, more=' font-weight="500"')
        if not found:
            return frame + title + text(self.x + self.w / 2, self.y + self.h / 2, "No data", 12, DIM, "middle")
        draw = getattr(self, self.panel["type"].replace("-", "_"), None)
        if draw is None:
            sys.exit(f"panels of type {self.panel['type']} are not known here: {self.panel['title']}")
        return frame + title + draw(found)

    def times(self, left, right, bottom):
        """The axis of time, and where a time is."""
        at = lambda t: left + (right - left) * t / self.span
        begin, out = self.end - self.span, []
        most = max(2, (right - left) / 70)
        step = next(s for s in (15, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400) if self.span / s <= most or s == 86400)
        tick = math.ceil(begin / step) * step
        while tick <= self.end:
            x = at(tick - begin)
            out.append(f'<path d="M{x:.0f} {self.y + 24:.0f}V{bottom:.0f}" stroke="{GRID}"/>')
            words = time.strftime("%H:%M" if step >= 60 else "%H:%M:%S", time.gmtime(tick))
            if left + wide(words, 9) / 2 - 6 <= x <= right - wide(words, 9) / 2 + 6:
                out.append(text(x, bottom + 11, words, 9, DIM, "middle"))
            tick += step
        return "".join(out), at

    def legend(self, names, most=3):
        """Names with their colours at the bottom, and its height."""
        lines, x, taken = [[]], self.x + 10, 0
        for name, colour in names:
            need = wide(name, 9) + 24
            more = f"+ {len(names) - taken} more"
            last = len(lines) == most
            room = self.x + self.w - 8 - (wide(more, 9) if last and taken + 1 < len(names) else 0)
            if x + need > room and lines[-1]:
                if last:
                    lines[-1].append((x, more, None))
                    break
                lines.append([])
                x = self.x + 10
            lines[-1].append((x, name, colour))
            x, taken = x + need, taken + 1
        height, out = 13 * len(lines), []
        for row, line in enumerate(lines):
            y = self.y + self.h - height + 13 * row + 7
            for x, name, colour in line:
                if colour:
                    out.append(rect(x, y - 4.5, 11, 3, f"#{colour}", ' rx="1"'))
                out.append(text(x + (15 if colour else 0), y, name, 9, TEXT if colour else DIM))
        return "".join(out), height + 2

    def timeseries(self, found):
        names = [(named(target, labels), COLOURS[i % len(COLOURS)]) for i, (target, labels, _) in enumerate(found)]
        legend, height = self.legend(names)
        top, bottom = self.y + 26, self.y + self.h - height - 16
        low, high = (f(value for _, _, points in found for _, value in points) for f in (min, max))
        if low == high:
            low, high = (0, high * 2 or 1) if low >= 0 else (low * 2, 0)
        margin = (high - low) * 0.08
        low, high = max(0, low - margin) if low >= 0 else low - margin, high + margin
        step, ticks = ticked(low, high, 4, 1024 if self.unit == "mbytes" else 1)
        words = [shown(tick, self.unit, step) for tick in ticks]
        left, right = self.x + 14 + max(wide(w, 9) for w in words), self.x + self.w - 10
        axis, at = self.times(left, right, bottom)
        up = lambda value: bottom - (bottom - top) * (value - low) / (high - low)
        out = [axis]
        for tick, word in zip(ticks, words):
            out.append(f'<path d="M{left:.0f} {up(tick):.0f}H{right:.0f}" stroke="{GRID}"/>')
            out.append(text(left - 5, up(tick) + 3, word, 9, DIM, "end"))
        for (_, _, points), (_, colour) in zip(found, names):
            pieces, before = [], None
            for t, value in points:
                if before is None or t - before > self.step * 1.5:
                    pieces.append([])
                pieces[-1].append((at(t), up(value)))
                before = t
            d = "".join(self.path(piece) for piece in pieces if len(piece) > 1)
            out.append(f'<path d="{d}" stroke="#{colour}" class="l"/>' if d else "")
        return "".join(out) + legend

    def path(self, piece):
        """Relative steps in tenths of a px, which are short to write."""
        x, y = (round(v * 10) for v in piece[0])
        out = [f"M{x / 10:g} {y / 10:g}"]
        for point in thinned(piece, self.tolerance)[1:]:
            nx, ny = (round(v * 10) for v in point)
            dx, dy = (nx - x) / 10, (ny - y) / 10
            out.append(f"h{dx:g}" if dy == 0 else f"v{dy:g}" if dx == 0 else f"l{dx:g} {dy:g}".replace(" -", "-"))
            x, y = nx, ny
        return "".join(out)

    def state_timeline(self, found):
        mapped = {}
        for mapping in self.panel["fieldConfig"]["defaults"].get("mappings", []):
            mapped.update({float(value): how["color"] for value, how in mapping["options"].items()})
        colours = {"transparent": "none", "orange": ORANGE}
        top, bottom = self.y + 26, self.y + self.h - 18
        room = int((bottom - top) / 11)
        rows = found if len(found) <= room else found[: room - 1]
        names = [named(target, labels) for target, labels, _ in rows]
        left, right = self.x + 14 + max(wide(n, 9) for n in names), self.x + self.w - 10
        out, at = self.times(left, right, bottom)
        height = (bottom - top) / (len(rows) + (len(rows) < len(found)))
        for row, (name, (_, _, points)) in enumerate(zip(names, rows)):
            y = top + height * row
            out += text(left - 6, y + height / 2 + 3, name, 9, DIM, "end")
            begin = before = None
            for t, value in [*points, (math.inf, None)]:
                # A state holds until the next reading.
                if before and (t - before[0] > self.step * 1.5 or value != before[1]):
                    until = min(before[0] + self.step, self.span)
                    bar = at(begin), y + height * 0.05, at(until) - at(begin), height * 0.9
                    out += rect(*bar, colours[mapped.get(before[1], "orange")], ' opacity=".85"')
                    begin = None
                begin = t if begin is None else begin
                before = (t, value)
        if len(rows) < len(found):
            out += text(left - 6, bottom - 2, f"+ {len(found) - len(rows)} more", 9, DIM, "end")
        return out

    def heatmap(self, found):
        buckets = sorted(((float(labels["le"]), dict(points)) for _, labels, points in found), key=lambda b: b[0])
        times = sorted({t for _, points in buckets for t in points})
        cells, below = [], dict.fromkeys(times, 0.0)
        for _, points in buckets:
            cells.append({t: max(0.0, points.get(t, below[t]) - below[t]) for t in times})
            below = {t: points.get(t, below[t]) for t in times}
        most = max(max(row.values()) for row in cells) or 1
        words = [shown(le, self.panel["options"]["yAxis"]["unit"]) if math.isfinite(le) else "+Inf" for le, _ in buckets]
        top, bottom = self.y + 26, self.y + self.h - 30
        left, right = self.x + 14 + max(wide(w, 9) for w in words), self.x + self.w - 10
        axis, at = self.times(left, right, bottom)
        height, every = (bottom - top) / len(cells), math.ceil(11 * len(cells) / (bottom - top))
        out, paths = [axis], {}
        step = min(b - a for a, b in zip(times, times[1:])) if len(times) > 1 else self.step
        for row, (word, values) in enumerate(zip(words, cells)):
            y = bottom - height * (row + 1)
            if row % every == 0:
                out.append(text(left - 5, y + height / 2 + 3, word, 9, DIM, "end"))
            for t, value in values.items():
                if value > 0:
                    shade = ORANGES[min(len(ORANGES) - 1, int(math.sqrt(value / most) * len(ORANGES)))]
                    x = max(left, at(t - step))
                    cell = f"M{x:.1f} {y:.1f}h{max(0.5, at(t) - x - 0.6):.1f}v{height - 0.6:.1f}H{x:.1f}z"
                    paths.setdefault(shade, []).append(cell)
        out += [f'<path d="{"".join(cells)}" fill="{shade}"/>' for shade, cells in paths.items()]
        y = self.y + self.h - 12
        out.append(text(left, y + 6, "0", 9, DIM))
        for i, shade in enumerate(ORANGES):
            out.append(rect(left + 12 + 16 * i, y, 16, 6, shade))
        out.append(text(left + 16 + 16 * len(ORANGES), y + 6, f"{shown(most, 'short')} runs", 9, DIM))
        return "".join(out)

    def table(self, found):
        hidden, places = {"__name__"}, {}
        for change in self.panel.get("transformations", []):
            if change["id"] != "organize":
                sys.exit(f"the transformation {change['id']} is not known here: {self.panel['title']}")
            hidden |= {name for name, off in change["options"].get("excludeByName", {}).items() if off}
            places |= change["options"].get("indexByName", {})
        rows = [dict(labels, Value=shown(points[-1][1], self.unit)) for _, labels, points in found]
        columns = sorted({name for row in rows for name in row} - hidden, key=lambda name: (places.get(name, 99), name))
        need = {c: max(wide(word, 10.5) for word in [c, *(row.get(c, "") for row in rows)]) + 16 for c in columns}
        spare = (self.w - 16 - sum(need.values())) / len(columns)
        if spare < 0:
            sys.exit(f"the table is {-spare * len(columns):.0f} px too wide: {self.panel['title']}")
        out, x = [], self.x + 12
        for column in columns:
            words = [column, *(row.get(column, "") for row in rows)]
            for row, word in enumerate(words):
                out.append(text(x, self.y + 40 + 22 * row, word, 10.5, "#6E9FFF" if row == 0 else TEXT))
            x += need[column] + spare
        for row in range(len(rows) + 1):
            y = self.y + 48 + 22 * row
            out.append(f'<path d="M{self.x + 8:.0f} {y:.0f}H{self.x + self.w - 8:.0f}" stroke="{GRID}"/>')
        return "".join(out)


def drawn(dashboard, answers, prometheus, tolerance):
    height = TOP + max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in dashboard["panels"]) * UNIT
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="Inter, Helvetica, Arial, sans-serif"><style>.l{fill:none;stroke-width:1.2;stroke-linejoin:round}</style>',
        rect(0, 0, WIDTH, height, "#111217"),
        text(GAP + 4, 25, dashboard["title"], 15, more=' font-weight="500"'),
    ]
    x = GAP + 40 + wide(dashboard["title"], 15)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            out.append(text(x, 25, variable["label"], 11, "#6E9FFF"))
            x += wide(variable["label"], 11) + 8
            out.append(rect(x, 12, 36, 19, "#22252B", f' stroke="{GRID}" rx="2"') + text(x + 9, 25, "All", 11))
            x += 56
    span = f"last {prometheus.span / 60:g} minutes, to {time.strftime('%H:%M:%S', time.gmtime(prometheus.end))} UTC"
    out.append(text(WIDTH - GAP - 4, 25, f"{span} · drawn by docs/grafana/draw.py, not by Grafana", 11, DIM, "end"))
    out += [Panel(panel, prometheus, tolerance).draw(found) for panel, found in zip(dashboard["panels"], answers)]
    return "\n".join([*out, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prometheus", metavar="URL", required=True)
    parser.add_argument("--dashboard", metavar="FILE", required=True)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--end", type=float, default=time.time(), help="of the span, in seconds since 1970 [now]")
    parser.add_argument("--out", metavar="FILE", required=True)
    parser.add_argument("--may-be-empty", metavar="TITLE", action="append", default=[], help="a panel that may have no data")
    parser.add_argument("--most-kib", type=int, default=150, help="lines are simplified until the picture is no larger")
    args = parser.parse_args()

    with open(args.dashboard, encoding="utf-8") as file:
        dashboard = json.load(file)
    variables = [(v["name"], v["allValue"]) for v in dashboard["templating"]["list"] if v["type"] == "query"]
    prometheus = Prometheus(args.prometheus, args.minutes, args.end, variables)
    answers, empty, queries = [], [], 0
    for definition in (v["definition"] for v in dashboard["templating"]["list"] if v["type"] == "query"):
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", definition).groups()
        if not prometheus.ask(f"label/{label}/values", **{"match[]": metric}):
            empty.append(definition)
    for panel in dashboard["panels"]:
        found = []
        for target in panel.get("targets", []):
            series = prometheus.series(target, 3 if panel["type"] == "heatmap" else 1)
            queries += 1
            if not series and panel["title"] not in args.may_be_empty:
                empty.append(f"{panel['title']}: {target['expr']}")
            found += [(target, labels, points) for labels, points in series]
        answers.append(found)
    if empty:
        sys.exit("\n  ".join(["these queries give nothing:", *empty]))

    for tolerance in (0.2, 0.4, 0.7, 1.0, 1.5):
        picture = drawn(dashboard, answers, prometheus, tolerance)
        if len(picture.encode()) <= args.most_kib * 1024:
            break
    else:
        sys.exit(f"the picture has {len(picture.encode()) >> 10} KiB")
    with open(args.out, "w", encoding="utf-8") as file:
        file.write(picture)
    panels = sum("targets" in panel for panel in dashboard["panels"])
    told = f"{queries} queries of {panels} panels gave {sum(map(len, answers))} series"
    print(f"{told}; {len(picture.encode()) >> 10} KiB", file=sys.stderr)


if __name__ == "__main__":
    main()
