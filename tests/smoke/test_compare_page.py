"""The page of a comparison in a real browser: a quiet console, pictures drawn, tables that sort, links that lead."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from r2g import record
from r2g.compare import spec
from r2g.compare.__main__ import main
from r2g.compare.analyse import compare
from r2g.compare.figures import figures
from r2g.compare.runs import find, group
from r2g.compare.tables import tables

pytest.importorskip("plotly", reason="plotly (the extra `compare`) draws the pictures")
from r2g.compare.html import page  # noqa: E402 - after the skip

_BROWSER = next(
    (p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None
)
_browser = pytest.mark.skipif(_BROWSER is None, reason="no Chromium is installed")

# Runs inside the page once it is drawn, and leaves what it saw in an element that --dump-dom shows.
_LOOK = """
<script>
const look = () => {
  const texts = (table, i) => [...table.tBodies[0].rows].map((row) => row.cells[i].dataset.value);
  const sorted = {};
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    sorted[table.dataset.table] = heads.map((head, i) => {
      const states = [];
      for (let n = 0; n < 2; n++) {
        head.querySelector("button").click();
        states.push([head.getAttribute("aria-sort"), texts(table, i)]);
      }
      return states;
    });
  }
  const plots = [...document.querySelectorAll(".plot")].map((plot) => ({
    key: plot.dataset.figure,
    marks: plot.querySelectorAll(".trace, .hm, .scatterlayer path, .heatmaplayer image").length,
    height: plot.getBoundingClientRect().height,
    width: plot.getBoundingClientRect().width,
  }));
  const links = [...document.querySelectorAll("a[href]")].map((a) => a.getAttribute("href"));
  const told = {
    drawn: document.documentElement.dataset.drawn, plots, sorted,
    dead: links.filter((href) => !href.startsWith("#") || !document.getElementById(href.slice(1))),
    links: links.length,
    films: [...document.querySelectorAll("img.film")].map((film) => [film.naturalWidth, film.alt]),
    wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
  };
  const out = document.createElement("pre");
  out.id = "looked";
  out.textContent = JSON.stringify(told);
  document.body.append(out);
};
const wait = () => document.documentElement.dataset.drawn ? look() : setTimeout(wait, 50);
wait();
</script>
"""


@pytest.fixture(scope="module")
def made(made_up: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    made_up.make(folder, (made_up.ARMS[0], made_up.ARMS[3], made_up.ARMS[5]), (0, 1), 40)
    draw = np.random.default_rng(0)
    for run in folder.iterdir():
        (run / record.THUMBNAILS).mkdir()
        for i in range(4):
            film = Image.fromarray(draw.integers(0, 255, (160, 160), np.uint8))
            film.save(run / record.THUMBNAILS / record.thumbnail(i))
    wanted = spec.Spec(question="<b>What</b> for?", resamples=200, permutations=199)
    found = compare("a page", wanted, group(find(["*"], folder), {}))
    return page(found, tables(found), figures(found))


def test_the_page_is_whole_and_asks_for_nothing(made: str) -> None:
    head = made.partition('<script type="application/json"')[0]
    assert "&lt;b&gt;What&lt;/b&gt; for?" in head
    assert not re.search(r'(src|href)="(?!#|data:)', head)
    assert "default-src 'none'" in head
    assert made.count("</script>") == 3


@pytest.mark.slow
@_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_in_a_browser(made: str, tmp_path: Path, width: int, scheme: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(made.replace("</body>", _LOOK + "</body>"))
    call = [_BROWSER or "", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
    call += [
        f"--window-size={width},900",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
    ]
    call += ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    done = subprocess.run(
        [*call, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=170, check=True
    )
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert said == []
    looked = re.search(r'<pre id="looked">(.*?)</pre>', done.stdout, re.DOTALL)
    assert looked, done.stdout[-500:]
    told = json.loads(looked[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert told["drawn"] == "8"
    assert {plot["key"] for plot in told["plots"]} >= {
        "quality",
        "gaps",
        "loss-seconds",
        "target",
        "labels-map",
    }
    assert all(plot["marks"] > 0 and plot["height"] > 100 for plot in told["plots"]), told["plots"]
    assert len(told["films"]) == 3
    assert all(width == 160 and alt.startswith("film of test_00000") for width, alt in told["films"])
    assert told["dead"] == []
    assert told["links"] >= 9
    assert not told["wide"], "the page must not scroll sideways"
    _require_sorted(told["sorted"])


def _require_sorted(tables_: dict[str, list[list[list[Any]]]]) -> None:
    assert set(tables_) == {"scores", "differences", "seeds", "convergence", "cost", "controls", "labels"}
    for name, columns in tables_.items():
        for (up, rising), (down, falling) in columns:
            assert (up, down) == ("ascending", "descending"), name
            values = [value for value in rising if value]
            assert values == sorted(values, key=_key), name
            assert [v for v in falling if v] == sorted(values, key=_key, reverse=True) or len(
                set(values)
            ) < len(values)
            assert sorted(rising) == sorted(falling)


def _key(value: str) -> tuple[float, str]:
    try:
        return float(value), ""
    except ValueError:
        return 0.0, value.lower()


def test_the_command_writes_the_report_beside_its_question(
    made_up: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs, question = tmp_path / "outputs", tmp_path / "modes"
    made_up.make(outputs, (made_up.ARMS[0], made_up.ARMS[5]), (0,), 20)
    question.mkdir()
    settings = "question: Why?\nruns: [records/*]\nbaseline: shallow\nprimary: cider\nresamples: 100\n"
    (question / spec.FILE).write_text(settings + "permutations: 99\n")
    call = ["compare", str(question), "--collect", *map(str, outputs.iterdir())]
    monkeypatch.setattr("sys.argv", call)
    main()
    first = {p.name: p.read_bytes() for p in question.rglob("*") if p.is_file()}
    assert {"report.md", "report.html", "scores.csv", "scores.tex"} <= set(first)
    assert "shallow, the baseline, has cider" in capsys.readouterr().out
    shutil.rmtree(outputs)
    monkeypatch.setattr("sys.argv", call[:2])
    main()
    assert first == {p.name: p.read_bytes() for p in question.rglob("*") if p.is_file()}


def test_the_command_ends_with_the_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["compare", str(tmp_path / "none*")])
    with pytest.raises(SystemExit, match="^no run at"):
        main()
