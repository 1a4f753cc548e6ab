"""Chat completions with the official client."""

import asyncio
import math

import openai

from server_process import KEY

QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]


def test_answer(client, model):
    answer = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=32)
    assert answer.object == "chat.completion" and answer.model == model
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 0 < answer.usage.completion_tokens <= 32


def test_stream_says_the_same(client, model):
    full = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=32)
    chunks = list(client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=32, stream=True,
                                                 stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[0].choices[0].delta.content == ""
    assert all(chunk.object == "chat.completion.chunk" and chunk.id == chunks[0].id for chunk in chunks)
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:-1])
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert text == full.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == full.choices[0].finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage == full.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_usage_only_when_asked(client, model):
    chunks = list(client.chat.completions.create(model=model, messages=QUESTION, max_tokens=4, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "length"


def test_the_clients_stream_helper(client, model):
    with client.chat.completions.stream(model=model, messages=QUESTION, temperature=0, max_tokens=16) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in events and "content.done" in events
    assert "Paris" in final.choices[0].message.content


def test_several_choices(client, model):
    answer = client.chat.completions.create(model=model, messages=QUESTION, n=3, temperature=1.5, seed=4, max_tokens=12)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1
    one = client.chat.completions.create(model=model, messages=QUESTION, n=1, max_tokens=1)
    assert answer.usage.prompt_tokens == one.usage.prompt_tokens
    assert answer.usage.completion_tokens <= 36
    texts, finished = {}, {}
    for chunk in client.chat.completions.create(model=model, messages=QUESTION, n=3, temperature=1.5, seed=4, max_tokens=12, stream=True):
        choice = chunk.choices[0]
        texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
        if choice.finish_reason:
            finished[choice.index] = choice.finish_reason
    assert texts == {choice.index: choice.message.content for choice in answer.choices}
    assert finished == {choice.index: choice.finish_reason for choice in answer.choices}


def test_seed_reproduces(client, model):
    def sample(seed):
        return client.chat.completions.create(model=model, messages=QUESTION, temperature=1.2, seed=seed, max_tokens=24).choices[0].message.content

    assert sample(11) == sample(11)
    assert len({sample(seed) for seed in (11, 12, 13)}) > 1


def test_logprobs(client, model):
    answer = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=8, logprobs=True, top_logprobs=5)
    content = answer.choices[0].logprobs.content
    # The stop token counts as generated and is not part of the text.
    assert len(content) in (answer.usage.completion_tokens, answer.usage.completion_tokens - 1)
    assert b"".join(bytes(token.bytes) for token in content).decode() == answer.choices[0].message.content
    for token in content:
        assert len(token.top_logprobs) == 5
        tops = [top.logprob for top in token.top_logprobs]
        assert tops == sorted(tops, reverse=True) and sum(map(math.exp, tops)) <= 1.001
        assert math.isclose(token.logprob, tops[0], abs_tol=1e-4)  # greedy takes the first
    streamed = []
    for chunk in client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=8, logprobs=True, top_logprobs=5, stream=True):
        if chunk.choices[0].logprobs:
            streamed += chunk.choices[0].logprobs.content
    assert [token.token for token in streamed] == [token.token for token in content]


def test_stop_strings(client, model):
    base = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=32).choices[0].message.content
    stop = base[8:14]  # across token borders
    answer = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=32, stop=["@1", "@2", "@3", "@4", "@5", stop])
    assert answer.choices[0].message.content == base[: base.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, max_tokens=32, stop=stop, stream=True))
    assert streamed == base[: base.index(stop)]


def test_logit_bias_and_extensions(client, model):
    token = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=1, logprobs=True)
    first = token.choices[0].logprobs.content[0].token
    ids = client.post("/../tokenize", body={"prompt": first, "add_special_tokens": False}, cast_to=dict)["tokens"]
    banned = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=1, logprobs=True, logit_bias={str(ids[0]): -100})
    assert banned.choices[0].logprobs.content[0].token != first
    forced = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=40, temperature=0,
                                            extra_body={"ignore_eos": True, "min_tokens": 40, "top_k": 1, "repetition_penalty": 1.1})
    assert forced.usage.completion_tokens == 40 and forced.choices[0].finish_reason == "length"


def test_continue_final_message(client, model):
    messages = QUESTION + [{"role": "assistant", "content": "The capital of France is"}]
    answer = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=4, extra_body={"continue_final_message": True})
    assert answer.choices[0].message.content.startswith(" Paris")


def test_multibyte_text_arrives_whole(client, model):
    messages = [{"role": "user", "content": "Repeat exactly: \u20ac \u65e5\u672c\u8a9e \U0001f600 \u00e9"}]
    pieces = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(
        model=model, messages=messages, temperature=0, max_tokens=48, stream=True)]
    full = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=48)
    assert "".join(pieces) == full.choices[0].message.content


def test_async_clients_together(server, model):
    async def run():
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
            async def one(i):
                answer = await client.chat.completions.create(model=model, temperature=0, max_tokens=8, messages=[{"role": "user", "content": f"Count from {i}."}])
                return answer.choices[0].message.content
            together = await asyncio.gather(*(one(i) for i in range(16)))
            return together, [await one(i) for i in range(16)]

    together, alone = asyncio.run(run())
    assert together == alone  # an answer does not depend on what else is in the batch
