"""What each verb does: settings in, artefacts and a few lines out."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from tatar_llm.cli import given
from tatar_llm.config import (
    ChatConfig,
    CorpusConfig,
    GPTConfig,
    Recipe,
    TokenizerConfig,
    TrainConfig,
    from_values,
    load_recipe,
)
from tatar_llm.console import first_process, human_bytes, human_time, say
from tatar_llm.errors import TatarLLMError, UsageError
from tatar_llm.workspace import Workspace

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tatar_llm.generation import Continuation
    from tatar_llm.model import GPT
    from tatar_llm.training import ModelPlace
    from tatar_llm.training.validation import Score


def run(args: argparse.Namespace) -> int:
    """All stages within the minutes given."""
    from tatar_llm.pipeline import run_pipeline

    workspace = writable_workspace(args)
    result = run_pipeline(
        workspace,
        minutes=args.minutes,
        corpus=corpus_config(args),
        fallback=not args.source,
        recipe=chosen_recipe(args),
        free_size=size_is_free(args),
        on_validation=SampleWhileTraining(workspace),
    )
    emit(args, result)
    return 0


def prepare(args: argparse.Namespace) -> int:
    """Text in, train.txt and val.txt out."""
    from tatar_llm.corpus import prepare as prepare_corpus

    if args.list:
        return list_sources(args)
    if args.explain is not None:
        return explain_line(args)
    workspace = writable_workspace(args)
    manifest = prepare_corpus(
        corpus_config(args), workspace, force=args.force, fallback=not args.source
    )
    emit(args, manifest)
    return 0


def list_sources(args: argparse.Namespace) -> int:
    """A table of what `--source` knows for a language."""
    from tatar_llm.corpus.sources import listing
    from tatar_llm.languages import load_language

    language = load_language(corpus_config(args).language)
    rows = listing(language)
    if args.json:
        emit(args, {"language": language.code, "sources": rows})
        return 0
    licences = max((len(row["licence"]) for row in rows), default=7)
    print(f"{'name':28} {'download':>10}  {'licence':{licences}}  {'kind':15}  what")
    for row in rows:
        size = "none" if row["kind"] == "built in" else human_bytes(row["bytes"]) if row["bytes"] else "?"
        print(f"{row['name']:28} {size:>10}  {row['licence']:{licences}}  {row['kind']:15}  {row['what']}")
    code = language.leipzig or language.code
    say(
        f"--source takes a name above, a file or folder of your own, or the name of any archive of "
        f"https://wortschatz.uni-leipzig.de/en/download/{code} (they look like {code}_wikipedia_2021_30K); give it several "
        f"times to join them. ?: not known before the first download. Sources on Hugging Face need: "
        f"pip install huggingface_hub pyarrow. Whom to cite: --list --json."
    )
    return 0


def explain_line(args: argparse.Namespace) -> int:
    """What the cleaning does to one line."""
    from tatar_llm.corpus.explain import explain, render
    from tatar_llm.corpus.preparation import holdout

    config = corpus_config(args)
    told = explain(args.explain, config, Workspace(args.workspace), holdout(config))
    if not args.json:
        print(render(told))
    emit(args, told)
    return 0


def tokenizer(args: argparse.Namespace) -> int:
    """Learn a tokenizer, then encode the corpus with it; or compare several."""
    from tatar_llm.tokenizer import encode_corpus, train_tokenizer

    if args.compare is not None:
        return compare_tokenizers(args)
    if args.types or args.minutes:
        raise UsageError(f"--{'types' if args.types else 'minutes'} belongs to --compare SIZES, as in --compare 4k,8k,16k")
    workspace = writable_workspace(args)
    config = from_values(TokenizerConfig, given(args, TokenizerConfig), "command line")
    facts = train_tokenizer(config, workspace, force=args.force)
    tokens = None
    elsewhere = config.output_dir and not _same_folder(config.output_dir, workspace)
    if workspace.corpus_manifest.is_file() and not elsewhere:
        tokens = encode_corpus(workspace, force=args.force)
    emit(args, {"tokenizer": facts, "tokens": tokens})
    return 0


def compare_tokenizers(args: argparse.Namespace) -> int:
    """Tokenizers of several types and sizes side by side."""
    from tatar_llm.evaluation.tokenizer_report import table
    from tatar_llm.evaluation.tokenizers import compare_tokenizers as compare
    from tatar_llm.evaluation.tokenizers import read_candidates
    from tatar_llm.training.stop import Interrupted

    candidates = read_candidates(args.compare, args.types or "")
    settings = given(args, TokenizerConfig)
    if fixed := [name for name in settings if name != "min_frequency"]:
        raise UsageError(f"--compare learns tokenizers of its own: leave out --{fixed[0]}")
    workspace = writable_workspace(args)
    try:
        report = compare(workspace, candidates, minutes=args.minutes, **settings)
    except Interrupted as stop:
        say("stopped. What was finished is kept; the same command goes on from there.")
        return stop.exit_code
    if not args.json:
        print(f"{table(report)}\n\n{report['reason']}\n{report['certainty']}")
    say(f"report: {workspace.reports / 'tokenizers.md'}")
    emit(args, report)
    return 0


def train(args: argparse.Namespace) -> int:
    """Train a new run, or go on with the last."""
    from tatar_llm.training.distributed import launch, under_torchrun
    from tatar_llm.training.start import resume
    from tatar_llm.training.start import train as start_training
    from tatar_llm.training.stop import Interrupted

    workspace = writable_workspace(args)
    if args.nproc > 1 and not under_torchrun():
        return launch(args.nproc, args.arguments, args.default_recipe)
    sampler = SampleWhileTraining(workspace)
    try:
        if args.resume:
            _refuse_changes(args)
            finished = resume(workspace, on_validation=sampler, started=args.started)
        else:
            recipe = chosen_recipe(args)  # first: a mistyped flag must not wait for the encoding
            if args.vocab_size:
                say("the vocabulary comes from the tokenizer: --vocab_size belongs to `tatar-llm tokenizer`")
            if first_process():
                encode_if_stale(workspace)
            finished = start_training(
                recipe, workspace, minutes=args.minutes, free_size=size_is_free(args),
                on_validation=sampler, started=args.started,
            )  # fmt: skip
    except Interrupted as stop:
        say(f"stopped, the checkpoint is written. Go on with: {resume_command(workspace)}")
        return stop.exit_code
    if not first_process():
        return 0
    say(f"model: {finished.best_model}\ncurve: {finished.curve}")
    emit(args, {"run": finished.label, "settings": finished.settings(), **finished.status()})
    return 0


def finetune(args: argparse.Namespace) -> int:
    """Teach a model to answer."""
    import dataclasses

    from tatar_llm.chat import tune
    from tatar_llm.training import find_model
    from tatar_llm.training.stop import Interrupted

    workspace = writable_workspace(args)
    changes = given(args, TrainConfig)
    if args.resume and (named := [*changes, *given(args, ChatConfig), *(name for name in ("minutes", "model") if getattr(args, name))]):
        raise UsageError(f"--resume keeps the run's settings: leave out --{named[0]}, or start a new run without --resume")
    settings = dataclasses.replace(tune.TRAIN, **changes)
    try:
        if args.resume:
            done = tune.resume(workspace, started=args.started)
        else:
            minutes = args.minutes if args.minutes is not None else (0.0 if "max_iters" in changes else tune.MINUTES)
            config = from_values(ChatConfig, given(args, ChatConfig), "command line")
            done = tune.finetune(workspace, find_model(workspace, args.model), config, settings, minutes=minutes, started=args.started)
    except Interrupted as stop:
        say(f"stopped, the checkpoint is written. Go on with: tatar-llm finetune --resume{_workspace_flag(workspace)}")
        return stop.exit_code
    say(f"talk to it: tatar-llm chat{_workspace_flag(workspace)}")
    emit(args, {"run": done.label, "settings": done.settings(), **done.status()})
    return 0


def chat(args: argparse.Namespace) -> int:
    """Talk to the model, or have one question answered."""
    from tatar_llm.chat import Speaker, Turn
    from tatar_llm.chat.terminal import Terminal
    from tatar_llm.generation import Settings
    from tatar_llm.training import find_model

    place = find_model(Workspace(args.workspace), args.model, chat=True)
    introduce(place)
    speaker = Speaker.load(place)
    if not speaker.chat:
        say("note: this model only continues texts and has not learnt to answer: tatar-llm finetune teaches it")
    temperature = speaker.temperature if args.temperature is None else args.temperature
    settings = Settings(args.max_new_tokens, temperature, args.top_k, seed=args.seed)
    if args.question:
        turns = [Turn("system", args.system)] if args.system else []
        for piece in speaker.stream([*turns, Turn("user", args.question)], settings):
            print(piece, end="", flush=True)
        print(flush=True)
        return 0
    Terminal(speaker, settings, args.system).run()
    return 0


def runs(args: argparse.Namespace) -> int:
    """A table of all runs."""
    from tatar_llm.training import find_model, list_runs

    workspace = Workspace(args.workspace)
    rows = []
    for item in list_runs(workspace):
        settings, status = item.settings(), item.status()
        rows.append(
            {
                "run": item.label,
                "state": status.get("state"),
                "parameters": settings.get("parameters"),
                "corpus": f"answers, taught to {settings.get('base')}" if item.is_chat() else settings.get("corpus"),
                "steps": status.get("step"),
                "seconds": status.get("seconds", 0),
                "bits_per_byte": item.bits_per_byte(),
                "bigram": settings.get("baselines", {}).get("bigram"),
            }
        )
    if args.json:
        emit(args, {"runs": rows})
        return 0
    if not rows:
        say("no runs yet: start one with `tatar-llm train`")
        return 0
    print(f"{'run':24} {'state':9} {'size':>8} {'time':>10} {'steps':>8} {'bits/byte':>9}  {'bigram':>6}  corpus")
    for row in rows:
        bits = f"{row['bits_per_byte']:.3f}" if row["bits_per_byte"] else "-"
        bigram = f"{row['bigram']:.3f}" if row["bigram"] else "-"
        print(
            f"{row['run']:24} {row['state']:9} {row['parameters'] / 1e6:6.1f} M {human_time(row['seconds']):>10} "
            f"{row['steps']:8,} {bits:>9}  {bigram:>6}  {row['corpus']}"
        )
    if any(row["bits_per_byte"] for row in rows):
        say(f"without --model, {find_model(workspace).name} speaks")
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Measure a model, write the report, show its head."""
    from tatar_llm.evaluation import Inputs
    from tatar_llm.evaluation import evaluate as measure
    from tatar_llm.evaluation.report import compare, markdown
    from tatar_llm.model import load_model_file
    from tatar_llm.training import find_model

    workspace = writable_workspace(args)
    inputs = Inputs(args.file, args.protocol, args.pairs, args.facts, args.choices, args.topics)
    places = [find_model(workspace, name) for name in [*args.models, *([args.model] if args.model else [])] or [""]]
    talk = len(places) > 1 and any(load_model_file(place.model).get("chat") for place in places)
    reports = [measure(workspace, place, suite=args.suite, inputs=inputs, samples=args.samples, talk=talk) for place in places]
    several = len(reports) > 1
    text = compare(workspace, reports) if several else markdown(reports[0])
    if not args.json:
        print(text)
    name = "comparison.md" if several else f"{args.protocol or 'report'}.html"
    say(f"report: {workspace.reports / name}")
    emit(args, {"models": reports} if several else reports[0])
    return 0


