"""The small vision-language network: causal, independent of its batch, and a tokenizer that loses nothing."""

import math
from pathlib import Path

import pytest
import torch

from medpipe.backbones.vision_language import SigmoidAttention, VisionLanguageNetwork
from medpipe.backbones.vision_language_files import load_vision_language, save_vision_language
from medpipe.backbones.vision_language_options import VisionLanguageOptions
from medpipe.backbones.word_tokenizer import ANSWER, END, WordTokenizer

OPTIONS = VisionLanguageOptions(image_size=32, width=16, heads=2, image_depth=1, text_depth=2, max_tokens=12)


def network(words: int = 20) -> VisionLanguageNetwork:
    torch.manual_seed(0)
    made = VisionLanguageNetwork(OPTIONS, vocabulary_size=words).eval()
    for parameter in made.parameters():  # away from its start, where all answers are alike
        parameter.data += 0.3 * torch.randn_like(parameter)
    return made


def test_attention_is_its_definition() -> None:
    torch.manual_seed(0)
    attention = SigmoidAttention(8, 2)
    x, seen = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    q = attention.query_norm(attention.query(x).view(1, 3, 2, 4)).transpose(1, 2)
    k, v = attention.key_value(seen).chunk(2, dim=-1)
    k = attention.key_norm(k.view(1, 5, 2, 4)).transpose(1, 2)
    v = v.view(1, 5, 2, 4).transpose(1, 2)
    expected = torch.zeros(1, 2, 3, 4)
    for head in range(2):
        for i in range(3):
            for j in range(5):
                logit = float((q[0, head, i] @ k[0, head, j]).detach()) / 2.0 - math.log(5)
                expected[0, head, i] += v[0, head, j] / (1 + math.exp(-logit))
    torch.testing.assert_close(attention(x, seen), attention.out(expected.transpose(1, 2).reshape(1, 3, 8)))


def test_a_token_does_not_see_what_follows() -> None:
    made, image = network(), torch.randint(0, 255, (1, 3, 32, 32), dtype=torch.uint8)
    tokens = torch.randint(4, 20, (1, 8))
    changed = tokens.clone()
    changed[:, 5:] = 4
    before, after = (made(image, given[None])[0] for given in (tokens, changed))
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_wanted_places_alone_are_read_as_all_of_them() -> None:
    made, image = network(), torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)
    tokens = torch.randint(4, 20, (2, 3, 8))
    at = torch.tensor([[[3, 4], [0, 1], [6, 7]], [[5, 5], [2, 3], [1, 7]]])
    seen = made.look(image)
    every, some = made.read(seen, tokens), made.read(seen, tokens, at)
    torch.testing.assert_close(some, every.gather(2, at[..., None].expand(-1, -1, -1, every.shape[-1])))


def test_answers_do_not_depend_on_the_batch() -> None:
    made = network()
    image = torch.randint(0, 255, (3, 3, 32, 32), dtype=torch.uint8)
    prompts = [[5, ANSWER], [6, 7, 8, 9, ANSWER], [10, 11, ANSWER], [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, ANSWER]]
    image_of = torch.tensor([0, 1, 2, 0])
    together = made.answer(image, prompts, image_of, max_new_tokens=5)
    apart = [
        made.answer(image[[number]], [prompt], torch.tensor([0]), max_new_tokens=5)[0]
        for prompt, number in zip(prompts, image_of.tolist(), strict=True)
    ]
    assert together == apart
    assert together[3] == []  # no room behind a prompt of max_tokens
    assert len({tuple(answer) for answer in together}) > 1


def test_the_image_matters() -> None:
    made, tokens = network(), torch.randint(4, 20, (2, 6))
    images = torch.stack([torch.zeros(3, 32, 32), 255 * torch.rand(3, 32, 32)])
    tokens[1] = tokens[0]
    logits = made(images, tokens[:, None])[:, 0]
    assert not torch.allclose(logits[0], logits[1])


def test_a_saved_network_answers_the_same(tmp_path: Path) -> None:
    tokenizer = WordTokenizer.learned(["is it red?", "a blue triangle"])
    made = network(len(tokenizer))
    save_vision_language(tmp_path, made, tokenizer, {"step": 3})
    loaded, words = load_vision_language(tmp_path)
    assert words.words == tokenizer.words
    image, prompt = (
        torch.randint(0, 255, (1, 3, 32, 32), dtype=torch.uint8),
        [[*tokenizer.encode("is it red?"), ANSWER]],
    )
    one = torch.tensor([0])
    assert loaded.answer(image, prompt, one, max_new_tokens=4) == made.answer(image, prompt, one, max_new_tokens=4)
    (tmp_path / "weights.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"weights\.safetensors: missing, damaged"):
        load_vision_language(tmp_path)
    with pytest.raises(ValueError, match="run the stage vqa_training"):
        load_vision_language(tmp_path / "none")


def test_the_tokenizer_spells_what_it_never_saw() -> None:
    tokenizer = WordTokenizer.learned(["what is the colour of the shape?", "teal"])
    text = "the tile is teal ?"
    assert "tile" not in tokenizer.ids
    assert tokenizer.decode([*tokenizer.encode(text), END, 5]) == text
    assert tokenizer.decode(tokenizer.encode("teal élan")) == "teal la"
    with pytest.raises(ValueError, match="starts with <pad>"):
        WordTokenizer(["a", "b"])


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="'width' must divide by heads"):
        VisionLanguageOptions(width=24, heads=5)
