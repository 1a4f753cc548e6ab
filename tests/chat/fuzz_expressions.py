"""Random expressions and templates: our interpreter against jinja2, text for text and error for error.

    python3 tests/chat/fuzz_expressions.py build/release/tests/chat_driver [count] [seed]

pytest runs test_fuzz_expressions.py, which calls compare() with a fixed seed.
"""
import json
import random
import subprocess
import sys

import oracle

VARIABLES = {
    "s": "Hello <|im_end|> World",
    "u": "naïve ΣΑΣ ß ǆ 日本語\u2028x 🙂",
    "w": "  pad\t\n",
    "e": "",
    "n": 7,
    "m": -3,
    "f": 2.5,
    "t": True,
    "z": None,
    "l": [3, 1, 2, 1],
    "ls": ["b", "A", "c", "a"],
    "d": {"b": 1, "a": "x", "C": [1, 2.5, None, True], "get": 5},
    "r": [{"name": "q", "k": 2, "on": True}, {"name": "p", "k": 1}, {"name": "Q", "k": 3, "on": False}],
}
STRINGS = ["'a'", "'b c'", "\"it's\"", "'\\n'", "', '", "'x\\ty'", "''", "'Ab'", "'12'", "' 3.5 '", "'é'", "'%s|%d'", "'name'"]
NUMBERS = ["0", "1", "2", "-1", "3", "10", "1.5", "0.1", "1e20", "-2.0", "7", "100"]
NAMES = list(VARIABLES) + ["missing"]
FILTERS = [
    "upper", "lower", "trim", "title", "capitalize", "length", "string", "list", "first", "last", "sort", "unique|list",
    "join", "join(', ')", "join('-', attribute='name')", "tojson", "tojson(indent=2)", "tojson(ensure_ascii=true)",
    "replace('a', 'bb')", "replace('l', '')", "default('dd')", "default('x', true)", "d(0)", "items|list", "dictsort",
    "int", "float", "abs", "round", "round(1)", "reverse|list", "indent", "indent(2, true)", "min", "max", "sum",
    "selectattr('on')|list", "rejectattr('on')|list", "selectattr('k', '>', 1)|list", "map(attribute='name')|list",
    "map('upper')|list", "select('odd')|list", "reject('none')|list", "select|list", "batch(2)|list", "safe",
    "sort(reverse=true)", "sort(attribute='k')", "sort(case_sensitive=true)", "groupby('name')|list", "wordcount",
    "truncate(5)", "truncate(8, true, '…', 0)", "center(20)", "e", "count", "slice(2)|list", "format(1, 2)",
    "map(attribute='on', default='-')|list", "selectattr('name', 'equalto', 'p')|list", "tojson(sort_keys=true)",
    "int(3)", "float(1.5)", "attr('name')", "map('int')|list", "sum(attribute='k')", "trim('H ')", "replace('', '.')",
]  # fmt: skip
TESTS = [
    "defined", "undefined", "none", "string", "number", "mapping", "iterable", "sequence", "boolean", "integer", "float",
    "true", "false", "odd", "even", "divisibleby(2)", "in([1, 2, 'a'])", "equalto(1)", "lower", "upper", "callable",
    "sameas(none)", "eq 7", "gt 1", "not none", "not defined", "filter", "divisibleby 3",
]  # fmt: skip
METHODS = [
    "upper()", "lower()", "strip()", "lstrip()", "rstrip()", "strip('H ')", "split()", "split(' ')", "split('l', 1)",
    "rsplit(' ', 1)", "startswith('He')", "endswith(('d', 'x'))", "replace('l', 'L')", "replace('l', 'L', 1)", "title()",
    "capitalize()", "find('o')", "rfind('o')", "count('l')", "isdigit()", "isalpha()", "isspace()", "zfill(9)",
    "splitlines()", "join(['x', 'y'])", "partition(' ')", "rpartition(' ')", "items()", "keys()|list", "values()|list",
    "get('a')", "get('zz', 3)", "index(1)", "copy()", "append(1)", "pop()", "pop('b')", "removeprefix('He')",
    "removesuffix('ld')", "format(1, 'b')", "center(9, '*')", "ljust(9)", "rjust(9)", "swapcase()", "isupper()",
    "lower().upper()", "name", "k", "a", "b", "get", "items", "isalnum()", "split('')", "index('zz')", "islower()",
]  # fmt: skip
BINARY = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or", "**"]
SUBSCRIPTS = ["[0]", "[-1]", "['a']", "[1:]", "[:-1]", "[::-1]", "[::2]", "[5:1:-2]", "[-3:]", "[:2]", "['name']", "[9]", ".0", "[n]", "[-1:0:-1]", "[none:2]"]


