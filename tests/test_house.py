"""The shape of the package: who imports whom, what an import costs, what lies where, which flags there are."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tatar_llm
from tatar_llm.cli import build_parser
from tatar_llm.config import load_recipe, recipe_names

PACKAGE = Path(tatar_llm.__file__).parent
ROOT = PACKAGE.parents[1]
ROOMS = ("grammar", "corpus", "tokenizer", "model", "training", "generation", "chat", "evaluation", "export", "serving")
BASE = {"config", "workspace", "device", "console", "errors", "waiting", "languages"}
TOP = {"__init__", "__main__", "cli", "commands", "doctor", "pipeline"}
DOORS = ("01_prepare_data.py", "02_train_tokenizer.py", "03_train.py", "quick_test.py", "app.py", "model.py", "utils.py")
FILES = sorted(PACKAGE.rglob("*.py"))
in_checkout = pytest.mark.skipif(not (ROOT / "03_train.py").is_file(), reason="not a checkout")


def part_of(path: Path) -> str:
    """The room, or the module, that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_parts(source: str) -> set[str]:
    """Rooms and modules of the package that a source file imports, anywhere in it, lazily by name included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and re.fullmatch(r"tatar_llm(\.\w+)+", str(node.value)):
            names.add(str(node.value))
    parts = {name.split(".")[1] for name in names if name.startswith("tatar_llm.")}
    return parts & (set(ROOMS) | BASE | TOP)


def test_the_reader_of_imports_sees_every_kind() -> None:
    source = (
        "import tatar_llm.export.hf\nfrom tatar_llm import pipeline\n"
        "def f():\n    from tatar_llm.training.runs import Run\nW = {'x': 'tatar_llm.model'}\n"
    )
    assert imported_parts(source) == {"export", "pipeline", "training", "model"}


def test_every_part_has_its_place() -> None:
    known = {*ROOMS, *BASE, *TOP}
    assert {part_of(path) for path in FILES} <= known, "a new room: give it its place here and in docs/architecture.md"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_who_imports_whom(path: Path) -> None:
    own = part_of(path)
    found = imported_parts(path.read_text(encoding="utf-8")) - {own}
    if own in TOP:
        return
    if own in BASE or own == "model":
        allowed = BASE
    else:
        allowed = BASE | set(ROOMS[: ROOMS.index(own)])
    assert found <= allowed, f"{own} must not import {', '.join(sorted(found - allowed))}"


def test_the_base_knows_no_room() -> None:
    for path in FILES:
        if part_of(path) in BASE:
            assert not imported_parts(path.read_text(encoding="utf-8")) & set(ROOMS)


def module_name(path: Path) -> str:
    parts = list(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_every_module_imports_and_says_what_it_is(path: Path) -> None:
    module = importlib.import_module(module_name(path))
    assert module.__doc__, f"{path.name} has no docstring"


@pytest.mark.parametrize(
    "code",
    [
        "import tatar_llm",
        "import tatar_llm.cli",
        "import runpy, sys\nsys.argv = ['tatar-llm', '--help']\n"
        "try:\n    runpy.run_module('tatar_llm', run_name='__main__')\nexcept SystemExit as end:\n    assert not end.code",
    ],
    ids=["package", "cli", "help"],
)
def test_light_imports(code: str) -> None:
    probe = (
        f"{code}\nimport sys\n"
        "heavy = {'torch', 'numpy', 'rich', 'matplotlib', 'tokenizers', 'transformers'} & set(sys.modules)\n"
        "print('heavy:', *sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "heavy:"


def test_speaking_does_not_load_the_compiler() -> None:
    """torch's compiler takes as long to load as torch itself."""
    probe = (
        "import sys, torch\nfrom tatar_llm.config import GPTConfig\nfrom tatar_llm.generation import generate_text\nfrom tatar_llm.model import GPT\n"
        "import tatar_llm.training, tatar_llm.chat\n"
        "GPT(GPTConfig(n_layer=1, n_head=2, n_embd=16, vocab_size=300, block_size=8)).eval()(torch.zeros(1, 8, dtype=torch.int64), "
        "torch.zeros(1, 8, dtype=torch.int64), return_logits=False)\n"
        "print('compiler:', 'torch._dynamo' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, encoding="utf-8", timeout=60)
    assert done.stderr.strip().endswith("compiler: False"), done.stderr


def test_no_drawer_for_odds_and_ends() -> None:
    for path in FILES:
        assert path.stem not in {"utils", "helpers", "misc", "common", "util", "helper"}, path


@in_checkout
def test_root_doors_hold_no_logic() -> None:
    for name in DOORS:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        assert 1 < len(lines) < 30, name


def test_every_recipe_loads() -> None:
    assert set(recipe_names()) >= {"tiny", "small", "base", "large", "moe", "seed"}
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert recipe.model.vocab_size == 8192  # the tokenizer decides when a run starts
        assert recipe.train.max_iters * recipe.train.batch_size > 0


TRAIN_FLAGS = [
    "--workspace", "--json", "--minutes", "--resume", "--recipe", "--n_layer", "--n_head", "--n_kv_head",
    "--n_embd", "--ffn_hidden", "--block_size", "--vocab_size", "--dropout", "--tie_weights", "--rope_theta",
    "--norm_eps", "--sliding_window", "--window_pattern", "--n_expert", "--experts_per_token", "--expert_hidden", "--batch_size", "--gradient_accumulation_steps", "--max_iters", "--optimizer",
    "--learning_rate", "--muon_rate", "--min_lr", "--schedule", "--warmup_iters", "--weight_decay", "--beta1",
    "--beta2", "--balance_loss", "--router_z_loss", "--grad_clip", "--gradient_checkpointing", "--eval_interval", "--checkpoint_interval",
    "--keep_checkpoints", "--cooldown", "--ema", "--z_loss", "--tensorboard", "--nproc", "--log_interval", "--patience", "--precision", "--compile", "--device", "--seed",
    "--name",
]  # fmt: skip

PREPARE_FLAGS = [
    "--workspace", "--json", "--source", "--language", "--min_chars", "--max_chars", "--min_cyrillic",
    "--val_share", "--limit_bytes", "--sample_size", "--force", "--list", "--explain", "--near_threshold", "--holdout", "--processes",
]  # fmt: skip


@pytest.mark.parametrize(("verb", "frozen"), [("train", TRAIN_FLAGS), ("prepare", PREPARE_FLAGS)])
def test_flags_are_frozen(verb: str, frozen: list[str]) -> None:
    """A renamed flag breaks somebody's script: change this list only knowingly, and say so in CHANGELOG.md."""
    parser = build_parser()
    verbs = next(action for action in parser._actions if action.dest == "verb").choices
    assert sorted(verbs[verb].options()) == sorted(["--help", *frozen])


def test_verbs_are_frozen() -> None:
    verbs = next(action for action in build_parser()._actions if action.dest == "verb").choices
    assert list(verbs) == ["run", "prepare", "tokenizer", "train", "finetune", "chat", "runs", "evaluate", "generate", "suggest", "export", "publish", "serve", "doctor"]
