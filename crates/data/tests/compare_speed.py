"""Tokenise, mask and pack the same rows with `datasets.map` and with ours, side by side. Not part of `make test`.

    cargo build --release -p synapse-data --example prepare
    python crates/data/tests/compare_speed.py MODEL_DIR ROWS.jsonl [--repeat 3]

ROWS.jsonl has {"question", "answer"} on each line. The peer does what a fine-tuner writes: the chat template rendered per row, the
fast tokenizer on prompt and whole, labels masked up to the prompt, then best-fit decreasing packing; one process and as many as there
are cores. Ours is the whole program: start, opening the tokenizer, reading, fingerprints, template, masks, packing, writing; the
peer's tokenizer is open when its clock starts, so ours is also given without what a file of one row takes. Each side's best time
counts.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

import datasets
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
LENGTH = 2048


def peer(model, rows, processes):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)

    def encode(batch):
        ids, labels = [], []
        for question, answer in zip(batch["question"], batch["answer"]):
            asked = [{"role": "user", "content": question}]
            prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
            text = tokenizer.apply_chat_template(asked + [{"role": "assistant", "content": answer}], tokenize=False)
            start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
            whole = tokenizer(text, add_special_tokens=False)["input_ids"][:LENGTH]
            ids.append(whole)
            labels.append([-100] * min(start, len(whole)) + whole[start:])
        return {"input_ids": ids, "labels": labels}

    def pack(batch):
        order = sorted(range(len(batch["input_ids"])), key=lambda index: -len(batch["input_ids"][index]))
        bins = []
        for index in order:
            length = len(batch["input_ids"][index])
            fits = [b for b in bins if b[0] + length <= LENGTH]
            if fits:
                chosen = max(fits, key=lambda b: b[0])
            else:
                chosen = [0, []]
                bins.append(chosen)
            chosen[0] += length
            chosen[1].append(index)
        join = lambda column, b: [token for index in b[1] for token in batch[column][index]]
        return {column: [join(column, b) for b in bins] for column in ("input_ids", "labels")}

    start = time.perf_counter()
    data = Dataset.from_json(str(rows), cache_dir=tempfile.mkdtemp())
    data = data.map(encode, batched=True, num_proc=processes, remove_columns=data.column_names, load_from_cache_file=False)
    data = data.map(pack, batched=True, num_proc=processes, load_from_cache_file=False)
    return time.perf_counter() - start, sum(len(row) for row in data["input_ids"])


def ours(program, model, rows):
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        subprocess.run([program, model, out, "0", str(rows)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        packed = Dataset.from_file(str(Path(out) / "train.arrow"))
        return seconds, sum(len(row) for row in packed["input_ids"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--program", default=str(HERE.parents[2] / "target/release/examples/prepare"))
    options = parser.parse_args()
    datasets.disable_progress_bars()
    one_row = Path(tempfile.mkdtemp()) / "one.jsonl"
    one_row.write_text(Path(options.rows).read_text().split("\n")[0] + "\n")
    sides = {"datasets.map, 1 process": lambda: peer(options.model, options.rows, None),
             f"datasets.map, {os.cpu_count()} processes": lambda: peer(options.model, options.rows, os.cpu_count()),
             "synapse": lambda: ours(options.program, options.model, options.rows),
             "synapse, one row": lambda: ours(options.program, options.model, one_row)}
    best = {}
    for _ in range(options.repeat):
        for name, run in sides.items():
            seconds, tokens = run()
            best[name] = min(best.get(name, (seconds, tokens)), (seconds, tokens))
    start, _ = best.pop("synapse, one row")
    whole, tokens = best["synapse"]
    best["synapse, without its start"] = (whole - start, tokens)
    reference = whole
    for name, (seconds, tokens) in best.items():
        print(f"{name:28} {seconds:7.2f} s {tokens / seconds:12,.0f} tokens/s {tokens:10,} tokens {seconds / reference:6.1f} x ours")


main()
