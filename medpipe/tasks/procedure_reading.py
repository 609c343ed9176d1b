"""Slots, view and header of one procedure, a file or a folder of frames alike."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import numpy as np

from medpipe.datasets.procedures import ProcedureSource
from medpipe.video.decoding import Decoder, video_facts, video_slots
from medpipe.video.field_of_view import FieldOfView, find_field_of_view
from medpipe.video.frame_folders import folder_slots, list_frames, odd_sizes, read_image
from medpipe.video.overview import pictures_all_over
from medpipe.video.slots import Slot, num_slots

LOOKED_AT = 24  # pictures to find the view in


@final
class ProcedureReader:
    """One procedure, ready to be read. Raises DataFault where it cannot be."""

    def __init__(self, source: ProcedureSource, *, decoder: Decoder = "auto") -> None:
        self.source = source
        self.decoder: Decoder = decoder
        self.folder = list_frames(source.path, source.fps) if source.fps is not None else None
        self.facts: dict[str, Any] = {}
        self.notes: list[str] = []
        if self.folder is None:
            header = video_facts(source.path)
            self.facts = {"header_fps": round(header.header_fps, 3), "header_frames": header.num_frames}
            self.facts |= {"width": header.width, "height": header.height}
        else:
            self.facts = {
                "fps": self.folder.fps,
                "frames": len(self.folder.files),
                "numbers_missing": self.folder.missing,
            }
            odd = odd_sizes(self.folder)
            if odd:
                self.notes.append(f"{len(odd)} frames of another size or colour than most: {', '.join(odd[:5])}")

    def slots(self, rate_hz: float, first: int = 0) -> Iterator[Slot]:
        """The slots from `first` on."""
        if self.folder is not None:
            return folder_slots(self.folder, rate_hz, first_slot=first)
        return video_slots(self.source.path, rate_hz, first_slot=first, decoder=self.decoder)

    def expected_slots(self, rate_hz: float) -> int:
        """About how many slots there are, for progress alone: a file's header only guesses."""
        if self.folder is not None:
            return num_slots(self.folder.duration_s, rate_hz)
        return int(self.facts["header_frames"] / max(self.facts["header_fps"], 1e-3) * rate_hz)

    def identity(self) -> str:
        """A hash of what the procedure is made of: names and sizes of its files."""
        files = list(self.folder.files.values()) if self.folder is not None else [self.source.path]
        text = "\0".join(f"{file.name} {file.stat().st_size}" for file in files)
        return hashlib.sha256(text.encode()).hexdigest()

    def field_of_view(self) -> FieldOfView:
        """The endoscope's view, from pictures all over the procedure."""
        if self.folder is not None:
            pictures = self._pictures_of_folder()
        else:
            pictures = pictures_all_over(self.source.path, LOOKED_AT, decoder=self.decoder)
        return find_field_of_view(pictures or [np.zeros((64, 64, 3), dtype=np.uint8)])

    def _pictures_of_folder(self) -> list[np.ndarray]:
        assert self.folder is not None
        files = list(self.folder.files.values())
        chosen = [files[place] for place in np.linspace(0, len(files) - 1, LOOKED_AT).astype(int)]
        return [image for file in dict.fromkeys(chosen) if (image := read_image(file)[0]) is not None]


def stem_of(path: Path) -> str:
    """A procedure's id from its path."""
    return path.stem if path.is_file() else path.name.removesuffix("_frames")
