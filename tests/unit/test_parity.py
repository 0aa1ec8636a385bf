"""The paper's model, written once more in plain PyTorch from its description, and ours held against it."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from r2g import parity
from r2g.data import cut
from r2g.published import Unfit

BEFORE = "Human: <Img>"
AFTER = (
    "</Img> Generate a comprehensive and detailed diagnosis report for this chest xray image. \nAssistant:"
)
REPORTS = (
    "the heart is normal in size . no pleural effusion .",
    "clear .",
    "lungs are clear , no pleural effusion seen . the heart is large . small left effusion . right lung clear .",
    "no change of the <unk> heart .",
)
LONGEST = 16  # tokens: cuts the third report before its </s>
LINES = (*REPORTS, BEFORE, AFTER, "Human: Assistant: a left small effusion .")
Oracle, Make = dict[str, Any], Callable[..., Any]


@pytest.fixture(scope="session")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SentencePiece file of Llama-2's kind: BPE, bytes for what it doesn't know, blanks kept."""
    prefix = tmp_path_factory.mktemp("pieces") / "tokenizer"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 20), model_prefix=str(prefix), model_type="bpe", vocab_size=420,
        byte_fallback=True, remove_extra_whitespaces=False, normalization_rule_name="identity",
        character_coverage=1.0, minloglevel=2,
    )  # fmt: skip
    return prefix.with_suffix(".model")


@pytest.fixture(scope="session")
def models(pieces: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[Path, Path]]:
    """A Swin and a Llama directory of random weights, another pair for each seed; the width follows the seed, too."""
    from transformers import LlamaConfig, LlamaForCausalLM, SwinConfig, SwinModel

    made: dict[int, tuple[Path, Path]] = {}

    def make(seed: int) -> tuple[Path, Path]:
        if seed in made:
            return made[seed]
        folder = tmp_path_factory.mktemp(f"models{seed}")
        wide = 8 * (1 + seed % 3)
        eyes = SwinConfig(
            image_size=32, patch_size=2, embed_dim=wide, depths=[2, 2], num_heads=[2, 4], window_size=4,
            drop_path_rate=0.2,
        )  # fmt: skip
        mouth = LlamaConfig(
            vocab_size=420, hidden_size=4 * wide, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.2,
        )  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            SwinModel(eyes).save_pretrained(folder / "swin")
            network: Any = LlamaForCausalLM(mouth)
            with torch.no_grad():
                network.lm_head.weight[2] *= 1 + seed  # with a louder </s>, some reports end before others
            network.save_pretrained(folder / "llama")
        (folder / "llama" / "tokenizer.model").write_bytes(pieces.read_bytes())
        made[seed] = folder / "swin", folder / "llama"
        return made[seed]

    return make


