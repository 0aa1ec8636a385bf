"""python -m r2g.pretrain: make the tiny encoder and the tiny llm that ship with the package."""

import argparse
import json
import math
import multiprocessing
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from tqdm import tqdm

from r2g.encoders.tiny import Conv, TinyEncoder
from r2g.phantom.dataset import study_rng
from r2g.phantom.draw import draw
from r2g.phantom.findings import CODES, LABELS, Case, codes, draw_case, labels
from r2g.phantom.read import read
from r2g.phantom.words import keywords, report

_SEED = 20_231  # a namespace of its own: data=phantom never draws from the split named here
_SPLIT = "pretrain"
_HELD = 2_000  # films kept for the figures of the card
_SLOTS = (8, 40)  # how many soft positions a text may have in place of key words
_UNREAD, _CASES = 900_000, 200  # cases that the llm's figures come from: beyond any that it read
_BATCH = 32
_RATE = 2e-3
_LABELS = [CODES.index(label) for label in LABELS]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m r2g.pretrain", description=__doc__)
    parser.add_argument("what", choices=("encoder", "llm", "all"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "weights")
    parser.add_argument("--films", type=int, default=40_000, help="films drawn for the encoder")
    parser.add_argument("--texts", type=int, default=60_000, help="reports written for the llm")
    parser.add_argument("--encoder-minutes", type=float, default=17)
    parser.add_argument("--llm-minutes", type=float, default=14)
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    if chosen.what in ("encoder", "all"):
        figures = train_encoder(
            chosen.out / "tiny_encoder", chosen.films, chosen.encoder_minutes, chosen.processes
        )
        _note(chosen.out / "tiny_encoder", figures)
    if chosen.what in ("llm", "all"):
        place, minutes = chosen.out / "tiny_llm", chosen.llm_minutes
        _note(place, train_llm(place, chosen.texts, minutes, chosen.processes))


def _note(folder: Path, figures: dict[str, Any]) -> None:
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))  # noqa: T201 - a command's result


# The encoder -----------------------------------------------------------------------------------------------------


def _film(index: int) -> tuple[np.ndarray, list[bool]]:
    rng = study_rng(_SEED, _SPLIT, index)
    case = draw_case(rng)
    present = set(codes(case))
    return draw(case, rng)[0], [code in present for code in CODES]


def _films(count: int, processes: int) -> tuple[Tensor, Tensor]:
    """Films [film, 1, 128, 128] as bytes and their codes [film, code]."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        drawn = list(tqdm(pool.imap(_film, range(count), chunksize=64), "draw", count, disable=None))
    films = torch.from_numpy(np.stack([film for film, _ in drawn])).unsqueeze(1)
    return films, torch.tensor([present for _, present in drawn], dtype=torch.float32)


def _shifted(films: Tensor, generator: torch.Generator) -> Tensor:
    """Normalized films, moved by up to 6 px, with other contrast and brightness: a film is never seen twice."""
    down, right = torch.randint(-6, 7, (2,), generator=generator).tolist()
    moved = films.float().div(255).sub(0.5).div(0.25)
    moved = F.pad(moved, (6, 6, 6, 6), mode="replicate")[:, :, 6 + down : 134 + down, 6 + right : 134 + right]
    gain = 1 + 0.1 * torch.randn(len(films), 1, 1, 1, generator=generator)
    shift = 0.1 * torch.randn(len(films), 1, 1, 1, generator=generator)
    return moved * gain + shift


class _Reader(nn.Module):
    """The encoder with a linear reading of all codes off its patches, and off both maps before them.

    A map is read place by place and pooled by log-sum-exp: what shows in one place only is learnt from the maps, and
    attention then tells it to all patches.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = TinyEncoder()
        for module in self.encoder.modules():
            if isinstance(module, Conv):
                module.normalize()
        self.maps = nn.ModuleList(nn.Conv2d(width, len(CODES), 1) for width in self.encoder.map_widths)
        self.patches = nn.Linear(self.encoder.width, len(CODES))

    def forward(self, films: Tensor) -> tuple[Tensor, ...]:
        """Logits [film, code]: off the patches, then off the maps."""
        *maps, patches = self.encoder.stages(films)
        places = [head(m).flatten(2) for head, m in zip(self.maps, maps, strict=True)]
        pooled = [p.logsumexp(-1) - math.log(p.shape[-1]) for p in places]
        return self.patches(patches).mean(1), *pooled


