"""The report generator against plain computations of the same things."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from r2g.config.schema import RunConfig
from r2g.llms import base as llms_base
from r2g.model import Batch, ReportGenerator, assemble, generation
from r2g.session import tune

CPU = torch.device("cpu")
VIEWS, LENGTHS = (2, 1, 2, 1, 1, 2, 1, 2), (5, 9, 3, 7, 1, 8, 4, 6)
Small, Studies = Callable[..., RunConfig], Callable[..., Batch]


def _model(config: RunConfig) -> ReportGenerator:
    model = assemble(config, CPU, torch.float32)
    tune(model, config)
    return model.eval()


@pytest.fixture(scope="session", params=["mean", "concat"])
def model(request: pytest.FixtureRequest, small: Small) -> ReportGenerator:
    return _model(small(f"encoder.views={request.param}"))


def _alone(batch: Batch, i: int) -> Batch:
    """One study of a batch, without padding and without the views that it hasn't."""
    views, text = int(batch.view_mask[i].sum()), batch.tokens.shape[1]
    targets = batch.targets[(batch.targets >= i * text) & (batch.targets < (i + 1) * text)] - i * text
    return Batch(
        ids=batch.ids[i : i + 1],
        images=batch.images[i : i + 1, :views],
        view_mask=batch.view_mask[i : i + 1, :views],
        films=torch.arange(views),
        tokens=batch.tokens[i : i + 1, : len(targets)],
        targets=targets,
    )


def _part(batch: Batch, rows: slice) -> Batch:
    mask = batch.view_mask[rows]
    return replace(
        batch,
        ids=batch.ids[rows],
        images=batch.images[rows],
        view_mask=mask,
        films=mask.flatten().nonzero().squeeze(1),
        tokens=batch.tokens[rows],
        targets=torch.zeros(0, dtype=torch.long),
    )


def test_the_loss_is_that_of_full_logits(model: ReportGenerator, studies: Studies) -> None:
    """Prompt, image tokens and report through the plain network, with labels, as anybody would."""
    batch = studies(model, (1, 1, 1), (5, 9, 3))
    prefix, _ = model.prefix(batch)
    inputs = torch.cat([prefix, model.llm.embed(batch.tokens)], dim=1)
    labels = torch.full((3, prefix.shape[1] + 9), -100)
    for row, length in enumerate((5, 9, 3)):
        labels[row, prefix.shape[1] : prefix.shape[1] + length] = batch.tokens[row, :length]
    mean = model.llm.network(inputs_embeds=inputs, labels=labels).loss
    torch.testing.assert_close(model(batch), mean * 17, rtol=1e-5, atol=1e-4)


def test_a_study_s_loss_does_not_depend_on_its_batch(model: ReportGenerator, studies: Studies) -> None:
    """Missing views and padding count for nothing."""
    batch = studies(model, VIEWS, LENGTHS)
    apart = sum(model(_alone(batch, i)) for i in range(len(VIEWS)))
    torch.testing.assert_close(model(batch), apart, rtol=1e-5, atol=1e-4)


def test_what_stands_in_a_missing_view_is_never_seen(model: ReportGenerator, studies: Studies) -> None:
    batch = studies(model, VIEWS, LENGTHS)
    other = replace(batch, images=batch.images.clone())
    other.images[~batch.view_mask] = 255
    assert torch.equal(model(batch), model(other))


def test_views_count(model: ReportGenerator, studies: Studies) -> None:
    batch = studies(model, VIEWS, LENGTHS)
    patches, mask = model.encode(batch)
    wide = 2 if mask is not None else 1
    assert patches.shape == (8, model.encoder.patches * wide, model.encoder.width)
    first = model.encode(_alone(batch, 1))[0]
    torch.testing.assert_close(patches[1, : first.shape[1]], first[0], rtol=1e-5, atol=1e-5)
    if mask is not None:
        assert mask.sum(1).tolist() == [model.encoder.patches * count for count in VIEWS]


def test_the_prompt_surrounds_the_image(small: Small, studies: Studies) -> None:
    model = _model(small("tuning=soft_prompt", "tuning.adapters.prompt.length=3"))
    batch = studies(model, (1,), (4,))
    prefix, _ = model.prefix(batch)
    tokens = model.projector(*model.encode(batch))[0]
    prompt = model.llm.prompt
    assert prompt is not None
    assert prompt.before[0] == model.llm.tokenizer.bos_token_id
    parts = [model.llm.embed(torch.tensor(prompt.before)), model.llm.soft_prompt.embedding.weight]
    parts += [tokens[0], model.llm.embed(torch.tensor(prompt.after))]
    torch.testing.assert_close(prefix[0], torch.cat(parts))


