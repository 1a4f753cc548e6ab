"""The KV cache under pressure and reuse, on the real model: an answer, its log probabilities included, is the same to the
last bit whether it was preempted, continued a cached prompt or ran alone."""

import concurrent.futures

from server_process import MODEL, Server

WORDS = "river stone lantern orchard violin harbour meadow copper winter signal garden thread".split()


def prompt(i):
    """Some 60 to 250 tokens, another for every i."""
    return " ".join(WORDS[(i * 7 + k * (i % 5 + 1)) % len(WORDS)] for k in range(40 + i * 3))


def complete(client, model, i, max_tokens=70, **extra):
    """(text, tokens, logprobs) of request i; every third one samples."""
    answer = client.completions.create(model=model, prompt=prompt(i), max_tokens=max_tokens, logprobs=1, seed=i,
                                       temperature=0.8 if i % 3 == 0 else 0, extra_body={"ignore_eos": True, **extra})
    choice = answer.choices[0]
    return choice.text, choice.logprobs.tokens, choice.logprobs.token_logprobs


def together(client, model, numbers, workers):
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda i: complete(client, model, i), numbers))


def test_preempted_answers_are_the_same_to_the_bit(client, model):
    numbers = range(64)
    expected = together(client, model, numbers, 8)  # the shared server's cache holds all of them
    for i in (0, 9, 33, 63):
        assert complete(client, model, i) == expected[i], "alone"
    # Pages of 64 tokens are 1.4 MiB here: room for about ten of these at once.
    for host, counter in (("512MiB", "preempt_spill_bytes_total"), ("0", "preempt_recomputes_total")):
        with Server(MODEL, "--kv-cache-memory", "64MiB", "--kv-host-memory", host, "--output-reserve", "0",
                    "--max-num-batched-tokens", "256") as small:
            assert together(small.client(), model, numbers, 64) == expected
            assert small.metric("num_preemptions_total") > 0
            assert small.metric(counter) > 0
            small.wait_idle()


def test_a_cached_prompt_is_not_computed_again_and_changes_nothing(client, model):
    def ask(salt):
        return client.chat.completions.create(
            model=model, temperature=0, max_tokens=24, logprobs=True, extra_body={"cache_salt": salt},
            messages=[{"role": "system", "content": prompt(60)}, {"role": "user", "content": "Which word came first?"}])

    first, second, stranger = ask("a"), ask("a"), ask("b")
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens // 64 * 64 - 64
    assert stranger.usage.prompt_tokens_details.cached_tokens == 0, "another tenant's pages are never found"
    for other in (second, stranger):
        assert other.choices[0].message.content == first.choices[0].message.content
        assert ([token.logprob for token in other.choices[0].logprobs.content] ==
                [token.logprob for token in first.choices[0].logprobs.content])
