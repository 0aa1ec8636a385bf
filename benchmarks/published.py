"""Paired runs: the published way of training and decoding against r2g's, same weights, same studies.

The published way is written plainly here: every report padded to the maximum, logits at every position, frozen weights
held in another dtype under autocast, views encoded one after the other, the prompt computed once per beam.
Sizes: Swin-T at 224 px, two views, a Llama of 58 M, reports cut at 60 tokens, batch 8.
Precision: bf16 under autocast where this CPU multiplies faster in it than in fp32. Where it doesn't, both ways compute
in fp32, and the published way has no weights to cast: its handicap is smaller there.

python benchmarks/published.py [--rounds 5] [--precision bf16 | fp32] [--json FILE]
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, SwinConfig, SwinModel

from r2g.config.schema import DecodeSettings, FrozenMode
from r2g.core.memory import Work
from r2g.core.speed import slowdown
from r2g.core.tables import table
from r2g.encoders.base import Preprocess, Views
from r2g.llms.base import LanguageModel, PromptIds
from r2g.model import Batch, ReportGenerator
from r2g.projectors.linear import Linear
from r2g.tuning import cast_frozen, set_modes

MODES = ("shallow", "delta", "deep")
LONGEST, BATCH, VOCAB = 60, 8, 32_000
DECODE_BATCH = 12


NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16"}
DTYPE = torch.float32  # set by main, from --precision


def computing() -> contextlib.AbstractContextManager[Any]:
    """Autocast to bf16, or nothing in fp32."""
    return contextlib.nullcontext() if DTYPE is torch.float32 else torch.autocast("cpu", DTYPE)


class Words:
    """Stands for a tokenizer: the benchmark's reports are random ids."""

    pad_token_id, unk_token_id, eos_token_id, bos_token_id, eos_token = 0, 0, 2, 1, "</s>"

    def batch_decode(self, ids: Tensor, **_: Any) -> list[str]:
        return [" ".join(map(str, row)) for row in ids.tolist()]


class Swin(nn.Module):
    """Swin-T's patches."""

    width, patches = 768, 49
    preprocess = Preprocess(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    def __init__(self) -> None:
        super().__init__()
        self.net = SwinModel(
            SwinConfig(embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24]), add_pooling_layer=False
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images).last_hidden_state


def llama() -> LlamaForCausalLM:
    """58 M parameters."""
    shape: dict[str, Any] = {
        "hidden_size": 512,
        "intermediate_size": 1376,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
    }
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, max_position_embeddings=512, **shape))


def build() -> ReportGenerator:
    """Ours, in fp32, before a mode is applied."""
    torch.manual_seed(0)
    network = llama()
    prompt = PromptIds((1, *range(10, 16)), tuple(range(20, 42)))
    llm = LanguageModel(network, Words(), prompt)
    encoder = Swin()
    projector = Linear(pool=None, norm=True).build(encoder.width, llm.width)
    return ReportGenerator(encoder, projector, llm, Views.mean, None)


def apply(model: ReportGenerator, mode: str) -> None:
    """Adapters and requires_grad of a mode."""
    if mode == "delta":
        from peft import LoraConfig, inject_adapter_in_model

        targets = [n for n, _ in model.encoder.named_modules() if n.endswith(("q_proj", "v_proj"))]
        settings = LoraConfig(r=16, lora_alpha=16, lora_dropout=0.1, target_modules=targets)
        inject_adapter_in_model(settings, model.encoder)
    for name, parameter in model.named_parameters():
        learns = name.startswith("projector") or (
            name.startswith("encoder") and (mode == "deep" or "lora_" in name)
        )
        parameter.requires_grad_(learns)


class Published(nn.Module):
    """The published way, over the same modules."""

    mean: Tensor
    std: Tensor

    def __init__(self, ours: ReportGenerator) -> None:
        super().__init__()
        self.encoder, self.projector, self.llm = ours.encoder, ours.projector, ours.llm.network
        self.prompt: Any = ours.llm.prompt
        if torch.bfloat16 is DTYPE:
            self.llm.to(torch.float16)
        self.train()
        self.register_buffer("mean", ours.mean)
        self.register_buffer("std", ours.std)

    def prefix(self, batch: Batch) -> tuple[Tensor, Tensor]:
        views = [self.encoder((batch.images[:, v].float() / 255 - self.mean) / self.std) for v in range(2)]
        tokens, _ = self.projector(torch.stack(views).mean(0), None)
        embed = self.llm.get_input_embeddings()
        before, after = (
            embed(torch.tensor(ids)).expand(len(tokens), -1, -1)
            for ids in (self.prompt.before, self.prompt.after)
        )
        inputs = torch.cat([before, tokens.to(before.dtype), after], dim=1)
        return inputs, torch.ones(inputs.shape[:2], dtype=torch.long)

    def forward(self, batch: Batch) -> Tensor:
        prefix, mask = self.prefix(batch)
        tokens = nn.functional.pad(batch.tokens, (0, LONGEST - batch.tokens.shape[1]))
        report = self.llm.get_input_embeddings()(tokens)
        labels = torch.cat([torch.full(prefix.shape[:2], -100), tokens.masked_fill(tokens == 0, -100)], dim=1)
        inputs = torch.cat([prefix, report], dim=1)
        mask = torch.cat([mask, (tokens != 0).long()], dim=1)
        return self.llm(inputs_embeds=inputs, attention_mask=mask, labels=labels).loss

    @torch.no_grad()
    def generate(self, batch: Batch) -> Tensor:
        prefix, _ = self.prefix(batch)
        beam = {"num_beams": 3, "do_sample": False, "repetition_penalty": 2.0, "length_penalty": 2.0}
        ends = {"min_new_tokens": 80, "max_new_tokens": 120, "eos_token_id": 2, "pad_token_id": 0}
        return self.llm.generate(inputs_embeds=prefix, **beam, **ends)


