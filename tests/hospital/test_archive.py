"""A real archive (Orthanc): what a predicted patient's objects are after C-STORE and DICOMweb."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from medpipe.dicom.maker import Model
from medpipe.dicom.series import read_series
from medpipe.dicom.write_pdf import write_pdf
from medpipe.dicom.write_rtstruct import write_rtstruct
from medpipe.dicom.write_seg import write_seg
from medpipe.geometry.volume import MaskStack

pytestmark = pytest.mark.hospital

PLUGINS = Path("/usr/share/orthanc/plugins")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass(frozen=True)
class Archive:
    http: int
    dicom: int

    def get(self, path: str, accept: str = "application/json") -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=60) as answer:
            kind = answer.headers["Content-Type"]
            body = answer.read()
        if not kind.startswith("multipart"):
            return body
        (part,) = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body).get_payload()
        return part.get_payload(decode=True)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    assert shutil.which("Orthanc"), "Orthanc is missing: run make test-hospital"
    folder = tmp_path_factory.mktemp("orthanc")
    ports = Archive(free_port(), free_port())
    (folder / "orthanc.json").write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "HttpPort": ports.http,
                "DicomPort": ports.dicom, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
                "DicomCheckCalledAet": False, "DicomAlwaysAllowStore": True, "Plugins": [str(PLUGINS)],
                "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            }
        )
    )  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log, cwd=folder)
        try:
            for _ in range(120):
                assert process.poll() is None, (folder / "log").read_text()
                try:
                    ports.get("/dicom-web/studies")
                    break
                except OSError:
                    time.sleep(0.5)
            else:
                pytest.fail((folder / "log").read_text())
            yield ports
        finally:
            process.terminate()
            process.wait(timeout=30)


def content_of(path_or_bytes: Path | bytes) -> bytes:
    """The encoded dataset, without preamble and file meta information, which belong to the file."""
    content = path_or_bytes.read_bytes() if isinstance(path_or_bytes, Path) else path_or_bytes
    length = int.from_bytes(content[140:144], "little")  # of (0002,0000), the first element
    return content[144 + length :]


def test_objects_of_a_patient_come_back_byte_for_byte(archive: Archive, real_data: Path, tmp_path: Path, tool) -> None:
    ct = real_data / "ct_sarcoma" / "dicom" / "STS_025" / "CT" / "image"
    series = read_series(ct)
    ring = np.zeros((2, *series.volume.shape), bool)
    ring[0, 3:9, 20:60, 30:90] = True
    ring[0, 3:9, 30:40, 40:60] = False
    ring[1, 5:7, 50:70, 50:75] = True
    masks, model = MaskStack(ring, series.volume.affine, ("ctv_high_risk", "bladder")), Model("gyn", "ab" * 32)
    write_rtstruct(tmp_path / "rs.dcm", masks, series, model=model)
    write_seg(tmp_path / "seg.dcm", masks, series, model=model)
    write_pdf(tmp_path / "report.dcm", b"%PDF-1.4 a page", series, model=model)
    objects = [tmp_path / name for name in ("rs.dcm", "seg.dcm", "report.dcm")]
    tool("storescu", "-R", "+sd", "127.0.0.1", archive.dicom, ct, *objects)
    studies = json.loads(archive.get("/dicom-web/studies"))
    assert [study["0020000D"]["Value"][0] for study in studies] == [series.study_uid]
    found = json.loads(archive.get(f"/dicom-web/studies/{series.study_uid}/series"))
    assert sorted(one["00080060"]["Value"][0] for one in found) == ["CT", "DOC", "RTSTRUCT", "SEG"]
    for path in objects:
        sent = dcmread(path)
        series_path = f"/dicom-web/studies/{sent.StudyInstanceUID}/series/{sent.SeriesInstanceUID}"
        where = f"{series_path}/instances/{sent.SOPInstanceUID}"
        got = archive.get(where, 'multipart/related; type="application/dicom"; transfer-syntax=*')
        assert content_of(got) == content_of(path), path.name
