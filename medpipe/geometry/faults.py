"""What is wrong with somebody's data, by file: the errors that end a command with exit code 3."""

from collections.abc import Sequence
from pathlib import Path


class DataFault(ValueError):
    """One fault of one file or folder."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type["DataFault"], tuple[Path, str]]:
        # An exception with two arguments and one message does not survive pickling between processes by itself.
        return DataFault, (self.path, self.reason)


class DataFaults(ValueError):
    """All faults that one pass over the data found."""

    def __init__(self, faults: Sequence[DataFault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)

    def __reduce__(self) -> tuple[type["DataFaults"], tuple[tuple[DataFault, ...]]]:
        return DataFaults, (self.faults,)
