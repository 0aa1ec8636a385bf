"""What all tests share: no network, one thread, and small models made on the spot."""

import os

os.environ |= {  # before anything reads them: transformers and wandb look once, at import
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "offline",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
}

import contextlib
import importlib
import importlib.util
import io
import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from r2g.config.cli import lenient
from r2g.config.paths import config_dir
from r2g.config.resolve import resolve
from r2g.config.schema import RunConfig

torch.set_num_threads(1)

TEXT = "the heart is normal in size . lungs are clear , no pleural effusion seen : left right small large"


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama directory of a few thousand random weights, with a byte-level tokenizer of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("llama")
    fast = Tokenizer(models.BPE(unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator([TEXT] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=fast, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.save_pretrained(folder)
    settings = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.3,  # so that random words differ clearly and ties don't decide a test
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(settings).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def swin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Swin directory of random weights: films of 32 px, 4 patches of 32."""
    from transformers import SwinConfig, SwinModel

    folder = tmp_path_factory.mktemp("swin")
    settings = SwinConfig(
        image_size=32,
        patch_size=4,
        embed_dim=8,
        depths=[1, 1, 1],
        num_heads=[1, 2, 4],
        window_size=2,
        drop_path_rate=0.1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        SwinModel(settings, add_pooling_layer=False).save_pretrained(folder)
    return folder


@contextlib.contextmanager
def unmeasured() -> Iterator[None]:
    """Without coverage, whose tracer makes Python two to three times as slow in every library, not in src alone.

    For calls from a test into what is mostly others' code, and whose lines of src other tests reach.
    """
    tracer, of_threads = sys.gettrace(), threading.gettrace()
    # not Coverage.stop(): a worker of xdist has two of them, and the end of one wakes the other
    sys.settrace(None)
    threading.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
        threading.settrace(of_threads)


@pytest.fixture
def untraced() -> Iterator[None]:
    """A test that is mostly such calls."""
    with unmeasured():
        yield


@pytest.fixture(scope="session")
def composed() -> Callable[..., DictConfig]:
    """Compose conf/config.yaml with overrides, as the command line does it."""
    groups = [path.name for path in Path(config_dir()).iterdir() if path.is_dir()]

    def build(*overrides: str, search: Path | None = None) -> DictConfig:
        more = [] if search is None else [f"hydra.searchpath=[file://{search}]"]
        words = more + lenient(overrides, groups)
        with unmeasured(), initialize_config_dir(config_dir(), version_base="1.3"):
            return compose("config", overrides=words)

    return build


@pytest.fixture(scope="session")
def configured(composed: Callable[..., DictConfig]) -> Callable[..., RunConfig]:
    """The same, resolved."""
    return lambda *overrides, **keywords: resolve(composed(*overrides, **keywords))


@contextlib.contextmanager
def _put_back() -> Iterator[None]:
    """What a command leaves behind in its process: handlers of logs and of signals, and accelerate's launch."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stops = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    states = AcceleratorState, GradientState, PartialState
    for state in states:
        state._reset_state()
    root.handlers.clear()  # so that the command sets up its own, as in a process of its own
    try:
        yield
    finally:
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        for number, stop in stops.items():
            signal.signal(number, stop)
        for state in states:
            state._reset_state()


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`python -m MODULE WORDS`, in this process: importing torch anew takes longer than most commands.

    What an exception would do to a process it does to the test. A process of its own is for what is about processes.
    """

    def call(
        module: str, *words: object, folder: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        main, said, told = importlib.import_module(module).main, io.StringIO(), io.StringIO()
        with unmeasured(), pytest.MonkeyPatch.context() as patch, _put_back():
            patch.setattr(sys, "argv", [module, *map(str, words)])
            patch.setattr(
                "hydra._internal.utils.is_under_debugger", lambda: False
            )  # it takes coverage for one
            for name, value in environment.items():
                patch.setenv(name, value)
            if folder is not None:
                patch.chdir(folder)
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
                try:
                    code = main() or 0
                except SystemExit as end:
                    code = _status(end)
        return subprocess.CompletedProcess([module, *map(str, words)], code, said.getvalue(), told.getvalue())

    return call


def _status(end: SystemExit) -> int:
    """What Python makes of sys.exit: a number is the status, anything else is said."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1


@pytest.fixture(scope="session")
def small(configured: Callable[..., RunConfig], swin: Path, llama: Path) -> Callable[..., RunConfig]:
    """A config of the small Swin and Llama in fp32; further overrides win."""
    base = ["encoder=transformers", "llm=causal_lm", f"encoder.source={swin}", f"llm.source={llama}"]
    base += ["train.precision=fp32", "track=none", "projector.pool=null"]

    return lambda *overrides: configured(*base, *overrides)


@pytest.fixture(scope="session")
def made_up() -> Any:
    """benchmarks/compare.py, which writes records of runs that nobody ran."""
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "compare.py"
    spec = importlib.util.spec_from_file_location("made_up", path)
    if spec is None or spec.loader is None:
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules["made_up"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def studies() -> Callable[..., Any]:
    """A batch of random studies for a model: `views` says how many films each has, `lengths` how many tokens."""
    from r2g.model import Batch

    def build(model: Any, views: tuple[int, ...], lengths: tuple[int, ...], seed: int = 0) -> Batch:
        numbers = torch.Generator().manual_seed(seed)
        shape, side = model.encoder.preprocess.channels, model.encoder.preprocess.size
        films = [torch.randint(0, 256, (max(views), shape, side, side), generator=numbers) for _ in views]
        mask = torch.tensor([[i < count for i in range(max(views))] for count in views])
        tokens = torch.full((len(views), max(lengths)), 0)
        counts = torch.zeros_like(tokens, dtype=torch.bool)
        for row, length in enumerate(lengths):
            tokens[row, :length] = torch.randint(3, 300, (length,), generator=numbers)
            counts[row, :length] = True
        return Batch(
            ids=tuple(str(i) for i in range(len(views))),
            images=torch.stack(films).to(torch.uint8) * mask[:, :, None, None, None],
            view_mask=mask,
            films=mask.flatten().nonzero().squeeze(1),
            tokens=tokens,
            targets=counts.flatten().nonzero().squeeze(1),
        )

    return build


class _Wandb(BaseHTTPRequestHandler):
    """What W&B's server answers to a run, an upload, a saved view, a sweep and its agent; keeps what it was asked."""

    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        asked = json.loads(body) if self.path.endswith(("/graphql", "/file_stream")) else {}
        given, query = asked.get("variables", asked) or {}, asked.get("query", "")
        kind = next((name for name in self._ANSWERS if name in query), None)
        self.server.asked.append((kind or self.path, given))  # type: ignore[attr-defined]
        if given.get("name") in self.server.refused:  # type: ignore[attr-defined]
            reply: dict[str, Any] = {"errors": [{"message": "permission denied"}], "data": None}
        else:
            reply = {"data": self._ANSWERS[kind](self, given) if kind else {}}
        content = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST

    def log_message(self, *_: Any) -> None:
        pass

    def _viewer(self, _: Any) -> dict[str, Any]:
        return {
            "viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}
        }

    def _bucket(self, given: Any) -> dict[str, Any]:
        project = {"id": "1", "name": given["project"], "entity": {"id": "1", "name": "me"}}
        bucket = {
            "id": "B",
            "name": given["name"],
            "displayName": "d",
            "historyLineCount": 0,
            "project": project,
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _files(self, given: Any) -> dict[str, Any]:
        here = f"http://127.0.0.1:{self.server.server_address[1]}/file/"
        files = [{"name": name, "uploadUrl": here + name} for name in given["files"]]
        return {"createRunFiles": {"runID": "B", "uploadHeaders": [], "files": files}}

    def _view(self, given: Any) -> dict[str, Any]:
        told = {"id": given.get("id") or f"new-{given['type']}", "createdAt": "2020-01-01T00:00:00"}
        project = {"id": "1", "name": given["projectName"], "entityName": given["entityName"]}
        kept = {name: given[name] for name in ("name", "displayName", "description", "type", "spec")}
        return {"upsertView": {"view": {**kept, **told, "project": project}, "inserted": True}}

    def _project(self, given: Any) -> dict[str, Any]:
        there = given["projectName"] in self.server.projects  # type: ignore[attr-defined]
        return {"project": {"id": "1", "internalId": "42"} if there else None}

    def _projects(self, _: Any) -> dict[str, Any]:
        told = {"id": "1", "entityName": "me", "createdAt": "", "isBenchmark": False, "user": None}
        names = self.server.projects  # type: ignore[attr-defined]
        edges = [{"node": {**told, "name": name}, "cursor": "c"} for name in names]
        return {"models": {"edges": edges, "pageInfo": {"endCursor": "c", "hasNextPage": False}}}

    def _new_sweep(self, given: Any) -> dict[str, Any]:
        self.server.sweep = given["config"]  # type: ignore[attr-defined]
        project = {"id": "1", "name": given["projectName"], "entity": {"id": "1", "name": "me"}}
        sweep = {"name": "sweep1", "project": project}
        return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}

    def _sweep(self, given: Any) -> dict[str, Any]:
        told = {"id": "S", "name": given["sweep"], "config": self.server.sweep, "runs": {"edges": []}}  # type: ignore[attr-defined]
        return {"project": {"sweep": told}}

    def _agent(self, _: Any) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": "A"}}}

    def _heartbeat(self, given: Any) -> dict[str, Any]:
        """The next run of `draws` once none is at work; after the last one, the end."""
        commands: list[dict[str, Any]] = []
        if not json.loads(given["runState"]):
            program, draws = yaml.safe_load(self.server.sweep).get("program"), self.server.draws  # type: ignore[attr-defined]
            if draws:
                number, drawn = len(draws), draws.pop(0)
                args = {key: {"value": value} for key, value in drawn.items()}
                commands = [{"type": "run", "run_id": f"drawn{number}", "program": program, "args": args}]
            else:
                commands = [{"type": "exit"}]
        return {"agentHeartbeat": {"agent": {"id": "A"}, "commands": json.dumps(commands)}}

    _ANSWERS = {
        "UpsertSweep": _new_sweep,
        "SweepWithRuns": _sweep,
        "CreateAgent": _agent,
        "Heartbeat": _heartbeat,
        "UpsertBucket": _bucket,
        "CreateRunFiles": _files,
        "upsertView": _view,
        "ProjectInternalId": _project,
        "GetProjects": _projects,
        "Viewer": _viewer,
    }


@pytest.fixture
def wandb_server(tmp_path: Path) -> Iterator[Any]:
    """A stand-in for W&B's server, with the environment (`env`) of processes that are to take it for the real one."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Wandb)
    server.asked, server.refused, server.projects = [], set(), ["r2g"]
    server.sweep, server.draws = "", []
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    address = f"http://127.0.0.1:{server.server_address[1]}"
    home = tmp_path / "home"
    home.mkdir()
    server.env = {**kept, "WANDB_BASE_URL": address, "WANDB_API_KEY": "a" * 40, "HOME": str(home)}
    server.called_by = partial(_called_by, server)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _called_by(server: Any, module: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a module's command against the stand-in."""
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        env=server.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


class StubSweep:
    """A multirun whose arms are stubs that end in every way, in `folder`; tests of launchers run it."""

    _STUB = Path(__file__).parent / "unit" / "launcher_stub"
    _SOURCE = Path(__file__).resolve().parents[1] / "src"
    _STATUSES = ("finished", "already there", "failed", "killed", "timed out", "stopped", "not started")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._begun: list[subprocess.Popen[str]] = []
        search = f"hydra.searchpath=[file://{Path(config_dir()).resolve()}]"
        self.call = [sys.executable, "-m", "stub_run", "-m", search, "hydra.launcher.module=stub_run"]
        self.call += [
            "hydra.launcher.grace_seconds=20",
            "hydra.sweep.dir='sweep\\'s dir,1'",
            "hydra.run.dir=alone",
        ]

    def env(self, **more: str) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": f"{self._STUB}{os.pathsep}{self._SOURCE}", **more}

    def go(self, *words: str, seconds: float = 120, **env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self.call, *words],
            cwd=self.folder,
            env=self.env(**env),
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def begin(self, *words: str, **env: str) -> "subprocess.Popen[str]":
        """The same, without waiting for its end."""
        pipe = subprocess.PIPE
        return self.started(
            subprocess.Popen(
                [*self.call, *words],
                cwd=self.folder,
                env=self.env(**env),
                stdout=pipe,
                stderr=pipe,
                text=True,
            )
        )

    def started(self, process: "subprocess.Popen[str]") -> "subprocess.Popen[str]":
        """A process that must not outlive the test."""
        self._begun.append(process)
        return process

    def end(self) -> None:
        """Leave no process behind, whatever the test did."""
        for process in self._begun:
            process.kill()
            process.communicate()

    def wait_for(self, name: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not (self.folder / name).exists():
            assert time.monotonic() < deadline, f"{name} never came"
            time.sleep(0.05)

    def rows(self, stdout: str) -> dict[str, tuple[str, str]]:
        """Status and the rest of the line of each arm, by its title."""
        lines = stdout[stdout.index("-  -") :].splitlines()[1:]
        found = [line.split(maxsplit=2) for line in lines if line.strip()]
        return {
            title: (next(s for s in self._STATUSES if rest.startswith(s)), rest) for _, title, rest in found
        }


@pytest.fixture
def stubs(tmp_path: Path) -> Iterator[StubSweep]:
    sweep = StubSweep(tmp_path)
    yield sweep
    sweep.end()
