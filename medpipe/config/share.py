"""Where medpipe's workflows, overlays and manifests lie: beside the package in a checkout, inside it in a wheel."""

from pathlib import Path
from typing import Literal

SharedKind = Literal["workflows", "configs", "data"]


def share_folder(kind: SharedKind) -> Path:
    """The folder of that kind, of the installed wheel or of the checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "share" / kind
    return installed if installed.is_dir() else package.parent / kind
