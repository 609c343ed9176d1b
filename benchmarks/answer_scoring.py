"""How long does scoring answers take, and how much memory? ColonEval's 4,568 answers, and ColonVQA's 1,100,786.

    python benchmarks/answer_scoring.py            both, about ten minutes
    python benchmarks/answer_scoring.py --small    ColonEval's number alone

Questions of all tasks but captioning in the released format on 212,742 image names, answered in many styles
(letters in every
dress, sentences, lists, refusals, thoughts). Each size is scored by a process of its own, by medpipe's rules with the
released ones beside them, tables and intervals included; bars: 3 s, 10 minutes and 500 MB.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from medpipe.datasets.generated_questions import MAKERS, image_facts
from medpipe.datasets.questions import Question
from medpipe.datasets.vocabularies import load_vocabulary
from medpipe.metrics.question_forms import parse_options

COLON_EVAL, COLON_VQA, NUM_IMAGES = 4_568, 1_100_786, 212_742
RESULTS = Path(__file__).parent / "results" / "answer_scoring.json"
STYLES = (
    "{answer}", "{letter}", "**{letter}**", "The correct answer is **{letter}**.",
    "<think>Let me see. It could "
    "be A or B.</think>{letter}",
    "The image shows {text}.", "I'm sorry, I can't give a diagnosis.", "A, B, C", "It is not {text}.",
    "<answer>{letter}. {text}</answer>",
    "Based on the colour and the texture of the mucosa, and since the vessels are clearly visible, the answer is "
    "{answer}.", "",
)  # fmt: skip


def write_set(folder: Path, count: int) -> None:
    """Questions and answers as the stage question_answering leaves them."""
    vocabulary = load_vocabulary("colon_x")
    tasks = list(MAKERS)
    made = {
        number: [MAKERS[number](np.random.default_rng([number, n]), image_facts(n)) for n in range(60)]
        for number in tasks
    }
    with (folder / "questions.jsonl").open("w") as questions, (folder / "answers.jsonl").open("w") as answers:
        for index in range(count):
            number = tasks[index % len(tasks)]
            text, reference = made[number][index // len(tasks) % 60]
            task = vocabulary.by_number(number) or ""
            kind = vocabulary.tasks[task].kind
            image = f"Positive-images/set/Test/{index % NUM_IMAGES}.jpg"
            question = Question(
                f"{index}#{number}", task, kind, text, reference, (image,),
                    parse_options(text) if kind == "options" else (),
                vocabulary.tasks[task].group, image,
            )  # fmt: skip
            questions.write(question.to_json() + "\n")
            style = STYLES[index * 7 // len(tasks) % len(STYLES)]
            said = style.format(answer=reference, letter=reference[1:2] or "A", text=reference.split("> ")[-1])
            record = {
                "question_id": question.question_id,
                "status": "answered",
                "answer": said,
                "finish_reason": "stop",
            }
            answers.write(json.dumps(record) + "\n")
    facts = {
        "title": "generated",
        "box": {"order": "xyxy", "scale": "pixels"},
        "perturbation": None,
        "questions": count,
    }
    facts["vocabulary"] = vocabulary.model_dump(mode="json")
    (folder / "answering.json").write_text(json.dumps(facts))


def score(folder: Path) -> dict[str, Any]:
    """Score the set of a folder; seconds and peak memory of this process."""
    from medpipe.stages.answer_tables import ScoreWriter, answered_set, score_set

    began = time.perf_counter()
    with (folder / "scores.csv").open("w", newline="") as file:
        scores = score_set(answered_set(folder), ["colon_x"], ScoreWriter(file, ["colon_x"]))
    scored = time.perf_counter()
    rows = scores.tally.table()
    micro = next(row for row in rows if row.name == "micro")
    return {
        "items": micro.n,
        "clusters": micro.clusters,
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time(), 2),
        "seconds_of_tables_and_intervals": round(time.perf_counter() - scored, 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1),
        "accuracy": round(micro.score, 4),
        "interval": [round(end, 4) for end in micro.bootstrap],
    }


def main() -> None:
    if len(sys.argv) > 2 and sys.argv[1] == "--score":
        print(json.dumps(score(Path(sys.argv[2]))))
        return
    from medpipe.engine.record import host, versions

    found: dict[str, Any] = {}
    for name, count, bars in (("colon_eval", COLON_EVAL, (3, 500)), ("colon_vqa", COLON_VQA, (600, 500))):
        if name == "colon_vqa" and "--small" in sys.argv:
            continue
        with tempfile.TemporaryDirectory() as folder:
            write_set(Path(folder), count)
            done = subprocess.run(
                [sys.executable, __file__, "--score", folder], capture_output=True, text=True, check=True
            )
        found[name] = json.loads(done.stdout) | {"bar_seconds": bars[0], "bar_memory_mb": bars[1]}
        print(name, found[name])
    if "--small" not in sys.argv:
        machine = {name: value for name, value in host().items() if name != "name"}
        document = {"host": machine, "versions": versions(), "one core": True, **found}
        RESULTS.write_text(json.dumps(document, indent=2) + "\n")
        print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
