#!/usr/bin/env python3
"""Runs lm-evaluation-harness's `local-completions` and `local-chat-completions` against `synapse-train serve` and compares every item
with `synapse-train eval` on the same model. Outside `make test`.

    pip install 'lm-eval[api]' torch transformers
    python3 tests/parity/check_lm_eval_serve.py target/release/synapse-train MODEL_DIR [TOKENS]

The questions are the 20 of questions_gsm8k.jsonl and the 20 of questions_arc.jsonl beside this file, in the datasets' own columns;
nothing is fetched. f32 on both sides. Exits 1 if an answer's text, a judgment or a log-probability differs and no reason is known.
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import lm_eval
from lm_eval.tasks import TaskManager

binary, model, *rest = sys.argv[1:]
tokens = int(rest[0]) if rest else 96
here = Path(__file__).parent
gsm8k, arc = here / "questions_gsm8k.jsonl", here / "questions_arc.jsonl"
folder = Path(tempfile.mkdtemp())
context = json.loads((Path(model) / "config.json").read_text())["max_position_embeddings"]
good = True


def ours(suite, path, *options):
    out = folder / f"ours-{suite}-{len(options)}"
    subprocess.run(
        [binary, "eval", model, "--suite", suite, "--questions", f"{suite}={path}", "--dtype", "f32", "--out", out, *options],
        check=True, stdout=subprocess.DEVNULL,
    )
    (log,) = out.glob(f"*.{suite}.*.jsonl")
    return [json.loads(line) for line in log.read_text().splitlines()]


common = {"dataset_path": "json", "test_split": "test", "num_fewshot": 0}
generation = {
    **common, "dataset_kwargs": {"data_files": {"test": str(gsm8k)}}, "output_type": "generate_until",
    "doc_to_target": "{{answer.split('####')[-1].strip()}}",
    "metric_list": [{"metric": "exact_match", "ignore_case": True, "regexes_to_ignore": [",", "\\$", "\\.$"]}],
    "filter_list": [{"name": "strict-match", "filter": [{"function": "regex", "regex_pattern": "#### (\\-?[0-9\\.\\,]+)"}, {"function": "take_first"}]}],
}
tasks = {
    "serve_gsm8k": {
        **generation, "doc_to_text": "Question: {{question}}\nAnswer:",
        "generation_kwargs": {"until": ["\nQuestion:"], "do_sample": False, "max_gen_toks": tokens},
    },
    "serve_gsm8k_chat": {
        **generation, "doc_to_text": "{{question}}", "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": tokens},
    },
    "serve_arc": {
        **common, "dataset_kwargs": {"data_files": {"test": str(arc)}}, "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:", "doc_to_choice": "{{choices.text}}", "doc_to_target": "{{choices.label.index(answerKey)}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
}
for name, task in tasks.items():
    (folder / f"{name}.yaml").write_text(json.dumps({"task": name, **task}))
manager = TaskManager(include_path=str(folder), include_defaults=False)

server = subprocess.Popen(
    [binary, "serve", model, "--port", "0", "--dtype", "f32"], stderr=subprocess.PIPE, text=True,
)
address = next(line.split("http://")[1].split()[0].rstrip("/") for line in server.stderr if "http://" in line)


def asked(kind, path, names, **more):
    arguments = {
        "model": Path(model).name, "base_url": f"http://{address}{path}", "max_length": context, "max_gen_toks": tokens, "max_retries": 1, **more,
    }
    chat = kind == "local-chat-completions"
    found = lm_eval.simple_evaluate(
        model=kind, model_args=arguments, tasks=names, task_manager=manager, log_samples=True, bootstrap_iters=0, apply_chat_template=chat,
    )
    return {name: sorted(found["samples"][name], key=lambda sample: sample["doc_id"]) for name in names}


def compare_texts(name, mine, theirs):
    global good
    texts = judged = 0
    for item, sample in zip(mine, theirs, strict=True):
        text = sample["resps"][0][0]
        texts += text == item["answer"]
        right = bool(sample["exact_match"])
        judged += item["correct"] == right
        if text != item["answer"] or item["correct"] != right:
            # our harness also takes a final number without `####`, as its log says
            known = text == item["answer"] and item["rule"] != "####"
            good &= known
            print(f"{name} {item['id']}: ours {item['correct']} by {item['rule']}: {item['answer']!r}; lm-eval {right}: {text!r}")
    right = sum(item["correct"] for item in mine)
    print(f"{name}: {texts} of {len(mine)} answers are the same text, {judged} judged alike, {right} right")


try:
    os.environ.setdefault("OPENAI_API_KEY", "none")
    whole = asked("local-completions", "/v1/completions", ["serve_gsm8k"], tokenizer=model, tokenizer_backend="huggingface", batch_size=4)
    chat = asked("local-chat-completions", "/v1/chat/completions", ["serve_gsm8k_chat"], tokenizer_backend=None, num_concurrent=2)
    batches = {size: asked("local-completions", "/v1/completions", ["serve_arc"], tokenizer=model, tokenizer_backend="huggingface", batch_size=size)["serve_arc"] for size in (1, 4)}
    text = asked("local-completions", "/v1/completions", ["serve_arc"], tokenizer=model, tokenizer_backend="huggingface", tokenized_requests=False)["serve_arc"]
finally:
    server.terminate()

limits = ["--max-tokens", str(tokens)]
compare_texts("gsm8k raw", ours("gsm8k", gsm8k, "--raw", *limits), whole["serve_gsm8k"])
compare_texts("gsm8k chat", ours("gsm8k", gsm8k, *limits), chat["serve_gsm8k_chat"])
mine = ours("arc", arc, "--raw")
for name, theirs in [("one by one", batches[1]), ("four at a time", batches[4]), ("as text", text)]:
    worst = same = normed = 0
    for item, sample in zip(mine, theirs, strict=True):
        scores = [float(response[0][0]) for response in sample["resps"]]
        worst = max(worst, *(abs(a - b) for a, b in zip(scores, item["log_probabilities"], strict=True)))
        same += item["correct"] == bool(sample["acc"])
        normed += (item["chosen_per_byte"] == item["right"]) == bool(sample["acc_norm"])
    good &= worst < 1e-3 and same == normed == len(mine)
    right = sum(item["correct"] for item in mine)
    print(f"arc {name}: {same} of {len(mine)} items judged alike, {normed} by length; {right} right; log-probabilities differ by {worst:.2e} at most")
sys.exit(0 if good else 1)
