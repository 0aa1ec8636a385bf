"""Building a causal language model from a transformers config: shared by all llms."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

# Which modules play which role, by the exact model_type of transformers; every decoder here is pre-norm.
_LLAMA_LIKE = {
    "attention_qv": ("*.self_attn.q_proj", "*.self_attn.v_proj"),
    "attention": ("*.self_attn.q_proj", "*.self_attn.k_proj", "*.self_attn.v_proj", "*.self_attn.o_proj"),
    "mlp": ("*.mlp.gate_proj", "*.mlp.up_proj", "*.mlp.down_proj"),
    "blocks": ("network.model.layers.*",),
    "norms": ("*norm",),
}
_PHI3 = {
    "attention_qv": ("*.self_attn.qkv_proj",),  # one fused matrix: q, k and v can't be adapted apart
    "attention": ("*.self_attn.qkv_proj", "*.self_attn.o_proj"),
    "mlp": ("*.mlp.gate_up_proj", "*.mlp.down_proj"),
    "blocks": ("network.model.layers.*",),
    "norms": ("*norm",),
}
_GPT2 = {
    "attention_qv": ("*.attn.c_attn",),
    "attention": ("*.attn.c_attn", "*.attn.c_proj"),
    "mlp": ("*.mlp.c_fc", "*.mlp.c_proj"),
    "blocks": ("network.transformer.h.*",),
    "norms": ("*.ln_*",),
}
ROLES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "gemma": _LLAMA_LIKE,
    "gemma2": _LLAMA_LIKE,
    "gpt2": _GPT2,
    "granite": _LLAMA_LIKE,
    "llama": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "phi3": _PHI3,
    "qwen2": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE,
}


def empty(config: Any) -> Any:
    """The model's shapes on the meta device; nothing is allocated or read."""
    from transformers import AutoModelForCausalLM  # late: seconds of import

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def load_directory(
    source: str | Path, dtype: torch.dtype, device: torch.device, **quantization: Any
) -> tuple[Any, Any]:
    """Network and tokenizer of a local directory or hub id, weights in `dtype` on `device`."""
    from transformers import AutoModelForCausalLM

    network: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **quantization)
    tokenizer = _tokenizer(source, network.config.model_type)
    return (network if quantization else network.to(device=device)), tokenizer


def _tokenizer(source: str | Path, family: str) -> Any:
    """The tokenizer that the source names; a Llama directory that names none holds a LlamaTokenizer.

    Left to guess from a bare SentencePiece file, AutoTokenizer drops the blank in front of a text's first word.
    """
    from transformers import AutoTokenizer, LlamaTokenizer

    folder = Path(source)
    bare = (folder / "tokenizer.model").is_file() and not (folder / "tokenizer.json").is_file()
    named = folder / "tokenizer_config.json"
    if family == "llama" and bare and "tokenizer_class" not in (named.read_text() if named.is_file() else ""):
        return LlamaTokenizer.from_pretrained(source)
    return AutoTokenizer.from_pretrained(source)
