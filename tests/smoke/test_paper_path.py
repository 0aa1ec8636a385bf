"""The paper's model at small width, the whole way, on a folder in MIMIC-CXR's layout made on the spot."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

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


def _run(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    call = [
        sys.executable,
        "-m",
        "r2g.run",
        f"paths.outputs={tmp_path / 'out'}",
        f"paths.cache={tmp_path / 'cache'}",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*call, *overrides], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = (tmp_path / "out").glob("*/*/record.json")
    return json.loads(path.read_text())


def test_lora_mimic_goes_the_whole_way_and_its_checkpoint_is_scored_again(
    tmp_path: Path, mimic: Path, swin: Path, llama: Path
) -> None:
    record = _run(
        tmp_path,
        "+experiment=lora_mimic",
        f"encoder.source={swin}",
        f"llm.source={llama}",
        f"data.root={mimic}",
        *_SMALL,
    )
    assert record["status"] == "finished"
    assert record["choices"]["tuning"] == "delta"
    assert record["config"]["tuning"]["frozen_mode"] == "train"
    learns = record["budget"]["trainable_names"]
    assert any("lora_A" in name for name in learns)
    assert all(name.startswith("projector.") or "lora_" in name for name in learns)
    assert record["training"]["step"] == 6  # 12 studies, 4 a step, 2 epochs
    assert {"bleu_4", "rouge_l", "cider"} <= set(record["scores"])
    (folder,) = (tmp_path / "out").glob("lora_mimic/*")
    # To a file of the published code and back: the same reports again.
    _call(tmp_path, "r2g.convert", str(folder), "--to", "theirs.pth")
    models = [f"encoder.source={swin}", f"llm.source={llama}", f"data.root={mimic}"]
    back = [*models, "decode.min_tokens=4", "decode.max_tokens=8", "~score.metrics.meteor"]
    _call(tmp_path, "r2g.convert", "theirs.pth", "--to", "back", f"paths.cache={tmp_path / 'cache'}", *back)
    for run in (folder, tmp_path / "back"):
        _call(tmp_path, "r2g.evaluate", str(run))
        (evaluation,) = run.glob("evaluations/*/evaluation.json")
        assert json.loads(evaluation.read_text())["scores"] == pytest.approx(record["scores"])


def _call(folder: Path, module: str, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *words], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-3000:]
