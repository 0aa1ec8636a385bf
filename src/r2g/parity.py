"""Side by side with the published code: loss, gradients and token ids of the same weights and the same batch.

Everything is computed by the model that r2g.run trains; only names are translated. Dropout and drop path are off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from r2g import session
from r2g.config.compose import compose
from r2g.config.schema import DecodeSettings
from r2g.data import cut
from r2g.llms.base import prompt_ids
from r2g.model import Batch, ReportGenerator, assemble
from r2g.published import Age, Spelling, Unfit, ours, read, theirs
from r2g.tuning import trainable

_LABEL = "encoder_lora"
_EXPERIMENTS = {"shallow": "shallow_iu", "delta": "lora_iu", "deep": "deep_iu"}
_NOW = Spelling(transformers=Age.now, peft=Age.now)
_UNKNOWN = 0  # the id with which the published code pads, and which it never counts


@dataclass(frozen=True)
class Outcome:
    """What one batch gives: the mean loss over its target tokens in nats, the gradients of all that learns by their
    published names, and the new token ids of beam search, padded as the llm's generation config says."""

    loss: Float[Tensor, ""]
    gradients: dict[str, Tensor]
    ids: Int[Tensor, "batch text"]


def build(
    swin: str | Path,
    llama: str | Path,
    weights: str | Path | Mapping[str, Tensor],
    mode: str,
    alpha: float = 16,
) -> ReportGenerator:
    """The paper's model in fp32 from two model directories and the trained tensors by published name.

    `weights` are a mapping, a .safetensors file or a .pth file of R2GenGPT, and hold at least `llama_proj` and
    `layer_norm`; in delta also LoRA's matrices, whose `alpha` no tensor tells. Raises Unfit for names that don't fit.
    """
    if mode not in _EXPERIMENTS:
        raise ValueError(f"mode must be one of {', '.join(_EXPERIMENTS)}, got '{mode}'")
    trained = {ours(name, _LABEL): tensor for name, tensor in _tensors(weights).items()}
    ranks = [tensor.shape[0] for name, tensor in trained.items() if ".lora_A." in name]
    lora = f"tuning.adapters.{_LABEL}"
    words = [f"+experiment={_EXPERIMENTS[mode]}", f"encoder.source={swin}", f"llm.source={llama}"]
    words += ["train.precision=fp32", "data.root=null"]
    words += [f"{lora}.rank={ranks[0]}", f"{lora}.alpha={alpha}"] if ranks and mode == "delta" else []
    config = compose(words)
    model = assemble(config, torch.device("cpu"), torch.float32)
    session.tune(model, config)
    _load(model, trained)
    _read_as_published(model, llama, config.llm.prompt)
    return model.eval()


def batch(model: ReportGenerator, images: Sequence[Tensor], reports: Sequence[str], max_tokens: int) -> Batch:
    """A batch of studies: of each view the films of all studies [batch, channel, height, width], and the reports.

    Films are bytes, or floats that are normalized already. Reports are cut at `max_tokens`, `</s>` included.
    """
    count, views = len(reports), len(images)
    rows = cut(reports, model.llm.tokenizer, max_tokens)
    tokens = torch.full((count, max(map(len, rows))), _UNKNOWN)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row)
    return Batch(
        ids=tuple(map(str, range(count))),
        images=torch.stack(tuple(images), dim=1),
        view_mask=torch.ones(count, views, dtype=torch.bool),
        films=torch.arange(count * views),
        tokens=tokens,
        targets=(tokens != _UNKNOWN).flatten().nonzero().squeeze(1),
    )


def run(model: ReportGenerator, studies: Batch, **decoding: Any) -> Outcome:
    """One forward and backward pass, and one report a study.

    `decoding` changes settings of `decode=r2gengpt_iu` (beam 3, 40 to 100 tokens): min_tokens=80, max_tokens=120.
    """
    model.zero_grad()
    loss = model(studies) / len(studies.targets)
    loss.backward()
    found = {theirs(n, _LABEL, _NOW): p.grad for n, p in trainable(model).items() if p.grad is not None}
    decode: DecodeSettings = replace(compose([f"+experiment={_EXPERIMENTS['shallow']}"]).decode, **decoding)
    ids = model.write(studies, decode)
    return Outcome(loss.detach(), {n: g.clone() for n, g in found.items()}, _padded(ids, model))


def _tensors(weights: str | Path | Mapping[str, Tensor]) -> dict[str, Tensor]:
    if isinstance(weights, Mapping):
        return dict(weights)
    if Path(weights).suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(weights)
    return read(Path(weights)).tensors


def _load(model: ReportGenerator, trained: Mapping[str, Tensor]) -> None:
    """Deep may leave the encoder to its directory; what the mode adds must be there, and nothing else."""
    learns = trainable(model)
    needed = [n for n in learns if n.startswith("projector.") or ".lora_" in n]
    problems = [f"no tensor for {name}" for name in needed if name not in trained]
    problems += [f"{name} doesn't learn in this mode" for name in trained if name not in learns]
    if problems:
        raise Unfit("; ".join(problems[:5]))
    with torch.no_grad():
        for name, tensor in trained.items():
            if learns[name].shape != tensor.shape:
                raise Unfit(f"{name} is {tuple(tensor.shape)}, the model's is {tuple(learns[name].shape)}")
            learns[name].copy_(tensor)


def _read_as_published(model: ReportGenerator, llama: str | Path, prompt: Any) -> None:
    """The published code takes any directory's tokenizer for a LlamaTokenizer, whatever it names."""
    from transformers import LlamaTokenizer

    model.llm.tokenizer = LlamaTokenizer.from_pretrained(llama)
    model.llm.tokenizer.pad_token_id = _UNKNOWN
    model.llm.prompt = prompt_ids(model.llm.tokenizer, prompt)


def _padded(ids: Int[Tensor, "batch text"], model: ReportGenerator) -> Int[Tensor, "batch text"]:
    """After the first `</s>`, what the published call leaves to the generation config: its padding, else `</s>`."""
    told = model.llm.network.generation_config.pad_token_id
    after = (ids == model.llm.eos).long().cumsum(1) - (ids == model.llm.eos).long() > 0
    return ids.masked_fill(after, model.llm.eos if told is None else told)
