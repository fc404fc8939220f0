"""Verbs that let a model speak: generate, suggest, chat, serve."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tatar_llm.commands.shared import emit, introduce
from tatar_llm.console import say
from tatar_llm.errors import UsageError
from tatar_llm.workspace import Workspace

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tatar_llm.generation import Continuation


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
        say("note: this model only continues texts and has not learnt to answer: tatar-llm finetune teaches it; the shipped one, which is Tatar, has been taught (--model shipped)")
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
