"""Work that never changes is done once: a frozen encoder's patches and decoded films, kept by content."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from tqdm import tqdm

from r2g.config.schema import CacheSettings, Precision
from r2g.core.images import PIXELS
from r2g.core.store import Store
from r2g.core.turns import got, keep, promise, turn_of
from r2g.data import Studies, decoded
from r2g.encoders.base import Preprocess, VisionModel
from r2g.model import ReportGenerator

_LOG = logging.getLogger(__name__)
_BATCH = 32  # films that are encoded, or decoded, together
_THREADS = 4
_GB = 2**30
_PATIENCE = 30.0  # seconds between two words of a process that waits; collectives give up after minutes
_LIBRARIES = ("torch", "transformers", "timm", "open_clip_torch")
# Raised when our own code (an encoder's, normalizing, pooling) gives other patches for the same weights.
_PATCHES = 1
_DECODING = f"{PIXELS}-pillow{version('pillow')}"
FEATURES, FILMS = "features", "films"


@dataclass(frozen=True)
class Reuse:
    """How the films of a run are read: `what` is features, films or none (decoded and encoded at each use)."""

    what: str
    found: int = 0
    made: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class FromStore:
    """Rows of a store by a film's path; a film that isn't kept is read by `otherwise`."""

    stores: tuple[Store, ...]
    keys: Mapping[str, str]
    channels: int | None = None  # of a film; a grey one is kept in one
    otherwise: Callable[[str], Tensor] | None = None

    def __call__(self, path: str) -> Tensor:
        key = self.keys.get(path, "")
        for store in self.stores:
            if key in store:
                row = store[key]
                return row if self.channels is None else row.expand(self.channels, *row.shape[1:])
        if self.otherwise is None:
            raise KeyError(f"the patches of {path} aren't kept")
        return self.otherwise(path)


def attach(
    settings: CacheSettings,
    model: ReportGenerator,
    needed: Sequence[tuple[Studies, Iterable[int]]],
    keys: Mapping[str, str],
    folder: Path,
    precision: Precision,
    accelerator: Accelerator,
) -> Reuse:
    """Make what is missing for the `needed` studies (a split with indices), and let their splits read from it.

    `keys` are hashes of the films' content by path. Every process makes its share.
    """
    paths = [p for studies, rows in needed for i in rows for p in studies.paths[i][: studies.views]]
    wanted = {keys[p]: p for p in paths}
    splits = list({id(studies): studies for studies, _ in needed}.values())
    started = time.perf_counter()
    if settings.features and rests(model.encoder):
        store = _patches_store(model, folder / FEATURES, precision, accelerator)
        make = partial(_make, store, wanted, partial(_encode, model, accelerator), model.encoder, accelerator)
        made = _fill((store,), wanted, make, folder, settings, accelerator)
        if made is not None:
            for studies in splits:
                studies.kept = FromStore((store,), keys)
            return Reuse(FEATURES, len(wanted) - made, made, time.perf_counter() - started)
    if settings.films and wanted:
        preprocess: Any = model.encoder.preprocess
        stores = _film_stores(preprocess, folder / FILMS)
        make = partial(_keep_films, stores, wanted, preprocess, accelerator)
        made = _fill(stores, wanted, make, folder, settings, accelerator)
        if made is not None:
            for studies in splits:
                studies.decode = FromStore(stores, keys, preprocess.channels, studies.decode)
            return Reuse(FILMS, len(wanted) - made, made, time.perf_counter() - started)
    return Reuse("none")


def rests(encoder: nn.Module) -> bool:
    """Whether the encoder gives the same patches for a film at any time: nothing learns and nothing is dropped."""
    return not any(p.requires_grad for p in encoder.parameters()) and not encoder.training


def identity(encoder: VisionModel) -> str:
    """16 hex digits over all that decides an encoder's patches: its weights and what it says beside them.

    With how films are prepared for it, its structure, and the versions of the libraries that compute it.
    """
    told = [repr(encoder), asdict(encoder.preprocess), encoder.beside_weights(), _PATCHES]
    told.append([version(library) for library in _LIBRARIES])
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _patches_store(
    model: ReportGenerator, folder: Path, precision: Precision, accelerator: Accelerator
) -> Store:
    """The store of this encoder's patches; a black film tells their shape and dtype."""
    encoder: Any = model.encoder
    preprocess: Preprocess = encoder.preprocess
    side = preprocess.size
    black = torch.zeros(1, preprocess.channels, side, side, dtype=torch.uint8)
    row = _encode(model, accelerator, black)[0]
    about = f"{_DECODING} {model.pool.count} {precision.value} {row.dtype} {tuple(row.shape)}"
    name = f"{identity(encoder)}-{hashlib.sha256(about.encode()).hexdigest()[:8]}"
    return Store(folder / name, row.shape, row.dtype)


@torch.no_grad()
def _encode(model: ReportGenerator, accelerator: Accelerator, films: Tensor) -> Tensor:
    with accelerator.autocast():
        return model.patches(films.to(accelerator.device))


