"""The view is found, and text beside it is gone from whatever is written."""

from itertools import islice

import numpy as np
import pytest

from medpipe.datasets.phantom.rendered import RenderedConfig, frames_of, octagon
from medpipe.video.field_of_view import find_field_of_view


@pytest.mark.parametrize(("width", "height"), [(320, 240), (640, 512)])
def test_the_octagon_is_found_and_names_and_clocks_are_blacked_out(width: int, height: int) -> None:
    config = RenderedConfig(width=width, height=height, fps=2.0, shorter=60)
    pictures = [picture for picture, _ in islice(frames_of(config, 0), 24)]
    view = find_field_of_view(pictures)
    shape = octagon(config)
    assert view.found
    assert (view.inside & shape).sum() / (view.inside | shape).sum() > 0.93
    blacked = np.where(view.inside[..., None], pictures[5], 0)
    text = pictures[5].copy()
    text[shape] = 0
    assert (text > 60).sum() > 100  # there was some
    assert not ((blacked > 60) & (text > 60)).any()
    cut = view.apply(pictures[5])
    assert cut.shape[0] < height
    assert cut.shape[1] < 0.78 * width


def test_two_overlays_in_different_places_are_both_gone() -> None:
    import cv2

    config = RenderedConfig(fps=2.0, shorter=60)
    pictures = [picture for picture, _ in islice(frames_of(config, 1), 24)]
    for number, picture in enumerate(pictures):
        cv2.putText(picture, "DOE", (3, 230), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1)
        cv2.putText(picture, f"{number}", (60, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 0), 1)
    view = find_field_of_view(pictures)
    beside = ~octagon(config) & view.inside
    assert all(picture[beside].max(initial=0) < 60 for picture in pictures)


def test_a_picture_without_a_border_is_taken_whole_and_said_so() -> None:
    still = [np.full((60, 80, 3), 90, dtype=np.uint8)] * 12
    view = find_field_of_view(still)
    assert not view.found
    assert view.apply(still[0]).shape == (60, 80, 3)


def test_a_frame_of_another_size_is_scaled_to_the_view() -> None:
    config = RenderedConfig(fps=2.0, shorter=60)
    view = find_field_of_view([picture for picture, _ in islice(frames_of(config, 0), 12)])
    top, left, bottom, right = view.box
    assert view.apply(np.zeros((100, 100, 3), dtype=np.uint8)).shape == (bottom - top, right - left, 3)
