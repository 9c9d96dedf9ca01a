"""How the report writes strings and numbers, on the page and in the terminal."""

import math
import re

from divulge.metrics.finding import Finding

PERCENT = "\u202f%"  # a narrow space that never breaks

# Unicode that reorders, hides or cannot be written: C0 and C1 controls but tab and newline, overrides and isolates of
# text direction, lone surrogates of undecodable file names, non-characters.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb\ufffe\uffff]"
)
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def clean(text: object) -> str:
    r"""Write `text` so that it stays in its place: control and direction characters become a visible mark.

    Example:
        >>> clean("invoice\u202efdp.exe")
        'invoice�fdp.exe'
    """
    return _UNSAFE.sub("\ufffd", str(text))


def number(value: float) -> str:
    """Write a number with three significant digits, thousands separated, small ones as powers of ten.

    Example:
        >>> number(25000), number(0.12345), number(0.00004), number(-2.5)
        ('25,000', '0.123', '4 × 10⁻⁵', '−2.5')
    """
    return _typeset(_plain(abs(value)), value)


def _typeset(size: str, value: float) -> str:
    return f"−{size}" if value < 0 and size.strip("0.") else size


def _plain(size: float) -> str:
    if size == 0:
        return "0"
    if size >= 1e7 or size < 1e-3:
        mantissa, exponent = f"{size:.1e}".split("e")
        mantissa = trim(mantissa)
        power = f"10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
        return power if mantissa == "1" else f"{mantissa} × {power}"
    if size >= 100 or float(size).is_integer():
        return f"{size:,.0f}"
    return trim(f"{size:.{2 - math.floor(math.log10(size))}f}")


def trim(text: str) -> str:
    """Drop zeros that end a decimal fraction."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(fraction: float) -> str:
    r"""Write a fraction in percent: three significant digits, two below one percent.

    Example:
        >>> [percent(x).replace("\u202f", " ") for x in (0.3142, 0.0123, 0.002, 0.00002, 1)]
        ['31.4 %', '1.23 %', '0.2 %', '0.002 %', '100 %']
    """
    size = abs(fraction) * 100
    if not 1e-5 <= size < 1e7:
        return number(100 * fraction) + PERCENT
    digits = 3 if size >= 1 else 2
    decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    return _typeset(trim(f"{size:,.{decimals}f}"), fraction) + PERCENT


def measure(value: float, unit: str = "") -> str:
    """Write a value with its unit; `%` stands for a fraction."""
    if unit == "%":
        return percent(value)
    return f"{number(value)}\u00a0{unit}" if unit else number(value)


def span(low: float, high: float, unit: str = "") -> str:
    """Write an interval, the unit once."""
    if unit == "%":
        return f"{percent(low).removesuffix(PERCENT)} to {percent(high)}"
    return f"{number(low)} to {measure(high, unit)}"


def finding(found: Finding, unit: str = "") -> str:
    """Write a finding's value with its interval and control.

    Example:
        >>> finding(Finding("AUC", 0.71, 0.69, 0.73, 200, control=Finding("AUC", 0.5, 0.48, 0.52, 200)))
        '0.71 (0.69 to 0.73), control 0.5'
    """
    text = f"{measure(found.value, unit)} ({span(found.low, found.high, unit)})"
    return f"{text}, control {measure(found.control.value, unit)}" if found.control else text


def column(values: list[float]) -> list[str]:
    """Write the floats of one table column with the same number of decimals, so that their points line up.

    Example:
        >>> column([0.5, 0.12345, 0.0])
        ['0.500', '0.123', '0.000']
    """
    sizes = [abs(value) for value in values if value]
    if not sizes or max(sizes) >= 1e7 or min(sizes) < 1e-3:
        return [number(value) for value in values]
    decimals = max(0, 2 - math.floor(math.log10(max(sizes)))) if max(sizes) >= 1 else 3
    return [_typeset(f"{abs(value):,.{decimals}f}", value) for value in values]
