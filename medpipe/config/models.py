"""Which config classes a place of the tree may hold: to name the keys that are known there."""

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from typing_extensions import TypeAliasType

from medpipe.config.tree import TAGS, MappingNode, Node, Path, child_of, tag_of


def models_at(annotation: Any, root: Node, path: Path) -> list[type[BaseModel]]:
    """The classes that the mapping at `path` may be read as; of a tagged union the one that its tag names."""
    variants = list(_variants(annotation))
    classes = [variant for variant in variants if isinstance(variant, type) and issubclass(variant, BaseModel)]
    fitting = [variant for variant in classes if _tags_agree(variant, root)]
    if not path:
        return fitting or classes
    child = child_of(root, path[0])
    if child is None:
        return []
    inner = [step for variant in fitting for step in _field_annotation(variant, str(path[0]))]
    inner += [step for variant in variants if variant not in classes for step in _item_annotation(variant, path[0])]
    return [model for step in inner for model in models_at(step, child, path[1:])]


def known_keys(models: list[type[BaseModel]]) -> list[str]:
    """The keys that YAML may use for the fields: aliases where there are any."""
    return list(dict.fromkeys(field.alias or name for model in models for name, field in model.model_fields.items()))


def tag_values(models: list[type[BaseModel]], tag: str) -> list[str]:
    """The texts that the classes accept under the key `tag`."""
    return [value for model in models for value in _literals(model, tag)]


def _variants(annotation: Any) -> Iterator[Any]:
    """The alternatives of an annotation, without Annotated, type aliases and unions."""
    if isinstance(annotation, TypeAliasType):
        yield from _variants(annotation.__value__)
    elif get_origin(annotation) is Annotated:
        yield from _variants(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _variants(member)
    else:
        yield annotation


def _tags_agree(model: type[BaseModel], node: Node) -> bool:
    if not isinstance(node, MappingNode):
        return True
    for tag in TAGS:
        literals, value = _literals(model, tag), tag_of(node, tag)
        if literals and value is not None and value not in literals:
            return False
    return True


def _literals(model: type[BaseModel], key: str) -> list[str]:
    field = model.model_fields.get(key)
    if field is None or get_origin(field.annotation) is not Literal:
        return []
    return [value for value in get_args(field.annotation) if isinstance(value, str)]


def _field_annotation(model: type[BaseModel], key: str) -> Iterator[Any]:
    for name, field in model.model_fields.items():
        if (field.alias or name) == key:
            yield field.annotation


def _item_annotation(annotation: Any, part: str | int) -> Iterator[Any]:
    """The annotation of one entry of a list, tuple or dictionary."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if not isinstance(origin, type) or not arguments:
        return
    if issubclass(origin, Mapping) or isinstance(part, str):
        yield from arguments[-1:] if issubclass(origin, Mapping) else ()
    elif origin is tuple and Ellipsis not in arguments:
        yield arguments[min(part, len(arguments) - 1)]
    else:
        yield arguments[0]