def generate(args: argparse.Namespace) -> int:
    """Continue a prompt, streaming; several texts side by side."""
    from tatar_llm.generation import Settings, generate_batch, stream
    from tatar_llm.model import load_model
    from tatar_llm.tokenizer import load_tokenizer
    from tatar_llm.training import find_model

    if not args.samples:
        raise UsageError("--samples 0 asks for nothing: take 1 or more")
    settings = Settings(
        args.max_new_tokens, args.temperature, args.top_k, args.top_p, args.seed, args.min_p, args.repetition_penalty,
        args.no_repeat_ngram, tuple(args.stop), args.logprobs,
    )  # fmt: skip
    prompts = read_prompts(args)
    place = find_model(Workspace(args.workspace), args.model)
    introduce(place)
    model, _ = load_model(place.model)
    vocabulary, config = load_tokenizer(place.tokenizer)
    if len(prompts) == args.samples == 1 and not args.json:
        print(prompts[0], end="", flush=True)
        for piece in stream(model, vocabulary, config, prompts[0], settings):
            print(piece, end="", flush=True)
        print(flush=True)
        return 0
    found = generate_batch(model, vocabulary, config, prompts, settings, args.samples)
    if not args.json:
        for prompt, texts in zip(prompts, found, strict=True):
            for one in texts:
                print(prompt + one.text)
        return 0
    made = [
        {"prompt": prompt, "texts": [prompt + one.text for one in texts], "finish_reasons": [one.reason for one in texts]}
        | ({"tokens": [_scored(vocabulary, one) for one in texts]} if args.logprobs is not None else {})
        for prompt, texts in zip(prompts, found, strict=True)
    ]
    emit(args, {"model": place.name, **(made[0] if not args.prompts else {"prompts": made})})
    return 0


