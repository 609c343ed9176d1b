"""Patches for training: sample number n is the same patch in any process, in any order, after any restart."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medpipe.config.base import Config
from medpipe.datasets.augmentation import (
    AugmentationConfig,
    augment_intensity,
    check_mirroring,
    draw_mirrored_axes,
    draw_spatial,
)
from medpipe.datasets.label_store import Output, decode_target
from medpipe.datasets.prepared import BODY, PreparedCase
from medpipe.datasets.preprocessing import AIR_HU, Preprocessing
from medpipe.datasets.sampling import PatchSampler, Placement

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import Dataset

    _Base = Dataset[dict[str, Tensor]]
else:
    _Base = object  # torch takes any map-style object; the configs here must load without it

# What a key is for: draws of the two kinds never share a stream.
CASE_ORDER, SAMPLE = 0, 1

PositiveInt = Annotated[int, Field(ge=1)]


class PatchConfig(Config):
    """Size of the patches and how they are placed."""

    size: tuple[PositiveInt, PositiveInt, PositiveInt]  # voxels, (D, H, W)
    foreground_fraction: float = Field(default=0.33, ge=0, le=1)  # share of a batch centred on a labelled voxel


class PatchDataset(_Base):
    """Patches of prepared cases, by sample number. Map-style; any number from 0 on is valid, len() is one epoch.

    Every draw is keyed by (seed, sample number). Sample n takes case n % N of a permutation of the N cases that is
    keyed by (seed, n // N): within an epoch each case comes once.

    nnU-Net's foreground rule: the last third of a batch (rounded) is centred on a labelled voxel, of a structure drawn
    among those present, each with equal chance; the rest lies anywhere in the volume. A batch of one draws instead.
    Without `structures` a voxel of the body takes the labelled voxel's place.

    Parts of a patch outside the scan are air, and background in the target.
    """

    def __init__(
        self,
        prepared: Sequence[PreparedCase],
        *,
        structures: Sequence[str],
        output: Output | None,
        preprocessing: Preprocessing,
        patches: PatchConfig,
        augmentation: AugmentationConfig | None,
        batch_size: int,
        seed: int,
    ) -> None:
        """Raises ValueError for what cannot be trained on: no cases, an unknown structure, left-right mirroring ..."""
        self.prepared = list(prepared)
        self.structures = tuple(structures)
        self.output: Output | None = output
        self.preprocessing, self.patches, self.augmentation = preprocessing, patches, augmentation
        self.batch_size, self.seed = batch_size, seed
        check_patch_request(self.prepared, self.structures, output, augmentation)
        # The rule of nnU-Net: of a batch of two, exactly one.
        self.first_foreground_position = round(batch_size * (1 - patches.foreground_fraction))

    def __len__(self) -> int:
        return len(self.prepared)

    def __getitem__(self, sample_index: int) -> "dict[str, Tensor]":
        """Tensors of one sample.

        volume (1, D, H, W) float32; case_index int64; with an `output` also is_annotated (S,) bool and target:
        softmax (D, H, W) int64 with -1 for ignored voxels, sigmoid (S, D, H, W) uint8.
        """
        import torch

        arrays = self.arrays(sample_index)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def case_of(self, sample_index: int) -> int:
        """Which case sample `sample_index` is cut from."""
        epoch, place = divmod(int(sample_index), len(self.prepared))
        order = np.random.default_rng([self.seed, CASE_ORDER, epoch]).permutation(len(self.prepared))
        return int(order[place])

    def arrays(self, sample_index: int) -> dict[str, NDArray[Any]]:
        """The sample as numpy arrays, contiguous."""
        if sample_index < 0:
            raise IndexError(f"sample {sample_index}: samples are numbered from 0")
        case_index = self.case_of(sample_index)
        case = self.prepared[case_index]
        rng = np.random.default_rng([self.seed, SAMPLE, int(sample_index)])
        is_foreground = self._is_foreground(sample_index, rng)
        sampler = PatchSampler(self._place(case, is_foreground, rng))
        arrays: dict[str, NDArray[Any]] = {"volume": self.preprocessing.normalise(sampler.image(case.image(), AIR_HU))}
        if self.output is not None:
            arrays["target"] = self._target(case, sampler)
        if self.augmentation is not None:
            self._change(arrays, self.augmentation, rng)
        arrays["volume"] = arrays["volume"][None]
        if self.output is not None:
            arrays["is_annotated"] = np.array([case.is_annotated(name) for name in self.structures], dtype=bool)
        arrays["case_index"] = np.array(case_index, dtype=np.int64)
        return {name: np.asarray(array, order="C") for name, array in arrays.items()}

    def _is_foreground(self, sample_index: int, rng: np.random.Generator) -> bool:
        drawn = rng.random() < self.patches.foreground_fraction
        if self.batch_size == 1:
            return bool(drawn)
        return sample_index % self.batch_size >= self.first_foreground_position

    def _place(self, case: PreparedCase, is_foreground: bool, rng: np.random.Generator) -> Placement:
        size = np.asarray(self.patches.size)
        shape = np.asarray(case.grid.shape)
        uniform = rng.random(3)
        voxel = self._voxel(case, rng) if is_foreground else None
        # A volume smaller than the patch is centred in it.
        room = shape - size
        start = np.where(room > 0, np.floor(uniform * (room + 1)), np.floor(room / 2))
        if voxel is not None:
            start = np.where(room > 0, np.clip(voxel - size // 2, 0, np.maximum(room, 0)), start)
        matrix = draw_spatial(self.augmentation, case.grid.spacing_mm, rng) if self.augmentation else None
        return Placement(start + (size - 1) / 2, self.patches.size, matrix)

    def _voxel(self, case: PreparedCase, rng: np.random.Generator) -> NDArray[np.int32] | None:
        """A voxel to centre on, or None where the case has none: then the patch lies anywhere."""
        if self.structures:
            present = [name for name in self.structures if case.is_annotated(name) and case.num_voxels.get(name)]
        else:
            present = [BODY]
        which, at = rng.random(2)
        if not present:
            return None
        voxels = case.sampled_voxels(present[int(which * len(present))])
        return np.array(voxels[int(at * len(voxels))]) if len(voxels) else None

    def _target(self, case: PreparedCase, sampler: PatchSampler) -> NDArray[Any]:
        stored = case.labels()
        assert self.output is not None
        if stored is None:
            empty = np.zeros(self.patches.size, dtype=np.int16)
            return decode_target(empty, "label_map", (), self.structures, self.output)
        return decode_target(sampler.labels(stored), case.label_kind, case.structures, self.structures, self.output)

    def _change(
        self, arrays: dict[str, NDArray[Any]], augmentation: AugmentationConfig, rng: np.random.Generator
    ) -> None:
        arrays["volume"] = augment_intensity(arrays["volume"], augmentation, rng)
        axes = tuple(axis - 3 for axis in draw_mirrored_axes(augmentation, rng))
        if axes:
            for name, array in arrays.items():
                arrays[name] = np.flip(array, axes)


def check_patch_request(
    prepared: Sequence[PreparedCase],
    structures: Sequence[str],
    output: Output | None,
    augmentation: AugmentationConfig | None,
) -> None:
    """ValueError, with the way out, for a request that the cases cannot serve."""
    if not prepared:
        raise ValueError("no cases to cut patches from")
    if output is None:
        if structures:
            raise ValueError(f"structures {', '.join(structures)} are given, but no output (softmax or sigmoid)")
    elif not structures:
        raise ValueError(f"output {output} needs the structures to learn")
    known = {name for case in prepared for name in case.structures}
    unknown = [name for name in structures if name not in known]
    if unknown:
        raise ValueError(
            f"no case's manifest names {', '.join(unknown)}; they name {', '.join(sorted(known)) or 'none'}"
        )
    unlearnable = [name for name in structures if not any(case.is_annotated(name) for case in prepared)]
    if unlearnable:
        raise ValueError(f"{', '.join(unlearnable)}: annotated in none of the {len(prepared)} cases")
    overlapping = [case.case_id for case in prepared if case.label_kind == "masks"]
    if output == "softmax" and overlapping:
        raise ValueError(
            f"the structures of case {overlapping[0]} may overlap (overlapping: true in its manifest), and softmax "
            "gives each voxel one structure; use output: sigmoid"
        )
    ignoring = [case.case_id for case in prepared if case.num_ignored]
    if output == "sigmoid" and ignoring:
        raise ValueError(f"case {ignoring[0]} has ignored voxels (ignore_label), which need output: softmax")
    if augmentation is not None:
        check_mirroring(structures, augmentation.mirror_axes)
