"""The command line: verb -> function. torch is imported only inside the verbs that need it."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from tatar_llm import __version__
from tatar_llm.config import (
    ChatConfig,
    CorpusConfig,
    GPTConfig,
    TokenizerConfig,
    TrainConfig,
    field_help,
    field_types,
    recipe_names,
)
from tatar_llm.console import say, say_error, use_utf8
from tatar_llm.errors import TatarLLMError, UsageError, explain_os_error, nearest


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, exit code 2, and name the nearest option there is."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")

    def options(self) -> list[str]:
        """All long options of this parser."""
        return [option for action in self._actions for option in action.option_strings if option.startswith("--")]


def build_parser(prog: str = "tatar-llm") -> Parser:
    """The parser of every verb and flag."""
    parser = Parser(
        prog=prog,
        description="From Tatar text to a small language model, on the machine you have.",
        epilog="Start with `tatar-llm run --minutes 5`. Each verb explains its flags: tatar-llm VERB --help.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tatar-llm {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)

    def verb(name: str, text: str, json: bool = True) -> Parser:
        made = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        made.add_argument("--workspace", default=".", metavar="DIR", help="folder for everything that is written")
        if json:
            made.add_argument("--json", action="store_true", help="print one JSON object on standard output")
        return made

    run = verb("run", "all stages: corpus, tokenizer, training, evaluation, export, samples")
    run.add_argument("--minutes", type=_minutes, default=5.0, help="time for everything after the download (default 5)")
    for kind in (CorpusConfig, TokenizerConfig, GPTConfig, TrainConfig):
        _add_fields(run, kind)
    _add_recipe(run)

    prepare = verb("prepare", "get text, clean it, remove repeats, split it into training and validation")
    _add_fields(prepare, CorpusConfig)
    _add_force(prepare)
    prepare.add_argument("--list", action="store_true", help="show the sources with size and licence, and do nothing else")
    prepare.add_argument("--explain", metavar="LINE", help="show step by step what cleaning does to a line, and do nothing else")

    tokenizer = verb("tokenizer", "learn the tokenizer and write the token files")
    _add_fields(tokenizer, TokenizerConfig)
    _add_force(tokenizer)
    tokenizer.add_argument("--compare", default=None, metavar="SIZES", help="compare tokenizers instead, as in 4k,8k,16k: on your text, down to a small model")
    tokenizer.add_argument("--types", default=None, metavar="TYPES", help="with --compare: bpe,unigram (the default) or one of them")
    tokenizer.add_argument("--minutes", type=_minutes, default=0.0, help="with --compare: for all trainings together; by default 2 a tokenizer")

    train = verb("train", "train a network")
    train.add_argument("--minutes", type=_minutes, default=0.0, help="choose size and steps for this time")
    train.add_argument("--resume", action="store_true", help="go on with the newest unfinished run")
    train.add_argument("--nproc", type=_processes, default=1, metavar="N", help="processes that train together, one a GPU")
    _add_recipe(train)
    _add_fields(train, GPTConfig)
    _add_fields(train, TrainConfig)

    finetune = verb("finetune", "teach a trained model to answer")
    _add_model(finetune)
    _add_fields(finetune, ChatConfig)
    finetune.add_argument("--minutes", type=_minutes, default=None, help="time for the training (default 15)")
    finetune.add_argument("--resume", action="store_true", help="go on with the newest unfinished run of this kind")
    _add_fields(finetune, TrainConfig)

    chat = verb("chat", "talk to the model in the terminal", json=False)
    chat.add_argument("question", nargs="?", default="", help="answer this one and end")
    _add_model(chat)
    chat.add_argument("--system", default="", metavar="TEXT", help="how it is to behave")
    chat.add_argument("--max_new_tokens", type=int, default=128)
    chat.add_argument("--temperature", type=float, default=None, help="0 always takes the likeliest token; by default 0.3 of a chat model")
    chat.add_argument("--top_k", type=int, default=40, help="0 keeps all tokens")
    chat.add_argument("--seed", type=int, default=None, help="the same seed gives the same answers")

    verb("runs", "list the runs with size, time and bits per byte")

    evaluate = verb("evaluate", "measure a model and write a report")
    evaluate.add_argument("models", nargs="*", metavar="MODEL", help="two or more: measured alike and set side by side")
    _add_model(evaluate)
    evaluate.add_argument("--suite", choices=("light", "full"), default="light", help="light: minutes; full: all held-out text, continuations, a 5-gram")
    evaluate.add_argument("--file", default="", help="measure on this text instead of the held-out part")
    evaluate.add_argument("--protocol", choices=("goldfish",), default="", help="goldfish: score the lines of --file as the FLORES table does")
    evaluate.add_argument("--pairs", default="", metavar="FILE", help="your minimal pairs: JSON lines with good, bad, phenomenon")
    evaluate.add_argument("--facts", default="", metavar="FILE", help="your facts: JSON lines with openings, answer, wrong")
    evaluate.add_argument("--choices", default="", metavar="PATH", help="multiple choice in TUMLU's format: a .jsonl, or a folder of them")
    evaluate.add_argument("--topics", default="", metavar="FILE", help="topics of sentences: SIB-200's .tsv")
    evaluate.add_argument("--samples", type=_count, default=20, help="continuations to generate (default 20)")

    generate = verb("generate", "continue a text")
    generate.add_argument("prompt", nargs="?", default="", help="text to continue")
    _add_model(generate)
    generate.add_argument("--max_new_tokens", type=int, default=60)
    generate.add_argument("--temperature", type=float, default=0.8, help="0 always takes the likeliest token")
    generate.add_argument("--top_k", type=int, default=40, help="0 keeps all tokens")
    generate.add_argument("--top_p", type=float, default=1.0)
    generate.add_argument("--min_p", type=float, default=0.0, help="leave out tokens less likely than this share of the likeliest")
    generate.add_argument("--repetition_penalty", type=float, default=1.0, help="above 1: what stands there already becomes less likely")
    generate.add_argument("--no_repeat_ngram", type=int, default=0, help="never repeat a run of this many tokens")
    generate.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text; may be given several times")
    generate.add_argument("--logprobs", type=int, default=None, metavar="N", help="with --json: log-probabilities of each token and N others")
    generate.add_argument("--seed", type=int, default=None, help="the same seed gives the same text")
    generate.add_argument("--samples", type=_count, default=1, help="how many texts; the seed counts up")
    generate.add_argument("--prompts", default="", metavar="FILE", help="continue every line of a file, side by side")

    suggest = verb("suggest", "finish the word: the likeliest whole words for a text that may end inside one")
    suggest.add_argument("text", help="what has been typed; after a space, the next word is suggested")
    suggest.add_argument("-n", type=_count, default=3, help="how many (default 3)")
    _add_model(suggest)

    export = verb("export", "write the model for other programs")
    export.add_argument("format", choices=("hf", "gguf", "onnx", "web"),
                        help="hf: a Hugging Face folder (transformers, vLLM); gguf: llama.cpp, Ollama; onnx: onnxruntime; web: a page that "
                             "runs the model in the browser, without a server or a network")
    _add_model(export)
    export.add_argument("--dtype", default="", help="hf: float32 or bfloat16; gguf: f16, f32, bf16 or q8_0; onnx: f32 or int8; web: int8 or f32; the first is the default")
    export.add_argument("--runtime", default="", metavar="FILE", help="web: the archive of onnxruntime-web, where npm is not at hand")
    export.add_argument("--out", default="", metavar="DIR", help="folder to write, instead of exports/FORMAT")
    _add_force(export)

    publish = verb("publish", "upload the model with its card to the Hugging Face Hub, private unless --public")
    publish.add_argument("repo", metavar="USER/NAME", help="the repository on the Hub; made where there is none")
    _add_model(publish)
    publish.add_argument("--public", action="store_true", help="for everyone to see")
    publish.add_argument("--dry_run", action="store_true", help="show the files and the card, and send nothing")
    publish.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="bfloat16: half the size")
    publish.add_argument("--licence", default="", metavar="ID", help="the model's, as the Hub writes it: mit, cc-by-4.0; that of the text, if all of it has one")
    publish.add_argument("--message", default="", help="of the commit")
    publish.add_argument("--force", action="store_true", help="also into a repository that holds something else")

    serve = verb("serve", "answer requests over HTTP as OpenAI's API does, until Ctrl-C", json=False)
    _add_model(serve)
    serve.add_argument("--host", default="127.0.0.1", help="127.0.0.1, the default: this machine alone; 0.0.0.0: the whole network")
    serve.add_argument("--port", type=_port, default=8000, help="8000; 0 takes a free one")
    serve.add_argument("--api_key", default="", metavar="KEY", help="what clients must send; or set $TATAR_LLM_API_KEY, which others on this machine cannot read")
    serve.add_argument("--cors", action="append", default=[], metavar="ORIGIN", help="a site whose pages may call the server, as https://example.org; may be given several times")
    serve.add_argument("--web", action="store_true", help="also a page for people: completion, suggestions and chat")
    serve.add_argument("--max_tokens", type=_count, default=4096, help="new tokens that one text may have (default 4096)")

    doctor = verb("doctor", "what this machine can do, and what would be chosen")
    doctor.add_argument("--report", action="store_true", help="write doctor-report.md: all that a bug report needs")
    return parser


def _add_model(parser: Parser) -> None:
    parser.add_argument("--model", default="", metavar="NNN|NAME|PATH|shipped", help="instead of the workspace's best model")


def _add_recipe(parser: Parser) -> None:
    parser.add_argument("--recipe", default=None, metavar="NAME|FILE", help=f"{', '.join(recipe_names())}, or a .toml")


def _add_force(parser: Parser) -> None:
    parser.add_argument("--force", action="store_true", help="do it again even where nothing has changed")


def _add_fields(parser: Parser, kind: type) -> None:
    """A flag for every field of a settings class; None where the user gave nothing."""
    known = parser.options()
    for name, wanted in field_types(kind).items():
        if f"--{name}" in known:
            continue
        help_text = field_help(kind)[name].replace("%", "%%").splitlines()[0]
        if wanted is bool:
            parser.add_argument(f"--{name}", nargs="?", const=True, type=_yes_or_no, default=None, help=help_text)
        elif wanted in (int, float, str):
            parser.add_argument(f"--{name}", type=wanted, default=None, help=help_text)
        else:
            parser.add_argument(f"--{name}", action="append", default=None, help=help_text)


def _yes_or_no(text: str) -> bool:
    if text.lower() in ("true", "yes", "1", "on"):
        return True
    if text.lower() in ("false", "no", "0", "off"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _number(text: str, kind: type = int) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no {'whole ' if kind is int else ''}number") from None


def _minutes(text: str) -> float:
    value: float = _number(text, float)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} minutes are no time to train in")
    return value


def _processes(text: str) -> int:
    value: int = _number(text)
    if not 1 <= value <= 64:
        raise argparse.ArgumentTypeError(f"{text} processes: one machine takes 1 to 64")
    return value


def _port(text: str) -> int:
    value: int = _number(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port: they go from 1 to 65535, and 0 takes a free one")
    return value


def _count(text: str) -> int:
    value: int = _number(text)
    if not 0 <= value <= 10_000:
        raise argparse.ArgumentTypeError(f"{text} must lie between 0 and 10000")
    return value


def parse(argv: Sequence[str], prog: str = "tatar-llm") -> argparse.Namespace:
    """Parse arguments; ``--n-layer`` and ``--n_layer`` are the same."""
    parser = build_parser(prog)
    normal: list[str] = []
    for place, argument in enumerate(argv):
        if argument == "--":
            normal.extend(argv[place:])
            break
        name, equals, value = argument.partition("=")
        normal.append(name.replace("-", "_").replace("__", "--", 1) + equals + value if name.startswith("--") else argument)
    args, unknown = parser.parse_known_args(normal)
    if unknown:
        verbs = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        options = verbs.choices[args.verb].options()
        first = unknown[0].partition("=")[0]
        kind = "option" if first.startswith("-") else "argument"
        raise UsageError(f"unknown {kind} {first}{nearest(first, options)}; see `{prog} {args.verb} --help`")
    return args


def given(args: argparse.Namespace, kind: type) -> dict[str, Any]:
    """The fields of a settings class that the user set on the command line."""
    values = {name: getattr(args, name, None) for name in field_types(kind)}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if v is not None}


def main(argv: Sequence[str] | None = None, *, default_recipe: str = "base", prog: str = "tatar-llm") -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM."""
    started = time.perf_counter()
    use_utf8()
    with contextlib.suppress(ValueError, AttributeError):  # not the main thread
        signal.signal(signal.SIGTERM, _terminate)
    try:
        arguments = list(sys.argv[1:] if argv is None else argv)
        args = parse(arguments, prog)
        args.default_recipe, args.arguments, args.started = default_recipe, arguments, started
        from tatar_llm import commands

        return getattr(commands, args.verb)(args) or 0
    except TatarLLMError as error:
        say_error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        say("\nstopped. What was finished is kept; the same command goes on from there.")
        return 130
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        say_error(explain_os_error(error))
        return 1
    except MemoryError:
        say_error("not enough memory: take a smaller --batch_size or a smaller --recipe")
        return 1
    except RuntimeError as error:
        from tatar_llm.device import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        say_error("not enough memory: take a smaller --batch_size (with more --gradient_accumulation_steps)")
        return 1


def _terminate(_number: int, _frame: Any) -> NoReturn:
    raise SystemExit(143)
