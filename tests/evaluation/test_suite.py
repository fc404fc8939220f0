"""The whole evaluation on tiny models: what is measured, left out, refused, compared; Goldfish against transformers."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from tatar_llm.errors import TatarLLMError
from tatar_llm.evaluation import Inputs, evaluate
from tatar_llm.evaluation.report import compare
from tatar_llm.model import save_model
from tatar_llm.training import ModelPlace
from tatar_llm.workspace import Workspace, read_json, sha256_file

TYPING = {"suggest_0", "suggest_1", "suggest_2", "suggest_3", "saved_1", "saved_3"}


def place_for(workspace: Workspace, model, name: str = "000-tiny", **facts) -> ModelPlace:
    path = workspace.root / f"{name}.pt"
    sha = sha256_file(workspace.tokenizer / "tokenizer.json")
    save_model(path, model, **{"step": 1, "language": "tat", "corpus": "made up", "tokenizer_sha256": sha} | facts)
    return ModelPlace(name, path, workspace.tokenizer)


def test_the_full_suite(own_workspace: Workspace, tiny_model) -> None:
    report = evaluate(own_workspace, place_for(own_workspace, tiny_model), suite="full", samples=2)
    names = {measure["name"] for measure in report["measures"]}
    assert names >= {"bits", "pairs", "knowledge", "consistency", "morphemes", "repetition", "distinct"}
    for measure in report["measures"]:
        assert measure["n"] > 0 and math.isfinite(measure["value"])
    assert set(report["baselines"]) == {"unigram", "bigram", "5-gram", "xz"} and not report["left_out"]
    assert read_json(own_workspace.reports / "report.json")["bits_per_byte"] == report["bits_per_byte"]
    text = (own_workspace.reports / "report.md").read_text(encoding="utf-8")
    assert "Does it speak Tatar?" in text and "harmony case" in text and "by chance" in text
    assert "A suggestion takes" in text and "Word triples counted on the training text" in text
    html = (own_workspace.reports / "report.html").read_text(encoding="utf-8")
    assert html.count("<table>") >= 3 and "<script" not in html and "http" not in html
    assert read_json(own_workspace.tokens / "five_gram.json")["bits_per_byte"] == report["baselines"]["5-gram"]


def test_what_is_tatar_is_left_out_for_another_language(own_workspace: Workspace, tiny_model, tmp_path: Path) -> None:
    place = place_for(own_workspace, tiny_model, language="sah")
    report = evaluate(own_workspace, place, samples=0)
    assert {measure["name"] for measure in report["measures"]} == {"bits", *TYPING} and len(report["left_out"]) == 3
    assert "--pairs FILE takes yours" in (own_workspace.reports / "report.md").read_text(encoding="utf-8")
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"good": "Мин барам", "bad": "Мин барасың"}\n', encoding="utf-8")
    report = evaluate(own_workspace, place, samples=0, inputs=Inputs(pairs=str(mine)))
    assert {measure["name"] for measure in report["measures"]} == {"bits", *TYPING, "pairs"}


def test_a_file_and_its_baselines(own_workspace: Workspace, tiny_model, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("Кичә без урманга бардык. " * 40, encoding="utf-8")
    report = evaluate(own_workspace, place_for(own_workspace, tiny_model), samples=0, inputs=Inputs(file=str(file)))
    assert report["bytes"] == len(file.read_bytes()) + 1 and report["text"] == str(file)
    assert set(report["baselines"]) == {"xz", "unigram", "bigram"}


def test_a_tokenizer_that_does_not_belong(own_workspace: Workspace, tiny_model) -> None:
    with pytest.raises(TatarLLMError, match="another tokenizer"):
        evaluate(own_workspace, place_for(own_workspace, tiny_model, tokenizer_sha256="0" * 64))


def test_held_out_text_in_the_tokens_of_another_model(own_workspace: Workspace, tiny_model, tmp_path: Path) -> None:
    """A model whose tokenizer is not the workspace's is measured on the same text, byte for byte."""
    expected = evaluate(own_workspace, place_for(own_workspace, tiny_model), suite="light", samples=0)
    away = tmp_path / "tokenizer"
    shutil.copytree(own_workspace.tokenizer, away)
    (away / "tokenizer.json").write_text((away / "tokenizer.json").read_text(encoding="utf-8") + "\n", encoding="utf-8")
    place = place_for(own_workspace, tiny_model, tokenizer_sha256=sha256_file(away / "tokenizer.json"))
    found = evaluate(own_workspace, ModelPlace("away", place.model, away), samples=0)
    assert found["bytes"] == expected["bytes"] and found["bits_per_byte"] == pytest.approx(expected["bits_per_byte"])


