"""Mutated files against every reader: only declared errors, no hang, nothing written outside the run's own folder.

    python benchmarks/fuzz_readers.py [--seconds 600] [--seed 0] [--result benchmarks/results/fuzz_readers.json]

Seeds are real files where the folder of real data is there (MEDPIPE_REAL_DATA, or ../shared/data), and what medpipe
itself writes. Each is damaged at random (bytes, lengths, cuts, copies, numbers, lines) and read in a worker process
with a limit on memory and time; the damage depends on seed and number alone, so that any finding can be repeated with
--only NUMBER. Exit code 1 if there was a finding.
"""

import argparse
import faulthandler
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HANG_SECONDS = 30.0
MEMORY_BYTES = 6 * 2**30
LARGEST_SEED_BYTES = 3_000_000  # a read of a larger file costs more than it can find


def read_dicom_series(path: Path) -> None:
    from medpipe.dicom.series import read_series

    read_series([path])


def read_structures(path: Path) -> None:
    from medpipe.dicom.planes import roi_mask
    from medpipe.dicom.rtstruct import is_rtstruct, read_rtstruct
    from medpipe.geometry.volume import Grid

    is_rtstruct(path)
    grid = Grid((8, 32, 32), np.diag([3.0, 8.0, 8.0, 1.0])[[2, 1, 0, 3]])
    for roi in read_rtstruct(path).rois:
        roi_mask(roi, grid, outside="clip", gaps="keep")


def find_ct(path: Path) -> None:
    from medpipe.dicom.planning_ct import find_planning_ct

    find_planning_ct(path.parent)


def read_dose(path: Path) -> None:
    from medpipe.dicom.rtdose import read_rtdose

    read_rtdose(path)


def deidentify(path: Path) -> None:
    from medpipe.engine.deidentifying import DeidentifyRequest, Outcome, _one, options_of

    request = DeidentifyRequest(path.parent.parent / "key", retain_dates=True, clean_descriptors=True)
    _one(path, path.parent.parent / "deidentified", options_of(request)[0], Outcome())


def read_nifti(path: Path) -> None:
    from medpipe.geometry.nifti import read_label_map, read_volume

    for read in (read_volume, read_label_map):
        try:
            read(path)
        except ValueError:
            if read is read_label_map:
                raise


def read_yaml(path: Path) -> None:
    from medpipe.config.reader import read_tree
    from medpipe.datasets.manifest import load_manifest
    from medpipe.engine.workflow import load_workflow

    read_tree(path)
    (load_workflow(str(path), [], []) if b"workflow:" in path.read_bytes() else load_manifest(str(path)))


def read_json(path: Path) -> None:
    from medpipe.tasks.model_record import read_record

    read_record(path.parent)


# Kind -> readers, and the name that the file needs.
READERS: dict[str, tuple[tuple[Callable[[Path], None], ...], str]] = {
    "ct": ((read_dicom_series, find_ct, deidentify), "image.dcm"),
    "rtstruct": ((read_structures, deidentify), "rs.dcm"),
    "rtdose": ((read_dose,), "dose.dcm"),
    "nifti": ((read_nifti,), "volume.nii"),
    "nifti_gz": ((read_nifti,), "volume.nii.gz"),
    "yaml": ((read_yaml,), "file.yaml"),
    "json": ((read_json,), "model.json"),
}


def real_data() -> Path | None:
    named = os.environ.get("MEDPIPE_REAL_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


def seeds(folder: Path) -> dict[str, list[bytes]]:
    """Kind -> contents of whole files."""
    checkout = Path(__file__).resolve().parents[1]
    found = made_seeds(folder)
    found["yaml"] = [
        path.read_bytes() for path in (*checkout.glob("workflows/*.yaml"), *checkout.glob("data/manifests/*.yaml"))
    ]
    data = real_data()
    if data is not None:
        ct = sorted(data.glob("ct_sarcoma/dicom/*/CT/image/000000.dcm")) + sorted(
            data.glob("dicom_oblique/*/[0-9c]*.dcm")
        )
        structures = [*data.glob("ct_sarcoma/dicom/*/CT/mask/RS.dcm"), *data.glob("dicom_oblique/*/*rt*.dcm")]
        structures += [path for path in data.glob("brachytherapy/**/*") if path.is_file() and b"RTSTRUCT" in head(path)]
        small = [path for path in data.glob("ct_organs/**/*.nii.gz") if path.stat().st_size < LARGEST_SEED_BYTES]
        for kind, paths in (("ct", ct), ("rtstruct", structures), ("nifti_gz", sorted(small)[:5])):
            found[kind] += [path.read_bytes() for path in paths if path.stat().st_size < LARGEST_SEED_BYTES]
    return found


def head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)


