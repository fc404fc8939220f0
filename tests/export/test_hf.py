"""The Hugging Face folder: loads without this package, gives the same, and never replaces what is not ours."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tatar_llm.config import GPTConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.export import export_hf
from tatar_llm.export import hf as hf_module
from tatar_llm.export.texts import random_texts
from tatar_llm.generation import Settings, generate
from tatar_llm.model import GPT, load_model, save_model
from tatar_llm.tokenizer import encode_text
from tatar_llm.training import ModelPlace
from tatar_llm.workspace import Workspace, read_json, sha256_file

transformers = pytest.importorskip("transformers")
FILES = ["README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
         "tokenizer_config.json"]  # fmt: skip
FACTS: dict[str, Any] = {"step": 12, "val": {"bits_per_byte": 1.234}, "language": "tat", "corpus": "made-up"}


def place_of(model: GPT, workspace: Workspace, folder: Path, **facts: Any) -> ModelPlace:
    digest = sha256_file(workspace.tokenizer / "tokenizer.json")
    save_model(folder / "best_model.pt", model, **(FACTS | {"tokenizer_sha256": digest} | facts))
    return ModelPlace("001-tiny", folder / "best_model.pt", workspace.tokenizer)


@pytest.fixture
def place(tiny_model: GPT, tiny_workspace: Workspace, tmp_path: Path) -> ModelPlace:
    return place_of(tiny_model, tiny_workspace, tmp_path / "models")


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without the check by reloading, which takes most of the time."""
    monkeypatch.setattr(hf_module, "_check", lambda *_: None)
    yield


def load(folder: Path) -> tuple[Any, Any]:
    return (
        transformers.AutoModelForCausalLM.from_pretrained(folder).eval(),
        transformers.AutoTokenizer.from_pretrained(folder),
    )


