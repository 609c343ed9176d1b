"""Embed the slots of one procedure: decoding runs ahead in a thread, chunks are on disk as soon as they are full.

A killed run loses at most the chunk it was at. Batches begin at fixed slots, so that the file of a run that was killed
and started again is byte for byte that of an undisturbed one.
"""

import json
import queue
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, final

import numpy as np

from medpipe.datasets.embeddings import EmbeddedVideo, EmbeddingIdentity, write_embeddings
from medpipe.geometry.atomic import written_beside
from medpipe.geometry.faults import DataFault
from medpipe.tasks.frame_encoders import FrameEncoder
from medpipe.video.field_of_view import FieldOfView
from medpipe.video.slots import Slot

HEADER_FILE = "header.json"
AHEAD = 128  # slots that decoding may run ahead

T = TypeVar("T")


@final
class PartialEmbeddings:
    """The chunks of one video that are done, in a folder beside the final file: each whole or not there."""

    def __init__(self, path: Path, identity: EmbeddingIdentity, source: str) -> None:
        self.path = path
        self.folder = path.with_name(f".{path.name}.partial")
        self.header = {"identity": asdict(identity), "source": source}
        self.identity = identity
        known = self.folder / HEADER_FILE
        if known.is_file():
            self._check(json.loads(known.read_text(encoding="utf-8")))
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            with written_beside(known) as partial:
                partial.write_text(json.dumps(self.header), encoding="utf-8")

    def _check(self, header: dict[str, Any]) -> None:
        """Refuse to go on with another encoder or source than the chunks are of."""
        if header["source"] != self.header["source"]:
            raise DataFault(self.folder, "begun on another state of the video; remove this folder to begin anew")
        different = EmbeddingIdentity(**header["identity"]).differences(self.identity)
        if different:
            raise DataFault(
                self.folder,
                f"begun with another encoder: {'; '.join(different)}; go on with that one, or remove this folder",
            )

    @property
    def num_chunks(self) -> int:
        """Chunks that are there, without a gap from the first."""
        count = 0
        while self._chunk(count).is_file():
            count += 1
        return count

    def add(self, number: int, slots: list[Slot], embeddings: np.ndarray) -> None:
        """Keep a chunk."""
        from safetensors.numpy import save_file

        tensors = {
            "embeddings": np.ascontiguousarray(embeddings, dtype=np.float16),
            "times_s": np.array([slot.time_s for slot in slots]),
            "frames": np.array([slot.frame for slot in slots], dtype=np.int64),
        }
        with written_beside(self._chunk(number)) as partial:
            save_file(tensors, partial)

    def finish(self, video_id: str, facts: dict[str, Any]) -> np.ndarray:
        """Put the chunks together into the final file; the source's frame number of each slot (T,)."""
        from safetensors.numpy import load_file

        chunks = [load_file(self._chunk(number)) for number in range(self.num_chunks)]
        parts = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
        is_valid = parts["frames"] >= 0
        facts = facts | {"slots": len(is_valid), "missing": int(np.count_nonzero(~is_valid))}
        video = EmbeddedVideo(video_id, self.identity, parts["times_s"], is_valid, parts["embeddings"], facts)
        write_embeddings(self.path, video)
        return parts["frames"]

    def remove(self) -> None:
        """Once everything that was made of it is on disk."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _chunk(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"


def embed_slots(
    open_slots: Callable[[int], Iterator[Slot]],
    encoder: FrameEncoder,
    view: FieldOfView | None,
    partial: PartialEmbeddings,
    *,
    batch_size: int,
    chunk_batches: int,
    on_slots: Callable[[int, list[str]], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Embed what is missing; False where it was asked to stop. `open_slots(first)`: the slots from there on.

    on_slots: called with how many slots are encoded and what was wrong with frames among them; if it raises, they are
    not kept.
    """
    done = partial.num_chunks
    ahead = ReadAhead(lambda: open_slots(done * batch_size * chunk_batches), encoder, view)
    try:
        # A batch is encoded as soon as it is there, while the next ones are decoded.
        encoded = ((batch, encode_batch(encoder, batch)) for batch in in_runs(ahead, batch_size))
        for number, chunk in enumerate(in_runs(encoded, chunk_batches), start=done):
            slots = [slot for batch, _ in chunk for slot in batch]
            on_slots(len(slots), [slot.fault for slot in slots if slot.fault])
            partial.add(number, slots, np.concatenate([embeddings for _, embeddings in chunk]))
            if should_stop():
                return False
    finally:
        ahead.close()
    return True


def encode_batch(encoder: FrameEncoder, batch: list[Slot]) -> np.ndarray:
    """(B, dim) float32, zero where a slot has no frame."""
    embeddings = np.zeros((len(batch), encoder.dim), dtype=np.float32)
    there = [place for place, slot in enumerate(batch) if slot.image is not None]
    if there:
        images = np.stack([image for slot in batch if (image := slot.image) is not None])
        embeddings[there] = encoder.encode(images)
    if not np.isfinite(embeddings).all() or np.abs(embeddings).max(initial=0) > np.finfo(np.float16).max:
        raise ValueError(f"encoder {encoder.name}: embeddings that half precision cannot hold; check its weights")
    return embeddings


def in_runs(items: Iterable[T], length: int) -> Iterator[list[T]]:
    """Lists of `length` items, the last one shorter."""
    run: list[T] = []
    for item in items:
        run.append(item)
        if len(run) == length:
            yield run
            run = []
    if run:
        yield run


@final
class ReadAhead:
    """Slots decoded, cut to the view and scaled in a thread of their own, while the encoder works."""

    def __init__(
        self, open_slots: Callable[[], Iterator[Slot]], encoder: FrameEncoder, view: FieldOfView | None
    ) -> None:
        self.queue: queue.Queue[Slot | Exception | None] = queue.Queue(maxsize=AHEAD)
        self.closed = threading.Event()
        self.open_slots, self.encoder, self.view = open_slots, encoder, view
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        try:
            for slot in self.open_slots():
                self._put(self._prepared(slot))
                if self.closed.is_set():
                    return
            self._put(None)
        except Exception as error:  # handed to whoever reads
            self._put(error)

    def _prepared(self, slot: Slot) -> Slot:
        """The slot with its picture as the encoder takes it."""
        if slot.image is None:
            return slot
        image = slot.image if self.view is None else self.view.apply(slot.image)
        return Slot(slot.number, slot.time_s, slot.frame, self.encoder.resize(image), slot.fault)

    def _put(self, item: Slot | Exception | None) -> None:
        while not self.closed.is_set():
            with suppress(queue.Full):
                self.queue.put(item, timeout=0.2)
                return

    def __iter__(self) -> Iterator[Slot]:
        while True:
            item = self.queue.get()
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item

    def close(self) -> None:
        """Stop reading."""
        self.closed.set()
        self.thread.join(timeout=10)
