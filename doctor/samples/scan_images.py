"""All images of a layout as evidence."""

from __future__ import annotations

import numpy as np

from doctor.evidence.image_files import ImageFiles
from doctor.progress import Progress
from doctor.samples.columns import Columns
from doctor.samples.images import THUMB, needed, read_image
from doctor.samples.items import Layout
from doctor.samples.reading import each


def scan_images(layout: Layout, progress: Progress) -> ImageFiles:
    """Read every image once; raises DoctorError when Pillow is missing."""
    needed()
    items = layout.items
    count = len(items)
    progress.start("reading images", count)
    columns = Columns("image", "image", count)
    errors, modes = [], []
    channels, sizes = np.zeros(count, np.int64), np.zeros((count, 2), np.int64)
    saturation = np.zeros(count, np.float32)
    mean, std = np.zeros((count, 3), np.float32), np.zeros((count, 3), np.float32)
    transparent = np.zeros(count, bool)
    thumbs = np.zeros((count, THUMB * THUMB * 3), np.uint8)
    read = each(lambda item: read_image(item.path), items, progress)
    for index, (item, image) in enumerate(zip(items, read, strict=True)):
        columns.add(item.name, item.split, item.label, image.pixels or None, features=image.features)
        errors.append(image.error or "")
        modes.append(image.mode)
        if image.error is None and image.thumb is not None:
            channels[index], sizes[index], saturation[index] = image.channels, image.size, image.saturation
            mean[index], std[index], transparent[index] = image.mean, image.std, not image.opaque
            thumbs[index] = image.thumb.ravel()
    progress.finish()
    return ImageFiles(
        columns.samples(), tuple(errors), tuple(modes), channels, sizes, saturation, mean, std, transparent, thumbs
    )
