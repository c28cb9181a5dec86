#!/usr/bin/env python3
"""Compares synapse-merge with mergekit on float32 checkpoints, YAML unchanged, entry for entry.

    python check_mergekit.py SYNAPSE_MERGE_BINARY

Needs mergekit, torch, numpy and safetensors beside this Python (`pip install mergekit`). Makes small random Llama
folders in a temporary place, runs both programs on the same files, and prints for every case how many entries are
equal to the bit and how far the worst is off, in units of the merged values' last place. Cases marked `bits` must be
equal to the bit; `few` may differ where a threshold falls (mergekit ranks by f32 statistics); the others follow the formulas in float64 where mergekit computes in float32, and must agree to the
bound that is printed with them.
"""
import json
import logging
import os
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.numpy import load_file, save_file

# These folders have no tokenizer, which mergekit reports at length.
logging.disable(logging.CRITICAL)

BINARY = os.path.abspath(sys.argv[1])
LAYERS, HIDDEN, MLP, HEADS, KV, VOCAB = 3, 64, 96, 4, 2, 160


def model(folder, seed, around=None, spread=0.02):
    random = np.random.default_rng(seed)
    head = HIDDEN // HEADS
    shapes = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "lm_head.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        shapes |= {
            prefix + "input_layernorm.weight": (HIDDEN,),
            prefix + "post_attention_layernorm.weight": (HIDDEN,),
            prefix + "self_attn.q_proj.weight": (HEADS * head, HIDDEN),
            prefix + "self_attn.k_proj.weight": (KV * head, HIDDEN),
            prefix + "self_attn.v_proj.weight": (KV * head, HIDDEN),
            prefix + "self_attn.o_proj.weight": (HIDDEN, HEADS * head),
            prefix + "mlp.gate_proj.weight": (MLP, HIDDEN),
            prefix + "mlp.up_proj.weight": (MLP, HIDDEN),
            prefix + "mlp.down_proj.weight": (HIDDEN, MLP),
        }
    tensors = {}
    for name, shape in shapes.items():
        values = random.normal(0, spread, shape)
        tensors[name] = (values + (around[name] if around else 0)).astype(np.float32)
    os.makedirs(folder)
    save_file(tensors, f"{folder}/model.safetensors", metadata={"format": "pt"})
    json.dump({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": HIDDEN,
        "intermediate_size": MLP, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "vocab_size": VOCAB,
        "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "float32",
    }, open(f"{folder}/config.json", "w"))
    return tensors


