#!/usr/bin/env python3
"""LoRA adapters with random weights on a model folder, as PEFT saves them, for bench_peers.py: FOLDER-RANK-SEED each."""
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model, *folders = sys.argv[1:]
for folder in folders:
    rank, seed = map(int, folder.rsplit("-", 2)[1:])
    torch.manual_seed(seed)
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    adapter = get_peft_model(AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16), lora)
    for name, parameter in adapter.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    adapter.peft_config["default"].base_model_name_or_path = model
    adapter.save_pretrained(folder, save_embedding_layers=False)
