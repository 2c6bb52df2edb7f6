"""The cells of tables: a metric, a difference with its interval, a test. Every table writes them with these."""

import math

from sam_bench.results.arms import Arm, Block
from sam_bench.results.fairness import mixed_arithmetic, mixed_code
from sam_bench.results.stats import Comparison
from sam_bench.results.tables.render import Cell
from sam_bench.results.verify import unfair

PERCENT = {"accuracy"}


def number(value: float, digits: int) -> str:
    """A number with so many decimals, n/a for one that does not exist, and a minus only where it shows."""
    return "n/a" if not math.isfinite(value) else f"{value:z.{digits}f}"


def unit(block: Block) -> tuple[float, int, str]:
    """Scale, decimals and header of a block's metric: accuracies in %, four significant digits elsewhere."""
    name = f"test/{block.metric['name']}"
    if block.metric["name"] in PERCENT:
        return 100.0, 2, f"{name} (%)"
    largest = max((abs(arm.score.mean) for arm in block.arms if math.isfinite(arm.score.mean)), default=0.0)
    return 1.0, 4 if largest < 10 else 3 if largest < 100 else 2, name


def score_cell(arm: Arm, scale: float, digits: int) -> Cell:
    """`mean ± std (n)` with the marks; bold where the gain over the base arm passes the test."""
    score = arm.score
    fair = not unfair(arm)
    passes = fair and arm.versus is not None and arm.versus.significant
    marks = ("*" if passes else "") + ("†" if arm.short else "") + ("‡" if arm.unverified else "")
    marks += ("" if fair else "§") + ("¶" if mixed_code(arm) else "") + ("≠" if mixed_arithmetic(arm) else "")
    marks += f" ✗{len(arm.failed)}" if arm.failed else ""
    spread = f" ± {number(score.std * scale, digits)}" if score.n > 1 else ""
    text = f"{number(score.mean * scale, digits)}{spread} ({score.n})" if score.n else "n/a (0)"
    return Cell(f"{text}{marks}", bold=passes and arm.versus is not None and arm.versus.better, value=score.mean)


def valid_cell(arm: Arm, scale: float, digits: int) -> Cell:
    """`mean ± std` of the valid metric that chose the epoch."""
    valid = arm.valid
    spread = f" ± {number(valid.std * scale, digits)}" if valid.n > 1 else ""
    return Cell(f"{number(valid.mean * scale, digits)}{spread}", value=valid.mean)


def difference_cell(versus: Comparison | None, scale: float, digits: int) -> Cell:
    """`difference [95 % interval]`; no interval from fewer pairs than could ever reject a difference."""
    if versus is None:
        return Cell("-")
    mean, low, high = (v * scale for v in (versus.mean, versus.low, versus.high))
    sign = "+" if mean >= 0.5 * 10**-digits else ""
    ends = f" [{number(low, digits)}, {number(high, digits)}]" if not versus.too_few else ""
    return Cell(f"{sign}{number(mean, digits)}{ends}", value=versus.mean)


def test_cell(versus: Comparison | None) -> Cell:
    """The corrected p of the exact test, or why there is none."""
    if versus is None:
        return Cell("-")
    if versus.too_few:
        return Cell(f"too few seeds ({versus.n})", value=math.nan)
    return Cell(p_value(versus.p_holm), value=versus.p_holm)


def p_value(p: float) -> str:
    """Three decimals; no p of a finite number of sign patterns is 0, so a smaller one is `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
