"""`medpipe watch`: phase and withdrawal time as frames arrive, from a file played at its own speed or a live source.

Frames are dropped, never queued: whoever looks at the screen sees now, not some seconds ago. Only a causal network can
be watched; the answer for a frame comes after the network's and the decoding's lag, which every line states.
"""

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from medpipe.geometry.faults import DataFault
from medpipe.metrics.phases import CAECUM, OUTSIDE, PHASES
from medpipe.metrics.withdrawal import SUSTAINED_S

if TYPE_CHECKING:
    from medpipe.video.slots import Slot


@final
class Newest:
    """A place for one thing: what is put in replaces what nobody took, and is counted."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.item: Any = None
        self.over = False
        self.dropped = 0

    def put(self, item: Any) -> None:
        """Replace what is there."""
        with self.condition:
            self.dropped += self.item is not None
            self.item = item
            self.condition.notify()

    def end(self) -> None:
        """Nothing more will come."""
        with self.condition:
            self.over = True
            self.condition.notify()

    def take(self) -> Any:
        """The newest thing, waited for; None once all is over."""
        with self.condition:
            self.condition.wait_for(lambda: self.item is not None or self.over)
            item, self.item = self.item, None
            return item


@final
@dataclass
class Clock:
    """The elapsed withdrawal, from the first caecum that lasts, as far as is known now."""

    run_since_s: float | None = None
    caecum_at_s: float | None = None
    outside_s: float = 0.0
    last_s: float = 0.0

    def see(self, time_s: float, phase: int) -> None:
        """The next frame's phase."""
        if phase == CAECUM:
            self.run_since_s = time_s if self.run_since_s is None else self.run_since_s
            if self.caecum_at_s is None and time_s - self.run_since_s >= SUSTAINED_S:
                self.caecum_at_s = self.run_since_s
        else:
            self.run_since_s = None
        if self.caecum_at_s is not None and phase == OUTSIDE:
            self.outside_s += time_s - self.last_s
        self.last_s = time_s

    @property
    def elapsed_s(self) -> float | None:
        """Since the caecum, without the time outside; None before it was reached."""
        return None if self.caecum_at_s is None else self.last_s - self.caecum_at_s - self.outside_s


def watch_command(
    video: Path,
    model: Path,
    *,
    fps: float | None,
    weights: Path | None,
    as_fast: bool,
    as_json: bool,
    lag_s: float = 0.0,
) -> int:
    """Print a line whenever the phase changes, and one a second; the exit code."""
    from medpipe.datasets.procedures import ProcedureSource
    from medpipe.tasks.procedure_reading import ProcedureReader

    reader = ProcedureReader(ProcedureSource(video.stem, video, folder_fps(video, fps), None))
    watcher = Watcher.load(model, weights, reader, lag_s)
    print(f"research use only; {watcher.headline()}", file=sys.stderr)
    began = time.monotonic()
    newest = Newest()
    slots = iter(watcher.reader.slots(watcher.rate_hz))
    feeder = threading.Thread(target=feed, args=(slots, newest, as_fast), daemon=True)
    if not as_fast:
        feeder.start()
    for slot in slots if as_fast else iter(newest.take, None):
        for line in watcher.see(slot):
            say(line, as_json)
    for line in watcher.finish():
        say(line, as_json)
    seconds = time.monotonic() - began
    print(
        f"{watcher.seen} frames in {seconds:.1f} s, {newest.dropped} dropped; median "
        f"{watcher.median_ms():.1f} ms a frame",
        file=sys.stderr,
    )
    return 0


def folder_fps(video: Path, fps: float | None) -> float | None:
    """The rate of a folder of frames. Raises DataFault: a folder without a rate, or nothing there."""
    if not video.exists():
        raise DataFault(video, "no such file or folder")
    if video.is_dir() and fps is None:
        raise DataFault(video, "a folder of frames: say how fast they were taken by --fps")
    return fps if video.is_dir() else None


def feed(slots: "Iterator[Slot]", newest: Newest, as_fast: bool) -> None:
    """Play the slots at the speed of their time stamps."""
    began = time.monotonic()
    try:
        for slot in slots:
            time.sleep(max(0.0, slot.time_s - (time.monotonic() - began)))
            newest.put(slot)
    finally:
        newest.end()


def say(line: dict[str, Any], as_json: bool) -> None:
    """One line to standard output, at once."""
    if as_json:
        print(json.dumps(line), flush=True)
        return
    elapsed = line["withdrawal_s"]
    clock = "caecum not reached" if elapsed is None else f"withdrawal {int(elapsed) // 60:02d}:{int(elapsed) % 60:02d}"
    at = f"{int(line['time_s']) // 60:02d}:{line['time_s'] % 60:04.1f}"
    print(f"{at}  {line['phase']:<11} {line['confidence']:.2f}  {clock}  (lag {line['lag_s']:.1f} s)", flush=True)


