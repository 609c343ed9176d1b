"""`medpipe phantom`: seeded phantoms into a folder, in a layout that a manifest can name."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from medpipe.config.errors import ConfigError, Problem
from medpipe.config.origin import Origin
from medpipe.config.overrides import apply_overrides
from medpipe.config.tree import MappingNode
from medpipe.config.validation import validate
from medpipe.datasets.phantom.pelvis import PelvisConfig
from medpipe.datasets.phantom.write import Form, write_phantoms
from medpipe.engine.output import RunOutput
from medpipe.stages.stage import cores

FORMS: dict[str, Form] = {"masks": "nifti_masks", "label-map": "nifti_label_map", "dicom": "dicom"}
LAYOUTS = {"masks": "totalsegmentator", "label-map": "nnunet", "dicom": "dicom_rtstruct"}


def phantom_command(kind: str, output: Path, cases: int, seed: int, form: str, options: Sequence[str]) -> int:
    """Generate `cases` phantoms; the exit code."""
    if kind == "colonoscopy":
        return colonoscopy_command(output, cases, seed, form, options)
    if form not in FORMS:
        raise ConfigError(
            [Problem("command line: --form", None, None, f"pelvis comes as {', '.join(FORMS)}, not as '{form}'")]
        )
    tree = apply_overrides(
        MappingNode({}, Origin("command line")), list(options), known_keys=list(PelvisConfig.model_fields)
    )
    config = validate(PelvisConfig, tree)
    speaking = RunOutput(Console(soft_wrap=not sys.stdout.isatty()))
    with speaking.progress("phantoms", cases) as progress:
        write_phantoms(
            output,
            config,
            cases,
            first_seed=seed,
            form=FORMS[form],
            jobs=cores(None),
            on_case=lambda _, case_id: progress.advance(note=case_id),
        )
    print(f"{cases} phantoms in {output}, layout {LAYOUTS[form]}")
    return 0


COLONOSCOPY_FORMS = ("embeddings", "videos", "frames")


def colonoscopy_command(output: Path, cases: int, seed: int, form: str, options: Sequence[str]) -> int:
    """Made-up colonoscopies: embeddings of whole procedures, or short rendered videos or folders of frames."""
    from medpipe.datasets.phantom.colonoscopy import ColonoscopyConfig
    from medpipe.datasets.phantom.rendered import RenderedConfig

    if form not in COLONOSCOPY_FORMS:
        known = ", ".join(COLONOSCOPY_FORMS)
        raise ConfigError(
            [Problem("command line: --form", None, None, f"colonoscopy comes as {known}, not as '{form}'")]
        )
    model = ColonoscopyConfig if form == "embeddings" else RenderedConfig
    tree = apply_overrides(MappingNode({}, Origin("command line")), list(options), known_keys=list(model.model_fields))
    config = validate(model, tree)
    speaking = RunOutput(Console(soft_wrap=not sys.stdout.isatty()))
    if isinstance(config, ColonoscopyConfig):
        return write_embedded(output, config.model_copy(update={"videos_per_centre": cases}), seed, speaking)
    assert isinstance(config, RenderedConfig)
    return write_rendered(output, config, cases, seed, form, speaking)


def write_embedded(output: Path, config: Any, seed: int, speaking: RunOutput) -> int:
    """Embeddings and labels as a stage frame_embedding leaves them."""
    from medpipe.datasets.embeddings import EmbeddedVideo, EmbeddingIdentity
    from medpipe.datasets.phantom.colonoscopy import GENERATOR_VERSION, draw_video, draw_world
    from medpipe.stages.phase_files import write_labelled

    identity = EmbeddingIdentity("made up", f"seed {seed}", str(GENERATOR_VERSION), config.rate_hz, config.dim)
    world = draw_world(config, seed)
    with speaking.progress("procedures", len(config.video_ids())) as progress:
        for video_id in config.video_ids():
            drawn = draw_video(config, video_id, seed, world)
            video = EmbeddedVideo(video_id, identity, drawn.times_s, drawn.is_valid, drawn.embeddings)
            write_labelled(output, video, drawn.labels)
            progress.advance(note=video_id)
    print(f"{len(config.video_ids())} procedures in {output}: embeddings/*.safetensors, labels/*.csv")
    return 0


def write_rendered(output: Path, config: Any, cases: int, seed: int, form: str, speaking: RunOutput) -> int:
    """Short videos or folders of frames, with labels beside them: layouts `videos` and `frames`."""
    from medpipe.datasets.phantom.rendered import write_frame_folder, write_video

    with speaking.progress(form, cases) as progress:
        for number in range(cases):
            name = f"{number % 4 + 1:03d}-{number // 4 + 1:03d}"
            if form == "videos":
                write_video(output / f"{name}.mp4", config, seed + number)
            else:
                write_frame_folder(output / name, config, seed + number)
            progress.advance(note=name)
    print(f"{cases} rendered procedures in {output}, layout {form}, labels in {output / 'labels'}")
    return 0
