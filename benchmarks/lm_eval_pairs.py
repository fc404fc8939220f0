"""The minimal pairs by this package and by lm-eval on the exported folder: same accuracy, and the time of each.

    python benchmarks/lm_eval_pairs.py --workspace DIR [--model NNN]

Needs `pip install lm-eval`. Both use the CPU with the same number of threads; nothing else should run.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from importlib import resources
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workspace", default=".")
    parser.add_argument("--model", default="")
    parser.add_argument("--batch_size", default="64", help="lm-eval's")
    args = parser.parse_args()
    import torch

    from tatar_llm.evaluation.pairs import minimal_pairs, read_pairs
    from tatar_llm.evaluation.suite import read_subject
    from tatar_llm.export import export_hf
    from tatar_llm.training import find_model
    from tatar_llm.workspace import Workspace

    workspace = Workspace(args.workspace)
    place = find_model(workspace, args.model)
    subject = read_subject(workspace, place)
    minimal_pairs(*subject.all, read_pairs()[:16])  # warm
    began = time.perf_counter()
    ours = minimal_pairs(*subject.all)
    our_seconds = time.perf_counter() - began
    data = Path(str(resources.files("tatar_llm.evaluation").joinpath("data")))
    with tempfile.TemporaryDirectory() as folder:
        exported = export_hf(workspace, place, str(Path(folder) / "hf"))
        task = (data / "tatar_pairs.yaml").read_text(encoding="utf-8").replace("pairs.jsonl", str(data / "pairs.jsonl"))
        (Path(folder) / "tatar_pairs.yaml").write_text(task, encoding="utf-8")
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        model = HFLM(pretrained=str(exported), device="cpu", dtype="float32", batch_size=args.batch_size)
        manager = TaskManager(include_path=folder, include_defaults=False)
        began = time.perf_counter()
        theirs = lm_eval.simple_evaluate(model, tasks=["tatar_pairs"], task_manager=manager, bootstrap_iters=0)
        their_seconds = time.perf_counter() - began
    accuracy = theirs["results"]["tatar_pairs"]["acc,none"]
    print(f"model {place.name}, {subject.config.parameters() / 1e6:.1f} M parameters, {torch.get_num_threads()} threads, {ours.n:,} pairs\n")
    print("| | accuracy | seconds | |\n|---|---:|---:|---:|")
    print(f"| tatar-llm | {ours.value:.4f} | {our_seconds:.1f} | {their_seconds / our_seconds:.1f}x |")
    print(f"| lm-eval {lm_eval.__version__} | {accuracy:.4f} | {their_seconds:.1f} | 1.0x |")


if __name__ == "__main__":
    main()
