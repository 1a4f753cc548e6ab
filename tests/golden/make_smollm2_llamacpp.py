#!/usr/bin/env python3
"""Makes the goldens of SmolLM2 with llama.cpp, from an F32 GGUF of the prepared folder's weights:

    loadtest/peers/make_gguf.py FOLDER smollm2-f32.gguf && make_smollm2_llamacpp.py smollm2-f32.gguf

smollm2_llamacpp.json   20 prompts: token ids, log-probability of every token given those before it
smollm2_texts.json      20 texts of 512 tokens, sampled at temperature 1: token ids alone

Needs llama-cpp-python 0.3.36 and numpy. Keys, values and attention are kept in F32 (llama.cpp's default cache is F16).
"""
import json
import pathlib
import sys

import numpy as np
from llama_cpp import Llama

HERE = pathlib.Path(__file__).resolve().parent
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
PROMPTS = [
    "The mayor of the old harbour town said in 1998 that the bridge would cost 12 million crowns, and nobody believed her.",
    "Water boils at 100 degrees Celsius at sea level because the vapour pressure of the liquid equals the pressure of the air.",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)\n\nprint(fibonacci(10))\n",
    "Once upon a time a fox lived under the roots of an oak. Every evening it counted the lights of the village below.",
    "#include <vector>\n\nint sum(const std::vector<int>& values) {\n  int total = 0;\n  for (int value : values) total += value;\n"
    "  return total;\n}\n",
    "Photosynthesis turns carbon dioxide and water into glucose and oxygen. The light is absorbed by chlorophyll in the leaves.",
    "1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096",
    "Dear Ms. Alvarez,\n\nThank you for your letter of March 3. We are sorry that the lamp arrived broken and will send another.\n",
    "Die Katze schläft auf dem Sofa, während der Hund im Garten bellt. Morgen fahren wir mit dem Zug nach Köln.",
    "Le petit café au coin de la rue ouvre à sept heures; on y trouve du pain frais et des journaux de la veille.",
    "{\"name\": \"bolt M6\", \"price\": 0.25, \"stock\": [120, 80, 0], \"tags\": [\"steel\", \"metric\"], \"active\": true}",
    "SELECT city, COUNT(*) AS n FROM orders WHERE year = 2021 GROUP BY city HAVING n > 10 ORDER BY n DESC LIMIT 5;",
    "# Shopping list\n\n- two onions\n- olive oil\n- 500 g of flour\n- a lemon\n\n## Later\n\n- batteries\n- envelopes\n",
    "If all bloops are razzies and all razzies are lazzies, then all bloops are lazzies. That follows by transitivity.",
    "naïve façade – “quotes”, … ellipsis, 5 €, ½ cup, x² + y² = z², 東京 and Москва, 🙂 done.",
    CHAT.format("What is the capital of France?") + "The capital of France is Paris.",
    CHAT.format("Give me three tips for sleeping well.") + "1. Go to bed at the same hour every day.\n2. Keep the room dark and "
    "cool.\n3. Drink no coffee in the evening.",
    CHAT.format("Explain gravity to a child.") + "Gravity is what pulls things together. When you drop a ball, the Earth pulls "
    "it down.",
    CHAT.format("Write a haiku about rain.") + "Soft rain on the roof\nthe garden drinks in silence\nleaves shine like small lamps",
    "The committee met four times. At the first meeting it chose a chair; at the second, a budget; at the third it found that "
    "the budget was too small; at the fourth it chose another chair. " * 4,
]
TOPICS = [
    "The history of bread", "How a bicycle stays upright", "A letter from a lighthouse keeper", "import numpy as np\n",
    "Volcanoes are", "Chapter 1. The Stranger", "The best way to learn a language", "Ocean currents", "Q: What is a prime number?\nA:",
    "<|im_start|>user\nTell me about bees.<|im_end|>\n<|im_start|>assistant\n", "In 1851, the first", "Recipe: tomato soup\n\n",
    "The economy of small islands", "Why do we dream?", "class Account:\n    def __init__(self", "Dear diary,",
    "The theory of evolution", "A short guide to knots", "It was raining when", "Music and mathematics",
]
TEXT_TOKENS = 512
END_TOKENS = [0, 1, 2]  # <|endoftext|>, <|im_start|>, <|im_end|>


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def score(model, tokens):
    """Log-probability of tokens 1 … given those before."""
    model.reset()
    model.eval(tokens)
    rows = log_softmax(model.scores[: len(tokens) - 1])
    return [round(float(rows[i, token]), 5) for i, token in enumerate(tokens[1:])]


def sample(model, prompt, rng):
    """`prompt` continued to TEXT_TOKENS tokens, drawn from the model's own distribution without the end tokens."""
    tokens = model.tokenize(prompt.encode(), add_bos=False, special=True)
    model.reset()
    model.eval(tokens)
    while len(tokens) < TEXT_TOKENS:
        logits = np.array(model.scores[len(tokens) - 1], np.float64)
        logits[END_TOKENS] = -np.inf
        token = int(rng.choice(len(logits), p=np.exp(log_softmax(logits))))
        tokens.append(token)
        model.eval([token])
    return tokens


def main():
    model = Llama(sys.argv[1], n_ctx=1024, logits_all=True, verbose=False, type_k=0, type_v=0, flash_attn=False, seed=1)
    prompts = []
    for text in PROMPTS:
        tokens = model.tokenize(text.encode(), add_bos=False, special=True)
        prompts.append({"text": text, "tokens": tokens, "logprobs": score(model, tokens)})
    write = lambda name, value: (HERE / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
    write("smollm2_llamacpp.json", prompts)
    texts = [sample(model, topic, np.random.default_rng(seed)) for seed, topic in enumerate(TOPICS)]
    write("smollm2_texts.json", texts)


if __name__ == "__main__":
    main()