def test_models_side_by_side(own_workspace: Workspace, tiny_model) -> None:
    import torch

    first = evaluate(own_workspace, place_for(own_workspace, tiny_model), samples=0)
    with torch.no_grad():
        tiny_model.head.weight.mul_(0.01)  # answers everything alike: fewer bits than a random network that is sure
    second = evaluate(own_workspace, place_for(own_workspace, tiny_model, "001-flat"), samples=0)
    text = compare(own_workspace, [second, first])
    assert "| measure | 001-flat | 000-tiny | by chance |" in text
    assert "bits per byte on held-out text: 001-flat is better than 000-tiny." in text
    assert "minimal pairs of Tatar grammar: 001-flat is not told apart from 000-tiny." in compare(own_workspace, [second, second])\
        .replace("001-flat.", "000-tiny.")  # fmt: skip


def test_the_protocol_needs_a_file(own_workspace: Workspace, tiny_model) -> None:
    with pytest.raises(TatarLLMError, match="needs --file"):
        evaluate(own_workspace, place_for(own_workspace, tiny_model), inputs=Inputs(protocol="goldfish"))


def test_goldfish_is_the_same_by_transformers(own_workspace: Workspace, tiny_model, tmp_path: Path) -> None:
    """The protocol written a second time, on the exported folder, with transformers alone."""
    transformers = pytest.importorskip("transformers")
    import torch

    from tatar_llm.export import export_hf

    lines = ["Кичә без урманга бардык.", "Әни чәй куйды, ә әти сүз әйтте!", "Ике сүз", "А", "Җәй көне эссе."]
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(lines), encoding="utf-8")
    place = place_for(own_workspace, tiny_model)
    ours = evaluate(own_workspace, place, inputs=Inputs(file=str(file), protocol="goldfish"))["measures"][0]
    folder = export_hf(own_workspace, place, str(tmp_path / "hf"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    scores = []
    for line in lines:
        ids = tokenizer(line)["input_ids"][:512]
        skip = len(tokenizer(line[: len(line) // 2], add_special_tokens=False)["input_ids"])
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, :-1].double()
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none") / math.log(2)
        scores.append(float(losses[skip:].sum()))
    assert ours["value"] == pytest.approx(sum(scores) / len(scores), abs=0.01)
    assert ours["outcomes"] == pytest.approx(scores, abs=0.01)


def test_an_exported_folder_is_a_model_too(own_workspace: Workspace, tiny_model, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from tatar_llm.export import export_hf
    from tatar_llm.training import find_model

    place = place_for(own_workspace, tiny_model, language="sah")  # what is Tatar alone is not what this is about
    expected = evaluate(own_workspace, place, samples=1)
    for dtype, gap in (("float32", 1e-6), ("bfloat16", 0.02)):
        folder = export_hf(own_workspace, place, str(tmp_path / dtype), dtype=dtype)
        found = evaluate(own_workspace, find_model(own_workspace, str(folder)), samples=1)
        assert found["bits_per_byte"] == pytest.approx(expected["bits_per_byte"], rel=gap)
        assert found["corpus"] == "made up"
    assert found["samples"][0]["prompt"] == expected["samples"][0]["prompt"]
    sizes = [(tmp_path / dtype / "model.safetensors").stat().st_size for dtype in ("float32", "bfloat16")]
    assert sizes[1] < 0.6 * sizes[0]
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    with pytest.raises(TatarLLMError, match="only qwen3"):
        evaluate(own_workspace, find_model(own_workspace, str(folder)))
    (folder / "model.safetensors").write_bytes(b"soup")
    with pytest.raises(TatarLLMError, match="no readable model"):
        evaluate(own_workspace, find_model(own_workspace, str(folder)))
