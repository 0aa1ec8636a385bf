"""Comparisons of made-up records: what is refused, what is said, and that it is said in the same bytes twice."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from r2g.compare import spec
from r2g.compare.__main__ import collect
from r2g.compare.analyse import Comparison, Row, compare
from r2g.compare.blind import Seen
from r2g.compare.fair import UnfairPair
from r2g.compare.figures import figures
from r2g.compare.runs import Run, RunsError, find, group
from r2g.compare.scores import ScoreError
from r2g.compare.tables import tables
from r2g.compare.words import headline
from r2g.compare.write import files
from r2g.core import labels
from r2g.record import THUMBNAILS, thumbnail

_QUICK = spec.Spec(question="What for?", runs=("*",), baseline="shallow", resamples=200, permutations=199)


@pytest.fixture(scope="module")
def source(made_up: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made_up")
    return made_up.make(folder, (made_up.ARMS[0], made_up.ARMS[3], made_up.ARMS[5]), (0, 1), 40)


@pytest.fixture
def place(source: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return shutil.copytree(source, tmp_path / "runs")


def _found(place: Path, wanted: spec.Spec = _QUICK, leave_out: bool = False) -> Comparison:
    return compare("made up", wanted, group(find(wanted.runs, place), wanted.labels), leave_out)


def _change(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((run / "record.json").read_text())
    change(record)
    (run / "record.json").write_text(json.dumps(record))


def test_arms_are_named_by_what_sets_them_apart(source: Path) -> None:
    found = _found(source)
    assert [row.name for row in found.rows] == ["shallow", "delta", "deep"]  # by trainable parameters
    assert [run.seed for run in found.rows[0].arm.runs] == [0, 1]
    assert found.reports == 40


def test_arms_of_equal_choices_are_named_by_their_settings(place: Path) -> None:
    for run in place.iterdir():
        rate = {"shallow": 0.1, "delta": 0.01, "deep": 0.001}[run.name[:-1]]
        _change(run, lambda r, rate=rate: r["config"]["train"].update(learning_rate=rate))
        _change(run, lambda r: (r["choices"].update(tuning="delta"), r["config"].pop("tuning")))
    names = [arm.name for arm in group(find(["*"], place), {})]
    assert names == ["train.learning_rate=0.1", "train.learning_rate=0.01", "train.learning_rate=0.001"]


def test_a_sweep_s_own_group_names_what_it_bundles(place: Path) -> None:
    for run in place.iterdir():
        place_of = {"shallow": "projector", "delta": "encoder_lora", "deep": "all"}[run.name[:-1]]
        _change(run, lambda r, place_of=place_of: r["choices"].update(spend=place_of, projector=place_of[:3]))
    assert [arm.name for arm in group(find(["*"], place), {})] == ["projector", "encoder_lora", "all"]


def test_an_arm_alone_has_the_name_of_its_config(source: Path) -> None:
    assert [arm.name for arm in group(find(["deep*"], source), {})] == ["made_up"]


def test_labels_rename_and_a_wrong_one_is_refused(source: Path) -> None:
    runs = find(["*"], source)
    assert [a.name for a in group(runs, {"delta": "LoRA", "arm-deep": "all of it"})] == [
        "shallow",
        "LoRA",
        "all of it",
    ]
    with pytest.raises(RunsError, match="labels that name no arm: delte"):
        group(runs, {"delte": "LoRA"})
    with pytest.raises(RunsError, match="share a label: deep"):
        group(runs, {"delta": "deep"})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r["data"].update(fingerprint="e" * 32), "other data: fingerprint eee"),
        (
            lambda r: r["protocol"].update(hash="1" * 12),
            "other protocol: hash 111111111111, not 000000000000",
        ),
        (lambda r: r["config"]["decode"].update(beams=3), "other decoding: beams 3, not 1"),
        (lambda r: r["config"]["score"]["metrics"]["bleu"].update(order=2), "other metric settings: bleu"),
        (
            lambda r: r.update(status="failed", error={"message": "NaN in the loss\nmore"}),
            r"unfinished: its status is failed \(NaN in the loss\)",
        ),
        (lambda r: r.update(status="running"), "unfinished: its status is running"),
        (lambda r: r["config"].update(seed=0), "the arm has this seed twice, also in deep0"),
    ],
)
def test_unfair_pairs_are_refused_by_name(place: Path, change: Any, reason: str) -> None:
    _change(place / "deep1", change)
    with pytest.raises(UnfairPair, match=reason) as refused:
        _found(place)
    assert "deep, seed" in str(refused.value)
    assert "(deep-1)" in str(refused.value)
    found = _found(place, leave_out=True)
    assert "deep-1" in {refusal.run for refusal in found.left_out}
    assert "Left out: deep, seed" in files(found, tables(found), "")["report.md"]


def test_other_decoding_batches_are_fair(place: Path) -> None:
    _change(place / "deep1", lambda r: r["config"]["decode"].update(batch_size=1))
    assert not _found(place).left_out


def test_another_set_of_reports_is_refused(place: Path) -> None:
    path = place / "delta0" / "scores.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]))
    (place / "deep0" / "scores.jsonl").unlink()
    (place / "deep1" / "scores.jsonl").write_text("".join(reversed(lines)))
    with pytest.raises(UnfairPair) as refused:
        _found(place)
    told = str(refused.value)
    assert "3 run(s) can't be compared with shallow (the baseline)" in told
    assert "another set of reports: 2 missing (test_000038, test_000039)" in told
    assert "deep, seed 0 (deep-0): it has no scores.jsonl" in told
    assert "the same reports in another order" in told


def test_a_stopped_run_is_censored_and_has_no_scores(place: Path) -> None:
    def stop(record: dict[str, Any]) -> None:
        record["status"] = "stopped"
        for key in ("scores", "controls", "protocol"):
            del record[key]

    _change(place / "deep1", stop)
    (place / "deep1" / "scores.jsonl").unlink()
    curve = (place / "deep1" / "curve.jsonl").read_text().splitlines(keepends=True)
    (place / "deep1" / "curve.jsonl").write_text("".join(curve[:12]))
    found = _found(place)
    deep = found.rows[-1]
    assert list(deep.scores["cider"].seeds) == [0]
    assert [one.censored for one in deep.reached] == [False, True]
    assert deep.reached[1].value["steps"] == 12
    assert "area" in found.refused
    text = files(found, tables(found), "")["report.md"]
    assert "deep, seed 1: stopped after step 12" in text
    assert "1 of 2" in text
    assert "> 12" in text


def test_seconds_are_refused_and_the_rest_is_not(place: Path) -> None:
    _change(place / "deep1", lambda r: r["reuse"].update(what="films"))
    found = _found(place)
    assert "how films were read (reuse.what): features, films" in found.refused["seconds"]
    names = {table.key: table for table in tables(found)}
    assert not any("second" in head or ", s" in head for head in names["cost"].headers)
    assert "seconds to target" not in names["convergence"].headers
    assert "steps to target" in names["convergence"].headers
    assert "loss-seconds" not in {figure.key for figure in figures(found)}
    assert "FLOPs are not compared" not in names["convergence"].note


def test_seconds_on_another_gpu_of_the_same_kind_of_machine_are_refused(place: Path) -> None:
    for run in place.iterdir():
        name = "A Small GPU" if run.name == "deep1" else "A Large GPU"
        _change(run, lambda r, name=name: r.update(device={"type": "cuda", "name": name, "processes": 1}))
    assert "A Small GPU" in _found(place).refused["seconds"]


def test_a_whole_run_is_timed_without_filling_the_cache_and_only_in_one_attempt(place: Path) -> None:
    def timed(record: dict[str, Any], wall: float, kept: float, attempts: int) -> None:
        record["wall_seconds"] = wall
        record["reuse"]["seconds"] = kept
        record["training"]["attempts"] = attempts

    _change(place / "deep0", lambda r: timed(r, 100.0, 60.0, 1))
    _change(place / "deep1", lambda r: timed(r, 44.0, 2.0, 1))
    assert _found(place).rows[-1].whole() == pytest.approx(41.0)
    _change(place / "deep1", lambda r: timed(r, 44.0, 2.0, 2))
    found = _found(place)
    assert found.rows[-1].whole() is None
    assert "only its last attempt's is known" in {t.key: t for t in tables(found)}["cost"].note


@pytest.mark.parametrize("arms", [(9, 9), (9, 2)], ids=["one gang", "gangs of other sizes"])
def test_a_gang_s_seconds_and_memory_are_nobody_s_own(place: Path, arms: tuple[int, int]) -> None:
    for run in place.iterdir():
        size = arms[run.name.startswith("deep")]
        _change(run, lambda r, size=size: r.update(ran={"how": "gang", "arms": size}))
    found = _found(place)
    for what in ("seconds", "memory"):
        assert "isn't a run's own (ran: gang)" in found.refused[what]


def test_every_table_of_scores_says_the_protocol(source: Path) -> None:
    found = _found(source)
    stamp = "full 000000000000"
    noted = {table.key for table in tables(found) if table.note.endswith(f"Protocol: {stamp}.")}
    assert noted == {"scores", "differences", "seeds", "controls", "labels"}
    made = files(found, tables(found), "")
    assert made["report.md"].count(f"Protocol: {stamp}.") == len(noted)
    for name in noted:
        assert made[f"tables/{name}.tex"].startswith(f"% Scores under the protocol {stamp}")
    for name in ("scores", "differences", "runs"):
        head, *rows = made[f"tables/{name}.csv"].splitlines()
        assert "protocol" in head
        assert all(stamp in row for row in rows)


def test_without_n_grams_cider_can_t_decide(place: Path) -> None:
    (place / "deep1" / "ngrams.npz").unlink()
    with pytest.raises(ScoreError, match=r"primary metric cider .*: ngrams.npz is missing \(deep seed 1\)"):
        _found(place)
    wanted = spec.Spec(
        runs=("*",),
        primary="label_f1_micro",
        metrics=("cider",),
        blindness_score="cider",
        resamples=200,
        permutations=199,
    )
    found = _found(place, wanted)
    assert found.rows[-1].scores["cider"].low is None
    assert found.rows[-1].verdict == "unclear"
    assert any("cider has no intervals" in note for note in found.notes)


_LABELS = replace(_QUICK, primary="label_f1_micro", metrics=("label_f1_macro",))


def test_label_f1_decides_and_says_who_uses_the_image(source: Path) -> None:
    found = _found(source, _LABELS)
    deep = found.rows[-1]
    assert deep.verdict == "yes"
    assert [one.score for one in deep.seen] == list(deep.scores["label_f1_micro"].seeds.values())
    assert all(
        one.shuffled == run.record["controls"]["shuffled"]["label_f1_micro"] for one, run in _seen(deep)
    )
    assert "label_f1_micro beside that of reports" in next(
        table.note for table in tables(found) if table.key == "controls"
    )
    macro = deep.scores["label_f1_macro"]
    assert macro.low is not None
    assert macro.low < macro.value < (macro.high or 0)
    assert "label_f1_macro" in deep.differences
    assert all(one.low is not None and one.low <= one.value for one in deep.labels.values())


def _seen(row: Row) -> list[tuple[Seen, Run]]:
    return list(zip(row.seen, row.arm.finished, strict=True))


def test_a_run_that_is_blind_by_its_labels_is_called_so(place: Path) -> None:
    """Reports that are others' already: shuffled once more they are worth the same."""
    for run in place.glob("deep*"):
        held = labels.load(run / labels.FILE)
        table = held.tables["label_f1"]
        still = replace(table, found=np.repeat(table.found[:1], len(table.found), axis=0))
        labels.save(run / labels.FILE, replace(held, tables={"label_f1": still}))
        told = {name: float(how.of(still.counts(how).sum(0)[None])[0]) for name, how in table.scores.items()}
        _change(run, lambda r, told=told: (r["scores"].update(told), r["controls"]["shuffled"].update(told)))
    assert [row.verdict for row in _found(place, _LABELS).rows] == ["yes", "yes", "no"]


