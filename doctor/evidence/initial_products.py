"""Products with weights at the first step: the scale of the weights, and what they make of the scale of the signal."""

from __future__ import annotations

import math
from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class Product:
    """One matrix product or convolution with a trainable parameter, before the first update.

    `fan_in` is the length of the sum that makes one output; the rms are root mean squares of all elements.
    """

    parameter: str
    fan_in: int
    weight_rms: float
    input_rms: float = 1.0
    output_rms: float = 1.0
    module: str = ""
    module_kind: str = ""
    source: Source | None = None

    @property
    def scale(self) -> float:
        """Weights over 1/sqrt(fan-in): 0.58 for PyTorch's default, 1 for LeCun's, 1.4 for He's."""
        return self.weight_rms * math.sqrt(self.fan_in)

    @property
    def gain(self) -> float:
        """Output over input."""
        return self.output_rms / self.input_rms if self.input_rms else 0.0


@dataclass(frozen=True)
class InitialProducts(Evidence):
    """All products, in order of first use."""

    products: tuple[Product, ...] = ()


@probe
def initial_products(recording: Recording) -> InitialProducts:
    """Read the products."""
    plain = ("parameter", "fan_in", "weight_rms", "input_rms", "output_rms", "module", "module_kind")
    events = recording.some("product", "no product with a trainable weight was seen on the first step")
    return InitialProducts(
        tuple(Product(source=source(event["line"]), **{name: event[name] for name in plain}) for event in events)
    )
