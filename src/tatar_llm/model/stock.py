"""The names under which transformers knows this network (Qwen3, with experts Qwen3-MoE), and reading a Hugging Face folder."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tatar_llm.config import GPTConfig, as_dict
from tatar_llm.errors import TatarLLMError
from tatar_llm.workspace import read_json

MARKER = "tatar_llm"
"""Key in config.json that tells an export of ours from a stranger's folder."""

# Our name -> the name in transformers' Qwen3ForCausalLM (models/qwen3/modeling_qwen3.py, version 5).
LAYER_NAMES = {
    "attention_norm": "input_layernorm",
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
    "attention.q_norm": "self_attn.q_norm",
    "attention.k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn.gate": "mlp.gate_proj",
    "ffn.up": "mlp.up_proj",
    "ffn.down": "mlp.down_proj",
    "ffn.router": "mlp.gate",
}
OUTER_NAMES = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
_OURS = {their: our for our, their in (LAYER_NAMES | OUTER_NAMES).items()}
KINDS = {"qwen3": "Qwen3ForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM"}
"""model_type -> architecture, of the networks that this one can be."""
ATTENTION = {"S": "sliding_attention", "F": "full_attention"}


def hf_name(name: str) -> str:
    """``blocks.3.attention.q.weight`` -> ``model.layers.3.self_attn.q_proj.weight``."""
    if match := re.fullmatch(r"blocks\.(\d+)\.(.+)\.weight", name):
        return f"model.layers.{match[1]}.{LAYER_NAMES[match[2]]}.weight"
    return f"{OUTER_NAMES[name.removesuffix('.weight')]}.weight"


def own_name(name: str) -> str:
    """``model.layers.3.self_attn.q_proj.weight`` -> ``blocks.3.attention.q.weight``; raises KeyError for another's."""
    if match := re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name):
        return f"blocks.{match[1]}.{_OURS[match[2]]}.weight"
    return f"{_OURS[name.removesuffix('.weight')]}.weight"


def stock_weights(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's weights under transformers' names; in the file every expert's matrix stands alone."""
    weights: dict[str, Tensor] = {}
    for name, value in own.items():
        stock = hf_name(name)
        if value.dim() == 3:
            weights |= {stock.replace(".mlp.", f".mlp.experts.{number}."): matrix for number, matrix in enumerate(value)}
        else:
            weights[stock] = value
    return weights


def own_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `stock_weights` made, put back; raises KeyError for another's names."""
    own: dict[str, Tensor] = {}
    experts: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for name, value in weights.items():
        if match := re.search(r"\.mlp\.experts\.(\d+)\.", name):
            experts[own_name(name.replace(match[0], ".mlp."))][int(match[1])] = value
        else:
            own[own_name(name)] = value
    return own | {name: torch.stack([parts[number] for number in range(len(parts))]) for name, parts in experts.items()}


def is_hf_folder(path: Path) -> bool:
    """Whether `path` is a folder with a model in Hugging Face's layout."""
    return (path / "config.json").is_file() and (path / "model.safetensors").is_file()


def load_hf_file(folder: Path) -> dict[str, Any]:
    """The content of a Hugging Face folder as that of a model file: model (fp32), config, and what its marker tells.

    Raises:
        TatarLLMError: the folder holds another kind of network, or a damaged one.
    """
    try:
        told = read_json(folder / "config.json")
        weights = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise TatarLLMError(f"{folder} holds no readable model (config.json and model.safetensors)") from error
    if told.get("model_type") not in KINDS:
        raise TatarLLMError(f"{folder} holds a model of the kind {told.get('model_type')!r}: only qwen3 and qwen3_moe, as exported here, can be read")
    try:
        config = GPTConfig(
            n_layer=told["num_hidden_layers"], n_head=told["num_attention_heads"], n_kv_head=told["num_key_value_heads"],
            n_embd=told["hidden_size"], ffn_hidden=told["intermediate_size"], block_size=told["max_position_embeddings"],
            vocab_size=told["vocab_size"], tie_weights=told["tie_word_embeddings"], norm_eps=told["rms_norm_eps"],
            rope_theta=told.get("rope_parameters", {}).get("rope_theta") or told["rope_theta"],
            **_window(told), **_experts(told),
        )  # fmt: skip
        own = {name: value.to(torch.float32) for name, value in own_weights(weights).items()}
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise TatarLLMError(f"{folder} is not a model that this program exported ({error} is missing or strange)") from error
    marker = told.get(MARKER) or {}
    return {
        "model": own, "config": as_dict(config), "val": {"bits_per_byte": marker.get("bits_per_byte")},
        **{name: marker.get(name) for name in ("language", "corpus", "generated_bytes", "step", "fallback", "chat", "base")},
        "tokenizer_sha256": marker.get("tokenizer_sha256") or "unknown",
    }  # fmt: skip


def _window(told: dict[str, Any]) -> dict[str, Any]:
    """The sliding window of a config.json, as settings of ours; none where no layer has one."""
    letters = "".join("S" if kind == ATTENTION["S"] else "F" for kind in told.get("layer_types") or ())
    if "S" not in letters or not told.get("sliding_window"):
        return {}
    return {"sliding_window": told["sliding_window"], "window_pattern": letters}


def _experts(told: dict[str, Any]) -> dict[str, Any]:
    """The experts of a config.json, as settings of ours; none for a dense network."""
    if told["model_type"] != "qwen3_moe":
        return {}
    if not told["norm_topk_prob"] or told.get("mlp_only_layers") or told.get("decoder_sparse_step", 1) != 1:
        raise KeyError("norm_topk_prob, mlp_only_layers or decoder_sparse_step")
    return {"n_expert": told["num_experts"], "experts_per_token": told["num_experts_per_tok"], "expert_hidden": told["moe_intermediate_size"]}
