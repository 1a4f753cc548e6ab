"""Clients that leave, loading and draining, against the real binary."""

import json
import random
import signal
import socket
import struct
import threading
import time

import openai
import pytest

from server_process import KEY, MODEL, Server

MESSAGES = [{"role": "user", "content": "Tell me a long story about a river."}]


def post(server, body, path="/v1/completions"):
    """A socket on which the request has been sent."""
    data = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    return connection


def leave(connection, reset):
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def wait_for(condition, timeout=30):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("stream", [False, True])
def test_leaving_in_mid_prefill_frees_everything(server, stream):
    server.wait_idle()
    before = server.metric("prompt_tokens_total")
    prompt = "river " * 6000
    connection = post(server, {"prompt": prompt, "max_tokens": 50, "stream": stream})
    assert wait_for(lambda: server.metric("prompt_tokens_total") > before)  # some chunks are done
    leave(connection, reset=not stream)
    server.wait_idle()
    assert server.metric("prompt_tokens_total") - before < 6000


@pytest.mark.parametrize("stream", [False, True])
def test_leaving_in_mid_decode_frees_everything(server, stream):
    server.wait_idle()
    before = server.metric("generation_tokens_total")
    connection = post(server, {"prompt": "A river", "max_tokens": 4000, "stream": stream, "ignore_eos": True})
    assert wait_for(lambda: server.metric("generation_tokens_total") > before + 5)
    leave(connection, reset=False)
    server.wait_idle()
    assert server.metric("generation_tokens_total") - before < 3900


def test_closing_the_clients_stream_cancels(server, client, model):
    aborted = server.metric("request_success_total", finished_reason="abort")
    stream = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=4000, stream=True, extra_body={"ignore_eos": True})
    for chunk, _ in zip(stream, range(5)):
        pass
    stream.close()
    server.wait_idle()
    assert wait_for(lambda: server.metric("request_success_total", finished_reason="abort") == aborted + 1, timeout=5)


def test_a_thousand_random_cancels_hold_no_page(server, client, model):
    randomly = random.Random(5)
    for _ in range(40):
        connections = [post(server, {"prompt": "river " * randomly.randint(1, 60), "max_tokens": 100, "n": randomly.choice([1, 1, 2]),
                                     "stream": randomly.random() < 0.5, "ignore_eos": True}) for _ in range(25)]
        for connection in randomly.sample(connections, len(connections)):
            time.sleep(randomly.random() * 0.004)
            leave(connection, reset=randomly.random() < 0.5)
    server.wait_idle(seconds=60)
    assert client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=4).usage.completion_tokens == 4


def test_sigterm_drains():
    with Server(MODEL, "--kv-cache-memory", "256MiB") as server:
        client, result = server.client(), {}
        started = threading.Event()

        def stream():
            for chunk in client.chat.completions.create(model=client.models.list().data[0].id, messages=MESSAGES, max_tokens=150,
                                                        stream=True, extra_body={"ignore_eos": True}):
                result["text"] = result.get("text", 0) + 1
                started.set()
                if chunk.choices[0].finish_reason:
                    result["finish"] = chunk.choices[0].finish_reason

        thread = threading.Thread(target=stream)
        thread.start()
        assert started.wait(60)
        server.process.send_signal(signal.SIGTERM)
        assert wait_for(lambda: server.status("/readyz") == 503, timeout=1)
        assert server.status("/livez") == 200
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model="x", messages=MESSAGES)
        assert caught.value.status_code == 503
        thread.join(60)
        assert result["finish"] == "length"
        assert server.process.wait(30) == 0


def test_probes_answer_while_loading():
    with Server(MODEL, "--kv-cache-memory", "256MiB", wait=False) as server:
        seen = set()
        while 200 not in seen:
            seen.add(server.status("/startupz"))
            assert server.status("/livez") == 200
        assert server.status("/readyz") == 200


def test_metrics_tell_what_happened(server, client, model):
    before = {name: server.metric(name) for name in ("generation_tokens_total", "prompt_tokens_total", "time_to_first_token_seconds_count",
                                                     "request_generation_tokens_sum")}
    stopped = server.metric("request_success_total", finished_reason="length")
    answer = client.completions.create(model=model, prompt="A river", max_tokens=7, extra_body={"ignore_eos": True})
    assert server.metric("generation_tokens_total") == before["generation_tokens_total"] + 7
    assert server.metric("prompt_tokens_total") == before["prompt_tokens_total"] + answer.usage.prompt_tokens
    assert server.metric("time_to_first_token_seconds_count") == before["time_to_first_token_seconds_count"] + 1
    assert server.metric("request_generation_tokens_sum") == before["request_generation_tokens_sum"] + 7
    assert server.metric("request_success_total", finished_reason="length") == stopped + 1
