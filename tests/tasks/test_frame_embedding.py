"""Embedding whole procedures: by any encoder, killed and gone on with, never mixing two."""

import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from medpipe.datasets.embeddings import read_embeddings
from medpipe.geometry.faults import DataFault
from medpipe.tasks.frame_encoders import FrameEncoder, build_encoder
from medpipe.tasks.frame_options import EncoderConfig

PROGRAM = """
import sys, time
from pathlib import Path
from medpipe.datasets.embeddings import EmbeddingIdentity
from medpipe.datasets.procedures import ProcedureSource
from medpipe.tasks.frame_embedding import PartialEmbeddings, embed_slots
from medpipe.tasks.frame_encoders import build_encoder
from medpipe.tasks.frame_options import EncoderConfig
from medpipe.tasks.procedure_reading import ProcedureReader

video, output, pause, encoder_name = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
reader = ProcedureReader(ProcedureSource(video.stem, video, None, None))
encoder = build_encoder(EncoderConfig(name="colour_grid"))
view = reader.field_of_view()
identity = EmbeddingIdentity(encoder_name, encoder.weights, encoder.preprocessing, 5.0, encoder.dim)
partial = PartialEmbeddings(output, identity, reader.identity())
def on_slots(count, faults):
    print(partial.num_chunks, flush=True)
    time.sleep(pause)
def slots(first):
    return reader.slots(5.0, first)
embed_slots(slots, encoder, view, partial, batch_size=8, chunk_batches=2, on_slots=on_slots)
partial.finish(video.stem, reader.facts)
partial.remove()
"""


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from medpipe.datasets.phantom.rendered import RenderedConfig, write_video

    path = tmp_path_factory.mktemp("video") / "001-001.mp4"
    write_video(path, RenderedConfig(width=160, height=120, shorter=60), 4)
    return path


def embed(video: Path, output: Path, *, pause: float = 0.0, encoder: str = "colour_grid") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(video), str(output), str(pause), encoder],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_killed_run_goes_on_and_its_file_is_that_of_an_undisturbed_one(video: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    assert embed(video, whole).wait(timeout=120) == 0
    process = embed(video, killed, pause=0.5)
    assert process.stdout is not None
    while process.stdout.readline().strip() != "3":
        pass
    time.sleep(0.1)
    process.kill()
    process.wait()
    assert not killed.exists()
    other = embed(video, killed, encoder="another")
    _, errors = other.communicate(timeout=120)
    assert "begun with another encoder: encoder 'colour_grid' and 'another'" in errors
    assert other.returncode != 0
    again = embed(video, killed)
    output, _ = again.communicate(timeout=120)
    assert output.split()[0] == "3"  # three chunks were kept
    assert whole.read_bytes() == killed.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed.safetensors", "whole.safetensors"]
    found = read_embeddings(killed)
    assert found.is_valid.all()
    assert found.embeddings.std(axis=0).min() > 0


def test_resnet50_reads_published_tensor_names(tmp_path: Path) -> None:
    from medpipe.backbones.resnet50 import ResNet50

    tensors = ResNet50().state_dict() | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    assert len(tensors) == 320  # as torchvision's file
    assert sum(p.numel() for p in ResNet50().parameters()) == 25_557_032 - 2_049_000
    torch.save(tensors, tmp_path / "resnet50.pth")
    encoder = build_encoder(EncoderConfig(weights=tmp_path / "resnet50.pth"))
    pictures = np.random.default_rng(0).integers(0, 255, (2, 224, 224, 3), dtype=np.uint8)
    vectors = encoder.encode(pictures)
    assert vectors.shape == (2, 2048)
    assert (vectors >= 0).all()
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "bad.pth")
    with pytest.raises(DataFault, match=r"bad\.pth: no weights of a ResNet-50"):
        build_encoder(EncoderConfig(weights=tmp_path / "bad.pth"))
    with pytest.raises(DataFault, match="no such file; save torchvision's resnet50"):
        build_encoder(EncoderConfig(weights=tmp_path / "none.pth"))