@pytest.mark.parametrize(
    "values",
    [{}, {"tie_weights": False, "n_kv_head": 1, "rope_theta": 5e5}, {"sliding_window": 5}, {"n_expert": 4, "tie_weights": False}],
    ids=str,
)
def test_loads_and_gives_the_same(
    tiny_model: GPT, tiny_workspace: Workspace, tiny_tokenizer: tuple, tmp_path: Path, values: dict,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if values:
        torch.manual_seed(0)
        tiny_model = GPT(dataclasses.replace(tiny_model.config, **values)).eval()
    tokenizer, _ = tiny_tokenizer
    workspace = Workspace(tmp_path)
    folder = export_hf(workspace, place_of(tiny_model, tiny_workspace, tmp_path))
    assert capfd.readouterr() == ("", ""), "transformers talks"
    assert folder == workspace.exports / "hf"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert [path.name for path in workspace.exports.iterdir()] == ["hf"]
    theirs, their_tokenizer = load(folder)
    assert type(theirs).__name__ == ("Qwen3MoeForCausalLM" if "n_expert" in values else "Qwen3ForCausalLM") and theirs.dtype == torch.float32
    assert their_tokenizer.is_fast
    text = "Әби бүген бакчада җыр җырлый."
    inputs = their_tokenizer(text, return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == [2, *encode_text(tokenizer, text)]
    with torch.inference_mode():
        for ids in (inputs["input_ids"], torch.randint(400, (3, 32))):
            assert (theirs(input_ids=ids).logits - tiny_model(ids)[0]).abs().max() < 1e-5
        answer = theirs.generate(**inputs, do_sample=False, max_new_tokens=10)[0].tolist()
    prompt = inputs["input_ids"][0].tolist()
    ours = list(generate(tiny_model, prompt, Settings(max_new_tokens=10, temperature=0), stop=3))
    assert answer[len(prompt) :][: len(ours)] == ours
    again, config = load_model(folder)
    assert {name: getattr(config, name) for name in values} == values and config.windows == tiny_model.config.windows
    assert all(torch.equal(again.state_dict()[name], value) for name, value in tiny_model.state_dict().items())


@pytest.fixture(scope="module")
def exported(tiny_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One export for the tests that only read."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layer=2, n_head=4, n_embd=64, block_size=32, vocab_size=400))
    folder = tmp_path_factory.mktemp("export")
    return export_hf(Workspace(folder), place_of(model, tiny_workspace, folder), str(folder / "чыгару урыны"))


def test_the_config(exported: Path) -> None:
    config = read_json(exported / "config.json")
    assert config["architectures"] == ["Qwen3ForCausalLM"] and config["model_type"] == "qwen3"
    assert config["max_position_embeddings"] == 32 and config["head_dim"] == 16
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 10000.0
    assert (config["pad_token_id"], config["bos_token_id"], config["eos_token_id"]) == (0, 2, 3)
    assert config["use_sliding_window"] is False and config["tie_word_embeddings"] is True
    loaded = transformers.AutoConfig.from_pretrained(exported)
    assert loaded.num_key_value_heads == 2 and loaded.rope_parameters["rope_theta"] == 10000.0
    assert loaded.vocab_size == 400
    generation = transformers.GenerationConfig.from_pretrained(exported)
    assert (generation.temperature, generation.top_k, generation.max_new_tokens) == (0.8, 40, 60)
    assert generation.do_sample and (generation.pad_token_id, generation.bos_token_id, generation.eos_token_id) == (0, 2, 3)
    bare = transformers.AutoModel.from_pretrained(exported)
    assert bare(torch.tensor([[2, 5, 9]])).last_hidden_state.shape == (1, 3, 64)


def test_the_weights(exported: Path) -> None:
    weights = load_file(exported / "model.safetensors")
    assert all(value.dtype == torch.float32 for value in weights.values())
    assert "lm_head.weight" not in weights and "model.layers.1.self_attn.q_norm.weight" in weights
    assert sum(value.numel() for value in weights.values()) == GPTConfig(
        n_layer=2, n_head=4, n_embd=64, block_size=32, vocab_size=400
    ).parameters()
    with safe_open(exported / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_the_tokenizer(exported: Path, tiny_tokenizer: tuple) -> None:
    tokenizer, _ = tiny_tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(exported)
    assert (theirs.pad_token, theirs.unk_token, theirs.bos_token, theirs.eos_token) == ("<pad>", "<unk>", "<bos>", "<eos>")
    assert theirs.model_max_length == 32
    assert theirs.chat_template is None, "a model that only continues text is no chat model"
    for text in ("<eos>", "бер <bos><|user|> ике", "Җәй , ?!  'S", "e\u0301", "", "\n\n"):
        ids = encode_text(tokenizer, text)
        assert theirs(text)["input_ids"] == [2, *ids]
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids
        assert theirs.decode(ids) == text
    assert theirs.decode([2, *encode_text(tokenizer, "ул"), 3], skip_special_tokens=True) == "ул"
    batch = theirs(["Әби", "Әби бүген өйдә"], padding=True)
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["input_ids"][0][0] == 0, "a shorter prompt is padded on the left, so that generation follows the text"
    assert theirs("бер", "ике")["input_ids"] == [2, *encode_text(tokenizer, "бер"), 2, *encode_text(tokenizer, "ике")]


def test_the_card(exported: Path) -> None:
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlanguage:\n- \"tt\"\n")
    for part in ("Tatar language model", "made-up", "1.234", "AutoTokenizer.from_pretrained", "invents facts", "001-tiny"):
        assert part in card, part
    for name in ("README.md", "config.json", "tokenizer_config.json"):
        assert str(exported.parent) not in (exported / name).read_text(encoding="utf-8")
    assert read_json(exported / "config.json")["tatar_llm"]["bits_per_byte"] == 1.234


@pytest.mark.slow
def test_the_command_of_the_card_runs(exported: Path) -> None:
    card = (exported / "README.md").read_text(encoding="utf-8")
    code = card.split("```python\n")[1].split("```")[0].replace('"path/to/this/folder"', json.dumps(str(exported)))
    code += "\nimport sys; assert 'tatar_llm' not in sys.modules"
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().strip()


@pytest.mark.usefixtures("unchecked")
def test_a_fallback_and_an_unknown_language_are_told(tiny_model: GPT, tiny_workspace: Workspace, tmp_path: Path) -> None:
    sentence = "Leipzig could not be had; this is the built-in sample."
    place = place_of(tiny_model, tiny_workspace, tmp_path, fallback=sentence, language="own/../x.toml", val=None)
    place = dataclasses.replace(place, name=str(tmp_path / "best_model.pt"))
    card = (export_hf(Workspace(tmp_path), place) / "README.md").read_text(encoding="utf-8")
    assert sentence in card and "not measured" in card and str(tmp_path) not in card
    assert card.startswith("---\nlibrary_name")


@pytest.mark.usefixtures("unchecked")
def test_a_model_that_knows_nothing_of_itself(tiny_model: GPT, tiny_workspace: Workspace, tmp_path: Path) -> None:
    save_model(tmp_path / "m.pt", tiny_model)
    card = export_hf(Workspace(tmp_path), ModelPlace("m", tmp_path / "m.pt", tiny_workspace.tokenizer)) / "README.md"
    assert "not recorded" in card.read_text(encoding="utf-8")


# -- what is replaced, and what is not -------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
def test_a_former_export_and_an_empty_folder_are_replaced(place: ModelPlace, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export_hf(Workspace(tmp_path), place, str(out))
    (out / "extra.txt").touch()
    export_hf(Workspace(tmp_path), place, str(out))
    assert sorted(path.name for path in out.iterdir()) == FILES


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("config", [None, "{}", "{", "[]", "3"])
def test_another_folder_needs_force(place: ModelPlace, tmp_path: Path, config: str | None) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("ten years", encoding="utf-8")
    if config is not None:
        (out / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(TatarLLMError, match="--force"):
        export_hf(Workspace(tmp_path), place, str(out))
    assert (out / "thesis.txt").read_text(encoding="utf-8") == "ten years"
    export_hf(Workspace(tmp_path), place, str(out), force=True)
    assert sorted(path.name for path in out.iterdir()) == FILES


@pytest.mark.usefixtures("unchecked")
def test_never_over_the_model_the_workspace_or_a_file(
    place: ModelPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for out in (tmp_path, tmp_path / "models"):
        with pytest.raises(TatarLLMError, match="must not replace"):
            export_hf(Workspace(tmp_path), place, str(out), force=True)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a").touch()
    monkeypatch.chdir(tmp_path / "here")
    for out in (".", "..", str(tmp_path / "here")):
        with pytest.raises(TatarLLMError, match="must not replace"):
            export_hf(Workspace(tmp_path), place, out, force=True)
    with pytest.raises(TatarLLMError, match="is a file"):
        export_hf(Workspace(tmp_path), place, str(place.model), force=True)
    assert place.model.is_file()


# -- what stops it ---------------------------------------------------------------------------------------------------


def test_without_transformers(place: ModelPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(TatarLLMError, match='export hf needs transformers: pip install "transformers') as caught:
        export_hf(Workspace(tmp_path), place)
    assert caught.value.exit_code == 1 and not (tmp_path / "exports").exists()


def wrong_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    def save(weights: dict, path: Path, metadata: dict) -> None:
        name = "model.layers.1.post_attention_layernorm.weight"
        save_file(weights | {name: weights[name] + 1e-3}, path, metadata)  # not in place: they are the model's own

    monkeypatch.setattr(hf_module, "save_file", save)


def missing_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_module, "save_file", lambda weights, path, metadata: save_file({}, path, metadata))


def wrong_rope(monkeypatch: pytest.MonkeyPatch) -> None:
    before = hf_module.hf_config
    monkeypatch.setattr(
        hf_module, "hf_config",
        lambda *given: before(*given) | {"rope_parameters": {"rope_type": "default", "rope_theta": 10500.0}},
    )  # fmt: skip


def broken_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_module, "hf_config", lambda *_: {"model_type": "no such model"})


def other_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    before = hf_module.hf_tokenizer

    def swapped(*given: Any) -> dict:
        content = before(*given)
        vocabulary = content["model"]["vocab"]
        vocabulary["A"], vocabulary["!"] = vocabulary["!"], vocabulary["A"]
        return content

    monkeypatch.setattr(hf_module, "hf_tokenizer", swapped)


def no_bos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_module, "hf_tokenizer", lambda tokenizer, _: json.loads(tokenizer.to_str()))


def typed_specials(monkeypatch: pytest.MonkeyPatch) -> None:
    before = hf_module.hf_tokenizer_config
    monkeypatch.setattr(hf_module, "hf_tokenizer_config", lambda *given: before(*given) | {"split_special_tokens": False})


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (wrong_weight, "logits of random ids differ by"),
        (missing_weights, "differ by|does not load"),
        (wrong_rope, "differ by"),
        (broken_config, "does not load or run"),
        (other_tokens, "other ids for"),
        (no_bos, "other ids for"),
        (typed_specials, "other ids for"),
    ],
)
def test_what_is_not_equal_is_not_written(
    place: ModelPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault, said: str
) -> None:
    fault(monkeypatch)
    with pytest.raises(TatarLLMError, match=f"({said}).*nothing was written"):
        export_hf(Workspace(tmp_path), place)
    assert list((tmp_path / "exports").iterdir()) == []


def test_another_tokenizer(tiny_model: GPT, tiny_workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(TatarLLMError, match="trained with another tokenizer"):
        export_hf(Workspace(tmp_path), place_of(tiny_model, tiny_workspace, tmp_path, tokenizer_sha256="0"))
    small = GPT(dataclasses.replace(tiny_model.config, vocab_size=300))
    with pytest.raises(TatarLLMError, match="go beyond the vocabulary"):
        export_hf(Workspace(tmp_path), place_of(small, tiny_workspace, tmp_path))
    with pytest.raises(TatarLLMError, match="no model at"):
        export_hf(Workspace(tmp_path), ModelPlace("x", tmp_path / "none.pt", tiny_workspace.tokenizer))


@pytest.mark.parametrize("before", [None, "0"])
def test_settings_of_transformers_come_back(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    from transformers.utils import logging

    if before is None:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", before)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with pytest.raises(ZeroDivisionError), hf_module._quiet():
        assert os.environ["HF_HUB_OFFLINE"] == "1" and constants.HF_HUB_OFFLINE
        raise ZeroDivisionError
    assert os.environ.get("HF_HUB_OFFLINE") == before and not constants.HF_HUB_OFFLINE
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (verbosity, bars)


def test_random_texts_are_the_same_everywhere() -> None:
    texts = random_texts(200)
    assert texts == random_texts(200) and len(texts) == 200 and len(set(texts)) > 190
    assert any("<eos>" in text for text in texts)
    for text in texts:
        text.encode("utf-8")


def test_the_smallest_context_there_is(place: ModelPlace, tmp_path: Path) -> None:
    _, config = load_model(place.model, device="cpu")
    short = GPT(dataclasses.replace(config, block_size=1)).eval()
    save_model(place.model, short, **FACTS)
    folder = export_hf(Workspace(tmp_path), place)
    assert torch.equal(load_file(folder / "model.safetensors")["model.norm.weight"], short.norm.weight)
    assert read_json(folder / "config.json")["max_position_embeddings"] == 1

@pytest.fixture
def unigram_place(tiny_workspace: Workspace, tmp_path: Path) -> ModelPlace:
    """A random network with a unigram tokenizer."""
    from tatar_llm.config import TokenizerConfig
    from tatar_llm.tokenizer import train_tokenizer

    workspace = Workspace(tmp_path / "unigram")
    workspace.processed.mkdir(parents=True)
    workspace.train_text.write_bytes(tiny_workspace.train_text.read_bytes())
    size = train_tokenizer(TokenizerConfig(vocab_size=350, type="unigram"), workspace)["vocab_size"]
    torch.manual_seed(0)
    return place_of(GPT(GPTConfig(n_layer=1, n_head=2, n_embd=32, block_size=32, vocab_size=size)), workspace, tmp_path / "models")


def test_a_unigram_tokenizer_loads_too(unigram_place: ModelPlace, tmp_path: Path) -> None:
    """The export compares ids and text of 200 odd strings itself."""
    from tatar_llm.tokenizer import load_tokenizer

    folder = export_hf(Workspace(tmp_path), unigram_place)
    assert load_tokenizer(folder)[1]["model_type"] == "unigram"


@pytest.mark.parametrize("kind", ["gguf", "web"])
def test_where_unigram_is_not_known(unigram_place: ModelPlace, tmp_path: Path, kind: str) -> None:
    from tatar_llm.export import EXPORTS

    pytest.importorskip("xllamacpp" if kind == "gguf" else "onnxscript")
    with pytest.raises(TatarLLMError, match=f"export {kind}: the tokenizer is of the type unigram.*take export hf"):
        EXPORTS[kind].write(Workspace(tmp_path), unigram_place)
