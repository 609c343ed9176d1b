"""Questions in the released format on generated pictures, whose answers are known: the stand-in of a question set.

A picture is reddish noise with one ellipse (the lesion), a caption that tells the imaging mode burnt into a
corner, and a
brightness. Everything that is asked can be seen; nothing of it says anything about patients.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medpipe.datasets.cases import DataConfig
from medpipe.datasets.question_sets import QuestionSet

GENERATOR_VERSION = 1
SIZE = (128, 96)  # width, height

MODES = (
    "White Light Imaging (WLI)",
    "Narrow Band Imaging (NBI)",
    "Linked Color Imaging (LCI)",
    "Blue Laser Imaging (BLI)",
)
LESIONS = ("bleeding", "adenoma", "high grade adenoma", "ulcer", "polyp", "hemorrhoid")
NICE = ("Type 1 (characteristic for hyperplastic lesion)", "Type 2 (characteristic for adenoma)",
        "Type 3 (characteristic for invasive carcinoma)")  # fmt: skip
PARIS = ("Sessile (Is)", "Pedunculated (Ip)", "Subpedunculated (Isp)", "Slightly elevated (IIa)")
SIZES = ("0mm < polyp < 6mm", "6mm ≤ polyp < 20mm", "20mm ≤ polyp < 30mm", "polyp ≥ 30mm")
MAYO = tuple(f"ulcerative colitis grade {grade}" for grade in ("0", "1", "2", "3", "0-1", "1-2", "2-3"))
BBPS = tuple(f"BBPS {score}" for score in ("0", "1", "2", "3", "0-1", "2-3"))
STAGES = ("dyed lifted polyp", "dyed resection margin", "resection margin", "resected polyp")
EXPOSURES = ("overexposed", "underexposed", "normal exposure")

Turns = tuple[str, str]  # question, reference
Draw = np.random.Generator


def chosen(question: str, options: Sequence[str], right: int) -> Turns:
    """A question with its options as the released files write them, and the right one as the reference."""
    listed = [f"<{chr(ord('A') + index)}> {text}" for index, text in enumerate(options)]
    return f"{question} {', '.join(listed)}", listed[right]


def _choice(question: str, options: Sequence[str]) -> Callable[[Draw, dict[str, Any]], Turns]:
    def make(draw: Draw, facts: dict[str, Any]) -> Turns:
        order = draw.permutation(len(options))
        right = int(draw.integers(len(options)))
        return chosen(question, [options[int(i)] for i in order], right)

    return make


def _yes_no(question: str, share: float) -> Callable[[Draw, dict[str, Any]], Turns]:
    return lambda draw, facts: (question, "Yes" if draw.random() < share else "No")


def _landmark(draw: Draw, facts: dict[str, Any]) -> Turns:
    references = (
        "Yes. This image shows cecum.", "Yes. This image shows ileocecal valve.",
        "No. This image does not show any landmark.",
    )  # fmt: skip
    return "Is the cecum or the ileocecal valve visible in this image?", str(references[int(draw.integers(3))])


def _lesion_yes_no(draw: Draw, facts: dict[str, Any]) -> Turns:
    asked = (
        facts["lesion"]
        if draw.random() < 0.5
        else str(draw.choice([name for name in LESIONS if name != facts["lesion"]]))
    )
    return f"Does this image show {asked}? Answer yes or no.", "Yes" if asked == facts["lesion"] else "No"


def _lesion_choice(draw: Draw, facts: dict[str, Any]) -> Turns:
    others = [name for name in LESIONS if name != facts["lesion"]]
    options = [facts["lesion"], *(others[i] for i in draw.permutation(len(others))[:3])]
    options = [options[i] for i in draw.permutation(len(options))]
    return chosen("Choose the category of the lesion.", options, options.index(facts["lesion"]))


def _modality(draw: Draw, facts: dict[str, Any]) -> Turns:
    order = [MODES[i] for i in draw.permutation(len(MODES))]
    return chosen("Which imaging mode is used?", order, order.index(facts["mode"]))


def _box(facts: dict[str, Any]) -> str:
    return "{" + "".join(f"<{value}>" for value in facts["box"]) + "}"


# Number of the task -> a maker of one question about a picture. 13 and 18 are not part of ColonEval.
MAKERS: dict[int, Callable[[Draw, dict[str, Any]], Turns]] = {
    1: _choice("Rate the bowel preparation.", BBPS),
    2: _landmark,
    3: _yes_no("Is this a retroflexed view of the rectum? Answer yes or no.", 0.5),
    4: _choice("Which stage of the intervention is shown?", STAGES),
    5: _choice("Check the exposure of the image.", EXPOSURES),
    6: _modality,
    7: _yes_no("Is an instrument visible? Answer yes or no.", 0.75),
    8: _yes_no("Is there bleeding? Answer yes or no.", 0.5),
    9: _lesion_yes_no,
    10: _lesion_choice,
    11: lambda draw, facts: ("Name the category of the lesion.", facts["lesion"]),
    12: lambda draw, facts: (f"What is the category of the object at {_box(facts)}?", facts["lesion"]),
    13: lambda draw, facts: (f"Where is the {facts['lesion']}?", _box(facts)),
    14: _choice("Which NICE type does the polyp have?", NICE),
    15: _choice("Which Paris class does the polyp have?", PARIS),
    16: _choice("How large is the polyp?", SIZES),
    17: _choice("Which Mayo grade does the colitis have?", MAYO),
}


def entries_of(number: int, images: Sequence[tuple[str, dict[str, Any]]], *, seed: int) -> list[dict[str, Any]]:
    """One entry of the released format an image for that task."""
    entries = []
    for index, (image, facts) in enumerate(images):
        question, reference = MAKERS[number](np.random.default_rng([seed, number, index]), facts)
        entries.append(
            {
                "id": image,
                "image": image,
                "conversations": [
                    {"from": "human", "value": f"<image>\n{question}"},
                    {"from": "gpt", "value": reference},
                ],
            }
        )
    return entries


def image_facts(seed: int) -> dict[str, Any]:
    """What is drawn into the picture of that seed."""
    draw = np.random.default_rng([GENERATOR_VERSION, seed])
    width, height = SIZE
    half = draw.integers(10, 28, size=2)
    centre = (int(draw.integers(30, width - 30)), int(draw.integers(30, height - 30)))
    box = (centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1])
    return {
        "lesion": LESIONS[int(draw.integers(len(LESIONS)))],
        "mode": MODES[int(draw.integers(len(MODES)))],
        "box": tuple(int(np.clip(value, 0, limit)) for value, limit in zip(box, (width, height) * 2, strict=True)),
    }


def draw_image(path: Path, seed: int) -> None:
    """Write the picture of that seed."""
    from PIL import Image, ImageDraw

    facts = image_facts(seed)
    noise = np.random.default_rng([GENERATOR_VERSION, seed, 1]).normal(0, 12, (SIZE[1], SIZE[0], 3))
    tint = {"W": (170, 90, 80), "N": (90, 120, 110), "L": (180, 120, 120), "B": (80, 100, 160)}[facts["mode"][0]]
    picture = Image.fromarray(np.clip(np.array(tint) + noise, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    shade = 40 + 30 * LESIONS.index(facts["lesion"])
    pen.ellipse(facts["box"], fill=(shade, 255 - shade, shade // 2), outline=(255, 255, 255))
    pen.text((3, 2), facts["mode"].split("(")[1].rstrip(")"), fill=(255, 255, 255))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=90)


def write_colon_x(folder: Path, num_images: int, *, first_seed: int, tasks: Sequence[int] = tuple(MAKERS)) -> None:
    """Files and pictures of a generated set, every task once an image: Task_<n>_ColonEval.json beside
    Positive-images/."""
    facts = [(f"Positive-images/generated/Test/{seed}.jpg", image_facts(seed))
             for seed in range(first_seed, first_seed + num_images)]  # fmt: skip
    for index, (image, _) in enumerate(facts):
        draw_image(folder / image, first_seed + index)
    (folder / "JSON" / "ColonEval").mkdir(parents=True, exist_ok=True)
    for number in tasks:
        text = json.dumps(entries_of(number, facts, seed=first_seed), indent=1)
        (folder / "JSON" / "ColonEval" / f"Task_{number}_ColonEval.json").write_text(text, encoding="utf-8")


def write_clips(folder: Path, num_clips: int, *, first_seed: int) -> None:
    """A generated set in the form of REAL-Colon-VQA: clips of two frames, one question each."""
    lines = []
    for index in range(num_clips):
        frames = [f"generated_{first_seed + 2 * index + step}" for step in range(2)]
        for step, frame in enumerate(frames):
            draw_image(folder / "frames" / f"{frame}.jpg", first_seed + 2 * index + step)
        mode = image_facts(first_seed + 2 * index)["mode"]
        asked = ("nbi_status", "Is narrow band imaging on?", "yes" if "NBI" in mode else "no")
        kind, question, reference = (("mucosa_visibility", "Is clean mucosa visible in this sequence?", "no"), asked)[
            index % 2
        ]
        lines.append(
            {"id": f"qa_{index:06d}", "video_id": f"video_{index % 4}", "frames": frames, "question": question,
             "question_type": kind, "answer": reference, "short_answer": reference}
        )  # fmt: skip
    (folder / "test_multivideo.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def generated_folder(question_set: QuestionSet, data: DataConfig) -> Path:
    """The folder of the set's stand-in, which is there when this returns."""
    stand_in = question_set.phantom
    if stand_in is None or question_set.format not in ("colon_x", "real_colon_vqa"):
        raise ValueError(
            f"question set {question_set.question_set} has no generated stand-in (`phantom:` of a set of format "
            f"colon_x or "
            "real_colon_vqa); give data.source=files"
        )
    num_images = data.phantom.num_cases or stand_in.num_images
    name = f"{question_set.question_set}-{num_images}-{stand_in.first_seed}-v{GENERATOR_VERSION}"
    folder = data.cache.expanduser().absolute() / "questions" / name
    if not folder.is_dir():
        partial = folder.with_name(f".{name}.{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        if question_set.format == "colon_x":
            write_colon_x(partial, num_images, first_seed=stand_in.first_seed, tasks=[n for n in MAKERS if n != 13])
            _copy_into_listed_folders(partial, question_set)
        else:
            write_clips(partial, num_images, first_seed=stand_in.first_seed)
        try:
            os.replace(partial, folder)
        except OSError:  # another process was faster
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _copy_into_listed_folders(folder: Path, question_set: QuestionSet) -> None:
    """Lay the one generated part where the set looks for its test files."""
    for listed in question_set.files:
        target = (folder / listed.path).parent
        if listed.split in (None, "test") and target != folder / "JSON" / "ColonEval":
            shutil.copytree(folder / "JSON" / "ColonEval", target, dirs_exist_ok=True)
