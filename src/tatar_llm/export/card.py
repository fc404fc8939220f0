"""The model card: what the model is, how good it is, how to load it, what it cannot do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tatar_llm import __version__
from tatar_llm.config import GPTConfig
from tatar_llm.console import human_time
from tatar_llm.errors import TatarLLMError
from tatar_llm.evaluation.report import shown
from tatar_llm.export.record import Record
from tatar_llm.languages import find_language
from tatar_llm.training.runs import ModelPlace

TWO_LETTERS = {"tat": "tt", "bak": "ba", "chv": "cv", "kaz": "kk"}
"""ISO 639-3 -> ISO 639-1, by which the Hub files these languages; the others have no code of two letters."""
QUESTIONS = {"tat": "Татарстанның башкаласы нинди шәһәр?"}
"""For a model that answers; elsewhere a beginning that it may also take up."""


def hf_card(
    place: ModelPlace, facts: dict[str, Any], config: GPTConfig, record: Record | None = None, repo: str = "",
    licence: str = "",
) -> str:
    """README.md of a Hugging Face folder, or of the repository `repo` ("USER/NAME") that it is published as."""
    prompt = json.dumps(_language(place, facts)[2], ensure_ascii=False)
    name, where = ("folder", "path/to/this/folder") if not repo else ("name", repo)
    if facts.get("chat"):
        question = json.dumps(QUESTIONS[facts["language"]], ensure_ascii=False) if facts.get("language") in QUESTIONS else prompt
        ask = f"""messages = [{{"role": "user", "content": {question}}}]
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**ids)[0, ids["input_ids"].shape[1]:]
print(tokenizer.decode(answer, skip_special_tokens=True))"""
        about = """It has been taught to answer: the chat template writes each turn as `<|user|>text<|end|>`, and `{% generation %}` marks what the
assistant says, for further training. These marks are taken for marks wherever they stand, typed ones too. It also continues texts."""
    else:
        ask = f"""ids = tokenizer({prompt}, return_tensors="pt")
print(tokenizer.decode(model.generate(**ids)[0], skip_special_tokens=True))"""
        about = """The tokenizer puts `<bos>` in front of every text, as in training. A typed `<eos>` is encoded as text. It is no chat model and has
no chat template: give it the beginning of a text."""
    return _card(place, facts, config, "transformers", f"""The network is the one that transformers calls {"Qwen3-MoE" if config.n_expert else "Qwen3"}; no code of its own is needed.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

{name} = "{where}"
tokenizer = AutoTokenizer.from_pretrained({name})
model = AutoModelForCausalLM.from_pretrained({name})
{ask}
```

{about}
""", record, repo, licence)


def _special_parts(config: GPTConfig) -> str:
    """Lines of the table that a plain network does not have."""
    if config.n_expert:
        return (f"\n| experts | {config.n_expert} in each block, {config.experts_per_token} at work for a token, width {config.expert_hidden}; "
                f"{config.active_parameters() / 1e6:.1f} M parameters at work |")  # fmt: skip
    if any(config.windows):
        return f"\n| sliding window | {config.sliding_window} tokens in {sum(map(bool, config.windows))} of {config.n_layer} layers |"
    return ""


def gguf_card(place: ModelPlace, facts: dict[str, Any], config: GPTConfig, file: str) -> str:
    """README.md beside a GGUF file."""
    prompt = _language(place, facts)[2]
    run = f"llama-cli -m {file} -cnv --jinja --temp 0.3" if facts.get("chat") else f'llama-completion -m {file} -p "{prompt}" -n 60 --temp 0.8 --top-k 40 -no-cnv'
    return _card(place, facts, config, "gguf", f"""For llama.cpp and what is built on it; the architecture is llama.cpp's own `{"qwen3moe" if config.n_expert else "qwen3"}`.

```bash
{run}
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


def web_card(place: ModelPlace, facts: dict[str, Any], config: GPTConfig, runtime: str) -> str:
    """README.md beside index.html."""
    return _card(place, facts, config, "onnx", f"""Open `index.html`{" and talk to it" if facts.get("chat") else ""}: by a double click, from any web server, or send the file to a phone. It holds everything and asks no network;
`index.html#selftest` compares what the browser computes with what the model gave when the page was written. Browsers from 2023 on.

It contains ONNX Runtime Web {runtime}, Copyright (c) Microsoft Corporation, under the MIT License, whose text stands at its beginning.
""")


