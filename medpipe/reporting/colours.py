"""Colours that colour-blind readers tell apart: Okabe and Ito's set (2008), brightened where it lies on grey CT."""

MODEL_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
MODEL_MARKERS = ("o", "s", "^", "v", "P", "*", "X")
STRUCTURE_COLOURS = ("#56B4E9", "#FFB000", "#F0E442", "#FF7FC8", "#19D3A2", "#FF6A3D", "#B9A7FF", "#FFFFFF")


def colour_of(index: int, colours: tuple[str, ...]) -> str:
    """The colour of the index-th thing; with more things than colours they come round again."""
    return colours[index % len(colours)]
