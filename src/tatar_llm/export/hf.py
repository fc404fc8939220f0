"""A Hugging Face folder: the network under the names that transformers gives to Qwen3 or Qwen3-MoE, checked by reloading it."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, processors
from torch import Tensor

from tatar_llm.chat import ANSWER_TOKENS, JINJA, Turn
from tatar_llm.chat.speaker import TEMPERATURE
from tatar_llm.chat.template import end_id, prompt_ids
from tatar_llm.config import GPTConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.export.card import hf_card
from tatar_llm.export.record import read_record
from tatar_llm.export.source import Source, read_source, target_folder
from tatar_llm.export.texts import CHECK_LINES, random_texts
from tatar_llm.generation import Settings, generate
from tatar_llm.model import GPT, KVCache
from tatar_llm.model.stock import ATTENTION, KINDS, MARKER, stock_weights
from tatar_llm.tokenizer import encode_text
from tatar_llm.training.runs import ModelPlace
from tatar_llm.workspace import Workspace, whole_folder, write_json, write_text

# Largest difference of a logit, both networks in fp32, and where logits go beyond 1 as a share of the largest: rounding
# alone gives 6e-6 at 3 M trained parameters and logits up to 12, 1.4e-5 at 23 M with large weights and logits up to 7.
TOLERANCE = 1e-5
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CHECK_CONVERSATIONS = (
    [Turn("user", " Исәнмесез! ")],
    [Turn("system", "Кыска җавап бир."), Turn("user", "Нәрсә ул күл?"), Turn("assistant", "Күл — су җыелган урын."), Turn("user", "Ә елга?\nАңлат.")],
)
GENERATION = {"do_sample": True, "temperature": 0.8, "top_k": 40, "max_new_tokens": 60}

def export_hf(
    workspace: Workspace, place: ModelPlace, out: str = "", *, force: bool = False, dtype: str = "float32", repo: str = "",
    licence: str = "",
) -> Path:
    """Write the model at `place` as a folder that transformers loads, and prove it by loading it.

    Args:
        workspace: where exports/hf is, the folder written when `out` is empty.
        place: the model and its own tokenizer.
        out: another folder. One that is empty or a former export is replaced.
        force: replace any other folder too.
        dtype: "float32", or "bfloat16" for half the size; the check is then against the rounded weights.
        repo: USER/NAME on the Hub, for a card that names it.
        licence: the Hub's identifier of the model's licence; empty takes that of its text, where all of it has the same.

    Returns:
        The folder.

    Raises:
        TatarLLMError: transformers is missing; the model or tokenizer is; the folder holds something else; or the
            reloaded folder does not give the same ids, text and logits. Nothing is written then.
    """
    _need_transformers()
    target = target_folder(workspace, place, "hf", out, force)
    source = read_source(place, DTYPES[dtype])
    model, config, tokenizer, tok_config = source.model, source.config, source.tokenizer, source.tok_config
    with whole_folder(target) as folder:
        save_file(hf_weights(model, DTYPES[dtype]), folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "model.safetensors").chmod(0o644)  # safetensors makes it readable for its owner alone
        write_json(folder / "config.json", hf_config(config, tok_config) | {"dtype": dtype, MARKER: source.marker})
        write_json(folder / "generation_config.json", hf_generation(source))
        write_json(folder / "tokenizer.json", hf_tokenizer(tokenizer, tok_config))
        write_json(folder / "tokenizer_config.json", hf_tokenizer_config(config, tok_config, source.chat))
        write_text(folder / "README.md", hf_card(place, source.facts, config, read_record(workspace, place, source.facts), repo, licence))
        _check(folder, source)
        gc.collect()  # Windows does not rename a folder with an open memory map in it
    return target


# -- what is written ---------------------------------------------------------------------------------------------


def hf_weights(model: GPT, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The network's weights under transformers' names; a tied output layer is left out, as transformers does."""
    own = model.state_dict()
    if model.config.tie_weights:
        del own["head.weight"]
    return {name: value.detach().to("cpu", dtype, copy=True).contiguous() for name, value in stock_weights(own).items()}