def made_seeds(folder: Path) -> dict[str, list[bytes]]:
    """Files that medpipe writes itself."""
    from medpipe.backbones.options import StunetOptions
    from medpipe.dicom.write_rtstruct import write_rtstruct
    from medpipe.dicom.write_series import write_series
    from medpipe.geometry.nifti import write_label_map, write_volume
    from medpipe.geometry.volume import LabelMap, MaskStack, Volume
    from medpipe.tasks.model_record import ModelRecord

    affine = np.diag([3.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]
    array = np.random.default_rng(0).normal(0, 40, (4, 16, 16)).round().astype(np.int16)
    series = write_series(folder / "ct", Volume(array, affine), patient_id="p", uid_seed="s")
    write_rtstruct(folder / "rs.dcm", MaskStack(array[None] > 0, affine, ("bladder",)), series)
    write_volume(folder / "a.nii", Volume(array, affine))
    write_label_map(folder / "b.nii.gz", LabelMap((array > 0).astype(np.uint8), affine))
    record = ModelRecord(
        kind="segmentation", medpipe_version="0", backbone=StunetOptions(size="tiny"), structures=("bladder",),
        output="softmax", preprocessing={"spacing_mm": [1, 1, 1]}, patch_size=(32, 32, 32), step=1,
    )  # fmt: skip
    return {
        "ct": [series.paths[0].read_bytes()],
        "rtstruct": [(folder / "rs.dcm").read_bytes()],
        "rtdose": [series.paths[1].read_bytes().replace(b"CT", b"RTDOSE"[:2])],
        "nifti": [(folder / "a.nii").read_bytes()],
        "nifti_gz": [(folder / "b.nii.gz").read_bytes()],
        "json": [record.model_dump_json(indent=1).encode()],
    }


def damaged(content: bytes, draw: random.Random) -> bytes:
    """One to six random faults."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 6)):
        if not data:
            break
        # Headers decide most: half of the faults go there.
        place = draw.randrange(min(len(data), 2048)) if draw.random() < 0.5 else draw.randrange(len(data))
        fault = draw.randrange(9)
        length = draw.choice((1, 2, 4, 8, 64))
        if fault == 0:
            data[place] = draw.randrange(256)
        elif fault == 1:
            data[place : place + length] = draw.randbytes(length)
        elif fault == 2:
            del data[place:]
        elif fault == 3:
            del data[place : place + length * draw.randint(1, 64)]
        elif fault == 4:
            data[place:place] = data[place : place + length * draw.randint(1, 64)]
        elif fault == 5:
            data[place : place + 4] = draw.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80")
            )
        elif fault == 6:
            digits = [i for i in range(place, min(place + 256, len(data))) if 48 <= data[i] <= 57]
            for i in digits[: draw.randint(1, 8)]:
                data[i] = draw.choice(b"0123456789-.eE\\ ")
        elif fault == 7:
            data[place:place] = draw.choice(
                (b"\0", b"\n", b"UNKNOWN", b"1e999", b"nan", b"- ", b"{", b"[", b"&a *a", b"\t")
            )
        else:
            lines = bytes(data).split(b"\n")
            draw.shuffle(lines) if draw.random() < 0.2 else lines.insert(draw.randrange(len(lines)), draw.choice(lines))
            data = bytearray(b"\n".join(lines))
    return bytes(data)


def is_declared(error: BaseException) -> bool:
    """What a reader may end with: faults of data and of configuration, and ValueError for what a user wrote."""
    from medpipe.config.errors import ConfigError
    from medpipe.geometry.faults import DataFault, DataFaults

    return isinstance(error, ConfigError | DataFault | DataFaults | MemoryError) or (
        type(error).__name__ == "ValidationError" or type(error) is ValueError
    )


def worker(folder: Path, contents: dict[str, list[bytes]], seed: int, numbers: Any, results: Any) -> None:
    """Reads damaged files until it is told to end; a thing that kills the process is seen by the parent."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    faulthandler.enable()
    warnings.simplefilter("ignore")
    os.chdir(folder)
    for number in iter(numbers.get, None):
        results.put(("began", number, "", ""))
        for name, outcome, detail in attempt(folder, contents, seed, number):
            results.put((outcome, number, name, detail))
        results.put(("ended", number, "", ""))


def attempt(folder: Path, contents: dict[str, list[bytes]], seed: int, number: int) -> list[tuple[str, str, str]]:
    """(reader, outcome, detail) of one damaged file."""
    draw = random.Random(f"{seed} {number}")
    kind = draw.choice(sorted(contents))
    readers, name = READERS[kind]
    place = folder / "file"
    shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(folder / "deidentified", ignore_errors=True)
    place.mkdir()
    (place / name).write_bytes(damaged(draw.choice(contents[kind]), draw))
    found = []
    for read in readers:
        try:
            read(place / name)
            found.append((read.__name__, "read", ""))
        except Exception as error:
            outcome = "declared" if is_declared(error) else "undeclared"
            detail = "".join(traceback.format_exception(error)[-6:]) if outcome == "undeclared" else ""
            found.append((read.__name__, outcome, detail))
    return found


def place_of(detail: str) -> tuple[str, ...]:
    """The lines of a traceback that name files, and the class of the error."""
    lines = detail.strip().splitlines()
    return (*(line for line in lines if line.lstrip().startswith("File ")), lines[-1].split(":")[0] if lines else "")


def outside(folder: Path) -> list[str]:
    """Files that no reader may make."""
    allowed = {"file", "deidentified", "key"}
    return sorted(path.name for path in folder.iterdir() if path.name not in allowed)


def fuzz(seconds: float, seed: int, only: int | None) -> dict[str, Any]:
    """Counts and findings. One worker at a time; a dead or hanging one is a finding, and another takes over."""
    with tempfile.TemporaryDirectory(prefix="medpipe-fuzz-") as made:
        top = Path(made)
        (top / "seeds").mkdir()
        contents = seeds(top / "seeds")
        run = top / "run"
        run.mkdir()
        if only is not None:
            for found in attempt(run, contents, seed, only):
                print(*found)
            return {}
        before = set(top.iterdir())
        counts, findings, number = Counter[str](), list[dict[str, Any]](), 0
        ends = time.monotonic() + seconds
        context = multiprocessing.get_context("fork")
        while time.monotonic() < ends:
            numbers, results = context.SimpleQueue(), context.Queue()
            process = context.Process(target=worker, args=(run, contents, seed, numbers, results), daemon=True)
            process.start()
            number = _feed(process, numbers, results, number, ends, counts, findings)
        strays = outside(run) + sorted(path.name for path in set(top.iterdir()) - before)
        if strays:
            findings.append({"number": None, "reader": "", "what": "files outside", "detail": ", ".join(strays)})
        return {"seconds": seconds, "seed": seed, "files": number, "outcomes": dict(sorted(counts.items())),
                "seeds": {kind: len(found) for kind, found in contents.items()}, "findings": findings}  # fmt: skip


def _feed(
    process: Any, numbers: Any, results: Any, number: int, ends: float, counts: Counter[str], findings: list
) -> int:
    """Hands numbers to one worker until the time is over, or it is dead or hangs. Returns the next number."""
    import queue

    while time.monotonic() < ends:
        numbers.put(number)
        limit = time.monotonic() + HANG_SECONDS
        while True:
            try:
                outcome, which, reader, detail = results.get(timeout=0.5)
            except queue.Empty:
                if process.is_alive() and time.monotonic() < limit:
                    continue
                what = "hang" if process.is_alive() else f"process died ({process.exitcode})"
                findings.append({"number": number, "reader": "", "what": what, "detail": ""})
                process.kill()
                return number + 1
            if outcome == "ended":
                break
            # Once for each place: the same line fails on many files.
            if outcome == "undeclared" and place_of(detail) not in {place_of(one["detail"]) for one in findings}:
                findings.append({"number": which, "reader": reader, "what": outcome, "detail": detail})
            if reader:
                counts[f"{reader}: {outcome}"] += 1
        number += 1
    numbers.put(None)
    process.join(timeout=10)
    process.kill()
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, default=None, help="repeat one number and print what happened")
    parser.add_argument("--result", type=Path, default=None)
    options = parser.parse_args()
    found = fuzz(options.seconds, options.seed, options.only)
    if options.only is not None:
        return 0
    from medpipe.engine.record import host, versions

    found |= {"versions": versions(), "host": host()}
    text = json.dumps(found, indent=1)
    if options.result is not None:
        options.result.write_text(text + "\n")
    print(text)
    return 1 if found["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
