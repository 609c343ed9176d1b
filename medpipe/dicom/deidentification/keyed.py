"""Pseudonyms, UIDs and date shifts that one secret key makes the same in every file, and nobody else can recompute."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from medpipe.dicom.writing import checked_root
from medpipe.geometry.faults import DataFault

_KEY_BYTES = 32
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # without I, O, 0, 1, which are misread on paper
# Days. Backwards, so that no date lies in the future; up to ten years.
_LEAST_SHIFT, _MOST_SHIFT = 30, 3650


@dataclass(frozen=True)
class Keyed:
    """What is derived from the key: HMAC-SHA256 throughout, each use with a word of its own."""

    key: bytes
    uid_root: str = "2.25."

    def uid(self, original: str) -> str:
        """A UID under `uid_root`; of the root 2.25 it is the decimal form of 128 bits, as PS3.5 B.2 has it."""
        root = checked_root(self.uid_root)
        digits = min(38, 64 - len(root))
        number = int.from_bytes(self._digest("uid", original)[:16], "big")
        return f"{root}{number if root == '2.25.' else number % 10**digits}"

    def pseudonym(self, patient_id: str, issuer: str = "") -> str:
        """Ten letters and digits (50 bits), the same for the same patient."""
        number = int.from_bytes(self._digest("patient", f"{issuer}\x1f{patient_id}")[:8], "big")
        return "MP" + "".join(_LETTERS[number >> 5 * place & 31] for place in range(10))

    def shift_days(self, patient_id: str, issuer: str = "") -> int:
        """Days by which all dates of a patient move: the intervals between them stay."""
        number = int.from_bytes(self._digest("dates", f"{issuer}\x1f{patient_id}")[:8], "big")
        return -(_LEAST_SHIFT + number % (_MOST_SHIFT - _LEAST_SHIFT))

    def _digest(self, use: str, text: str) -> bytes:
        return hmac.digest(self.key, f"{use}\x1e{text}".encode(), hashlib.sha256)


def read_key(path: Path) -> tuple[bytes, bool]:
    """The key of that file, and whether it was made now: of 32 random bytes, readable by its owner alone."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(secrets.token_hex(_KEY_BYTES) + "\n")
        return bytes.fromhex(path.read_text().strip()), True
    try:
        key = bytes.fromhex(path.read_text().strip())
    except (ValueError, OSError) as error:
        raise DataFault(path, f"no key of medpipe ({error}); name a new file and one is made") from error
    if len(key) < _KEY_BYTES:
        raise DataFault(path, f"a key of {len(key)} bytes, {_KEY_BYTES} are expected")
    return key, False


def shifted(value: str, vr: str, days: int) -> str | None:
    """A DA or DT moved by days, the rest of it as it was; None for what is no date (UNKNOWN)."""
    text = value.strip()
    try:
        moved = datetime.strptime(text[:8], "%Y%m%d") + timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    if vr == "DA" and len(text) != 8:
        return None
    return moved.strftime("%Y%m%d").zfill(8) + text[8:]
