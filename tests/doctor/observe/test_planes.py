"""Images that are mirrored without their masks."""

import pytest
import torch

from doctor.evidence.plane_pairs import PlanePairs
from doctor.observe import planes
from doctor.testing import findings_of


def fields(number=60, size=32, seed=0):
    """Bright discs off the middle on a noisy ground, and where they are."""
    draw = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    masks = []
    for _ in range(number):
        y, x = (6 + 7 * torch.rand(2, generator=draw)).tolist()
        masks.append(((rows - y) ** 2 + (columns - x) ** 2 < 16).long())
    mask = torch.stack(masks)
    return mask[:, None] + 0.2 * torch.randn(number, 1, size, size, generator=draw), mask


def flipped(images, dims):
    return torch.where(torch.arange(len(images)).reshape(-1, 1, 1, 1) % 2 == 0, images.flip(dims), images)


def judged(images, masks):
    return findings_of("DAT012", PlanePairs(**planes.examine(images, masks)))


@pytest.mark.parametrize(("dims", "how"), [((-1,), "left-right"), ((-2,), "up-down"), ((-1, -2), "both ways")])
def test_images_that_are_flipped_alone_fire(dims, how):
    images, masks = fields()
    (finding,) = judged(flipped(images, dims), masks)
    assert finding.level == "error"
    assert how in finding.message


def test_depth_maps_are_held_against_their_images_too():
    images, masks = fields()
    depth = 2.0 + masks + 0.1 * torch.rand(masks.shape)
    assert judged(flipped(images, (-1,)), depth)
    assert not judged(images, depth)


def test_images_that_are_flipped_with_their_masks_are_silent():
    images, masks = fields()
    both = flipped(torch.cat([images, masks[:, None]], 1), (-1,))
    assert not judged(both[:, :1], both[:, 1].long())


def test_a_task_whose_targets_are_all_mirrored_is_silent():
    images, masks = fields()
    assert not judged(images, masks.flip(-1))


def test_images_that_say_nothing_about_their_masks_are_silent():
    _, masks = fields()
    assert not judged(torch.randn(len(masks), 1, 32, 32), masks)


def test_images_with_one_label_a_sample_are_left_alone():
    assert planes.examine(torch.rand(8, 3, 32, 32), torch.arange(8)) is None
