from medpipe.config.suggestions import closest, suggestion


def test_a_misspelt_name_is_recognised() -> None:
    assert suggestion("foregroud_fraction", ["size", "foreground_fraction"]) == "; did you mean 'foreground_fraction'?"
    assert closest("zzz", ["size"]) is None


def test_the_beginning_of_a_single_name_is_recognised() -> None:
    assert closest("swin", ["stunet", "swin_unetr"]) == "swin_unetr"
    assert closest("swin", ["swin_unetr_small", "swin_unetr_base"]) is None


def test_otherwise_the_known_names_are_listed() -> None:
    assert suggestion("zzz", ["b", "a"], "keys") == "; keys: a, b"
    assert suggestion("zzz", []) == ""
