"""The model card: what it is, on what it was trained, how good it is, and what it cannot do."""

from __future__ import annotations

from typing import Any

from tatar_llm.config import GPTConfig


def model_card(name: str, config: GPTConfig, facts: dict[str, Any]) -> str:
    """README.md of an exported folder."""
    language = facts.get("language") or "tat"
    val = facts.get("val") or {}
    bits = val.get("bits_per_byte")
    measured = f"{bits:.3f} bits per byte on held-out text of the same corpus" if bits else "not measured"
    fallback = f"\n**Note:** {facts['fallback']}\n" if facts.get("fallback") else ""
    return f"""---
language: {language}
library_name: transformers
pipeline_tag: text-generation
tags: [tatar-llm, small-language-model]
---

# {name}

A decoder-only language model of {config.parameters() / 1e6:.1f} M parameters ({config.n_layer} layers, width {config.n_embd},
context {config.block_size} tokens, vocabulary {config.vocab_size}), trained from scratch with tatar-llm.
{fallback}
- **Trained on:** {facts.get("corpus") or "unknown"}, {facts.get("step", "?")} optimizer steps.
- **Measured:** {measured}.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH")
model = AutoModelForCausalLM.from_pretrained("PATH")
ids = tokenizer("Казан – ", return_tensors="pt")
print(tokenizer.decode(model.generate(**ids)[0], skip_special_tokens=True))
```

## Limits

A small model trained on little text. It continues text; it does not answer questions, knows no facts, and invents names,
dates and events. It repeats the opinions and the errors of its training text. Check every word before you use it.
"""
