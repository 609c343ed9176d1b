"""Ask every question once: what is answered already is kept, what fails is tried again, the order of the end is
fixed."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from medpipe.datasets.question_images import read_image
from medpipe.geometry.faults import DataFault
from medpipe.language.answer_file import AnswerLog
from medpipe.language.model import Asked, Reply, VisionLanguageModel

if TYPE_CHECKING:
    from PIL.Image import Image

ImageChange = Callable[["Image"], "Image"]


@final
@dataclass(frozen=True)
class Request:
    """One question on its way to a model; `change` alters each image after it was read."""

    question_id: str
    prompt: str
    images: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()  # of the images, wherever their folder lies
    change: ImageChange | None = None
    most_pixels: int | None = None


@final
@dataclass(frozen=True)
class Outcome:
    """What came of a pass over all requests."""

    answered: int
    failed: int
    kept: int  # answered by an earlier start


class Stopped(Exception):
    """Asked to stop; what was answered is on disk."""


def answer_requests(
    requests: Sequence[Request],
    model: VisionLanguageModel,
    folder: Path,
    facts: dict[str, Any],
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_answer: Callable[[int, bool], None] = lambda count, failed: None,
    on_kept: Callable[[int], None] = lambda count: None,
    passes: int = 2,
) -> Outcome:
    """Answer all requests and leave answers.jsonl in `folder`, one line a request in their order.

    facts       what is the same for all (model, generation, ...): written with every answer, part of its key
    on_answer   called with the number of new answers and whether they failed
    on_kept     called once with the number of answers that an earlier start left
    passes      how often failed requests are asked; then they stay failed

    Raises Stopped, ModelGone: the next call goes on from there.
    """
    log = AnswerLog(folder)
    try:
        keys = {request.question_id: request_key(request, facts) for request in requests}
        open_ = [request for request in requests if not log.holds(request.question_id, keys[request.question_id])]
        kept = len(requests) - len(open_)
        if kept:
            on_kept(kept)
        for number in range(passes):
            if number:
                open_ = [request for request in requests if request.question_id in log.failed]
            for records in _answered(open_, model, facts, keys, should_stop):
                for record in records:
                    log.append(record)
                new = len(records) if number == 0 else 0
                on_answer(new, any(record["status"] == "failed" for record in records))
            if should_stop():
                raise Stopped
        failed = len(log.failed & set(keys))
        log.finish([request.question_id for request in requests])
        return Outcome(len(requests) - failed, failed, kept)
    finally:
        log.close()


def request_key(request: Request, facts: dict[str, Any]) -> str:
    """Names a request by all that its answer depends on: another prompt, model or setting is another key."""
    parts = [request.question_id, request.prompt, list(request.names), facts]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _answered(
    requests: Sequence[Request],
    model: VisionLanguageModel,
    facts: dict[str, Any],
    keys: dict[str, str],
    should_stop: Callable[[], bool],
) -> Iterator[list[dict[str, Any]]]:
    """Records as they come. Images are decoded ahead by threads; no more calls run than the model allows."""
    size = model.batch_size
    batches = [requests[start : start + size] for start in range(0, len(requests), size)]
    ahead = model.concurrency + 2
    with ThreadPoolExecutor(max(2, model.concurrency)) as readers, ThreadPoolExecutor(model.concurrency) as callers:

        def call(reading: "Future[list[Loaded]]", batch: Sequence[Request]) -> list[dict[str, Any]]:
            return _ask(reading.result(), batch, model, facts, keys)

        running: set[Future[list[dict[str, Any]]]] = set()
        error: BaseException | None = None
        waiting = iter(batches)
        while running or not (should_stop() or error):
            batch = None if should_stop() or error else next(waiting, None)
            if batch is not None:
                running.add(callers.submit(call, readers.submit(_load, batch), batch))
                if len(running) < ahead:
                    continue
            elif not running:
                break
            if should_stop() or error:
                running = {future for future in running if not future.cancel()}
            done, running = wait(running, return_when=FIRST_COMPLETED) if running else (set(), running)
            for future in done:
                error = future.exception() or error
                if future.exception() is None:
                    yield future.result()
    if error is not None:
        raise error


@final
@dataclass(frozen=True)
class Loaded:
    """The images of a request with the hash of each file, or why they cannot be had."""

    images: "tuple[Image, ...]" = ()
    hashes: tuple[str, ...] = ()
    error: str = ""


def _load(batch: Sequence[Request]) -> list[Loaded]:
    found = []
    for request in batch:
        try:
            images = tuple(read_image(path, request.most_pixels) for path in request.images)
            if request.change is not None:
                images = tuple(request.change(image) for image in images)
            hashes = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in request.images)
            found.append(Loaded(images, hashes))
        except DataFault as fault:
            found.append(Loaded(error=str(fault)))
    return found


def _ask(
    loaded: Sequence[Loaded],
    batch: Sequence[Request],
    model: VisionLanguageModel,
    facts: dict[str, Any],
    keys: dict[str, str],
) -> list[dict[str, Any]]:
    began = time.monotonic()
    askable = [(request, images) for request, images in zip(batch, loaded, strict=True) if not images.error]
    replies = (
        model.answer_all([Asked(r.question_id, r.prompt, images.images) for r, images in askable]) if askable else []
    )
    seconds = (time.monotonic() - began) / max(1, len(askable))
    by_id = {request.question_id: reply for (request, _), reply in zip(askable, replies, strict=True)}
    return [
        record_of(request, images, by_id.get(request.question_id, Reply(None, error=images.error)), facts,
                  keys[request.question_id], seconds)
        for request, images in zip(batch, loaded, strict=True)
    ]  # fmt: skip


def record_of(
    request: Request, loaded: Loaded, reply: Reply, facts: dict[str, Any], key: str, seconds: float
) -> dict[str, Any]:
    """One line of the file of answers: enough to ask the same again."""
    return {
        "question_id": request.question_id,
        "status": "failed" if reply.text is None else "answered",
        "answer": reply.text,
        "finish_reason": reply.finish_reason,
        **({"reasoning": reply.reasoning} if reply.reasoning else {}),
        **({"error": reply.error} if reply.error else {}),
        "attempts": reply.attempts,
        "seconds": round(seconds, 4),
        "prompt": request.prompt,
        "images": list(request.names),
        "image_sha256": list(loaded.hashes),
        "key": key,
        **facts,
    }
