from types import SimpleNamespace

import pytest

from medpipe.config.errors import ConfigError
from medpipe.config.interpolation import interpolate
from medpipe.config.overrides import apply_overrides, parse_override
from medpipe.config.reader import read_text
from medpipe.config.tree import node_at, plain


def after(text: str, *arguments: str, at: str, known_keys: tuple[str, ...] = ()) -> object:
    tree = apply_overrides(read_text(text, "w.yaml"), arguments, known_keys=known_keys)
    node = node_at(tree, tuple(at.split(".")))
    return None if node is None else plain(node)


def refusal(text: str, *arguments: str, known_keys: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        after(text, *arguments, at="x", known_keys=known_keys)
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("[1,2]", [1, 2]),
        ("true", True),
        ("null", None),
        ("1e-3", 1e-3),
        ("no", "no"),
        ("'012'", "012"),
        ("{a: 1}", {"a": 1}),
        ("a=b", "a=b"),
        ("''", ""),
        (r"C:\data", r"C:\data"),
    ],
)
def test_a_value_is_read_by_the_strict_reader(written: str, value: object) -> None:
    assert after("seed: 0", f"seed={written}", at="seed") == value


def test_a_stage_may_be_named_in_full_or_in_short(toy: SimpleNamespace) -> None:
    for key in ("stages.organs.training.num_steps", "organs.training.num_steps"):
        assert after(toy.text, f"{key}=500", at="stages.organs.training.num_steps") == 500


def test_a_key_of_the_workflow_wins_over_a_stage_of_the_same_name() -> None:
    text = "{report: {a: 1}, stages: {report: {stage: report, a: 1}}}"
    assert after(text, "report.a=2", at="report.a") == 2
    assert after(text, "report.a=2", at="stages.report.a") == 1


def test_the_value_and_the_mappings_made_on_the_way_name_the_argument() -> None:
    tree = apply_overrides(read_text("seed: 0", "w"), ["data.root=x"])
    for path in (("data",), ("data", "root")):
        node = node_at(tree, path)
        assert node is not None
        assert str(node.origin) == "command line: data.root=x"


def test_an_entry_of_a_list_is_named_by_its_number(toy: SimpleNamespace) -> None:
    assert after(toy.text, "organs.structures.1=uterus", at="stages.organs.structures") == ["bladder", "uterus"]
    assert after("a: [{b: 1, c: 2}]", "a.0.b=5", "a.0.c=6", at="a") == [{"b": 5, "c": 6}]


@pytest.mark.parametrize("entry", ["2", "-1", "x", "1e3", "١", "99999999999"])
def test_an_entry_that_a_list_does_not_have_is_refused(entry: str) -> None:
    message = refusal("a: [1, 2]", f"a.{entry}=5")
    assert f"'a' is a list without an entry '{entry}'; its entries are 0 to 1" in message


def test_of_two_arguments_for_one_key_the_later_wins() -> None:
    assert after("seed: 0", "seed=1", "seed=2", at="seed") == 2


def test_another_backbone_leaves_no_option_of_the_old_one_in_any_order_of_arguments(toy: SimpleNamespace) -> None:
    name, option = "organs.backbone.name=swin_unetr", "organs.backbone.feature_size=12"
    for arguments in ((name, option), (option, name)):
        backbone = after(toy.text, *arguments, at="stages.organs.backbone")
        assert backbone == {"name": "swin_unetr", "feature_size": 12}


def test_defaults_by_kind_of_stage_can_be_given_too(toy: SimpleNamespace) -> None:
    arguments = ("defaults.segmentation_training.training.num_steps=7",)
    assert after(toy.text, *arguments, at="stages.organs.training.num_steps") == 7
    with pytest.raises(ConfigError, match="unknown kind of stage 'segmentatio_training'; did you mean"):
        apply_overrides(read_text(toy.text, "w"), ["defaults.segmentatio_training.x=1"], kinds=toy.kinds)


def test_an_unknown_stage_is_refused_with_a_suggestion(toy: SimpleNamespace) -> None:
    assert refusal(toy.text, "stages.organ.training.num_steps=5") == (
        "command line: stages.organ.training.num_steps=5: the workflow has no stage 'organ'; did you mean 'organs'?"
    )
    assert "'organ' is no key of the workflow and no stage of it; did you mean 'organs'?" in refusal(
        toy.text, "organ.x=5"
    )


def test_an_unknown_top_level_key_is_refused_where_the_caller_says_which_are_known(toy: SimpleNamespace) -> None:
    assert "did you mean 'data'?" in refusal(toy.text, "dta.root=x", known_keys=("data", "seed"))
    assert after(toy.text, "data.root=x", at="data.root", known_keys=("data",)) == "x"


@pytest.mark.parametrize("argument", ["seed", "", "=3", "a..b=1", ".a=1", "a.=1", "a b=1", "a[0]=1", "${a}=1"])
def test_a_malformed_argument_is_refused_by_name(argument: str) -> None:
    assert refusal("seed: 0", argument).startswith(f"command line: {argument}: ")


@pytest.mark.parametrize("argument", ["seed=", "seed=  "])
def test_an_argument_without_a_value_is_refused(argument: str) -> None:
    """`data.root=$DATA` with an empty variable must not become null."""
    assert "no value; write seed=null for none" in refusal("seed: 0", argument)


def test_faults_of_a_value_name_the_argument() -> None:
    assert refusal("seed: 0", "seed=012").startswith("command line: seed=012: 012 has a leading zero")
    assert refusal("seed: 0", "seed=[1").startswith("command line: seed=[1: ")
    assert "anchors" in refusal("seed: 0", "seed=&x 1")


def test_all_wrong_arguments_are_told_at_once() -> None:
    assert len(refusal("seed: 0", "seed=012", "nothing", "seed=").splitlines()) == 3


def test_an_argument_over_a_reference_changes_one_value_of_what_it_names() -> None:
    text = "{a: {x: 1, y: 2}, b: '${a}'}"
    tree = interpolate(apply_overrides(read_text(text, "w"), ["b.x=5", "a.y=3"]))
    assert plain(tree) == {"a": {"x": 1, "y": 3}, "b": {"x": 5, "y": 3}}


def test_parsing_alone_gives_the_path_and_the_value() -> None:
    override = parse_override("a.b.0=[x]")
    assert override.path == ("a", "b", "0")
    assert plain(override.value) == ["x"]
