"""How a run speaks: bars with the time left on a terminal, plain lines elsewhere, all of it in the stage's log."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

SECONDS_BETWEEN_LINES = 15.0  # of plain progress: a night's log stays readable

log = logging.getLogger("medpipe")


@final
class PlainProgress:
    """Progress as lines: at the first item, then every SECONDS_BETWEEN_LINES, and at the end."""

    def __init__(self, console: Console, label: str, total: int, done: int) -> None:
        self.console, self.label, self.total, self.done = console, label, total, done
        self.first, self.began, self.spoke = done, time.monotonic(), 0.0
        self.note = ""

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done, self.note = self.done + count, note or self.note
        at_end = self.done >= self.total
        if at_end or time.monotonic() - self.spoke >= SECONDS_BETWEEN_LINES:
            self.spoke = time.monotonic()
            self.console.print(self._line(), highlight=False, soft_wrap=True)

    def _line(self) -> str:
        elapsed = time.monotonic() - self.began
        rate = (self.done - self.first) / elapsed if elapsed > 0 else 0.0
        left = f", {duration((self.total - self.done) / rate)} left" if rate > 0 and self.done < self.total else ""
        took = f", {duration(elapsed)}" if self.done >= self.total else ""
        return f"  {self.label}: {self.done}/{self.total}{left}{took}{'  ' + self.note if self.note else ''}"


@final
class BarProgress:
    """Progress as one bar with the time left."""

    def __init__(self, bars: RichProgress, label: str, total: int, done: int) -> None:
        self.bars = bars
        self.task = bars.add_task(label, total=total, completed=done, note="")

    def advance(self, count: int = 1, note: str = "") -> None:
        self.bars.advance(self.task, count)
        if note:
            self.bars.update(self.task, note=note)


@final
class RunOutput:
    """What stages speak through. `console.is_terminal` decides between bars and lines."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        self.console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)
        log.info(text)

    def warn(self, text: str) -> None:
        log.warning(text)  # reaches the terminal by `logged_to`, as the warnings of every layer do

    @contextmanager
    def progress(self, label: str, total: int, done: int = 0) -> Iterator[PlainProgress | BarProgress]:
        if not self.console.is_terminal:
            yield PlainProgress(self.console, label, total, done)
            return
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        left = (TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
        with RichProgress(*columns, *left, console=self.console) as bars:
            yield BarProgress(bars, label, total, done)


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


class Spoken(logging.Handler):
    """Shows warnings of medpipe on the terminal, each once a stage."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self.addFilter(lambda record: record.levelno < logging.ERROR)  # errors are told at the end of the run
        self.console, self.said = console, set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self.said:
            self.said.add(text)
            self.console.print(f"  note: {text}", style="yellow", highlight=False, markup=False, soft_wrap=True)


@contextmanager
def logged_to(path: Path, console: Console) -> Iterator[None]:
    """Append what medpipe and the libraries log to `path` as JSON lines; show medpipe's warnings on the terminal."""
    kept = logging.FileHandler(path, encoding="utf-8")
    kept.setFormatter(JsonLines())
    spoken = Spoken(console)
    root, level = logging.getLogger(), log.level
    root.addHandler(kept)
    log.addHandler(spoken)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(kept)
        log.removeHandler(spoken)
        log.setLevel(level)
        kept.close()


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
