"""Where the workflows, overlays and manifests of medpipe lie: in a checkout beside the package, in a wheel inside it."""

from pathlib import Path
from typing import Literal

SharedKind = Literal["workflows", "configs", "data"]


def share_folder(kind: SharedKind) -> Path:
    """The folder of that kind, of the installed wheel or of the checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "share" / kind
    return installed if installed.is_dir() else package.parent / kind
