"""One data seed of the benchmark's quick tier, shortened, with loose gates: context is worth a lot."""

import pytest
import torch

from medpipe.backbones.temporal_options import ColonTcnOptions, FramewiseOptions, TemporalOptions
from medpipe.datasets.embeddings import EmbeddedVideo, EmbeddingIdentity, LabelledVideo
from medpipe.datasets.phantom.colonoscopy import ColonoscopyConfig, draw_video, draw_world
from medpipe.datasets.phase_videos import PhaseSamplingConfig, PhaseVideos, phase_counts
from medpipe.datasets.video_folds import find_folds_file, read_folds
from medpipe.metrics.phase_scores import VideoPhases, pooled_scores
from medpipe.tasks.options import TrainingConfig
from medpipe.tasks.phase_decoding import decode, learn_dynamics
from medpipe.tasks.phase_losses import class_weights
from medpipe.tasks.phase_model import build_phase_network, load_phase_model
from medpipe.tasks.phase_network import predict_video
from medpipe.tasks.phase_options import DecodingConfig, PhaseLossConfig
from medpipe.tasks.phase_segmentation import PhaseSegmentation
from medpipe.tasks.training import fit

CONFIG = ColonoscopyConfig(rate_hz=0.25, dim=48)
TRAINING = TrainingConfig(
    num_steps=60, batch_size=6, learning_rate=3e-3, optimiser="adamw", schedule="cosine", warmup_steps=15,
    gradient_clip=1.0, num_workers=0, accelerator="cpu", save_every_minutes=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def videos() -> tuple[list[LabelledVideo], list[LabelledVideo]]:
    world = draw_world(CONFIG, 0)
    identity = EmbeddingIdentity("phantom", "0", "none", CONFIG.rate_hz, CONFIG.dim)

    def labelled(name: str) -> LabelledVideo:
        drawn = draw_video(CONFIG, name, 0, world)
        return LabelledVideo(
            EmbeddedVideo(name, identity, drawn.times_s, drawn.is_valid, drawn.embeddings), drawn.labels
        )

    fold = read_folds(find_folds_file("real_colon_4_fold"))[1]
    return [labelled(name) for name in fold.train], [labelled(name) for name in fold.test]


def scores(options: TemporalOptions, videos: tuple[list[LabelledVideo], list[LabelledVideo]], folder) -> dict:  # type: ignore[no-untyped-def, type-arg]
    training, test = videos
    torch.manual_seed(0)
    network = build_phase_network(options, CONFIG.dim)
    task = PhaseSegmentation(
        network, weights=class_weights(phase_counts(training, 9), PhaseLossConfig()), loss=PhaseLossConfig()
    )
    samples = PhaseVideos(training, PhaseSamplingConfig(), batch_size=6, seed=0)
    assert fit(task, samples, TRAINING, folder, seed=0, should_stop=lambda: False).finished
    dynamics = learn_dynamics([(video.labels, video.video.times_s) for video in training], 9)
    found: dict[str, list[VideoPhases]] = {"none": [], "viterbi": []}
    for video in test:
        times = video.video.times_s
        probabilities = predict_video(network, video.video.embeddings, video.video.is_valid)
        for method in found:
            phases = decode(probabilities, times, dynamics, DecodingConfig(method=method))  # type: ignore[arg-type]
            found[method].append(VideoPhases(video.video.video_id, times, video.labels, phases))
    return {method: pooled_scores(of_method) for method, of_method in found.items()}


@pytest.mark.slow
def test_context_is_worth_many_points_and_decoding_makes_segments(videos, tmp_path) -> None:  # type: ignore[no-untyped-def]
    frame = scores(FramewiseOptions(width=32), videos, tmp_path / "frame")
    context = scores(ColonTcnOptions(blocks=8, width=24), videos, tmp_path / "context")
    assert frame["none"]["accuracy"] < 45
    assert context["none"]["accuracy"] > frame["none"]["accuracy"] + 10
    assert context["viterbi"]["segments"] < 15 < frame["none"]["segments"]
    assert context["viterbi"]["f1_at_25"] > context["none"]["f1_at_25"]


def test_a_folder_without_weights_is_refused_by_name(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"model\.json: no such file"):
        load_phase_model(tmp_path)
