from typing import Any

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor, nn

from medpipe.tasks.options import PredictionConfig
from medpipe.tasks.sliding_window import (
    PredictionStopped,
    SlidingWindow,
    gaussian_weights,
    mirror_combinations,
    window_starts,
)

PATCH = (8, 12, 16)


class Blur(nn.Module):
    """Logits that depend on a voxel's neighbours and on its place in the window, as a real network's do."""

    def __init__(self, outputs: int = 3, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv3d(1, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * 3


class Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        logits = torch.tensor([0.0, 1.0, -2.0]).view(1, 3, 1, 1, 1)
        return logits.expand(len(x), 3, *x.shape[2:])


def some_image(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def predict(networks: list[nn.Module], image: np.ndarray, **options: Any) -> Tensor:
    config = PredictionConfig(**options.pop("config", {}))
    settings = {"patch_size": PATCH, "output": "softmax", "air": -3.0, "config": config, **options}
    return torch.stack(list(SlidingWindow(networks, image, **settings).slices()), dim=1)


def weights_of_window() -> Tensor:
    d, h, w = (gaussian_weights(edge) for edge in PATCH)
    return d[:, None, None] * h[:, None] * w


@pytest.mark.parametrize("windows_per_batch", [1, 5])
@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_monai_gives_the_same(output: str, windows_per_batch: int) -> None:
    # Sizes of which half a patch is a whole part: there both place their windows alike.
    image, network = some_image((20, 30, 40)), Blur()
    ours = predict([network], image, output=output, config={"windows_per_batch": windows_per_batch})
    with torch.no_grad():
        theirs = sliding_window_inference(
            torch.from_numpy(image)[None, None],
            PATCH,
            4,
            lambda x: network(x).softmax(1) if output == "softmax" else network(x).sigmoid(),
            overlap=0.5,
            roi_weight_map=weights_of_window(),
        )
    torch.testing.assert_close(ours, theirs[0], atol=1e-6, rtol=1e-5)  # type: ignore[index]


def test_the_sum_over_all_windows_at_once_gives_the_same_on_sizes_that_divide_by_nothing() -> None:
    image, network = some_image((19, 23, 37)), Blur()
    total, weight = torch.zeros(3, 19, 23, 37), torch.zeros(19, 23, 37)
    starts = [window_starts(size, patch, 0.3) for size, patch in zip(image.shape, PATCH, strict=True)]
    for d in starts[0]:
        for h in starts[1]:
            for w in starts[2]:
                box = (slice(d, d + 8), slice(h, h + 12), slice(w, w + 16))
                with torch.no_grad():
                    values = network(torch.from_numpy(image[box])[None, None]).softmax(1)[0]
                total[(slice(None), *box)] += values * weights_of_window()
                weight[box] += weights_of_window()
    ours = predict([network], image, config={"overlap": 0.3})
    torch.testing.assert_close(ours, total / weight, atol=1e-6, rtol=1e-5)


def test_windows_are_spread_evenly_and_overlap_at_least_as_asked() -> None:
    assert window_starts(5, 8, 0.5) == [0]
    assert window_starts(8, 8, 0.5) == [0]
    assert window_starts(20, 8, 0.5) == [0, 4, 8, 12]
    for size in range(9, 60):
        starts = window_starts(size, 8, 0.5)
        assert starts[0] == 0
        assert starts[-1] == size - 8
        assert max(np.diff(starts)) <= 4


def test_weights_are_gaussian_symmetric_and_never_next_to_nothing() -> None:
    weights = gaussian_weights(16)
    assert torch.equal(weights, weights.flip(0))
    assert weights[9].item() / weights[8].item() == pytest.approx(np.exp(-0.5 * (1.5**2 - 0.5**2) / 2**2), rel=1e-5)
    assert gaussian_weights(64).min().item() == pytest.approx(1e-3)


@pytest.mark.parametrize("shape", [(30, 25, 33), (3, 5, 40), (8, 12, 16)])
def test_a_constant_network_gives_its_constants_everywhere(shape: tuple[int, int, int]) -> None:
    expected = torch.tensor([0.0, 1.0, -2.0]).softmax(0).view(3, 1, 1, 1).expand(3, *shape)
    options = {"mirror_axes": ("depth", "width")}
    torch.testing.assert_close(predict([Constant()], some_image(shape), config=options), expected)


def test_a_small_volume_is_surrounded_by_air() -> None:
    image, network = some_image((4, 12, 7)), Blur()
    padded = np.full(PATCH, -3.0, dtype=np.float32)
    padded[2:6, :, 4:11] = image
    with torch.no_grad():
        expected = network(torch.from_numpy(padded)[None, None]).softmax(1)[0, :, 2:6, :, 4:11]
    torch.testing.assert_close(predict([network], image), expected)


def test_an_ensemble_and_mirrored_forms_average_probabilities() -> None:
    image, networks = some_image(PATCH), [Blur(seed=1), Blur(seed=2)]
    x = torch.from_numpy(image)[None, None]
    with torch.no_grad():
        forms = [
            network(x.flip(axes)).flip(axes).softmax(1)[0] if axes else network(x).softmax(1)[0]
            for network in networks
            for axes in ((), (2,), (4,), (2, 4))
        ]
    ours = predict(list(networks), image, config={"mirror_axes": ("depth", "width")})
    torch.testing.assert_close(ours, torch.stack(forms).mean(0))
    assert mirror_combinations(PredictionConfig()) == [()]


def test_windows_are_normalised_as_they_are_cut() -> None:
    image = (some_image((20, 12, 16)) * 100).astype(np.int16)
    ours = predict([Blur()], image, normalise=lambda hu: hu.astype(np.float32) / 100)
    torch.testing.assert_close(ours, predict([Blur()], image.astype(np.float32) / 100))


def test_a_request_to_stop_is_answered_between_windows_and_windows_are_counted() -> None:
    counts: list[tuple[int, int]] = []
    predict([Blur()], some_image((20, 12, 16)), on_windows=lambda done, total: counts.append((done, total)))
    assert counts == [(number, 4) for number in range(1, 5)]
    counts.clear()
    with pytest.raises(PredictionStopped):
        predict(
            [Blur()],
            some_image((20, 12, 16)),
            on_windows=lambda done, total: counts.append((done, total)),
            should_stop=lambda: len(counts) == 2,
        )
    assert len(counts) == 2
