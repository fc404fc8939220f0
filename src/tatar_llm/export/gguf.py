"""GGUF files for llama.cpp and what is built on it (Ollama, LM Studio), checked by asking llama.cpp itself.

The architecture is llama.cpp's own ``qwen3``, with experts ``qwen3moe``; unlike ``llama``, their queries and keys are stored as they
are. The tokenizer's rule for pieces is the one that llama.cpp calls ``llama-bpe``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tatar_llm.chat import ANSWER_TOKENS, JINJA_PLAIN, Turn
from tatar_llm.chat.speaker import TEMPERATURE
from tatar_llm.chat.template import end_id, prompt_ids
from tatar_llm.errors import TatarLLMError
from tatar_llm.export.card import gguf_card
from tatar_llm.export.source import MARKER_FILE, Source, need_bpe, read_source, target_folder
from tatar_llm.export.texts import CHECK_LINES, random_texts
from tatar_llm.generation.batch import Batch
from tatar_llm.generation.sampling import Settings
from tatar_llm.model.stock import MARKER
from tatar_llm.tokenizer import encode_text
from tatar_llm.training.runs import ModelPlace
from tatar_llm.workspace import Workspace, whole_folder, write_json, write_text

# Our name -> llama.cpp's (src/llama-arch.cpp, LLM_ARCH_QWEN3).
LAYER_NAMES = {
    "attention_norm": "attn_norm",
    "attention.q": "attn_q",
    "attention.k": "attn_k",
    "attention.v": "attn_v",
    "attention.out": "attn_output",
    "attention.q_norm": "attn_q_norm",
    "attention.k_norm": "attn_k_norm",
    "ffn_norm": "ffn_norm",
    "ffn.gate": "ffn_gate",
    "ffn.up": "ffn_up",
    "ffn.down": "ffn_down",
}
EXPERT_NAMES = {"ffn.router": "ffn_gate_inp", "ffn.gate": "ffn_gate_exps", "ffn.up": "ffn_up_exps", "ffn.down": "ffn_down_exps"}
OUTER_NAMES = {"embedding": "token_embd", "norm": "output_norm", "head": "output"}
NORMAL, CONTROL = 1, 3
"""Kinds of tokens in a GGUF vocabulary."""
BLOCK = 32
"""Weights that share a scale in q8_0."""
RANDOM_TEXTS, STEPS = 1000, 16


@dataclass(frozen=True)
class Format:
    """A way to store the matrices; gains stay in fp32."""

    file_type: int
    """general.file_type."""
    rounded: torch.dtype
    """What our own weights are rounded to before the comparison; q8_0 is not."""
    tolerance: float
    """Largest difference of a token's log-probability that rounding explains: llama.cpp computes in this format too."""


FORMATS = {
    "f32": Format(0, torch.float32, 0.01),  # keys and values of the cache are f16 there
    "f16": Format(1, torch.float16, 0.03),
    "bf16": Format(32, torch.bfloat16, 0.15),
    "q8_0": Format(7, torch.float32, 0.4),
}


def export_gguf(
    workspace: Workspace, place: ModelPlace, out: str = "", *, force: bool = False, dtype: str = "f16"
) -> Path:
    """Write the model at `place` as model-DTYPE.gguf with a Modelfile for Ollama, and prove it with llama.cpp.

    Args:
        workspace: where exports/gguf is, the folder written when `out` is empty.
        place: the model and its own tokenizer.
        out: another folder. One that is empty or a former export is replaced.
        force: replace any other folder too.
        dtype: f32, f16, bf16 or q8_0.

    Returns:
        The folder.

    Raises:
        TatarLLMError: the libraries are missing; the model has something that GGUF or llama.cpp cannot carry; the folder
            holds something else; or llama.cpp does not give the same token ids and, up to rounding, the same
            probabilities. Nothing is written then.
    """
    _need_libraries()
    target = target_folder(workspace, place, "gguf", out, force)
    source = read_source(place, FORMATS[dtype].rounded)
    _need_carried(source, dtype)
    with whole_folder(target) as folder:
        file = folder / f"model-{dtype}.gguf"
        write_gguf(file, source, dtype)
        write_text(folder / "Modelfile", _modelfile(source, file.name))
        write_text(folder / "README.md", gguf_card(place, source.facts, source.config, file.name))
        write_json(folder / MARKER_FILE, {MARKER: source.marker | {"dtype": dtype}})
        _check(file, source, FORMATS[dtype].tolerance)
    return target


