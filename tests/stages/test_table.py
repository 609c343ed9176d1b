from medpipe.engine.workflow import stage_classes
from medpipe.stages.stage import Stage


def test_every_kind_is_a_final_stage_that_says_what_it_does() -> None:
    for kind, stage in stage_classes().items():
        assert issubclass(stage, Stage)
        assert getattr(stage, "__final__", False), kind
        assert stage.__doc__, kind


def test_every_field_that_takes_files_names_the_kinds_it_takes_from() -> None:
    for kind, stage in stage_classes().items():
        for wanted in stage.takes.values():
            assert set(wanted) <= set(stage_classes()), kind