def _fill(
    stores: tuple[Store, ...],
    wanted: Mapping[str, str],
    make: Callable[[Sequence[str]], None],
    folder: Path,
    settings: CacheSettings,
    accelerator: Accelerator,
) -> int | None:
    """Let `make` add what is missing; gives how many films that were, or None if there is no room for them.

    The first process says what is missing, so that all cut the same list into their shares, whatever other runs add.
    """
    made: int | None = 0
    if _first_says(accelerator, partial(_missing, stores, wanted)):
        with _turn(stores[-1].folder, accelerator):
            missing, fits = _first_says(accelerator, partial(_order, stores, wanted, folder, settings))
            if fits:
                make(missing)
                accelerator.wait_for_everyone()
            made = len(missing) if fits else None
    for store in stores:
        store.refresh()
    return made


def _missing(stores: tuple[Store, ...], wanted: Mapping[str, str]) -> list[str]:
    for store in stores:
        store.refresh()
    return [key for key in wanted if not any(key in store for store in stores)]


def _order(
    stores: tuple[Store, ...], wanted: Mapping[str, str], folder: Path, settings: CacheSettings
) -> tuple[list[str], bool]:
    """What is still missing, and whether it fits: says so if it doesn't, and promises the room if it does."""
    missing = _missing(stores, wanted)
    need, most = len(missing) * stores[-1].row_bytes, settings.max_gb * _GB
    if not missing:
        return [], True
    fits, held = promise(folder, (FEATURES, FILMS), stores[-1].folder, need, most)
    if not fits:
        _LOG.warning(
            "%d films would need %.2f GB in the cache, which holds %.2f of %.2f GB: they are read anew at each use. "
            "Raise cache.max_gb, or free room with python -m r2g.cache --drop NAME",
            len(missing),
            need / _GB,
            held / _GB,
            settings.max_gb,
        )
    return missing, fits


@contextmanager
def _turn(store: Path, accelerator: Accelerator) -> Iterator[None]:
    """While no other launch fills this store. The first process stands in line for all of its own."""
    lock, seconds = turn_of(store), 0.0
    while not _first_says(accelerator, partial(got, lock, seconds)):
        if seconds == 0.0 and accelerator.is_main_process:
            _LOG.warning("another run is filling %s: waiting for it", store)
        seconds = _PATIENCE
    try:
        yield
    finally:
        if accelerator.is_main_process:
            keep(store)
            lock.release()


def _first_says(accelerator: Accelerator, what: Callable[[], Any]) -> Any:
    """What the first process finds, for all of them; only that one looks."""
    told = [what() if accelerator.is_main_process else None]
    broadcast_object_list(told)
    return told[0]


def _make(
    store: Store,
    wanted: Mapping[str, str],
    encode: Callable[[Tensor], Tensor],
    encoder: Any,
    accelerator: Accelerator,
    missing: Sequence[str],
) -> None:
    """Encode the missing films, each process its share."""
    read = partial(decoded, size=encoder.preprocess.size, channels=encoder.preprocess.channels)
    mine = missing[accelerator.process_index :: accelerator.num_processes]
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        store.writer() as writer,
        _bar("encode", mine, accelerator) as bar,
    ):
        for start in range(0, len(mine), _BATCH):
            part = mine[start : start + _BATCH]
            films = torch.stack(list(pool.map(read, [wanted[key] for key in part])))
            for key, row in zip(part, encode(films), strict=True):
                writer.add(key, row)
            bar.update(len(part))


def _film_stores(preprocess: Preprocess, folder: Path) -> tuple[Store, ...]:
    """Grey films take one channel, others all; the last store is the widest."""
    side = preprocess.size
    channels = sorted({1, preprocess.channels})
    return tuple(
        Store(folder / f"{side}x{c}-of-{preprocess.channels}-{_DECODING}", (c, side, side), torch.uint8)
        for c in channels
    )


def _keep_films(
    stores: tuple[Store, ...],
    wanted: Mapping[str, str],
    preprocess: Preprocess,
    accelerator: Accelerator,
    missing: Sequence[str],
) -> None:
    """Decode the missing films, each process its share."""
    mine = missing[accelerator.process_index :: accelerator.num_processes]
    read = partial(decoded, size=preprocess.size, channels=preprocess.channels)
    grey, full = stores[0], stores[-1]
    bar = _bar("decode", mine, accelerator)
    with ThreadPoolExecutor(_THREADS) as pool, grey.writer() as narrow, full.writer() as wide, bar:
        for start in range(0, len(mine), _BATCH):
            part = mine[start : start + _BATCH]
            for key, film in zip(part, pool.map(read, [wanted[key] for key in part]), strict=True):
                plain = bool((film[:1] == film).all())
                (narrow if plain else wide).add(key, film[:1] if plain else film)
            bar.update(len(part))


def _bar(title: str, work: Sequence[str], accelerator: Accelerator) -> Any:
    quiet = None if accelerator.is_main_process else True
    return tqdm(desc=title, total=len(work), unit="film", disable=quiet, leave=False, delay=1)
