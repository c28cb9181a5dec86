#!/usr/bin/env python3
"""Exports a model folder as GGUF, runs it in llama.cpp, and compares token ids, greedy tokens and logits. Outside `make test`.

    pip install llama-cpp-python
    python3 tests/parity/check_llama_cpp.py target/release/synapse-train MODEL_DIR

F16 and BF16 must continue with the same 32 greedy tokens as ours, of the same file; llama.cpp multiplies Q8_0 by
activations that it rounds to 8 bits, so there the tokens are counted and 4 of 5 prompts must agree in the first token.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from llama_cpp import Llama

PROMPTS = [
    "What is the capital of France?",
    "Mia finds 8 toys on Monday and 4 on Tuesday. How many toys does Mia find?",
    "Write f(x). It must return x plus 3.",
    "Name three colors.",
    "Why is the sky blue?",
]
TOKENS = 32

binary, model = sys.argv[1:3]
good = True
with tempfile.TemporaryDirectory() as folder:
    for quant in ("f16", "bf16", "q8_0"):
        path = Path(folder) / f"{quant}.gguf"
        subprocess.run([binary, "export", model, "--format", "gguf", "--quant", quant, "--out", path], check=True, capture_output=True)
        llama = Llama(str(path), n_ctx=256, n_threads=2, logits_all=True, verbose=False)
        same = first = 0
        for prompt in PROMPTS:
            ids = llama.tokenize(prompt.encode(), add_bos=False, special=False)
            command = [binary, "generate", str(path), "--prompt", prompt, "--raw", "--max-tokens", str(TOKENS), "--dtype", "f32", "--json"]
            ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            theirs = []
            llama.reset()
            for token in llama.generate(ids, temp=0.0, repeat_penalty=1.0):
                if len(theirs) == len(ours["token_ids"]):
                    break
                theirs.append(token)
            same += theirs == ours["token_ids"]
            first += theirs[:1] == ours["token_ids"][:1]
            if theirs != ours["token_ids"]:
                place = next(i for i, (a, b) in enumerate(zip(theirs, ours["token_ids"])) if a != b)
                print(f"{quant}: {prompt!r}: token {place} differs: ours {ours['token_ids'][place:place + 3]}, llama.cpp's {theirs[place:place + 3]}")
        print(f"{quant}: {same} of {len(PROMPTS)} prompts continue with the same tokens, {first} with the same first token")
        good &= first >= 4 if quant == "q8_0" else same == len(PROMPTS)
sys.exit(0 if good else 1)
