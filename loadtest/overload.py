#!/usr/bin/env python3
"""What overload does to `hysparse serve`, for real on the CPU: does the work that is admitted go on at its pace, and how
fast does everyone else hear no?

A round measures the capacity in a closed loop that always has enough waiting, then offers Poisson arrivals at each
multiple of it (--loads), streamed completions of mixed sizes. Standard library only. The server has one core, this client
another; the client's own lateness is reported beside every figure, since it is part of each latency.

Sizes come from a shuffled deck, into which the card of a refused request goes back: what is admitted then has the same mix
under every load, and throughputs compare to a fraction of what independent draws would allow.
"""

import argparse
import asyncio
import json
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROMPTS, ANSWERS = (32, 64, 128, 256, 512), (16, 32, 64)
SHORT_WAIT = 0.1  # seconds; a forecast of less is judged in milliseconds, not as a share
now = time.perf_counter


class Http:
    """HTTP/1.1 over kept connections, as the openai client uses it."""

    def __init__(self, address, fresh):
        self.host, port = address.rsplit(":", 1)
        self.port, self.fresh, self.kept = int(port), fresh, []

    async def call(self, method, path, body=None, on_chunk=None):
        """(status, headers, body, time sent, time of the answer's last byte)."""
        # The server closes connections that have idled for long.
        self.kept = [connection for connection in self.kept if not connection[0].at_eof()]
        reader, writer = self.kept.pop() if self.kept else await asyncio.open_connection(self.host, self.port)
        try:
            data = b"" if body is None else json.dumps(body).encode()
            sent = now()
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
                         f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:] if line)
            if "content-length" in headers:
                text = await reader.readexactly(int(headers["content-length"]))
            else:
                text = await self._chunks(reader, on_chunk)
            done = now()
        except BaseException:
            writer.close()
            raise
        if self.fresh or headers.get("connection") == "close":
            writer.close()
        else:
            self.kept.append((reader, writer))
        return int(head[0].split()[1]), headers, text, sent, done

    async def _chunks(self, reader, on_chunk):
        last = b""
        while size := int(await reader.readline(), 16):
            last = (await reader.readexactly(size + 2))[:-2]
            if on_chunk and not last.startswith(b":"):  # a comment that keeps the connection alive
                on_chunk()
        await reader.readexactly(2)
        return last


