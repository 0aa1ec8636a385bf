"""python -m r2g.evaluate RUN [overrides]: score a finished run's checkpoint again, without training.

RUN is a run's folder. Overrides are those of r2g.run: another split (split=val), other data (data.root=...), other
decoding (decode.beams=3), or a folder of films without reports (films=FOLDER), which are described and not scored.
"""

import argparse
import json
import logging
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from r2g import record
from r2g.config.resolve import ConfigError, resolve, to_tree
from r2g.config.schema import RunConfig

_OWN = ("split", "films")
_ENDINGS = (".png", ".jpg", ".jpeg")


def main() -> None:
    """The command line."""
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m r2g.evaluate", description=__doc__, formatter_class=about)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("overrides", nargs="*", help="key=value, as for r2g.run; also split=..., films=...")
    chosen = parser.parse_args()
    try:
        evaluate(chosen.run, chosen.overrides)
    except (ConfigError, record.RecordError, FileNotFoundError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


def evaluate(run: Path, overrides: list[str]) -> Path:
    """Write `run/evaluations/NAME/` with predictions, scores, n-grams and evaluation.json; gives that folder.

    Raises RecordError when the run isn't finished, ConfigError for a wrong override.
    """
    done = record.read(run)
    if done["status"] != "finished":
        raise record.RecordError(f"{run} is {done['status']}, not finished")
    pairs = {item.partition("=")[0]: item.partition("=")[2] for item in overrides}
    own = {key: pairs.pop(key) for key in _OWN if key in pairs}
    changed = OmegaConf.merge(
        OmegaConf.create(done["config"]), OmegaConf.from_dotlist([f"{k}={v}" for k, v in pairs.items()])
    )
    config = resolve(changed)  # type: ignore[arg-type]
    return (
        _describe(run, config, Path(own["films"]))
        if "films" in own
        else _score(run, config, own.get("split"))
    )


def _score(run: Path, config: RunConfig, split: str | None) -> Path:
    from r2g import checkpoint, session, show
    from r2g.datasets._fingerprint import fingerprint

    split = split or "test"
    if split not in ("train", "val", "test"):
        raise ValueError(f"split must be train, val or test, got {split}")
    accelerator = session.make_accelerator(config)
    raw = config.data.load(config.paths.cache, config.seed)
    print_ = fingerprint(raw, config.paths.cache)
    setup = session.prepare(config, raw, print_, accelerator, (split,))
    checkpoint.load_trained(setup.model, run / checkpoint.TRAINED)
    setup.model.eval()
    outcome = session.examine(config, setup, split)
    folder = run / "evaluations" / f"{split}-{record.run_id(to_tree(config))}-{print_[:8]}"
    if accelerator.is_main_process:
        session.write_evaluation(folder, outcome)
        told: dict[str, Any] = {
            "split": split,
            "fingerprint": print_,
            "protocol": outcome.stamp,
            "scores": outcome.corpus,
            "controls": outcome.controls,
        }
        told |= {"absent": outcome.absent, "distinct_reports": outcome.distinct}
        told |= {"studies": len(outcome.predictions), "config": to_tree(config)}
        record.write_json(folder / "evaluation.json", told)
        show.scores(outcome)
        _print(f"evaluation: {folder}")
    accelerator.wait_for_everyone()
    return folder


def _describe(run: Path, config: RunConfig, films: Path) -> Path:
    from r2g import assess, checkpoint, data, model, session

    paths = sorted(p for p in films.rglob("*") if p.suffix.lower() in _ENDINGS)
    if not paths:
        raise FileNotFoundError(f"no film ({', '.join(_ENDINGS)}) under {films}")
    accelerator = session.make_accelerator(config)
    whole = model.assemble(config, accelerator.device, session.DTYPES[config.train.precision])
    session.tune(whole, config)
    checkpoint.load_trained(whole, run / checkpoint.TRAINED)
    whole.eval()
    names = [str(p.relative_to(films)) for p in paths]
    split: dict[str, Any] = {"id": names, "report": [""] * len(names)}
    split |= {"image_path": [[str(p.resolve())] for p in paths], "labels": [None] * len(names)}
    studies = data.Studies(split, whole.encoder.preprocess, 1, [[whole.llm.eos]] * len(names))  # type: ignore[arg-type]
    written = assess.predict(whole, studies, config.decode, replace(config.train, workers=0), accelerator)
    folder = run / "evaluations" / f"films-{films.resolve().name}"
    record.write_lines(folder / "predictions.jsonl", [asdict(p) for p in written])
    for p in written:
        _print(json.dumps({"film": p.id, "report": p.hypothesis}))
    return folder


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - what a command says to its user


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
