"""One HTML file that holds the model, its tokenizer, the runtime and the page; checked before it gets its place."""

from __future__ import annotations

import base64
import copy
import dataclasses
import functools
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from tatar_llm import __version__
from tatar_llm.chat import ANSWER_TOKENS
from tatar_llm.chat.speaker import TEMPERATURE
from tatar_llm.config import as_dict
from tatar_llm.console import human_bytes, say
from tatar_llm.errors import TatarLLMError
from tatar_llm.export.card import TWO_LETTERS, web_card
from tatar_llm.export.onnx import check_onnx, need_dense, need_libraries, write_onnx
from tatar_llm.export.source import MARKER_FILE, Source, need_bpe, read_source, target_folder
from tatar_llm.export.web.proof import expectations, prove
from tatar_llm.export.web.runtime import VERSION, Runtime, read_runtime
from tatar_llm.languages import find_language
from tatar_llm.model import GPT
from tatar_llm.model.stock import MARKER
from tatar_llm.training.runs import ModelPlace
from tatar_llm.workspace import Workspace, whole_folder, write_json, write_text

FOLDER = Path(__file__).parent
PAGE = "index.html"
MODULES = ("tokenizer.js", "network.js", "generation.js", "chat.js", "suggest.js", "engine.js", "worker.js")
"""What the worker is made of; each imports only from those before it."""
LEVELS = 127
BEYOND_LETTERS = 0x40000
"""From the fourth plane on Unicode has no letters, digits or spaces."""
LARGEST = 400_000_000
"""Characters of a page that browsers still hold; strings end at 512 M in some of them."""


def export_web(
    workspace: Workspace, place: ModelPlace, out: str = "", *, force: bool = False, dtype: str = "int8", runtime: str = ""
) -> Path:
    """Write the model at `place` as a page, index.html, and prove it.

    Args:
        workspace: where exports/web is, the folder written when `out` is empty.
        place: the model and its own tokenizer.
        out: another folder. One that is empty or a former export is replaced.
        force: replace any other folder too.
        dtype: int8, a byte a weight with a scale for each row, a quarter of the size; or f32. Both compute in fp32.
        runtime: the npm archive of onnxruntime-web as a file; empty asks npm, unless data/raw has it.

    Returns:
        The folder.

    Raises:
        TatarLLMError: the libraries or the runtime are missing; the page cannot carry the tokenizer; the folder holds
            something else; or onnxruntime, or the page's own code in node or a browser, does not give the same. Nothing
            is written then.
    """
    need_libraries("web")
    target = target_folder(workspace, place, "web", out, force)
    source = read_source(place)
    need_dense(source, "web")
    need_bpe(source, "web", "the page has BPE alone: take export hf")
    parts = read_runtime(workspace, runtime)
    stored = source if dtype == "f32" else dataclasses.replace(source, model=rounded(source.model))
    say("writing the page: about a minute")
    with whole_folder(target) as folder:
        graph = folder / "model.onnx"
        write_onnx(graph, stored.model)
        if dtype == "int8":
            store_in_bytes(graph)
            check_onnx(graph, source, "int8", unfold=True)
        check_onnx(graph, stored, "f32", unfold=True)
        model = graph.read_bytes()
        graph.unlink()
        html = page(stored, model, parts, expectations(stored))
        if len(html) > LARGEST:
            raise TatarLLMError(f"the page would have {human_bytes(len(html))}, more than browsers open"
                                f"{': take --dtype int8' if dtype == 'f32' else ': take export onnx'}")  # fmt: skip
        write_text(folder / PAGE, html)
        write_text(folder / "README.md", web_card(place, source.facts, source.config, VERSION))
        write_json(folder / MARKER_FILE, {MARKER: source.marker | {"dtype": dtype, "onnxruntime_web": VERSION},
                                          "model": as_dict(source.config)})  # fmt: skip
        say(prove(folder / PAGE))
    return target


def page(source: Source, model: bytes, runtime: Runtime, expected: dict[str, Any]) -> str:
    """The HTML: whatever it needs stands in it, packed as base64 of gzip where it is large."""
    about = about_model(source)
    parts = {
        "version": __version__,
        "runtime_version": VERSION,
        "title": about["title"],
        "chat_temperature": str(TEMPERATURE),
        "answer_tokens": str(ANSWER_TOKENS),
        "about": _script_json(about),
        "words": _script_json(json.loads(_file("words.json"))),
        "notice": _file("notice.txt"),
        "style": _file("page.css"),
        "page": _file("page.js"),
        "engine": engine_source(),
        "tokenizer": packed(json.dumps(tokenizer_data(source), ensure_ascii=False).encode()),
        "model": packed(model),
        "runtime": runtime.script,
        "wasm": packed(runtime.wasm),
        "expected": packed(json.dumps(expected, ensure_ascii=False).encode()),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _file("page.html")) + "\n"


def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8").strip()


