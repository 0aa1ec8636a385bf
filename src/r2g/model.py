"""The report generator: films to patches, patches to tokens, tokens to a report."""

import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from r2g.config.schema import DecodeSettings, RunConfig
from r2g.encoders.base import Preprocess, Views
from r2g.llms._cache import roomy
from r2g.llms.base import LanguageModel, positions
from r2g.projectors.base import Pooled


@dataclass(frozen=True)
class Batch:
    """Studies as tensors; made on the CPU by `r2g.data.collate`.

    `images` are films as bytes [batch, view, channel, height, width], or as floats that are normalized already; or a
    frozen encoder's patches, computed before: [batch, view, patch, vision]. `view_mask` says which views exist and
    `films` are the flat indices (batch * view) of those. `tokens` are reports with `</s>`, padded on the right;
    `targets` are the flat indices (batch * text) of the tokens that count in the loss.
    """

    ids: tuple[str, ...]
    images: Tensor
    view_mask: Tensor
    films: Tensor
    tokens: Tensor
    targets: Tensor

    @property
    def encoded(self) -> bool:
        """Whether the encoder's work is done already."""
        return self.images.ndim == 4

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        names = ("images", "view_mask", "films", "tokens", "targets")
        return replace(self, **{n: getattr(self, n).to(device, non_blocking=True) for n in names})


