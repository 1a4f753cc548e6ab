"""The commands on small checkpoints and on SmolLM2: what they print, how they fail, how serve starts and stops."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

import places  # first: it sets the path
import hysparse_reference as reference


def refused(done, *parts, code=2):
    """One line on stderr that holds `parts`, nothing on stdout."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("hysparse: "), done.stderr
    for part in parts:
        assert part in lines[0], lines[0]
    assert done.stdout == ""


def test_help_and_version(hysparse):
    overview = hysparse("--help")
    assert overview.returncode == 0 and all(word in overview.stdout for word in ("serve", "plan", "generate", "bench"))
    assert "--max-model-len" in hysparse("serve", "--help").stdout
    assert hysparse("--version").stdout.startswith("hysparse 0.")


def test_wrong_flags_and_names(hysparse, checkpoint, tmp_path):
    refused(hysparse(), "which command?")
    refused(hysparse("serve"), "which model?")
    refused(hysparse("serve", "no-such-model"), "no-such-model", "models/get.sh")
    refused(hysparse("serve", checkpoint(), "--prot", "1"), "--prot", "--port")
    refused(hysparse("plan", checkpoint(), env={"HYSPARSE_KV_BYTES": "3"}), "HYSPARSE_KV_BYTES", "1, 2, 4")
    refused(hysparse("serve", checkpoint(), "--tensor-parallel-size", "2"), "use 1")
    (tmp_path / "c.yaml").write_text("nonsense: 1\n")
    refused(hysparse("serve", checkpoint(), "--config", tmp_path / "c.yaml"), "nonsense")


# ---------------------------------------------------------------- plan


@pytest.mark.parametrize("preset", ["paper-80b", "paper-7b", "tiny-hysparse", "tiny-swa", "tiny-hysparse-vdim"])
@pytest.mark.parametrize("context", [1, 100, 1048576])
def test_plan_is_the_references_formula(hysparse, checkpoint, preset, context):
    folder = checkpoint(preset, weights=False)
    plan = json.loads(hysparse("plan", folder, "--context", context, "--kv-bytes", "1", "--json").stdout)
    expected = reference.kv_bytes(reference.Spec.read(folder), context, 1)
    assert plan["context"]["formula_bytes"] == {**expected, "total": sum(expected.values())}
    for kind in ("global", "window"):
        pages = plan["context"]["allocated_bytes"][kind]
        page = plan["kv"][kind]["bytes_per_token"] * plan["kv"][kind]["page_tokens"]
        assert pages >= expected[kind] and (pages % page == 0 if page else pages == 0)
        assert pages - expected[kind] < 2 * page or page == 0


def variant(folder, source, **keys):
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **keys}))
    return folder


def test_plan_prints_the_published_figures(hysparse, checkpoint, tmp_path):
    paper = checkpoint("paper-80b", weights=False)
    swa = variant(tmp_path / "swa", paper, hybrid_layer_pattern=[0 if l % 6 == 0 else 1 for l in range(49)])
    full = variant(tmp_path / "full", paper, hybrid_layer_pattern=[0] * 49)
    for folder, figure in ((paper, "6.72 GB"), (swa, "12.09 GB"), (full, "65.77 GB")):
        text = hysparse("plan", folder, "--context", 1048576, "--kv-bytes", 1).stdout
        assert [line.split()[1:3] for line in text.splitlines() if line.split()[:1] == ["total"]] == [figure.split()]
    text = hysparse("plan", paper, "--memory", "80GiB").stdout
    assert "49 layers: 5 full, 44 sparse" in text and "80.0 GiB" in text and "1,048,576" in text


def test_plan_counts_sessions(hysparse, checkpoint):
    plan = json.loads(hysparse("plan", checkpoint("paper-80b", weights=False), "--memory", "80GiB", "--kv-bytes", 1, "--json").stdout)
    assert [row["context"] for row in plan["sessions"]] == [8192, 32768, 131072, 1048576]
    full = 49 * 4 * (192 + 128)
    for row in plan["sessions"]:
        assert row["full_attention"] == (80 << 30) // (full * row["context"])
        assert row["fit"] > 7 * row["full_attention"]


