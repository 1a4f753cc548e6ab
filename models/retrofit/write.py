#!/usr/bin/env python3
"""Lets the teacher write text of its own, through its server:

    hysparse serve smollm2-135m --port 8000
    write.py http://127.0.0.1:8000 smollm2-135m OUT.jsonl --count 2000

Appends {"prompt", "answer"} lines; what is there already is not asked again. Temperature 1, a seed per prompt.
"""

import argparse
import concurrent.futures
import itertools
import json
import pathlib
import urllib.request

FORMS = [
    "Explain {} to a beginner.", "Write a short story in which {} matters.", "What are common mistakes with {}?",
    "Give a step-by-step guide to {}.", "Write a letter to a friend about {}.", "List ten facts about {} and explain each.",
    "Write an encyclopedia article about {}.", "Compare two views on {}.", "Write a dialogue between two experts on {}.",
    "Summarise the history of {}.", "Write questions and answers about {}.", "How does {} affect everyday life?",
]
TOPICS = [
    "bicycles", "volcanoes", "bread", "chess", "the moon", "taxes", "gardening", "rivers", "sleep", "the printing press",
    "bees", "public transport", "salt", "maps", "the violin", "vaccines", "deserts", "football", "memory", "bridges", "tea",
    "coral reefs", "job interviews", "electric motors", "painting", "probability", "glaciers", "libraries", "cooking rice",
    "dogs", "the Silk Road", "recursion in programming", "photosynthesis", "budgeting", "winter sports", "clocks",
    "the human heart", "poetry", "ants", "renewable energy", "school uniforms", "jazz", "spreadsheets", "first aid",
    "castles", "the periodic table", "whales", "travel by train", "sorting algorithms", "earthquakes", "cheese", "friendship",
    "the water cycle", "databases", "stained glass", "running", "insurance", "telescopes", "forests", "email etiquette",
    "knots", "democracy", "weather forecasts", "fermentation", "the Olympic games", "learning a language",
]


def ask(server, model, prompt, seed):
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 800, "temperature": 1.0,
            "seed": seed}
    request = urllib.request.Request(f"{server}/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=1800) as reply:
        return json.loads(reply.read())["choices"][0]["message"]["content"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server")
    parser.add_argument("model")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=len(FORMS) * len(TOPICS))
    parser.add_argument("--parallel", type=int, default=16)
    arguments = parser.parse_args()
    prompts = [form.format(topic) for topic, form in itertools.product(TOPICS, FORMS)]
    prompts = [prompts[i * 101 % len(prompts)] for i in range(arguments.count)]  # 101 is prime: a mixed order, then again
    done = len(arguments.out.read_text().splitlines()) if arguments.out.exists() else 0
    with open(arguments.out, "a") as out, concurrent.futures.ThreadPoolExecutor(arguments.parallel) as pool:
        jobs = ((prompts[i], pool.submit(ask, arguments.server, arguments.model, prompts[i], i))
                for i in range(done, len(prompts)))
        for first in iter(lambda: list(itertools.islice(jobs, 4 * arguments.parallel)), []):
            for prompt, answer in first:
                out.write(json.dumps({"prompt": prompt, "answer": answer.result()}) + "\n")
                out.flush()


if __name__ == "__main__":
    main()