class Paper(nn.Module):
    """The description, line by line. LoRA is a hook on the linear layers; nothing of r2g or peft is used."""

    def __init__(self, swin: Path, llama: Path, mode: str, rank: int, seed: int) -> None:
        from transformers import LlamaForCausalLM, SwinModel

        super().__init__()
        self.swin: Any = SwinModel.from_pretrained(swin).eval().requires_grad_(mode == "deep")
        self.llama: Any = LlamaForCausalLM.from_pretrained(llama, dtype=torch.float32)
        self.llama.eval().requires_grad_(False)
        self.words = sentencepiece.SentencePieceProcessor(model_file=str(llama / "tokenizer.model"))
        numbers = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> nn.Parameter:
            return nn.Parameter(0.3 * torch.randn(*shape, generator=numbers))

        wide, deep = self.llama.config.hidden_size, self.swin.config.hidden_size
        self.learns = {"llama_proj.weight": random(wide, deep), "llama_proj.bias": random(wide)}
        self.learns |= {"layer_norm.weight": random(wide), "layer_norm.bias": random(wide)}
        if mode == "deep":
            self.learns |= {f"visual_encoder.{n}": p for n, p in self.swin.named_parameters()}
        for name, linear in self.swin.named_modules() if mode == "delta" else ():
            if name.endswith((".q_proj", ".v_proj")):
                pair = random(rank, linear.in_features), random(linear.out_features, rank)
                linear.register_forward_hook(
                    lambda _, given, out, a=pair[0], b=pair[1]: out + given[0] @ a.T @ b.T * (16 / rank)
                )
                for letter, matrix in zip("AB", pair, strict=True):
                    key = f"visual_encoder.base_model.model.{name}.lora_{letter}.default.weight"
                    self.learns[key] = matrix

    def ids(self, text: str) -> list[int]:
        """SentencePiece's own; `<unk>` in a text is id 0, and the blank behind it that of the next word."""
        first, *rest = text.split("<unk>")
        ids = self.words.encode(first)
        for part in rest:
            ids += [0, *self.words.encode(part.removeprefix(" "))]
        return ids

    def prompt(self, views: list[Tensor]) -> Tensor:
        patches = torch.stack([self.swin(view).last_hidden_state for view in views]).mean(0)
        tokens = patches @ self.learns["llama_proj.weight"].T + self.learns["llama_proj.bias"]
        tokens = nn.functional.layer_norm(
            tokens, tokens.shape[-1:], self.learns["layer_norm.weight"], self.learns["layer_norm.bias"]
        )
        table = self.llama.model.embed_tokens.weight
        sides = [
            table[torch.tensor(ids)].expand(len(tokens), -1, -1)
            for ids in ([1], self.ids(BEFORE), self.ids(AFTER))
        ]
        return torch.cat([sides[0], sides[1], tokens, sides[2]], dim=1)

    def loss(self, views: list[Tensor], reports: tuple[str, ...]) -> Tensor:
        """Padded to the maximum; logits everywhere; the mean over what is neither prompt nor id 0."""
        rows = [([*self.ids(text), 2][:LONGEST] + [0] * LONGEST)[:LONGEST] for text in reports]
        filled = [min(len(self.ids(text)) + 1, LONGEST) for text in reports]
        prompt, targets = self.prompt(views), torch.tensor(rows)
        inputs = torch.cat([prompt, self.llama.model.embed_tokens.weight[targets]], dim=1)
        mask = torch.ones(inputs.shape[:2], dtype=torch.long)
        for row, count in enumerate(filled):
            mask[row, prompt.shape[1] + count :] = 0
        logits = self.llama(inputs_embeds=inputs, attention_mask=mask).logits[:, prompt.shape[1] - 1 : -1]
        nats = torch.logsumexp(logits, -1) - logits.gather(-1, targets[..., None])[..., 0]
        return nats[targets != 0].mean()

    @torch.no_grad()
    def write(self, views: list[Tensor], least: int, most: int) -> Tensor:
        return self.llama.generate(
            inputs_embeds=self.prompt(views), num_beams=3, do_sample=False, min_new_tokens=least, max_new_tokens=most,
            repetition_penalty=2.0, length_penalty=2.0, eos_token_id=2, pad_token_id=0,
        )  # fmt: skip


def _ended(ids: Tensor) -> list[list[int]]:
    rows = [row.tolist() for row in ids]
    return [row[: row.index(2) + 1] if 2 in row else row for row in rows]


QUICK = [("shallow", 2, 0), ("delta", 2, 1), ("deep", 2, 2), ("delta", 1, 2)]
CASES = list(product(("shallow", "delta", "deep"), (1, 2), (0, 1, 2)))