def about_model(source: Source) -> dict[str, Any]:
    """What the page says of the model, and what it must know to run it."""
    config, facts = source.config, source.facts
    code = facts.get("language") or ""
    try:
        language = find_language(code, source.place.model.parent)
        name, keyboard, prompt = language.name, language.keyboard, language.prompts[0]
    except TatarLLMError:
        name, keyboard, prompt = code or "?", "", ""
    shape = {"layers": config.n_layer, "heads": config.n_kv_head, "width": config.head_dim, "context": config.block_size,
             "vocabulary": config.vocab_size}  # fmt: skip
    return {
        "title": re.sub(r"[<>&]", "", name[:1].upper() + name[1:]),
        "language": TWO_LETTERS.get(code, code),
        "interface": TWO_LETTERS.get(code, code),
        "keyboard": keyboard,
        "prompt": prompt,
        "model": Path(source.place.name).name,
        "parameters": config.parameters(),
        "corpus": facts.get("corpus") or "",
        "generated": facts.get("generated_bytes") or 0,
        "bits": (facts.get("val") or {}).get("bits_per_byte"),
        "fallback": facts.get("fallback") or "",
        "chat": source.chat,
        "shape": shape,
    }


def tokenizer_data(source: Source) -> dict[str, Any]:
    """What tokenizer.js is made from."""
    model = json.loads(source.tokenizer.to_str())["model"]
    data = {
        "tokens": [source.tokenizer.id_to_token(number) or "" for number in range(source.tok_config["vocab_size"])],
        "merges": [" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]],
        "special": sorted(source.tokenizer.get_added_tokens_decoder()),
        "bos": source.tok_config["bos_token_id"],
        "eos": source.tok_config["eos_token_id"],
        "letters": characters(r"\p{L}"),
        "numbers": characters(r"\p{N}"),
        "spaces": characters(r"\s"),
    }
    if source.chat:
        data["marks"] = {name: source.tokenizer.token_to_id(f"<|{name}|>") for name in ("user", "assistant", "end")}
    return data


@functools.cache
def characters(kind: str) -> str:
    """The characters of a kind as the tokenizer's own regular expressions know them: "41-5a aa ..."."""
    split = Split(Regex(f"(?:{kind})+"), "removed", invert=True)
    ranges: list[tuple[int, int]] = []
    for start in range(0, BEYOND_LETTERS, 1024):  # in one string of them all the library would take seconds
        block = "".join(chr(number) for number in range(start, start + 1024) if not 0xD800 <= number < 0xE000)
        for text, _ in split.pre_tokenize_str(block):
            first, last = ord(text[0]), ord(text[-1])
            if ranges and ranges[-1][1] == first - 1:
                first = ranges.pop()[0]
            ranges.append((first, last))
    return " ".join(f"{first:x}" if first == last else f"{first:x}-{last:x}" for first, last in ranges)


def engine_source() -> str:
    """The modules joined to one: what one imports from another stands before it."""
    texts = [re.sub(r'^import .* from "\./\w+\.js";\n|^export ', "", _file(name), flags=re.M) for name in MODULES]
    return "\n\n".join(['"use strict";', *texts])


def packed(content: bytes) -> str:
    """Base64 of gzip, the same for the same content."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _script_json(value: Any) -> str:
    """JSON that may stand inside a <script>."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


# -- a byte a weight -----------------------------------------------------------------------------------------------


def rounded(model: GPT) -> GPT:
    """A copy whose matrices hold what a byte a weight, with a scale for each row, can hold."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / LEVELS
                weight.copy_((weight / scale).round() * scale)
    return model


def store_in_bytes(file: Path) -> None:
    """Store the matrices of a rounded model's graph as int8 and a scale (ONNX's DequantizeLinear); it computes the same.

    A matrix of the network's (out, in) is one scale a row. As the second factor of a product it stands in the graph
    turned around: one scale a column.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(file)
    graph = model.graph
    used: dict[str, set[str]] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            used.setdefault(name, set()).add(f"{node.op_type} {place}")
    added = []
    for tensor in list(graph.initializer):
        uses = used.get(tensor.name, set())
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) != 2 or not uses:
            continue
        if uses <= {"MatMul 1"}:
            axis = 1
        elif uses <= {"Gather 0", "Transpose 0"}:
            axis = 0
        else:
            continue
        weights = numpy_helper.to_array(tensor)
        scale = np.maximum(np.abs(weights).max(axis=1 - axis), 1e-12).astype(np.float32) / np.float32(LEVELS)
        whole = np.round(weights / np.expand_dims(scale, 1 - axis)).astype(np.int8)
        graph.initializer.remove(tensor)
        graph.initializer.extend([numpy_helper.from_array(whole, f"{tensor.name}.bytes"), numpy_helper.from_array(scale, f"{tensor.name}.scale")])
        added.append(helper.make_node("DequantizeLinear", [f"{tensor.name}.bytes", f"{tensor.name}.scale"], [tensor.name], axis=axis))
    nodes = [*added, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, file)