class Server:
    """The binary on a core of its own, and what it says of itself."""

    def __init__(self, args):
        flags = ["--threads", "1", "--max-num-seqs", str(args.max_num_seqs), "--max-waiting", str(args.max_waiting),
                 "--kv-cache-memory", "512MiB", "--grpc-port", "off", "--port", "0", *args.serve_flags]
        self.command = [args.binary, "serve", args.model, *flags]
        self.process = subprocess.Popen(["taskset", "-c", str(args.server_core), *self.command],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on http://"):
            sys.exit(f"the server did not start: {' '.join(self.command)}")
        self.address = line.split("//")[1].strip()

    def threads(self):
        """Of each thread: seconds on the core, seconds that it was ready and had to wait for the core, times it got it."""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        stats = {task.name: [int(x) for x in (task / "schedstat").read_text().split()] for task in tasks}
        return {name: (ran / 1e9, waited / 1e9, turns) for name, (ran, waited, turns) in stats.items()}

    async def counters(self, http):
        text = (await http.call("GET", "/metrics"))[2].decode()
        value = {name: sum(float(v) for v in re.findall(rf"^hysparse:{name}\{{[^}}]*\}} (\S+)$", text, re.M))
                 for name in ("generation_tokens_total", "prompt_tokens_total", "request_success_total",
                              "num_requests_running", "num_requests_waiting")}
        return {"time": now(), "threads": self.threads(), **value}

    async def busy(self, http):
        counters = await self.counters(http)
        return counters["num_requests_running"] + counters["num_requests_waiting"] > 0


class Load:
    """One phase: requests, what became of each, and how late this client was."""

    def __init__(self, server, http, args):
        self.server, self.http, self.args = server, http, args
        self.deck, self.records, self.lags, self.tasks = [], [], [], set()

    def draw(self):
        if not self.deck:
            self.deck = [(p, a) for p in PROMPTS for a in ANSWERS]
            random.shuffle(self.deck)
        return self.deck.pop()

    async def request(self, quoted=False):
        size, answer = self.draw()
        body = {"prompt": [random.randrange(256, 8192) for _ in range(size)], "max_tokens": answer, "ignore_eos": True,
                "temperature": 0, "stream": True}
        record = {"prompt": size, "answer": answer}
        if quoted:
            status, _, text, asked, told = await self.http.call(
                "POST", "/v1/capacity", {"prompt_tokens": size, "max_tokens": answer})
            assert status == 200, text
            quote = json.loads(text)
            record["quote"] = {"asked": asked, "told": told, "verdict": quote["verdict"],
                               "start": quote["predicted_start_seconds"], "first": quote["predicted_first_token_seconds"]}
        chunks = []
        status, headers, text, record["sent"], record["done"] = await self.http.call(
            "POST", "/v1/completions", body, lambda: chunks.append(now()))
        record.update(status=status, retry_after=headers.get("retry-after"), first=chunks[0] if chunks else None)
        if status == 429:
            self.deck.insert(random.randint(0, len(self.deck)), (size, answer))
        elif status != 200 or not text.endswith(b"data: [DONE]\n\n"):
            raise RuntimeError(f"unexpected answer: {status} {text[:300]}")
        self.records.append(record)

    def spawn(self, coroutine):
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task):
        self.tasks.discard(task)
        if not task.cancelled() and task.exception():
            raise SystemExit(f"a request failed: {task.exception()!r}")

    async def watch_lag(self):
        while True:
            due = now() + 0.005
            await asyncio.sleep(0.005)
            self.lags.append(now() - due)

    async def closed(self):
        async def user():
            while True:
                await self.request()
        for _ in range(self.args.max_num_seqs + self.args.max_waiting // 2):
            self.spawn(user())
        await asyncio.Event().wait()

    async def poisson(self, rate):
        due = now()
        while True:
            due += random.expovariate(rate)
            await asyncio.sleep(due - now())
            self.spawn(self.request(quoted=random.random() < self.args.quote_share))

    async def run(self, source, seconds, drain=True):
        """The figures of `seconds` after a warm-up. Then what was admitted is waited for, or cut off."""
        arrivals = [asyncio.create_task(source), asyncio.create_task(self.watch_lag())]
        await asyncio.sleep(self.args.warm_up)
        begin = await self.server.counters(self.http)
        self.lags.clear()
        await asyncio.sleep(seconds)
        end = await self.server.counters(self.http)
        lags = list(self.lags)
        for task in arrivals:
            if task.done() and task.exception():
                raise task.exception()
            task.cancel()
        for task in () if drain else list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        while await self.server.busy(self.http):
            await asyncio.sleep(0.1)
        inside = [r for r in self.records if begin["time"] <= r["sent"] <= end["time"]]
        return figures(begin, end, inside, lags)


def quantiles(values, scale=1e3):
    """Of seconds, in ms; of shares with `scale` 100, in percent."""
    values = sorted(values)
    at = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1}
    return {"n": len(values), **{k: round(values[min(len(values) - 1, int(q * len(values)))] * scale, 2)
                                 for k, q in at.items()}} if values else None


def figures(begin, end, records, lags):
    seconds = end["time"] - begin["time"]
    rate = lambda name: (end[name] - begin[name]) / seconds
    # The one that computes has by far the most.
    compute, *others = sorted(([b - a for a, b in zip(begin["threads"].get(name, (0, 0, 0)), values)]
                               for name, values in end["threads"].items()), reverse=True)
    others = [sum(column) for column in zip(*others)]
    refused = [r for r in records if r["status"] == 429]
    admitted = [r for r in records if r["status"] == 200]
    tokens = rate("generation_tokens_total")
    return {
        "seconds": round(seconds, 1), "offered_per_s": round(len(records) / seconds, 2),
        "finished_per_s": round(rate("request_success_total"), 3), "output_tokens_per_s": round(tokens, 2),
        "tokens_per_s": round(tokens + rate("prompt_tokens_total"), 2),
        "output_tokens_per_cpu_s": round(tokens * seconds / (compute[0] + others[0]), 2),
        "compute_thread_share": round(compute[0] / seconds, 4), "other_threads_share": round(others[0] / seconds, 4),
        "compute_denied_share": round(compute[1] / seconds, 4), "others_turn_wait_ms": round(1e3 * others[1] / others[2], 3),
        "admitted": len(admitted), "refused": len(refused),
        "refusal_ms": quantiles([r["done"] - r["sent"] for r in refused]),
        "refusals_without_retry_after": sum(r["retry_after"] is None for r in refused),
        "ttft_ms": quantiles([r["first"] - r["sent"] for r in admitted]),
        "client_lag_ms": quantiles(lags), "quotes": judge(records),
    }