def write_gguf(file: Path, source: Source, dtype: str) -> None:
    """Write one GGUF file: the network's shape, the vocabulary, the weights."""
    import gguf

    config, facts = source.config, source.facts
    writer = gguf.GGUFWriter(file, "qwen3moe" if config.n_expert else "qwen3")
    writer.add_name(f"tatar-llm {Path(source.place.name).name}")
    if facts.get("language"):
        writer.add_languages([facts["language"]])
    writer.add_file_type(FORMATS[dtype].file_type)
    writer.add_context_length(config.block_size)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.ffn_hidden)
    writer.add_head_count(config.n_head)
    writer.add_head_count_kv(config.n_kv_head)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    if config.n_expert:
        writer.add_expert_count(config.n_expert)
        writer.add_expert_used_count(config.experts_per_token)
        writer.add_expert_feed_forward_length(config.expert_hidden)
    _add_vocabulary(writer, source)
    kind = gguf.GGMLQuantizationType[dtype.upper()]
    for name, value in source.model.state_dict().items():
        if name == "head.weight" and config.tie_weights:
            continue
        weights, stored = value.float().numpy(), gguf_name(name, experts=config.n_expert > 0)
        if weights.ndim == 1 or dtype == "f32" or "router" in name:  # llama.cpp wants its router in fp32
            writer.add_tensor(stored, weights)
        elif dtype == "f16":
            writer.add_tensor(stored, weights.astype(np.float16))
        else:
            writer.add_tensor(stored, gguf.quants.quantize(weights, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str, experts: bool = False) -> str:
    """``blocks.3.attention.q.weight`` -> ``blk.3.attn_q.weight``."""
    names = LAYER_NAMES | EXPERT_NAMES if experts else LAYER_NAMES
    if match := re.fullmatch(r"blocks\.(\d+)\.(.+)\.weight", name):
        return f"blk.{match[1]}.{names[match[2]]}.weight"
    return f"{OUTER_NAMES[name.removesuffix('.weight')]}.weight"


def _add_vocabulary(writer: Any, source: Source) -> None:
    model = json.loads(source.tokenizer.to_str())["model"]
    special = source.tokenizer.get_added_tokens_decoder().keys()
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL if number in special else NORMAL for number in range(len(tokens))])
    writer.add_token_merges([" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]])
    for name in ("bos", "eos", "pad", "unk"):
        if f"{name}_token_id" in source.tok_config:
            getattr(writer, f"add_{name}_token_id")(source.tok_config[f"{name}_token_id"])
    if source.chat:
        writer.add_chat_template(JINJA_PLAIN)
        writer.add_eot_token_id(end_id(source.tokenizer))
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)


def _modelfile(source: Source, name: str) -> str:
    if source.chat:
        return (
            f"# ollama create my-model -f Modelfile && ollama run my-model\nFROM ./{name}\n"
            'TEMPLATE "{{ range .Messages }}<|{{ .Role }}|>{{ .Content }}<|end|>{{ end }}<|assistant|>"\n'
            f"PARAMETER stop <|end|>\nPARAMETER num_ctx {source.config.block_size}\nPARAMETER num_predict {ANSWER_TOKENS}\n"
            f"PARAMETER temperature {TEMPERATURE}\nPARAMETER top_k 40\nPARAMETER repeat_penalty 1.0\n"
        )
    return (
        f"# ollama create my-model -f Modelfile && ollama run my-model\nFROM ./{name}\n"
        'TEMPLATE "{{ .Prompt }}"\n'
        f"PARAMETER num_ctx {source.config.block_size}\nPARAMETER num_predict 60\n"
        "PARAMETER temperature 0.8\nPARAMETER top_k 40\nPARAMETER repeat_penalty 1.0\n"
    )


# -- before writing ----------------------------------------------------------------------------------------------


def _need_libraries() -> None:
    try:
        import gguf  # noqa: F401
        import xllamacpp  # noqa: F401
    except ImportError as error:
        raise TatarLLMError('export gguf needs gguf and, for the check, llama.cpp: pip install "tatar-llm[gguf]"') from error


def _need_carried(source: Source, dtype: str) -> None:
    """Refuse by name what llama.cpp would compute otherwise."""
    need_bpe(source, "gguf", "llama.cpp has none such over bytes: take export hf")
    if any(source.config.windows):
        raise TatarLLMError(
            f"export gguf: this model's layers see {source.config.sliding_window} tokens, and llama.cpp ignores a sliding window in "
            "networks of this kind: take export hf or onnx"
        )
    if source.tok_config["vocab_size"] != source.config.vocab_size:
        raise TatarLLMError("export gguf: the model has more ids than its tokenizer, which llama.cpp refuses: take export hf")
    inner = "expert_hidden" if source.config.n_expert else "ffn_hidden"
    widths = {"n_embd": source.config.n_embd, inner: getattr(source.config, inner), "n_head * head_dim": source.config.n_head * source.config.head_dim}
    odd = next((f"{name} is {value}" for name, value in widths.items() if value % BLOCK), "")
    if dtype == "q8_0" and odd:
        raise TatarLLMError(f"q8_0 stores weights in blocks of {BLOCK}, and {odd}: take --dtype f16")


# -- the check ---------------------------------------------------------------------------------------------------


def _check(file: Path, source: Source, tolerance: float) -> None:
    """Ask llama.cpp, in a process of its own, and compare; raises TatarLLMError naming the first difference."""
    texts = [*CHECK_LINES, *random_texts(RANDOM_TEXTS)]
    texts = [text.replace("\0", "") for text in texts]  # its interface ends a string at NUL
    prompts = [[source.tok_config["bos_token_id"], *encode_text(source.tokenizer, text)][: source.config.block_size // 2]
               for text in CHECK_LINES[:6]]  # fmt: skip
    if source.chat:
        prompts.append(prompt_ids(source.tokenizer, source.tok_config, [Turn("user", CHECK_LINES[0])], source.config.block_size // 2))
    steps = min(STEPS, source.config.block_size // 2)
    asked = {"texts": texts, "prompts": prompts, "steps": steps, "context": source.config.block_size}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tatar_llm.export.llama_cpp", str(file)], input=json.dumps(asked), capture_output=True,
            text=True, encoding="utf-8", timeout=600, check=False,
        )  # fmt: skip
        answer = json.loads(done.stdout) if done.returncode == 0 else None
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    except (subprocess.TimeoutExpired, ValueError) as error:
        answer, said = None, type(error).__name__
    if answer is None:
        problem = f"it does not load or run ({said})"
    else:
        problem = _ids_problem(texts, answer["ids"], source) or _probabilities_problem(prompts, answer["tokens"], source, tolerance)
    if problem:
        raise TatarLLMError(f"the export is not equal to the model in llama.cpp: {problem}; nothing was written")


def _ids_problem(texts: list[str], theirs: list[list[int]], source: Source) -> str:
    for text, ids in zip(texts, theirs, strict=True):
        if ids != [source.tok_config["bos_token_id"], *encode_text(source.tokenizer, text)]:
            return f"other ids for {text!r}"
    return ""


def _probabilities_problem(prompts: list[list[int]], theirs: list[list[list[Any]]], source: Source, tolerance: float) -> str:
    """Greedy continuations token by token; they may part only where two tokens are as good as equal.

    llama.cpp ends at every special token, so a continuation of its that is too short must end before one.
    """
    special = source.tokenizer.get_added_tokens_decoder().keys()
    settings = Settings(max_new_tokens=min(STEPS, source.config.block_size // 2), temperature=0, logprobs=2)
    for prompt, tokens in zip(prompts, theirs, strict=True):
        batch = Batch(source.model)
        [row] = batch.add(prompt, [settings])
        while not row.finished:
            batch.step()
        for place, ours in enumerate(row.scores):
            token, logprob = tokens[place] if place < len(tokens) else (None, None)
            if token is None and ours.token in special:
                break
            if token != ours.token:
                if ours.alternatives[0][1] - ours.alternatives[1][1] > 2 * tolerance:
                    return f"greedy generation differs from token {place + 1} on"
                break
            if logprob is not None and not abs(logprob - ours.logprob) <= tolerance:
                return f"a token's log-probability differs by {abs(logprob - ours.logprob):.1e}"
            if token in special:
                break
    return ""