@dataclass(frozen=True)
class _Lesson:
    """What one process of the encoder's training needs; all work on the same films, each on other rows."""

    films: Tensor
    present: Tensor
    seconds: float
    processes: int
    file: str


def _teach(rank: int, lesson: _Lesson) -> None:
    """Train for so many seconds, gradients averaged over the processes; the first one saves the result."""
    _meet(rank, lesson.processes, lesson.file)
    generator = torch.Generator().manual_seed(1 + rank)
    model = _Reader().to(memory_format=torch.channels_last)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=0.05)
    clock = _Clock(lesson.seconds)
    while clock.part < 1:
        for group in optimizer.param_groups:
            group["lr"] = clock.rate()
        rows = torch.randint(len(lesson.films), (_BATCH // lesson.processes,), generator=generator)
        losses = [
            F.binary_cross_entropy_with_logits(logits, lesson.present[rows]) * len(CODES)
            for logits in model(_shifted(lesson.films[rows], generator))
        ]
        optimizer.zero_grad()
        (losses[0] + 0.5 * losses[1] + 0.5 * losses[2]).backward()
        _share(parameters, lesson.processes)
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        clock.tick()
        if rank == 0 and clock.step % 100 == 0:
            told = ", ".join(f"{loss.item():.2f}" for loss in losses)
            print(f"step {clock.step}, {clock.part:.0%} of the time, losses {told}", flush=True)  # noqa: T201
    if rank == 0:
        torch.save({"model": model.state_dict(), "steps": clock.step}, lesson.file)
    distributed.destroy_process_group()


def _meet(rank: int, processes: int, file: str) -> None:
    """Join the other processes; each computes with one thread, and all begin with the same weights."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{file}.meet", rank=rank, world_size=processes)
    torch.manual_seed(0)


class _Clock:
    """Steps and the part of the time that is gone, the same on all processes; the rate is a cosine over that."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.started = seconds, time.time()
        self.step, self.part = 0, 0.0

    def rate(self) -> float:
        return _RATE * min(1, (self.step + 1) / 100) * (1 + math.cos(math.pi * self.part)) / 2

    def tick(self) -> None:
        part = torch.tensor([min(1.0, (time.time() - self.started) / self.seconds)])
        distributed.all_reduce(part, distributed.ReduceOp.MAX)
        self.step, self.part = self.step + 1, part.item()


def _share(parameters: list[nn.Parameter], processes: int) -> None:
    """Gradients become their mean over the processes, in one message; every parameter has one."""
    flat = torch.cat([cast(Tensor, p.grad).flatten() for p in parameters]) / processes
    distributed.all_reduce(flat)
    for p, g in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad = g.view_as(p)


def train_encoder(folder: Path, count: int, minutes: float, processes: int) -> dict[str, Any]:
    """Multi-label training on all codes (labels with size, zone, side), read linearly off the mean patch."""
    started = time.time()
    films, present = _films(count, processes)
    learn = count - _HELD
    with tempfile.TemporaryDirectory() as place:
        file = str(Path(place) / "reader.pt")
        lesson = _Lesson(films[:learn], present[:learn], minutes * 60, processes, file)
        torch.multiprocessing.spawn(_teach, (lesson,), nprocs=processes)
        saved = torch.load(file, weights_only=True)
    model = _Reader()
    model.load_state_dict(saved["model"])
    for module in model.modules():
        if isinstance(module, Conv):
            module.fold()
    held = _read_off(model, films[learn:])
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.half().contiguous() for k, v in model.encoder.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    return {
        "films": learn,
        "steps": saved["steps"],
        "seconds": round(time.time() - started),
        "mean_auc_labels": round(
            sum(_auc(held[:, i], present[learn:, i]) for i in _LABELS) / len(_LABELS), 4
        ),
        "auc": {c: round(_auc(held[:, i], present[learn:, i]), 4) for i, c in enumerate(CODES)},
    }


@torch.no_grad()
def _read_off(model: nn.Module, films: Tensor) -> Tensor:
    model.eval()
    parts = [model(part.float().div(255).sub(0.5).div(0.25))[0] for part in films.split(250)]
    return torch.cat(parts)


def _auc(value: Tensor, truth: Tensor) -> float:
    """Area under the ROC curve by ranks (Mann-Whitney)."""
    ranks = value.argsort().argsort().double() + 1
    positive = truth.bool()
    many, few = int((~positive).sum()), int(positive.sum())
    return float((ranks[positive].sum() - few * (few + 1) / 2) / max(1, many * few))


# The llm ---------------------------------------------------------------------------------------------------------


def _text(index: int) -> tuple[Case, str, str]:
    rng = study_rng(_SEED, "pretrain-text", index)
    case = draw_case(rng)
    return case, keywords(case, rng), report(case, rng, "pretrain")


def _texts(count: int, processes: int) -> list[tuple[Case, str, str]]:
    """Cases with key words and report; no film is drawn."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return list(tqdm(pool.imap(_text, range(count), chunksize=256), "texts", count, disable=None))


def make_tokenizer(folder: Path, reports: list[str]) -> Any:
    """A byte-level BPE of report words, with each key word as one token."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<unk>", "<film>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1_500, special_tokens=special, initial_alphabet=alphabet)
    core.train_from_iterator(["findings: none\nreport:", *reports], trainer)
    core.add_tokens(
        [AddedToken(code, normalized=False, single_word=False) for code in sorted(CODES, key=len)]
    )
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **names)
    tokenizer.save_pretrained(folder)
    return tokenizer


class _Maker:
    """Batches of embedded texts in three kinds: key words as tokens, as soft positions, and none."""

    def __init__(self, tokenizer: Any, embedding: nn.Embedding, rows: list[tuple[Case, str, str]]) -> None:
        self.embedding = embedding
        self.pad, self.eos = tokenizer.pad_token_id, tokenizer.eos_token_id
        self.film = tokenizer.convert_tokens_to_ids("<film>")
        self.codes = torch.tensor(tokenizer.convert_tokens_to_ids(list(CODES)))
        before, after = (
            tokenizer(t, add_special_tokens=False)["input_ids"] for t in ("findings:", "\nreport:")
        )
        self.before, self.after = [tokenizer.bos_token_id, *before], after
        index = {code: i for i, code in enumerate(CODES)}
        self.present = [[index[f.code] for f in case.findings] for case, _, _ in rows]
        self.words = tokenizer([" " + w for _, w, _ in rows], add_special_tokens=False)["input_ids"]
        self.reports = tokenizer([r for _, _, r in rows], add_special_tokens=False)["input_ids"]

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Embeddings [batch, text, llm] and targets [batch, text] (-100 where nothing is to be learnt)."""
        rows = torch.randint(len(self.reports), (size,), generator=generator).tolist()
        slots = int(torch.randint(*_SLOTS, (1,), generator=generator))
        kinds = torch.rand(size, generator=generator).tolist()
        pieces, targets = [], []
        for row, kind in zip(rows, kinds, strict=True):
            text = [*self.reports[row], self.eos]
            middle = (
                self._soft(row, slots, generator) if kind < 0.6 else self._hard(row if kind < 0.8 else None)
            )
            head = self.prompt(middle)
            pieces.append(torch.cat([head, self._embed(text)]))
            targets.append(torch.tensor([-100] * len(head) + text))
        pad = nn.utils.rnn.pad_sequence
        return pad(pieces, batch_first=True), pad(targets, batch_first=True, padding_value=-100)

    def prompt(self, middle: Tensor) -> Tensor:
        """Embeddings [text, llm] of the words around what stands for the film."""
        return torch.cat([self._embed(self.before), middle, self._embed(self.after)])

    def _embed(self, ids: list[int]) -> Tensor:
        return self.embedding(torch.tensor(ids, dtype=torch.long))

    def _hard(self, row: int | None) -> Tensor:
        return self._embed([self.film]) if row is None else self._embed(self.words[row])

    def _soft(self, row: int, slots: int, generator: torch.Generator) -> Tensor:
        """What a projector could say: in each position a weighted sum of key words, none of them clean.

        Weights of present findings vary and are missing in some positions, absent ones have small random weights;
        each position is scaled to unit RMS, as a LayerNorm leaves it.
        """
        noise, keep = (
            0.15 * torch.rand(1, generator=generator),
            0.3 + 0.7 * torch.rand(1, generator=generator),
        )
        weights = noise * torch.randn(slots, len(CODES), generator=generator)
        for code in self.present[row]:
            strength = 0.5 + torch.rand(slots, generator=generator)
            weights[:, code] += strength * (torch.rand(slots, generator=generator) < keep)
        table = F.normalize(self.embedding(self.codes), dim=-1)
        base = F.normalize(self.embedding(torch.tensor(self.film)), dim=-1)
        mixed = weights @ table + base
        return F.normalize(mixed, dim=-1) * mixed.shape[-1] ** 0.5


@dataclass(frozen=True)
class _Reading:
    """What one process of the llm's training needs."""

    folder: Path
    rows: list[tuple[Case, str, str]]
    seconds: float
    processes: int
    file: str


def _new_llm(tokenizer: Any) -> Any:
    """A Llama of 2 M parameters, at random."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    model: Any = LlamaForCausalLM(config)
    nn.init.normal_(model.get_input_embeddings().weight, std=0.7)
    return model


def _read(rank: int, lesson: _Reading) -> None:
    """Train for so many seconds, gradients averaged over the processes; the first one saves the result."""
    from transformers import PreTrainedTokenizerFast

    _meet(rank, lesson.processes, lesson.file)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(lesson.folder)
    model = _new_llm(tokenizer)
    maker = _Maker(tokenizer, model.get_input_embeddings(), lesson.rows)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=0.05, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(2 + rank)
    clock, losses = _Clock(lesson.seconds), []
    while clock.part < 1:
        for group in optimizer.param_groups:
            group["lr"] = clock.rate()
        loss = _text_loss(model, *maker.batch(generator, _BATCH // lesson.processes))
        optimizer.zero_grad()
        loss.backward()
        _share(parameters, lesson.processes)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
        clock.tick()
        if rank == 0 and clock.step % 100 == 0:
            told = f"{sum(losses[-100:]) / 100:.3f}"
            print(f"step {clock.step}, {clock.part:.0%} of the time, loss {told}", flush=True)  # noqa: T201
    if rank == 0:
        model.to(dtype=torch.float16).save_pretrained(lesson.folder)
        last = losses[-100:]
        Path(lesson.file).write_text(
            json.dumps({"steps": clock.step, "loss": round(sum(last) / len(last), 4)})
        )
    distributed.destroy_process_group()


def train_llm(folder: Path, count: int, minutes: float, processes: int) -> dict[str, Any]:
    """A Llama of 2 M parameters on report text: most of it after key words, many of those blurred."""
    started = time.time()
    folder.mkdir(parents=True, exist_ok=True)
    rows = _texts(count, processes)
    make_tokenizer(folder, [text for _, _, text in rows[:20_000]])
    with tempfile.TemporaryDirectory() as place:
        file = str(Path(place) / "figures.json")
        lesson = _Reading(folder, rows, minutes * 60, processes, file)
        torch.multiprocessing.spawn(_read, (lesson,), nprocs=processes)
        found = json.loads(Path(file).read_text())
    return {**found, **listens(folder), "seconds": round(time.time() - started)}


@torch.no_grad()
def listens(folder: Path) -> dict[str, float]:
    """Label F1 (micro) of the reports that the llm in `folder` writes, greedily, for cases that it never read.

    `f1_key_words` after clean key words, `f1_blurred` after 16 blurred positions.
    """
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    rows = [_text(_UNREAD + i) for i in range(_CASES)]
    maker = _Maker(tokenizer, model.get_input_embeddings(), rows)
    generator = torch.Generator().manual_seed(0)
    blurred = [maker.prompt(maker._soft(i, 16, generator)) for i in range(_CASES)]
    plain = [maker.prompt(maker._hard(i)) for i in range(_CASES)]
    wanted = [set(labels(case)) for case, _, _ in rows]
    names = {"f1_key_words": plain, "f1_blurred": blurred}
    return {
        name: round(_f1(_answers(model, tokenizer, prompts), wanted), 4) for name, prompts in names.items()
    }


def _answers(model: Any, tokenizer: Any, prompts: list[Tensor]) -> list[set[str]]:
    """The labels of what the llm writes after each prompt."""
    found = []
    for prompt in tqdm(prompts, "write", disable=None):
        mask = torch.ones(1, len(prompt), dtype=torch.long)
        ids = model.generate(
            inputs_embeds=prompt[None], attention_mask=mask, max_new_tokens=100, do_sample=False
        )
        found.append(set(read(tokenizer.decode(ids[0], skip_special_tokens=True))))
    return found


def _f1(found: list[set[str]], wanted: list[set[str]]) -> float:
    both = sum(len(f & w) for f, w in zip(found, wanted, strict=True))
    return 2 * both / max(1, sum(map(len, found)) + sum(map(len, wanted)))


def _text_loss(model: Any, embeddings: Tensor, targets: Tensor) -> Tensor:
    hidden = model.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state[:, :-1]
    wanted = targets[:, 1:]
    rows = (wanted != -100).flatten().nonzero().squeeze(1)
    return F.cross_entropy(model.lm_head(hidden.flatten(0, 1)[rows]), wanted.flatten()[rows])


if __name__ == "__main__":
    main()
