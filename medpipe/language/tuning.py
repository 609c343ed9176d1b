"""A local transformers folder made ready to learn, by low-rank adapters or whole, and what it learned in files."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medpipe.geometry.atomic import written_beside
from medpipe.geometry.faults import DataFault
from medpipe.language.options import FullTuning, LoraTuning, TransformersBackbone
from medpipe.language.transformers_model import Processor, load_folder

RECORD_FILE, ADAPTER_FOLDER, MODEL_FOLDER = "model.json", "adapter", "model"
ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
KIND = "tuned_transformers"
_TEXT_SIDE = (".json", ".jinja", ".model", ".txt")


def folder_identity(folder: Path) -> str:
    """SHA-256 over the names and the content of a folder's weights, configuration and tokenizer."""
    folder = folder.expanduser()
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in (".safetensors", *_TEXT_SIDE):
            with path.open("rb") as file:
                total.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def load_to_tune(backbone: TransformersBackbone, *, reduced: bool) -> tuple[Any, Processor]:
    """Model and processor of the folder; what does not learn asks for no gradient.

    reduced   weights that do not learn are held in bfloat16; those that learn always in float32
    """
    is_lora = isinstance(backbone.tuning, LoraTuning)
    model, processor = load_folder(backbone.folder, torch.bfloat16 if reduced and is_lora else torch.float32)
    model = tunable(model, backbone.tuning)
    if backbone.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return model, processor


def tunable(model: Any, tuning: LoraTuning | FullTuning) -> Any:
    """The model with adapters, or as it is. Raises ValueError: `targets` names no layer."""
    if isinstance(tuning, FullTuning):
        if not tuning.image_encoder:
            learns = decoder_names(model)
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name.startswith(learns) or "lm_head" in name)
        return model
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=tuning.rank, lora_alpha=tuning.alpha, lora_dropout=tuning.dropout, bias="none",
        target_modules=layers_to_adapt(model, tuning),
    )  # fmt: skip
    with warnings.catch_warnings():  # peft asks transformers by an old name
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        return get_peft_model(model, config)


def decoder_names(model: Any) -> str:
    """What the names of the text decoder's weights begin with; ValueError where transformers cannot tell it."""
    decoder = model.get_decoder()
    for name, module in model.named_modules():
        if module is decoder and name:
            return f"{name}."
    raise ValueError(f"{type(model).__name__}: no text decoder to be told from the image encoder; set image_encoder")


def layers_to_adapt(model: Any, tuning: LoraTuning) -> list[str]:
    """Names of the linear layers that get adapters."""
    head = model.get_output_embeddings()
    within = "" if tuning.image_encoder else decoder_names(model)
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head and name.startswith(within)
    ]
    chosen = [name for name in linear if not tuning.targets or _ends(name, tuning.targets)]
    unknown = [target for target in tuning.targets if not any(_ends(name, (target,)) for name in linear)]
    if unknown or not chosen:
        ends = sorted({name.rsplit(".", 1)[-1] for name in linear})
        raise ValueError(f"no linear layer is named {', '.join(unknown) or '?'}; there are {', '.join(ends)}")
    return chosen


def _ends(name: str, targets: Sequence[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)


def save_tuned(
    folder: Path, model: Any, processor: Processor, backbone: TransformersBackbone, facts: dict[str, Any]
) -> None:
    """What was learned, as safetensors, and last the record of what it belongs to.

    adapter/   of LoRA: as peft and servers read it        model/   of all weights: a transformers folder of its own
    """
    if isinstance(backbone.tuning, LoraTuning):
        _save_adapter(folder / ADAPTER_FOLDER, model, backbone.folder.name)
    else:
        model.save_pretrained(folder / MODEL_FOLDER)
        copy_text_side(backbone.folder.expanduser(), folder / MODEL_FOLDER)
    record = {
        "kind": KIND,
        "backbone": backbone.model_dump(mode="json"),
        "base_folder": str(backbone.folder.expanduser().resolve()),
        **facts,
    }
    with written_beside(folder / RECORD_FILE) as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _save_adapter(folder: Path, model: Any, base_name: str) -> None:
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    with written_beside(folder / ADAPTER_WEIGHTS) as partial:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial)
        partial.chmod(0o644)
    config = model.peft_config["default"].to_dict()
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
    plain |= {"inference_mode": True, "base_model_name_or_path": base_name}
    with written_beside(folder / ADAPTER_CONFIG) as partial:
        partial.write_text(json.dumps(plain, indent=2, default=str) + "\n", encoding="utf-8")


def copy_text_side(base: Path, folder: Path) -> None:
    """Tokenizer, processor and chat template of the base: training does not change them."""
    for path in sorted(base.iterdir()):
        is_weights = ".safetensors" in path.name or path.name.endswith(".bin.index.json")
        if path.is_file() and path.suffix in _TEXT_SIDE and not is_weights and not (folder / path.name).exists():
            (folder / path.name).write_bytes(path.read_bytes())


def read_tuned_record(folder: Path) -> dict[str, Any] | None:
    """The record of a tuned folder; None where another kind of model lies there."""
    path = folder / RECORD_FILE
    if not path.is_file():
        raise ValueError(f"{path}: no such file; run the stage vqa_training that leaves it")
    record = json.loads(path.read_text(encoding="utf-8"))
    return record if record.get("kind") == KIND else None


def load_tuned(
    folder: Path, record: dict[str, Any], *, base_folder: Path | None = None, dtype: torch.dtype
) -> tuple[Any, Processor, TransformersBackbone]:
    """Model and processor with what was learned.

    Raises DataFault: the base folder is not the one that was trained on, or a file is damaged.
    """
    backbone = TransformersBackbone.model_validate_json(json.dumps(record["backbone"]))
    if isinstance(backbone.tuning, FullTuning):
        return *load_folder(folder / MODEL_FOLDER, dtype), backbone
    base = base_folder or Path(record["base_folder"])
    model, processor = load_folder(base, dtype)
    found = folder_identity(base)
    if found != record["base_identity"]:
        raise DataFault(
            base,
            f"not the folder that {folder / ADAPTER_FOLDER} was trained on (its files hash to {found[:12]}, expected "
            f"{record['base_identity'][:12]}); give that one as model.base_folder, or train again",
        )
    model = tunable(model, backbone.tuning)
    _load_adapter(folder / ADAPTER_FOLDER / ADAPTER_WEIGHTS, model)
    return model, processor, backbone


def _load_adapter(path: Path, model: Any) -> None:
    from peft import set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataFault(path, f"missing or damaged: {error}") from error
    from peft import get_peft_model_state_dict

    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    if tensors.keys() != expected.keys():
        raise DataFault(path, f"holds {len(tensors)} tensors that do not fit the {len(expected)} of its record")
    set_peft_model_state_dict(model, tensors)
