#!/usr/bin/env python3
"""Synapse and the programs it replaces, on the same work in the same run: prints rates and ratios. Run it on a quiet machine.

    python3 -m venv peers && peers/bin/pip install torch transformers peft bitsandbytes accelerate mergekit llama-cpp-python
    make bench-peers PEERS=peers/bin/python MODEL=SmolLM2-135M-Instruct
    python3 tests/peers/bench_peers.py target/release PEERS_PYTHON MODEL_DIR [--rounds 2] [--only qlora,generation,merge]

Each pair alternates, ours first, and the best of the rounds counts for both, because a shared machine varies. PEERS_PYTHON has
the peers; a pair whose peer it lacks is skipped and says so. On a machine with AVX-512, SYNAPSE_ISA=avx2 holds only us: hold torch
(ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2) and llama.cpp (GGML_NATIVE=OFF, AVX2, FMA, F16C, BMI2) too.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent


def run(command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])


class Bench:
    def __init__(self, options):
        self.train, self.merger = options.release / "synapse-train", options.release / "synapse-merge"
        self.peer, self.model, self.rounds = options.peers, options.model, options.rounds
        self.folder = Path(tempfile.mkdtemp())
        self.rows = []

    def peer_has(self, module):
        probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
        return subprocess.run([self.peer, "-c", probe]).returncode == 0

    def add(self, what, peer, ours, theirs, unit, lower=False):
        ratio = theirs / ours if lower else ours / theirs
        self.rows.append((what, f"{ours:.1f} {unit}", f"{theirs:.1f} {unit} ({peer})", f"{ratio:.2f}x"))
        print("  ".join(self.rows[-1]), file=sys.stderr, flush=True)

    def skip(self, what, package):
        self.rows.append((what, "", f"skipped: no {package} in {self.peer}", ""))

    def qlora(self):
        if not self.peer_has("bitsandbytes"):
            return self.skip("QLoRA", "bitsandbytes")
        ours, theirs = [], []
        for _ in range(self.rounds):
            ours.append(json.loads(run([self.train, "bench", "train", self.model, "--dtype", "f32", "--steps", "3", "--json"])))
            theirs.append(last_json(run([self.peer, HERE / "qlora_peft.py", self.model, "--dtype", "f32"])))
        best = lambda results: max(result["tokens_per_second"] for result in results)
        memory = lambda results: min(result["peak_rss_bytes"] for result in results) / 2**30
        self.add("QLoRA step, 2 x 512, rank 64, f32", "PEFT + bitsandbytes", best(ours), best(theirs), "tokens/s")
        self.add("its peak memory", "PEFT + bitsandbytes", memory(ours), memory(theirs), "GiB", lower=True)

    def generation(self):
        if not self.peer_has("llama_cpp"):
            return self.skip("decode and prefill", "llama-cpp-python")
        for quant in ("q4_0", "q8_0"):
            path = self.folder / f"{quant}.gguf"
            run([self.train, "export", self.model, "--format", "gguf", "--quant", quant, "--out", path])
            ours, theirs = [], []
            for _ in range(self.rounds):
                ours.append(json.loads(run([self.train, "bench", "decode", path, "--prompt", 16, "--json"])))
                ours[-1]["prefill"] = json.loads(run([self.train, "bench", "prefill", path, "--prompt", 500, "--json"]))
                theirs.append(last_json(run([self.peer, HERE / "llama_cpp_speed.py", path, 500, 128, 3])))
            best = lambda results, key: max(result[key] for result in results)
            self.add(f"decode, one request, {quant.upper()}", "llama.cpp", best(ours, "tokens_per_second"), best(theirs, "decode_tokens_per_second"), "tokens/s")
            prefill = max(result["prefill"]["tokens_per_second"] for result in ours)
            self.add(f"prompt of 500 tokens, {quant.upper()}", "llama.cpp", prefill, best(theirs, "prefill_tokens_per_second"), "tokens/s")

    def merge(self):
        if not self.peer_has("mergekit"):
            return self.skip("TIES of four adapters", "mergekit")
        adapters = [self.folder / f"adapter-{rank}-{seed}" for rank, seed in ((64, 1), (64, 2), (64, 3), (32, 4))]
        run([self.peer, HERE / "random_adapters.py", self.model, *adapters])
        inputs = [part for adapter in adapters for part in ("--adapter", adapter)]
        ours, theirs = [], []
        for turn in range(self.rounds):
            ours.append(timed([self.merger, "--method", "ties", "--trim", "0.8", "--base", self.model, *inputs, "--out", self.folder / f"ours-{turn}"]))
            models = [f"  - model: {self.model}+{adapter}\n    parameters: {{density: 0.2, weight: 1.0}}\n" for adapter in adapters]
            yaml = self.folder / "ties.yml"
            yaml.write_text(f"merge_method: ties\nbase_model: {self.model}\ndtype: bfloat16\nparameters: {{normalize: true}}\nmodels:\n{''.join(models)}")
            mergekit = Path(self.peer).parent / "mergekit-yaml"
            theirs.append(timed([mergekit, yaml, self.folder / f"theirs-{turn}", "--lora-merge-cache", self.folder / f"cache-{turn}"], env={**os.environ, "HF_HUB_OFFLINE": "1"}))
        self.add("TIES of four adapters", "mergekit", min(ours), min(theirs), "s", lower=True)


def timed(command, **options):
    start = time.perf_counter()
    run(command, **options)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("release", type=Path)
    parser.add_argument("peers")
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="qlora,generation,merge")
    options = parser.parse_args()
    options.model, options.release = options.model.resolve(), options.release.resolve()
    bench = Bench(options)
    for name in options.only.split(","):
        getattr(bench, name)()
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?")
    print(f"{cpu}, {os.cpu_count()} cores, SYNAPSE_ISA={os.environ.get('SYNAPSE_ISA', 'best')}, load {os.getloadavg()[0]:.1f}")
    widths = [max(len(row[column]) for row in bench.rows) for column in range(4)]
    for row in bench.rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


if __name__ == "__main__":
    main()