def test_without_labels_what_is_missing_is_named(place: Path) -> None:
    for run in place.iterdir():
        (run / "labels.npz").unlink()
    found = _found(place, _LABELS)
    assert found.rows[-1].scores["label_f1_micro"].low is not None
    assert found.rows[-1].scores["label_f1_macro"].low is None
    assert {row.verdict for row in found.rows} == {"unclear"}
    assert {one.reason for row in found.rows for one in row.seen} == {"labels.npz is missing"}
    assert "label_f1_macro has no intervals and no test: labels.npz is missing (every run)" in found.notes
    assert all(one.low is None for one in found.rows[-1].labels.values())
    with pytest.raises(ScoreError, match=r"primary metric label_f1_macro .*: labels.npz is missing"):
        _found(place, replace(_LABELS, primary="label_f1_macro"))


def test_labels_of_other_studies_are_refused(place: Path) -> None:
    held = labels.load(place / "deep1" / labels.FILE)
    table = held.tables["label_f1"]
    spoilt = replace(held, tables={"label_f1": replace(table, known=~table.known)})
    labels.save(place / "deep1" / labels.FILE, spoilt)
    labels.save(place / "deep0" / labels.FILE, replace(held, ids=held.ids[::-1]))
    with pytest.raises(UnfairPair) as refused:
        _found(place)
    assert "labels.npz says that the studies have other labels (label_f1)" in str(refused.value)
    assert "labels.npz and scores.jsonl have other ids" in str(refused.value)


