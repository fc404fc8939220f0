"""`tatar-llm evaluate`: the measures of a model, one after the other, and the report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tatar_llm.chat import Speaker
from tatar_llm.config import GPTConfig
from tatar_llm.console import say
from tatar_llm.errors import TatarLLMError
from tatar_llm.evaluation import bits
from tatar_llm.evaluation.chat import chat_measures
from tatar_llm.evaluation.choice import multiple_choice, read_choices, read_topics, topics
from tatar_llm.evaluation.continuations import continuations, held_out_prompts
from tatar_llm.evaluation.copying import copied_share, known_word_share, whole_words
from tatar_llm.evaluation.goldfish import goldfish, read_lines
from tatar_llm.evaluation.knowledge import knowledge, read_questions
from tatar_llm.evaluation.likelihood import encode
from tatar_llm.evaluation.pairs import minimal_pairs, read_pairs
from tatar_llm.evaluation.report import write_report
from tatar_llm.evaluation.segmentation import morpheme_agreement, token_statistics
from tatar_llm.evaluation.statistics import Measure
from tatar_llm.evaluation.suggestions import WordTrigram, sentences, suggestions
from tatar_llm.generation import Settings, generate_batch
from tatar_llm.languages import Language, find_language
from tatar_llm.model import GPT, load_model, load_model_file
from tatar_llm.tokenizer import TokenFile, encode_texts, load_tokenizer, read_tokens
from tatar_llm.training import ModelPlace
from tatar_llm.training.validation import held_out, score
from tatar_llm.workspace import Workspace

SAMPLES = 20
SAMPLE_TOKENS = 60
LIGHT_TOKENS = 100_000
"""Held-out tokens that the light suite scores at most."""
CONTINUATIONS = 50
TYPED_WORDS = {"light": 150, "full": 600}


@dataclass(frozen=True)
class Inputs:
    """Texts of the user's to measure on; an empty path means none."""

    file: str = ""
    """Text for bits per byte (or for --protocol) instead of the held-out part."""
    protocol: str = ""
    """"goldfish": the lines of `file` by the FLORES protocol."""
    pairs: str = ""
    facts: str = ""
    choices: str = ""
    topics: str = ""


@dataclass(frozen=True)
class Subject:
    """A model, read, with its tokenizer and what its file tells."""

    name: str
    model: GPT
    config: GPTConfig
    tokenizer: Tokenizer
    tok_config: dict[str, Any]
    facts: dict[str, Any]
    language: Language

    @property
    def all(self) -> tuple[GPT, Tokenizer, dict[str, Any]]:
        """What every measure takes."""
        return self.model, self.tokenizer, self.tok_config


def read_subject(workspace: Workspace, place: ModelPlace) -> Subject:
    """Load the model at `place`; raises TatarLLMError where its tokenizer is another than it was trained with."""
    model, config = load_model(place.model)
    tokenizer, tok_config = load_tokenizer(place.tokenizer)
    facts = load_model_file(place.model)
    place.check(facts)
    language = find_language(facts.get("language") or "tat", place.model.parent, workspace.processed)
    return Subject(place.name, model, config, tokenizer, tok_config, facts, language)


def evaluate(
    workspace: Workspace, place: ModelPlace, *, suite: str = "light", inputs: Inputs | None = None, samples: int = SAMPLES,
    most_tokens: int = 0, talk: bool = False,
) -> dict[str, Any]:
    """Measure a model and write reports/report.md, report.json and report.html; with a protocol, files of its name.

    Args:
        place: the model and its tokenizer.
        suite: "light" (some minutes at most) or "full" (all held-out text, continuations, a 5-gram beside).
        inputs: the user's own texts.
        samples: how many continuations of the language's prompts to generate; every one is in the report.
        talk: ask it questions too, also a model that has not learnt to answer.
        most_tokens: score a fixed part of the held-out text of about this size; 0 takes the suite's own limit.

    Returns:
        The report's content.
    """
    started = time.monotonic()
    inputs = inputs or Inputs()
    subject = read_subject(workspace, place)
    if inputs.protocol:
        report = _head(subject) | {"measures": [_protocol(subject, inputs).as_dict()], "text": inputs.file}
    else:
        report = _measured(workspace, subject, suite, inputs, samples, most_tokens, talk)
    report["suite"] = suite
    report["seconds"] = round(time.monotonic() - started, 1)
    write_report(workspace, report, inputs.protocol or "report")
    return report


