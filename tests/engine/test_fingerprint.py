from medpipe.engine.fingerprint import fingerprint, scientific_values
from medpipe.engine.workflow import load_workflow


def test_execution_values_stay_out_and_scientific_ones_count() -> None:
    plain = load_workflow("ct_pretraining", ["smoke"]).values.stages["pretrain"]
    workers = load_workflow("ct_pretraining", ["smoke"], ["pretrain.training.num_workers=7"]).values.stages["pretrain"]
    ratio = load_workflow("ct_pretraining", ["smoke"], ["pretrain.masking.mask_ratio=0.5"]).values.stages["pretrain"]
    assert scientific_values(plain) == scientific_values(workers)
    assert scientific_values(plain) != scientific_values(ratio)


def test_seed_cases_and_inputs_count() -> None:
    stage = load_workflow("ct_pretraining", ["smoke"]).values.stages["pretrain"]
    base = fingerprint(stage, seed=0, case_identities=["a"], inputs={"intensity": "1"})
    assert base == fingerprint(stage, seed=0, case_identities=["a"], inputs={"intensity": "1"})
    others = [
        fingerprint(stage, seed=1, case_identities=["a"], inputs={"intensity": "1"}),
        fingerprint(stage, seed=0, case_identities=["b"], inputs={"intensity": "1"}),
        fingerprint(stage, seed=0, case_identities=["a"], inputs={"intensity": "2"}),
    ]
    assert len({base, *others}) == 4
