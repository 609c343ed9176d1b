"""A trained vision-language network in a folder: weights without code, its options, its tokenizer."""

import json
from pathlib import Path
from typing import Any

from medpipe.backbones.vision_language import VisionLanguageNetwork
from medpipe.backbones.vision_language_options import VisionLanguageOptions
from medpipe.backbones.word_tokenizer import WordTokenizer
from medpipe.geometry.atomic import written_beside

WEIGHTS_FILE, RECORD_FILE, TOKENIZER_FILE = "weights.safetensors", "model.json", "tokenizer.json"


def save_vision_language(
    folder: Path, network: VisionLanguageNetwork, tokenizer: WordTokenizer, facts: dict[str, Any]
) -> None:
    """Write the three files, each whole or not at all; the record last."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with written_beside(folder / WEIGHTS_FILE) as partial:
        save_file(tensors, partial, metadata={"kind": "vision_language"})
        partial.chmod(0o644)
    with written_beside(folder / TOKENIZER_FILE) as partial:
        tokenizer.save(partial)
    record = {"kind": "vision_language", "backbone": network.options.model_dump(mode="json"), **facts}
    with written_beside(folder / RECORD_FILE) as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def load_vision_language(folder: Path) -> tuple[VisionLanguageNetwork, WordTokenizer]:
    """The network in eval mode and its tokenizer. Raises ValueError: missing, damaged, or a model of another kind."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    record = folder / RECORD_FILE
    if not record.is_file():
        raise ValueError(f"{record}: no such file; run the stage vqa_training that leaves it")
    facts = json.loads(record.read_text(encoding="utf-8"))
    if facts.get("kind") != "vision_language":
        raise ValueError(f"{record}: holds a model of kind {facts.get('kind')!r}, expected 'vision_language'")
    options = VisionLanguageOptions.model_validate_json(json.dumps(facts["backbone"]), strict=True)
    tokenizer = WordTokenizer.load(folder / TOKENIZER_FILE)
    network = VisionLanguageNetwork(options, vocabulary_size=len(tokenizer))
    try:
        network.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder / WEIGHTS_FILE}: missing, damaged, or of another network: {error}") from error
    return network.eval(), tokenizer
