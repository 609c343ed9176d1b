from medpipe.config.suggestions import closest, suggestion


def test_a_misspelt_name_is_recognised() -> None:
    assert suggestion("foregroud_fraction", ["size", "foreground_fraction"]) == "; did you mean 'foreground_fraction'?"
    assert closest("zzz", ["size"]) is None


def test_otherwise_the_known_names_are_listed() -> None:
    assert suggestion("zzz", ["b", "a"], "keys") == "; keys: a, b"
    assert suggestion("zzz", []) == ""
