"""Every error is the exception that the official client has for it."""

import http.client
import json

import openai
import pytest

from server_process import KEY, MODEL, Server

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize("fields, param", [
    ({"temperature": 3}, "temperature"),
    ({"n": 0}, "n"),
    ({"n": 1000}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_completion_tokens": -1}, "max_completion_tokens"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logit_bias": {"10000000": 1}}, "logit_bias"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"tools": []}, "tools"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, "tools"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]}, "messages[0].content[0]"),
])
def test_bad_requests(client, model, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": model, "messages": MESSAGES, **fields})
    error = caught.value
    assert error.status_code == 400 and error.type == "invalid_request_error" and error.param == param
    assert error.request_id


def test_longer_than_the_context(client, model):
    limit = client.models.retrieve(model).max_model_len
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "word " * (limit + 10)}])
    assert caught.value.code == "context_length_exceeded"
    assert f"This model's maximum context length is {limit} tokens" in caught.value.message
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=model, prompt="word", max_tokens=limit)
    assert caught.value.code == "context_length_exceeded"


def test_unknown_model(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-none", messages=MESSAGES)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no/such/model")


def test_responses_come_later(client, model):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=model, input="Hi")
    assert "not supported yet" in caught.value.message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'{"messages": "\xff"}', b'{"messages":[{"role":"user","content":"\\ud800"}]}',
                                  b'{"prompt":' + b"[" * 5000, b'{"a":1e999}'])
def test_bodies_that_are_no_json(server, body):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"})
    response = connection.getresponse()
    assert response.status == 400
    error = json.loads(response.read())["error"]
    assert error["type"] == "invalid_request_error" and set(error) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"]


def test_errors_of_a_stream_come_before_it(client, model):
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=model, messages=MESSAGES, n=-1, stream=True)


def test_api_keys():
    with Server(MODEL, "--kv-cache-memory", "256MiB", "--api-key", "sk-other", "--served-model-name", "org/name") as server:
        for wrong in ("sk-wrong", "none"):
            with pytest.raises(openai.AuthenticationError) as caught:
                server.client(wrong).models.list()
            assert caught.value.code == "invalid_api_key"
        for right in (KEY, "sk-other"):
            assert server.client(right).models.retrieve("org/name").id == "org/name"
        assert server.client().chat.completions.create(model="org/name", messages=MESSAGES, max_tokens=1).model == "org/name"
        assert server.status("/metrics", key=None) == 401 and server.status("/livez", key=None) == 200
