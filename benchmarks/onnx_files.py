"""The ONNX files: size, load time, time a token, bits per byte on held-out text, beside the network in torch.

    python benchmarks/onnx_files.py [--workspace DIR] [--model NNN] [--tokens 10000]

Needs `pip install "tatar-llm[onnx]"`. The same windows of the workspace's held-out text for all; nothing else should run.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workspace", default=".")
    parser.add_argument("--model", default="")
    parser.add_argument("--tokens", type=int, default=10_000)
    args = parser.parse_args()

    from tatar_llm.evaluation.suite import _val_tokens, read_subject
    from tatar_llm.export import export_onnx
    from tatar_llm.export.onnx import OnnxModel
    from tatar_llm.generation import Batch, Settings
    from tatar_llm.training import find_model
    from tatar_llm.training.validation import held_out, score
    from tatar_llm.workspace import Workspace

    workspace = Workspace(args.workspace)
    place = find_model(workspace, args.model)
    subject = read_subject(workspace, place)
    bos = subject.tok_config["bos_token_id"]
    piece = held_out(_val_tokens(workspace, subject)[0], subject.config, bos, args.tokens)
    inputs, targets = piece.inputs.numpy(), piece.targets.numpy()

    def bits(model: OnnxModel) -> float:
        nats = 0.0
        for window, wanted in zip(inputs, targets, strict=True):
            model.clear()
            logits = model(window.tolist()).astype(np.float64)
            scored = wanted >= 0
            logits = logits[scored] - logits[scored].max(axis=1, keepdims=True)
            nats += float((np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), wanted[scored]]).sum())
        return nats / math.log(2) / piece.bytes

    def token_ms(step) -> float:
        step(), step()
        began = time.perf_counter()
        for _ in range(64):
            step()
        return (time.perf_counter() - began) / 64 * 1000

    batch = Batch(subject.model)
    batch.add([bos], [Settings(100, temperature=0)])
    ours = score(subject.model, piece, 8).bits_per_byte
    rows = [("torch, fp32", place.model.stat().st_size / 1e6 if place.model.is_file() else math.nan, math.nan, token_ms(batch.step), ours)]
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("f32", "int8"):
            file = export_onnx(workspace, place, str(Path(folder) / dtype), dtype=dtype) / "model.onnx"
            began = time.perf_counter()
            model = OnnxModel(file, subject.config)
            loaded = time.perf_counter() - began
            found = bits(model)
            model.clear()
            rows.append((f"onnxruntime, {dtype}", file.stat().st_size / 1e6, loaded, token_ms(lambda model=model: model([7])), found))
    print(f"{place.name}, {subject.config.parameters() / 1e6:.1f} M parameters, {piece.tokens:,} held-out tokens\n")
    print("| | file, MB | loads in, s | ms a token | bits per byte | worse by |\n|---|---:|---:|---:|---:|---:|")
    for name, size, loaded, milliseconds, value in rows:
        told = ["" if math.isnan(number) else f"{number:.1f}" for number in (size, loaded)]
        print(f"| {name} | {told[0]} | {told[1]} | {milliseconds:.1f} | {value:.4f} | {value / ours - 1:.2%} |")


if __name__ == "__main__":
    main()
