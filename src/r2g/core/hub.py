"""Which shape a transformers model has: a local directory's own config, or what a YAML says of a hub id."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from r2g.core.registry import nearest

_MISSING: Any = object()


def model_config(source: str, shape: Mapping[str, Any] | None) -> Any:
    """The transformers config of a local directory (its config.json wins), or of a hub id by its `shape`.

    `shape` holds `model_type` and fields of that family's config; nothing is downloaded. Raises ValueError
    for a directory that isn't one, an unknown family, an unknown field, and a hub id without a shape.
    """
    from transformers import AutoConfig  # late: a second of import

    if source and Path(source).is_dir():
        if not (Path(source) / "config.json").is_file():
            raise ValueError(f"{source} holds no config.json: it isn't a model as save_pretrained writes it")
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    _require_hub_id(source)
    return _from_shape(source, dict(shape or {}))


def check_shape(config: Any, shape: Mapping[str, Any] | None, source: str) -> None:
    """Raise ValueError that lists every field in which a hub model's config differs from its YAML's shape."""
    different = list(_differences(config, shape or {}))
    if different:
        raise ValueError(f"{source} isn't what its YAML's shape says: {'; '.join(different)}")


@contextmanager
def fetching(source: str) -> Iterator[None]:
    """Around whatever may download `source`: a hub that doesn't answer is explained, with a way out."""
    try:
        yield
    except OSError as error:
        if Path(source).is_dir():
            raise
        raise OSError(
            f"'{source}' could not be had from the model hub, and it's no local directory "
            f"({str(error).splitlines()[0]}). Without a network, give `source` a directory that holds the "
            "model; if HF_HUB_OFFLINE is set, unset it to allow the download"
        ) from error


def _require_hub_id(source: str) -> None:
    if not source or source[0] in "/.~\\" or source.count("/") > 1:
        raise ValueError(f"there is no directory '{source}' (a hub id reads owner/name)")


def _from_shape(source: str, shape: dict[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    family = shape.pop("model_type", None)
    if family not in CONFIG_MAPPING:
        hint = nearest(str(family), list(CONFIG_MAPPING))
        raise ValueError(f"the shape of hub id '{source}' needs a model_type that transformers knows{hint}")
    if not shape:
        raise ValueError(f"the shape of hub id '{source}' names no sizes, only model_type {family}")
    known = AutoConfig.for_model(family)
    unknown = [name for name in shape if getattr(known, name, _MISSING) is _MISSING]
    if unknown:
        names = sorted(known.to_dict())
        raise ValueError(
            f"{family} has no {', '.join(f'{n}{nearest(n, names)}' for n in unknown)} in its shape"
        )
    try:
        return AutoConfig.for_model(family, **shape)
    except Exception as error:  # transformers' own check of types raises no ValueError
        raise ValueError(f"shape of '{source}': {' '.join(str(error).split())}") from error


def _differences(config: Any, shape: Mapping[str, Any], within: str = "") -> Iterator[str]:
    for name, wanted in shape.items():
        found = config.get(name, _MISSING) if isinstance(config, Mapping) else getattr(config, name, _MISSING)
        if isinstance(wanted, Mapping) and found is not _MISSING and found is not None:
            yield from _differences(found, wanted, f"{within}{name}.")
        elif found is _MISSING:
            yield f"{within}{name} is absent there and {wanted!r} here"
        elif _plain(found) != _plain(wanted):
            yield f"{within}{name} is {_plain(found)!r} there and {_plain(wanted)!r} here"


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
