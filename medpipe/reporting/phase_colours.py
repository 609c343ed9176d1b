"""The colours of the phases, the same in every figure: matplotlib's tab10 in the fixed order, as published figures."""

from medpipe.metrics.phases import PHASES

PHASE_COLOURS: tuple[str, ...] = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
)
IGNORED_COLOUR = "#e6e8ea"  # nobody could name it

assert len(PHASE_COLOURS) == len(PHASES)
