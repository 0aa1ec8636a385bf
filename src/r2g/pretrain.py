"""python -m r2g.pretrain: make the tiny encoder and the tiny llm that ship with the package."""

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from r2g.encoders.tiny import TinyEncoder
from r2g.phantom.dataset import study_rng
from r2g.phantom.draw import draw
from r2g.phantom.findings import CODES, Case, codes, draw_case
from r2g.phantom.words import keywords, report

_SEED = 20_231  # a namespace of its own: data=phantom never draws from the split named here
_SPLIT = "pretrain"
_HELD = 2_000  # films kept for the figures of the card
_SLOTS = (8, 40)  # how many soft positions a text may have in place of key words
_BATCH = 32


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m r2g.pretrain", description=__doc__)
    parser.add_argument("what", choices=("encoder", "llm", "all"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "weights")
    parser.add_argument("--films", type=int, default=24_000, help="films drawn for the encoder")
    parser.add_argument("--texts", type=int, default=60_000, help="reports written for the llm")
    parser.add_argument("--encoder-steps", type=int, default=4_000)
    parser.add_argument("--llm-steps", type=int, default=5_000)
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    if chosen.what in ("encoder", "all"):
        figures = train_encoder(
            chosen.out / "tiny_encoder", chosen.films, chosen.encoder_steps, chosen.processes
        )
        _note(chosen.out / "tiny_encoder", figures)
    if chosen.what in ("llm", "all"):
        _note(
            chosen.out / "tiny_llm",
            train_llm(chosen.out / "tiny_llm", chosen.texts, chosen.llm_steps, chosen.processes),
        )


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


def train_encoder(folder: Path, count: int, steps: int, processes: int) -> dict[str, Any]:
    """Multi-label training on all codes (labels with size, zone, side), read linearly off the mean patch."""
    started = time.time()
    films, present = _films(count, processes)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = TinyEncoder().to(memory_format=torch.channels_last)
    head = nn.Linear(model.width, len(CODES))
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1.5e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=steps, pct_start=0.08)
    learn = count - _HELD
    for _ in tqdm(range(steps), "encoder", disable=None):
        rows = torch.randint(learn, (_BATCH,), generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = head(model(_shifted(films[rows], generator))).float().mean(1)
        loss = F.binary_cross_entropy_with_logits(logits, present[rows]) * len(CODES)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    held = _read_off(model, head, films[learn:])
    return {
        "films": learn,
        "steps": steps,
        "seconds": round(time.time() - started),
        "auc": {c: round(_auc(held[:, i], present[learn:, i]), 4) for i, c in enumerate(CODES)},
    }


@torch.no_grad()
def _read_off(model: nn.Module, head: nn.Module, films: Tensor) -> Tensor:
    model.eval()
    parts = [head(model(part.float().div(255).sub(0.5).div(0.25))).mean(1) for part in films.split(250)]
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

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Embeddings [batch, text, llm] and targets [batch, text] (-100 where nothing is to be learnt)."""
        rows = torch.randint(len(self.reports), (_BATCH,), generator=generator).tolist()
        slots = int(torch.randint(*_SLOTS, (1,), generator=generator))
        kinds = torch.rand(_BATCH, generator=generator).tolist()
        pieces, targets = [], []
        for row, kind in zip(rows, kinds, strict=True):
            text = [*self.reports[row], self.eos]
            middle = (
                self._soft(row, slots, generator) if kind < 0.6 else self._hard(row if kind < 0.8 else None)
            )
            head = torch.cat([self._embed(self.before), middle, self._embed(self.after)])
            pieces.append(torch.cat([head, self._embed(text)]))
            targets.append(torch.tensor([-100] * len(head) + text))
        pad = nn.utils.rnn.pad_sequence
        return pad(pieces, batch_first=True), pad(targets, batch_first=True, padding_value=-100)

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


def train_llm(folder: Path, count: int, steps: int, processes: int) -> dict[str, Any]:
    """A Llama of 2 M parameters on report text: most of it after key words, many of those blurred."""
    from transformers import LlamaConfig, LlamaForCausalLM

    started = time.time()
    folder.mkdir(parents=True, exist_ok=True)
    rows = _texts(count, processes)
    tokenizer = make_tokenizer(folder, [text for _, _, text in rows[:20_000]])
    torch.manual_seed(0)
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
    words: Any = model.get_input_embeddings()
    nn.init.normal_(words.weight, std=0.7)
    maker = _Maker(tokenizer, words, rows)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=steps, pct_start=0.05)
    generator = torch.Generator().manual_seed(2)
    bar = tqdm(range(steps), "llm", disable=None)
    for _ in bar:
        loss = _text_loss(model, *maker.batch(generator))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    model.to(dtype=torch.float16).save_pretrained(folder)
    total = sum(p.numel() for p in model.parameters())
    return {"parameters": total, "steps": steps, "seconds": round(time.time() - started), "loss": loss.item()}


def _text_loss(model: Any, embeddings: Tensor, targets: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state[:, :-1]
        wanted = targets[:, 1:]
        rows = (wanted != -100).flatten().nonzero().squeeze(1)
        logits = model.lm_head(hidden.flatten(0, 1)[rows]).float()
    return F.cross_entropy(logits, wanted.flatten()[rows])


if __name__ == "__main__":
    main()