BASED = "base_model: ./base\ndtype: float32\n"
TWO = "models:\n  - {model: ./a, parameters: {weight: 0.7%s}}\n  - {model: ./b, parameters: {weight: 0.6%s}}\n"
THREE = TWO + "  - {model: ./c, parameters: {weight: 1.0%s}}\n"
D = ", density: 0.3"
# At most one entry in a thousand may differ.
FEW = "few"
# name -> (YAML, bound in units of the last place; 0 means bits)
CASES = {
    "linear": ("merge_method: linear\ndtype: float32\n" + THREE % ("", "", ""), 0),
    "linear, not normalized": ("merge_method: linear\ndtype: float32\nparameters: {normalize: false}\n" + THREE % ("", "", ""), 0),
    "task_arithmetic": ("merge_method: task_arithmetic\n" + BASED + THREE % ("", "", ""), 0),
    "task_arithmetic, lambda and normalize": ("merge_method: task_arithmetic\nparameters: {normalize: true, lambda: 0.8}\n" + BASED + THREE % ("", "", ""), 0),
    "ties": ("merge_method: ties\n" + BASED + THREE % (D, D, D), 0),
    "ties, odd densities": ("merge_method: ties\nparameters: {lambda: 1.2}\n" + BASED + THREE % (", density: 0.29", ", density: 0.5", ", density: [0.1, 0.9]"), 0),
    "ties, sums": ("merge_method: ties\nparameters: {normalize: false}\n" + BASED + THREE % (D, D, D), 0),
    "breadcrumbs": ("merge_method: breadcrumbs\n" + BASED + THREE % (D, D, D), 0),
    "breadcrumbs_ties": ("merge_method: breadcrumbs_ties\nparameters: {gamma: 0.05, normalize: true}\n" + BASED + THREE % (D, D, D), 0),
    "slerp, near": ("merge_method: slerp\nparameters: {t: [{filter: self_attn, value: [0, 0.5, 1]}, {value: 0.3}]}\n" + BASED + "models: [{model: ./base}, {model: ./near}]\n", 0),
    "slerp": ("merge_method: slerp\nparameters: {t: [{filter: self_attn, value: [0, 0.5, 1]}, {value: 0.3}]}\n" + BASED + "models: [{model: ./base}, {model: ./a}]\n", 16),
    "slerp of slices": ("merge_method: slerp\nparameters: {t: 0.4}\n" + BASED + "slices:\n  - sources: [{model: ./base, layer_range: [0, 2]}, {model: ./near, layer_range: [1, 3]}]\n", 16),
    "nuslerp": ("merge_method: nuslerp\ndtype: float32\n" + TWO % ("", ""), 32),
    "nuslerp on changes": ("merge_method: nuslerp\n" + BASED + TWO % ("", ""), 32),
    "nuslerp by row": ("merge_method: nuslerp\nparameters: {nuslerp_flatten: false}\n" + BASED + TWO % ("", ""), 64),
    "nuslerp by column": ("merge_method: nuslerp\nparameters: {nuslerp_flatten: false, nuslerp_row_wise: true}\n" + BASED + TWO % ("", ""), 64),
    "multislerp": ("merge_method: multislerp\ndtype: float32\n" + THREE % ("", "", ""), 64),
    "multislerp on changes": ("merge_method: multislerp\n" + BASED + THREE % ("", "", ""), 64),
    "karcher": ("merge_method: karcher\ndtype: float32\nmodels: [{model: ./a}, {model: ./b}, {model: ./c}]\n", 256),
    "model_stock": ("merge_method: model_stock\n" + BASED + "models: [{model: ./a}, {model: ./b}, {model: ./c}]\n", 64),
    "model_stock by filter": ("merge_method: model_stock\nparameters: {filter_wise: true}\n" + BASED + "models: [{model: ./a}, {model: ./b}, {model: ./c}]\n", 512),
    "sce": ("merge_method: sce\n" + BASED + "models: [{model: ./a}, {model: ./b}, {model: ./c}]\n", 32),
    "sce, selected": ("merge_method: sce\nparameters: {select_topk: 0.4}\n" + BASED + "models: [{model: ./a}, {model: ./b}, {model: ./c}]\n", 32),
    "nearswap": ("merge_method: nearswap\nparameters: {t: 0.004}\n" + BASED + "models: [{model: ./a}]\n", 0),
    "arcee_fusion": ("merge_method: arcee_fusion\n" + BASED + "models: [{model: ./base}, {model: ./a}]\n", FEW),
    "passthrough": ("merge_method: passthrough\ndtype: float32\nslices:\n  - sources: [{model: ./a, layer_range: [0, 2]}]\n  - sources: [{model: ./b, layer_range: [1, 3], parameters: {scale: [{filter: o_proj, value: 0.5}, {value: 1.0}]}}]\n", 0),
}


def main():
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        base = model("base", 1)
        for seed, name in enumerate("abc"):
            model(name, 2 + seed, base, 0.01)
        model("near", 9, base, 0.0003)
        for index, (case, (text, bound)) in enumerate(CASES.items()):
            with open("case.yml", "w") as file:
                file.write(text)
            theirs, ours = f"theirs-{index}", f"ours-{index}"
            try:
                run_merge(MergeConfiguration.model_validate(yaml.safe_load(text)), theirs, MergeOptions(quiet=True))
            except Exception as error:
                print(f"{case}: mergekit failed: {error}")
                failed.append(case)
                continue
            ran = subprocess.run([BINARY, "case.yml", "--out", ours], capture_output=True, text=True)
            if ran.returncode:
                print(f"{case}: synapse-merge failed: {ran.stderr.strip()}")
                failed.append(case)
                continue
            left, right = {}, {}
            for out, into in ((theirs, left), (ours, right)):
                for name in sorted(os.listdir(out)):
                    if name.endswith(".safetensors"):
                        into |= load_file(f"{out}/{name}")
            assert left.keys() == right.keys(), (case, left.keys() ^ right.keys())
            entries = equal = 0
            worst = 0.0
            for name, x in left.items():
                y = right[name]
                entries += x.size
                equal += int((x.view(np.uint32) == y.view(np.uint32)).sum() + ((x == 0) & (y == 0) & (x.view(np.uint32) != y.view(np.uint32))).sum())
                # Rounding is relative to the values that were added, of which the base's spread is the scale.
                unit = np.spacing(np.maximum(np.abs(x), np.float32(np.sqrt(np.mean(x.astype(np.float64) ** 2)))))
                worst = max(worst, float((np.abs(x.astype(np.float64) - y) / unit).max()))
            good = equal >= 0.999 * entries if bound == FEW else equal == entries if bound == 0 else worst <= bound
            print(f"{'ok  ' if good else 'FAIL'} {case}: {equal} of {entries} to the bit, worst {worst:.2f} units" + (" (bits)" if bound == 0 else f" (bound {bound})"), flush=True)
            if not good:
                failed.append(case)
    sys.exit(f"{len(failed)} cases differ: {', '.join(failed)}" if failed else 0)


main()