def hf_config(config: GPTConfig, tok_config: dict[str, Any]) -> dict[str, Any]:
    """config.json; `rope_parameters` is read by transformers 5, `rope_theta` by older ones and by other programs."""
    kind = "qwen3_moe" if config.n_expert else "qwen3"
    return {
        "architectures": [KINDS[kind]],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "hidden_size": config.n_embd,
        "intermediate_size": config.ffn_hidden,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.block_size,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rope_theta": config.rope_theta,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": config.sliding_window > 0,
        "sliding_window": config.sliding_window or None,
        **(_experts(config) if config.n_expert else {"layer_types": [ATTENTION["S" if window else "F"] for window in config.windows]}),
        "tie_word_embeddings": config.tie_weights,
        "initializer_range": 0.02,
        "use_cache": True,
        "dtype": "float32",
        **_special_ids(tok_config),
    }


def _experts(config: GPTConfig) -> dict[str, Any]:
    return {
        "num_experts": config.n_expert,
        "num_experts_per_tok": config.experts_per_token,
        "moe_intermediate_size": config.expert_hidden,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "output_router_logits": False,
        "router_aux_loss_coef": 0.01,
    }


def hf_tokenizer(tokenizer: Tokenizer, tok_config: dict[str, Any]) -> dict[str, Any]:
    """tokenizer.json with a post-processor that puts <bos> in front, as in training."""
    bos, number = tok_config["bos_token"], tok_config["bos_token_id"]
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, number)]
    )
    return json.loads(copy.to_str())


def hf_generation(source: Source) -> dict[str, Any]:
    """generation_config.json; an answer ends at <|end|>."""
    found: dict[str, Any] = GENERATION | _special_ids(source.tok_config)
    if source.chat:
        found |= {"eos_token_id": [source.tok_config["eos_token_id"], end_id(source.tokenizer)], "temperature": TEMPERATURE, "max_new_tokens": ANSWER_TOKENS}
    return found


def hf_tokenizer_config(config: GPTConfig, tok_config: dict[str, Any], chat: bool = False) -> dict[str, Any]:
    """tokenizer_config.json. `PreTrainedTokenizerFast` is known to transformers 4 and 5.

    With `chat` the template, whose marks transformers then takes for marks wherever they stand.
    """
    return {
        **({"chat_template": JINJA} if chat else {}),
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{name}_token": tok_config[f"{name}_token"] for name in ("pad", "unk", "bos", "eos")},
        "model_max_length": config.block_size,
        "model_input_names": ["input_ids", "attention_mask"],  # Qwen3 takes no token_type_ids
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": not chat,  # a typed <eos> stays text
    }


def _special_ids(tok_config: dict[str, Any]) -> dict[str, int]:
    return {f"{name}_token_id": tok_config[f"{name}_token_id"] for name in ("bos", "eos", "pad")}


# -- before writing ----------------------------------------------------------------------------------------------


def _need_transformers() -> None:
    with _quiet():
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401
        except ImportError as error:
            raise TatarLLMError('export hf needs transformers: pip install "transformers>=5.0"') from error


# -- the check ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """transformers without its network, its warnings and its progress bars; all as before afterwards."""
    restore = contextlib.ExitStack()
    with contextlib.suppress(ImportError):
        from huggingface_hub import (
            constants,  # reads the variable once, here: what follows must not make it offline for good
        )

        restore.callback(setattr, constants, "HF_HUB_OFFLINE", constants.HF_HUB_OFFLINE)
        constants.HF_HUB_OFFLINE = True
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(ImportError):
                from transformers.utils import logging

                restore.callback(logging.set_verbosity, logging.get_verbosity())
                if logging.is_progress_bar_enabled():
                    restore.callback(logging.enable_progress_bar)
                logging.set_verbosity_error()
                logging.disable_progress_bar()
            yield
    finally:
        restore.close()
        if before is None:
            os.environ.pop("HF_HUB_OFFLINE", None)
        else:
            os.environ["HF_HUB_OFFLINE"] = before


