"""Renders templates/*.jinja with jinja2 over the conversations below → goldens.json, which chat_template_test compares.

    pip install jinja2==3.1.6 && python3 tests/chat/make_goldens.py
"""
import json
import pathlib

import jinja2
import oracle

assert jinja2.__version__ == "3.1.6", jinja2.__version__
HERE = pathlib.Path(__file__).parent
TOKENS = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'The weather at a place, "now" or <later>.',
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "City & country"},
                "days": {"type": "integer", "minimum": 0, "maximum": 18446744073709551615, "default": 1.5},
                "units": {"enum": ["metric", "imperial"], "type": ["string", "null"]},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["place"],
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {"name": "clock", "description": "Zeit – 時刻", "parameters": {"type": "object", "properties": {}}},
}


def call(name, arguments, id="call_0123456789"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def says(role, content, **more):
    return {"role": role, "content": content, **more}


U, A, S, T = "user", "assistant", "system", "tool"
# name → (messages, tools, keyword arguments, add_generation_prompt)
CONVERSATIONS = {
    "one": ([says(U, "Hello")], None, {}, True),
    "turns": (
        [says(S, " Be terse. \n"), says(U, "Hi there "), says(A, "Hello!\n"), says(U, "1 < 2 && \"quotes\" 'n' such")],
        None,
        {},
        True,
    ),
    "unicode": (
        [
            says(S, "你是助手"),
            says(U, "naïve ΣΑΣ Straße ǆ\u2028🙂\u00a0"),
            says(A, "日本語\tтекст"),
            says(U, "👩\u200d👩\u200d👧 e\u0301"),
        ],
        None,
        {},
        False,
    ),
    "empty": ([says(U, ""), says(A, ""), says(U, "  \n ")], None, {"enable_thinking": False}, True),
    "tools": (
        [
            says(S, "Use tools."),
            says(U, "Weather in Bern and Oslo?"),
            says(A, None, tool_calls=[call("get_weather", {"place": "Bern", "days": 2, "deep": {"x": [1, None, True]}})]),
            says(T, '{"temp": 21.5}', tool_call_id="call_0123456789"),
            says(A, "21.5° in Bern."),
            says(U, "And the time?"),
        ],
        [WEATHER, CLOCK],
        {},
        True,
    ),
    "two_calls": (
        [
            says(U, "Both"),
            says(A, None, tool_calls=[call("get_weather", {"place": "Ü"}), call("clock", {}, "b2")]),
            says(T, "7", tool_call_id="x"),
            says(T, "8"),
        ],
        [CLOCK],
        {},
        True,
    ),
    "thinking": (
        [
            says(U, "Why?"),
            says(A, "<think>\nbecause\n</think>\n\nSo."),
            says(U, "Sure?"),
            says(A, "Yes.", reasoning_content="hm\n"),
        ],
        None,
        {"reasoning_effort": "High"},
        False,
    ),
    "parts": (
        [says(U, [{"type": "text", "text": " first "}, {"type": "image"}, {"type": "text", "text": "second"}])],
        None,
        {"date_string": "1 Jan 2025"},
        True,
    ),
    "nobody": ([], None, {}, True),
}


def goldens():
    """The text of goldens.json."""
    conversations, rendered = {}, {}
    for name, (messages, tools, kwargs, prompt) in CONVERSATIONS.items():
        conversations[name] = dict(messages=messages, tools=tools, kwargs=kwargs, add_generation_prompt=prompt)
    for path in sorted((HERE / "templates").glob("*.jinja")):
        results = rendered[path.stem] = {}
        for name, (messages, tools, kwargs, prompt) in CONVERSATIONS.items():
            given = dict(messages=messages, tools=tools, documents=None, add_generation_prompt=prompt)
            result = oracle.render(path.read_text(), {**kwargs, **TOKENS, **given})
            if isinstance(result, dict) and not result.pop("raised"):
                result = {"error": None}  # Python's own words: only that it fails is compared
            results[name] = result
    result = dict(jinja2=jinja2.__version__, tokens=TOKENS, conversations=conversations, rendered=rendered)
    return json.dumps(result, ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    text = goldens()
    (HERE / "goldens.json").write_text(text)
    print(f"{len(json.loads(text)['rendered'])} templates × {len(CONVERSATIONS)} conversations, {len(text)} bytes")