def test_a_blindness_score_that_no_run_has_is_refused(source: Path) -> None:
    with pytest.raises(ScoreError, match="no run has cidr; did you mean 'cider'"):
        _found(source, replace(_QUICK, blindness_score="cidr"))
    seen = _found(source, replace(_QUICK, blindness_score="rouge_l")).rows[0].seen
    assert {one.reason for one in seen} == {
        "a record doesn't hold rouge_l of shuffled reports; set blindness_score to another"
    }


def test_records_without_flops_are_named(place: Path) -> None:
    def drop(record: dict[str, Any]) -> None:
        record["budget"].update(flops=None, flops_absent="ValueError: no kernel")

    _change(place / "deep1", drop)
    assert _found(place).refused["flops"] == "1 record(s) hold no FLOPs (ValueError: no kernel)"


def test_differences_are_paired_by_seed_and_agree_with_the_scores(source: Path) -> None:
    found = _found(source)
    gap = found.rows[-1].differences["label_f1_micro"]
    assert list(gap.seeds) == ["0", "1"]
    deep, shallow = (found.rows[i].scores["label_f1_micro"] for i in (-1, 0))
    assert gap.value == pytest.approx(deep.value - shallow.value)
    assert gap.seeds["1"] == pytest.approx(deep.seeds[1] - shallow.seeds[1])
    assert gap.low < gap.value < gap.high
    assert gap.p == pytest.approx(1 / 200)
    assert gap.holm == pytest.approx(2 / 200)
    assert gap.verdict == "higher"
    assert found.base.differences == {}