def read_prompts(args: argparse.Namespace) -> list[str]:
    """The prompt, or the lines of --prompts."""
    if not args.prompts:
        return [args.prompt]
    if args.prompt:
        raise UsageError("give a prompt or --prompts FILE, not both")
    from pathlib import Path

    try:
        lines = Path(args.prompts).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"{args.prompts} is not UTF-8 (byte {error.start}): convert it to UTF-8 first") from error
    if not any(lines):
        raise UsageError(f"{args.prompts} is empty: write a prompt on each line")
    return [line for line in lines if line]


def _scored(vocabulary: Tokenizer, made: Continuation) -> list[dict[str, Any]]:
    """Each token with its log-probability and the likeliest others."""
    def text(token: int) -> str:
        return vocabulary.decode([token], skip_special_tokens=False)

    return [{"token": text(score.token), "logprob": score.logprob, "others": {text(one): value for one, value in score.alternatives}}
            for score in made.scores]  # fmt: skip


def suggest(args: argparse.Namespace) -> int:
    """Finish a word."""
    from tatar_llm.generation import Suggester
    from tatar_llm.model import load_model
    from tatar_llm.tokenizer import load_tokenizer
    from tatar_llm.training import find_model

    place = find_model(Workspace(args.workspace), args.model)
    introduce(place)
    found = Suggester(load_model(place.model)[0], *load_tokenizer(place.tokenizer)).suggest(args.text, args.n)
    if not args.json:
        for one in found:
            print(f"{one.word}\t{one.probability:.3f}")
        if not found:
            say("no word begins like this, as far as the model knows")
    emit(args, {"model": place.name, "text": args.text, "suggestions": [vars(one) for one in found]})
    return 0


