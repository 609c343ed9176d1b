"""Where in the picture the endoscope's view is: what lies outside it (names, dates, clocks) is blacked out.

A processor draws the view in an octagon on a black screen and text beside it. The view is what changes all over from
frame to frame; text stands still, or changes in thin strokes. So: pixels that vary, thin things removed, the largest
piece, its convex hull.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np

SMALLEST_SHARE = 0.05  # of the picture: a smaller piece is no view
SMALLEST_SD = 4.0  # grey levels over the frames looked at
WORKING_WIDTH = 320  # pixels


@final
@dataclass(frozen=True, eq=False)
class FieldOfView:
    """The view in pictures of one size: its box (top, left, bottom, right), and which pixels are in it (H, W) bool."""

    box: tuple[int, int, int, int]
    inside: np.ndarray
    found: bool  # False: no view was found, the whole picture is taken

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The view cut out of (H, W, 3) uint8, black outside it. A picture of another size is scaled to this one."""
        import cv2

        if image.shape[:2] != self.inside.shape:
            image = cv2.resize(image, self.inside.shape[::-1], interpolation=cv2.INTER_AREA)
        top, left, bottom, right = self.box
        cut = image[top:bottom, left:right]
        return cut if self.is_box else cv2.copyTo(cut, self.inside[top:bottom, left:right].view(np.uint8))

    @cached_property
    def is_box(self) -> bool:
        """Whether the view fills its box."""
        top, left, bottom, right = self.box
        return bool(self.inside[top:bottom, left:right].all())


def whole(height: int, width: int) -> FieldOfView:
    """Everything."""
    return FieldOfView((0, 0, height, width), np.ones((height, width), dtype=bool), found=False)


def find_field_of_view(images: Sequence[np.ndarray]) -> FieldOfView:
    """The view in pictures (H, W, 3) of one video, some seconds apart from each other; ten or more are wanted."""
    import cv2

    height, width = Counter(image.shape[:2] for image in images).most_common(1)[0][0]
    alike = [image for image in images if image.shape[:2] == (height, width)]
    if len(alike) < 3:
        return whole(height, width)
    scale = min(1.0, WORKING_WIDTH / width)
    small = (round(width * scale), round(height * scale))
    greys = [
        cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), small, interpolation=cv2.INTER_AREA) for image in alike
    ]
    varies = np.std(np.stack(greys).astype(np.float32), axis=0) > SMALLEST_SD
    edge = max(3, round(0.05 * min(small)) | 1)  # thicker than strokes of text, thinner than the view
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (edge, edge))
    closed = cv2.morphologyEx(
        varies.astype(np.uint8), cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_RECT, (3, 3))
    )
    solid = cv2.morphologyEx(closed, cv2.MORPH_OPEN, kernel)
    count, pieces, statistics, _ = cv2.connectedComponentsWithStats(solid)
    if count < 2:
        return whole(height, width)
    largest = 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))
    if statistics[largest, cv2.CC_STAT_AREA] < SMALLEST_SHARE * solid.size:
        return whole(height, width)
    return _from_piece((pieces == largest).astype(np.uint8), height, width)


def _from_piece(piece: np.ndarray, height: int, width: int) -> FieldOfView:
    """The convex hull of a piece of the small picture, in the large one."""
    import cv2

    contours, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(np.concatenate(contours))
    filled = cv2.fillConvexPoly(np.zeros_like(piece), hull, 1)
    inside = cv2.resize(filled, (width, height), interpolation=cv2.INTER_NEAREST) > 0
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    return FieldOfView(box, inside, found=True)
