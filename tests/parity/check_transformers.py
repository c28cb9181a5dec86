#!/usr/bin/env python3
"""Loads what Synapse published with transformers and PEFT and compares greedy tokens. Outside `make test`: it needs Python.

    pip install torch transformers peft
    python3 tests/parity/check_transformers.py target/release/synapse-train MODEL_DIR [ADAPTER_DIR BASE_DIR]

Five prompts, 64 greedy tokens each, f32 on both sides: the merged folder through AutoModelForCausalLM, the adapter
through PeftModel over its base. Prints the first difference, if there is one, and exits 1.
"""
import json
import subprocess
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

PROMPTS = [
    "What is the capital of France?",
    "Mia finds 8 toys on Monday and 4 on Tuesday. How many toys does Mia find?",
    "Write f(x). It must return x plus 3.",
    "Name three colors.",
    "Why is the sky blue?",
]


def ours(binary, model, adapter, prompt):
    command = [binary, "generate", model, "--prompt", prompt, "--max-tokens", "64", "--dtype", "f32", "--json"]
    if adapter:
        command += ["--adapter", adapter]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["token_ids"]


def theirs(model, tokenizer, prompt, stop):
    text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        out = model.generate(ids, max_new_tokens=64, do_sample=False, repetition_penalty=1.0, eos_token_id=stop)
    return out[0, ids.shape[1]:].tolist()


def compare(name, binary, folder, adapter, model):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    stop = model.generation_config.eos_token_id
    stop = stop if isinstance(stop, list) else [stop]
    same = 0
    for prompt in PROMPTS:
        a, b = ours(binary, folder, adapter, prompt), theirs(model, tokenizer, prompt, stop)
        a, b = ([t for t in ids if t not in stop] for ids in (a, b))
        if a == b:
            same += 1
        else:
            place = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            print(f"{name}: {prompt!r}: token {place} differs: ours {a[place:place + 3]}, transformers' {b[place:place + 3]}")
    print(f"{name}: {same} of {len(PROMPTS)} prompts give the same greedy tokens")
    return same == len(PROMPTS)


binary, model_dir, *rest = sys.argv[1:]
good = compare("merged model", binary, model_dir, None, AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval())
if rest:
    adapter, base = rest
    peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter).eval()
    good &= compare("adapter", binary, base, adapter, peft)
sys.exit(0 if good else 1)
