"""What every family of causal_lm must do, asked of small networks of transformers' own, with random weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from r2g.config.schema import RunConfig
from r2g.core.causal import ROLES
from r2g.llms.base import LanguageModel
from r2g.model import generation, new_tokens

_VOCABULARY, _LAYERS, _WINDOW = 64, 3, 8
_SHAPE = {
    "vocab_size": _VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
# Settings that make a family differ from a Llama.
_SLIDES = {"sliding_window": _WINDOW}
_OWN: dict[str, dict[str, Any]] = {
    "gemma2": {"final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8, **_SLIDES},
    "granite": {"logits_scaling": 5.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.7},
    "mistral": _SLIDES,
    "phi3": _SLIDES,
    "qwen2": {**_SLIDES, "use_sliding_window": True, "max_window_layers": 1},
    "qwen3": {**_SLIDES, "use_sliding_window": True, "max_window_layers": 1},
}


class _Words:
    pad_token_id, unk_token_id, eos_token_id, bos_token_id = 0, 0, 2, 1


@pytest.fixture(params=sorted(ROLES))
def family(request: pytest.FixtureRequest) -> LanguageModel:
    """Three layers; logits far from 0, so that a cap or a factor on them shows."""
    config = AutoConfig.for_model(request.param, **_SHAPE, **_OWN.get(request.param, {}))
    torch.manual_seed(0)
    network: Any = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            scale = parameter.ndim == 1 and name.endswith("weight")  # of a normalization
            nn.init.normal_(parameter, 1.0 if scale else 0.0, 0.3)
    return LanguageModel(network, _Words(), None)


def _prefix(model: LanguageModel) -> torch.Tensor:
    """Longer than the window."""
    ids = torch.randint(3, _VOCABULARY, (2, _WINDOW + 5), generator=torch.Generator().manual_seed(1))
    return model.embed(ids)


@torch.no_grad()
def test_its_logits_are_the_network_s_own(family: LanguageModel) -> None:
    prefix = _prefix(family)
    found = family.logits(family.hidden(prefix, None))
    torch.testing.assert_close(found, family.network(inputs_embeds=prefix).logits)
    assert found.std() > 0.1


@pytest.mark.parametrize("beams", [1, 3])
def test_it_writes_what_the_network_alone_would(
    family: LanguageModel, configured: Callable[..., RunConfig], beams: int
) -> None:
    """The prompt computed before, its keys and values repeated for beams and grown in place, also beyond a window."""
    words = (f"decode.beams={beams}", "decode.max_tokens=14", "decode.min_tokens=14")
    decode = configured(*words).decode
    prefix = _prefix(family)
    with torch.no_grad():
        theirs = family.network.generate(inputs_embeds=prefix, **generation(decode, family))
    assert torch.equal(new_tokens(family, prefix, None, decode), theirs)
    assert len(theirs.unique()) > 3


def test_a_row_is_written_the_same_beside_longer_ones(
    family: LanguageModel, configured: Callable[..., RunConfig]
) -> None:
    """Positions that a mask leaves out are not seen, wherever they stand; a sliding window counts them: stay in it."""
    decode = configured("decode.max_tokens=3", "decode.min_tokens=3").decode
    prefix = _prefix(family)[:, :3]
    alone = new_tokens(family, prefix[:1], None, decode)
    filled = torch.cat([prefix[:, :1], torch.full_like(prefix[:, :2], 3.0), prefix[:, 1:]], dim=1)
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[0, 1:3] = False
    assert torch.equal(new_tokens(family, filled, mask, decode)[:1], alone)
