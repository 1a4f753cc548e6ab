"""hysparse.v1 over gRPC against the real binary: a generated client, the standard health and reflection services, the key."""

import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from server_process import KEY

AUTH = (("authorization", f"Bearer {KEY}"),)


@pytest.fixture
def stub(channel, contract):
    return contract[1].InferenceStub(channel)


def greedy(pb, text="The capital of France is", **fields):
    return pb.GenerateRequest(text=text, sampling=pb.Sampling(temperature=0), **fields)


def collect(stream):
    text, tokens, finish, usage = {}, {}, {}, None
    for message in stream:
        text[message.choice] = text.get(message.choice, "") + message.text
        tokens.setdefault(message.choice, []).extend(message.tokens)
        if message.finish_reason:
            finish[message.choice] = message.finish_reason
        if message.HasField("usage"):
            usage = message.usage
    return text, tokens, finish, usage


def test_same_answer_as_http(stub, contract, client):
    pb = contract[0]
    text, tokens, finish, usage = collect(stub.Generate(greedy(pb, max_tokens=24), metadata=AUTH))
    over_http = client.completions.create(model="smollm2-135m", prompt="The capital of France is", max_tokens=24, temperature=0)
    assert text[0] == over_http.choices[0].text
    assert "Paris" in text[0]
    assert len(tokens[0]) == 24 == usage.completion_tokens
    assert usage.prompt_tokens == over_http.usage.prompt_tokens
    assert finish[0] == pb.FINISH_REASON_LENGTH


def test_chat_tokens_logprobs_and_choices(stub, contract):
    pb = contract[0]
    request = pb.GenerateRequest(
        chat=pb.ChatPrompt(messages=[pb.ChatMessage(role="user", content="Say hello.")]), max_tokens=8, n=3,
        sampling=pb.Sampling(seed=7), logprobs=True, top_logprobs=2)
    messages = list(stub.Generate(request, metadata=AUTH))
    assert {m.choice for m in messages} == {0, 1, 2}
    entries = [entry for m in messages for entry in m.logprobs]
    assert entries and all(len(e.top) == 2 and e.chosen.logprob <= 0 for e in entries)
    again = collect(stub.Generate(request, metadata=AUTH))
    assert again[0] == collect(messages)[0]  # the seed decides


def test_stop_string_is_left_out(stub, contract):
    pb = contract[0]
    text, _, finish, _ = collect(stub.Generate(greedy(pb, max_tokens=24, stop=["Paris"]), metadata=AUTH))
    assert "Paris" not in text[0] and finish[0] == pb.FINISH_REASON_STOP


def test_token_prompt_and_tokenize(stub, contract):
    pb = contract[0]
    ids = stub.Tokenize(pb.TokenizeRequest(text="The capital of France is"), metadata=AUTH)
    by_ids = pb.GenerateRequest(tokens=pb.TokenIds(ids=ids.tokens), sampling=pb.Sampling(temperature=0), max_tokens=4)
    assert collect(stub.Generate(by_ids, metadata=AUTH))[0] == collect(stub.Generate(greedy(pb, max_tokens=4), metadata=AUTH))[0]
    assert ids.max_model_len == 8192


def test_models(stub, contract):
    models = stub.ListModels(contract[0].ListModelsRequest(), metadata=AUTH).models
    assert [(m.id, m.max_model_len) for m in models] == [("smollm2-135m", 8192)]


@pytest.mark.parametrize("change, code, says", [
    (lambda pb: dict(text="x", sampling=pb.Sampling(temperature=9)), grpc.StatusCode.INVALID_ARGUMENT, "temperature"),
    (lambda pb: dict(tokens=pb.TokenIds(ids=[99999999])), grpc.StatusCode.INVALID_ARGUMENT, "vocabulary"),
    (lambda pb: dict(tokens=pb.TokenIds(ids=[-1])), grpc.StatusCode.INVALID_ARGUMENT, "vocabulary"),
    (lambda pb: dict(tokens=pb.TokenIds(ids=[1] * 9000)), grpc.StatusCode.INVALID_ARGUMENT, "maximum context length is 8192"),
    (lambda pb: dict(text=""), grpc.StatusCode.INVALID_ARGUMENT, "prompt"),
    (lambda pb: dict(), grpc.StatusCode.INVALID_ARGUMENT, "prompt"),
    (lambda pb: dict(text="x", n=100000), grpc.StatusCode.INVALID_ARGUMENT, "n"),
    (lambda pb: dict(text="x", top_logprobs=3), grpc.StatusCode.INVALID_ARGUMENT, "top_logprobs"),
    (lambda pb: dict(chat=pb.ChatPrompt()), grpc.StatusCode.INVALID_ARGUMENT, "messages"),
    (lambda pb: dict(text="x", model="another"), grpc.StatusCode.NOT_FOUND, "another"),
])
def test_bad_requests_name_the_field(stub, contract, change, code, says):
    pb = contract[0]
    with pytest.raises(grpc.RpcError) as error:
        list(stub.Generate(pb.GenerateRequest(**change(pb)), metadata=AUTH))
    assert error.value.code() == code and says in error.value.details()


def test_everything_needs_the_key(stub, channel, contract):
    pb = contract[0]
    calls = [
        lambda md: list(stub.Generate(greedy(pb), metadata=md)),
        lambda md: stub.Tokenize(pb.TokenizeRequest(text="x"), metadata=md),
        lambda md: stub.ListModels(pb.ListModelsRequest(), metadata=md),
        lambda md: health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), metadata=md),
        lambda md: next(health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), metadata=md)),
    ]
    for call in calls:
        for metadata in ((), (("authorization", "Bearer wrong"),)):
            with pytest.raises(grpc.RpcError) as error:
                call(metadata)
            assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_health(channel):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "hysparse.v1.Inference"):
        status = health.Check(health_pb2.HealthCheckRequest(service=service), metadata=AUTH).status
        assert status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as error:
        health.Check(health_pb2.HealthCheckRequest(service="nobody"), metadata=AUTH)
    assert error.value.code() == grpc.StatusCode.NOT_FOUND
    watch = health.Watch(health_pb2.HealthCheckRequest(), metadata=AUTH)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def test_reflection(server):
    class WithKey(grpc.StreamStreamClientInterceptor):
        def intercept_stream_stream(self, continuation, details, requests):
            return continuation(details._replace(metadata=AUTH), requests)

    with grpc.insecure_channel(server.grpc) as plain:
        database = ProtoReflectionDescriptorDatabase(grpc.intercept_channel(plain, WithKey()))
        assert "hysparse.v1.Inference" in database.get_services()
        assert database.FindFileContainingSymbol("hysparse.v1.GenerateRequest").name == "hysparse/v1/inference.proto"


def test_leaving_frees_everything(server, stub, contract):
    pb = contract[0]
    server.wait_idle()
    for count in (0, 1, 5):  # before the first token, after it, in mid-stream
        stream = stub.Generate(greedy(pb, max_tokens=4000, ignore_eos=True), metadata=AUTH)
        for _ in range(count):
            next(stream)
        stream.cancel()
    server.wait_idle()


def test_many_at_once(stub, contract):
    pb = contract[0]
    alone = collect(stub.Generate(greedy(pb, max_tokens=12), metadata=AUTH))[0][0]
    texts = []
    threads = [threading.Thread(target=lambda: texts.append(
        collect(stub.Generate(greedy(pb, max_tokens=12), metadata=AUTH))[0][0])) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == [alone] * 16
