"""What is refused before anything is submitted, the layers of resources, quoting, and the parts of a stage."""

import json
import subprocess
from pathlib import Path

import pytest

from medpipe.config.errors import ConfigError
from medpipe.engine.cluster import quoting
from medpipe.engine.cluster.jobs import plan_jobs
from medpipe.engine.cluster.resources import check_cluster, resources_of_stage
from medpipe.engine.cluster.sbatch import script, time_limit
from medpipe.engine.cluster.submitting import place_of, submit_command
from medpipe.engine.ledger import StageLedger
from medpipe.engine.workflow import LoadedWorkflow, load_workflow

HOSTILE = 'it\'s "a" $(touch x) `id` \\ %j #'


def loaded(*overrides: str, overlay: str = "slurm") -> LoadedWorkflow:
    return load_workflow("multi_organ_segmentation", [overlay], overrides)


def refusal(*overrides: str) -> str:
    workflow = loaded(*overrides)
    with pytest.raises(ConfigError) as caught:
        check_cluster(workflow, place_of(workflow, Path("runs"), "x").cluster)
    return str(caught.value)


def test_an_indivisible_global_batch_is_refused_with_its_place_and_what_fits() -> None:
    text = refusal("cluster.kinds.segmentation_training={nodes: 3, gpus_per_node: 1}")
    assert "stage 'organs': batch_size 2" in text
    assert "start 1, 2 of them" in text
    assert "multi_organ_segmentation.yaml:" in text


def test_names_that_no_stage_has_are_refused_with_a_suggestion() -> None:
    assert "did you mean 'organs'" in refusal("cluster.stages={organ: {nodes: 1}}")
    assert "did you mean 'segmentation_training'" in refusal("cluster.kinds.segmentation_trainin={nodes: 1}")


def test_a_stage_of_one_process_is_not_spread_over_nodes() -> None:
    assert "works on one node" in refusal("cluster.stages={evaluate: {nodes: 2}}")


@pytest.mark.parametrize(
    "override",
    [
        'cluster.all.partition="gpu\\n#SBATCH --uid=0"',
        'cluster.variables={X: "a\\nb"}',
        "cluster.variables={X-Y: a}",
        "cluster.all.sbatch=[hello]",
        "cluster.environment={kind: image, image: x}",
        "cluster.all.gpus=4",
    ],
)
def test_values_that_would_break_a_script_are_refused(override: str) -> None:
    with pytest.raises(ConfigError):
        loaded(override)


def test_resources_by_stage_lie_over_those_by_kind_over_those_of_all_over_the_defaults() -> None:
    workflow = loaded(
        "cluster.all={hours: 1, memory_gib: 10, gpus_per_node: 8}",
        "cluster.kinds.segmentation_training={hours: 2, gpus_per_node: 2}",
        "cluster.stages={organs: {hours: 3}}",
    )
    cluster, stages = place_of(workflow, Path("runs"), "x").cluster, workflow.values.stages
    organs, hybrid, evaluate = (
        resources_of_stage(cluster, name, stages[name]) for name in ("organs", "organs_hybrid", "evaluate")
    )
    assert (organs.hours, organs.memory_gib, organs.processes, organs.partition) == (3, 10, 2, "gpu")
    assert hybrid.hours == 2
    assert (evaluate.hours, evaluate.gpus_per_node, evaluate.processes, evaluate.partition) == (1, 0, 1, "cpu")


def test_the_cluster_section_stays_out_of_fingerprints() -> None:
    from medpipe.engine.fingerprint import fingerprint

    prints = [
        fingerprint(
            load_workflow("multi_organ_segmentation", overlays).values.stages["evaluate"],
            seed=0,
            case_identities=[],
            inputs={},
        )
        for overlays in ((), ("slurm",))
    ]
    assert prints[0] == prints[1]


def test_hostile_words_reach_a_command_as_they_are(tmp_path: Path) -> None:
    line = quoting.command(["printf", "%s\\n", HOSTILE, "--" + "x" * 100, HOSTILE])
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines() == [HOSTILE, "--" + "x" * 100, HOSTILE]
    assert not list(tmp_path.iterdir())


def test_a_hostile_name_of_a_run_leaves_a_valid_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = place_of(loaded(), Path("runs"), HOSTILE)
    for job in plan_jobs(place):
        text = script(place, job)
        assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).returncode == 0, text
        head = text.split("\n\n")[0].splitlines()
        assert all(line.startswith("#") for line in head)


def test_a_name_with_a_line_break_is_refused() -> None:
    with pytest.raises(ConfigError, match="do not print"):
        place_of(loaded(), Path("runs"), "a\nb")


def test_jobs_wait_for_what_is_still_to_do_and_for_nothing_that_is_done() -> None:
    place = place_of(loaded("organs.folds={count: 5, run: [0, 1, 2]}"), Path("runs"), "x")
    jobs = {job.name: job for job in plan_jobs(place, done=["intensity", "organs_hybrid"])}
    assert "intensity" not in jobs
    assert jobs["organs"].needs == ("check-data",)
    assert jobs["organs"].parts == 3
    assert jobs["predict"].needs == ("organs", "organs_transformer")
    assert jobs["predict"].parts == 4


def test_time_limits_as_slurm_writes_them() -> None:
    assert [time_limit(hours) for hours in (0.5, 4, 24, 49.25)] == ["00:30:00", "04:00:00", "1-00:00:00", "2-01:15:00"]


def test_kubernetes_is_rendered_and_never_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {"runs": Path("runs"), "name": None, "until": None}
    source = ["data.source=phantom", "data.root=null"]
    assert submit_command("multi_organ_segmentation", ["kubernetes"], source, **arguments, dry_run=False) == 2
    assert "kubectl apply" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_parts_of_a_stage_are_done_by_their_fingerprint(tmp_path: Path) -> None:
    ledger = StageLedger(tmp_path, "organs")
    ledger.finish_part("a", (1, 3), {"seconds": 2.5})
    assert ledger.part_is_done("a", (1, 3))
    assert not ledger.part_is_done("b", (1, 3)), "other values"
    assert not ledger.part_is_done("a", (1, 2)), "another number of parts"
    assert ledger.seconds_of_parts(3) == 2.5
    ledger.begin("a", {"started": "now"})
    ledger.finish("a", {})
    assert json.loads((tmp_path / "organs" / "done.json").read_text())["outputs"] == {}