def _head(subject: Subject) -> dict[str, Any]:
    facts = subject.facts
    return {
        "model": subject.name,
        "parameters": subject.config.parameters(),
        "step": facts.get("step"),
        "corpus": facts.get("corpus", ""),
        "language": facts.get("language", ""),
        "fallback": facts.get("fallback") or None,
    }


def _protocol(subject: Subject, inputs: Inputs) -> Measure:
    if inputs.protocol != "goldfish":
        raise TatarLLMError(f"--protocol {inputs.protocol}: there is one, goldfish")
    if not inputs.file:
        raise TatarLLMError("--protocol goldfish needs --file with one sentence a line (FLORES devtest for the published table)")
    lines = read_lines(Path(inputs.file))
    say(f"evaluate: {subject.name} on {len(lines):,} lines of {inputs.file}")
    return goldfish(*subject.all, lines)


def _measured(
    workspace: Workspace, subject: Subject, suite: str, inputs: Inputs, samples: int, most_tokens: int, talk: bool
) -> dict[str, Any]:
    mine = subject.language.code == "tat"
    report = _head(subject)
    train = _train_tokens(workspace, subject)
    measures = [_bits(workspace, subject, suite, inputs, most_tokens, train, report)]
    left_out = []
    if mine and _has_generated(workspace, subject):
        measures.append(bits.generated_bits(*subject.all))
    if mine or inputs.pairs:
        say("evaluate: minimal pairs")
        measures.append(minimal_pairs(*subject.all, read_pairs(Path(inputs.pairs) if inputs.pairs else None)))
    else:
        left_out.append("minimal pairs (the package's are Tatar; --pairs FILE takes yours)")
    if mine or inputs.facts:
        say("evaluate: facts in other words")
        measures += knowledge(*subject.all, read_questions(Path(inputs.facts)) if inputs.facts else None)
    else:
        left_out.append("facts (the package's are Tatar; --facts FILE takes yours)")
    if inputs.choices:
        measures.append(multiple_choice(*subject.all, read_choices(Path(inputs.choices))))
    if inputs.topics:
        measures.append(topics(*subject.all, read_topics(Path(inputs.topics))))
    if mine:
        measures.append(morpheme_agreement(subject.tokenizer))
    else:
        left_out.append("morpheme ends (the grammar is Tatar)")
    if mine and (talk or subject.facts.get("chat")):
        say("evaluate: chat")
        found, report["chat"] = chat_measures(Speaker(*subject.all, chat=bool(subject.facts.get("chat"))))
        measures += found
    held_out_text = workspace.val_text.read_text(encoding="utf-8") if workspace.val_text.is_file() and not inputs.file else ""
    if lines := sentences(held_out_text, TYPED_WORDS[suite]):
        say("evaluate: word suggestions")
        counted = suite == "full" and workspace.train_text.is_file()
        measures += suggestions(*subject.all, lines, WordTrigram.of_file(workspace.train_text) if counted else None)
    if held_out_text:
        report["tokenizer"] = token_statistics(subject.tokenizer, subject.tok_config, held_out_text, train)
        if suite == "full":
            say("evaluate: continuations")
            found, made = continuations(*subject.all, held_out_prompts(held_out_text, CONTINUATIONS))
            measures += found
            report["continuations"] = made
    if samples:
        say("evaluate: samples")
        report |= _samples(subject, workspace, samples)
    report["measures"] = [measure.as_dict() for measure in measures]
    report["left_out"] = left_out
    report["small"] = _is_small(workspace, inputs.file)
    return report


