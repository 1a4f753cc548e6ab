"""Random expressions and templates: our interpreter against jinja2, text for text and error for error.

    python3 tests/chat/fuzz_expressions.py build/release/tests/chat_driver [count] [seed]

pytest runs test_jinja2.py, which calls compare() with fixed seeds.
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
UNSUPPORTED = ("integer result is too large", "complex numbers are not supported")  # beyond 128 bits; (-8) ** 0.5
STRINGS = ["'a'", "'b c'", "\"it's\"", "'\\n'", "', '", "'x\\ty'", "''", "'Ab'", "'12'", "' 3.5 '", "'é'", "'%s|%d'", "'name'"]
NUMBERS = ["0", "1", "2", "-1", "3", "10", "1.5", "0.1", "1e20", "-2.0", "7", "100"]
NAMES = list(VARIABLES) + ["missing"]
FILTERS = [
    "upper", "lower", "trim", "title", "capitalize", "length", "string", "list", "first", "last", "sort", "unique|list",
    "join", "join(', ')", "join('-', attribute='name')", "tojson", "tojson(indent=2)", "tojson(ensure_ascii=true)",
    "replace('a', 'bb')", "replace('l', '')", "default('dd')", "default('x', true)", "d(0)", "items|list", "dictsort",
    "int", "float", "abs", "round", "round(1)", "reverse|list", "indent", "indent(2, true)", "min", "max", "sum",
    "selectattr('on')|list", "rejectattr('on')|list", "selectattr('k', '>', 1)|list", "map(attribute='name')|list",
    "map('upper')|list", "select('odd')|list", "reject('none')|list", "select|list", "batch(2)|list",
    "sort(reverse=true)", "sort(attribute='k')", "sort(case_sensitive=true)", "groupby('name')|list", "wordcount",
    "truncate(5)", "truncate(8, true, '…', 0)", "center(20)", "count", "slice(2)|list", "format(1, 2)",
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
SUBSCRIPTS = [
    "[0]", "[-1]", "['a']", "[1:]", "[:-1]", "[::-1]", "[::2]", "[5:1:-2]", "[-3:]", "[:2]", "['name']", "[9]", ".0", "[n]",
    "[-1:0:-1]", "[none:2]",
]  # fmt: skip

# What yields which type: productions whose letters stand for operands (S text, I integer, N number, L list, D dict, B any
# truth, X anything), so that most expressions make sense.
PRODUCTIONS = {
    "S": [
        "s", "u", "w", "e", "'a'", "'Ab c'", "\"it's\"", "', '", "'l'", "(S + S)", "(S ~ X)", "(X ~ S)", "S|upper", "S|lower",
        "S|trim", "S|title", "S|capitalize", "S|replace(S, S)", "S|replace('l', S, 1)", "S|default(S, true)", "L|join(S)",
        "(S * 2)", "S.strip()", "S.strip('H d')", "S.lstrip()", "S.rstrip('d')", "S.replace('l', S)", "S[1:]", "S[::-1]",
        "S[-4:]", "S[I:I]", "S[::-2]", "X|string", "X|tojson", "X|tojson(indent=1)", "S|indent(2, B)", "S|indent(1, B, B)",
        "(S if B else S)", "S|truncate(6)", "S|truncate(7, B, '', 1)", "S|center(11)", "S.title()", "S.swapcase()",
        "S.capitalize()", "S.zfill(12)", "S.ljust(14, '.')", "S.center(13, '-')", "'%s!' % X", "'%r' % (S,)", "'%5s|%-5s' % (S, I)",
        "'%d %05d %+d' % (I, I, I)", "'%.2f %e %g' % (N, N, N)", "'%x %o' % (7, 8)", "'{} {!r:>8}'.format(S, S)",
        "'{0:<6}|{1:^9}|{x:>4}'.format(S, S, x=I)", "'{:.3f} {:,} {:+d} {:06d}'.format(N, 1234567, I, I)", "S.split()[0]",
        "S|first", "S|last", "S|reverse", "L|join", "S.join(['p', S])", "S.removeprefix('He')", "L|join(', ')",
        "S|trim('dH ')", "X|default(S)", "S|sort|join", "S|unique|join", "S.partition(' ')[2]", "D|tojson", "S|list|tojson",
        "D.get('a', S)|string", "r[0].name", "r|map(attribute='name')|join(S)", "S|format(X)",
    ],
    "I": [
        "n", "m", "0", "1", "2", "3", "-1", "10", "L|length", "S|length", "(I + I)", "(I - I)", "(I * I)", "S.find('l')",
        "S.rfind(S)", "S.count('l')", "S|int", "N|int", "I|abs", "L|count", "(I // 3)", "(I % 4)", "-I", "[I, I]|max",
        "[I, I]|min", "[I, I]|sum", "S|wordcount", "r|sum(attribute='k')", "(I if B else I)", "D|length", "B|int",
        "I|round(-1)|int", "(2 ** 5)", "(I or 5)", "loopless|default(I)",
    ],
    "N": ["I", "f", "1.5", "0.1", "-2.5", "1e20", "(N + N)", "(N * N)", "(N / 4)", "N|round(1)", "N|float", "N|abs", "(N - 0.3)", "N|round(2, 'floor')", "N|round", "(N // 0.7)", "(N % 2.5)", "S|float(N)"],
    "L": [
        "l", "ls", "[1, 2]", "[]", "[X, X]", "(L + [X])", "l|sort", "ls|sort", "ls|sort(true)", "L|list", "L|reverse|list", "L[1:]",
        "L[::-1]", "L[I:]", "L[:2]", "S.split()", "S.split('l')", "S.split(' ', 1)", "S.rsplit('o', 1)", "S.splitlines()",
        "range(4)|list", "D.keys()|list", "D|list", "S|list", "l|unique|list", "l|select('odd')|list", "L|map('string')|list",
        "ls|map('upper')|list", "L|batch(2, X)|list", "L|slice(2)|list", "r|selectattr('on')|map(attribute='name')|list",
        "r|rejectattr('k', 'gt', I)|list", "(L if B else L)", "L|reject('none')|list", "L|select('string')|list", "d|dictsort",
        "d|items|list", "d.values()|list", "(L * 2)", "r|sort(attribute='name,k')|map(attribute='k')|list", "range(I)|list",
        "range(I, I, -1)|list", "r|groupby('name')|list", "r|map(attribute='on', default=X)|list", "r|unique(attribute='name')|list",
        "ls|sort(case_sensitive=true)", "L|map('default', X)|list", "L|map('length')|list", "L|selectattr('name', 'defined')|list",
        "r|groupby('on', default=false)|map('first')|list", "L.copy()", "(1, X)", "(X,)",
    ],
    "D": ["d", "{'a': X, S: X}", "{}", "r[1]", "dict(a=X)", "{I: X, N: X, none: 1}", "dict(D, b=X)", "D.copy()", "r|first", "r[-1]"],
    "B": [
        "true", "false", "t", "(I < N)", "(S < S)", "(X == X)", "(X != X)", "(S in S)", "(X in L)", "(X not in L)", "X is string",
        "X is defined", "missing is defined", "X is none", "X is mapping", "X is number", "X is iterable", "X is sequence",
        "I is odd", "I is divisibleby(2)", "not X", "(B and B)", "(B or B)", "S.startswith('H')", "S.endswith(S)", "X is sameas(true)",
        "S is upper", "S is lower", "(1 < I < 5)", "X is boolean", "X is integer", "I is in(L)", "X is eq(X)", "N is ge 1", "('a' in D)",
        "S.isdigit()", "S.isalpha()", "S.isupper()", "S.islower()", "S.isspace()", "S.isalnum()", "(L < L)", "(L == L)",
    ],
    "X": ["S", "S", "I", "N", "L", "D", "B", "none", "missing", "z", "(X if B)", "(X or X)", "(X and X)", "(X, X)", "d.b", "d['C']", "d.C[1]", "d.get('zz')", "r[0]", "r[I].name", "L|first", "L|last", "L[I]", "D.a", "d|attr('get') is callable"],
}  # fmt: skip


class Maker:
    def __init__(self, rng):
        self.rng = rng

    def expression(self, depth=0):
        return self.wild(depth) if self.rng.random() < 0.15 else self.typed(self.rng.choice("SSSINLLDBX"), depth)

    def typed(self, kind, depth=0):
        choices = PRODUCTIONS[kind]
        if depth > 4:  # what has no operands of its own
            choices = [p for p in choices if not set(p) & set("SINLDBX")] or ["none"]
        out = []
        quoted = False
        production = self.rng.choice(choices)
        for i, c in enumerate(production):
            if c in "\"'":
                quoted = c if not quoted else False if quoted == c else quoted
            operand = c in PRODUCTIONS and not quoted and not production[i + 1 : i + 2].isalpha() and not production[i - 1 : i].isalpha()
            if not operand:
                out.append(c)
                continue
            inner = self.typed(c, depth + 1)
            out.append(inner if inner.isalnum() else f"({inner})")
        return "".join(out)

    def wild(self, depth=0):
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
            return f"{pick(NAMES)}{pick(SUBSCRIPTS)}"
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
            target = pick(["x", "x", "k, v", "y"])
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
            return f"{open_}set {pick(['x', 'y', 'x, y'])} = {e(1)}{close}"
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
    return any(word in text.lower() for word in (" at 0x", "<built", "<bound", "object", "loopcontext", "<macro", "generator"))


def compare(driver, count, seed, show=20):
    """Returns the list of differences."""
    # Unoptimised: jinja2 folds constants such as `7[1:]` to undefined, which raise when they are not constant.
    env = oracle.environment(optimized=False)
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
        expected = oracle.render(template, VARIABLES, env)
        ours = answer if "error" in answer else "".join(text for text, _ in answer["segments"])
        errors += isinstance(expected, dict)
        if isinstance(expected, dict) and isinstance(ours, dict):
            continue
        if isinstance(ours, dict) and ours["error"] in UNSUPPORTED:
            continue
        if expected == ours or (isinstance(expected, str) and unstable(expected)):
            continue
        differences.append((template, expected, ours))
    print(f"{count} templates, {errors} raise in jinja2, {len(differences)} differences")
    for template, expected, ours in differences[:show]:
        print(f"--- {template!r}\n  jinja2: {expected!r}\n  ours:   {ours!r}")
    return differences


if __name__ == "__main__":
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 4000
    sys.exit(bool(compare(sys.argv[1], n, int(sys.argv[3]) if len(sys.argv) > 3 else 1)))
