"""The `medpipe` command: thin verbs over the engine. What is heavy is imported inside the verbs."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

# No telemetry and no downloads, whatever is loaded later.
for _switch in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"):
    os.environ.setdefault(_switch, "1")
# Threads that wait for each other sleep instead of spinning: with loader workers on two cores, spinning made a training
# step of 0.3 s take 1 to 9 s. Read once, when torch loads OpenMP.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer  # noqa: E402  # after the switches

from medpipe import cli_machines  # noqa: E402
from medpipe.cli_dicom import Part, deidentify, listed, predict  # noqa: E402
from medpipe.cli_machines import Overlays, Overrides, RunName, RunsFolder, WorkflowArgument  # noqa: E402

BANNER = "medpipe: medical imaging workflows from one YAML file. For research use only, not a medical device."

DONE, FAILED, WRONG_COMMAND, WRONG_DATA, REQUEUE = 0, 1, 2, 3, 75  # exit codes

app = typer.Typer(
    help=BANNER,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 the run failed, 2 the command or the YAML is wrong, 3 the data are wrong, "
    "75 stopped on request, start it again.",
)


@app.command()
def run(
    workflow: WorkflowArgument,
    overrides: Overrides = None,
    overlay: Overlays = None,
    name: RunName = None,
    runs: RunsFolder = Path("runs"),
    until: Annotated[str | None, typer.Option(help="Run up to this stage and what it needs.")] = None,
    only: Annotated[str | None, typer.Option(help="Run this stage alone; what it takes from must be finished.")] = None,
    force: Annotated[list[str] | None, typer.Option(help="Repeat this stage and those that depend on it.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run, and stop.")] = False,
    part: Annotated[str | None, typer.Option(help="With --only: this job's share of the stage, such as 2/3.")] = None,
    finish: Annotated[
        int | None, typer.Option(min=1, help="With --only: bring so many parts together, if all are there.")
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="Folder that relative paths in the workflow start from. Default: its own.")
    ] = None,
) -> None:
    """Run a workflow; finished stages are skipped, a stopped one goes on where it was."""
    from medpipe.engine.running import run_command

    raise typer.Exit(
        run_command(
            workflow, overlay or [], overrides or [], runs=runs, name=name, until=until, only=only,
            force=tuple(force or ()), dry_run=dry_run, command=sys.argv[1:], part=part, finish=finish, base=base,
        )
    )  # fmt: skip


for verb in (cli_machines.submit, cli_machines.status, cli_machines.cancel, cli_machines.doctor, cli_machines.bench):
    app.command()(verb)


@app.command()
def show(workflow: WorkflowArgument, overrides: Overrides = None, overlay: Overlays = None) -> None:
    """Print the resolved workflow, with where each value came from."""
    from medpipe.engine.workflow import load_workflow

    print(load_workflow(workflow, overlay or [], overrides or []).text(), end="")


@app.command()
def check(
    workflow: WorkflowArgument,
    overrides: Overrides = None,
    overlay: Overlays = None,
    data: Annotated[bool, typer.Option("--data/--no-data", help="Read every file of every case whole.")] = True,
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes.")] = None,
    skip_checked: Annotated[
        bool, typer.Option("--skip-checked", help="Data that were read whole and found good are not read again.")
    ] = False,
    base: Annotated[
        Path | None, typer.Option(help="Folder that relative paths in the workflow start from. Default: its own.")
    ] = None,
) -> None:
    """Validate a workflow and all its data, without training."""
    from medpipe.engine.checking import check_command

    raise typer.Exit(
        check_command(workflow, overlay or [], overrides or [], data=data, jobs=jobs, base=base, again=not skip_checked)
    )


@app.command()
def schema() -> None:
    """Print the JSON schema of workflows, for editors."""
    import json

    from medpipe.engine.workflow import workflow_schema

    print(json.dumps(workflow_schema(), indent=2))


@app.command(name="list")
def list_shared() -> None:
    """List the workflows, overlays and manifests that come with medpipe, and the kinds of stage."""
    from medpipe.engine.listing import print_listing

    print_listing()


class PhantomKind(StrEnum):
    pelvis = "pelvis"
    colonoscopy = "colonoscopy"


class PhantomForm(StrEnum):
    masks = "masks"
    label_map = "label-map"
    dicom = "dicom"
    embeddings = "embeddings"
    videos = "videos"
    frames = "frames"


@app.command()
def phantom(
    kind: Annotated[PhantomKind, typer.Argument(help="What to generate.")],
    output: Annotated[Path, typer.Option("--output", "-O", help="Folder to write to.")],
    cases: Annotated[int, typer.Option(min=1, help="Number of cases.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first case.")] = 0,
    form: Annotated[
        PhantomForm | None,
        typer.Option(
            help="Pelvis: masks (one NIfTI a structure; default), label-map, dicom (CT + RTSTRUCT). Colonoscopy: "
            "embeddings (default; --cases counts videos a centre), videos, frames."
        ),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of the phantom, such as applicator=false.")
    ] = None,
) -> None:
    """Generate seeded phantoms: CT volumes or colonoscopies whose truth is known."""
    from medpipe.engine.phantoms import phantom_command

    chosen = form.value if form is not None else "masks" if kind == PhantomKind.pelvis else "embeddings"
    raise typer.Exit(phantom_command(kind.value, output, cases, seed, chosen, option or []))


@app.command()
def watch(
    video: Annotated[Path, typer.Argument(help="A video file, or a folder of frames.")],
    model: Annotated[Path, typer.Option(help="Folder of a causal phase network (weights.safetensors, model.json).")],
    fps: Annotated[float | None, typer.Option(min=0.1, help="Of a folder of frames.")] = None,
    encoder_weights: Annotated[
        Path | None, typer.Option(help="The encoder's weights, the same that the network was trained on.")
    ] = None,
    lag_s: Annotated[float, typer.Option(min=0, help="Seconds that an answer may wait for later frames.")] = 0.0,
    as_fast: Annotated[
        bool, typer.Option("--as-fast-as-possible", help="Every frame, not at the video's own speed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> None:
    """Print phase and elapsed withdrawal time as frames arrive; frames are dropped, never queued."""
    from medpipe.engine.watching import watch_command

    options = {"fps": fps, "weights": encoder_weights, "as_fast": as_fast, "as_json": as_json, "lag_s": lag_s}
    raise typer.Exit(watch_command(video, model, **options))  # type: ignore[arg-type]


OutputFolder = Annotated[Path, typer.Option("--output", "-O", file_okay=False, help="Folder to write to.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the table.")]
Structures = Annotated[
    list[str] | None, typer.Option("--structures", "-s", help="Only these; may be repeated, or separated by commas.")
]


class MissingCases(StrEnum):
    as_missed = "count"
    refuse = "refuse"


@app.command()
def evaluate(
    predictions: Annotated[
        Path,
        typer.Argument(
            help="Folder of label maps, masks, RTSTRUCTs or tables of phases; one file; a checkpoint; or answers."
        ),
    ],
    references: Annotated[
        Path | None, typer.Argument(help="The references, in any of these forms; of a phase checkpoint also videos.")
    ] = None,
    output: OutputFolder = Path("evaluation"),
    manifest: Annotated[
        str | None,
        typer.Option(help="Manifest that names label values and regions; for a checkpoint, the cases to predict."),
    ] = None,
    structures: Structures = None,
    tolerance_mm: Annotated[
        list[float] | None, typer.Option(help="Tolerance of the NSD; may be repeated. Default: 2.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Of a checkpoint's cases. Default: where its run found them.")
    ] = None,
    part: Annotated[Part | None, typer.Option(help="Of the manifest, for a checkpoint. Default: all.")] = None,
    patients: Annotated[Path | None, typer.Option(help="CSV with the columns case_id and patient_id.")] = None,
    resample: Annotated[
        bool, typer.Option("--resample/--no-resample", help="Bring predictions to the reference's grid, or refuse.")
    ] = True,
    missing_cases: Annotated[
        MissingCases, typer.Option(help="References without a prediction: count as missed, or refuse.")
    ] = MissingCases.as_missed,
    rule: Annotated[
        list[str] | None, typer.Option(help="For answers, beside medpipe's: colon_x, substring, ...; may be repeated.")
    ] = None,
    fps: Annotated[float | None, typer.Option(min=0.1, help="Of phases: of tables and folders of frames.")] = None,
    encoder_weights: Annotated[Path | None, typer.Option(help="Of a phase checkpoint that is given videos.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes; default: the cores.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the results in the output folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score predictions against references, or a checkpoint on a manifest's cases: scores, summary and a report."""
    from medpipe.engine.evaluating import evaluate_command
    from medpipe.engine.evaluation import EvaluateOptions

    options = EvaluateOptions(
        manifest=manifest, structures=tuple(listed(structures)), tolerances_mm=tuple(tolerance_mm or [2.0]), jobs=jobs,
        force=force, data_root=data_root, part=None if part is None else part.value, patients=patients,
        resample=resample, missing_cases=missing_cases.value, rules=tuple(listed(rule)), fps=fps,
        encoder_weights=encoder_weights,
    )  # fmt: skip
    raise typer.Exit(
        evaluate_command(predictions, references, options, output=output, as_json=as_json, command=sys.argv[1:])
    )