class ReportGenerator(nn.Module):
    """Encoder, projector and llm in a row. `forward` is the training loss; `generate` writes reports."""

    def __init__(
        self, encoder: nn.Module, projector: nn.Module, llm: LanguageModel, views: Views, pool: int | None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.llm = llm
        self.views = views
        self.pool = Pooled(pool)
        preprocess: Preprocess = encoder.preprocess  # type: ignore[assignment]
        shape = (1, preprocess.channels, 1, 1)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess.std).view(shape), persistent=False)

    def encode(
        self, batch: Batch
    ) -> tuple[Float[Tensor, "batch patch vision"], Bool[Tensor, "batch patch"] | None]:
        """Patches of each study with their mask (None: all count). Views that don't exist are never computed."""
        count, most = batch.view_mask.shape
        films = batch.images.flatten(0, 1)[batch.films]
        patches = films if batch.encoded else self.patches(films)
        if most == 1:
            return patches, None
        grid = patches.new_zeros(count * most, *patches.shape[1:]).index_copy(0, batch.films, patches)
        grid = grid.unflatten(0, (count, most))
        if self.views is Views.mean:
            return grid.sum(1) / batch.view_mask.sum(1).view(-1, 1, 1).to(grid.dtype), None
        mask = batch.view_mask[:, :, None].expand(-1, -1, patches.shape[1])
        return grid.flatten(1, 2), mask.flatten(1, 2)

    def patches(
        self, films: UInt8[Tensor, "film channel height width"] | Float[Tensor, "film channel height width"]
    ) -> Float[Tensor, "film patch vision"]:
        """What the encoder gives for each film (bytes, or normalized floats), pooled if the setting says so."""
        pixels = films if films.is_floating_point() else (films.float() / 255 - self.mean) / self.std
        with torch.set_grad_enabled(torch.is_grad_enabled() and _learns(self.encoder)):
            return self.pool(self.encoder(pixels))

    def prefix(
        self, batch: Batch
    ) -> tuple[Float[Tensor, "batch text llm"], Bool[Tensor, "batch text"] | None]:
        """All that the llm reads before the report: BOS and text, soft prompt, image tokens, text."""
        tokens, mask = self.projector(*self.encode(batch))
        if self.llm.prompt is None:
            raise RuntimeError(
                "this model was built on the meta device, without a tokenizer: it has no prompt"
            )
        before, after = (self._text(ids, tokens) for ids in (self.llm.prompt.before, self.llm.prompt.after))
        middle = [] if self.llm.soft_prompt is None else [self._soft(tokens)]
        parts = [before, *middle, tokens, after]
        if mask is not None:
            mask = torch.cat([mask if p is tokens else mask.new_ones(p.shape[:2]) for p in parts], dim=1)
        return torch.cat([p.to(before.dtype) for p in parts], dim=1), mask

    def inputs(
        self, batch: Batch
    ) -> tuple[Float[Tensor, "batch text llm"], Bool[Tensor, "batch text"] | None, int]:
        """What the llm reads in training: prefix and report, their mask, and the prefix's length."""
        prefix, mask = self.prefix(batch)
        report = self.llm.embed(batch.tokens[:, :-1])  # the last token is only ever a target
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(report.shape[:2])], dim=1)
        return torch.cat([prefix, report.to(prefix.dtype)], dim=1), mask, prefix.shape[1]

    def loss(self, hidden: Float[Tensor, "batch text llm"], batch: Batch, start: int) -> Float[Tensor, ""]:
        """Cross-entropy summed over the target tokens, in nats; `start` is the prefix's length."""
        rows = hidden[:, start - 1 : start - 1 + batch.tokens.shape[1]].flatten(0, 1)
        return self.llm.loss(rows[batch.targets], batch.tokens.flatten()[batch.targets])

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Cross-entropy summed over the target tokens of the batch, in nats."""
        inputs, mask, start = self.inputs(batch)
        return self.loss(self.llm.hidden(inputs, mask), batch, start)

    def write(self, batch: Batch, decode: DecodeSettings) -> Int[Tensor, "batch text"]:
        """The new tokens of each study, padded on the right."""
        return new_tokens(self.llm, *self.prefix(batch), decode)

    def generate(self, batch: Batch, decode: DecodeSettings) -> list[str]:
        """One report a study."""
        return write(self.llm, *self.prefix(batch), decode)

    def _text(self, ids: tuple[int, ...], like: Tensor) -> Float[Tensor, "batch text llm"]:
        tokens: Int[Tensor, " text"] = torch.tensor(ids, device=like.device, dtype=torch.long)
        return self.llm.embed(tokens).expand(len(like), -1, -1)

    def _soft(self, like: Tensor) -> Float[Tensor, "batch text llm"]:
        prompt: Any = self.llm.soft_prompt
        indices = torch.arange(prompt.embedding.num_embeddings, device=like.device)
        return prompt(indices).expand(len(like), -1, -1)


def write(
    llm: LanguageModel,
    prefix: Float[Tensor, "batch text llm"],
    mask: Bool[Tensor, "batch text"] | None,
    decode: DecodeSettings,
) -> list[str]:
    """One report a prefix."""
    texts = llm.tokenizer.batch_decode(new_tokens(llm, prefix, mask, decode), skip_special_tokens=True)
    return [text.strip() for text in texts]


@torch.no_grad()
def new_tokens(
    llm: LanguageModel,
    prefix: Float[Tensor, "batch text llm"],
    mask: Bool[Tensor, "batch text"] | None,
    decode: DecodeSettings,
) -> Int[Tensor, "batch new"]:
    """What the llm writes after each prefix. The prompt is computed once a study, not once a beam."""
    mask = prefix.new_ones(prefix.shape[:2], dtype=torch.bool) if mask is None else mask
    cache = llm.network(
        inputs_embeds=prefix[:, :-1],
        attention_mask=mask[:, :-1].long(),
        position_ids=positions(mask)[:, :-1],
        use_cache=True,
        logits_to_keep=1,
    ).past_key_values
    if decode.beams > 1:
        cache.batch_repeat_interleave(decode.beams)
    with warnings.catch_warnings():  # as meant: a prompt of embeddings has no words to penalize
        warnings.filterwarnings("ignore", "Passing `repetition_penalty` with `inputs_embeds`", UserWarning)
        return llm.network.generate(
            inputs_embeds=prefix,
            attention_mask=mask.long(),
            past_key_values=roomy(cache, decode.max_tokens),
            **generation(decode, llm),
        )


def generation(decode: DecodeSettings, llm: LanguageModel) -> dict[str, Any]:
    """The arguments of transformers' `generate` for our settings; nothing is left to a model's own defaults."""
    sampling = {"temperature": decode.temperature, "top_p": decode.top_p, "top_k": 0} if decode.sample else {}
    neutral = {} if decode.sample else {"temperature": None, "top_p": None, "top_k": None}
    beam = {"length_penalty": decode.length_penalty, "early_stopping": False} if decode.beams > 1 else {}
    return {
        "num_beams": decode.beams,
        "do_sample": decode.sample,
        "min_new_tokens": decode.min_tokens,
        "max_new_tokens": decode.max_tokens,
        "repetition_penalty": decode.repetition_penalty,
        "no_repeat_ngram_size": decode.no_repeat_ngram,
        "eos_token_id": llm.eos,
        "pad_token_id": llm.pad,
        **sampling,
        **neutral,
        **beam,
    }


def _learns(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


def assemble(
    config: RunConfig, device: torch.device, dtype: torch.dtype, llm: LanguageModel | None = None
) -> ReportGenerator:
    """Build the three parts on a device; what starts at random follows the run's seed and nothing else.

    `dtype` is the llm's compute dtype. On the meta device nothing is read or downloaded. An `llm` that is there
    already is taken instead of building it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder = config.encoder.build(device)
        torch.manual_seed(config.seed + 1)
        llm = config.llm.build(device, dtype) if llm is None else llm
        torch.manual_seed(config.seed + 2)
        with torch.device("meta" if device.type == "meta" else "cpu"):
            projector = config.projector.build(encoder.width, llm.width)
        model = ReportGenerator(
            encoder, projector.to(device), llm, config.encoder.views, config.projector.pool
        )
    return model.to(device)