def _bits(
    workspace: Workspace, subject: Subject, suite: str, inputs: Inputs, most_tokens: int, train: TokenFile | None, report: dict[str, Any]
) -> Measure:
    """Bits per byte with its baselines; what it was measured on goes into the report."""
    if inputs.file:
        text = bits.read_text(Path(inputs.file))
        say(f"evaluate: {subject.name} on {inputs.file}")
        found = bits.text_bits(*subject.all, [text], "bits", "bits per byte")
        baselines = bits.file_baselines(text, encode(subject.tokenizer, subject.tok_config, text), train, subject.tok_config)
        report |= {"text": inputs.file, "share": 1.0, "baselines": baselines, "expected_bits_per_byte": None}
    else:
        val, baselines = _val_tokens(workspace, subject)
        limit = most_tokens or (LIGHT_TOKENS if suite == "light" else 0)
        piece = held_out(val, subject.config, subject.tok_config["bos_token_id"], limit)
        say(f"evaluate: {subject.name} on the held-out text, {piece.tokens:,} tokens")
        text = workspace.val_text.read_text(encoding="utf-8") if workspace.val_text.is_file() else ""
        found = bits.from_score(score(subject.model, piece, 8), len(text) / max(len(text.encode()), 1) if text else 1.0)
        if suite == "full" and train is not None:
            say("evaluate: a 5-gram beside (once)")
            baselines |= {"5-gram": bits.five_gram_bits(workspace, train, val, subject.tok_config), "xz": bits.xz_bits(text)}
        report |= {"text": "the held-out text", "share": piece.share, "baselines": baselines,
                   "expected_bits_per_byte": subject.facts.get("expected_bits_per_byte") or None}  # fmt: skip
    report |= {
        "bits_per_byte": found.value, "nats_per_token": found.details["nats_per_token"], "perplexity": found.details["perplexity"],
        "tokens": found.n, "bytes": found.details["bytes"], "interval": list(found.interval or ()),
    }  # fmt: skip
    return found


def _val_tokens(workspace: Workspace, subject: Subject) -> tuple[TokenFile, dict[str, float]]:
    """The held-out text in the model's own tokens, and the n-grams' bits per byte on it."""
    manifest = workspace.manifest(workspace.tokens_manifest)
    if manifest and subject.facts.get("tokenizer_sha256") in (None, manifest["tokenizer_sha256"]):
        return read_tokens(workspace.tokens / "val.bin"), dict(manifest["baselines"])
    corpus = workspace.manifest(workspace.need(workspace.corpus_manifest, "tatar-llm prepare")) or {}
    text = workspace.need(workspace.val_text, "tatar-llm prepare").read_text(encoding="utf-8")
    between = "\n" if corpus.get("document") == "line" else "\n\n"
    documents = [document.strip("\n") for document in text.split(between) if document.strip()]
    if not documents:
        raise TatarLLMError(f"{workspace.val_text} is empty: run `tatar-llm prepare` again")
    return encode_texts(subject.tokenizer, subject.tok_config, documents), dict((manifest or {}).get("baselines", {}))


def _train_tokens(workspace: Workspace, subject: Subject) -> TokenFile | None:
    """The training tokens, where the workspace has them in the model's own tokens."""
    manifest = workspace.manifest(workspace.tokens_manifest)
    if not manifest or subject.facts.get("tokenizer_sha256") not in (None, manifest.get("tokenizer_sha256")):
        return None
    return read_tokens(workspace.tokens / "train.bin")


def _has_generated(workspace: Workspace, subject: Subject) -> bool:
    corpus = workspace.manifest(workspace.corpus_manifest)
    return bool(corpus and corpus.get("generated_bytes") and corpus.get("corpus") == subject.facts.get("corpus"))


def prompted(subject: Subject, count: int) -> list[dict[str, Any]]:
    """Continuations of the language's prompts, seeds 0, 1, 2, ...: all of them, none selected."""
    prompts = [subject.language.prompts[number % len(subject.language.prompts)] for number in range(count)]
    settings = [Settings(max_new_tokens=SAMPLE_TOKENS, seed=number) for number in range(count)]
    found = generate_batch(*subject.all, prompts, settings)
    return [{"prompt": prompt, "continuation": texts[0].text, "seed": number}
            for number, (prompt, texts) in enumerate(zip(prompts, found, strict=True))]  # fmt: skip


def _samples(subject: Subject, workspace: Workspace, count: int) -> dict[str, Any]:
    made = prompted(subject, count)
    texts = [sample["continuation"] for sample in made]
    shares = {}
    if workspace.train_text.is_file():
        shares = {
            "known_words": known_word_share(map(whole_words, texts), workspace.train_text),
            "copied": copied_share(texts, workspace.train_text),
        }
    return {"samples": made, **shares}


def _is_small(workspace: Workspace, file: str) -> bool:
    corpus = workspace.manifest(workspace.corpus_manifest)
    return bool(corpus and corpus.get("small") and not file)