def _language(place: ModelPlace, facts: dict[str, Any]) -> tuple[str, str, str]:
    """The language's English name, its own name, and a prompt in it."""
    code = facts.get("language") or ""
    try:
        language = find_language(code, place.model.parent)
    except TatarLLMError:
        return code or "unknown", "", "Казан – "
    return language.english_name, language.name, language.prompts[0]


def _card(
    place: ModelPlace, facts: dict[str, Any], config: GPTConfig, library: str, use: str, record: Record | None = None,
    repo: str = "", licence: str = "",
) -> str:
    record = record or Record()
    english, own, _ = _language(place, facts)
    corpus = facts.get("corpus") or "not recorded"
    if generated := facts.get("generated_bytes"):
        corpus += f", and {generated / 1e6:.1f} MB generated from a grammar"
    bits = (facts.get("val") or {}).get("bits_per_byte")
    measured = f"{bits:.3f}" if bits else "not measured"
    fallback = f"\n**{facts['fallback']}**\n" if facts.get("fallback") else ""
    return f"""---
{_metadata(place, facts, library, record, repo, licence)}---

# {english} language model, {config.parameters() / 1e6:.1f} M parameters

A small model that {"answers in" if facts.get("chat") else "continues"} {english}{"" if facts.get("chat") else " text"}. It was trained from scratch with tatar-llm {__version__} ({Path(place.name).name}).
{fallback}
| | |
|---|---|
| language | {english}{f" ({own})" if own else ""} |
| training text | {corpus} |
| bits per byte on held-out text | {measured} |
| steps trained | {facts.get("step") if facts.get("step") is not None else "not recorded"} |
| layers, width, heads | {config.n_layer}, {config.n_embd}, {config.n_head} ({config.n_kv_head} for keys and values) |{_special_parts(config)}
| context | {config.block_size} tokens |
| vocabulary | {config.vocab_size} tokens, byte-level |

{use}{_measured(record)}{_texts(record, licence)}{_training(record)}
## Limits and risks

The model is small. {"It answers what it has been taught and little else" if facts.get("chat") else "It continues text; it does not follow instructions"}. It invents facts, names and numbers, repeats
itself, and carries over whatever its training text holds, mistakes and prejudice included. Do not rely on what it says.

{_risks(record)}"""


