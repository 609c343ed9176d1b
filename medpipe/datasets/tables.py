"""CSV tables as people write them: comma, semicolon or tab, Windows line ends, a byte-order mark, stray spaces."""

import csv
from collections.abc import Sequence
from pathlib import Path

from medpipe.geometry.faults import DataFault


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows as {column: cell}, both stripped; rows without any content are left out.

    Raises DataFault for a missing file, a missing column, an empty cell in `columns` or text that is not UTF-8.
    """
    if not path.is_file():
        raise DataFault(path, "no such file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise DataFault(path, f"not UTF-8 (byte {error.start}); save the table as UTF-8 CSV") from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
    names = rows[0] if rows else []
    missing = [column for column in columns if column not in names]
    if missing:
        raise DataFault(path, f"no column {', '.join(missing)}; it has {', '.join(names) or 'none'}")
    found = [dict(zip(names, row, strict=False)) for row in rows[1:] if any(row)]
    for number, row in enumerate(found, start=1):
        empty = [column for column in columns if not row.get(column)]
        if empty:
            raise DataFault(path, f"row {number}: no {', '.join(empty)}")
    return found