@pytest.mark.parametrize("model", ["smollm2-135m-hysparse", "smollm2-135m-swa"])
def test_a_retrofitted_model_keeps_a_quarter_to_a_fifth(hysparse, model):
    for context, times in ((2048, 4.0), (8192, 4.7)):
        kept = json.loads(hysparse("plan", model, "--context", context, "--json").stdout)["context"]
        assert kept["full_attention_bytes"] >= times * kept["allocated_bytes"]["total"]


# ---------------------------------------------------------------- generate


def test_generate_is_the_references_greedy_continuation(hysparse, checkpoint):
    folder = checkpoint("tiny-hysparse")
    prompt = "The fox counted the lights."
    spec, weights = reference.load(folder)
    tokens = list(prompt.encode())
    while len(tokens) < len(prompt) + 24:
        token = int(reference.forward(spec, weights, tokens)[-1].argmax())
        if token in (257, 259):  # config.json's and tokenizer_config.json's end tokens
            break
        tokens.append(token)
    expected = bytes(token for token in tokens[len(prompt):] if token < 256).decode(errors="replace")
    done = hysparse("generate", folder, "--raw", "--prompt", prompt, "--max-tokens", 24, "--temperature", 0, "--dtype", "float32")
    assert done.stdout == expected + "\n"


def test_generate_seeds(hysparse, checkpoint):
    def text(seed):
        return hysparse("generate", checkpoint(), "--raw", "--prompt", "abc", "--max-tokens", 40, "--seed", seed).stdout

    assert text(1) == text(1) != text(2)


def test_generate_answers_with_the_real_model(hysparse):
    done = hysparse("generate", "smollm2-135m", "--prompt", "What is the capital of France?", "--temperature", 0, "--max-tokens", 30)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "The capital of France is Paris.\n"


def test_a_conversation_remembers_and_clears(hysparse):
    lines = "My name is Greta.\nWhat is my name?\n/clear\nWhat is my name?\n/exit\nnever read\n"
    done = hysparse("generate", "smollm2-135m", "--temperature", 0, "--max-tokens", 24, stdin=lines)
    answers = done.stdout.strip().splitlines()
    assert done.returncode == 0 and "Greta" in "".join(answers[:-1]) and "Greta" not in answers[-1], done.stdout


def test_a_system_message_needs_a_template(hysparse, checkpoint, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(checkpoint(), folder)
    (folder / "tokenizer_config.json").unlink()
    refused(hysparse("generate", folder, "--prompt", "x", "--system", "s"), "--system", "chat template")
    assert hysparse("generate", folder, "--prompt", "x", "--max-tokens", 3).returncode == 0


# ---------------------------------------------------------------- broken models


def truncate(path, size):
    path.write_bytes(path.read_bytes()[:size])


def rename_tensor(path, name, other):
    path.write_bytes(path.read_bytes().replace(f'"{name}"'.encode(), f'"{other}"'.encode()))


BROKEN = {
    "no config": (lambda f: (f / "config.json").unlink(), ["config.json"]),
    "config is no JSON": (lambda f: (f / "config.json").write_text("{"), ["config.json"]),
    "unknown model_type": (lambda f: variant_in_place(f, model_type="gpt2"), ["gpt2"]),
    "no oracle": (lambda f: variant_in_place(f, hybrid_layer_pattern=[2] * 9), ["config.json"]),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), ["safetensors"]),
    "truncated weights": (lambda f: truncate(f / "model.safetensors", 5000), ["model.safetensors"]),
    "huge header": (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 64), ["model.safetensors"]),
    "missing tensor": (lambda f: rename_tensor(f / "model.safetensors", "model.norm.weight", "model.form.weight"), ["model.norm.weight"]),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), ["tokenizer.json"]),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), ["tokenizer.json"]),
    "broken template": (lambda f: (f / "chat_template.jinja").write_text("{% for %}"), ["chat_template.jinja"]),
}


