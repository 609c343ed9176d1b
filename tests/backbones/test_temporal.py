"""What all temporal networks promise: published sizes, padding that does not leak, causality, streams, short videos."""

import numpy as np
import pytest
import torch
from torch import nn

from medpipe.backbones.temporal import TimeConv
from medpipe.backbones.temporal_options import (
    AsFormerOptions,
    ColonTcnOptions,
    FramewiseOptions,
    MsTcnOptions,
    TecnoOptions,
    TemporalOptions,
    TemporalTransformerOptions,
)
from medpipe.backbones.temporal_registry import TEMPORAL_BACKBONES, build_temporal_backbone

SMALL: dict[str, TemporalOptions] = {
    "colon_tcn": ColonTcnOptions(blocks=9, width=16),
    "colon_tcn causal": ColonTcnOptions(blocks=9, width=16, causal=True),
    "colon_tcn lagging": ColonTcnOptions(blocks=6, width=16, causal=True, lag=10),
    "ms_tcn": MsTcnOptions(layers=9, refinement_stages=2, refinement_layers=8, width=16),
    "tecno": TecnoOptions(layers=9, width=16),
    "asformer": AsFormerOptions(layers=9, decoders=2, width=16),
    "temporal_transformer": TemporalTransformerOptions(layers=9, width=16, heads=2, window=5),
    "temporal_transformer causal": TemporalTransformerOptions(layers=9, width=16, heads=2, window=5, causal=True),
    "framewise": FramewiseOptions(width=16),
}
LIVE = ["colon_tcn causal", "colon_tcn lagging", "tecno", "temporal_transformer causal", "framewise"]


def build(options: TemporalOptions, input_dim: int = 24) -> nn.Module:
    torch.manual_seed(0)
    return build_temporal_backbone(options, input_dim=input_dim, num_phases=9).eval()


def logits_of(network: nn.Module, frames: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network(frames, torch.ones(frames.shape[:2], dtype=torch.bool))[-1]


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        (ColonTcnOptions(), 822_921),
        (ColonTcnOptions(blocks=13), 880_521),
        (ColonTcnOptions(causal=True), 822_921),
        (MsTcnOptions(), 993_316),
        (TecnoOptions(), 133_042),
        (AsFormerOptions(), 1_129_956),
        # 131,136 in; ten blocks of 12,480 + 4,160 + 16,576 in products and 452 in norms, scales and biases; 713 out.
        (TemporalTransformerOptions(), 468_529),
        (FramewiseOptions(), 131_721),
    ],
)
def test_sizes_are_the_published_ones(options: TemporalOptions, parameters: int) -> None:
    assert sum(p.numel() for p in build(options, 2048).parameters() if p.requires_grad) == parameters


def test_receptive_fields() -> None:
    assert ColonTcnOptions().receptive_field == 49_141
    assert ColonTcnOptions(blocks=13).receptive_field == 98_293
    assert TemporalTransformerOptions().receptive_field == 32_737
    assert TemporalTransformerOptions(causal=True).receptive_field == 16_369


def test_the_receptive_field_of_the_transformer_is_what_it_says() -> None:
    options = TemporalTransformerOptions(layers=4, width=16, heads=2, window=3)
    network, reach = build(options), (options.receptive_field - 1) // 2
    network, frames = network.double(), torch.randn(1, 2 * reach + 21, 24).double()
    changed = frames.clone()
    changed[:, reach + 10] += 5
    differs = (logits_of(network, frames) != logits_of(network, changed)).any(-1)[0]
    assert differs.nonzero().flatten().tolist() == list(range(10, 2 * reach + 11))


def test_the_receptive_field_of_the_causal_transformer_is_what_it_says() -> None:
    options = TemporalTransformerOptions(layers=4, width=16, heads=2, window=3, causal=True)
    network, reach = build(options).double(), options.receptive_field - 1
    frames = torch.randn(1, reach + 31, 24).double()
    changed = frames.clone()
    changed[:, 10] += 5
    differs = (logits_of(network, frames) != logits_of(network, changed)).any(-1)[0]
    assert differs.nonzero().flatten().tolist() == list(range(10, reach + 11))


def test_every_backbone_of_the_table_is_tested_here() -> None:
    assert {options.name for options in SMALL.values()} == set(TEMPORAL_BACKBONES)


@pytest.mark.parametrize("name", SMALL)
def test_a_video_alone_and_in_a_padded_batch_has_the_same_logits(name: str) -> None:
    network = build(SMALL[name])
    frames = 3 * torch.randn(2, 5600, 24, generator=torch.Generator().manual_seed(1))
    is_frame = torch.ones(2, 5600, dtype=torch.bool)
    is_frame[0, 460:] = False
    with torch.no_grad():
        together = network(frames, is_frame)  # rubbish where there is no frame: it must not matter
    for stage, alone in zip(together, network_stages(network, frames[:1, :460]), strict=True):
        torch.testing.assert_close(stage[:1, :460], alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together[-1][1:], logits_of(network, frames[1:]), atol=1e-5, rtol=0)


