"""report.html: one file with its pictures, style and script inside, which asks the network for nothing."""

import json
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from r2g.compare import words
from r2g.compare.analyse import Comparison
from r2g.compare.cells import Cell, Table
from r2g.compare.examples import Example, examples
from r2g.compare.marks import Figure

_PAGE = Path(__file__).with_name("page")
_LONG = 24
_MARKED = ("yes", "no", "higher", "lower")


class PlotlyMissing(RuntimeError):
    """plotly, whose script draws the pictures, isn't installed."""


def bundle() -> str:
    """plotly's own minified script. Raises PlotlyMissing."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise PlotlyMissing(
            "report.html needs plotly: in the checkout, pip install -e '.[compare]'"
        ) from error
    script = get_plotlyjs()
    if "</script" in script.lower():
        raise PlotlyMissing("this plotly's script can't stand inside a page")
    return script


def page(found: Comparison, tables: Sequence[Table], figures: Sequence[Figure]) -> str:
    """The page. Raises PlotlyMissing."""
    blocks = [("found", "In short", _list(words.headline(found), "found"))]
    if missing := words.left_out(found):
        blocks.append(("missing", "Not in it", _list(missing, "found missing")))
    shown = {figure.key: figure for figure in figures}
    by_key = {table.key: table for table in tables}
    for key, parts in _ORDER:
        kept = [p for p in parts if p in shown or p in by_key]
        body = "".join(_figure(shown[p]) if p in shown else _table(by_key[p]) for p in kept)
        if body:
            blocks.append((key, "", body))
    if chosen := examples(found):
        blocks.append(("examples", "Examples", _examples(chosen, found.spec.seed)))
    sections = "\n".join(_section(*block) for block in blocks)
    links = [(k, _TITLES.get(k, title)) for k, title, _ in blocks]
    data = {figure.key: {"data": figure.data, "layout": figure.layout} for figure in figures}
    template = Template((_PAGE / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(found.name),
        question=f'<p class="question">{escape(found.spec.question)}</p>' if found.spec.question else "",
        nav="".join(f'<a href="#{key}">{escape(title)}</a>' for key, title in links),
        body=sections,
        footer=escape(words.NOT_CLINICAL),
        figures=_json(data),
        plotly=bundle(),
        style=(_PAGE / "style.css").read_text(encoding="utf-8"),
        script=(_PAGE / "page.js").read_text(encoding="utf-8"),
    )


# Which tables and pictures stand together, under which anchor.
_ORDER = (
    ("quality-section", ("quality", "scores")),
    ("gaps-section", ("gaps", "differences")),
    ("seeds-section", ("seeds",)),
    ("pace-section", ("loss-steps", "loss-samples", "loss-seconds", "target", "convergence")),
    ("cost-section", ("cost",)),
    ("film-section", ("film", "controls")),
    ("labels-section", ("labels-map", "labels")),
)
_TITLES = {
    "quality-section": "Scores",
    "gaps-section": "Differences",
    "seeds-section": "Seeds",
    "pace-section": "Convergence",
    "cost-section": "Memory and time",
    "film-section": "Film or not",
    "labels-section": "Labels",
}


def _section(key: str, title: str, body: str) -> str:
    head = f"<h2>{escape(title)}</h2>\n" if title else ""
    return f'<section id="{key}">\n{head}{body}</section>'


def _list(lines: Sequence[str], kind: str) -> str:
    return f'<ul class="{kind}">' + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>\n"


def _figure(figure: Figure) -> str:
    # The height stands in the page too, so that anchors don't move when the pictures come.
    return (
        f'<div class="block"><h2 id="{figure.key}">{escape(figure.title)}</h2>\n'
        f'<p class="note">{escape(figure.note)}</p>\n<div class="figure">'
        f'<div class="plot" data-figure="{figure.key}" role="img" aria-label="{escape(figure.title)}" '
        f'style="height:{figure.layout["height"]}px"></div></div></div>\n'
    )


def _table(table: Table) -> str:
    heads = "".join(
        f'<th scope="col"{_side(table, i)}><button type="button">{escape(h)}</button></th>'
        for i, h in enumerate(table.headers)
    )
    rows = "".join(
        "<tr>" + "".join(_cell(cell, _side(table, i)) for i, cell in enumerate(row)) + "</tr>\n"
        for row in table.rows
    )
    return (
        f'<h2 id="{table.key}">{escape(table.title)}</h2>\n<p class="note">{escape(table.note)}</p>\n'
        f'<div class="scroll"><table data-table="{table.key}"><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>\n"
    )


def _side(table: Table, column: int) -> str:
    return ' class="n"' if table.numeric(column) else ""


def _cell(cell: Cell, side: str) -> str:
    value = "" if cell.value is None else escape(str(cell.value))
    text = escape(cell.text)
    if cell.value in _MARKED:
        text = f'<span class="{cell.value}">{text}</span>'
    number, bracket, rest = text.partition(" [")
    if number and bracket and "[" not in rest:
        text = f'{number}<span class="bounds">[{rest}</span>'
    if len(cell.text) > _LONG and "<span" not in text:
        side = side.replace('"n"', '"n long"') or ' class="long"'
    return f'<td{side} data-value="{value}">{text}</td>'


def _examples(chosen: Sequence[Example], seed: int) -> str:
    among = " among those whose film the records show" if any(one.film for one in chosen) else ""
    note = f"Studies drawn by chance{among} (seed {seed}), and what each arm's first seed wrote."
    blocks = "".join(_example(one) for one in chosen)
    return f'<p class="note">{escape(note)}</p>\n<div class="examples">{blocks}</div>\n'


def _example(one: Example) -> str:
    rows = [("wanted", "wanted", one.reference), *[(arm, "", text) for arm, text in one.written]]
    items = "".join(
        f"<dt>{escape(arm)}</dt><dd{f' class={kind}' if kind else ''}>{escape(text)}</dd>"
        for arm, kind, text in rows
    )
    return (
        f'<article class="example"><h3>{escape(one.id)}</h3><div class="side">{_film(one)}<dl>{items}</dl></div>'
        "</article>\n"
    )


def _film(one: Example) -> str:
    if one.film is None:
        return ""
    data = b64encode(one.film).decode()
    return f'<img class="film" alt="film of {escape(one.id)}" src="data:image/jpeg;base64,{data}">'


def _json(data: object) -> str:
    """JSON that can stand inside a script element."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