def variant_in_place(folder, **keys):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **keys}))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_is_one_line(hysparse, checkpoint, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(checkpoint(), folder)
    damage, parts = BROKEN[name]
    damage(folder)
    refused(hysparse("generate", folder, "--raw", "--prompt", "x"), *parts)


def test_more_context_than_fits(hysparse, checkpoint):
    refused(hysparse("generate", checkpoint(), "--prompt", "x", "--max-model-len", 5000), "--max-model-len 5000", "4096")
    refused(hysparse("generate", checkpoint(), "--prompt", "x", "--max-model-len", 4096, "--kv-cache-memory", "100KiB"),
            "--max-model-len 4096", "at most", "--kv-cache-memory")


def test_dummy_weights_need_no_checkpoint(hysparse, checkpoint):
    done = hysparse("generate", checkpoint("tiny-hysparse", weights=False), "--load-format", "dummy", "--raw", "--prompt", "x",
                    "--max-tokens", 5)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- serve


def fetch(url, body=None, timeout=60):
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.read().decode()


def wait_ready(server):
    deadline = time.time() + 60
    while time.time() < deadline:
        try:
            return fetch(server.url + "/readyz")
        except urllib.error.HTTPError:
            time.sleep(0.05)
    raise AssertionError("not ready within a minute")


def test_serve_says_what_it_serves_and_ends_on_sigterm(serve, checkpoint):
    server = serve(checkpoint(), "--served-model-name", "a,b")
    wait_ready(server)
    models = json.loads(fetch(server.url + "/v1/models"))["data"]
    assert [model["id"] for model in models][0] == "a"
    server.signal()
    code, log = server.end()
    assert code == 0
    for part in ("9 layers: 3 full, 6 sparse", "KV arena", "KV cache: ", "full attention would fit", "ready: a loaded in", "stopped"):
        assert part in log, log


def test_sigterm_lets_running_requests_finish(serve, checkpoint):
    server = serve(checkpoint())
    wait_ready(server)
    body = {"model": "tiny-hysparse", "prompt": [1, 2, 3], "max_tokens": 3000, "ignore_eos": True}
    answers = []
    client = threading.Thread(target=lambda: answers.append(json.loads(fetch(server.url + "/v1/completions", body))))
    client.start()
    while json_metric(server, "hysparse:num_requests_running") < 1:
        time.sleep(0.01)
    server.signal()
    client.join(60)
    assert answers[0]["usage"]["completion_tokens"] == 3000
    assert server.end()[0] == 0


def test_a_second_signal_ends_at_once(serve, checkpoint):
    server = serve(checkpoint(), "--drain-timeout", "600")
    wait_ready(server)
    body = {"model": "tiny-hysparse", "prompt": [1], "max_tokens": 4000, "ignore_eos": True, "stream": True}
    request = urllib.request.Request(server.url + "/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"})
    stream = urllib.request.urlopen(request, timeout=60)
    stream.readline()
    server.signal(signal.SIGINT)
    server.signal(signal.SIGTERM)
    assert server.end(timeout=10)[0] in (128 + signal.SIGTERM, 128 + signal.SIGINT)


def json_metric(server, name):
    for line in fetch(server.url + "/metrics").splitlines():
        if line.startswith(name):
            return float(line.split()[-1])
    return 0


def test_an_occupied_port_is_one_line(hysparse, checkpoint):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = hysparse("serve", checkpoint(), "--port", port, "--grpc-port", "off")
        refused(done, str(port), code=1)
        done = hysparse("serve", checkpoint(), "--port", 0, "--grpc-port", port)
        refused(done, "--grpc-port", str(port), code=1)


