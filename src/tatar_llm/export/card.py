"""The model card: what the model is, how good it is, how to load it, what it cannot do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tatar_llm import __version__
from tatar_llm.config import GPTConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.languages import find_language
from tatar_llm.training.runs import ModelPlace


def hf_card(place: ModelPlace, facts: dict[str, Any], config: GPTConfig) -> str:
    """README.md of a Hugging Face folder."""
    prompt = json.dumps(_language(place, facts)[2], ensure_ascii=False)
    return _card(place, facts, config, "transformers", f"""The network is the one that transformers calls Qwen3; no code of its own is needed.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "path/to/this/folder"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
ids = tokenizer({prompt}, return_tensors="pt")
print(tokenizer.decode(model.generate(**ids)[0], skip_special_tokens=True))
```

The tokenizer puts `<bos>` in front of every text, as in training. A typed `<eos>` is encoded as text.
""")


def gguf_card(place: ModelPlace, facts: dict[str, Any], config: GPTConfig, file: str) -> str:
    """README.md beside a GGUF file."""
    prompt = _language(place, facts)[2]
    return _card(place, facts, config, "gguf", f"""For llama.cpp and what is built on it; the architecture is llama.cpp's own `qwen3`.

```bash
llama-completion -m {file} -p "{prompt}" -n 60 --temp 0.8 --top-k 40 -no-cnv
ollama create my-model -f Modelfile && ollama run my-model
```
""")


def onnx_card(place: ModelPlace, facts: dict[str, Any], config: GPTConfig) -> str:
    """README.md beside model.onnx."""
    prompt = json.dumps(_language(place, facts)[2], ensure_ascii=False)
    cache = f"{config.n_layer}, 1, {config.n_kv_head}, 0, {config.head_dim}"
    return _card(place, facts, config, "onnx", f"""One graph reads a prompt and single tokens alike: `ids` (batch, new tokens), `past_keys` and `past_values` (layers, batch,
key-value heads, tokens before, width of a head) give `logits`, and `keys` and `values` to pass on. No position may go beyond the context.

```python
import numpy, onnxruntime, tokenizers

tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
session = onnxruntime.InferenceSession("model.onnx")
new = [2, *tokenizer.encode({prompt}).ids]  # 2 is <bos>
ids, keys, values = [], numpy.zeros(({cache}), numpy.float32), numpy.zeros(({cache}), numpy.float32)
while len(ids) < 20:
    logits, keys, values = session.run(None, {{"ids": [new], "past_keys": keys, "past_values": values}})
    new = [int(logits[0, -1].argmax())]
    ids += new
print(tokenizer.decode(ids))
```
""")


def _language(place: ModelPlace, facts: dict[str, Any]) -> tuple[str, str, str]:
    """The language's English name, its own name, and a prompt in it."""
    code = facts.get("language") or ""
    try:
        language = find_language(code, place.model.parent)
    except TatarLLMError:
        return code or "unknown", "", "Казан – "
    return language.english_name, language.name, language.prompts[0]


def _card(place: ModelPlace, facts: dict[str, Any], config: GPTConfig, library: str, use: str) -> str:
    english, own, _ = _language(place, facts)
    code = facts.get("language") or ""
    corpus = facts.get("corpus") or "not recorded"
    if generated := facts.get("generated_bytes"):
        corpus += f", and {generated / 1e6:.1f} MB generated from a grammar"
    bits = (facts.get("val") or {}).get("bits_per_byte")
    measured = f"{bits:.3f}" if bits else "not measured"
    fallback = f"\n**{facts['fallback']}**\n" if facts.get("fallback") else ""
    tag = f"language:\n- {code}\n" if re.fullmatch(r"[a-z]{2,3}", code) else ""
    return f"""---
{tag}library_name: {library}
pipeline_tag: text-generation
tags:
- tatar-llm
---

# {english} language model, {config.parameters() / 1e6:.1f} M parameters

A small model that continues {english} text. It was trained from scratch with tatar-llm {__version__} ({Path(place.name).name}).
{fallback}
| | |
|---|---|
| language | {english}{f" ({own})" if own else ""} |
| training text | {corpus} |
| bits per byte on held-out text | {measured} |
| steps trained | {facts.get("step") if facts.get("step") is not None else "not recorded"} |
| layers, width, heads | {config.n_layer}, {config.n_embd}, {config.n_head} ({config.n_kv_head} for keys and values) |
| context | {config.block_size} tokens |
| vocabulary | {config.vocab_size} tokens, byte-level BPE |

{use}
## Limits

The model is small. It continues text; it does not follow instructions. It invents facts, names and numbers, repeats
itself, and carries over whatever its training text holds, mistakes and prejudice included. Do not rely on what it says.
"""
