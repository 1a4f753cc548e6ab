"""Legacy completions, models and the tokenizer endpoints with the official client."""

import pytest


def tokenize(client, **body):
    return client.post("/../tokenize", body=body, cast_to=dict)


def test_default_length_is_sixteen(client, model):
    answer = client.completions.create(model=model, prompt="Once upon a time", extra_body={"ignore_eos": True})
    assert answer.object == "text_completion"
    assert answer.usage.completion_tokens == 16 and answer.choices[0].finish_reason == "length"


def test_prompts_in_four_shapes(client, model):
    text = "The sky is"
    ids = tokenize(client, prompt=text)["tokens"]
    expected = client.completions.create(model=model, prompt=text, temperature=0, max_tokens=6).choices[0].text
    assert client.completions.create(model=model, prompt=ids, temperature=0, max_tokens=6).choices[0].text == expected
    for prompts in ([text, "Water is"], [ids, tokenize(client, prompt="Water is")["tokens"]]):
        answer = client.completions.create(model=model, prompt=prompts, temperature=0, max_tokens=6, n=2)
        assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
        assert answer.choices[0].text == answer.choices[1].text == expected
        assert answer.choices[2].text == answer.choices[3].text != expected
        assert answer.usage.prompt_tokens == len(ids) + len(tokenize(client, prompt="Water is")["tokens"])


def test_echo_scores_the_prompt(client, model):
    prompt = "Paris is the capital of France. \u20ac"
    answer = client.completions.create(model=model, prompt=prompt, echo=True, logprobs=3, max_tokens=0)
    choice, tokens = answer.choices[0], tokenize(client, prompt=prompt)["tokens"]
    logprobs = choice.logprobs
    assert choice.text == prompt and choice.finish_reason == "length"
    assert answer.usage.completion_tokens == 0
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) == len(tokens)
    assert logprobs.token_logprobs[0] is None and logprobs.top_logprobs[0] is None
    assert all(value <= 0 for value in logprobs.token_logprobs[1:])
    assert all(3 <= len(top) <= 4 for top in logprobs.top_logprobs[1:])
    assert logprobs.text_offset[0] == 0 and logprobs.text_offset == sorted(logprobs.text_offset)
    for token, offset in zip(logprobs.tokens, logprobs.text_offset):
        assert token.startswith("bytes:") or prompt[offset:].startswith(token)
    # The scores do not depend on being generated from: the same with tokens after them.
    longer = client.completions.create(model=model, prompt=prompt, echo=True, logprobs=3, max_tokens=4, temperature=0).choices[0]
    assert longer.text.startswith(prompt) and len(longer.text) > len(prompt)
    assert longer.logprobs.token_logprobs[1:len(tokens)] == pytest.approx(logprobs.token_logprobs[1:], abs=1e-4)


def test_scores_agree_with_generation(client, model):
    """What the model says of its own greedy answer is the same while making it and when it is given as a prompt."""
    made = client.completions.create(model=model, prompt="The sun rises in the", temperature=0, max_tokens=6, logprobs=0)
    scored = client.completions.create(model=model, prompt="The sun rises in the" + made.choices[0].text, echo=True, logprobs=0, max_tokens=0)
    n = len(made.choices[0].logprobs.tokens)
    assert scored.choices[0].logprobs.tokens[-n:] == made.choices[0].logprobs.tokens
    assert scored.choices[0].logprobs.token_logprobs[-n:] == pytest.approx(made.choices[0].logprobs.token_logprobs, abs=0.05)
    assert made.choices[0].logprobs.text_offset[0] == len("The sun rises in the")


def test_stream_says_the_same(client, model):
    options = dict(model=model, prompt=["One, two,", "Red, green,"], temperature=0, max_tokens=10)
    full = client.completions.create(**options)
    texts, finish = {}, {}
    for chunk in client.completions.create(**options, stream=True):
        choice = chunk.choices[0]
        texts[choice.index] = texts.get(choice.index, "") + choice.text
        if choice.finish_reason:
            finish[choice.index] = choice.finish_reason
    assert texts == {choice.index: choice.text for choice in full.choices}
    assert finish == {choice.index: choice.finish_reason for choice in full.choices}


def test_best_of(client, model):
    def mean(choice):
        return sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)

    options = dict(model=model, prompt="My favourite animal is", temperature=1.3, seed=5, max_tokens=8, logprobs=0)
    every = client.completions.create(**options, n=4)
    best = client.completions.create(**options, n=1, best_of=4)
    assert best.choices[0].text == max(every.choices, key=mean).text


def test_models(client, model):
    cards = client.models.list().data
    assert [card.id for card in cards] == [model]
    assert cards[0].object == "model" and cards[0].max_model_len > 0
    assert client.models.retrieve(model).id == model


def test_tokenize_and_back(client, model):
    text = "Hello, w\u00f6rld! <|im_start|>"
    answer = tokenize(client, model=model, prompt=text, return_token_strs=True)
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert answer["token_strs"][-1] == "<|im_start|>"  # a raw prompt recognises special tokens
    assert client.post("/../detokenize", body={"tokens": answer["tokens"]}, cast_to=dict)["prompt"] == text
    chat = tokenize(client, messages=[{"role": "user", "content": "<|im_start|>"}])["tokens"]
    plain = tokenize(client, messages=[{"role": "user", "content": "x"}])["tokens"]
    special = answer["tokens"][-1]
    assert chat.count(special) == plain.count(special)  # message content never becomes one
