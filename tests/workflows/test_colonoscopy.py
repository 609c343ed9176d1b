"""The colonoscopy workflow on rendered videos and on real frames: embedding to report, live, privacy, hard inputs."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medpipe.datasets.phantom.rendered import PATIENT, RenderedConfig, write_frame_folder, write_video

pytestmark = pytest.mark.long

WORKFLOW = """# Rendered procedures through every stage.
workflow: rendered
data: {{root: {root}}}
stages:
  embed:
    stage: frame_embedding
    procedures: {{folder: {folder}, layout: {layout}}}
    encoder: {{name: colour_grid}}
    frames: {{batch_size: 16, chunk_batches: 2}}
  live:
    stage: phase_training
    embeddings: {{from: embed}}
    backbone: {{name: colon_tcn, blocks: 5, width: 8, causal: true}}
    training: {{num_steps: 25, batch_size: 3, optimiser: adamw, learning_rate: 1e-2, gradient_clip: 1.0, num_workers: 0, accelerator: cpu}}
    folds: {{lists: {root}/folds.csv}}
  predict:
    stage: phase_prediction
    embeddings: {{from: embed}}
    models: [{{from: live}}]
    decodings: [{{method: none}}]
  evaluate: {{stage: phase_evaluation, predictions: {{from: predict}}, embeddings: {{from: embed}}}}
  compare: {{stage: comparison, evaluations: [{{from: evaluate}}], num_bootstraps: 50}}
  report:
    stage: phase_report
    evaluation: {{from: evaluate}}
    comparison: {{from: compare}}
    predictions: {{from: predict}}
    embeddings: {{from: embed}}
    trainings: [{{from: live}}]
"""  # noqa: E501


def medpipe(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    code = "from medpipe.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True, timeout=400
    )


def write_folds(path: Path, train: list[str], test: list[str]) -> None:
    rows = [*(f"1,train,{name}" for name in train), *(f"1,test,{name}" for name in test)]
    path.write_text("\n".join(["fold,part,video_id", *rows]) + "\n")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four rendered videos and a run of the whole chain on them."""
    root = tmp_path_factory.mktemp("study")
    config = RenderedConfig(width=128, height=96, shorter=75)
    names = ["001-001", "002-001", "003-001", "004-001"]
    for seed, name in enumerate(names):
        write_video(root / "rendered" / f"{name}.mp4", config, seed)
    write_folds(root / "folds.csv", names[:3], names[3:])
    (root / "w.yaml").write_text(WORKFLOW.format(root=root, folder="rendered", layout="videos"))
    done = medpipe("run", "w.yaml", folder=root)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def stage(root: Path, name: str) -> Path:
    return root / "runs" / "rendered" / "default" / name


def test_the_chain_ends_in_scores_and_a_report_with_every_section(study: Path) -> None:
    scores = pd.read_csv(stage(study, "evaluate") / "scores.csv")
    assert set(scores["video_id"]) == {"004-001"}
    assert set(scores["model"]) == {"live, no decoding", "live, online Viterbi"}
    assert (scores["accuracy"] > 0.2).all()
    page = (stage(study, "report").parent / "report.html").read_text()
    for heading in ("Networks and decodings", "Withdrawal time", "Videos", "All videos", "Definitions", "Record of"):
        assert heading in page
    videos = pd.read_csv(stage(study, "embed") / "videos.csv")
    assert list(videos["video_id"]) == ["001-001", "002-001", "003-001", "004-001"]
    assert (videos["missing"] == 0).all()


def pictures_of(page: str) -> list[tuple[str, np.ndarray]]:
    """The phase and time under which each photograph stands in a page, and its pixels (H, W, 3)."""
    found = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)"', page)
    opened = [(alt, np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))) for data, alt in found]
    assert opened, "no key frame in the page"
    return opened


def assert_nothing_private(page: str, labels: pd.DataFrame) -> None:
    """No photograph within two seconds of an outside frame, none with the room's blue or the text's white."""
    outside_s = labels.loc[labels["phase"] == "outside", "time_s"].to_numpy()
    for alt, pixels in pictures_of(page):
        minutes, seconds = re.search(r"at (\d+):(\d+)$", alt).groups()  # type: ignore[union-attr]
        at_s = 60 * int(minutes) + int(seconds) + 0.5
        assert not alt.startswith("outside")
        assert not outside_s.size or np.abs(outside_s - at_s).min() > 1.4  # the clock is cut to whole seconds
        red, blue = pixels[..., 0].astype(int), pixels[..., 2].astype(int)
        assert np.mean(blue > red + 20) < 0.01  # walls are blue, mucosa never is
        assert np.mean(pixels.min(axis=-1) > 200) < 0.005  # text is white


