"""Entries of JSON arrays, JSON Lines and tables, each with its place; what cannot be parsed is a fault, not an end."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medpipe.geometry.faults import DataFault

Entry = tuple[str, dict[str, Any]]  # place ("entry 3", "line 17"), content


def read_entries(path: Path, faults: list[DataFault]) -> Iterator[Entry]:
    """Every object of a JSON array, of JSON Lines, or of a CSV or TSV table; told apart by content, not by suffix.

    A single JSON object is one entry. A broken line or an entry that is no object is added to `faults` and passed over.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        faults.append(DataFault(path, "no such file"))
        return
    except UnicodeDecodeError as error:
        faults.append(DataFault(path, f"not UTF-8 (byte {error.start})"))
        return
    if not text.strip():
        faults.append(DataFault(path, "empty file"))
    elif path.suffix.lower() in (".csv", ".tsv"):
        yield from _table(path, text, faults)
    elif text.lstrip()[0] == "[":
        yield from _array(path, text, faults)
    else:
        yield from _lines(path, text, faults)


def _array(path: Path, text: str, faults: list[DataFault]) -> Iterator[Entry]:
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        faults.append(DataFault(path, f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"))
        return
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry, dict):
            yield f"entry {number}", entry
        else:
            faults.append(DataFault(path, f"entry {number}: expected an object, got {type(entry).__name__}"))


def _lines(path: Path, text: str, faults: list[DataFault]) -> Iterator[Entry]:
    try:  # one object over several lines
        whole = json.loads(text)
        if isinstance(whole, dict):
            yield "entry 1", whole
            return
    except json.JSONDecodeError:
        pass
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            faults.append(DataFault(path, f"line {number}: not JSON: {error.msg} at column {error.colno}"))
            continue
        if isinstance(entry, dict):
            yield f"line {number}", entry
        else:
            faults.append(DataFault(path, f"line {number}: expected an object, got {type(entry).__name__}"))


def _table(path: Path, text: str, faults: list[DataFault]) -> Iterator[Entry]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=lines[0].count)
    csv.field_size_limit(2**31 - 1)  # tables of other harnesses hold whole images as base64
    rows = csv.reader(lines, delimiter=delimiter)
    header = [name.strip() for name in next(rows)]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        faults.append(DataFault(path, f"columns {', '.join(twice)} stand there twice"))
        return
    for number, row in enumerate(rows, start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            faults.append(DataFault(path, f"line {number}: {len(row)} cells, the header has {len(header)}"))
            continue
        yield f"line {number}", {name: cell.strip() for name, cell in zip(header, row, strict=True)}
