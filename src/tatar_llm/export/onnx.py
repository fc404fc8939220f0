"""An ONNX graph with its cache of keys and values as inputs and outputs, checked in onnxruntime.

One graph serves a whole prompt and a single token: ``ids`` (B, T) follow the P tokens whose keys and values, (L, B, K, P, D)
each, come in; out come the logits (B, T, V) and the keys and values of all P + T tokens.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tatar_llm.config import as_dict
from tatar_llm.errors import TatarLLMError
from tatar_llm.export.card import onnx_card
from tatar_llm.export.source import MARKER_FILE, Source, read_source, target_folder
from tatar_llm.export.texts import CHECK_LINES
from tatar_llm.generation.sampling import log_softmax
from tatar_llm.model import GPT
from tatar_llm.model.stock import MARKER
from tatar_llm.tokenizer import encode_text
from tatar_llm.training.runs import ModelPlace
from tatar_llm.workspace import Workspace, whole_folder, write_json, write_text

DTYPES = ("f32", "int8")
TOLERANCE = 1e-4
"""Largest difference of a logit in fp32, where logits go beyond 1 as a share of the largest: sums in another order."""
MOST_LOSS = 0.10
"""Largest share of nats per token that int8 may lose on the check's text; trained models lose about a hundredth."""


def export_onnx(
    workspace: Workspace, place: ModelPlace, out: str = "", *, force: bool = False, dtype: str = "f32"
) -> Path:
    """Write the model at `place` as model.onnx with its tokenizer, and prove it with onnxruntime.

    Args:
        workspace: where exports/onnx is, the folder written when `out` is empty.
        place: the model and its own tokenizer.
        out: another folder. One that is empty or a former export is replaced.
        force: replace any other folder too.
        dtype: f32, or int8: matrices and embedding in a byte a weight, each column with its own scale, products in
            integers (dynamic quantization), a quarter of the size.

    Returns:
        The folder.

    Raises:
        TatarLLMError: the libraries are missing; the folder holds something else; or onnxruntime does not compute the same.
            Nothing is written then.
    """
    need_libraries("onnx")
    target = target_folder(workspace, place, "onnx", out, force)
    source = read_source(place)
    need_dense(source, "onnx")
    with whole_folder(target) as folder:
        write_onnx(folder / "model.onnx", source.model, dtype)
        write_text(folder / "tokenizer.json", source.tokenizer.to_str())
        write_json(folder / MARKER_FILE, {MARKER: source.marker | {"dtype": dtype}, "model": as_dict(source.config),
                                          "tokenizer": _special_tokens(source)})  # fmt: skip
        write_text(folder / "README.md", onnx_card(place, source.facts, source.config))
        check_onnx(folder / "model.onnx", source, dtype)
    return target


class GraphCache:
    """A cache whose contents are inputs and outputs of a traced graph (the network's `Cache`)."""

    def __init__(self, keys: Tensor, values: Tensor, window: int) -> None:
        self.keys, self.values, self.window = keys, values, window
        self.new: list[tuple[Tensor, Tensor]] = []

    @property
    def longest(self) -> int:
        """P."""
        return self.keys.size(3)

    def angles(self, table: Tensor, count: int) -> Tensor:
        """(T, D)."""
        return table[self.longest : self.longest + count]

    def masks(self, count: int) -> tuple[Tensor, Tensor | None]:
        """(T, P + T): query i may see the past, or the window's part of it, and keys up to itself."""
        key, query = torch.arange(self.longest + count)[None], torch.arange(count)[:, None] + self.longest
        return key <= query, (key <= query) & (query - key < self.window) if self.window else None

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values so far of a layer, (B, K, P + T, D)."""
        both = torch.cat((self.keys[layer], key), dim=2), torch.cat((self.values[layer], value), dim=2)
        self.new.append(both)
        return both

    def advance(self, count: int) -> None:
        """Nothing to count: the tensors tell."""


class Graph(nn.Module):
    """The network as a function of ids and cache."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, past_keys: Tensor, past_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, and the keys and values of all tokens."""
        cache = GraphCache(past_keys, past_values, self.model.config.sliding_window)
        logits, _ = self.model(ids, cache=cache)
        keys, values = zip(*cache.new, strict=True)
        return logits, torch.stack(keys), torch.stack(values)


