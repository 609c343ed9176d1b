import os
from pathlib import Path

import pytest
import torch

from medpipe.tasks.checkpoints import (
    CHECKPOINT_FILE,
    FORMAT,
    best_path,
    load_state,
    read_checkpoint,
    remove_other_best,
    save_atomically,
)


def test_a_save_that_is_cut_off_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / CHECKPOINT_FILE
    save_atomically({"step": 1}, path)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_atomically({"step": 2}, path)
    assert load_state(path) == {"step": 1}


def test_other_values_are_refused_by_name_unless_accepted(tmp_path: Path) -> None:
    state = {"format": FORMAT, "step": 7, "identity": {"num_steps": 10, "seed": 0}}
    save_atomically(state, tmp_path / CHECKPOINT_FILE)
    changed = {"num_steps": 20, "seed": 0}
    assert read_checkpoint(tmp_path, state["identity"], accept_changes=False) == state
    with pytest.raises(ValueError, match=r"saved at step 7 with other values \(num_steps 10 -> 20\)"):
        read_checkpoint(tmp_path, changed, accept_changes=False)
    assert read_checkpoint(tmp_path, changed, accept_changes=True) == state


def test_no_checkpoint_is_none_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path, {}, accept_changes=False) is None
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"PK half")
    with pytest.raises(ValueError, match=r"checkpoint.ckpt: not a checkpoint"):
        read_checkpoint(tmp_path, {}, accept_changes=False)


class Code:
    def __reduce__(self) -> tuple:
        return os.system, ("true",)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    torch.save({"step": Code()}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        load_state(tmp_path / "evil.ckpt")


def test_only_the_named_best_weights_stay(tmp_path: Path) -> None:
    for step in (4, 8):
        save_atomically({"step": step}, best_path(tmp_path, step))
    remove_other_best(tmp_path, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["best-00000004.ckpt"]
    remove_other_best(tmp_path, None)
    assert not list(tmp_path.iterdir())
