"""What every llm must do, asked of each kind that can be built here, and of each YAML without weights."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from r2g.config.paths import config_dir
from r2g.config.schema import RunConfig
from r2g.core.slots import LLMS
from r2g.llms.base import Style, prompt_ids
from r2g.model import new_tokens
from r2g.tuning import names_of_role

YAMLS = sorted(Path(config_dir(), "llm").glob("*.yaml"))
CPU, META = torch.device("cpu"), torch.device("meta")
# Kinds whose weights are here; the others' networks are transformers' own, met through causal_lm.
HERE = {"causal_lm": "llama", "tiny": None}


@pytest.fixture(params=sorted(HERE))
def settings(request: pytest.FixtureRequest, configured: Callable[..., RunConfig], llama: Path) -> Any:
    given = [f"llm.source={llama}"] if HERE[request.param] else []
    return configured(f"llm={request.param}", *given).llm


@pytest.fixture(params=YAMLS, ids=lambda path: path.stem)
def stated(request: pytest.FixtureRequest, configured: Callable[..., RunConfig], llama: Path) -> Any:
    given = [f"llm.source={llama}"] if "???" in request.param.read_text() else []
    return configured(f"llm={request.param.stem}", *given).llm


def test_every_kind_has_a_yaml() -> None:
    assert {yaml.safe_load(path.read_text())["kind"] for path in YAMLS} == set(LLMS.names())


def test_every_yaml_has_roles_that_its_network_plays(stated: Any) -> None:
    model = stated.build(META, torch.bfloat16)
    assert all(p.is_meta for p in model.parameters())
    assert model.width > 0
    assert {"attention_qv", "attention", "mlp", "blocks", "norms"} <= set(stated.roles)
    for globs in stated.roles.values():
        assert names_of_role(model, globs)
    blocks = names_of_role(model, stated.roles["blocks"])
    assert len(blocks) == model.network.config.num_hidden_layers


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_in_the_compute_dtype(settings: Any, dtype: torch.dtype) -> None:
    model = settings.build(CPU, dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    hidden = model.hidden(model.embed(torch.tensor([[1, 5, 7]])), None)
    assert hidden.shape == (1, 3, model.width)
    assert model.logits(hidden).dtype == torch.float32
    assert model.loss(hidden[0, :2], torch.tensor([5, 7])).isfinite()


def test_meta_has_the_same_parameters(settings: Any) -> None:
    shapes = [
        {n: p.shape for n, p in settings.build(device, torch.float32).named_parameters()}
        for device in (CPU, META)
    ]
    assert shapes[0] == shapes[1]


def test_padding_on_the_left_and_in_the_middle_changes_nothing(settings: Any) -> None:
    model = settings.build(CPU, torch.float32).eval()
    words = model.embed(torch.tensor([[1, 5, 7, 9]]))
    wide = torch.cat([words[:, :2], 9 * torch.ones(1, 2, model.width), words[:, 2:]], dim=1)
    mask = torch.tensor([[True, True, False, False, True, True]])
    with torch.no_grad():
        plain, holed = model.hidden(words, None), model.hidden(wide, mask)
    torch.testing.assert_close(holed[mask][None], plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("beams", [1, 2])
def test_checkpointing_changes_no_word_that_is_written(
    settings: Any, configured: Callable[..., RunConfig], beams: int
) -> None:
    model = settings.build(CPU, torch.float32).eval()
    model.requires_grad_(False)
    prefix = model.embed(torch.tensor([[1, 5, 7, 9], [1, 8, 4, 6]]))
    decode = configured(f"decode.beams={beams}", "decode.max_tokens=12", "decode.min_tokens=12").decode
    plain = new_tokens(model, prefix, None, decode)
    model.use_checkpointing(True)
    assert torch.equal(new_tokens(model.eval(), prefix, None, decode), plain)
    model.hidden(prefix.requires_grad_(), None).sum().backward()
    assert torch.equal(new_tokens(model, prefix.detach(), None, decode), plain)
    assert not any(module.training for module in model.modules())


def test_the_prompt_starts_with_bos_and_has_both_sides(settings: Any) -> None:
    model = settings.build(CPU, torch.float32)
    tokenizer, prompt = model.tokenizer, model.prompt
    assert tokenizer.bos_token_id is None or prompt.before[0] == tokenizer.bos_token_id
    assert list(prompt.before).count(tokenizer.bos_token_id) <= 1
    written = tokenizer.decode(prompt.after, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert written.strip() == settings.prompt.after.strip()
    assert tokenizer.bos_token_id not in prompt.after
    assert model.eos is not None
    assert model.pad is not None


def test_a_chat_prompt_needs_a_template_and_has_one_bos(settings: Any) -> None:
    tokenizer = settings.build(CPU, torch.float32).tokenizer
    chat = dataclasses.replace(settings.prompt, style=Style.chat)
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        prompt_ids(tokenizer, chat)
    bos = tokenizer.bos_token or ""
    turn = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    for template in (bos + turn, turn):
        tokenizer.chat_template = template + "{% if add_generation_prompt %}[assistant]{% endif %}"
        ids = prompt_ids(tokenizer, chat)
        assert list(ids.before).count(tokenizer.bos_token_id) == (tokenizer.bos_token_id is not None)
        assert tokenizer.decode(ids.after).replace(" ", "").endswith("[assistant]")
