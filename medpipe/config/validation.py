"""From the tree to a frozen, typed config; every fault at the line and column where it was written."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from pydantic import BaseModel, TypeAdapter, ValidationError

from medpipe.config.errors import Problem, raise_if_any
from medpipe.config.models import known_keys, models_at, tag_values
from medpipe.config.origin import Origin
from medpipe.config.suggestions import suggestion
from medpipe.config.tree import TAGS, ListNode, MappingNode, Node, Path, ScalarNode, dotted, plain, walk
from medpipe.config.wording import choices, got, sentence, wrong_tag

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@overload
def validate(model: type[M], node: Node) -> M: ...
@overload
def validate(model: TypeAdapter[T], node: Node) -> T: ...


def validate(model: type[BaseModel] | TypeAdapter[Any], node: Node) -> Any:
    """The node as that class (or what the adapter describes), in pydantic's strict JSON mode.

    A list becomes a tuple, a whole number a float where a float is expected, text a path; nothing else is converted.
    All faults are raised together as one `ConfigError`.
    """
    try:
        return _load(model, node)
    except ValidationError as error:
        problems = _problems(error, model, node)
    raise_if_any(_in_reading_order(problems))
    raise AssertionError("pydantic refused the tree without an error")


def partial_problems(model: type[BaseModel] | TypeAdapter[Any], node: Node) -> list[Problem]:
    """What is wrong with some of the model's values, the others missing: for `defaults`, before interpolation."""
    try:
        _load(model, node)
    except ValidationError as error:
        references = {path for path, leaf in walk(node) if isinstance(leaf, ScalarNode) and "${" in str(leaf.value)}
        errors = [
            detail
            for detail in error.errors(include_url=False)
            if detail["type"] not in ("missing", "union_tag_not_found", "value_error", "assertion_error")
            and locate(node, detail["loc"], detail["type"]).path not in references
        ]
        return _in_reading_order(_worded(errors, model, node))
    return []


def _load(model: type[BaseModel] | TypeAdapter[Any], node: Node) -> Any:
    text = json.dumps(plain(node), allow_nan=False)
    if isinstance(model, TypeAdapter):
        return model.validate_json(text, strict=True, by_alias=True, by_name=False)
    return model.model_validate_json(text, strict=True, by_alias=True, by_name=False)


@dataclass(frozen=True)
class Place:
    """Where an error of pydantic lies in the tree."""

    node: Node
    path: Path
    missing: str | int | None = None  # the key or index that should be there
    variant: str | None = None  # the member of an untagged union that was tried
    variant_path: Path = ()


def locate(root: Node, location: tuple[str | int, ...], kind: str) -> Place:
    """Follow pydantic's location; it also names union members and tags, which are no keys of the tree."""
    node, path = root, ()
    variant: str | None = None
    variant_path: Path = ()
    for position, part in enumerate(location):
        rest = location[position + 1 :]
        child = None if _is_tag(node, part, rest) else _child(node, part)
        if child is not None:
            node, path = child, (*path, part)
        elif kind == "missing" and not rest:
            return Place(node, path, part, variant, variant_path)
        elif variant is None and not _is_tag(node, part, rest):
            variant, variant_path = str(part), path
    return Place(node, path, None, variant, variant_path)


def _child(node: Node, part: str | int) -> Node | None:
    if isinstance(node, MappingNode):
        return node.get(part) if isinstance(part, str) else None
    if isinstance(node, ListNode):
        return node.items[part] if isinstance(part, int) and part < len(node.items) else None
    return None


def _is_tag(node: Node, part: str | int, rest: tuple[str | int, ...]) -> bool:
    """Whether that part of a location is the tag of a union and no key: `{stage: report, report: ...}` has both."""
    if not isinstance(node, MappingNode):
        return False
    names_variant = any(
        isinstance(entry := node.get(tag), ScalarNode) and entry.value is not None and str(entry.value) == part
        for tag in TAGS
    )
    child = _child(node, part)
    return names_variant and (child is None or (bool(rest) and _child(child, rest[0]) is None))


def _problems(error: ValidationError, model: Any, root: Node) -> list[Problem]:
    return _worded(error.errors(include_url=False), model, root)


