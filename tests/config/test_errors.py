import pickle

import pytest

from medpipe.config.errors import ConfigError, Problem, raise_if_any
from medpipe.config.origin import Origin


def test_every_problem_has_its_own_line_with_file_line_and_column() -> None:
    error = ConfigError([Problem("a.yaml", 3, 7, "wrong"), Problem("command line: x=1", None, None, "also wrong")])
    assert str(error) == "a.yaml:3:7: wrong\ncommand line: x=1: also wrong"


def test_it_is_a_value_error_and_survives_pickling_between_processes() -> None:
    error = ConfigError([Problem("a.yaml", 3, 7, "wrong")])
    assert isinstance(error, ValueError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_how_a_value_came_about_stands_behind_the_message() -> None:
    origin = Origin("a.yaml", 3, 7).with_note("${seed}").with_note("default of x")
    assert str(Problem.at(origin, "wrong")) == "a.yaml:3:7: wrong (${seed}, default of x)"
    assert str(origin) == "a.yaml:3:7 (${seed}, default of x)"


def test_no_problem_raises_nothing_and_the_same_one_is_told_once() -> None:
    raise_if_any([])
    with pytest.raises(ConfigError) as caught:
        raise_if_any([Problem("a", 1, 1, "x"), Problem("a", 1, 1, "x")])
    assert len(caught.value.problems) == 1
