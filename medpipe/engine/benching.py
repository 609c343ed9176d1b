"""`medpipe bench`: time the configurations of the GPU kernels on this machine."""

import sys
from collections.abc import Sequence
from pathlib import Path


def bench_command(
    what: str, *, tune: bool, table: Path | None, widths: Sequence[int] | None, processes: int, result: Path | None
) -> int:
    """Each configuration checked, then timed; with `tune` the fastest of each case goes into the table."""
    try:
        from medpipe.kernels.sigmoid_attention import tuning
    except ModuleNotFoundError as error:
        print(f"medpipe bench {what}: {error}; install medpipe[triton]", file=sys.stderr)
        return 1
    target = (table or tuning.TABLE) if tune else None
    try:
        tuning.tune(list(widths or [16, 64, 128]), processes=processes, table=target, result=result)
    except RuntimeError as error:
        print(f"medpipe bench {what}: {error}", file=sys.stderr)
        return 1
    print(f"written: {target}" if target else "the table is as it was; --tune writes it")
    return 0