def export(args: argparse.Namespace) -> int:
    """Write the model for other programs."""
    from tatar_llm.export import EXPORTS
    from tatar_llm.training import find_model

    kind = EXPORTS[args.format]
    dtype = args.dtype or kind.dtypes[0]
    if dtype not in kind.dtypes:
        raise UsageError(f"--dtype {dtype}: export {args.format} knows {', '.join(kind.dtypes)}")
    if args.runtime and args.format != "web":
        raise UsageError(f"--runtime belongs to export web: export {args.format} needs none")
    workspace = writable_workspace(args)
    place = find_model(workspace, args.model)
    more = {"runtime": args.runtime} if args.runtime else {}
    folder = kind.write(workspace, place, args.out, force=args.force, dtype=dtype, **more)
    say(f"exported {place.name} -> {folder} ({kind.proof})")
    emit(args, {"model": place.name, "folder": str(folder)})
    return 0


def publish(args: argparse.Namespace) -> int:
    """Upload the model to the Hugging Face Hub."""
    from tatar_llm.export.hub import Publication
    from tatar_llm.export.hub import publish as publish_model
    from tatar_llm.training import find_model
    from tatar_llm.training.runs import SHIPPED

    workspace = Workspace(args.workspace)
    place = find_model(workspace, args.model)
    if place.name == SHIPPED and args.model != SHIPPED:
        raise TatarLLMError(
            "nothing has been trained here, and the shipped model needs no publishing: whoever installs tatar-llm has it. "
            "Train one with `tatar-llm run`; to publish a copy all the same, take --model shipped"
        )
    done = publish_model(
        workspace, place,
        Publication(args.repo, args.public, args.dtype, args.message, args.licence, args.force, args.dry_run),
    )  # fmt: skip
    if args.dry_run:
        say(f"dry run: nothing was sent{'' if args.json else '; the card, README.md:'}")
    else:
        say(f"published {place.name}, commit {done['commit'][:8]}")
    if not args.json:
        print(done["card"] if args.dry_run else done["url"])
    emit(args, done)
    return 0


