"""Factors between units in which the same quantity is written."""

from __future__ import annotations

FACTORS = {
    2.54: "inches and centimetres", 39.37: "metres and inches", 3.2808: "metres and feet", 30.48: "feet and centimetres",
    1.6093: "miles and kilometres", 2.2046: "kilograms and pounds", 28.35: "ounces and grams", 3.7854: "gallons and litres",
    100.0: "a factor of 100", 1000.0: "a factor of 1000", 10.0: "a factor of 10", 255.0: "0 to 1 and 0 to 255",
    10.764: "square metres and square feet", 60.0: "minutes and seconds", 3600.0: "hours and seconds", 24.0: "days and hours", 1e6: "a factor of a million",
    18.0182: "mmol/l and mg/dl", 4.184: "calories and joules", 0.7457: "horsepower and kilowatts", 453.59: "pounds and grams",
}  # fmt: skip
TOLERANCE = 0.03


def factor_of(ratio: float, tolerance: float = TOLERANCE) -> float | None:
    """The known factor that a ratio (or one over it) is."""
    if ratio <= 0:
        return None
    ratio = max(ratio, 1 / ratio)
    apart = {abs(ratio / max(factor, 1 / factor) - 1): factor for factor in FACTORS}
    nearest = min(apart)
    return max(apart[nearest], 1 / apart[nearest]) if nearest <= tolerance else None


def unit_of(scale: float, offset: float, deviation: float, error: float = 0.0) -> str:
    """The units that an affine map converts between; empty for none known. `error` is the factor's relative one."""
    if abs(scale / 1.8 - 1) < TOLERANCE and abs(offset - 32) < 2:
        return "Celsius and Fahrenheit"
    if abs(scale * 1.8 - 1) < TOLERANCE and abs(offset + 17.78) < 1.5:
        return "Fahrenheit and Celsius"
    if abs(scale - 1) < 1e-9 and abs(abs(offset) - 273.15) < 1e-6:
        return "Celsius and Kelvin"
    if abs(offset) > 0.25 * abs(scale) * max(deviation, 1e-12):
        return ""
    most = 0.25 if max(abs(scale), 1 / max(abs(scale), 1e-12)) > 50 else 0.1  # large factors lie farther apart
    factor = factor_of(abs(scale), min(most, max(TOLERANCE, 2.5 * error)))
    if factor is None:
        return ""
    return next(words for known, words in FACTORS.items() if abs(factor - max(known, 1 / known)) < 1e-9)