@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty` with `inputs_embeds`:UserWarning")
@pytest.mark.parametrize(
    ("mode", "views", "seed"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES],
)
def test_loss_gradients_and_tokens_are_the_papers(models: Make, mode: str, views: int, seed: int) -> None:
    swin, llama = models(seed)
    paper = Paper(swin, llama, mode, rank=4 + 4 * seed, seed=seed + 10)
    numbers = torch.Generator().manual_seed(seed)
    images = [torch.randn(len(REPORTS), 3, 32, 32, generator=numbers) for _ in range(views)]
    expected = paper.loss(images, REPORTS)
    expected.backward()
    expected = expected.detach()
    model = parity.build(swin, llama, {n: p.detach() for n, p in paper.learns.items()}, mode)
    studies = parity.batch(model, images, REPORTS, LONGEST)
    found = parity.run(model, studies, min_tokens=8, max_tokens=30)
    assert float(abs(found.loss - expected)) < 1e-5
    used = {n: p.grad for n, p in paper.learns.items() if p.grad is not None}
    assert set(found.gradients) == set(used)
    apart = {n: float((found.gradients[n] - g).abs().max()) for n, g in used.items()}
    print(
        f"{mode}, {views} view(s): loss {abs(found.loss - expected):.1e}, gradients {max(apart.values()):.1e}"
    )
    assert max(apart.values()) < 1e-4, apart
    assert _ended(found.ids) == _ended(paper.write(images, 8, 30))
    if seed == 2:
        assert any(row[-1] == 2 for row in _ended(found.ids))


def test_the_tokenizer_is_sentencepiece(models: Make, small: Make) -> None:
    """Also in a run, and in a directory that holds nothing but the SentencePiece file."""
    _, llama = models(0)
    llm = small(f"llm.source={llama}").llm.build(torch.device("cpu"), torch.float32)
    words = sentencepiece.SentencePieceProcessor(model_file=str(llama / "tokenizer.model"))
    for text in (BEFORE, AFTER, *REPORTS[:3], "new\nline .", "ünknown ☃ letters"):
        assert llm.tokenizer(text, add_special_tokens=False)["input_ids"] == words.encode(text), text
    assert words.encode(AFTER)[0] == words.piece_to_id("▁</")  # apart, it starts like a word
    assert cut(["clear .", ""], llm.tokenizer, 60) == [[*words.encode("clear ."), 2], [2]]
    assert 2 not in cut([REPORTS[2]], llm.tokenizer, LONGEST)[0]
    assert (llm.eos, llm.pad, llm.tokenizer.bos_token_id) == (2, 0, 1)


def test_a_directory_that_names_its_tokenizer_is_believed(llama: Path, small: Make) -> None:
    tokenizer = small(f"llm.source={llama}").llm.build(torch.device("cpu"), torch.float32).tokenizer
    assert type(tokenizer).__name__ != "LlamaTokenizer"
    assert tokenizer.decode(tokenizer("a heart")["input_ids"]) == "a heart"


def test_bytes_and_normalized_films_are_the_same(models: Make) -> None:
    swin, llama = models(0)
    paper = Paper(swin, llama, "shallow", rank=4, seed=0)
    model = parity.build(swin, llama, {n: p.detach() for n, p in paper.learns.items()}, "shallow")
    films = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    normal = (films.float() / 255 - model.mean) / model.std
    losses = [model(parity.batch(model, [f], REPORTS[:2], LONGEST)) for f in (films, normal)]
    torch.testing.assert_close(losses[0], losses[1])


def test_weights_come_from_files_too_and_must_fit(models: Make, tmp_path: Path) -> None:
    swin, llama = models(0)
    weights = {n: p.detach() for n, p in Paper(swin, llama, "delta", rank=4, seed=0).learns.items()}
    save_file(weights, tmp_path / "all.safetensors")
    torch.save({"model": weights, "config": {}, "epoch": 0, "step": 1}, tmp_path / "all.pth")
    for file in ("all.safetensors", "all.pth"):
        model = parity.build(swin, llama, tmp_path / file, "delta")
        torch.testing.assert_close(model.projector.body.weight.detach(), weights["llama_proj.weight"])
    wrong = [
        ({k: v for k, v in weights.items() if "lora_B" not in k}, "no tensor for encoder.*lora_B"),
        ({k: v[:1] for k, v in weights.items()}, "is \\(1, .*, the model's is"),
        ({**weights, "llama_model.lm_head.weight": torch.ones(1)}, "neither to the projector nor"),
    ]
    for given, message in wrong:
        with pytest.raises(Unfit, match=message):
            parity.build(swin, llama, given, "delta")
    with pytest.raises(Unfit, match="doesn't learn in this mode"):
        parity.build(swin, llama, weights, "shallow")


def test_the_readmes_snippet_runs(
    pieces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, SwinConfig, SwinModel

    readme = Path(__file__).parents[2] / "README.md"
    blocks = [part.split("```")[0] for part in readme.read_text().split("```python\n")[1:]]
    (snippet,) = [block for block in blocks if "parity.build" in block]
    assert len([line for line in snippet.splitlines() if line]) <= 10
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        eyes = SwinConfig(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2])
        SwinModel(eyes).save_pretrained("swin")
        mouth = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
        LlamaForCausalLM(LlamaConfig(vocab_size=420, **mouth)).save_pretrained("llama")
        Path("llama/tokenizer.model").write_bytes(pieces.read_bytes())
        names = {"llama_proj.weight": (16, 64), "llama_proj.bias": (16,), "layer_norm.weight": (16,)}
        save_file(
            {n: torch.randn(s) for n, s in {**names, "layer_norm.bias": (16,)}.items()},
            "projector.safetensors",
        )
        exec(compile(snippet, str(readme), "exec"), space := {})
    assert "tensor(" in capsys.readouterr().out
    assert set(space["found"].gradients) == set(space["weights"])
    assert space["found"].ids.shape[0] == 2
    assert 40 <= space["found"].ids.shape[1] <= 100