def _check(folder: Path, source: Source) -> None:
    """Reload `folder` with transformers and compare; raises TatarLLMError naming the first difference."""
    import transformers

    model, tokenizer, tok_config = source.model, source.tokenizer, source.tok_config
    with _quiet(), torch.inference_mode():
        try:
            theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
            their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            problem = _tokenizer_problem(their_tokenizer, source) or _model_problem(
                theirs, model, [tok_config["bos_token_id"], *encode_text(tokenizer, " ".join(CHECK_LINES))]
            )
        except Exception as error:  # whatever transformers raises on a folder that it does not like
            reason = (str(error).splitlines() or [""])[0]
            problem = f"it does not load or run ({type(error).__name__}: {reason})"
    if problem:
        raise TatarLLMError(
            f"the export is not equal to the model in transformers {transformers.__version__}: {problem}; "
            "nothing was written. Try the version of transformers in constraints.txt"
        )


def _tokenizer_problem(theirs: Any, source: Source) -> str:
    tokenizer, tok_config = source.tokenizer, source.tok_config
    marks = [token.content for token in tokenizer.get_added_tokens_decoder().values()] if source.chat else []
    for text in (*CHECK_LINES, *random_texts(200)):
        if any(mark in text for mark in marks):
            continue
        ids = [tok_config["bos_token_id"], *encode_text(tokenizer, text)]
        if theirs(text)["input_ids"] != ids:
            return f"other ids for {text!r}"
        for skip in (False, True):
            if theirs.decode(ids, skip_special_tokens=skip) != tokenizer.decode(ids, skip_special_tokens=skip):
                return f"another text from the ids of {text!r}"
    if source.chat and (differing := chat_problem(theirs, tokenizer, tok_config)):
        return differing
    return ""


def chat_problem(theirs: Any, tokenizer: Tokenizer, tok_config: dict[str, Any]) -> str:
    """Whether transformers makes other ids of a conversation than the training did."""
    for turns in CHECK_CONVERSATIONS:
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        ids = prompt_ids(tokenizer, tok_config, turns, 10**6)
        found = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        if list(found) != ids:
            return "other ids for a conversation"
    return ""


def _model_problem(theirs: Any, model: GPT, text: list[int]) -> str:
    """Whole sequences, then token by token with both caches, then both ways of generating."""
    block = model.config.block_size
    noise = torch.randint(model.config.vocab_size, (2, min(block, 512)), generator=torch.Generator().manual_seed(0))
    for name, ids in (("random ids", noise), ("Tatar text", torch.tensor([text[:block]]))):
        if problem := _gap(model(ids)[0], theirs(input_ids=ids).logits):
            return f"logits of {name} {problem}"
    steps = min(8, block // 2)
    if not steps:
        return ""
    ids = torch.tensor([text[: block - steps][:16]])
    cache, past = KVCache(model.config, 1, block, model.device, torch.float32), None
    fresh, margins = ids, []
    for _ in range(steps):
        ours, answer = model(fresh, cache=cache)[0], theirs(input_ids=fresh, past_key_values=past, use_cache=True)
        past = answer.past_key_values
        if problem := _gap(ours, answer.logits):
            return f"logits with the cache of keys and values {problem}"
        best = ours[0, -1].topk(2)
        margins.append(float(best.values[0] - best.values[1]) / _scale(ours))
        fresh = best.indices[:1][None]
    ours = list(generate(model, ids[0].tolist(), Settings(max_new_tokens=steps, temperature=0)))
    greedy = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, temperature=None, top_k=None,
        max_new_tokens=steps, min_new_tokens=steps, eos_token_id=-1,
    )[0, ids.size(1) :].tolist()  # fmt: skip
    for position, (mine, other) in enumerate(zip(ours, greedy, strict=True)):
        if margins[position] <= 2 * TOLERANCE:  # a tie: either token is right, and what follows differs
            break
        if mine != other:
            return f"greedy generation differs from token {position + 1} on"
    return ""


def _gap(ours: Tensor, theirs: Tensor) -> str:
    gap = float((ours - theirs).abs().max())
    return "" if gap <= TOLERANCE * _scale(ours) else f"differ by {gap:.1e}"


def _scale(logits: Tensor) -> float:
    return max(1.0, float(logits.abs().max()))