def test_the_headline_warns_of_seeds_that_lie_apart(source: Path) -> None:
    found = _found(source, replace(_QUICK, primary="label_f1_micro"))
    gap = found.rows[-1].differences["label_f1_micro"]
    wide = gap.high - gap.low

    def told(apart: float) -> str:
        found.rows[-1].differences["label_f1_micro"] = replace(gap, seeds={"0": 0.3, "1": 0.3 + apart})
        return next(line for line in headline(found) if line.startswith("deep"))

    assert "deep (26.5 times the trainable parameters)" in told(0.0)
    assert f"the seeds lie {1.1 * wide:.4f} apart, further than the interval is wide" in told(1.1 * wide)
    assert "apart" not in told(0.9 * wide)


def test_the_same_records_give_the_same_bytes(source: Path) -> None:
    once, again = (
        files(f, tables(f), json.dumps([x.data for x in figures(f)])) for f in map(_found, [source] * 2)
    )
    assert once == again
    assert set(once) >= {
        "report.md",
        "report.html",
        "tables/scores.csv",
        "tables/scores.tex",
        "tables/runs.csv",
    }
    assert "label\\_f1\\_micro" in once["tables/scores.tex"]
    assert str(source) not in "".join(once.values())


def test_examples_are_shown_only_of_data_that_may_be(place: Path) -> None:
    from r2g.compare.examples import examples

    shown = examples(_found(place))
    assert len(shown) == 3
    assert [arm for arm, _ in shown[0].written] == ["shallow", "delta", "deep"]
    _change(place / "deep1", lambda r: r["data"].update(shareable=False))
    assert examples(_found(place)) == []


