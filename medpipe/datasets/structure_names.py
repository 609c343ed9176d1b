"""Which region of interest of a clinic's export is which structure: exact rules, never a guess.

A name matches when it is the structure's own name, its TG-263 name or one of its aliases after case, accents and
separators are taken away. A fraction's number at the end ("HR_CTV_Fx2") is taken away too, by one explicit pattern.
Anything else ("HRCTV_old", "Bladder_PRV5", "ring_ctv") matches nothing; two candidates for a structure are refused.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SEPARATORS = re.compile(r"[\s_\-.,;:~^/\\()\[\]]+")
# Fraction numbers as planners append them: Fx2, FX 02, Fr3, Fraction1; no bare digit (CTV1 and CTV2 are two targets).
FRACTION = re.compile(r"(?:fx|fr|fraction|fraktion)\d{1,2}$")


class AmbiguousName(ValueError):
    """Two regions of interest could be one structure."""


@dataclass(frozen=True)
class NameRow:
    """One row of the resolved table: the name in the file, and the structure it was taken for, if any."""

    name: str
    structure: str | None
    remark: str


@dataclass(frozen=True)
class Resolution:
    """`chosen`: structure -> index of the name; `rows`: one for every name and one for every structure not found."""

    chosen: dict[str, int]
    rows: tuple[NameRow, ...]

    def table(self) -> str:
        """The resolved table as text, one line a name."""
        width = max((len(row.name) for row in self.rows), default=0)
        return "\n".join(
            f"{row.name:<{width}} -> {row.structure or 'not used'}{f'  ({row.remark})' if row.remark else ''}"
            for row in self.rows
        )


def normalise_name(name: str) -> str:
    """Lower case, without accents and separators: 'HR-CTV', 'hr ctv' and 'HR_CTV' are one name."""
    decomposed = unicodedata.normalize("NFKD", name.strip()).casefold()
    plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return SEPARATORS.sub("", plain)


def without_fraction(normalised: str) -> str:
    """The normalised name less a fraction's number at its end."""
    return FRACTION.sub("", normalised)


def alias_table(aliases: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Normalised alias -> structure. Raises AmbiguousName where two structures claim one alias."""
    table: dict[str, str] = {}
    for structure, names in aliases.items():
        for name in (structure, *names):
            normalised = normalise_name(name)
            other = table.setdefault(normalised, structure)
            if other != structure:
                raise AmbiguousName(
                    f"alias {name!r} of {structure} is also an alias of {other}; keep it in one of them"
                )
    return table


def resolve_names(
    names: Sequence[str],
    aliases: Mapping[str, Sequence[str]],
    *,
    usable: Sequence[bool] | None = None,
    choose: Mapping[str, str] | None = None,
) -> Resolution:
    """Find each structure among the names of a structure set.

    names    as they stand in the file, duplicates included
    usable   False for a name that holds no contours: it is listed, never chosen
    choose   structure -> name, for the cases where a person has decided; it wins over the aliases

    Raises AmbiguousName, listing the candidates, where two usable names could be one structure.
    """
    usable = [True] * len(names) if usable is None else usable
    choose = choose or {}
    table = alias_table(aliases)
    candidates: dict[str, list[int]] = {structure: [] for structure in aliases}
    claims: list[str | None] = []
    for index, name in enumerate(names):
        structure = _claim(name, table, choose)
        claims.append(structure)
        if structure is not None and usable[index]:
            candidates[structure].append(index)
    for structure, found in candidates.items():
        if len(found) > 1:
            listed = ", ".join(repr(names[index]) for index in found)
            raise AmbiguousName(
                f"{structure} could be any of {listed}; name the right one under `choose:` in the manifest, "
                "or rename or remove the other"
            )
        if structure in choose and not found:
            raise AmbiguousName(
                f"`choose:` names {choose[structure]!r} for {structure}, which is not there with contours"
            )
    chosen = {structure: found[0] for structure, found in candidates.items() if found}
    rows = [_row(name, claim, ok) for name, claim, ok in zip(names, claims, usable, strict=True)]
    rows += [NameRow("(none)", structure, "not found") for structure, found in candidates.items() if not found]
    return Resolution(chosen, tuple(rows))


def _claim(name: str, table: Mapping[str, str], choose: Mapping[str, str]) -> str | None:
    decided = {chosen: structure for structure, chosen in choose.items()}
    if name in decided:
        return decided[name]
    normalised = normalise_name(name)
    structure = table.get(normalised) or table.get(without_fraction(normalised))
    return None if structure in choose else structure


def _row(name: str, claim: str | None, usable: bool) -> NameRow:
    if claim is None:
        return NameRow(name, None, "")
    if not usable:
        return NameRow(name, None, f"{claim}, but without contours")
    stripped = normalise_name(name) != without_fraction(normalise_name(name))
    return NameRow(name, claim, "fraction number taken off" if stripped else "")
