"""What a stage's cases are, for fingerprints: ids, patients and the content of their files, wherever these lie."""

import hashlib
import json
from collections.abc import Sequence

from medpipe.datasets.cases import Case, CasesConfig, DataConfig, list_cases
from medpipe.datasets.content import content_key
from medpipe.datasets.questions import QuestionsConfig
from medpipe.engine.question_data import question_identity
from medpipe.engine.workflow import LoadedWorkflow


def case_identities(workflow: LoadedWorkflow) -> dict[CasesConfig, str]:
    """Selection of cases -> the identity of what it selects."""
    values = workflow.values
    selections = dict.fromkeys(cases for stage in values.stages.values() for cases in stage.cases_read())
    return {cases: identity_of(list_cases(cases, values.data, workflow.base), values.data) for cases in selections}


def question_identities(workflow: LoadedWorkflow) -> dict[QuestionsConfig, str]:
    """Selection of questions -> the identity of its set; the selection itself is among the stage's values."""
    values = workflow.values
    selections = dict.fromkeys(found for stage in values.stages.values() for found in stage.questions_read())
    of_set: dict[tuple[str, str], str] = {}  # a set is walked once, however many selections there are of it
    for found in selections:
        if (found.question_set, found.images) not in of_set:
            identity = question_identity(found, values.data, workflow.base)
            of_set[found.question_set, found.images] = identity
    return {found: of_set[found.question_set, found.images] for found in selections}


def identity_of(cases: Sequence[Case], data: DataConfig) -> str:
    """SHA-256 over id, patient and content of the cases, in their order."""
    # A cache that is not there yet is not made for hashes: data that are refused leave nothing behind.
    cache = data.cache if data.cache.is_dir() else None
    facts = [[case.case_id, case.patient_id, content_key(case, cache)] for case in cases]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