def _metadata(place: ModelPlace, facts: dict[str, Any], library: str, record: Record, repo: str, licence: str) -> str:
    """The YAML that the Hub reads. Texts stand in it as JSON strings, which YAML reads as they are."""
    code = facts.get("language") or ""
    lines = ["language:", f"- {_quoted(TWO_LETTERS.get(code, code))}"] if re.fullmatch(r"[a-z]{2,3}", code) else []
    lines += [f"license: {licence or record.licence}"] if licence or record.licence else []
    lines += [f"library_name: {library}", "pipeline_tag: text-generation", "tags:", "- tatar-llm"]
    if datasets := sorted({text.dataset for text in record.texts if text.dataset}):
        lines += ["datasets:", *(f"- {name}" for name in datasets)]
    if results := _results(facts, record):
        name = repo.rpartition("/")[2] or Path(place.name).name
        lines += ["model-index:", f"- name: {_quoted(name)}", "  results:"]
        for dataset, kind, metric, title, value in results:
            lines += [
                "  - task:", "      type: text-generation",
                "    dataset:", f"      name: {_quoted(dataset)}", f"      type: {kind}",
                "    metrics:", f"    - type: {metric}", f"      value: {value:.6g}", f"      name: {_quoted(title)}",
            ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _results(facts: dict[str, Any], record: Record) -> list[tuple[str, str, str, str, float]]:
    """(data set, its type, kind of metric, the metric's name, value) of what can be set beside other models."""
    held_out = f"held-out part of {facts.get('corpus') or 'the training text'}"
    bits = (facts.get("val") or {}).get("bits_per_byte")
    found = [(held_out, "held-out", "bits_per_byte", "bits per byte", bits)] if bits else []
    metrics = {"pairs": "accuracy", "knowledge": "accuracy", "choice": "accuracy", "topics": "accuracy", "goldfish": "bits"}
    for measure in record.report.get("measures", []):
        if metric := metrics.get(measure["name"]):
            found.append((measure["title"], measure["name"], metric, measure["title"], measure["value"]))
    return found


def _measured(record: Record) -> str:
    """What evaluate has measured, and the n-grams beside it."""
    measures = record.report.get("measures", [])
    baselines = record.report.get("baselines") or record.settings.get("baselines") or {}
    if not measures and not baselines:
        return ""
    lines = ["", "## Measured", ""]
    if measures:
        lines += ["| measure | result | 95 % interval | n | by chance |", "|---|---:|---|---:|---:|"]
        for one in measures:
            unit, interval, chance = one["unit"], one["interval"], one["chance"]
            lines.append(f"| {_cell(one['title'])} | {shown(one['value'], unit)} | "
                         f"{f'{shown(interval[0], unit)} to {shown(interval[1], unit)}' if interval else ''} | {one['n']:,} | "
                         f"{shown(chance, unit) if chance is not None else ''} |")  # fmt: skip
        lines.append("")
    else:
        lines.append("Nothing more than the bits per byte above.")
    titles = {"5-gram": "a Kneser-Ney 5-gram", "bigram": "a Kneser-Ney bigram", "unigram": "a unigram"}
    told = [f"{title} {baselines[name]:.3f}" for name, title in titles.items() if name in baselines]
    lines += [f"Bits per byte of n-grams over the same tokens: {', '.join(told)}."] if told else []
    if record.report.get("small") or record.settings.get("small"):
        lines += ["The held-out text is very small: the figures show that everything works, they cannot judge a model."]
    return "\n".join(lines) + "\n"


def _texts(record: Record, licence: str) -> str:
    """The training text with licences and whom to cite."""
    if not record.texts:
        return f"\n## Licence\n\n{licence}\n" if licence else ""
    lines = ["", "## Training text and licence", "", "| source | what | licence |", "|---|---|---|"]
    for text in record.texts:
        name = f"[{_cell(text.name)}]({text.url})" if text.url else _cell(text.name)
        lines.append(f"| {name} | {_cell(text.what)} | {text.licence or 'not recorded'} |")
    if licence or record.licence:
        lines += ["", f"The model's licence: {licence or record.licence}."]
    else:
        lines += ["", "No licence is named for the model: see those of its text."]
    if cited := sorted({text.citation for text in record.texts if text.citation and text.citation != "The tatar-llm developers"}):
        lines += ["", "To cite:", "", *(f"- {citation}" for citation in cited)]
    return "\n".join(lines) + "\n"


def _training(record: Record) -> str:
    """The settings of the run: those that matter in a table, all of them folded away."""
    settings, status = record.settings, record.status
    if not settings:
        return ""
    train, plan, model = settings["train"], settings["plan"], settings["model"]
    window, unique = model["block_size"], settings.get("train_tokens") or 0
    rates = f"AdamW, rate {train['learning_rate']:.2g}"
    if train["optimizer"] == "muon":
        rates = f"Muon for matrices, rate {train['muon_rate']:.2g}; {rates} for the rest"
    rows = [
        ("optimizer", rates),
        ("schedule", f"{train['schedule']}, {train['warmup_iters']} steps of warmup"),
        ("a step", f"{plan['micro_batch'] * plan['accumulation'] * plan.get('world', 1)} windows of {window} tokens"),
        ("weight decay, dropout", f"{train['weight_decay']:g}, {model['dropout']:g}"),
    ]
    if seen := status.get("tokens"):
        passes = f", {seen / unique:.1f} passes over {unique:,}" if unique else ""
        rows.append(("tokens seen", f"{seen:,}{passes}"))
    if seconds := status.get("seconds"):
        rows.append(("time", f"{human_time(seconds)} on {plan['device']}, {plan['precision']}"))
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows)
    whole = json.dumps(settings, ensure_ascii=False, indent=1)
    return (f"\n## Training\n\n| | |\n|---|---|\n{table}\n\n<details><summary>All settings of the run</summary>\n\n"
            f"```json\n{whole}\n```\n\n</details>\n")  # fmt: skip


def _risks(record: Record) -> str:
    """What may go wrong when people use it, as far as the record tells."""
    copied = record.report.get("copied")
    measured = f" (of the words in {len(record.report['samples'])} samples {copied:.1%} stood in runs of 8 copied from it)" if (
        copied is not None and record.report.get("samples")) else ""  # fmt: skip
    lines = [f"It may repeat passages of its training text word for word, with the names of people in them{measured}."]
    if record.settings.get("small"):
        lines.append("Its training text is very small: it writes in the manner of that text alone.")
    if record.unlicensed:
        lines.append(f"No licence is recorded for {', '.join(map(_cell, record.unlicensed))}: who passes the model on must know that "
                     "the text may be used so.")  # fmt: skip
    lines.append("What it writes looks like the language and often is wrong. Do not put it among texts written by people, in an "
                 "encyclopaedia or a corpus: a small language has few of them.")  # fmt: skip
    return "\n".join(f"- {line}" for line in lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _cell(text: str) -> str:
    """Fit for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")

