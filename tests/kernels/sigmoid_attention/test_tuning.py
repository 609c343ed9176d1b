"""The shipped table and what may be written into it; timing itself needs a GPU."""

import importlib.util
import json

import pytest
import torch

from medpipe.kernels.sigmoid_attention import triton_launch
from medpipe.kernels.sigmoid_attention.triton_launch import Configuration, table

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no triton: Linux alone has it")


def test_every_kernel_has_an_entry_that_any_gpu_takes_for_every_width() -> None:
    for kernel in ("forward", "queries", "keys", "additive"):
        for width in (16, 32, 64, 128, 256):
            for itemsize in (2, 4):
                assert Configuration(*table()[kernel][f"{width}/{itemsize}"]).reads == "pointers"


def test_every_entry_stands_under_a_name_that_is_looked_up() -> None:
    lengths = {"tiny": 256, "short": 512, "middle": 2048, "long": 4096, "huge": 5000}
    for rows in table().values():
        for name, values in rows.items():
            width, itemsize, *rest = name.split("/")
            if rest:
                length, kind = rest
                names = triton_launch.keys_of_table(int(width), int(itemsize), lengths[length], kind)
                assert names[0] == name
            found = Configuration(*values)
            assert all(side & (side - 1) == 0 and side >= 16 for side in (found.queries, found.keys)), name
            assert found.warps in (1, 2, 4, 8), name
            assert found.reads in ("pointers", "descriptors"), name
            assert found.weights == "polynomial", "the faster forms are not shipped before a GPU has run their test"


@needs_triton
def test_a_table_is_read_back_as_it_was_written() -> None:
    from medpipe.kernels.sigmoid_attention import tuning

    assert json.loads(tuning.render(table())) == table()
    assert tuning.TABLE.read_text(encoding="utf-8") == tuning.render(table())


@needs_triton
def test_candidates_fit_their_cases() -> None:
    from medpipe.kernels.sigmoid_attention import tuning

    for case in tuning.cases([16, 64, 128]):
        for kernel in tuning.KERNELS:
            tried = tuning.candidates(kernel, case)
            assert len(set(tried)) == len(tried)
            assert bool(tried) == (kernel != "additive" or case.kind == "tiles")
            if case.length not in ("tiny", "short"):
                assert all(one.weights != "tanh" for one in tried), "its error is below bf16's rounding to 512 keys"


@needs_triton
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_tuning_without_a_gpu_is_refused() -> None:
    from medpipe.kernels.sigmoid_attention import tuning

    with pytest.raises(RuntimeError, match="tuning needs a CUDA device"):
        tuning.tune([64])


@needs_triton
def test_what_a_candidate_does_not_write_is_no_number() -> None:
    from medpipe.kernels.sigmoid_attention import tuning

    del_me = torch.ones(1000)  # memory that is likely to be handed out again
    del del_me
    with tuning.unwritten_is_nan():
        assert torch.empty(1000).isnan().all()
        assert torch.ones(3).new_empty(3, 5).isnan().all()
    assert not torch.are_deterministic_algorithms_enabled()