def test_medpipes_vision_transformer_from_a_file_and_at_random(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    config = EncoderConfig(name="vision_transformer", variant="tiny", size=64)
    first, again = build_encoder(config), build_encoder(config)
    pictures = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    vectors = first.encode(pictures)
    assert vectors.shape == (3, 96)
    np.testing.assert_array_equal(vectors, again.encode(pictures))  # random weights are always the same
    assert (first.name, first.weights) == ("vision_transformer tiny", "random, seed 0")
    assert not np.allclose(vectors, first.encode(pictures[:, ::-1].copy()), atol=1e-4)  # places count
    assert EncoderConfig.of_title(first.name, size=64) == config
    tensors = {
        f"encoder.{name}": tensor for name, tensor in first.network.get_submodule("encoder").state_dict().items()
    }
    save_file(tensors, tmp_path / "vit.safetensors")
    loaded = build_encoder(config.model_copy(update={"weights": tmp_path / "vit.safetensors"}))
    np.testing.assert_array_equal(loaded.encode(pictures), vectors)
    assert len(loaded.weights) == 64
    with pytest.raises(DataFault, match=r"vit\.safetensors: no weights of a vision transformer of size small"):
        build_encoder(EncoderConfig(name="vision_transformer", weights=tmp_path / "vit.safetensors"))
    with pytest.raises(ValueError, match="patches of 16 pixels, got 100"):
        EncoderConfig(name="vision_transformer", size=100)


def test_a_model_of_timm_needs_torchvision(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    if find_spec("torchvision") is not None:
        pytest.skip("torchvision is there")
    (tmp_path / "config.json").write_text('{"model_type": "timm_wrapper", "architecture": "vit_small_patch16_224"}')
    with pytest.raises(DataFault, match="a model of timm, which needs torchvision: it is not installed"):
        build_encoder(EncoderConfig(name="transformers", weights=tmp_path))


def test_a_vision_model_of_transformers_from_a_local_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=16
    )
    transformers.ViTModel(config).save_pretrained(tmp_path / "vit")
    encoder = build_encoder(EncoderConfig(name="transformers", weights=tmp_path / "vit"))
    assert (encoder.size, encoder.dim) == (32, 32)
    assert encoder.encode(np.zeros((3, 32, 32, 3), dtype=np.uint8)).shape == (3, 32)
    with pytest.raises(DataFault, match=r"no config\.json"):
        build_encoder(EncoderConfig(name="transformers", weights=tmp_path))


@pytest.mark.parametrize("size", [(1081, 1353), (300, 200), (64, 64), (40, 50)])
def test_halving_first_changes_a_picture_by_less_than_a_grey_level(size: tuple[int, int]) -> None:
    import cv2

    y, x = np.mgrid[0 : size[0], 0 : size[1]] / np.array(size)[:, None, None]
    planes = [127 + 120 * np.sin(9 * x + 5 * y), 127 + 120 * np.cos(7 * y), 255 * x]
    picture = np.stack(planes, axis=-1).astype(np.uint8)
    found = build_encoder(EncoderConfig(name="colour_grid")).resize(picture).astype(int)
    factor = max(1, 2 ** int(np.log2(min(size) / 64)))
    top, left = (side % factor // 2 for side in size)
    cut = picture[top : top + size[0] // factor * factor, left : left + size[1] // factor * factor]
    direct = cv2.resize(cut, (64, 64), interpolation=cv2.INTER_AREA)
    assert found.shape == (64, 64, 3)
    assert np.abs(found - direct).mean() < 1
    assert np.abs(found - direct).max() <= 3


def test_embeddings_that_half_precision_cannot_hold_are_refused() -> None:
    from medpipe.tasks.frame_embedding import encode_batch
    from medpipe.video.slots import Slot

    class Loud(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 1e6 * torch.ones(len(images), 2)

    encoder = FrameEncoder(Loud(), 2, 8, (0.5,) * 3, (0.5,) * 3, "loud", "none", "cpu")
    slot = Slot(0, 0.0, 0, np.zeros((8, 8, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="half precision cannot hold"):
        encode_batch(encoder, [slot])
