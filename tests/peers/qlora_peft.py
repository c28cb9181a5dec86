#!/usr/bin/env python3
"""QLoRA steps of PEFT and bitsandbytes on the CPU, for bench_peers.py: prints tokens/s (median) and peak bytes as JSON.

Random tokens, NF4 with double quantization, LoRA on all linear modules without dropout, torch's AdamW. The first two steps
choose kernels and are not counted.
"""
import argparse
import json
import os
import resource
import statistics
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("--batch", type=int, default=2)
parser.add_argument("--seq", type=int, default=512)
parser.add_argument("--rank", type=int, default=64)
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--dtype", choices=["bf16", "f32"], default="f32")
options = parser.parse_args()

dtype = torch.bfloat16 if options.dtype == "bf16" else torch.float32
torch.manual_seed(0)
nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
model = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype, device_map="cpu", quantization_config=nf4)
model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
lora = LoraConfig(r=options.rank, lora_alpha=2 * options.rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
model = get_peft_model(model, lora)
optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=2e-4)
model.train()
times = []
for _ in range(options.steps + 2):
    ids = torch.randint(0, model.config.vocab_size, (options.batch, options.seq))
    start = time.perf_counter()
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    times.append(time.perf_counter() - start)
rate = options.batch * options.seq / statistics.median(times[2:])
print(json.dumps({"tokens_per_second": rate, "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