def network_stages(network: nn.Module, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return network(frames, torch.ones(frames.shape[:2], dtype=torch.bool))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("length", [1, 2, 6])
def test_a_video_shorter_than_a_kernel_has_logits_of_its_length(name: str, length: int) -> None:
    logits = logits_of(build(SMALL[name]), torch.randn(1, length, 24))
    assert logits.shape == (1, length, 9)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", LIVE)
def test_a_causal_network_does_not_see_the_future(name: str) -> None:
    network, lag = build(SMALL[name]), SMALL[name].lag_steps
    frames = torch.randn(1, 700, 24)
    changed = frames.clone()
    changed[:, 400:] += 5
    before, after = logits_of(network, frames), logits_of(network, changed)
    torch.testing.assert_close(before[:, : 400 - lag], after[:, : 400 - lag], atol=0, rtol=0)
    assert not torch.allclose(before[:, 400 - lag], after[:, 400 - lag])


def test_an_offline_network_sees_both_sides() -> None:
    network, frames = build(SMALL["colon_tcn"]), torch.randn(1, 700, 24)
    changed = frames.clone()
    changed[:, 400:] += 5
    assert not torch.allclose(logits_of(network, frames)[:, 300], logits_of(network, changed)[:, 300])


@pytest.mark.parametrize("name", LIVE)
def test_a_stream_gives_what_the_offline_form_gives(name: str) -> None:
    network = build(SMALL[name])
    frames = 2 * torch.randn(1, 1500, 24)
    stream = network.stream()  # type: ignore[operator]
    answers = [stream.step(frame) for frame in frames[0].numpy()]
    streamed = [answer for answer in answers if answer is not None] + stream.flush()
    np.testing.assert_allclose(np.stack(streamed), logits_of(network, frames)[0].numpy(), atol=1e-5)
    assert [answer is None for answer in answers[: stream.lag + 1]] == [True] * stream.lag + [False]
    stream.reset()
    again = stream.step(frames[0, 0].numpy())
    assert (again is None) == (stream.lag > 0)


@pytest.mark.long
@pytest.mark.parametrize("name", LIVE)
def test_a_stream_gives_the_same_after_three_hours_at_5_hz_and_keeps_no_more(name: str) -> None:
    network = build(SMALL[name])
    with torch.no_grad():  # norms, scales and biases begin at values that would hide a mistake
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) * (parameter.ndim == 1))
    frames = 2 * torch.randn(1, 54_000, 24)
    stream = network.stream()  # type: ignore[operator]
    kept = stream.num_bytes
    answers = [stream.step(frame) for frame in frames[0].numpy()]
    assert stream.num_bytes == kept
    streamed = np.stack([answer for answer in answers if answer is not None] + stream.flush())
    np.testing.assert_allclose(streamed, logits_of(network, frames)[0].numpy(), atol=1e-5)


def test_three_hours_in_pieces_with_a_full_halo_are_the_whole() -> None:
    options = ColonTcnOptions(blocks=6, width=16)
    network, halo = build(options), (options.receptive_field - 1) // 2
    frames = torch.randn(1, 54_000, 24)
    frames[:, 2000:40_000] *= 1e-3  # most of it is outside, where nothing changes
    whole = logits_of(network, frames)
    assert torch.isfinite(whole).all()
    pieces = []
    for first in range(0, 54_000, 9000):
        low, high = max(0, first - halo), min(54_000, first + 9000 + halo)
        pieces.append(logits_of(network, frames[:, low:high])[:, first - low : first - low + 9000])
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-6, rtol=0)


def test_an_offline_network_cannot_be_streamed_and_says_what_can() -> None:
    for name in ("colon_tcn", "ms_tcn", "asformer", "temporal_transformer"):
        with pytest.raises(ValueError, match=r"looks at later frames and cannot run live.*causal: true"):
            build(SMALL[name]).stream()  # type: ignore[operator]


def test_a_stream_refuses_what_is_no_embedding_by_frame() -> None:
    stream = build(SMALL["tecno"]).stream()  # type: ignore[operator]
    stream.step(np.zeros(24))
    with pytest.raises(ValueError, match=r"frame 1: the embedding is \(23,\), expected \(24,\)"):
        stream.step(np.zeros(23))
    with pytest.raises(ValueError, match="frame 1: the embedding holds values that are not numbers"):
        stream.step(np.full(24, np.nan))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 5, 30, 64, 200])
def test_taps_left_out_read_nothing(causal: bool, length: int) -> None:
    convolution = TimeConv(3, 4, 7, dilation=32, causal=causal)
    frames = torch.randn(2, 3, length)
    padded = nn.functional.pad(frames, convolution.reach)
    expected = nn.functional.conv1d(padded, convolution.weight, convolution.bias, dilation=32)
    torch.testing.assert_close(convolution(frames), expected)
