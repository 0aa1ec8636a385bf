"""The paper's model at small width, the whole way, on a folder in MIMIC-CXR's layout made on the spot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from r2g.record import THUMBNAILS

_SMALL = [
    "train.batch_size=4", "train.micro_batch=2", "train.epochs=2", "train.evals=2", "train.eval_studies=4",
    "train.workers=0", "decode.min_tokens=4", "decode.max_tokens=8", "~score.metrics.meteor", "train.max_tokens=24",
]  # fmt: skip


@pytest.fixture
def mimic(tmp_path: Path) -> Path:
    """Twenty invented studies with noise for films."""
    root = tmp_path / "mimic"
    random = np.random.default_rng(0)
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
    for i in range(20):
        split = "train" if i < 12 else "val" if i < 16 else "test"
        path = f"p10/p100000{i:02d}/s500000{i:02d}/film{i}.jpg"
        (root / "images" / path).parent.mkdir(parents=True)
        Image.fromarray(random.integers(0, 255, (40, 36), dtype=np.uint8)).save(root / "images" / path)
        text = "The heart is normal in size. No pleural effusion." if i % 2 else "Lungs are clear."
        entry = {"id": f"film{i}", "study_id": 50000000 + i, "subject_id": 10000000 + i, "report": text}
        splits[split].append({**entry, "image_path": [path], "split": split})
    (root / "annotation.json").write_text(json.dumps(splits))
    return root


def test_lora_mimic_goes_the_whole_way_and_its_checkpoint_is_scored_again(
    tmp_path: Path, mimic: Path, swin: Path, llama: Path, command: Callable[..., Any]
) -> None:
    def call(module: str, *words: object) -> None:
        done = command(module, *words, folder=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]

    models = [f"encoder.source={swin}", f"llm.source={llama}", f"data.root={mimic}"]
    kept = f"paths.cache={tmp_path / 'cache'}"
    call("r2g.run", "+experiment=lora_mimic", *models, *_SMALL, f"paths.outputs={tmp_path / 'out'}", kept)
    (folder,) = (tmp_path / "out").glob("lora_mimic/*")
    record = json.loads((folder / "record.json").read_text())
    assert record["status"] == "finished"
    assert record["choices"]["tuning"] == "delta"
    assert record["config"]["tuning"]["frozen_mode"] == "train"
    learns = record["budget"]["trainable_names"]
    assert any("lora_A" in name for name in learns)
    assert all(name.startswith("projector.") or "lora_" in name for name in learns)
    assert record["training"]["step"] == 6  # 12 studies, 4 a step, 2 epochs
    assert {"bleu_4", "rouge_l", "cider"} <= set(record["scores"])
    assert record["data"]["shareable"] is False
    assert not list((tmp_path / "out").rglob(THUMBNAILS))  # patients' films
    # To a file of the published code and back: the same reports again.
    call("r2g.convert", folder, "--to", "theirs.pth")
    back = [*models, "decode.min_tokens=4", "decode.max_tokens=8", "~score.metrics.meteor"]
    call("r2g.convert", "theirs.pth", "--to", "back", kept, *back)
    for run in (folder, tmp_path / "back"):
        call("r2g.evaluate", run, "train.workers=0")
        (evaluation,) = run.glob("evaluations/*/evaluation.json")
        assert json.loads(evaluation.read_text())["scores"] == pytest.approx(record["scores"])