app.command()(predict)
app.command()(deidentify)


class Correction(StrEnum):
    bh = "bh"
    holm = "holm"


@app.command()
def compare(
    scores: Annotated[list[Path], typer.Argument(help="Two or more score files, evaluations or runs.")],
    name: Annotated[list[str] | None, typer.Option(help="Name of each, in their order; may be repeated.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Metric to compare; may be repeated. Default: dice, hd95_mm.")
    ] = None,
    structures: Structures = None,
    against: Annotated[str | None, typer.Option(help="Compare all with this one only, instead of every pair.")] = None,
    correction: Annotated[Correction, typer.Option(help="For many tests: Benjamini-Hochberg or Holm.")] = Correction.bh,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Level of significance.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Of permutations and bootstrap.")] = 0,
    allow_unpaired: Annotated[
        bool, typer.Option("--allow-unpaired", help="Leave out patients that are not in every file, and count them.")
    ] = False,
    output: OutputFolder = Path("comparison"),
    as_json: AsJson = False,
) -> None:
    """Compare two or more models on the same patients, with paired tests, intervals and effect sizes."""
    from medpipe.engine.comparing import compare_command

    raise typer.Exit(
        compare_command(
            scores, names=name or [], metrics=listed(metric), structures=listed(structures),
            correction=correction.value, against=against, output=output, as_json=as_json, seed=seed, alpha=alpha,
            allow_unpaired=allow_unpaired,
        )
    )  # fmt: skip


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Runs, evaluations or files of scores.")],
    name: Annotated[list[str] | None, typer.Option(help="Name of each, in their order; may be repeated.")] = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "",
    output: Annotated[Path, typer.Option("--output", "-O", dir_okay=False, help="File to write.")] = Path(
        "report.html"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Lay several runs side by side in one HTML page: scores, paired tests, learning curves, records."""
    from medpipe.engine.report_runs import report_command

    raise typer.Exit(report_command(runs, names=name or [], output=output, force=force, title=title))


class Beyond(StrEnum):
    refuse = "refuse"
    as_zero = "count"


@app.command()
def dose(
    plan: Annotated[
        Path | None, typer.Argument(help="A course in YAML: its fractions, external beam, alpha/beta. Or use options.")
    ] = None,
    doses: Annotated[
        list[Path] | None, typer.Option("--dose", help="RTDOSE, or NIfTI of Gy, of a fraction; repeated for each.")
    ] = None,
    references: Annotated[
        list[Path] | None, typer.Option("--reference", help="Its contours: RTSTRUCT, label map or folder of masks.")
    ] = None,
    predicted: Annotated[
        list[Path] | None, typer.Option("--predicted", help="Its predicted contours, in any of these forms.")
    ] = None,
    prescription_gy: Annotated[float | None, typer.Option(help="Of one fraction, for V100.")] = None,
    external_beam_gy: Annotated[
        float | None, typer.Option(min=0, help="Total from outside; 0: there was none. Without it no aim is judged.")
    ] = None,
    external_beam_fractions: Annotated[
        int | None, typer.Option(min=1, help="In how many fractions. Default: 25.")
    ] = None,
    structures: Structures = None,
    target: Annotated[
        str | None, typer.Option(help="Name of the target, or 'none' for organs alone. Default: ctv_high_risk.")
    ] = None,
    manifest: Annotated[
        str | None, typer.Option(help="Whose aliases name structures. Default: gynecologic_brachytherapy.")
    ] = None,
    alpha_beta_target: Annotated[float | None, typer.Option(help="Gy. Default: 10.")] = None,
    alpha_beta_organs: Annotated[float | None, typer.Option(help="Gy. Default: 3.")] = None,
    outside: Annotated[
        Beyond | None, typer.Option(help="Structures beyond the dose grid: refuse (default), or count as 0 Gy.")
    ] = None,
    step_mm: Annotated[float | None, typer.Option(help="Of the samples inside a structure. Default: 0.5.")] = None,
    output: OutputFolder = Path("dose"),
    force: Annotated[bool, typer.Option("--force", help="Replace the results in the output folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Dose in structures, EQD2 of a course against planning aims, predicted against reference contours."""
    from medpipe.engine.dose_plan import plan_of_command
    from medpipe.engine.dosing import dose_command

    options = {
        "prescription_gy": prescription_gy, "external_beam_gy": external_beam_gy,
        "external_beam_fractions": external_beam_fractions, "names": listed(structures) or None, "target": target,
        "manifest": manifest, "alpha_beta_target": alpha_beta_target, "alpha_beta_organs": alpha_beta_organs,
        "outside": None if outside is None else outside.value, "step_mm": step_mm,
    }  # fmt: skip
    course = plan_of_command(plan, doses or [], references or [], predicted or [], options)
    raise typer.Exit(dose_command(course, output=output, force=force, as_json=as_json))


def main() -> None:
    """Run the command line, and note its exit code where a launcher such as torchrun would lose it."""
    try:
        run_command_line()
    except SystemExit as ended:
        noted = os.environ.get("MEDPIPE_EXIT_FILE")
        if noted and os.environ.get("RANK", "0") == "0":
            Path(noted).write_text(f"{ended.code if isinstance(ended.code, int) else int(bool(ended.code))}\n")
        raise


def run_command_line() -> None:
    """Every expected fault becomes its message and its exit code."""
    from medpipe.config.errors import ConfigError
    from medpipe.geometry.faults import DataFault, DataFaults

    try:
        app()
    except ConfigError as error:
        fail(str(error), WRONG_COMMAND)
    except (DataFault, DataFaults) as error:
        fail(str(error), WRONG_DATA)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)


def fail(message: str, code: int) -> None:
    """Print an error to standard error and leave with the code."""
    print(message, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