def judge(records):
    """The quote's forecast against the first token's arrival, from the moment of asking."""
    asked = [r for r in records if "quote" in r]
    right, long, short = 0, [], []
    for r in asked:
        right += (r["quote"]["verdict"] == "refuse") == (r["status"] == 429)
        if r["first"] is None or r["quote"]["first"] is None:
            continue
        # The request went out when the answer was there; the engine spoke at some moment between.
        actual, predicted = r["first"] - r["quote"]["told"], r["quote"]["first"]
        (long if actual >= SHORT_WAIT else short).append((predicted - actual, actual))
    return {"asked": len(asked), "verdict_right": right,
            "answer_ms": quantiles([r["quote"]["told"] - r["quote"]["asked"] for r in asked]),
            "first_token_error_percent": quantiles([abs(e) / a for e, a in long], 100),
            "bias_percent": round(100 * statistics.median(e / a for e, a in long), 1) if long else None,
            "short_wait_error_ms": quantiles([abs(e) for e, _ in short])}


async def main(args):
    os.sched_setaffinity(0, {args.client_core})
    server = Server(args)
    http = Http(server.address, args.fresh_connections)
    try:
        while (await http.call("GET", "/readyz"))[0] != 200:
            await asyncio.sleep(0.1)
        rounds = []
        for number in range(args.rounds):
            load = Load(server, http, args)
            phases = {"closed": await load.run(load.closed(), args.capacity_seconds, drain=False)}
            show(number, "closed", phases["closed"])
            capacity = phases["closed"]["finished_per_s"]
            if capacity == 0:
                sys.exit(f"no request ended in {args.capacity_seconds:g} s: raise --capacity-seconds")
            for factor in args.loads if number % 2 == 0 else args.loads[::-1]:
                load = Load(server, http, args)
                phases[f"{factor:g}x"] = await load.run(load.poisson(factor * capacity), args.seconds)
                show(number, f"{factor:g}x", phases[f"{factor:g}x"])
            rounds.append(phases)
    finally:
        server.process.terminate()
        server.process.wait()
    report = {"command": server.command, "rounds": rounds, "ratios": compare(rounds, args.loads)}
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(report, indent=1))
    for line in report["ratios"]:
        print(line)


def compare(rounds, loads):
    lines = []
    for over in (f"{loads[0]:g}x", "closed"):
        for name in ("output_tokens_per_s", "tokens_per_s", "finished_per_s", "output_tokens_per_cpu_s"):
            ratios = [r[f"{loads[-1]:g}x"][name] / r[over][name] for r in rounds]
            lines.append(f"{loads[-1]:g}x / {over:6} {name:24} median {statistics.median(ratios):.3f}  "
                         f"rounds {' '.join(f'{x:.3f}' for x in ratios)}")
    return lines


def show(number, name, f):
    def three(q):
        return "-" if q is None else f"{q['p50']:g}/{q['p99']:g}/{q['max']:g}"
    if number == 0 and name == "closed":
        print("round load    offered/s  finished/s  output tok/s  all tok/s  compute  denied  other  wait ms  admitted  "
              "refused  | p50/p99/max ms: refusal | TTFT | client lag | quote: answer | error % p50/p95")
    error = f["quotes"]["first_token_error_percent"]
    print(f"{number:5} {name:6} {f['offered_per_s']:10.1f} {f['finished_per_s']:11.2f} {f['output_tokens_per_s']:13.1f} "
          f"{f['tokens_per_s']:10.0f} {f['compute_thread_share']:8.1%} {f['compute_denied_share']:7.1%} "
          f"{f['other_threads_share']:6.2%} {f['others_turn_wait_ms']:8.2f} {f['admitted']:9} {f['refused']:8}  "
          f"| {three(f['refusal_ms'])} | {three(f['ttft_ms'])} | {three(f['client_lag_ms'])} "
          f"| {three(f['quotes']['answer_ms'])} | {'-' if error is None else '%g/%g' % (error['p50'], error['p95'])}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--binary", default=str(ROOT / "build/release/bin/hysparse"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60, help="of each load")
    parser.add_argument("--capacity-seconds", type=float, default=20)
    parser.add_argument("--warm-up", type=float, default=10)
    parser.add_argument("--loads", type=float, nargs="+", default=[1, 10], help="multiples of the capacity")
    parser.add_argument("--quote-share", type=float, default=0.2, help="of the requests that ask /v1/capacity first")
    parser.add_argument("--max-num-seqs", type=int, default=8)
    parser.add_argument("--max-waiting", type=int, default=16)
    parser.add_argument("--fresh-connections", action="store_true", help="a connection for each request")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    parser.add_argument("--json", help="file for all figures")
    parser.add_argument("--serve-flags", nargs=argparse.REMAINDER, default=[], help="further flags of hysparse serve, last")
    asyncio.run(main(parser.parse_args()))
