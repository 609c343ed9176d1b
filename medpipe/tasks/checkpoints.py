"""The file to resume a training from, and the best weights beside it: whole or absent, and free of code.

checkpoint.ckpt     step, weights, optimiser, average, loss scaling, best score, the values that decide the result
best-<step>.ckpt    the weights with the best validation, named by the checkpoint that knows them
"""

import os
import time
from pathlib import Path
from typing import Any

import torch

from medpipe.tasks.processes import Processes

CHECKPOINT_FILE = "checkpoint.ckpt"
FORMAT = 1
SECONDS_TO_APPEAR = 120.0  # of a file on a shared file system: other nodes may see an older state for so long


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write beside `path`, force to disk, rename: a kill at any moment leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")  # one name: what a killed run left is overwritten by the next
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_state(path: Path) -> dict[str, Any]:
    """Read a state on the CPU; only tensors and plain values are accepted, never code."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path}: not a checkpoint of medpipe ({error}); remove it to start this training anew"
        ) from error


def read_checkpoint(folder: Path, identity: dict[str, Any], *, accept_changes: bool) -> dict[str, Any] | None:
    """The state to go on from, or None. `identity`: the values that decide the result.

    Raises ValueError where they differ from those of the checkpoint, unless `accept_changes`.
    """
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    state = load_state(path)
    if state.get("format") != FORMAT:
        raise ValueError(f"{path}: format {state.get('format')!r}, expected {FORMAT}; remove it to start anew")
    before = state["identity"]
    changes = [
        f"{name} {before.get(name)!r} -> {identity.get(name)!r}"
        for name in sorted({*before, *identity})
        if before.get(name) != identity.get(name)
    ]
    if changes and not accept_changes:
        raise ValueError(
            f"{path}: saved at step {state['step']} with other values ({'; '.join(changes)}); "
            "set them back, or remove the file to start this training anew"
        )
    return state


def agreed_checkpoint(
    folder: Path, identity: dict[str, Any], *, accept_changes: bool, processes: Processes
) -> dict[str, Any] | None:
    """`read_checkpoint` of all processes: each reads the file, at the step that the first one found in it."""
    if processes.size == 1:
        return read_checkpoint(folder, identity, accept_changes=accept_changes)
    state = read_checkpoint(folder, identity, accept_changes=accept_changes) if processes.is_first else None
    place = processes.of_first(None if state is None else (state["step"], state["pending"] is None))
    if processes.is_first or place is None:
        return state
    deadline = time.monotonic() + SECONDS_TO_APPEAR
    while True:
        state = read_checkpoint(folder, identity, accept_changes=accept_changes)
        if state is not None and (state["step"], state["pending"] is None) == place:
            return state
        if time.monotonic() > deadline:
            raise ValueError(
                f"{folder / CHECKPOINT_FILE}: {processes.world.name()} does not see the save of step {place[0]} that "
                "the first process sees; is the folder on a file system that all nodes share?"
            )
        time.sleep(1.0)


def best_path(folder: Path, step: int) -> Path:
    return folder / f"best-{step:08d}.ckpt"


def remove_other_best(folder: Path, step: int | None) -> None:
    """Keep the best weights of `step` alone: those that the checkpoint names."""
    for path in folder.glob("best-*.ckpt"):
        if step is None or path != best_path(folder, step):
            path.unlink(missing_ok=True)
