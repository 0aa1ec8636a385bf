"""A contact sheet: films with their labels beneath. `python -m r2g.phantom.contact OUT.png`."""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw

from r2g.phantom.dataset import study_rng
from r2g.phantom.draw import draw
from r2g.phantom.findings import Case, draw_case

_LINE = 12


def contact_sheet(count: int, seed: int, views: int, size_px: int = 192, columns: int = 6) -> Image.Image:
    """Draw `count` studies of the split "sheet", each with the codes of its findings beneath."""
    per_row = max(1, columns // views)
    cell, text = size_px * views + 8, 5 * _LINE
    sheet = Image.new("L", (cell * per_row, (size_px + text) * -(-count // per_row)))
    pen = ImageDraw.Draw(sheet)
    for index in range(count):
        rng = study_rng(seed, "sheet", index)
        case = draw_case(rng)
        left, top = cell * (index % per_row), (size_px + text) * (index // per_row)
        for view, film in enumerate(draw(case, rng, size_px, views)):
            sheet.paste(Image.fromarray(film), (left + view * size_px, top))
        pen.multiline_text((left + 2, top + size_px + 1), "\n".join(_caption(case)), fill=255, spacing=1)
    return sheet


def _caption(case: Case) -> list[str]:
    traps = [name for name in ("dextrocardia", "mirrored") if getattr(case, name)]
    return [finding.code for finding in case.findings] + traps or ["normal"]


def main() -> None:
    """Write the sheet that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m r2g.phantom.contact", description=__doc__)
    parser.add_argument("out", type=Path, help="the PNG to write")
    parser.add_argument("--count", type=int, default=24, help="studies")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--views", type=int, default=1, choices=(1, 2))
    parser.add_argument("--size", type=int, default=192, help="pixels in a side")
    args = parser.parse_args()
    contact_sheet(args.count, args.seed, args.views, args.size).save(args.out)


if __name__ == "__main__":
    main()
