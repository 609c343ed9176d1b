"""What `medpipe dose` is asked: fractions with their files, external beam, alpha/beta. From a YAML file or options."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from medpipe.config.base import Config
from medpipe.config.errors import ConfigError, Problem
from medpipe.config.suggestions import suggestion
from medpipe.datasets.manifest import Manifest, load_manifest


class FractionConfig(Config):
    """One fraction. Paths are relative to the plan's file."""

    dose: Path = Field(description="RTDOSE, or NIfTI of Gy")
    structures: Path = Field(description="reference: RTSTRUCT or its folder, label map, or folder of masks")
    predicted: Path | None = Field(default=None, description="predicted contours, in any of these forms")
    ct: Path | None = Field(default=None, description="folder of the CT of the RTSTRUCT; default: looked for beside it")
    delivered: int = Field(default=1, ge=1, description="how often this very fraction was given")
    dose_of: Literal["one_fraction", "all_fractions"] = Field(
        default="one_fraction", description="all_fractions: the grid holds the sum of `delivered` fractions"
    )


class ExternalBeam(Config):
    """Uniform dose from outside, to target and organs alike; 0 Gy where there was none."""

    dose_gy: float = Field(ge=0, description="total, over all fractions")
    num_fractions: int = Field(default=25, ge=1)


class AlphaBeta(Config):
    """In Gy."""

    target: float = Field(default=10.0, gt=0)
    organs: float = Field(default=3.0, gt=0)
    by_structure: dict[str, float] = Field(default_factory=dict)

    def of(self, structure: str) -> float:
        from medpipe.metrics.dose_totals import is_target

        return self.by_structure.get(structure, self.target if is_target(structure) else self.organs)


class DosePlan(Config):
    """A course of brachytherapy."""

    fractions: tuple[FractionConfig, ...] = Field(min_length=1)
    prescription_gy: float | None = Field(default=None, gt=0, description="physical dose of one fraction, for V100")
    external_beam: ExternalBeam | None = None  # None: unknown, and the planning aims are not assessed
    alpha_beta: AlphaBeta = AlphaBeta()
    manifest: str = "gynecologic_brachytherapy"  # whose aliases name the structures
    structures: tuple[str, ...] = ()  # of the manifest; () means all that are drawn
    target: str | None = "ctv_high_risk"  # must be there in every fraction; null: organs alone
    label_values: dict[str, int] = Field(default_factory=dict)  # structure -> value, for label maps
    step_mm: float = Field(default=0.5, gt=0, le=2, description="of the samples inside a structure")
    outside: Literal["refuse", "count"] = "refuse"  # structures that leave the dose grid; count: as 0 Gy, stated


def read_plan(path: Path) -> DosePlan:
    """A plan's YAML file, its paths made absolute against its folder. ConfigError with line and column."""
    from medpipe.config.reader import read_tree
    from medpipe.config.validation import validate

    plan = validate(DosePlan, read_tree(path))
    base = path.resolve().parent

    def placed(one: Path | None) -> Path | None:
        return None if one is None else base / one.expanduser()

    fractions = tuple(
        fraction.model_copy(update={name: placed(getattr(fraction, name)) for name in
                                    ("dose", "structures", "predicted", "ct")})
        for fraction in plan.fractions
    )  # fmt: skip
    if plan.manifest.endswith((".yaml", ".yml")):
        plan = plan.model_copy(update={"manifest": str(base / plan.manifest)})
    return plan.model_copy(update={"fractions": fractions})


def plan_of_command(
    plan: Path | None,
    doses: Sequence[Path],
    references: Sequence[Path],
    predicted: Sequence[Path],
    options: Mapping[str, Any],
) -> DosePlan:
    """From the command line: a plan's file, or options; those not given are None. ConfigError for both at once."""
    given = {name: value for name, value in options.items() if value is not None}
    if plan is None:
        if given.get("target") == "none":
            given["target"] = None
        try:
            return plan_of_options(doses, references, predicted, **given)
        except ValidationError as error:
            faults = error.errors(include_url=False)
            raise wrong("; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in faults)) from None
    if doses or references or predicted or given:
        raise wrong(f"{plan} holds the whole course: options for fractions, doses or names go into that file")
    return read_plan(plan)


def plan_of_options(
    doses: Sequence[Path],
    structures: Sequence[Path],
    predicted: Sequence[Path] = (),
    *,
    prescription_gy: float | None = None,
    external_beam_gy: float | None = None,
    external_beam_fractions: int = 25,
    names: Sequence[str] = (),
    target: str | None = "ctv_high_risk",
    manifest: str = "gynecologic_brachytherapy",
    alpha_beta_target: float = 10.0,
    alpha_beta_organs: float = 3.0,
    outside: Literal["refuse", "count"] = "refuse",
    step_mm: float = 0.5,
) -> DosePlan:
    """The same from repeated options: the n-th dose belongs to the n-th structures (and prediction)."""
    if not doses:
        raise wrong("no fraction: give a plan's YAML file, or --dose and --reference for each fraction")
    if len(doses) != len(structures) or len(predicted) not in (0, len(doses)):
        raise wrong(
            f"{len(doses)} --dose, {len(structures)} --reference and {len(predicted)} --predicted: one each a "
            "fraction is expected (--predicted for all fractions or for none)"
        )
    found = [*predicted] or [None] * len(doses)
    external = None
    if external_beam_gy is not None:
        external = ExternalBeam(dose_gy=external_beam_gy, num_fractions=external_beam_fractions)
    return DosePlan(
        fractions=tuple(
            FractionConfig(dose=dose, structures=one, predicted=other)
            for dose, one, other in zip(doses, structures, found, strict=True)
        ),
        prescription_gy=prescription_gy,
        external_beam=external,
        alpha_beta=AlphaBeta(target=alpha_beta_target, organs=alpha_beta_organs),
        manifest=manifest,
        structures=tuple(names),
        target=target,
        outside=outside,
        step_mm=step_mm,
    )


def checked_manifest(plan: DosePlan) -> Manifest:
    """The plan's manifest, with only the structures that the plan asks for; ConfigError for names it does not hold."""
    try:
        manifest = load_manifest(plan.manifest)
    except ConfigError:
        raise
    except ValueError as error:
        raise wrong(str(error)) from None
    named = {
        "structures": plan.structures,
        "alpha_beta.by_structure": plan.alpha_beta.by_structure,
        "label_values": plan.label_values,
        "target": [plan.target] if plan.target else [],
    }
    for where, names in named.items():
        for name in names:
            if name not in manifest.structures:
                hint = suggestion(name, manifest.structures, f"structures of {plan.manifest}")
                raise wrong(f"{where}: '{name}' is not in the manifest {plan.manifest}{hint}")
    for name, value in plan.alpha_beta.by_structure.items():
        if value <= 0:
            raise wrong(f"alpha_beta.by_structure: {name}: {value} Gy, a number above 0 is expected")
    if not plan.structures:
        return manifest
    wanted = {name: manifest.structures[name] for name in (plan.target, *plan.structures) if name is not None}
    return manifest.model_copy(update={"structures": wanted})


def wrong(message: str) -> ConfigError:
    return ConfigError([Problem("medpipe dose", None, None, message)])
