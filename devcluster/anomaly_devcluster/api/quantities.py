"""Kubernetes' quantities: `250m`, `1Gi`, `1e3`."""

import re
from decimal import Decimal

_FORM = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(?:([KMGTPE]i|[numkMGTPE]?)|[eE]([+-]?\d+))$")
_FACTORS = {"": Decimal(1)}
_FACTORS |= {
    unit: Decimal(10) ** power for unit, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)
}
_FACTORS |= {f"{unit}i": Decimal(1024) ** (index + 1) for index, unit in enumerate("KMGTPE")}


def parse_quantity(text: str) -> Decimal:
    """Return the number that a quantity stands for; raises ValueError."""
    match = _FORM.match(text)
    if not match:
        raise ValueError(f"quantities must look like 250m, 1Gi or 1e3, got {text!r}")
    number, suffix, exponent = match.groups()
    return Decimal(number) * (Decimal(10) ** int(exponent) if exponent else _FACTORS[suffix])


def is_quantity(text: str) -> bool:
    """Say whether a text is a quantity."""
    return bool(_FORM.match(text))
