"""Numbers as people read them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def count(number: float) -> str:
    """12,345"""
    return f"{number:,.0f}"


def rate(number: float) -> str:
    """412, 3.4, 0.2"""
    return f"{number:.1f}" if number < 10 else count(number)


def short(number: float) -> str:
    """1.2 M, for tokens"""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {letter}" if number < 1000 * limit else f"{number / limit:,.0f} {letter}"
    return f"{number:.0f}"


def usd(amount: float) -> str:
    """$0.0042, $12.30, $1,234"""
    if amount == 0:
        return "$0"
    if abs(amount) < 0.1:
        return f"${amount:.2g}" if abs(amount) >= 0.0001 else f"${amount:.6f}".rstrip("0").rstrip(".")
    return f"${amount:,.2f}" if abs(amount) < 1000 else f"${amount:,.0f}"


def span(seconds: float | None) -> str:
    """42 s, 4 min, 3 h 20 min, 2 d"""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 10:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{hours} h" if hours < 48 else f"{round(hours / 24)} d"


def size(amount: float) -> str:
    """12.3 MB"""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if amount >= limit:
            return f"{amount / limit:.1f} {unit}"
    return f"{amount:.0f} B"


def clock(ms: float) -> str:
    """19:50:12, UTC"""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%H:%M:%S")


def percent(part: float, whole: float) -> str:
    """For a rectangle's width."""
    return f"{100 * part / whole:.1f}%" if whole else "0%"


def days(until_ms: float, number: int) -> list[str]:
    """Dates in ISO format, today's last."""
    last = datetime.fromtimestamp(until_ms / 1000, UTC).date().toordinal()
    return [datetime.fromordinal(day).date().isoformat() for day in range(last - number + 1, last + 1)]
