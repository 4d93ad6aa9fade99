"""Plots as SVG with nothing but the standard library: panels with logarithmic axes, and bars."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

COLORS = ("#1b7f5c", "#2f6fb2", "#b2542f", "#7a4fa3")
WIDTH, HEIGHT = 420, 320  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 72, 28, 60, 52


class Panel(NamedTuple):
    """Curves over the same axes: a name and its points for each."""

    title: str
    x_name: str
    curves: list[tuple[str, list[tuple[float, float]]]]
    limit: tuple[str, float] | None = None  # a dashed line: its name and value


def write_panels(path: Path, panels: list[Panel]) -> None:
    """Panels side by side. Axes are logarithmic, so growth is a slope."""
    parts = [
        f'<g transform="translate({WIDTH * number},0)">{"".join(_panel(panel))}</g>'
        for number, panel in enumerate(panels)
    ]
    path.write_text(_document(WIDTH * len(panels), HEIGHT, parts))


class Bar(NamedTuple):
    """One bar; ``shown`` is written at its end."""

    name: str
    value: float
    shown: str
    color: str = COLORS[0]


def write_bars(path: Path, title: str, groups: list[tuple[str, list[Bar]]]) -> None:
    """Bars in groups; those of a group share a scale, because each group has a unit of its own."""
    width, left, right, bar = 760, 250, 130, 22
    parts, y = [f'<text x="16" y="28" font-size="17">{title}</text>'], 52
    for heading, bars in groups:
        parts.append(f'<text x="16" y="{y + 14}" fill="#555">{heading}</text>')
        y += 24
        largest = max(one.value for one in bars) or 1
        for one in bars:
            length = max(1.5, one.value / largest * (width - left - right))
            parts.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{one.name}</text>')
            parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 5}" fill="{one.color}"/>')
            parts.append(f'<text x="{left + length + 8:.1f}" y="{y + 14}">{one.shown}</text>')
            y += bar
        y += 12
    path.write_text(_document(width, y, parts))


def _document(width: int, height: int, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
    return (
        f'{head} font-size="13">\n<rect width="{width}" height="{height}" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _panel(panel: Panel) -> list[str]:
    points = [point for _, curve in panel.curves for point in curve]
    ys = [y for _, y in points] + ([panel.limit[1]] if panel.limit else [])
    x_at = _axis([x for x, _ in points], LEFT, WIDTH - RIGHT)
    y_at = _axis(ys, HEIGHT - BOTTOM, TOP)
    parts = [f'<text x="{LEFT}" y="22" font-size="15">{panel.title}</text>']
    parts += [_vertical(x_at(10.0**power), power) for power in _powers([x for x, _ in points])]
    parts += [_horizontal(y_at(10.0**power), power) for power in _powers(ys)]
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 10}" text-anchor="middle">{panel.x_name}</text>'
    )
    if panel.limit:
        name, value = panel.limit
        y = y_at(value)
        line = (
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#b00" stroke-dasharray="5 4"/>'
        )
        parts += [line, f'<text x="{LEFT + 6}" y="{y + 15:.1f}" fill="#b00">{name}</text>']
    legend_x = LEFT
    for number, (name, curve) in enumerate(panel.curves):
        color = COLORS[number % len(COLORS)]
        places = [(x_at(x), y_at(y)) for x, y in curve]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>' for x, y in places]
        parts.append(f'<text x="{legend_x}" y="44" fill="{color}">{name}</text>')
        legend_x += 8 * len(name) + 16
    return parts


def _powers(values: list[float]) -> range:
    assert values and min(values) > 0, "a logarithmic axis has no zero"
    low, high = math.floor(math.log10(min(values)) + 1e-9), math.ceil(math.log10(max(values)) - 1e-9)
    return range(low, max(high, low + 1) + 1)


def _axis(values: list[float], begin: float, end: float) -> Callable[[float], float]:
    """Where a value lies between two edges of the panel."""
    powers = _powers(values)
    low, high = powers[0], powers[-1]
    return lambda value: begin + (math.log10(value) - low) / (high - low) * (end - begin)


def _label(power: int) -> str:
    return f"{10**power:,}" if power >= 0 else f"{10.0**power:g}"


def _vertical(x: float, power: int) -> str:
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>'
    return f'{line}<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_label(power)}</text>'


def _horizontal(y: float, power: int) -> str:
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
    return f'{line}<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{_label(power)}</text>'