@final
class Watcher:
    """Encoder, causal network and decoder, fed slot by slot."""

    def __init__(self, reader: Any, encoder: Any, network: Any, record: Any, lag_s: float = 0.0) -> None:
        from medpipe.tasks.phase_decoding import LiveViterbi, PhaseDynamics
        from medpipe.tasks.phase_options import DecodingConfig

        self.reader, self.encoder = reader, encoder
        self.rate_hz = float(record.embeddings["rate_hz"])
        self.view = reader.field_of_view() if "cropped" in record.embeddings["preprocessing"] else None
        self.stream = network.stream()
        decoding = DecodingConfig(online=True, lag_s=lag_s)
        self.live = LiveViterbi(PhaseDynamics.from_json(record.dynamics), 1 / self.rate_hz, decoding)
        self.lag_s = (self.stream.lag + self.live.lag) / self.rate_hz
        self.clock, self.seen, self.expected = Clock(), 0, 0
        self.last_phase, self.last_said_s, self.last_confidence = -1, -1.0, 0.0
        self.waiting: deque[Any] = deque()  # probabilities of the frames within the lag
        self.answered = 0
        self.milliseconds: list[float] = []

    @classmethod
    def load(cls, model: Path, weights: Path | None, reader: Any, lag_s: float = 0.0) -> "Watcher":
        """From a folder of weights. Raises DataFault: not there, not causal, or an encoder with other weights."""
        import torch

        from medpipe.tasks.frame_encoders import build_encoder
        from medpipe.tasks.frame_options import ENCODERS, EncoderConfig
        from medpipe.tasks.phase_model import load_phase_model

        network, record = load_phase_model(model)
        name = record.embeddings["encoder"]
        if name.partition(" ")[0] not in ENCODERS:
            raise DataFault(model, f"trained on embeddings {name!r}, which no frame can be turned into")
        if name == "transformers" and weights is None:
            raise DataFault(
                model, "trained on embeddings of a model of transformers; give its folder: --encoder-weights"
            )
        size = int(record.embeddings["preprocessing"].partition("x")[0].rsplit(" ", 1)[-1])
        config = EncoderConfig.of_title(name, weights=weights, size=size)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        encoder = build_encoder(config, device=device)
        if encoder.weights != record.embeddings["weights"]:
            theirs, these = record.embeddings["weights"][:12], encoder.weights[:12]
            reason = f"trained on embeddings of {name} with weights {theirs}, these are {these}; give --encoder-weights"
            raise DataFault(model, reason)
        try:
            return cls(reader, encoder, network, record, lag_s)
        except ValueError as error:
            raise DataFault(model, str(error)) from None

    def headline(self) -> str:
        """What is watched with what."""
        return f"{self.encoder.name}, {self.rate_hz:g} frames a second, an answer {self.lag_s:.1f} s after its frame"

    def see(self, slot: "Slot") -> Iterator[dict[str, Any]]:
        """Take a slot; slots dropped before it enter the network as missing, so that its time goes right."""
        began = time.perf_counter()
        for _ in range(self.expected, slot.number):
            yield from self._answer(self.stream.step(None))
        vector = None
        if slot.image is not None:
            image = slot.image if self.view is None else self.view.apply(slot.image)
            vector = self.encoder.encode(self.encoder.resize(image)[None])[0]
            # As training saw it: kept in half precision.
            vector = vector.astype("float16").astype("float32")
            self.seen += 1
        self.expected = slot.number + 1
        logits = self.stream.step(vector)
        self.milliseconds.append(1000 * (time.perf_counter() - began))
        yield from self._answer(logits)

    def finish(self) -> Iterator[dict[str, Any]]:
        """The answers that were still waited for."""
        for logits in self.stream.flush():
            yield from self._answer(logits)
        for phase in self.live.flush():
            yield from self._take(phase)
        if self.answered:
            yield self._line(self.last_phase, self.last_confidence) | {"end": True}

    def _answer(self, logits: Any) -> Iterator[dict[str, Any]]:
        """Decode one frame's logits; a line where the phase changes or a second has gone by."""
        import numpy as np

        if logits is None:
            return
        odds = np.exp(logits - logits.max())
        probabilities = odds / odds.sum()
        self.waiting.append(probabilities)
        phase = self.live.step(probabilities)
        if phase is not None:
            yield from self._take(phase)

    def _take(self, phase: int) -> Iterator[dict[str, Any]]:
        """The phase of the frame that has waited longest; its own probability says how sure it is."""
        time_s = self.answered / self.rate_hz
        self.answered += 1
        self.last_confidence = float(self.waiting.popleft()[phase])
        self.clock.see(time_s, phase)
        if phase != self.last_phase or time_s - self.last_said_s >= 1:
            self.last_phase, self.last_said_s = phase, time_s
            yield self._line(phase, self.last_confidence)

    def _line(self, phase: int, confidence: float) -> dict[str, Any]:
        return {
            "time_s": round(self.clock.last_s, 2),
            "phase": PHASES[phase],
            "confidence": round(confidence, 3),
            "withdrawal_s": None if self.clock.elapsed_s is None else round(self.clock.elapsed_s, 1),
            "lag_s": self.lag_s,
        }

    def median_ms(self) -> float:
        """From a frame to its logits."""
        from statistics import median

        return median(self.milliseconds) if self.milliseconds else 0.0
