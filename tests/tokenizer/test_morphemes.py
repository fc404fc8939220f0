"""Merges bounded by morphemes: the grammar's ends are kept while learning, and what comes out is a BPE like any other."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tatar_llm.config import TokenizerConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.evaluation.segmentation import morpheme_agreement, word_forms
from tatar_llm.grammar.lexicon import noun_lemma, verb_lemma
from tatar_llm.tokenizer import SPECIAL_TOKENS, build_tokenizer, encode_text, load_tokenizer, train_tokenizer
from tatar_llm.tokenizer.load import token_bytes
from tatar_llm.tokenizer.morphemes import BORDER, forms, marked, morpheme_ends
from tatar_llm.workspace import Workspace, read_json, write_json, write_text

FORMS = [form for lemma in (noun_lemma("китап"), noun_lemma("мәктәп"), verb_lemma("бар")) for form in forms(lemma)]
LINES = [f"{str(form).capitalize()} {form} {str(form).upper()}, {form}.\n" for form in FORMS] * 3


@pytest.fixture(scope="module")
def bounded() -> Tokenizer:
    tokenizer = build_tokenizer(iter(LINES), 700, morphemes=True)
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("китабымнан", "китаб|ым|нан"),
        ("Китабымнан, МӘКТӘПЛӘРДӘ!", "Китаб|ым|нан, МӘКТӘП|ЛӘР|ДӘ!"),
        ("язганнан соң", "яз|ган|нан соң"),
        ("алма", "алма"),  # an apple, and: do not take
        ("китап китабистан 12-нче", "китап китабистан 12-нче"),
    ],
)
def test_where_words_are_cut(text: str, cut: str) -> None:
    assert next(marked(iter([text]))).replace(BORDER, "|") == cut


def test_every_reading_has_the_ends() -> None:
    ends = morpheme_ends()
    assert all(list(places) == sorted(set(places)) and set(places) <= set(range(1, len(word))) for word, places in ends.items())
    for form in word_forms(200):
        assert set(ends.get(str(form), ())) <= set(itertools.accumulate(map(len, form.morphs)))


def test_the_forms_of_a_word() -> None:
    made = [str(form) for form in FORMS]
    assert {"китап", "китабым", "китапларыннан", "бара", "бармады", "барганнан", "баручының", "барыйм"} <= set(made)


def test_every_token_lies_within_a_morpheme(bounded: Tokenizer) -> None:
    morphs = {morph.encode() for line in LINES for piece in next(marked(iter([line]))).split(BORDER) for morph in piece.split()}
    for number in range(16 + 256, bounded.get_vocab_size()):
        token = token_bytes(bounded, number).strip()
        assert any(token in morph for morph in morphs), bounded.decode([number])
    words = {bounded.decode([number]).strip().lower() for number in range(bounded.get_vocab_size())}
    assert "китап" in words and not words & morpheme_ends().keys()


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from([BORDER, f"китаб{BORDER}ым", "<eos> китабымнан"]))
def test_nothing_is_lost(bounded: Tokenizer, text: str) -> None:
    ids = encode_text(bounded, text)
    assert bounded.decode(ids, skip_special_tokens=False) == text
    assert all(token >= len(SPECIAL_TOKENS) for token in ids)


def test_it_agrees_better_and_cuts_by_the_same_rules(bounded: Tokenizer) -> None:
    plain = build_tokenizer(iter(LINES), 700)
    assert morpheme_agreement(bounded, FORMS).value > morpheme_agreement(plain, FORMS).value + 0.2
    assert bounded.pre_tokenizer.pre_tokenize_str(LINES[0]) == plain.pre_tokenizer.pre_tokenize_str(LINES[0])
    assert bounded.get_vocab_size() <= 700


def test_the_setting(own_workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    write_text(own_workspace.train_text, "".join(LINES))
    plain = train_tokenizer(TokenizerConfig(vocab_size=700), own_workspace)
    bounded = train_tokenizer(TokenizerConfig(vocab_size=700, morphemes=True), own_workspace)
    assert bounded["tokenizer_sha256"] != plain["tokenizer_sha256"] and bounded["model_type"] == "bpe"
    tokenizer, _ = load_tokenizer(own_workspace.tokenizer)
    assert tokenizer.decode(encode_text(tokenizer, LINES[0])) == LINES[0]
    capsys.readouterr()
    assert train_tokenizer(TokenizerConfig(vocab_size=700, morphemes=True), own_workspace) == bounded
    assert "nothing changed" in capsys.readouterr().err


def test_morphemes_of_what_has_none(own_workspace: Workspace) -> None:
    with pytest.raises(TatarLLMError, match="unigram has none"):
        TokenizerConfig(type="unigram", morphemes=True)
    write_json(own_workspace.corpus_manifest, read_json(own_workspace.corpus_manifest) | {"language": "sah"})
    with pytest.raises(TatarLLMError, match="the grammar knows Tatar alone, and this text is sah"):
        train_tokenizer(TokenizerConfig(vocab_size=400, morphemes=True), own_workspace)