def test_key_frames_show_the_view_alone_and_nothing_from_outside(study: Path) -> None:
    page = (stage(study, "report").parent / "report.html").read_text()
    assert not any(part in page for part in PATIENT.split())
    assert_nothing_private(page, pd.read_csv(stage(study, "embed") / "labels" / "004-001.csv"))
    segments = re.findall(r"<li style=\"border-top-color", page)
    table = pd.read_csv(stage(study, "evaluate") / "scores.csv").sort_values("macro_f1")
    assert len(segments) >= min(40, table["segments"].min())
    assert not [path for path in stage(study, "report").parent.rglob("*") if path.suffix in (".jpg", ".jpeg", ".mp4")]
    embedded = pd.read_csv(stage(study, "embed") / "videos.csv")["view"]
    lefts = [int(box.split(",")[1]) for box in embedded]
    assert min(lefts) >= 0.2 * 128  # the panel with the name is cut off before the encoder


def test_the_report_shows_the_comparison(study: Path) -> None:
    page = (stage(study, "report").parent / "report.html").read_text()
    assert "Do the networks differ?" in page
    assert "too few patients: 1" in page
    assert (stage(study, "compare") / "comparison.csv").is_file()


def same_scores(found: Path, study: Path) -> None:
    expected = pd.read_csv(stage(study, "evaluate") / "scores.csv")
    table = pd.read_csv(found / "scores.csv")
    table = table[table["video_id"].isin(expected["video_id"]) & ~table["model"].str.endswith(", Viterbi")]
    pd.testing.assert_frame_equal(
        table.drop(columns="model").reset_index(drop=True), expected.drop(columns="model"), rtol=1e-6
    )


def test_a_checkpoint_is_evaluated_on_its_own_embeddings_and_on_videos_again(study: Path) -> None:
    checkpoint = stage(study, "live")
    done = medpipe("evaluate", str(checkpoint), "--part", "test", "-O", "own", folder=study)
    assert done.returncode == 0, done.stdout + done.stderr
    same_scores(study / "own", study)
    done = medpipe("evaluate", str(checkpoint / "fold_1"), "rendered", "--part", "test", "-O", "videos", folder=study)
    assert done.returncode == 0, done.stdout + done.stderr
    same_scores(study / "videos", study)
    labels = pd.read_csv(study / "videos/embedded/labels/004-001.csv")
    assert_nothing_private((study / "videos" / "report.html").read_text(), labels)
    done = medpipe("evaluate", str(checkpoint), "-O", "all", folder=study)
    assert "3 of the 4 videos were in the training or validation of the networks that predict them" in done.stdout
    done = medpipe("evaluate", str(stage(study, "predict")), "-O", "predicted", folder=study)
    assert done.returncode == 0, done.stdout + done.stderr
    same_scores(study / "predicted", study)
    done = medpipe("compare", "own", "predicted", "-O", "compared", folder=study)
    assert done.returncode == 3
    assert "too few patients: 1" in done.stderr


def test_a_checkpoint_of_another_encoder_is_refused_with_the_file(study: Path, tmp_path: Path) -> None:
    shutil.copytree(stage(study, "live") / "fold_1", tmp_path / "other")
    record = json.loads((tmp_path / "other" / "model.json").read_text())
    record["embeddings"]["weights"] = "somebody else's"
    (tmp_path / "other" / "model.json").write_text(json.dumps(record))
    done = medpipe("evaluate", str(tmp_path / "other"), str(stage(study, "embed")), "-O", "other", folder=study)
    assert done.returncode == 3
    assert re.search(r"001-001\S*: other embeddings than the network was trained on", done.stderr)


def test_watching_a_video_prints_phases_and_the_withdrawal_as_the_offline_form(study: Path) -> None:
    arguments = ("watch", "rendered/004-001.mp4", "--model", str(stage(study, "live") / "fold_1"), "--json")
    done = medpipe(*arguments, "--as-fast-as-possible", folder=study)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"time_s", "phase", "confidence", "withdrawal_s", "lag_s"} <= set(lines[0])
    offline = pd.read_csv(stage(study, "predict") / "predictions/live/online_viterbi/004-001.csv")
    said = {round(line["time_s"], 2): line["phase"] for line in lines}
    expected = dict(zip(offline["time_s"].round(2), offline["phase"], strict=True))
    assert np.mean([expected[time] == phase for time, phase in said.items()]) > 0.98
    assert "0 dropped" in done.stderr
    frames = pd.read_csv(stage(study, "embed") / "videos.csv").set_index("video_id").loc["004-001", "slots"]
    assert f"{frames} frames" in done.stderr
    late = medpipe(*arguments, "--as-fast-as-possible", "--lag-s", "2", folder=study)
    assert late.returncode == 0, late.stderr
    waited = [json.loads(line) for line in late.stdout.splitlines()]
    assert {line["lag_s"] for line in waited} == {2.0}
    assert waited[-1]["time_s"] == lines[-1]["time_s"]  # the frames that were waited for are answered at the end


