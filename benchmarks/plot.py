"""Draw cases 1, 2 and 7 as bars: `python -m benchmarks.plot benchmarks/results.json docs/benchmarks.svg`.

Plain SVG, so that the picture needs no library and a change of it can be read. A bar is the median of the rounds, the
line across its end the lowest and the highest.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

PANELS = (
    ("one_stream", "events_per_s", "One stream: events/s", "more is better", "{:,.0f}"),
    ("many_streams", "p99_ms", "300 streams: p99 delivery, ms", "less is better", "{:.1f}"),
    ("many_streams", "cpu_s", "300 streams: CPU s per 10 s", "less is better", "{:.1f}"),
    ("idle", "kilobytes", "5,000 idle streams: kB each", "less is better", "{:.0f}"),
)
_OURS, _OTHERS, _INK, _MUTED = "#0f766e", "#94a3b8", "#1e293b", "#64748b"
_ROW, _BAR, _NAMES, _BARS, _NUMBERS, _GAP = 22, 14, 92, 170, 60, 26


def panel(title: str, note: str, form: str, peers: Mapping[str, Any], figure: str, at: tuple[int, int]) -> str:
    """Return one group of bars; a peer without the figure has a dash."""
    highest = max(values[figure]["high"] for values in peers.values() if figure in values)
    parts = [
        f'<g transform="translate({at[0]} {at[1]})">',
        f'<text y="0" font-weight="600" fill="{_INK}">{escape(title)}</text>',
        f'<text y="17" fill="{_MUTED}" font-size="11">{escape(note)}</text>',
    ]
    for row, (name, values) in enumerate(peers.items()):
        parts.append(_bar(name, values.get(figure), form, highest, 30 + row * _ROW))
    return "\n".join([*parts, "</g>"])


def _bar(name: str, values: Mapping[str, float] | None, form: str, highest: float, y: int) -> str:
    is_ours = name == "streamapp"
    middle = y + _BAR / 2
    weight = ' font-weight="600"' if is_ours else ""
    label = f'<text x="{_NAMES - 8}" y="{middle + 4}" text-anchor="end" fill="{_INK}"{weight}>{escape(name)}</text>'
    if values is None:
        return f'{label}<text x="{_NAMES}" y="{middle + 4}" fill="{_MUTED}">–</text>'
    median, low, high = (values[key] / highest * _BARS for key in ("median", "low", "high"))
    return (
        f'{label}<rect x="{_NAMES}" y="{y}" width="{max(median, 1):.1f}" height="{_BAR}" rx="2" '
        f'fill="{_OURS if is_ours else _OTHERS}"/>'
        f'<path d="M{_NAMES + low:.1f} {middle}H{_NAMES + high:.1f}" stroke="{_INK}" stroke-width="1.5"/>'
        f'<text x="{_NAMES + max(median, high) + 6:.1f}" y="{middle + 4}" fill="{_INK}"{weight}>'
        f"{form.format(values['median'])}</text>"
    )


def draw(report: Mapping[str, Any]) -> str:
    """Return the picture of a run's results, two panels beside each other."""
    panels = [entry for entry in PANELS if entry[0] in report["cases"]]
    rows = max(len(report["cases"][case]["peers"]) for case, *_ in panels)
    width, height = _NAMES + _BARS + _NUMBERS + _GAP, 30 + rows * _ROW + _GAP
    drawn = [
        panel(title, note, form, report["cases"][case]["peers"], figure, (16 + i % 2 * width, 40 + i // 2 * height))
        for i, (case, figure, title, note, form) in enumerate(panels)
    ]
    size = f"{2 * width + 16} {24 + (len(panels) + 1) // 2 * height + 28}"
    machine = report["machine"]
    caption = f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}; {report['date'][:10]}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif" font-size="12">',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *drawn,
            f'<text x="16" y="{int(size.split()[1]) - 14}" fill="{_MUTED}" font-size="11">{escape(caption)}</text>',
            "</svg>\n",
        ]
    )


def main() -> int:
    """Read the results, write the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description="Draw cases 1, 2 and 7.")
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    arguments.picture.write_text(draw(json.loads(arguments.results.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
