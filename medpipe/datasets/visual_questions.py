"""Samples of questions on images for training: one image with some of its questions, drawn by the sample's number."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from medpipe.datasets.question_images import read_image

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_CACHED_BYTES = 2_000_000_000


def to_side(image: "Image", side: int) -> np.ndarray:
    """(3, side, side) uint8, brought to a square."""
    if image.size != (side, side):
        from PIL import Image

        image = image.resize((side, side), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))


@final
class VisualQuestionSamples:
    """Sample n: the n-th image of an endless series of shuffled passes, with `per_image` of its questions.

    texts   of each image its (tokens of the prompt, tokens of the answer, its end among them)
    mirror  may be left for right: only where no question asks for a side
    """

    def __init__(
        self,
        images: Sequence[Path],
        texts: Sequence[Sequence[tuple[list[int], list[int]]]],
        *,
        side: int,
        length: int,
        per_image: int,
        seed: int,
        mirror: bool,
        shift: int,
    ) -> None:
        assert len(images) == len(texts)
        self.images, self.texts = images, texts
        self.side, self.length, self.per_image = side, length, per_image
        self.seed, self.mirror, self.shift = seed, mirror, shift
        self.keep = len(images) * 3 * side * side <= MOST_CACHED_BYTES
        self.cache: dict[int, np.ndarray] = {}
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def __getitem__(self, index: int) -> dict[str, Any]:
        """image (3, side, side) uint8; tokens, is_answer (per_image, length): what is read, and where loss is taken."""
        chosen = self._image_of(index)
        draw = np.random.default_rng([self.seed, 7, index])
        texts = self.texts[chosen]
        picked = draw.choice(len(texts), self.per_image, replace=len(texts) < self.per_image)
        tokens = np.zeros((self.per_image, self.length), dtype=np.int64)
        is_answer = np.zeros((self.per_image, self.length), dtype=bool)
        for row, number in enumerate(picked):
            prompt, answer = texts[number]
            whole = [*prompt, *answer][: self.length]
            tokens[row, : len(whole)] = whole
            is_answer[row, len(prompt) : len(whole)] = True
        return {"image": self._changed(self._read(chosen), draw), "tokens": tokens, "is_answer": is_answer}

    def _image_of(self, index: int) -> int:
        turn, place = divmod(index, len(self.images))
        if self.order[0] != turn:
            self.order = (turn, np.random.default_rng([self.seed, 11, turn]).permutation(len(self.images)))
        return int(self.order[1][place])

    def _read(self, number: int) -> np.ndarray:
        found = self.cache.get(number)
        if found is None:
            found = to_side(read_image(self.images[number], 4 * self.side * self.side), self.side)
            if self.keep:
                self.cache[number] = found
        return found

    def _changed(self, image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        if self.mirror and draw.random() < 0.5:
            image = image[:, :, ::-1]
        if self.shift:
            down, right = draw.integers(0, 2 * self.shift + 1, size=2)
            padded = np.pad(image, ((0, 0), (self.shift, self.shift), (self.shift, self.shift)), mode="edge")
            image = padded[:, down : down + self.side, right : right + self.side]
        return np.ascontiguousarray(image)
