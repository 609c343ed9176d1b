"""What comes with medpipe, by name: workflows, overlays, manifests, kinds of stage, backbones."""

from pathlib import Path

from medpipe.backbones.registry import VOLUME_BACKBONES
from medpipe.config.share import share_folder
from medpipe.engine.workflow import stage_classes


def print_listing() -> None:
    """Print every name that a workflow or a command can use, with a line about each."""
    print("workflows (medpipe run NAME)")
    print_files(share_folder("workflows"))
    print("overlays (--overlay NAME)")
    print_files(share_folder("configs"))
    print("manifests (cases: {manifest: NAME})")
    print_files(share_folder("data") / "manifests")
    print("question sets (questions: {question_set: NAME})")
    print_files(share_folder("data") / "question_sets")
    print("kinds of stage")
    for kind, stage in stage_classes().items():
        print(f"  {kind:<34} {(stage.__doc__ or '').strip().splitlines()[0]}")
    print("backbones")
    print(f"  {', '.join(VOLUME_BACKBONES)}")


def print_files(folder: Path) -> None:
    """Each YAML file of a folder with the first line of its heading comment."""
    for path in sorted(folder.glob("*.yaml")):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        print(f"  {path.stem:<34} {first.removeprefix('#').strip() if first.startswith('#') else ''}")
