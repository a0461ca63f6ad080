"""Risk against coverage as an SVG of its own making: a curve a grid, both axes in percent."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 380, 56, 80, 16, 44
COLOURS = ["#1f5fa8", "#2c8a57", "#b8860b", "#b3462d", "#6b4fa0"]


def risk_coverage_plot(curves):
    """`curves`: {grid: [(coverage, risk)]}, shares."""
    most = max(risk for curve in curves.values() for _, risk in curve) * 1.05 or 0.01
    x = lambda coverage: LEFT + coverage * (WIDTH - LEFT - RIGHT)
    y = lambda risk: HEIGHT - BOTTOM - risk / most * (HEIGHT - TOP - BOTTOM)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        "<title>Share of wrong answers among the most confident ones, by grid</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for i in range(6):
        share, risk = i / 5, most * i / 5
        parts.append(f'<text x="{x(share):.0f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{20 * i}%</text>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(risk) + 4:.0f}" text-anchor="end">{100 * risk:.1f}%</text>')
        parts.append(f'<path d="M{LEFT} {y(risk):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">coverage: share of answers given</text>')
    parts.append(f'<text x="14" y="{HEIGHT / 2:.0f}" text-anchor="middle" transform="rotate(-90 14 {HEIGHT / 2:.0f})">wrong among them</text>')
    for colour, (grid, curve) in zip(COLOURS, curves.items()):
        line = " ".join(f"{x(c):.1f},{y(r):.1f}" for c, r in curve)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        end = curve[-1]
        parts.append(f'<text x="{x(end[0]) + 6:.0f}" y="{y(end[1]) + 4:.0f}" fill="{colour}">{grid}</text>')
    return "\n".join([*parts, "</svg>", ""])