def serve(args: argparse.Namespace) -> int:
    """Answer requests until told to stop."""
    from tatar_llm.serving import Limits
    from tatar_llm.serving import serve as answer_requests
    from tatar_llm.training import find_model

    place = find_model(Workspace(args.workspace), args.model, chat=True)
    introduce(place)
    answer_requests(
        place, host=args.host, port=args.port, api_key=args.api_key, cors=args.cors, web=args.web, limits=Limits(tokens=args.max_tokens)
    )
    return 0


def doctor(args: argparse.Namespace) -> int:
    """What this machine can do."""
    from tatar_llm.device import choose_execution
    from tatar_llm.doctor import examine, write_bug_report
    from tatar_llm.training.planner import compile_pays

    facts = examine()
    if not args.json:
        print("tatar-llm {tatar_llm}, Python {python}, torch {torch}, {platform}".format(**facts))
        for reason in facts["reasons"]:
            print(reason)
        print(f"compiling an hour-long run: {compile_pays(choose_execution(), 3600)[1]}")
        print(f"measured {facts['gflops']} GFLOP/s in training steps, {facts['share_of_peak']:.0%} of what matrix products "
              f"alone reach\n")  # fmt: skip
        print(f"{'recipe':8} {'size':>9} {'memory':>9} {'tokens/s':>10} {'10 M tokens':>13}")
        for row in facts["recipes"]:
            hours, memory = human_time(row["hours_for_10M_tokens"] * 3600), human_bytes(row["memory_bytes"])
            print(f"{row['recipe']:8} {row['parameters'] / 1e6:7.1f} M {memory:>9} {row['tokens_per_second']:10,} {hours:>13}")
        print("\ntatar-llm train --minutes M chooses the size that fits M minutes here.")
    if args.report:
        path = writable_workspace(args).root / "doctor-report.md"
        write_bug_report(path, facts)
        say(f"report written to {path}: put it into an issue when something is wrong on this machine")
    emit(args, facts)
    return 0


# -- what several verbs share ------------------------------------------------------------------------------------


class SampleWhileTraining:
    """Beside a validation: a line of generated text, at most one every 30 seconds; grammar, one every 10 minutes."""

    SAMPLE_SECONDS, GRAMMAR_SECONDS = 30, 600

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.last = 0.0
        self.last_grammar = time.monotonic()

    def __call__(self, model: GPT, step: int, score: Score) -> None:
        from tatar_llm.generation import Settings, stream
        from tatar_llm.languages import find_language
        from tatar_llm.tokenizer import load_tokenizer

        if time.monotonic() - self.last < self.SAMPLE_SECONDS:
            return
        manifest = self.workspace.manifest(self.workspace.corpus_manifest) or {}
        prompt = find_language(manifest.get("language", "tat"), self.workspace.processed).prompts[0]
        vocabulary, config = load_tokenizer(self.workspace.tokenizer)
        text = "".join(stream(model, vocabulary, config, prompt, Settings(max_new_tokens=24, seed=0)))
        say(f"step {step:,}, held-out {score.bits_per_byte:.3f} bits/byte: {prompt}{' '.join(text.split())}")
        self.last = time.monotonic()
        if manifest.get("language") == "tat" and self.last - self.last_grammar >= self.GRAMMAR_SECONDS:
            from tatar_llm.evaluation.pairs import minimal_pairs, read_pairs

            found = minimal_pairs(model, vocabulary, config, read_pairs()[::10])
            say(f"step {step:,}, right form preferred in {found.value:.0%} of {found.n} minimal pairs (50% by chance)")
            self.last_grammar = time.monotonic()


