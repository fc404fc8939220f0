"""demo_inference.ipynb: made from its script, executed, with outputs that tell nothing of the machine that made them."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "demo_inference.ipynb"
SCRIPT = ROOT / "demo_inference.py"
PROMPTS = (
    "Кояшлы көндә Казан урамнары турында сөйләп бир.",
    "Татар язучысы Габдулла Тукай турында нәрсә беләсең?",
    "Татарларның милли ашлары нинди?",
    "Казан турында берничә җөмлә яз.",
)
LARGEST = 700_000
pytestmark = pytest.mark.skipif(not NOTEBOOK.is_file(), reason="not a checkout")


def cells(path: Path = NOTEBOOK) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def shown(cell: dict[str, Any]) -> str:
    """All that a cell put out, but for pictures, as one text."""
    texts = []
    for output in cell.get("outputs", []):
        data = {kind: text for kind, text in output.get("data", {}).items() if not kind.startswith("image/")}
        texts += ["".join(part) for part in (output.get("text", ""), *data.values())]
    return "\n".join(texts)


def test_the_script_and_the_notebook_have_the_same_cells() -> None:
    jupytext = pytest.importorskip("jupytext")
    told = [(cell.cell_type, cell.source) for cell in jupytext.read(SCRIPT).cells]
    made = [(cell["cell_type"], "".join(cell["source"])) for cell in cells()]
    assert made == told, "run scripts/notebook.py"


def test_it_was_executed_from_top_to_bottom() -> None:
    code = [cell for cell in cells() if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        quiet = "quiet" in cell["metadata"].get("tags", [])
        assert bool(cell["outputs"]) != quiet, "".join(cell["source"])[:200]
        assert all(output["output_type"] != "error" and output.get("name") != "stderr" for output in cell["outputs"])
        assert not {"execution", "collapsed", "ExecuteTime"} & cell["metadata"].keys()


def test_its_outputs_are_short_and_name_no_place() -> None:
    assert NOTEBOOK.stat().st_size < LARGEST
    for cell in cells():
        text = shown(cell)
        assert not re.search(r"(?<![\w./])/[A-Za-z]\w*|\b[A-Za-z]:\\|\.venv|site-packages|0x[0-9a-f]{6}|\x1b|\r", text), text
        assert text.count("\n") < 250


def test_its_parts_are_there() -> None:
    code = "\n".join("".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code")
    assert all(prompt in code for prompt in PROMPTS)
    for verb in ("prepare", "tokenizer", "train", "evaluate", "export"):
        assert f'verb("{verb}"' in code, verb
    pictures = sum("image/png" in output.get("data", {}) for cell in cells() for output in cell.get("outputs", []))
    assert pictures >= 3
    everything = "\n".join(map(shown, cells()))
    for told in ("bigram", "characters per token", "minimal pairs of Tatar grammar", "transformers:"):
        assert told in everything, told


def test_its_links_lead_somewhere() -> None:
    for cell in cells():
        if cell["cell_type"] == "markdown":
            for target in re.findall(r"\]\(([^)]+)\)", "".join(cell["source"])):
                assert "://" in target or (ROOT / target).is_file(), target


def first_cell(folder: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the first cell where tatar-llm is not installed."""
    code = next("".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code")
    hidden = "import importlib.util\nfind = importlib.util.find_spec\nimportlib.util.find_spec = lambda name: None if name == 'tatar_llm' else find(name)\n"
    return subprocess.run([sys.executable, "-c", hidden + before + code], cwd=folder, capture_output=True, encoding="utf-8", timeout=60)


def test_the_first_cell_installs_on_colab_alone(tmp_path: Path) -> None:
    done = first_cell(tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("tatar-llm is not installed in the environment")
    done = first_cell(tmp_path, "import sys\nsys.modules['google.colab'] = sys\n")
    assert done.returncode == 1 and done.stderr.startswith("write the address of the repository")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path: Path) -> None:
    for name in ("jupytext", "nbclient", "ipykernel"):
        pytest.importorskip(name)
    command = [sys.executable, str(ROOT / "scripts" / "notebook.py"), "--minutes", "0.3", "--out", str(tmp_path / "made.ipynb")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=1200)
    assert done.returncode == 0, done.stderr
    code = [cell for cell in cells(tmp_path / "made.ipynb") if cell["cell_type"] == "code"]
    assert all(cell["outputs"] or "quiet" in cell["metadata"].get("tags", []) for cell in code)
    same = importlib.util.find_spec("transformers") is not None
    lines = dict(line.split(":", 1) for line in shown(code[-1]).splitlines() if line.startswith(("transformers:", "tatar-llm: ")))
    assert not same or lines["transformers"].strip() == lines["tatar-llm"].strip()
