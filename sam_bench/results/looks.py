"""What a method looks like: colour, marker and dashes, the same in every figure, every chart and every experiment."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from sam_bench.results.arms import Block

# On white paper and on the report's dark one. The closest two are 0.10 apart in OKLab, for readers with full colour
# vision and for protanopes, deuteranopes and tritanopes (Machado et al. 2009); contrast with the paper is at least 3.2.
COLOURS = (
    ("#1a1d21", "#f5f5f5"), ("#0387fe", "#adcdfd"), ("#c77700", "#e77617"), ("#02482d", "#50b5a1"),
    ("#e907c4", "#bb34e1"), ("#297282", "#3a868b"), ("#6f0880", "#c387fe"), ("#7f6107", "#e8c94e"),
)  # fmt: skip
# One shape twice: matplotlib's letter, and an SVG path around 0, about 12 wide.
MARKERS = (
    ("o", "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z"), ("s", "M-5-5h10v10h-10z"), ("D", "M0-6L6 0L0 6L-6 0z"),
    ("^", "M0-6L6 5H-6z"), ("v", "M0 6L6-5H-6z"), ("P", "M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z"),
    ("X", "M-6-3L-3-6L0-3L3-6L6-3L3 0L6 3L3 6L0 3L-3 6L-6 3L-3 0z"),
    ("*", "M0-7L1.8-2.2L6.7-2.2L2.8 1L4.1 5.7L0 2.9L-4.1 5.7L-2.8 1L-6.7-2.2L-1.8-2.2z"),
    ("<", "M-6 0L5-6V6z"), (">", "M6 0L-5-6V6z"),
)  # fmt: skip
DASHES = ((), (4, 1.5), (1, 1), (3, 1, 1, 1), (5, 1, 1, 1, 1, 1), (9, 2), (1, 2.5), (7, 1.5, 3, 1.5))
# The shipped methods by their place, eight colours a line. Add new ones at the end: a place never changes.
SHIPPED = (
    "erm", "sam", "looksam", "ae_sam", "ae_looksam", "graphsam", "vsam", "looksam_cifar",
    "extrapolated_sgd", "asam", "fsam", "gsam", "esam", "ausam", "msam", "sam_every_k",
    "extrapolated_sgd_noise", "asam_all", "graphsam_reference", "graphsam_reference_global",
    "graphsam_reference_kept_norm", "graphsam_reference_gpu", "graphsam_reference_plain_loss",
    "graphsam_reference_plain_decay",
    "graphsam_reference_not_adaptive", "adasam", "looksam_per_tensor", "sam_vi", "sam_vi_mfvi",
)  # fmt: skip
PLACES = len(COLOURS) * len(MARKERS)


@dataclass(frozen=True)
class Look:
    """Places in COLOURS, MARKERS and DASHES; a hollow marker is that of a variant."""

    colour: int
    marker: int
    dash: int
    hollow: bool = False

    @property
    def color(self) -> str:
        """On paper."""
        return COLOURS[self.colour][0]

    @property
    def letter(self) -> str:
        """The marker's name in matplotlib."""
        return MARKERS[self.marker][0]

    @property
    def dashes(self) -> tuple[float, ...]:
        """Lengths of strokes and gaps, in line widths; () for a whole line."""
        return DASHES[self.dash]

    @property
    def packed(self) -> list[int]:
        """As the report's scripts have it: the places, and whether it is hollow."""
        return [self.colour, self.marker, self.dash, int(self.hollow)]

    @property
    def face(self) -> str:
        """What fills the marker on paper."""
        return "white" if self.hollow else self.color


def looks(found: Sequence[Block]) -> dict[str, Look]:
    """The look of every arm's name.

    The arms of one method share its colour. The one that is called as the method, or else the first, has its marker;
    the others have hollow ones and other dashes.
    """
    methods = dict.fromkeys(str(arm.labels["optimizer"]) for block in found for arm in block.arms)
    own = looks_of(list(methods))
    names: dict[str, list[str]] = {method: [] for method in methods}
    for arm in (arm for block in found for arm in block.arms):
        if arm.name not in names[str(arm.labels["optimizer"])]:
            names[str(arm.labels["optimizer"])].append(arm.name)
    ordered = {method: sorted(every, key=method.__ne__) for method, every in names.items()}
    return {name: _variant(own[method], n) for method, every in ordered.items() for n, name in enumerate(every)}


def looks_of(methods: Sequence[str]) -> dict[str, Look]:
    """The look of each method of a figure: its place in SHIPPED; of a method of one's own, by a hash of its name.

    Two of one's own whose hashes fall on one place, in one figure: the later by name takes the next free place.
    """
    places = {name: SHIPPED.index(name) for name in methods if name in SHIPPED}
    free = PLACES - len(SHIPPED)
    for name in sorted(set(methods) - set(SHIPPED)):
        first = zlib.crc32(name.encode()) % free
        order = [len(SHIPPED) + (first + step) % free for step in range(free)]
        places[name] = next((place for place in order if place not in places.values()), order[0])
    return {name: _of_place(places[name]) for name in methods}


def _of_place(place: int) -> Look:
    """Each of the 80 places has its own pair of colour and marker; of the first 64, its own of colour and dashes."""
    colours, markers = len(COLOURS), len(MARKERS)
    # 8 and 10 have the common multiple 40: from there on the same pairs would come again.
    shift = place // (PLACES // 2)
    return Look(place % colours, (place + shift) % markers, (place + place // colours) % len(DASHES))


def _variant(own: Look, n: int) -> Look:
    if n == 0:
        return own
    return Look(own.colour, (own.marker + n) % len(MARKERS), (own.dash + n) % len(DASHES), hollow=True)


def css() -> str:
    """The colours as variables of a style sheet: --c0, --c1, ..."""
    return "\n".join(f"  --c{i}: light-dark({light}, {dark});" for i, (light, dark) in enumerate(COLOURS))


def for_charts() -> dict[str, list[str]]:
    """Markers and dashes as SVG has them, for lines two pixels wide."""
    return {
        "markers": [path for _, path in MARKERS],
        "dashes": [" ".join(f"{2 * length:g}" for length in dashes) for dashes in DASHES],
    }
