"""OpenAI's API, spoken by OpenAI's own client; errors in its form; requests that no client of good will sends."""

from __future__ import annotations

import http.client
import json
import math
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Running
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from little_chat import PAIRS

from tatar_llm.chat import Speaker, Turn
from tatar_llm.errors import TatarLLMError
from tatar_llm.evaluation.likelihood import token_nats
from tatar_llm.generation import Settings, Suggester, generate_batch
from tatar_llm.model import GPT
from tatar_llm.serving import Limits, server
from tatar_llm.tokenizer import encode_text
from tatar_llm.training import ModelPlace

openai = pytest.importorskip("openai")
pytest.importorskip("fastapi")
from tatar_llm.serving import answering, requests  # noqa: E402


def client(running: Running, **options: Any) -> Any:
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key=options.pop("api_key", "none"), max_retries=0, **options)


def endless(running: Running) -> None:
    """Let no text end by itself."""
    running.worker.tok_config = running.worker.tok_config | {"eos_token_id": -1}


class TestClient:
    def test_models(self, running: Running) -> None:
        [model] = client(running).models.list().data
        assert (model.id, model.owned_by) == ("000-tiny", "tatar-llm")
        assert client(running).models.retrieve("000-tiny").id == "000-tiny"

    def test_completions(self, running: Running, tiny_model: GPT, tiny_tokenizer: tuple) -> None:
        wanted = Settings(12, temperature=0.9, top_k=20, seed=3)
        expected = generate_batch(tiny_model, *tiny_tokenizer, ["Кичә без ", "Ә"], wanted, samples=2)
        made = client(running).completions.create(
            model="000-tiny", prompt=["Кичә без ", "Ә"], n=2, max_tokens=12, temperature=0.9, seed=3, extra_body={"top_k": 20}
        )
        assert [choice.text for choice in made.choices] == [one.text for texts in expected for one in texts]
        assert [choice.index for choice in made.choices] == [0, 1, 2, 3] and made.object == "text_completion"
        assert made.usage.completion_tokens == sum(len(one.tokens) for texts in expected for one in texts)
        assert made.usage.prompt_tokens == sum(1 + len(encode_text(tiny_tokenizer[0], text)) for text in ("Кичә без", "Ә"))

    @pytest.mark.parametrize("logprobs", [None, 2])
    def test_a_stream_is_the_whole_in_pieces(self, running: Running, logprobs: int | None) -> None:
        asked = {"model": "000-tiny", "prompt": "Урманда ", "n": 2, "seed": 1, "max_tokens": 20, "logprobs": logprobs, "echo": True}
        whole = client(running).completions.create(**asked)
        texts, tokens, reasons, usage = ["", ""], [[], []], ["", ""], None
        for event in client(running).completions.create(**asked, stream=True, stream_options={"include_usage": True}):
            usage = event.usage or usage
            for choice in event.choices:
                texts[choice.index] += choice.text
                reasons[choice.index] = choice.finish_reason or reasons[choice.index]
                if choice.logprobs:
                    tokens[choice.index] += zip(choice.logprobs.tokens, choice.logprobs.token_logprobs, choice.logprobs.text_offset, strict=True)
        assert texts == [choice.text for choice in whole.choices] and texts[0].startswith("Урманда ")
        assert reasons == [choice.finish_reason for choice in whole.choices] and usage == whole.usage
        for choice, mine in zip(whole.choices, tokens, strict=True):
            if logprobs is None:
                assert choice.logprobs is None and not mine
            else:
                assert {offset <= len(choice.text) for _, _, offset in mine} == {True}
                assert [token for token, _, _ in mine] == choice.logprobs.tokens
                assert [value for _, value, _ in mine] == pytest.approx(choice.logprobs.token_logprobs, abs=1e-4)
                assert all(len(others) == 2 for others in choice.logprobs.top_logprobs)

    def test_log_probabilities_of_a_given_text(self, running: Running, tiny_model: GPT, tiny_tokenizer: tuple) -> None:
        """What lm-eval asks of a server: token ids, echoed, and one token more."""
        ids = encode_text(tiny_tokenizer[0], "Кичә без урманга бардык")
        nats = token_nats(tiny_model, [[2, *ids]])[0]
        for sent, first in ((ids, 0), ([2, *ids], 1)):
            made = client(running).completions.create(model="000-tiny", prompt=sent, max_tokens=1, echo=True, logprobs=1, temperature=0)
            found = made.choices[0].logprobs.token_logprobs
            assert len(found) == len(sent) + 1 and found[:first] == [None] * first
            assert found[first:-1] == pytest.approx((-nats).tolist(), abs=1e-4)

    def test_stop_strings(self, running: Running) -> None:
        text = client(running).completions.create(model="000-tiny", prompt="Ә", max_tokens=30, temperature=0).choices[0].text
        stop = text[4:6]
        made = client(running).completions.create(model="000-tiny", prompt="Ә", max_tokens=30, temperature=0, stop=stop)
        assert made.choices[0].text == text[: text.index(stop)] and made.choices[0].finish_reason == "stop"

    def test_chat(self, running: Running) -> None:
        asked = {"model": "000-tiny", "seed": 4, "max_tokens": 20, "logprobs": True, "top_logprobs": 2, "messages": [
            {"role": "system", "content": "Син — ярдәмче."},
            {"role": "user", "content": [{"type": "text", "text": "Исәнме!"}]},
            {"role": "assistant", "content": "Сәлам!"}, {"role": "user", "content": "Хәлләр\nничек?"},
        ]}  # fmt: skip
        whole = client(running).chat.completions.create(**asked)
        answer = whole.choices[0].message
        assert answer.role == "assistant" and "\n" not in answer.content
        scores = whole.choices[0].logprobs.content
        assert len(scores) == whole.usage.completion_tokens and all(len(score.top_logprobs) == 2 for score in scores)
        assert all((score.logprob <= 0 and bytes(score.bytes).decode("utf-8", "replace") == score.token) or score.token.startswith("bytes:") for score in scores)
        events = list(client(running).chat.completions.create(**asked, stream=True))
        assert events[0].choices[0].delta.role == "assistant"
        assert "".join(event.choices[0].delta.content or "" for event in events) == answer.content
        assert events[-1].choices[0].finish_reason == whole.choices[0].finish_reason

    def test_messages_are_turns(self) -> None:
        messages = [requests.Message(role=role, content=text) for role, text in (("developer", "Көз."), ("user", "Сәлам!"), ("assistant", " "))]
        assert answering.turns_of(messages) == [Turn("system", "Көз."), Turn("user", "Сәлам!")]

    def test_suggest(self, running: Running, tiny_model: GPT, tiny_tokenizer: tuple) -> None:
        status, found, _ = running.ask("/v1/suggest", {"text": "Кичә без ур", "n": 2})
        expected = Suggester(tiny_model, *tiny_tokenizer).suggest("Кичә без ур", 2)
        assert status == 200 and [word["word"] for word in found["suggestions"]] == [one.word for one in expected]

    def test_a_prompt_longer_than_the_context_keeps_its_end(self, running: Running) -> None:
        texts = [client(running).completions.create(model="000-tiny", prompt="сүз " * count, max_tokens=5, temperature=0).choices[0].text for count in (200, 300)]
        assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("completions", {"model": "gpt-4", "prompt": "а"}, 404, "there is no model 'gpt-4' here: 000-tiny speaks"),
        ("completions", {"prompt": "а", "temperature": -1}, 400, "temperature is -1"),
        ("completions", b'{"prompt": "\xd0\xb0", "temperature": NaN}', 400, "temperature is nan"),
        ("completions", {"prompt": "а", "max_tokens": 10**9}, 400, "max_tokens is 1000000000: this server makes at most 4096"),
        ("completions", {"prompt": "а", "n": 33}, 400, "33 texts in one request"),
        ("completions", {"prompt": ["а"] * 300}, 400, "300 texts in one request: at most 128"),
        ("completions", {"prompt": "а", "top_p": 0}, 400, "top_p is 0"),
        ("completions", {"prompt": "а", "seed": 10**30}, 400, "seed"),
        ("completions", {"prompt": "а", "tempreature": 1}, 400, "unknown field tempreature (did you mean temperature?)"),
        ("completions", {"prompt": "а", "presence_penalty": 0.5}, 400, "presence_penalty is not supported"),
        ("completions", {"prompt": "а", "best_of": 4}, 400, "best_of is not supported"),
        ("completions", {"prompt": [7, 400]}, 400, "token ids go from 0 to 399"),
        ("completions", {"prompt": [-1]}, 400, "token ids go from 0"),
        ("completions", {"prompt": {"а": 1}}, 400, "prompt"),
        ("completions", {"prompt": "а", "stop": [""]}, 400, "a stop string is empty"),
        ("completions", {"prompt": "а", "stop": ["а"] * 20}, 400, "20 stop strings"),
        ("completions", {"prompt": "а", "logprobs": 500}, 400, "logprobs is 500"),
        ("completions", {"prompt": "сүз " * 200, "logprobs": 1, "echo": True}, 400, "the model's context"),
        ("completions", [1, 2], 400, "must be a JSON object"),
        ("completions", b"{", 400, "not valid JSON"),
        ("completions", b"[" * 200_000, 400, "not valid JSON"),
        ("completions", b'{"prompt": "' + b"a" * (1 << 20) + b'"}', 413, "longer than 1,048,576 bytes"),
        ("chat/completions", {"messages": []}, 400, "messages"),
        ("chat/completions", {"messages": [{"role": "tool", "content": "1"}]}, 400, "messages"),
        ("chat/completions", {"messages": [{"role": "user", "content": "а"}], "tools": [{}]}, 400, "tools is not supported"),
        ("chat/completions", {"messages": [{"role": "user", "content": "а"}], "top_logprobs": 3}, 400, "top_logprobs needs logprobs"),
        ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, 400, "messages"),
        ("suggest", {"text": "а", "n": 0}, 400, "n: "),
        ("suggest", {}, 400, "text: Field required"),
        ("nothing", {}, 404, "/v1/completions"),
        ("models/gpt-4", None, 404, "there is no model"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_done_is_said_as_openai_says_it(running: Running, path: str, body: Any, status: int, message: str) -> None:
    found, answer, _ = running.ask(f"/v1/{path}", body)
    assert found == status and message in answer["error"]["message"]
    assert answer["error"].keys() == {"message", "type", "param", "code"}
    assert running.ask("/health")[0] == 200


def test_what_changes_nothing_is_taken(running: Running) -> None:
    body = {"prompt": "а", "max_tokens": 2, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "best_of": 1, "user": "мин",
            "suffix": None, "metadata": {"a": "b"}}  # fmt: skip
    assert running.ask("/v1/completions", body)[0] == 200


def test_only_json_is_taken(running: Running) -> None:
    """A form of another site's page, which a browser sends without asking."""
    status, answer, _ = running.ask("/v1/completions", {"prompt": "а"}, headers={"Content-Type": "text/plain"})
    assert status == 415 and "application/json" in answer["error"]["message"]
    assert running.ask("/v1/completions", method="GET")[0] == 405


def test_a_key(start: Callable[..., Any]) -> None:
    with start(api_key="серсүз") as running:
        assert client(running, api_key="x").models.with_raw_response is not None
        with pytest.raises(openai.AuthenticationError, match="wants its API key"):
            client(running, api_key="wrong").models.list()
        assert running.ask("/health")[0] == 200
        status, _, _ = running.ask("/v1/models", headers={"Authorization": "Bearer серсүз".encode().decode("latin-1")})
        assert status == 200
        assert running.ask("/v1/models")[2]["www-authenticate"] == "Bearer"


def test_pages_of_other_sites(start: Callable[..., Any]) -> None:
    with start(cors=["https://tatar.example"], api_key="k") as running:
        asks = {"Origin": "https://tatar.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,authorization"}
        status = http.client.HTTPConnection("127.0.0.1", running.port)
        status.request("OPTIONS", "/v1/completions", headers=asks)
        answer = status.getresponse()
        assert answer.status == 200 and answer.getheader("access-control-allow-origin") == "https://tatar.example"
        status.close()
    with start() as running:
        assert "access-control-allow-origin" not in running.ask("/v1/models", headers={"Origin": "https://tatar.example"})[2]


def test_a_client_that_goes_in_the_middle(start: Callable[..., Any]) -> None:
    with start(Limits(tokens=10**6)) as running:
        endless(running)
        body = {"model": "000-tiny", "prompt": "Ә", "max_tokens": 10**6, "temperature": 1.0, "extra_body": {"top_k": 0}}
        stream = client(running).completions.create(**body, stream=True)
        next(iter(stream))
        stream.close()
        assert running.quiet()
        with pytest.raises(openai.APITimeoutError):
            client(running, timeout=0.4).completions.create(**body)
        assert running.quiet(), "an answer in one piece is given up too"


def test_more_than_there_is_room_for(start: Callable[..., Any]) -> None:
    with start(Limits(rows=1, waiting=0)) as running:
        with pytest.raises(openai.RateLimitError, match="waiting already"):
            client(running).completions.create(model="000-tiny", prompt="Ә")
        assert running.ask("/v1/completions", {"prompt": "Ә"})[2]["retry-after"] == "5"
        raw = http.client.HTTPConnection("127.0.0.1", running.port)
        raw.request("POST", "/v1/completions", json.dumps({"prompt": "Ә", "stream": True}), {"Content-Type": "application/json"})
        assert b'"rate_limit_exceeded"' in raw.getresponse().read()
        raw.close()


def test_a_model_that_fails(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a secret path")

    with monkeypatch.context() as patch:
        patch.setattr(running.worker.batch.__class__, "step", broken)
        status, answer, _ = running.ask("/v1/completions", {"prompt": "Ә"})
    assert status == 500 and "secret" not in answer["error"]["message"]
    assert running.ask("/v1/completions", {"prompt": "Ә", "max_tokens": 2})[0] == 200


def test_bodies_and_heads_that_never_come(start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.2)
    with start() as running:
        head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        for sent, expected in ((head, b"408"), (b"POST /v1/comp", b""), (b"", b""), (b"\x16\x03\x01\x02\x00 junk\r\n\r\n", b"400")):
            with socket.create_connection(("127.0.0.1", running.port), timeout=20) as connection:
                connection.sendall(sent)
                assert expected in connection.recv(200)
        assert running.ask("/health")[0] == 200


def test_addresses(running: Running) -> None:
    with pytest.raises(TatarLLMError, match=r"cannot listen on 127\.0\.0\.1:.* choose another --port"):
        server.listen("127.0.0.1", running.port)
    with pytest.raises(TatarLLMError, match="cannot listen on no such host:1"):
        server.listen("no such host", 1)
    free = server.listen("127.0.0.1", 0)
    assert server.address(free) == f"http://127.0.0.1:{free.getsockname()[1]}"
    free.close()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5,
)
def test_a_chat_model_answers_several_turns(start: Callable[..., Any], chat_place: ModelPlace) -> None:
    speaker = Speaker.load(chat_place, "cpu")
    with start(chat=speaker) as running:
        told: list[Any] = [{"role": "developer", "content": "Кыска."}]
        for asked, wanted in PAIRS.items():
            told.append({"role": "user", "content": asked})
            made = client(running).chat.completions.create(model="000-tiny", messages=told[-1:], temperature=0)
            assert (made.choices[0].message.content, made.choices[0].finish_reason) == (wanted, "stop")
            long = client(running).chat.completions.create(model="000-tiny", messages=told, temperature=0, max_tokens=9)
            assert long.choices[0].message.content == speaker.answers([answering.turns_of([requests.Message(**one) for one in told])], Settings(9, temperature=0))[0]
            told.append({"role": "assistant", "content": wanted})
        pieces = client(running).chat.completions.create(model="000-tiny", messages=[{"role": "user", "content": "Син кем?"}], temperature=0, stream=True)
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "Мин модель."
        status, found, _ = running.ask("/v1/chat/completions", {"messages": [{"role": "user", "content": " "}]})
        assert status == 400 and "say nothing" in found["error"]["message"]
        assert running.quiet()


fields = st.sampled_from([*requests.CompletionRequest.model_fields, *requests.ChatRequest.model_fields, "tools", "logit_bias"])
bodies = st.dictionaries(fields, json_values, max_size=5) | st.dictionaries(st.just("prompt"), json_values, min_size=1, max_size=1)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(["completions", "chat/completions", "suggest"]), body=bodies | st.binary(max_size=30))
def test_no_request_breaks_it(running: Running, path: str, body: Any) -> None:
    if isinstance(body, dict) and isinstance(body.get("max_tokens"), int):
        body["max_tokens"] = min(body["max_tokens"], 10**12)
    if isinstance(body, dict):
        body.pop("stream", None)
    status, answer, _ = running.ask(f"/v1/{path}", body)
    assert status in (200, 400, 404) and ("error" in answer) == (status != 200)
    if status == 200 and "choices" in answer:
        assert all(math.isfinite(choice["index"]) for choice in answer["choices"])


def test_it_stops_after_what_is_going_on(start: Callable[..., Any]) -> None:
    with start(Limits(tokens=10**6, seconds=1)) as running:
        endless(running)
        stream = iter(client(running).completions.create(model="000-tiny", prompt="Ә", max_tokens=10**6, stream=True))
        next(stream)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    last = [event.choices[0].finish_reason for event in stream][-1]
    assert last == "length"