def write_onnx(file: Path, model: GPT, dtype: str = "f32") -> None:
    """Trace the network and write one file; with int8 its matrices quantized."""
    config = model.config
    past = torch.zeros(config.n_layer, 2, config.n_kv_head, 3, config.head_dim)
    auto = torch.export.Dim.AUTO
    sizes = {"ids": {0: auto, 1: auto}, "past_keys": {1: auto, 3: auto}, "past_values": {1: auto, 3: auto}}
    with _quiet():
        program = torch.onnx.export(
            Graph(model).eval(), (torch.zeros(2, 5, dtype=torch.long), past, past.clone()), dynamo=True, dynamic_shapes=sizes,
            input_names=["ids", "past_keys", "past_values"], output_names=["logits", "keys", "values"],
        )  # fmt: skip
        whole = file if dtype == "f32" else file.with_name("whole.onnx")
        assert program is not None  # with dynamo there is one
        program.save(whole, external_data=False)
        if dtype == "int8":
            from onnxruntime.quantization import QuantType, quantize_dynamic

            quantize_dynamic(whole, file, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul", "Gemm", "Gather"])
            whole.unlink()


class OnnxModel:
    """An exported graph in onnxruntime, with its cache; with `unfold`, weights stored in bytes become floats once, at the start."""

    def __init__(self, file: Path, config: Any, threads: int = 0, *, unfold: bool = False) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if unfold:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.shape = (config.n_layer, 1, config.n_kv_head, 0, config.head_dim)
        self.clear()

    def clear(self) -> None:
        """Forget all tokens."""
        self.keys = self.values = np.zeros(self.shape, np.float32)

    def __call__(self, ids: list[int]) -> np.ndarray:
        """Logits (T, V) after each of these tokens, which follow those before."""
        inputs = {"ids": np.array([ids], np.int64), "past_keys": self.keys, "past_values": self.values}
        logits, self.keys, self.values = self.session.run(None, inputs)
        return logits[0]


def _special_tokens(source: Source) -> dict[str, Any]:
    return {key: value for key, value in source.tok_config.items() if key.endswith(("_token", "_token_id")) or key == "vocab_size"}


def need_libraries(kind: str) -> None:
    """Raise TatarLLMError where what `export KIND` needs for a graph is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise TatarLLMError(f'export {kind} needs onnx, onnxscript and onnxruntime: pip install "tatar-llm[onnx]"') from error


def need_dense(source: Source, kind: str) -> None:
    """Raise TatarLLMError for a mixture of experts, whose routing an ONNX graph of fixed operations cannot carry without computing all."""
    if source.config.n_expert:
        raise TatarLLMError(f"export {kind}: this model is a mixture of experts, which the ONNX graph does not carry: take export hf or gguf")


def check_onnx(file: Path, source: Source, dtype: str, *, unfold: bool = False) -> None:
    """Run the file on a text whole, in two parts and token by token; raises TatarLLMError naming the first difference."""
    ids = [source.tok_config["bos_token_id"], *encode_text(source.tokenizer, " ".join(CHECK_LINES))][: source.config.block_size]
    with torch.inference_mode():
        ours = source.model(torch.tensor([ids]))[0][0].numpy()
    try:
        theirs = OnnxModel(file, source.config, unfold=unfold)
        ways = {"in one pass": [theirs(ids)]}
        theirs.clear()
        half = max(1, len(ids) // 2)
        ways["with the cache"] = [theirs(part) for part in (ids[:half], *([one] for one in ids[half:]))]
    except Exception as error:  # whatever onnxruntime raises on a graph that it does not like
        reason = (str(error).splitlines() or [""])[0]
        raise TatarLLMError(f"onnxruntime does not load or run the export ({reason}); nothing was written") from error
    for way, parts in ways.items():
        problem = _problem(ours, np.concatenate(parts), ids, dtype)
        if problem:
            raise TatarLLMError(f"the export is not equal to the model in onnxruntime: {way} {problem}; nothing was written")


def _problem(ours: np.ndarray, theirs: np.ndarray, ids: list[int], dtype: str) -> str:
    if dtype == "f32":
        gap = float(np.abs(ours - theirs).max())
        return "" if gap <= TOLERANCE * max(1.0, float(np.abs(ours).max())) else f"logits differ by {gap:.1e}"
    nats = [-np.mean([log_softmax(row.astype(np.float64))[token] for row, token in zip(logits, ids[1:], strict=False)]) for logits in (ours, theirs)]
    if len(ids) > 1 and not (math.isfinite(nats[1]) and nats[1] <= nats[0] * (1 + MOST_LOSS)):
        return f"int8 takes {nats[1]:.3f} nats a token instead of {nats[0]:.3f}"
    return ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter and the quantizer without their progress, warnings and advice."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "root")]
    before = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
