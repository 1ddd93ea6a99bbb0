"""The small reference model on samples of the program's own."""

import torch

from doctor.observe import reference


def test_programs_that_compute_in_double_precision_have_a_reference():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=generator, dtype=torch.float64)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        found = reference.assess(x, x.sum(1), 1.0)
    finally:
        torch.set_default_dtype(before)
    assert found is not None
    assert found["loss"] < found["shuffled"]
