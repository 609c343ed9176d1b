"""A tiny random Qwen2.5-VL through the local path, without torchvision."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medpipe.geometry.faults import DataFault
from medpipe.language.model import Asked
from medpipe.language.options import GenerationConfig, TransformersModel
from medpipe.language.transformers_model import LocalModel, messages_of


def image(seed: int, width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8))


ASKED = [
    Asked("a", "Is a polyp visible?", (image(0, 64, 64),)),
    Asked("b", "Which option is right? Answer with a letter.", (image(1, 90, 60),)),
    Asked("c", "Yes?", (image(2, 60, 112), image(3, 56, 56))),
    Asked("d", "A question without any image", ()),
]


def test_batched_and_unbatched_answers_are_equal(tiny_qwen: Path) -> None:
    model = LocalModel.of_folder(
        TransformersModel(name="transformers", folder=tiny_qwen), GenerationConfig(max_new_tokens=12)
    )
    together = model.answer_all(ASKED)
    apart = [model.answer_all([one])[0] for one in ASKED]
    assert [reply.text for reply in together] == [reply.text for reply in apart]
    assert [reply.finish_reason for reply in together] == [reply.finish_reason for reply in apart]
    assert any(reply.text for reply in together)


def test_the_image_changes_what_is_answered_or_at_least_what_is_seen(tiny_qwen: Path) -> None:
    import torch

    model = LocalModel.of_folder(TransformersModel(name="transformers", folder=tiny_qwen), GenerationConfig())
    with torch.inference_mode():
        logits = [
            model.model(
                **model.processor([model.processor.chat(messages_of("Yes?", 1, "", image_first=True))], [[picture]])
            ).logits[0, -1]
            for picture in (image(0, 64, 64), image(9, 64, 64))
        ]
    assert not torch.allclose(logits[0], logits[1])


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match=r"no config\.json"):
        LocalModel.of_folder(TransformersModel(name="transformers", folder=tmp_path), GenerationConfig())


def test_a_folder_without_all_of_its_weights_is_refused(tiny_qwen: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_qwen, tmp_path / "part")
    weights = tmp_path / "part/model.safetensors"
    tensors = load_file(weights)
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    config = TransformersModel(name="transformers", folder=tmp_path / "part")
    with pytest.raises(DataFault, match=r"1 weights of the model are not in the folder, first .*up_proj"):
        LocalModel.of_folder(config, GenerationConfig())
    weights.write_bytes(b"broken")
    with pytest.raises(DataFault, match="no weights as safetensors that can be read"):
        LocalModel.of_folder(config, GenerationConfig())
    weights.unlink()
    (tmp_path / "part/pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(DataFault, match="no weights as safetensors that can be read"):
        LocalModel.of_folder(config, GenerationConfig())