def _picture(run: Path, place: int, grey: int) -> bytes:
    path = run / THUMBNAILS / thumbnail(place)
    path.parent.mkdir(exist_ok=True)
    Image.new("L", (8, 8), grey).save(path)
    return path.read_bytes()


def test_examples_show_films_where_records_have_them(place: Path) -> None:
    from r2g.compare.examples import examples

    films = {f"test_{i:06d}": _picture(place / "delta1", i, 40 * i) for i in (0, 3, 5)}
    assert {one.id: one.film for one in examples(_found(place))} == films
    one = examples(_found(place, replace(_QUICK, examples=1)))
    assert len(one) == 1
    assert one[0].film is not None
    _change(place / "delta1", lambda r: r["data"].update(shareable=False))
    assert find(["delta1"], place)[0].thumbnails == {}
    assert examples(_found(place)) == []


def test_thumbnails_are_collected_once_and_only_of_data_that_may_be_shown(
    place: Path, tmp_path: Path
) -> None:
    for run in place.iterdir():
        _picture(run, 0, 100)
    _change(place / "deep0", lambda r: r["data"].update(shareable=False))
    collect(find(["*"], place), tmp_path / "records")
    kept = [path.parent.parent.name for path in (tmp_path / "records").rglob("*.jpg")]
    assert len(kept) == 1
    assert kept != ["deep0"]


def test_records_are_collected_without_texts_that_may_not_be_shown(place: Path, tmp_path: Path) -> None:
    _change(place / "deep1", lambda r: r["data"].update(shareable=False))
    (place / "deep0" / "trained.safetensors").write_bytes(b"weights")
    for run in place.iterdir():
        _change(run, lambda told: told["config"].update(paths={"outputs": "/home/somebody/outputs"}))
        _change(run, lambda told: told.update(command=["run.py", "++paths.outputs=/home/somebody/outputs"]))
    collect(find(["*"], place), tmp_path / "records")
    told = json.loads(next((tmp_path / "records").glob("*/record.json")).read_text())
    assert told["config"]["paths"] == {}
    assert not any("paths." in word for word in told["command"])
    assert {p.name for p in (tmp_path / "records" / "deep0").iterdir()} == {
        "record.json", "curve.jsonl", "scores.jsonl", "ngrams.npz", "labels.npz", "predictions.jsonl",
    }  # fmt: skip
    assert not (tmp_path / "records" / "deep1" / "predictions.jsonl").exists()


def test_all_mistakes_of_a_comparison_yaml_are_told(tmp_path: Path) -> None:
    path = tmp_path / spec.FILE
    path.write_text("question: Why?\nruns: records\nprimry: cider\nblindness_margin: -1\nresamples: 5\n")
    with pytest.raises(spec.SpecError) as told:
        spec.read(path)
    text = str(told.value)
    assert "5 mistake(s)" in text
    for line in (
        "runs: must be list",
        "primry: unknown key; did you mean 'primary'?",
        "blindness_margin: must be at least 0",
        "resamples: must be at least 100",
        "primary: is missing",
    ):
        assert line in text


def test_a_baseline_that_isn_t_there_is_told_with_the_nearest(source: Path) -> None:
    with pytest.raises(RunsError, match="did you mean 'shallow'"):
        _found(source, spec.Spec(runs=("*",), baseline="shalow"))
    with pytest.raises(RunsError, match="no run at nothing"):
        find(["nothing*"], source)


def test_neither_torch_nor_hydra_is_imported() -> None:
    heavy = ("torch", "hydra", "transformers")
    code = f"import sys, r2g.compare.__main__; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
