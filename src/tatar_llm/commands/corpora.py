"""Verbs from text to tokens: prepare, tokenizer."""

from __future__ import annotations

import argparse
from pathlib import Path

from tatar_llm.cli import given
from tatar_llm.commands.shared import corpus_config, emit, writable_workspace
from tatar_llm.config import TokenizerConfig, from_values
from tatar_llm.console import human_bytes, say
from tatar_llm.errors import UsageError
from tatar_llm.workspace import Workspace


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


def _same_folder(folder: str, workspace: Workspace) -> bool:
    return Path(folder).resolve() == workspace.tokenizer.resolve()
