"""The environment that Hugging Face runs chat templates in, built on jinja2 (3.1.6), with the clock standing still.

Two things differ from transformers: `append` and `pop` work (public templates use them, the immutable sandbox refuses
them), and the clock.
"""
import datetime
import json

import jinja2
import jinja2.ext
import jinja2.sandbox

NOW = datetime.datetime(2024, 7, 26, 12, 34, 56)


class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    def is_safe_attribute(self, obj, attr, value):
        if attr in ("append", "pop") and isinstance(obj, (list, dict)):
            return True
        return super().is_safe_attribute(obj, attr, value)


class Generation(jinja2.ext.Extension):
    """{% generation %}…{% endgeneration %}, which only marks the assistant's text."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment(optimized=True):
    env = Sandbox(optimized=optimized, trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


ENVIRONMENT = environment()


def render(source, variables, env=ENVIRONMENT):
    """The rendered text, or the exception as {"error": message}."""
    try:
        # A copy, because append and pop change what they are given.
        return env.from_string(source).render(**json.loads(json.dumps(variables)))
    except Exception as error:  # whatever a template can raise
        return {"error": str(error), "raised": type(error) is jinja2.exceptions.TemplateError}
