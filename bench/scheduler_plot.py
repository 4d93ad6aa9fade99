"""A plot with logarithmic axes as SVG, with nothing but the standard library."""

from __future__ import annotations

import math
from pathlib import Path

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 80, 30, 40, 60
COLORS = ("#1b7f5c", "#2f6fb2", "#b2542f")

Curve = tuple[str, list[tuple[float, float]]]  # a name and its points


def write_plot(path: Path, title: str, curves: list[Curve]) -> None:
    """``curves`` over hosts, in microseconds."""
    points = [point for _, curve in curves for point in curve]
    x_range = _decades([x for x, _ in points])
    y_range = _decades([y for _, y in points])
    body = _axes(x_range, y_range)
    for number, (name, curve) in enumerate(curves):
        color = COLORS[number % len(COLORS)]
        places = [(_x(x, x_range), _y(y, y_range)) for x, y in curve]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        body.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2.5"/>')
        body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>' for x, y in places]
        body.append(f'<text x="{LEFT + 16}" y="{TOP + 20 + 20 * number}" fill="{color}">{name}</text>')
    body.append(f'<text x="{LEFT}" y="24" font-size="16">{title}</text>')
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="13">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _decades(values: list[float]) -> tuple[int, int]:
    return math.floor(math.log10(min(values)) + 1e-9), math.ceil(math.log10(max(values)) - 1e-9)


def _x(value: float, decades: tuple[int, int]) -> float:
    low, high = decades
    return LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def _y(value: float, decades: tuple[int, int]) -> float:
    low, high = decades
    return HEIGHT - BOTTOM - (math.log10(value) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def _axes(x_range: tuple[int, int], y_range: tuple[int, int]) -> list[str]:
    parts = []
    for power in range(x_range[0], x_range[1] + 1):
        x = _x(10.0**power, x_range)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{10**power:,}</text>')
    for power in range(y_range[0], y_range[1] + 1):
        y = _y(10.0**power, y_range)
        label = (
            f"{10.0**power:g} µs"
            if power < 3
            else f"{10.0 ** (power - 3):g} ms"
            if power < 6
            else f"{10.0 ** (power - 6):g} s"
        )
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 16}" text-anchor="middle">hosts</text>')
    return parts