def test_a_model_that_does_not_load_ends_the_server(hysparse, checkpoint, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(checkpoint(), folder)
    truncate(folder / "model.safetensors", 5000)
    done = hysparse("serve", folder, "--port", 0, "--grpc-port", "off")
    assert done.returncode == 2 and "model.safetensors" in done.stderr.strip().splitlines()[-1]


def test_the_json_log_is_json(serve, checkpoint):
    server = serve(checkpoint(), "--log-format", "json")
    wait_ready(server)
    server.signal()
    code, log = server.end()
    lines = [json.loads(line) for line in log.splitlines()]
    assert code == 0 and all("time" in line and "level" in line for line in lines)
    assert any(line.get("path") == "/readyz" for line in lines) or any("ready" in line.get("message", "") for line in lines)


def test_config_file_and_environment(serve, checkpoint, tmp_path):
    (tmp_path / "c.yaml").write_text(f"model: {checkpoint()}\nserved-model-name: from-file\napi-key: [k]\n")
    server = serve("--config", tmp_path / "c.yaml", env={"HYSPARSE_SERVED_MODEL_NAME": "from-env"})
    deadline = time.time() + 60
    while time.time() < deadline:
        request = urllib.request.Request(server.url + "/v1/models", headers={"authorization": "Bearer k"})
        try:
            models = json.loads(urllib.request.urlopen(request, timeout=10).read())
            break
        except urllib.error.HTTPError:
            time.sleep(0.05)
    assert models["data"][0]["id"] == "from-env"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        fetch(server.url + "/v1/models")


# ---------------------------------------------------------------- bench


def test_bench_reports_every_figure(hysparse, checkpoint):
    done = hysparse("bench", checkpoint(), "--runs", 1, "--json", timeout=300)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report["prefill"]) == {"512", "2048"}
    assert set(report["decode"]) == {"1 sequence, short", "1 sequence, 2k context", "16 sequences, short"}
    for figure in [*report["prefill"].values(), *report["decode"].values()]:
        assert figure["tokens_per_s"] > 0
    assert 0 < report["prefill"]["2048"]["fraction_of_ceiling"] and 0 < report["decode"]["1 sequence, short"]["fraction_of_ceiling"]
    assert report["ceilings"]["read_bytes_per_s"] > 0 and report["ceilings"]["gemm_flop_per_s"] > 0
    assert report["startup_s"] > 0 and report["batch_16_gain"] > 0


# ---------------------------------------------------------------- simulate


def test_simulate_counts_long_sessions(hysparse, checkpoint, tmp_path):
    arguments = ("--gpu-memory", "141GB", "--tensor-parallel-size", 2, "--workload", "long", "--duration", 300, "--json")
    folder = checkpoint("paper-80b", weights=False)
    config = json.loads((folder / "config.json").read_text())
    config["hybrid_layer_pattern"] = [0] * len(config["hybrid_layer_pattern"])
    full = tmp_path / "full"
    full.mkdir()
    (full / "config.json").write_text(json.dumps(config))
    sparse = json.loads(hysparse("simulate", folder, *arguments).stdout)
    dense = json.loads(hysparse("simulate", full, *arguments).stdout)
    assert sparse["most_running"] >= 9 * dense["most_running"] > 0
    assert sparse["arena"]["memory_refusals"] > 0 and sparse["arena"]["least_usable_share"] >= 0.97
    again = hysparse("simulate", folder, *arguments).stdout
    assert json.loads(again) == sparse


def test_figures_counts_sessions_against_full_attention():
    script = places.ROOT / "loadtest" / "figures.py"
    done = subprocess.run([sys.executable, script, "--binary", places.BINARY, "--only", "sessions"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if line.startswith("| paper")]
    times = {model: float(sessions.split("(")[1].rstrip("x)")) for model, sessions, _ in rows}
    assert times["paper-7b"] >= 3.5 and times["paper-80b"] >= 9.0
    assert times["paper-7b-full"] == times["paper-80b-full"] == 1.0 and len(times) == 6


def test_simulate_says_what_is_wrong(hysparse, checkpoint, tmp_path):
    folder = checkpoint()
    refused(hysparse("simulate", folder, "--gpu-memory", "1GB"), "which workload?", "mixed-day")
    refused(hysparse("simulate", folder, "--workload", "chat"), "--gpu-memory")
    refused(hysparse("simulate", folder, "--gpu-memory", "1KB", "--workload", "chat"), "weights", "--gpu-memory")
    refused(hysparse("simulate", folder, "--gpu-memory", "99999999999GB", "--workload", "chat"), "--gpu-memory")
    refused(hysparse("simulate", folder, "--gpu-memory", "1GB", "--workload", "long", "--load", "1"), "--load", "arrivals")
    workload = tmp_path / "w.yaml"
    workload.write_text("duration: 1\nload: 1\nclasses:\n  - {name: a, promt: 3}\n")
    refused(hysparse("simulate", folder, "--gpu-memory", "1GB", "--workload", workload), "w.yaml: line 4", "promt")


def test_simulate_as_text(hysparse, checkpoint):
    text = hysparse("simulate", checkpoint(), "--gpu-memory", "20MB", "--workload", "overload", "--duration", 5,
                    "--step-overhead", 0.02).stdout
    assert "capacity" in text and "chat" in text
