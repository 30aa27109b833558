"""Line plots as SVG, both axes logarithmic: growth is a slope, and a limit is a bend."""
import math

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50
COLOURS = ["#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed"]


def lines(title, x_label, y_label, series):
    """`series`: name to points (x, y), all above zero."""
    points = [point for line in series.values() for point in line]
    x_axis = Axis([x for x, _ in points], LEFT, WIDTH - RIGHT)
    y_axis = Axis([y for _, y in points], HEIGHT - BOTTOM, TOP)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        text(LEFT, 22, title, size=15),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_label, "middle"),
        f'<g transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)">{text(0, 0, y_label, "middle")}</g>',
    ]
    for value in x_axis.ticks:
        at = x_axis.at(value)
        out += [rule(at, TOP, at, HEIGHT - BOTTOM), text(at, HEIGHT - BOTTOM + 16, short(value), "middle")]
    for value in y_axis.ticks:
        at = y_axis.at(value)
        out += [rule(LEFT, at, WIDTH - RIGHT, at), text(LEFT - 6, at + 4, short(value), "end")]
    labels = spread([y_axis.at(line[-1][1]) + 4 for line in series.values()])
    for (name, line), colour, label_at in zip(series.items(), COLOURS, labels):
        places = [(x_axis.at(x), y_axis.at(y)) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        out.append(text(WIDTH - RIGHT + 10, label_at, name, colour=colour))
    return "\n".join(out) + "\n</svg>\n"


class Axis:
    """From values to places: whole powers of ten at both ends."""

    def __init__(self, values, begin, end):
        self.low = math.floor(math.log10(min(values)) + 1e-9)
        self.high = max(math.ceil(math.log10(max(values)) - 1e-9), self.low + 1)
        self.begin, self.end = begin, end
        self.ticks = [10.0**power for power in range(self.low, self.high + 1)]

    def at(self, value):
        return self.begin + (math.log10(value) - self.low) / (self.high - self.low) * (self.end - self.begin)


def spread(places):
    """Keeps labels from lying on each other, in the order of their places."""
    order = sorted(range(len(places)), key=places.__getitem__)
    for before, after in zip(order, order[1:]):
        places[after] = max(places[after], places[before] + 14)
    return places


def short(value):
    for limit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{sign}"
    return f"{value:g}"


def rule(x1, y1, x2, y2):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def text(x, y, words, anchor="start", size=12, colour="#222"):
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{words}</text>'
