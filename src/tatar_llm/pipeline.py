"""`tatar-llm run`: every stage, one after the other, within the minutes given."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tatar_llm.config import CorpusConfig, Recipe
from tatar_llm.console import human_time, say
from tatar_llm.errors import TatarLLMError
from tatar_llm.workspace import Workspace

if TYPE_CHECKING:
    from tatar_llm.training import ModelPlace

EVALUATION_SHARE = 0.07  # of the minutes, for scoring all held-out text
FIXED_SECONDS = 15.0  # samples, export and its check by reloading
SIDE_BY_SIDE = 3  # prompts that the shipped model continues too
SUITE_TOKENS = 100_000  # that the minimal pairs, facts and generated text take
LEAST_TOKENS = 20_000  # of held-out text, whatever the minutes
BYTES_A_MINUTE = {"cpu": 4_000_000, "mps": 20_000_000, "cuda": 200_000_000}  # text that training can use
LEAST_BYTES = 20_000_000  # a tokenizer wants this much whatever the minutes


class Stopwatch:
    """Seconds since it was last started."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.began = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self.began


def run_pipeline(
    workspace: Workspace,
    *,
    minutes: float,
    corpus: CorpusConfig,
    fallback: bool,
    recipe: Recipe,
    free_size: bool,
    on_validation: Callable | None = None,
) -> dict[str, Any]:
    """Corpus, tokenizer, training, evaluation, export; returns where everything lies and what was measured.

    `minutes` counts everything after the download. Time that one stage saves goes to training.
    """
    from tatar_llm.corpus import prepare
    from tatar_llm.device import find_device
    from tatar_llm.evaluation import evaluate
    from tatar_llm.tokenizer import encode_corpus, train_tokenizer
    from tatar_llm.training import ModelPlace
    from tatar_llm.training.start import train
    from tatar_llm.training.stop import Interrupted

    if not corpus.limit_bytes:
        usable = max(LEAST_BYTES, int(minutes * BYTES_A_MINUTE[find_device(recipe.train.device).type]))
        corpus = dataclasses.replace(corpus, limit_bytes=usable)
    say("1/5 corpus")
    clock = Stopwatch()
    manifest = prepare(corpus, workspace, fallback=fallback, on_ready=clock.start)
    say("2/5 tokenizer")
    train_tokenizer(recipe.tokenizer, workspace)
    tokens = encode_corpus(workspace)
    used = clock.seconds()
    budget = minutes * 60
    training = budget - used - EVALUATION_SHARE * budget - FIXED_SECONDS
    if training < 0.2 * budget:
        training = 0.2 * budget
        say(f"preparation took {human_time(used)} of {human_time(budget)}; training gets {human_time(training)} all the same")
    say(
        f"3/5 training: of {human_time(budget)}, preparation took {human_time(used)}, training gets "
        f"{human_time(training)}, evaluation and export the rest"
    )
    try:
        run = train(recipe, workspace, minutes=training / 60, free_size=free_size, on_validation=on_validation)
    except Interrupted as stop:
        error = TatarLLMError(
            "stopped in training, the checkpoint is written. Go on with: bash restart_training.sh "
            "(or tatar-llm train --resume)"
        )
        error.exit_code = stop.exit_code
        raise error from stop
    say("4/5 evaluation")
    rate = run.status().get("scoring_tokens_per_second", 1000.0)
    place = ModelPlace(run.label, run.best_model, run.tokenizer)
    report = evaluate(workspace, place, most_tokens=max(LEAST_TOKENS, int(rate * EVALUATION_SHARE * budget) - SUITE_TOKENS))
    say("5/5 export")
    exported = _export(workspace, place)
    seconds = clock.seconds()
    result = {
        "run": run.label,
        "corpus": manifest["corpus"],
        "fallback": manifest.get("fallback"),
        "training_tokens": tokens["train"]["tokens"],
        "bits_per_byte": report["bits_per_byte"],
        "baselines": report["baselines"],
        "minutes": round(seconds / 60, 2),
        "model": str(run.best_model),
        "curve": str(run.curve),
        "tokenizer": str(run.tokenizer),
        "corpus_report": str(workspace.processed / "report.md"),
        "report": str(workspace.reports / "report.md"),
        "export": exported,
        "samples": [sample["prompt"] + sample["continuation"] for sample in report["samples"][:5]],
    }
    result["side_by_side"] = _side_by_side(workspace, place, report)
    _tell(result, report)
    return result


def _side_by_side(workspace: Workspace, place: ModelPlace, report: dict[str, Any]) -> list[dict[str, str]]:
    """The language's first three prompts by the shipped model and by the new one; nothing where none is shipped."""
    from tatar_llm.evaluation.suite import prompted, read_subject
    from tatar_llm.training.runs import shipped

    other = shipped()
    if other is None or report["language"] != "tat":
        return []
    theirs = prompted(read_subject(workspace, other), SIDE_BY_SIDE)
    ours = prompted(read_subject(workspace, place), SIDE_BY_SIDE)
    return [{"prompt": one["prompt"], "shipped": one["continuation"], "yours": two["continuation"]}
            for one, two in zip(theirs, ours, strict=True)]  # fmt: skip


def _export(workspace: Workspace, place: Any) -> str | None:
    """The Hugging Face folder, where transformers is installed; the run is whole without it."""
    from tatar_llm.export import export_hf

    try:
        return str(export_hf(workspace, place, force=True))
    except TatarLLMError as error:
        say(f"not exported: {error}")
        return None


def _tell(result: dict[str, Any], report: dict[str, Any]) -> None:
    bigram = result["baselines"].get("bigram")
    say("")
    say(f"done in {result['minutes']:.1f} minutes: run {result['run']}, trained on {result['corpus']}")
    if result["fallback"]:
        say(f"note: {result['fallback']}")
    say(f"  held-out text   {result['bits_per_byte']:.3f} bits per byte (bigram {bigram:.3f})")
    if "known_words" in report:
        say(f"  samples         {report['known_words']:.1%} of the words are words of the training text, "
            f"{report['copied']:.1%} copied from it in runs of 8")  # fmt: skip
    for title, key in (("model", "model"), ("curve", "curve"), ("tokenizer", "tokenizer"), ("corpus report", "corpus_report"),
                       ("evaluation", "report"), ("Hugging Face", "export")):  # fmt: skip
        if result[key]:
            say(f"  {title:15} {result[key]}")
    say("\nThe first five samples (all twenty are in the evaluation report):")
    for text in result["samples"]:
        say(f"  {' '.join(text.split())}")
    for row in result["side_by_side"]:
        say(f"\n{row['prompt']}\n  shipped model: {' '.join(row['shipped'].split())}\n  yours:         {' '.join(row['yours'].split())}")
    say(f'\nYour turn: tatar-llm generate "{report["samples"][0]["prompt"].strip()} "')
