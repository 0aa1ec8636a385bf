"""Every file of conf/ is composed with the defaults and resolves; none escapes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from r2g import protocol
from r2g.config.paths import config_dir
from r2g.config.resolve import resolve, to_tree
from r2g.config.schema import RunConfig
from r2g.core.slots import ALL

ROOT = Path(config_dir())
FILES = sorted(ROOT.rglob("*.yaml"))
GROUPS = sorted({path.relative_to(ROOT).parts[0] for path in FILES if path.parent != ROOT})
CHOICES = [path for path in FILES if path.parent.parent == ROOT]
PROTOCOLS = [path for path in FILES if path.parent == ROOT / "score" / "protocol"]
# Composed by every test here, under Hydra's own node.
BY_HYDRA = [ROOT / "config.yaml", *(ROOT / "hydra").rglob("*.yaml")]


def _title(path: Path) -> str:
    return f"{path.parent.name}={path.stem}"


def _open_keys(tree: dict[str, Any], prefix: str) -> list[str]:
    """The settings that a user must supply."""
    found = []
    for key, value in tree.items():
        if isinstance(value, dict):
            found += _open_keys(value, f"{prefix}.{key}")
        elif value == "???":
            found.append(f"{prefix}.{key}")
    return found


def test_no_file_escapes() -> None:
    assert set(FILES) == {*CHOICES, *PROTOCOLS, *BY_HYDRA}
    assert len(CHOICES) > 40


def test_every_group_is_a_part_of_a_run_or_an_experiment() -> None:
    assert set(GROUPS) - {"experiment", "hydra"} == set(RunConfig.__dataclass_fields__) - {
        "name",
        "seed",
        "budget_match",
    }


def test_every_kind_has_a_file_of_its_name() -> None:
    lists = {"encoders": "encoder", "projectors": "projector", "llms": "llm", "datasets": "data"}
    lists["trackers"] = "track"
    for registry in ALL:
        if registry.package in lists:
            for name in registry.names():
                path = ROOT / lists[registry.package] / f"{name}.yaml"
                assert path.is_file(), f"{registry.slot} '{name}' has no {path}"
                assert yaml.safe_load(path.read_text())["kind"] == name


def test_every_adapter_and_metric_is_used_by_a_file() -> None:
    for group, field, registry in (("tuning", "adapters", "adapters"), ("score", "metrics", "metrics")):
        trees = [yaml.safe_load(path.read_text()) for path in CHOICES if path.parent.name == group]
        used = {entry["kind"] for tree in trees for entry in tree.get(field, {}).values()}
        assert used == set(next(r for r in ALL if r.package == registry).names())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_says_what_it_is(path: Path) -> None:
    first, second = path.read_text().splitlines()[:2]
    assert first.startswith("# ")
    if first.startswith("# @package"):
        assert second.startswith("# ")


@pytest.mark.parametrize("path", CHOICES, ids=_title)
def test_every_choice_resolves(path: Path, composed: Callable[..., Any], swin: Path, llama: Path) -> None:
    group = path.parent.name
    sign = "+" if group == "experiment" else ""
    given = {"encoder": "ViT-B-16" if path.stem == "open_clip" else str(swin), "llm": str(llama)}
    values = [f"{key}={given[group]}" for key in _open_keys(yaml.safe_load(path.read_text()) or {}, group)]
    values += ["encoder.tag=openai"] if given.get(group) == "ViT-B-16" else []
    # The default selects by a score of the default metrics.
    values += ["train.select=[{score: loss, weight: -1.0}]"] if group == "score" else []
    raw = composed(f"{sign}{_title(path)}", *values)
    config = resolve(raw)
    assert isinstance(config, RunConfig)
    tree = to_tree(config)
    assert to_tree(resolve(raw)) == tree
    if group != "experiment":
        stated = yaml.safe_load(path.read_text()) or {}
        changed = {value.partition("=")[0].removeprefix(f"{group}.") for value in values}
        _require_values_of_file({k: v for k, v in stated.items() if k not in changed}, tree[group])
    else:
        assert config.name == path.stem


@pytest.mark.parametrize("path", PROTOCOLS, ids=lambda path: path.stem)
def test_every_protocol_resolves_under_its_name(path: Path, composed: Callable[..., Any]) -> None:
    stated = yaml.safe_load(path.read_text())
    films = 2 if stated["views"] == "two_films" else 1
    config = resolve(composed(f"score/protocol={path.stem}", f"data.max_views={films}"))
    assert config.score.protocol.name == path.stem
    assert to_tree(config)["score"]["protocol"] == stated
    assert config.score.protocol == protocol.read(path.stem)[0]


def _require_values_of_file(stated: dict[str, Any], resolved: Any) -> None:
    """What stands in the file is what runs."""
    for key, value in stated.items():
        if key == "defaults" or value == "???" or (isinstance(value, str) and "${" in value):
            continue
        if isinstance(value, dict):
            _require_values_of_file(value, resolved[key])
        elif not isinstance(value, list):
            assert resolved[key] == value, key