@pytest.mark.parametrize("decode", ["greedy", "beam"])
def test_reports_are_the_same_in_any_batch(
    model: ReportGenerator, studies: Studies, configured: Small, decode: str
) -> None:
    settings = configured(f"decode={decode}", "decode.max_tokens=12").decode
    batch = studies(model, VIEWS, LENGTHS)

    def write(size: int) -> list[str]:
        parts = [slice(i, i + size) for i in range(0, len(VIEWS), size)]
        return [text for rows in parts for text in model.generate(_part(batch, rows), settings)]

    whole = write(8)
    assert write(1) == write(3) == whole
    assert len(set(whole)) > 1


# The plain call says that the penalty sees new tokens only: R2GenGPT's does, too.
@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty` with `inputs_embeds`:UserWarning")
@pytest.mark.parametrize(
    "overrides",
    [
        ["decode=beam"],
        ["decode=beam", "decode.repetition_penalty=2.0", "decode.min_tokens=8"],
        ["decode=greedy"],
    ],
    ids=["beam", "penalties", "greedy"],
)
def test_reusing_the_prompt_gives_what_generate_gives(
    model: ReportGenerator, studies: Studies, configured: Small, overrides: list[str]
) -> None:
    settings = configured(*overrides, "decode.max_tokens=12").decode
    batch = studies(model, VIEWS[:4], LENGTHS[:4])
    prefix, mask = model.prefix(batch)
    mask = torch.ones(prefix.shape[:2]) if mask is None else mask
    plain = model.llm.network.generate(
        inputs_embeds=prefix, attention_mask=mask.long(), **generation(settings, model.llm)
    )
    texts = model.llm.tokenizer.batch_decode(plain, skip_special_tokens=True)
    assert model.generate(batch, settings) == [text.strip() for text in texts]


def _gradients(model: ReportGenerator, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss = model(batch)
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_loss_in_chunks_equals_the_whole(
    model: ReportGenerator, studies: Studies, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = studies(model, VIEWS, LENGTHS)
    whole, gradients = _gradients(model, batch)
    monkeypatch.setattr(llms_base, "_ROWS", 7)
    chunked, others = _gradients(model, batch)
    torch.testing.assert_close(chunked, whole)
    torch.testing.assert_close(others, gradients)


def test_checkpointing_changes_memory_only(small: Small, studies: Studies) -> None:
    found = []
    for on in ("false", "true"):
        model = _model(small("tuning=llm_lora", f"llm.checkpointing={on}")).train()
        assert model.llm.checkpointing == (on == "true")
        torch.manual_seed(0)
        found.append(_gradients(model, studies(model, VIEWS[:3], LENGTHS[:3])))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_checkpointing_recomputes_the_blocks(small: Small, studies: Studies) -> None:
    """Also in the mode that training uses, where a frozen llm rests."""
    config = small("llm.checkpointing=true")
    model = assemble(config, CPU, torch.float32)
    tune(model, config)
    calls: list[Any] = []
    model.llm.network.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    model(studies(model, (1,), (4,))).backward()
    assert len(calls) == 2


def test_starts_follow_the_seed(small: Small) -> None:
    torch.manual_seed(1)
    first = assemble(small("seed=3"), CPU, torch.float32)
    torch.manual_seed(2)
    again, other = (
        assemble(small("seed=3"), CPU, torch.float32),
        assemble(small("seed=4"), CPU, torch.float32),
    )
    weight = first.projector.body.weight
    assert torch.equal(weight, again.projector.body.weight)
    assert not torch.equal(weight, other.projector.body.weight)


def test_a_model_without_tokenizer_says_so(small: Small, studies: Studies) -> None:
    model = assemble(small(), torch.device("meta"), torch.float32)
    assert all(p.is_meta for p in model.parameters())
    with pytest.raises(RuntimeError, match="meta device"):
        model.prefix(studies(model, (1,), (3,)).to(torch.device("meta")))


def test_logits_are_the_network_s_own(model: ReportGenerator) -> None:
    ids = torch.tensor([[1, 5, 9]])
    hidden = model.llm.hidden(model.llm.embed(ids), None)
    torch.testing.assert_close(model.llm.logits(hidden), model.llm.network(input_ids=ids).logits)
    expected = F.cross_entropy(model.llm.logits(hidden)[0, :-1], ids[0, 1:], reduction="sum")
    torch.testing.assert_close(model.llm.loss(hidden[0, :-1], ids[0, 1:]), expected)