class Maker:
    def __init__(self, rng):
        self.rng = rng

    def expression(self, depth=0):
        pick, rng = self.rng.choice, self.rng
        kind = rng.random()
        if depth > 3 or kind < 0.22:
            return pick([pick(NAMES), pick(NAMES), pick(STRINGS), pick(NUMBERS), "none", "true", "[]", "{}", "()"])
        sub = lambda: self.expression(depth + 1)  # noqa: E731
        if kind < 0.42:
            return f"{self.atom(depth)}|{pick(FILTERS)}"
        if kind < 0.56:
            return f"{self.atom(depth)}.{pick(METHODS)}"
        if kind < 0.64:
            return f"{self.atom(depth)}{pick(SUBSCRIPTS)}"
        if kind < 0.72:
            return f"{self.atom(depth)} is {pick(TESTS)}"
        if kind < 0.86:
            op = pick(BINARY)
            right = pick(["2", "3", "-1", "0.5"]) if op in ("*", "**") else sub()
            return f"({sub()} {op} {right})"
        if kind < 0.90:
            return f"[{', '.join(sub() for _ in range(rng.randint(0, 3)))}]"
        if kind < 0.93:
            return "{" + ", ".join(f"{pick(STRINGS)}: {sub()}" for _ in range(rng.randint(0, 3))) + "}"
        if kind < 0.95:
            return f"({sub()},)"
        if kind < 0.98:
            return f"({sub()} if {sub()}{' else ' + sub() if rng.random() < 0.7 else ''})"
        return pick(["not ", "-", "+"]) + self.atom(depth)

    def atom(self, depth):
        expression = self.expression(depth + 1)
        return expression if expression.isalnum() else f"({expression})"

    def statement(self, depth=0):
        rng, pick, e = self.rng, self.rng.choice, self.expression
        dash = lambda: pick(["", "", "", "-", "+"])  # noqa: E731
        open_, close = "{%" + dash() + " ", " " + dash() + "%}"
        if depth > 2 or rng.random() < 0.35:
            return pick(["{{ %s }}", "{{- %s }}", "{{ %s -}}"]) % e(1) + pick(["", "\n", "  ", " text\n"])
        body = "".join(self.statement(depth + 1) for _ in range(rng.randint(1, 3)))
        end = lambda name: pick(["", "\n  "]) + "{%" + dash() + f" end{name} " + dash() + "%}"  # noqa: E731
        kind = rng.random()
        if kind < 0.3:
            target = pick(["x", "x", "k, v", "n"])
            items = pick(["l", "ls", "r", "d", "d.items()", "s", "range(3)", "[[1, 2], [3, 4]]", e(2)])
            test = pick(["", "", f" if {e(2)}"])
            inner = pick(["", "{{ loop.index }}/{{ loop.last }}", "{{ x }}", "{{ loop.previtem }}", "{{ loop.length }}",
                          "{% if loop.index == 2 %}{% break %}{% endif %}", "{{ loop.cycle('a', 'b') }}", "{{ loop.nextitem }}",
                          "{% if loop.first %}{% continue %}{% endif %}", "{{ loop.revindex0 }}"])
            otherwise = pick(["", "{% else %}none"])
            return f"{open_}for {target} in {items}{test}{close}{inner}{body}{otherwise}{end('for')}"
        if kind < 0.5:
            return f"{open_}if {e(1)}{close}{body}" + pick(["", "{% elif t %}T", "{% else %}F"]) + end("if")
        if kind < 0.65:
            return f"{open_}set {pick(['x', 'n', 's', 'y'])} = {e(1)}{close}"
        if kind < 0.72:
            return f"{open_}set x{close}{body}{end('set')}{{{{ x }}}}"
        if kind < 0.8:
            return f"{open_}macro mac(a, b={e(2)}){close}{{{{ a }}}}{body}{{{{ b }}}}{end('macro')}{{{{ mac({e(2)}) }}}}"
        if kind < 0.87:
            return f"{{% set ns = namespace(v={e(2)}) %}}{{% for x in l %}}{{% set ns.v = x %}}{body}{{% endfor %}}{{{{ ns.v }}}}"
        if kind < 0.93:
            name = pick(["upper", "trim", "replace('a', 'b')", "indent", "length"])
            return f"{open_}filter {name}{close}{body}{end('filter')}"
        if kind < 0.96:
            return f"{{# note {dash()}#}}" + body
        return "{% raw %}{{ raw }}{% endraw %}" + pick(["\n", ""]) + body


def unstable(text):
    """Addresses of Python objects, and what depends on the order of a hash."""
    return any(word in text for word in (" at 0x", "<built-in", "<bound", "object>", "LoopContext", "<Macro", "generator"))


def compare(driver, count, seed, show=20):
    """Returns the list of differences."""
    maker = Maker(random.Random(seed))
    templates = []
    for i in range(count):
        templates.append("{{ " + maker.expression() + " }}" if i % 2 else "".join(maker.statement() for _ in range(3)))
    lines = "".join(json.dumps({"template": t, "untrusted": VARIABLES}) + "\n" for t in templates)
    process = subprocess.run([driver], input=lines, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in process.stdout.split("\n") if line]
    assert len(answers) == count
    differences = []
    errors = 0
    for template, answer in zip(templates, answers):
        expected = oracle.render(template, VARIABLES)
        ours = answer if "error" in answer else "".join(text for text, _ in answer["segments"])
        errors += isinstance(expected, dict)
        if isinstance(expected, dict) and isinstance(ours, dict):
            continue
        if expected == ours or (isinstance(expected, str) and unstable(expected)):
            continue
        differences.append((template, expected, ours))
    print(f"{count} templates, {errors} errors in both or one, {len(differences)} differences")
    for template, expected, ours in differences[:show]:
        print(f"--- {template!r}\n  jinja2: {expected!r}\n  ours:   {ours!r}")
    return differences


if __name__ == "__main__":
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 4000
    sys.exit(bool(compare(sys.argv[1], n, int(sys.argv[3]) if len(sys.argv) > 3 else 1)))