def batches(count: int, size: int, grouped: bool) -> list[Batch]:
    """Two-view studies with reports of IU X-ray's lengths (mean about 38 tokens, cut at 60)."""
    generator = torch.Generator().manual_seed(1)
    lengths = (38 + 13 * torch.randn(count * size, generator=generator)).round().clamp(8, LONGEST).long()
    lengths = lengths.sort().values if grouped else lengths
    return [_batch(part.tolist(), generator) for part in lengths.split(size)]


def _batch(lengths: list[int], generator: torch.Generator) -> Batch:
    size, longest = len(lengths), max(lengths)
    tokens = torch.zeros(size, longest, dtype=torch.long)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.randint(100, VOCAB, (length,), generator=generator)
        tokens[row, length - 1] = 2
    images = torch.randint(0, 256, (size, 2, 3, 224, 224), dtype=torch.uint8, generator=generator)
    mask = torch.ones(size, 2, dtype=torch.bool)
    targets = (tokens != 0).flatten().nonzero().squeeze(1)
    return Batch(("",) * size, images, mask, torch.arange(size * 2), tokens, targets)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    with computing():
        loss = model(batch)
    (loss / len(batch.targets) if isinstance(model, ReportGenerator) else loss).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def trainer(way: str, mode: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model of one way with its optimizer."""
    model = build()
    apply(model, mode)
    if way == "ours":
        cast_frozen(model, DTYPE)
        model.llm.network.to(DTYPE)
        set_modes(model, FrozenMode.eval)
    built = model if way == "ours" else Published(model)
    return built, torch.optim.AdamW([p for p in built.parameters() if p.requires_grad], lr=1e-4)


@torch.no_grad()
def kept(model: nn.Module, batch: Batch) -> Batch:
    """The batch with its films' patches, as a run reads them from its cache."""
    with computing():
        patches = model.patches(batch.images.flatten(0, 1))  # type: ignore[operator]
    return replace(batch, images=patches.unflatten(0, batch.view_mask.shape))


def train_pair(mode: str, rounds: int, cached: bool = False) -> dict[str, Any]:
    """Studies per second of both ways, in turn, and the ratio pair by pair; `cached`: ours finds patches."""
    parts = {
        way: (*trainer(way, mode), batches(rounds, BATCH, way == "ours")) for way in ("published", "ours")
    }
    if cached:
        ours, optimizer, data = parts["ours"]
        parts["ours"] = ours, optimizer, [kept(ours, batch) for batch in data]
    rates: dict[str, list[float]] = {"published": [], "ours": []}
    order = torch.randperm(rounds, generator=torch.Generator().manual_seed(2)).tolist()
    for model, optimizer, data in parts.values():
        step(model, optimizer, data[rounds // 2])  # warm-up
    for i in order:
        for way, (model, optimizer, data) in parts.items():
            started = time.perf_counter()
            step(model, optimizer, data[i])
            rates[way].append(BATCH / (time.perf_counter() - started))
    flops = {
        way: work(partial(step, model, optimizer), data) for way, (model, optimizer, data) in parts.items()
    }
    return _ratio(rates) | {"flops": flops["published"] / flops["ours"]}


def work(call: Callable[[Batch], None], data: list[Batch]) -> float:
    """GFLOPs of a step on each batch, in sum."""
    with Work() as done:
        for batch in data:
            call(batch)
    return done.flops / 1e9


def decode_pair(rounds: int) -> dict[str, Any]:
    """Reports per second, beam 3, 80 to 120 tokens."""
    settings = DecodeSettings(
        beams=3,
        sample=False,
        temperature=1.0,
        top_p=1.0,
        min_tokens=80,
        max_tokens=120,
        repetition_penalty=2.0,
        length_penalty=2.0,
        no_repeat_ngram=0,
        batch_size=DECODE_BATCH,
    )
    data = batches(1, DECODE_BATCH, False)[0]
    models: dict[str, Any] = {way: trainer(way, "shallow")[0].eval() for way in ("published", "ours")}
    rates: dict[str, list[float]] = {"published": [], "ours": []}
    for _ in range(rounds):
        for way, model in models.items():
            started = time.perf_counter()
            with computing():
                model.generate(data, settings) if way == "ours" else model.generate(data)
            rates[way].append(DECODE_BATCH / (time.perf_counter() - started))
    return _ratio(rates)


def _ratio(rates: dict[str, list[float]]) -> dict[str, Any]:
    pairs = [o / p for o, p in zip(rates["ours"], rates["published"], strict=True)]
    return {way: statistics.median(r) for way, r in rates.items()} | {"ratio": statistics.median(pairs)}


def high_water() -> float:
    """This process's largest memory so far, in MB: ru_maxrss would be at least that of the process that started it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status tells no VmHWM: peaks are measured on Linux only")


def peak(way: str, mode: str) -> None:
    """Print what two steps at the longest batch add, at most, to this process's memory, models included, in MB."""
    before = high_water()
    model, optimizer = trainer(way, mode)
    data = batches(4, BATCH, way == "ours")[-1]
    step(model, optimizer, data)
    step(model, optimizer, data)
    print(high_water() - before)


def peaks(mode: str) -> dict[str, float]:
    """Peak memory of both ways in MB, without the libraries' own, each in a process of its own."""
    result = {}
    for way in ("published", "ours"):
        call = [sys.executable, __file__, "--peak", way, mode, "--precision", NAMES[DTYPE]]
        result[way] = float(subprocess.run(call, capture_output=True, text=True, check=True).stdout)
    return result | {"ratio": result["ours"] / result["published"]}


def matmul_share(mode: str) -> dict[str, Any]:
    """What part of a measured matrix product's speed a step of ours reaches, and where its time goes."""
    from torch.profiler import profile

    a = torch.randn(2048, 2048, dtype=DTYPE)
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        a @ a
        best = max(best, 2 * 2048**3 / (time.perf_counter() - started))
    model, optimizer = trainer("ours", mode)
    data = batches(1, BATCH, True)[0]
    step(model, optimizer, data)
    with Work() as counted:
        step(model, optimizer, data)
    started = time.perf_counter()
    step(model, optimizer, data)
    speed = counted.flops / (time.perf_counter() - started)
    with profile() as watched:
        step(model, optimizer, data)
    rows = sorted(watched.key_averages(), key=lambda r: -r.self_cpu_time_total)[:8]
    total = sum(r.self_cpu_time_total for r in watched.key_averages())
    where = {r.key: round(r.self_cpu_time_total / total, 3) for r in rows}
    return {"matmul_gflops": best / 1e9, "step_gflops": speed / 1e9, "share": speed / best, "where": where}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="measures whose name begins so, such as deep")
    parser.add_argument("--json", type=str, default=None)
    parser.add_argument(
        "--peak", nargs=2, default=None, metavar=("WAY", "MODE"), help="used by the benchmark itself"
    )
    parser.add_argument("--precision", choices=NAMES.values(), default=None)
    chosen = parser.parse_args()
    times = slowdown(torch.bfloat16, torch.device("cpu"))
    global DTYPE
    DTYPE = next((d for d, n in NAMES.items() if n == chosen.precision), None) or (
        torch.bfloat16 if times < 1 else torch.float32
    )
    if chosen.peak:
        peak(*chosen.peak)
        return
    print(f"{NAMES[DTYPE]}; a matrix product in bf16 takes {times:.2g} times as long as in fp32 here")
    found: dict[str, Any] = {"precision": NAMES[DTYPE], "bf16_slowdown": times}
    measures = {f"{mode}: studies/s": partial(train_pair, mode, chosen.rounds) for mode in MODES}
    measures["shallow, patches kept: studies/s"] = partial(train_pair, "shallow", chosen.rounds, True)
    measures |= {f"{mode}: peak MB": partial(peaks, mode) for mode in MODES}
    measures["beam 3: reports/s"] = partial(decode_pair, max(2, chosen.rounds // 2))
    for name, measure in measures.items():
        if not name.startswith(chosen.only):
            continue
        found[name] = measure()
        print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    rows = [
        [name, row["published"], row["ours"], row["ratio"], row.get("flops")]
        for name, row in found.items()
        if isinstance(row, dict)
    ]
    print(table(["", "published", "ours", "ratio", "FLOPs, published / ours"], rows))
    if not chosen.only:
        found["matmul"] = matmul_share("shallow")
        print(json.dumps(found["matmul"], indent=1))
    if chosen.json:
        with open(chosen.json, "w") as file:  # noqa: PTH123
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
