import pytest

from medpipe.datasets.manifest import load_manifest
from medpipe.datasets.structure_names import AmbiguousName, alias_table, normalise_name, resolve_names

ALIASES = load_manifest("gynecologic_brachytherapy").aliases


@pytest.mark.parametrize(
    ("name", "structure"),
    [
        *(
            (name, "ctv_high_risk")
            for name in ("HRCTV", "HR-CTV", "CTV_HR", "CTVHR", "hr ctv", "HR_CTV_Fx2", "CTV-T_HR")
        ),
        *((name, "ctv_high_risk") for name in ("zHRCTV", "HRCTV Fr03", "CTV_High", "ctv_high_risk")),
        *((name, "bladder") for name in ("Bladder", "BLADDER", " Blase", "Vessie", "Bl")),
        *((name, "rectum") for name in ("RECTUM", "Rect", "Rektum", "rectum_fx1")),
        *((name, "sigmoid_colon") for name in ("Sigmoid", "Colon_Sigmoid", "SigmoidColon", "Sigmoïde", "Sig")),
        *((name, "uterus") for name in ("Uterus", "Ut", "uterus", "Utérus")),
    ],
)
def test_a_clinical_name_is_its_structure(name: str, structure: str) -> None:
    assert resolve_names([name], ALIASES).chosen == {structure: 0}


@pytest.mark.parametrize(
    "name",
    [
        "HRCTV_old", "HRCTV_copy", "HRCTV2", "IRCTV", "GTV_res", "CTV", "CTV_HR_PRV5", "Bladder_PRV", "PRV Bladder",
        "Bladder_opt", "ring_HRCTV", "Rectum_dose", "RectumWall", "test", "Bladder_1", "Uterus+Cervix", "Sigmoid_new",
        "BODY", "Applicator", "Bowel", "Fx2", "",
    ],
)  # fmt: skip
def test_a_planning_helper_or_another_structure_is_nothing(name: str) -> None:
    assert resolve_names([name], ALIASES).chosen == {}


@pytest.mark.parametrize(
    "names", [["HRCTV", "HR-CTV"], ["HRCTV", "HRCTV_Fx2"], ["Bladder", "Bladder"], ["Ut", "Uterus"]]
)
def test_two_candidates_for_one_structure_are_refused_by_name(names: list[str]) -> None:
    with pytest.raises(AmbiguousName, match=f"could be any of '{names[0]}', '{names[1]}'.*choose"):
        resolve_names(names, ALIASES)


def test_a_candidate_without_contours_is_listed_but_not_chosen() -> None:
    resolution = resolve_names(["HRCTV", "HR-CTV"], ALIASES, usable=[False, True])
    assert resolution.chosen == {"ctv_high_risk": 1}
    assert "HRCTV  -> not used  (ctv_high_risk, but without contours)" in resolution.table()


def test_a_persons_choice_settles_an_ambiguity() -> None:
    resolution = resolve_names(["HRCTV", "CTV_HR_final"], ALIASES, choose={"ctv_high_risk": "CTV_HR_final"})
    assert resolution.chosen == {"ctv_high_risk": 1}


def test_a_choice_that_is_not_there_is_refused() -> None:
    with pytest.raises(AmbiguousName, match="'CTV_final' for ctv_high_risk, which is not there"):
        resolve_names(["HRCTV"], ALIASES, choose={"ctv_high_risk": "CTV_final"})


def test_the_table_names_every_region_and_every_structure() -> None:
    table = resolve_names(["HR_CTV_Fx2", "ring"], ALIASES).table()
    assert "HR_CTV_Fx2 -> ctv_high_risk  (fraction number taken off)" in table
    assert "ring       -> not used" in table
    assert "(none)     -> rectum  (not found)" in table


def test_an_alias_of_two_structures_is_refused() -> None:
    with pytest.raises(AmbiguousName, match="alias 'b-l' of bowel is also an alias of bladder"):
        alias_table({"bladder": ("Bl",), "bowel": ("b-l",)})


def test_case_accents_and_separators_do_not_matter() -> None:
    assert normalise_name(" Hr-CTV.") == normalise_name("HR_ctv") == "hrctv"
    assert normalise_name("Utérus") == "uterus"