def _worded(errors: Iterable[Any], model: Any, root: Node) -> list[Problem]:
    """One problem an error; those of one untagged union, and those of one short tuple, are put together."""
    annotation = model._type if isinstance(model, TypeAdapter) else model
    problems: list[Problem] = []
    unions: dict[Path, dict[str, list[str]]] = {}
    short_lists: dict[Path, int] = {}
    for error in errors:
        place = locate(root, error["loc"], error["type"])
        if place.variant is not None:
            message = _message(error, place, annotation, root)[1]
            unions.setdefault(place.variant_path, {}).setdefault(place.variant, []).append(message)
        elif isinstance(place.missing, int):
            short_lists[place.path] = max(short_lists.get(place.path, 0), place.missing + 1)
        else:
            problems.append(Problem.at(*_message(error, place, annotation, root)))
    problems += [_union_problem(root, path, variants) for path, variants in unions.items()]
    problems += [_short_list_problem(root, path, length) for path, length in short_lists.items()]
    return problems


def _message(error: Mapping[str, Any], place: Place, annotation: Any, root: Node) -> tuple[Origin, str]:
    """Where the error lies and what it says."""
    kind, name, node = error["type"], dotted(_name(place.path)), place.node
    if kind == "extra_forbidden":
        models = models_at(annotation, root, place.path[:-1])
        hint = suggestion(str(place.path[-1]), known_keys(models), "known keys")
        return _key_origin(root, place.path), f"unknown key '{place.path[-1]}'{hint}"
    if kind == "missing":
        subject = f"'{name}' lacks" if name else "lacks"
        return node.origin, f"{subject} the key '{place.missing}'"
    if kind == "union_tag_invalid" and isinstance(node, MappingNode):
        tag = error["ctx"]["discriminator"].strip("'")
        entry = node.get(tag) or node
        return entry.origin, wrong_tag(tag, name, choices(error["ctx"]["expected_tags"]), entry)
    if kind == "union_tag_not_found":
        return node.origin, _tag_not_found(error, name, place, annotation, root)
    return node.origin, sentence(error, name, node)


def _tag_not_found(error: Mapping[str, Any], name: str, place: Place, annotation: Any, root: Node) -> str:
    tag = error["ctx"]["discriminator"].strip("'")
    if not isinstance(place.node, MappingNode):
        return f"'{name}' must be a mapping with the key '{tag}', got {got(place.node)}"
    values = tag_values(models_at(annotation, root, place.path), tag)
    known = f", one of {', '.join(values)}" if values else ""
    return f"'{name}' lacks the key '{tag}'{known}" if name else f"lacks the key '{tag}'{known}"


def _union_problem(root: Node, path: Path, variants: Mapping[str, list[str]]) -> Problem:
    node = _at(root, path)
    told = list(dict.fromkeys(message for messages in variants.values() for message in messages))
    return Problem.at(node.origin, told[0] if len(told) == 1 else f"{'; or '.join(told)}")


def _short_list_problem(root: Node, path: Path, length: int) -> Problem:
    node = _at(root, path)
    assert isinstance(node, ListNode)
    name = dotted(_name(path))
    return Problem.at(node.origin, f"'{name}' must have {length} entries, got {len(node.items)}")


def _name(path: Path) -> Path:
    """What to call a value: its key, and the indices behind it (`size.0`)."""
    keys = [position for position, part in enumerate(path) if isinstance(part, str)]
    return path[keys[-1] :] if keys else path


def _key_origin(root: Node, path: Path) -> Origin:
    parent = _at(root, path[:-1])
    if isinstance(parent, MappingNode) and isinstance(path[-1], str):
        return parent.key_origin(path[-1])
    return _at(root, path).origin


def _at(root: Node, path: Path) -> Node:
    node = root
    for part in path:
        child = _child(node, part)
        assert child is not None, f"{dotted(path)} is not in the tree"
        node = child
    return node


def _in_reading_order(problems: Iterable[Problem]) -> list[Problem]:
    """By line within a file; files and arguments in the order in which they come up."""
    listed = list(problems)
    order = {source: rank for rank, source in enumerate(dict.fromkeys(problem.file for problem in listed))}
    return sorted(listed, key=lambda problem: (order[problem.file], problem.line or 0, problem.column or 0))
