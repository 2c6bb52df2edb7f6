"""A table as text: for a terminal, Markdown, LaTeX and HTML."""

import html
import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from sam_bench.errors import printable


@dataclass(frozen=True)
class Cell:
    """What one cell says; `value` is the raw number behind the text, to sort by."""

    text: str
    bold: bool = False
    value: float | None = None


@dataclass(frozen=True)
class Section:
    """One printed table: a title, a header, rows as long as the header, and notes below."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default_factory=tuple)


def _shown(sections: Sequence[Section]) -> list[Section]:
    """The same tables, each text in one line and without control characters: names may come from a user's file."""
    return [
        replace(
            section, title=printable(section.title), header=[printable(text) for text in section.header],
            rows=[[replace(cell, text=printable(cell.text)) for cell in row] for row in section.rows],
            notes=[printable(note) for note in section.notes],
        )
        for section in sections
    ]  # fmt: skip


def terminal(sections: Sequence[Section]) -> str:
    """Aligned columns of plain text."""
    parts = []
    for section in _shown(sections):
        lines = [list(section.header), *([cell.text for cell in row] for row in section.rows)]
        widths = [max(_width(text) for text in column) for column in zip(*lines, strict=True)]
        drawn = ["  ".join(_pad(text, width) for text, width in zip(line, widths, strict=True)) for line in lines]
        drawn.insert(1, "-" * (sum(widths) + 2 * len(widths) - 2))
        parts.append("\n".join([section.title, *(line.rstrip() for line in drawn), *section.notes]))
    return "\n\n".join(parts) + "\n"


def markdown(sections: Sequence[Section]) -> str:
    """GitHub's tables."""
    parts = []
    for section in _shown(sections):
        lines = [[_markdown(text) for text in section.header], ["---"] + ["---:"] * (len(section.header) - 1)]
        for row in section.rows:
            lines.append([f"**{_markdown(cell.text)}**" if cell.bold else _markdown(cell.text) for cell in row])
        drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        notes = "\n".join(f"- {_markdown(note)}" for note in section.notes)
        parts.append(f"### {_markdown(section.title)}\n\n{drawn}\n\n{notes}".rstrip())
    return "\n\n".join(parts) + "\n"


def latex(sections: Sequence[Section]) -> str:
    r"""Tables for `\usepackage{booktabs}`."""
    parts = ["% needs \\usepackage{booktabs}; the notes need \\usepackage{threeparttable}"]
    for section in _shown(sections):
        lines = ["\\begin{table}", "\\centering", f"\\caption{{{_latex(section.title)}}}", "\\begin{threeparttable}"]
        lines += [f"\\begin{{tabular}}{{l{'r' * (len(section.header) - 1)}}}", "\\toprule"]
        lines += [" & ".join(_latex(text) for text in section.header) + r" \\", "\\midrule"]
        for row in section.rows:
            texts = [f"\\textbf{{{_latex(cell.text)}}}" if cell.bold else _latex(cell.text) for cell in row]
            lines.append(" & ".join(texts) + r" \\")
        lines += ["\\bottomrule", "\\end{tabular}", "\\begin{tablenotes}\\footnotesize"]
        lines += [f"\\item {_latex(note)}" for note in section.notes] or ["\\item"]
        parts.append("\n".join([*lines, "\\end{tablenotes}", "\\end{threeparttable}", "\\end{table}"]))
    return "\n\n".join(parts) + "\n"


def html_tables(sections: Sequence[Section]) -> str:
    """Tables that can stand in any page; the raw number of a cell is its `data-value`."""
    parts = []
    for section in _shown(sections):
        head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in section.header)
        body = "\n".join(
            f"<tr>{''.join(_html(cell, i == 0) for i, cell in enumerate(row))}</tr>" for row in section.rows
        )
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in section.notes)
        title = html.escape(section.title)
        scroll = f'<div class="scroll" tabindex="0" role="region" aria-label="table: {title}">'
        lines = [f"{scroll}<table>", f"<caption>{title}</caption>"]
        lines += [f"<thead><tr>{head}</tr></thead>", "<tbody>", body, "</tbody>", "</table></div>"]
        parts.append("\n".join([*lines, *([f'<ul class="notes">{notes}</ul>'] if notes else [])]) + "\n")
    return "\n".join(parts)


def _html(cell: Cell, first: bool) -> str:
    text = f"<strong>{html.escape(cell.text)}</strong>" if cell.bold else html.escape(cell.text)
    if first:
        return f'<th scope="row">{text}</th>'
    known = cell.value is not None and math.isfinite(cell.value)
    return f'<td data-value="{cell.value!r}">{text}</td>' if known else f"<td>{text}</td>"


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Columns on a terminal; combining and wide characters count as what they take."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) != 0 for char in text)


def _markdown(text: str) -> str:
    for char in "\\|*_<":
        text = text.replace(char, f"\\{char}")
    # No link: neither [text](address), nor an address that GitHub makes one of.
    return text.replace("](", "]\\(").replace("://", ":\\//").replace("www.", "www\\.")


def spreadsheet_cell(text: str) -> str:
    """A csv cell that a spreadsheet program does not compute: a ' stands before what it would take for a formula."""
    text = printable(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "±": r"$\pm$", "†": r"$\dagger$",
    "‡": r"$\ddagger$", "✗": r"$\times$", "§": r"\S{}", "≠": r"$\neq$", "¶": r"\P{}", "*": r"$^{*}$",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(LATEX.get(char, char) for char in text)


RENDERERS: dict[str, Callable[[Sequence[Section]], str]] = {
    "terminal": terminal,
    "markdown": markdown,
    "latex": latex,
    "html": html_tables,
}
