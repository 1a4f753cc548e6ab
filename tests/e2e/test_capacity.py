"""The capacity quote against the real binary, over HTTP and gRPC, and against `hysparse plan`."""

import json
import subprocess
import urllib.error
import urllib.request

import grpc
import pytest

from server_process import BINARY, KEY, MODEL, Server

AUTH = (("authorization", f"Bearer {KEY}"),)


def quote(server, key=KEY, **fields):
    request = urllib.request.Request(f"{server.base_url}/capacity", json.dumps(fields).encode(),
                                     {"Content-Type": "application/json", "Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_an_idle_server_admits_with_the_bytes_of_plan(server, stub_call):
    server.wait_idle()
    answer = quote(server, prompt_tokens=1000, max_tokens=201)
    assert answer["verdict"] == "admit" and answer["reason"] is None
    assert answer["queue_ahead"] == {"requests": 0, "tokens": 0}
    fits = answer["sessions_that_fit"]
    assert 0 < fits["now"] <= fits["empty_cache"]
    plans = [json.loads(subprocess.run([BINARY, "plan", MODEL, "--context", "1200", "--kv-bytes", str(size), "--json"],
                                       check=True, capture_output=True, text=True).stdout) for size in (2, 4)]
    assert answer["kv_bytes"] in [plan["context"]["allocated_bytes"] for plan in plans]
    over_grpc = stub_call(prompt_tokens=1000, max_tokens=201)
    assert over_grpc.verdict == 1 and over_grpc.sessions_empty == fits["empty_cache"]
    assert {"global": getattr(over_grpc.kv_bytes, "global"), "window": over_grpc.kv_bytes.window,
            "total": answer["kv_bytes"]["total"]} == answer["kv_bytes"]


def test_messages_count_as_in_a_chat(server, client, model, contract, stub_call):
    messages = [{"role": "user", "content": "Name three rivers."}]
    used = client.chat.completions.create(model=model, messages=messages, max_tokens=1).usage.prompt_tokens
    answer = quote(server, model=model, messages=messages, max_tokens=5, stream=True, temperature=1)
    assert answer["prompt_tokens"] == used and answer["max_tokens"] == 5
    pb = contract[0]
    assert stub_call(chat=pb.ChatPrompt(messages=[pb.ChatMessage(**messages[0])])).prompt_tokens == used


def test_more_than_the_context_is_refused(server, stub_call):
    for fields in (dict(prompt_tokens=8000, max_tokens=193), dict(prompt_tokens=9000)):
        answer = quote(server, **fields)
        assert answer["verdict"] == "refuse" and "maximum context length is 8192" in answer["reason"]
        assert answer["predicted_start_seconds"] is None
        over_grpc = stub_call(**fields)
        assert over_grpc.verdict == 3 and over_grpc.reason == answer["reason"]
        assert not over_grpc.HasField("start_seconds")


def test_one_slot_queues_in_order():
    with Server(MODEL, "--kv-cache-memory", "256MiB", "--max-num-seqs", "1") as server:
        client = server.client()
        first = client.completions.create(model="", prompt="A river", max_tokens=3000, stream=True, extra_body={"ignore_eos": True})
        for _ in range(30):  # so that the time of a step is known
            next(first)
        sooner = quote(server, prompt_tokens=50, max_tokens=10)
        assert sooner["verdict"] == "queue" and sooner["queue_ahead"] == {"requests": 0, "tokens": 0}
        assert 0 < sooner["predicted_start_seconds"] < sooner["predicted_first_token_seconds"]
        assert sooner["sessions_that_fit"]["now"] < sooner["sessions_that_fit"]["empty_cache"]
        second = client.completions.with_streaming_response.create(model="", prompt=[1] * 70, max_tokens=3000, stream=True,
                                                                   extra_body={"ignore_eos": True})
        with second:
            while server.metric("num_requests_waiting") < 1:
                pass
            later = quote(server, prompt_tokens=50, max_tokens=10)
            assert later["verdict"] == "queue" and later["queue_ahead"] == {"requests": 1, "tokens": 70}
            assert later["predicted_start_seconds"] > sooner["predicted_start_seconds"]
            first.close()


@pytest.mark.parametrize("fields, param", [
    (dict(), "prompt_tokens"), (dict(prompt_tokens=-5), "prompt_tokens"), (dict(prompt_tokens=2**63), "prompt_tokens"),
    (dict(prompt_tokens=1.25), "prompt_tokens"), (dict(prompt_tokens=5, max_tokens=2**40), "max_tokens"),
    (dict(prompt_tokens=5, messages=[{"role": "user", "content": "x"}]), "prompt_tokens"),
])
def test_bad_input(server, fields, param):
    with pytest.raises(urllib.error.HTTPError) as caught:
        quote(server, **fields)
    assert caught.value.code == 400 and json.load(caught.value)["error"]["param"] == param


def test_the_key_and_the_model(server, stub_call):
    for wrong, code in ((dict(key="wrong"), 401), (dict(model="another"), 404)):
        with pytest.raises(urllib.error.HTTPError) as caught:
            quote(server, prompt_tokens=5, **wrong)
        assert caught.value.code == code
    for fields, metadata, code in ((dict(prompt_tokens=5), (), "UNAUTHENTICATED"), (dict(), AUTH, "INVALID_ARGUMENT"),
                                   (dict(prompt_tokens=-1), AUTH, "INVALID_ARGUMENT"),
                                   (dict(prompt_tokens=2**62, max_tokens=2**62), AUTH, "INVALID_ARGUMENT"),
                                   (dict(prompt_tokens=5, model="another"), AUTH, "NOT_FOUND")):
        with pytest.raises(grpc.RpcError) as error:
            stub_call(metadata, **fields)
        assert error.value.code() == grpc.StatusCode[code]


@pytest.fixture
def stub_call(channel, contract):
    pb, stubs = contract
    stub = stubs.InferenceStub(channel)
    return lambda metadata=AUTH, **fields: stub.Quote(pb.QuoteRequest(**fields), metadata=metadata)
