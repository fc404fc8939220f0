"""Make demo_inference.ipynb out of demo_inference.py and run it from top to bottom: python scripts/notebook.py

Needs: pip install "tatar-llm[notebook,hf]". It runs in an empty temporary folder, so that its outputs tell of nothing that lies about here.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", default="4", help="of training")
    parser.add_argument("--out", default=str(ROOT / "demo_inference.ipynb"))
    args = parser.parse_args()
    notebook = jupytext.read(ROOT / "demo_inference.py")
    os.environ["TATAR_LLM_NOTEBOOK_MINUTES"] = args.minutes
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        client = NotebookClient(notebook, timeout=None, kernel_name="python3", record_timing=False, coalesce_streams=True,
                                resources={"metadata": {"path": folder}})  # fmt: skip
        client.execute()
    # Nothing that differs from one run to the next without a reason.
    notebook.metadata["language_info"] = {"name": "python"}
    for number, cell in enumerate(notebook.cells, 1):
        cell["id"] = f"cell-{number:02d}"
    nbformat.write(notebook, args.out)


if __name__ == "__main__":
    main()