def writable_workspace(args: argparse.Namespace) -> Workspace:
    """The workspace, once it is known that it can be written."""
    workspace = Workspace(args.workspace)
    workspace.ensure_writable()
    return workspace


def corpus_config(args: argparse.Namespace) -> CorpusConfig:
    """What the user set of the corpus's settings."""
    return from_values(CorpusConfig, given(args, CorpusConfig), "command line")


def chosen_recipe(args: argparse.Namespace) -> Recipe:
    """The recipe, with what the user set on the command line."""
    overrides = {}
    for kind in (TokenizerConfig, GPTConfig, TrainConfig):
        overrides |= given(args, kind)
    return load_recipe(args.recipe or args.default_recipe, overrides)


def size_is_free(args: argparse.Namespace) -> bool:
    """Whether the planner may choose the network: the user named neither a recipe nor a part of the network."""
    fixed = given(args, GPTConfig).keys() - {"vocab_size", "block_size"}
    fixed |= given(args, TrainConfig).keys() & {
        "batch_size", "gradient_accumulation_steps", "max_iters", "learning_rate", "schedule",
        "optimizer", "muon_rate", "min_lr", "warmup_iters", "beta2",
    }  # fmt: skip
    return args.recipe is None and not fixed


def encode_if_stale(workspace: Workspace) -> None:
    """Token files follow the tokenizer and the text: written anew where one of them has changed."""
    from tatar_llm.tokenizer import encode_corpus

    workspace.need(workspace.train_text, "tatar-llm prepare")
    workspace.need(workspace.tokenizer / "tokenizer.json", "tatar-llm tokenizer")
    encode_corpus(workspace)


def introduce(place: ModelPlace) -> None:
    """Say which model speaks, and on what it was trained."""
    from tatar_llm.model import load_model_file

    facts = load_model_file(place.model)
    bits = facts.get("val", {}).get("bits_per_byte")
    measured = f", {bits:.3f} bits per byte" if bits else ""
    say(f"model {place.name}, trained on {facts.get('corpus') or 'unknown text'}{measured}")
    if facts.get("fallback"):
        say(f"note: {facts['fallback']}")


def resume_command(workspace: Workspace) -> str:
    """What to type to go on with the last run."""
    return f"tatar-llm train --resume{_workspace_flag(workspace)}"


def _workspace_flag(workspace: Workspace) -> str:
    return "" if str(workspace.root) == "." else f' --workspace "{workspace.root}"'


def _refuse_changes(args: argparse.Namespace) -> None:
    """A resumed run keeps its settings: a flag that asks for others is a mistake, not to be passed over."""
    changed = [*given(args, GPTConfig), *given(args, TrainConfig)]
    changed += [name for name in ("recipe", "minutes") if getattr(args, name)]
    if changed:
        raise UsageError(f"--resume keeps the run's settings: leave out --{changed[0]}, or start a new run without --resume")


def _same_folder(folder: str, workspace: Workspace) -> bool:
    from pathlib import Path

    return Path(folder).resolve() == workspace.tokenizer.resolve()


def emit(args: argparse.Namespace, result: dict[str, Any]) -> None:
    """With --json, the result as the one thing on standard output."""
    if getattr(args, "json", False):
        json.dump(result, sys.stdout, ensure_ascii=False, indent=1)
        sys.stdout.write("\n")