def test_an_offline_network_cannot_be_watched(study: Path, tmp_path: Path) -> None:
    shutil.copytree(stage(study, "live") / "fold_1", tmp_path / "offline")
    record = json.loads((tmp_path / "offline" / "model.json").read_text())
    record["backbone"]["causal"] = False
    (tmp_path / "offline" / "model.json").write_text(json.dumps(record))
    done = medpipe("watch", "rendered/004-001.mp4", "--model", str(tmp_path / "offline"), folder=study)
    assert done.returncode == 3
    assert "looks at later frames and cannot run live" in done.stderr


def test_frame_folders_with_gaps_broken_and_unlabelled_frames(tmp_path: Path) -> None:
    """Rows 1, 3, 6, 12, 15 of the hard inputs in one run."""
    config = RenderedConfig(width=96, height=96, shorter=150, fps=10)
    names = ["001-001", "001-012", "002-001"]
    for seed, name in enumerate(names):
        write_frame_folder(tmp_path / "frames" / name, config, seed)
    first = tmp_path / "frames" / "001-001"
    for number in range(30, 60):
        (first / f"001-001_{number}.jpg").unlink()
    (first / "001-001_79.jpg").write_bytes(b"no picture")
    for path in (tmp_path / "frames" / "001-012").iterdir():
        path.rename(path.with_name(path.name.replace(".jpg", ".0.jpg")))
    labels = tmp_path / "frames" / "labels" / "002-001.csv"
    labels.write_text(re.sub(r",\w+$", ",n.a.", labels.read_text(), flags=re.MULTILINE).replace(",n.a.", ",GT", 1))
    write_folds(tmp_path / "folds.csv", ["001-012", "002-001"], ["001-001"])
    text = WORKFLOW.format(root=tmp_path, folder="frames", layout="frames, fps: 10")
    (tmp_path / "w.yaml").write_text(text)
    done = medpipe("run", "w.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 training videos have no named frame and are skipped: 002-001" in done.stdout + done.stderr
    videos = pd.read_csv(stage(tmp_path, "embed") / "videos.csv").set_index("video_id")
    count = len(list((tmp_path / "frames" / "001-001").iterdir())) + 30
    assert videos.loc["001-001", "slots"] == count // 2 + count % 2
    assert videos.loc["001-001", "missing"] == 15
    assert videos.loc["001-012", "missing"] == 0
    assert "slots without a frame" in done.stdout
    table = pd.read_csv(stage(tmp_path, "embed") / "labels" / "001-012.csv")
    assert (table["phase"] != "uncertain").all()


def test_checking_tells_the_traps_of_the_published_tables(real_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "data" / "real_colon"
    root.mkdir(parents=True)
    for name in ("video_info.csv", "lesion_info.csv"):
        shutil.copy(real_data / "real_colon" / name, root / name)
    write_frame_folder(tmp_path / "001-001", RenderedConfig(width=96, height=96, shorter=300, fps=5), 0)
    (tmp_path / "001-001").rename(root / "001-001_frames")
    (tmp_path / "labels").rename(root / "labels")
    done = medpipe("check", "colonoscopy_phases", f"data.root={tmp_path / 'data'}", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "video_info.csv counts 131 lesions, lesion_info.csv lists 132" in done.stdout
    assert "'trasnverse', read as transverse" in done.stdout
    assert "'cecum', read as caecum" in done.stdout
    bad = root / "labels" / "001-001.csv"
    bad.write_text(bad.read_text().replace("insertion", "stomach", 1))
    done = medpipe("check", "colonoscopy_phases", f"data.root={tmp_path / 'data'}", folder=tmp_path)
    assert done.returncode == 3
    assert re.search(r"001-001\.csv: row \d+: unknown phase 'stomach'", done.stderr)


def test_real_frames_go_through_the_stages(real_data: Path, tmp_path: Path) -> None:
    """19 sequences of CVC-ClinicDB; the phases are made up from the order of the sequences and mean nothing."""
    images = real_data / "colonoscopy_sequences" / "images"
    starts = [1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298, 318, 343, 364, 384, 409]
    names = []
    for sequence, (first, after) in enumerate(pairwise(starts), start=1):
        name = f"{1 + (sequence - 1) % 4:03d}-{sequence:03d}"
        folder = tmp_path / "frames" / name
        folder.mkdir(parents=True)
        for number in range(first, after):
            shutil.copy(images / f"{number}.jpg", folder / f"{number}.jpg")
        phase = ("insertion", "caecum", "ascending", "transverse")[sequence % 4]
        table = tmp_path / "frames" / "labels" / f"{name}.csv"
        table.parent.mkdir(exist_ok=True)
        table.write_text(f"start_s,phase\n0,insertion\n2.5,{phase}\n")
        names.append(name)
    write_folds(tmp_path / "folds.csv", names[:14], names[14:])
    (tmp_path / "w.yaml").write_text(WORKFLOW.format(root=tmp_path, folder="frames", layout="frames, fps: 5"))
    done = medpipe("run", "w.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    videos = pd.read_csv(stage(tmp_path, "embed") / "videos.csv")
    assert videos["slots"].sum() == 408
    assert (videos["missing"] == 0).all()
