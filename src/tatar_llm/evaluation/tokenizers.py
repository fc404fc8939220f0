"""`tatar-llm tokenizer --compare`: tokenizers of several types and sizes on the same text, down to what a small model makes of them."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tatar_llm.config import GPTConfig, TokenizerConfig, TrainConfig
from tatar_llm.console import human_time, say
from tatar_llm.errors import TatarLLMError, UsageError, nearest
from tatar_llm.evaluation.segmentation import morpheme_agreement, token_statistics
from tatar_llm.evaluation.tokenizer_report import no_morphemes, recommend, title, write_report
from tatar_llm.tokenizer import TokenFile, encode_texts, load_tokenizer, train_tokenizer
from tatar_llm.tokenizer.baselines import ngram_baselines
from tatar_llm.tokenizer.encode import cut, documents
from tatar_llm.tokenizer.fast import Encoder
from tatar_llm.tokenizer.train import LARGEST_VOCABULARY, SMALLEST_VOCABULARY
from tatar_llm.training.bare import BareRun, bare_run
from tatar_llm.training.planner import most_passes, timed_settings
from tatar_llm.workspace import Workspace, fingerprint, sha256_file

TYPES = ("bpe", "unigram")
DEFAULT_MINUTES = 2.0  # of training for each tokenizer
TRAIN_BYTES = 16 << 20
"""Text that is encoded and trained on at most: more than a small network reads in these minutes."""
VAL_BYTES = 256 << 10
"""Held-out text at most, the same for every tokenizer."""
SPEED_BYTES = 4 << 20
"""Text that the speed of encoding is measured on."""
NETWORK = GPTConfig(n_layer=2, n_head=2, n_embd=128, block_size=256)
PROBE_STEPS, PROBE_ROUNDS = 8, 3
FORMAT = 1  # of the kept rows


@dataclass(frozen=True)
class Candidate:
    """A tokenizer to compare."""

    type: str
    size: int

    @property
    def name(self) -> str:
        return f"{self.type}-{self.size}"


@dataclass(frozen=True)
class Texts:
    """What every tokenizer is measured on."""

    train: list[str]
    val: list[str]
    language: str
    made_from: dict[str, Any]
    """Hashes of the texts and what else the rows depend on."""


@dataclass(frozen=True)
class Encoded:
    """The texts in one tokenizer's tokens."""

    train: TokenFile
    val: TokenFile
    config: GPTConfig
    bos: int

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of training text behind a token."""
        return float(self.train.bytes / len(self.train.ids))


class Kept:
    """Rows of a JSON-lines file by what they were made from: what stands there is not made again."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, dict(_rows(path))

    def row(self, made_from: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The row of `made_from`, made and written now where there is none."""
        key = fingerprint(made_from)
        if key not in self.rows:
            self.rows[key] = make()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps({"key": key, "row": self.rows[key]}) + "\n")
        return self.rows[key]


def _rows(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found = json.loads(line)
            yield found["key"], found["row"]
        except (ValueError, KeyError, TypeError):  # the line being written when the machine went down
            continue


# -- what is asked for ---------------------------------------------------------------------------------------------


def read_candidates(sizes: str, types: str = "") -> list[Candidate]:
    """"4k,8k" and "bpe,unigram" -> four candidates; k is 1,024. Raises UsageError for what is none."""
    found = [Candidate(type, size) for type in _read_types(types) for size in sorted(set(map(_read_size, _parts(sizes))))]
    if not found:
        raise UsageError("--compare needs sizes of vocabularies, as in --compare 4k,8k,16k")
    return found


def _parts(text: str) -> list[str]:
    return [part.strip().lower() for part in text.split(",") if part.strip()]


def _read_types(text: str) -> list[str]:
    found = list(dict.fromkeys(_parts(text))) or list(TYPES)
    for type in found:
        if type not in TYPES:
            raise UsageError(f"--types {type}: there are {', '.join(TYPES)}{nearest(type, TYPES)}")
    return found


def _read_size(text: str) -> int:
    try:
        size = int(text.removesuffix("k")) * (1024 if text.endswith("k") else 1)
    except ValueError:
        raise UsageError(f"--compare {text}: a size is a number of tokens, as in 8192 or 8k") from None
    if size == 1 << 16:  # what people mean by 64k is as many as ids can tell apart
        size = LARGEST_VOCABULARY
    if not SMALLEST_VOCABULARY <= size <= LARGEST_VOCABULARY:
        raise UsageError(f"--compare {text}: a vocabulary has {SMALLEST_VOCABULARY} (every byte and the special tokens) to {LARGEST_VOCABULARY} tokens")
    return size


# -- the comparison ------------------------------------------------------------------------------------------------


def compare_tokenizers(
    workspace: Workspace, candidates: list[Candidate], *, minutes: float = 0.0, network: GPTConfig | None = None, min_frequency: int = 2
) -> dict[str, Any]:
    """Learn each tokenizer on the workspace's text, measure it, train a small network twice with it; write the report.

    What was measured is kept below data/compare/ and not done again while text and settings stay the same.

    Args:
        minutes: for all trainings together; 0 takes DEFAULT_MINUTES a tokenizer.
        network: the small network, NETWORK if not given; its vocabulary is each tokenizer's.
        min_frequency: of BPE.

    Returns:
        The content of reports/tokenizers.json: texts, rows, recommendation.

    Raises:
        TatarLLMError: no text, or too little. Interrupted: stopped by the user; finished rows are kept.
    """
    minutes, network = minutes or DEFAULT_MINUTES * len(candidates), network or NETWORK
    texts = read_texts(workspace)
    say(f"{len(candidates)} tokenizers on {sum(map(_size, texts.train)):,} bytes of training text and {sum(map(_size, texts.val)):,} of held-out text; "
        f"then two trainings with each, of a network of {network.n_layer} layers, width {network.n_embd}: about "
        f"{human_time(60 * minutes)} together (--minutes), on top of learning and measuring")  # fmt: skip
    if texts.language != "tat":
        say(f"morpheme ends are left out: {no_morphemes(texts.language)}")
    kept = Kept(workspace.comparison / "rows.jsonl")
    rows: list[dict[str, Any]] = []
    encoded: list[Encoded] = []
    for candidate in candidates:
        tokenizer, config, made_from = _learn(workspace, candidate, texts, min_frequency)
        if made_from in [row["made_from"] for row in rows]:
            say(f"{candidate.name} is left out: this text gives the same tokenizer as for the smaller size")
            continue
        train, val = (encode_texts(tokenizer, config, part) for part in (texts.train, texts.val))
        shape = dataclasses.replace(network, vocab_size=config["vocab_size"])
        encoded.append(Encoded(train, val, shape, config["bos_token_id"]))
        measured = kept.row(made_from, functools.partial(measures, tokenizer, config, texts, encoded[-1]))
        head = {"type": candidate.type, "requested": candidate.size, "vocab_size": config["vocab_size"], "parameters": shape.parameters()}
        rows.append({**head, **measured, "made_from": made_from})
    _train_all(rows, encoded, kept, 60 * minutes)
    report = {
        "minutes": minutes, "language": texts.language, "train_bytes": sum(map(_size, texts.train)), "val_bytes": sum(map(_size, texts.val)),
        "network": {name: getattr(network, name) for name in ("n_layer", "n_embd", "block_size")}, "rows": rows, **recommend(rows),
    }  # fmt: skip
    write_report(workspace, report)
    return report


def _learn(
    workspace: Workspace, candidate: Candidate, texts: Texts, min_frequency: int
) -> tuple[Tokenizer, dict[str, Any], dict[str, Any]]:
    """The tokenizer, its config, and what its rows are made from; learnt only where it is not there yet."""
    folder = workspace.comparison / candidate.name
    settings = TokenizerConfig(
        vocab_size=candidate.size, min_frequency=min_frequency, type=candidate.type, train_file=str(workspace.train_text), output_dir=str(folder)
    )
    sha256 = train_tokenizer(settings, workspace)["tokenizer_sha256"]
    return *load_tokenizer(folder), {**texts.made_from, "tokenizer": sha256}


def read_texts(workspace: Workspace) -> Texts:
    """The workspace's text, a part of it where it is long."""
    manifest = workspace.manifest(workspace.need(workspace.corpus_manifest, "tatar-llm prepare"))
    if manifest is None:
        raise TatarLLMError(f"{workspace.corpus_manifest} is damaged: run `tatar-llm prepare` again")
    paths = {name: workspace.need(path, "tatar-llm prepare") for name, path in (("train", workspace.train_text), ("val", workspace.val_text))}
    train, val = part_of(paths["train"], manifest["document"], TRAIN_BYTES), part_of(paths["val"], manifest["document"], VAL_BYTES)
    if not train or not val:
        raise TatarLLMError("the text is too short to compare tokenizers on: run `tatar-llm prepare` with more")
    hashes = {name: sha256_file(path) for name, path in paths.items()}
    return Texts(train, val, manifest["language"], {**hashes, "document": manifest["document"], "bytes": [TRAIN_BYTES, VAL_BYTES], "format": FORMAT})


def part_of(path: Path, kind: str, most: int) -> list[str]:
    """The documents of a processed text; of a text of more than `most` bytes about so many, from all over it, books in pieces."""
    if path.stat().st_size <= most:
        return list(documents(path, kind))
    rng, share = random.Random(0), most / path.stat().st_size
    return [piece for document in documents(path, kind) for piece in cut(document) if rng.random() < share]


def _size(text: str) -> int:
    return len(text.encode()) + 1


def measures(tokenizer: Tokenizer, config: dict[str, Any], texts: Texts, encoded: Encoded) -> dict[str, Any]:
    """What can be told of a tokenizer without a network."""
    found: dict[str, Any] = token_statistics(tokenizer, config, "\n".join(texts.val), encoded.train)
    if texts.language == "tat":
        found["morpheme_agreement"] = morpheme_agreement(tokenizer).value
    found["encode_megabytes_per_second"] = encode_speed(tokenizer, texts.train)
    baselines = ngram_baselines(encoded.train.ids, encoded.val.ids, encoded.val.bytes, config["vocab_size"], config["bos_token_id"])
    return found | {"bigram": baselines["bigram"]}


def encode_speed(tokenizer: Tokenizer, texts: list[str]) -> float:
    """MB/s on all cores, as in the middle of a long text: with the faster way chosen and the caches filled."""
    part = [piece for text in texts for piece in cut(text)]
    part = part[: 1 + sum(size < SPEED_BYTES for size in itertools.accumulate(map(_size, part)))]
    encoder = Encoder(tokenizer)
    encoder(part)
    began = time.perf_counter()
    encoder(part)
    return sum(map(_size, part)) / 1e6 / (time.perf_counter() - began)


# -- the small network ---------------------------------------------------------------------------------------------


def _train_all(rows: list[dict[str, Any]], encoded: list[Encoded], kept: Kept, seconds: float) -> None:
    """Both trainings with every tokenizer, within about `seconds` together; adds their results to the rows."""
    shape = dataclasses.asdict(dataclasses.replace(encoded[0].config, vocab_size=1))
    everything = {"made_from": [row["made_from"] for row in rows], "seconds": seconds, "network": shape}
    plan = kept.row(everything, functools.partial(make_plan, encoded, seconds))
    for number, (row, one) in enumerate(zip(rows, encoded, strict=True)):
        row["train_megabytes_per_second"] = plan["speeds"][number] / 1e6
        for kind in ("equal_text", "equal_time"):
            steps = plan[kind][number]
            say(f"{title(row)}, {kind.replace('_', ' ')}: {steps:,} steps, {one.config.parameters() / 1e6:.2f} M parameters")
            made_from = {**row["made_from"], "steps": steps, "network": shape}
            done = kept.row(made_from, functools.partial(_result, one, steps))
            row[kind] = {**done, "steps": steps, "passes": steps * _step_tokens(one) / len(one.train.ids)}
        del row["made_from"]


def make_plan(encoded: list[Encoded], seconds: float) -> dict[str, Any]:
    """Steps of both trainings with each tokenizer: half of `seconds` for the same text, half for the same time.

    The machine may be shared, and faster in one minute than in the next. So no clock ends a training: the speed of every
    network, in bytes of text a second, is measured just before, in turn, and the time turned into steps.
    """
    speeds = measure_speeds(encoded)
    most = [most_passes(len(one.train.ids), one.config.parameters()) * one.train.bytes for one in encoded]
    text, each = seconds / 2 / sum(1 / speed for speed in speeds), seconds / 2 / len(encoded)
    longest = min(limit / speed for limit, speed in zip(most, speeds, strict=True))
    if text > min(most) or each > longest:
        say("more passes over so little text would only learn it by heart: the trainings are shorter than --minutes")
    text, each = min(text, *most), min(each, longest)
    return {
        "speeds": speeds,
        "equal_text": [_steps(one, text) for one in encoded],
        "equal_time": [_steps(one, each * speed) for one, speed in zip(encoded, speeds, strict=True)],
    }


def measure_speeds(encoded: list[Encoded]) -> list[float]:
    """Bytes of text a second in training with each tokenizer: the networks take turns, the median of all rounds counts."""
    found: list[list[float]] = [[] for _ in encoded]
    for _ in range(PROBE_ROUNDS):
        for speeds, one in zip(found, encoded, strict=True):
            rows = train_small(one, PROBE_STEPS, log_interval=2, validation_tokens=1).metrics
            speeds += [row["tokens_per_second"] * one.bytes_per_token for row in rows if row["step"] > 1 and "tokens_per_second" in row]
    return [statistics.median(speeds) for speeds in found]


def _settings(one: Encoded) -> TrainConfig:
    """Those of a short `train --minutes`."""
    return timed_settings(TrainConfig(patience=0), one.config, 1)


def _step_tokens(one: Encoded) -> int:
    return _settings(one).batch_size * one.config.block_size


def _steps(one: Encoded, size: float) -> int:
    """Steps that read `size` bytes of text."""
    return max(1, round(size / one.bytes_per_token / _step_tokens(one)))


def train_small(one: Encoded, steps: int, *, log_interval: int = 20, validation_tokens: int = 0) -> BareRun:
    """Train the small network from scratch, and measure it at the end."""
    settings = dataclasses.replace(_settings(one), log_interval=log_interval)
    return bare_run(
        one.train, one.val, one.config, settings, steps=steps, micro_batch=settings.batch_size, accumulation=1, bos=one.bos,
        validation_tokens=validation_tokens, seed=0, validations=1,
    )  # fmt: skip


def _result(one: Encoded, steps: int) -> dict[str, Any]:
    done = train_small(one, steps)
    return {"bits_per_byte": done.final, "training": done.training, "seconds": round(done.seconds, 2)}
