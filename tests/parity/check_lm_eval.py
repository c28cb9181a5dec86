#!/usr/bin/env python3
"""Asks lm-evaluation-harness and Synapse the same questions of the same model and compares item by item. Outside `make test`.

    pip install lm-eval torch transformers accelerate pyarrow
    python3 tests/parity/check_lm_eval.py target/release/synapse-train MODEL_DIR GSM8K_TEST.parquet CHOICES.jsonl [N [TOKENS [SHOTS]]]

Task files are written here, so nothing is fetched: gsm8k raw after our worked examples (8, or SHOTS), and multiple choice in the
manner of ARC (texts) and MMLU (letters). f32 on both sides; TOKENS 0 leaves gsm8k out. Exits 1 if a score differs and no reason is known.
"""
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import lm_eval
import pyarrow.parquet
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

binary, model, gsm8k, choices, *rest = sys.argv[1:]
count = int(rest[0]) if rest else 50
tokens = int(rest[1]) if rest[1:] else 256
examples_before = int(rest[2]) if rest[2:] else 8
folder = Path(tempfile.mkdtemp())


def write(name, rows):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def ours(suite, path, *options):
    out = folder / f"ours-{suite}"
    subprocess.run(
        [binary, "eval", model, "--suite", suite, "--questions", f"{suite}={path}", "--raw", "--dtype", "f32", "--out", out, *options],
        check=True, stdout=subprocess.DEVNULL,
    )
    (log,) = out.glob(f"*.{suite}.*.jsonl")
    return [json.loads(line) for line in log.read_text().splitlines()]


def examples():
    """The worked examples, read out of the source so that there is one copy of them."""
    source = (Path(__file__).parent / "../../crates/evaluate/src/suites/gsm8k.rs").read_text()
    table = source.split("EXAMPLES: [(&str, &str); 8] = [")[1].split("\n];")[0]
    texts = [json.loads(line.strip().rstrip(",")) for line in table.splitlines() if line.strip().startswith('"')]
    return list(zip(texts[::2], texts[1::2]))


rows = pyarrow.parquet.read_table(gsm8k).to_pylist()[:count]
questions = write("gsm8k.jsonl", rows)
shots = "".join(f"Question: {question}\nAnswer: {answer}\n\n" for question, answer in examples()[:examples_before])
items = [json.loads(line) for line in open(choices)][:count]
letters = "ABCDEFGH"
arc = write("arc.jsonl", [
    {"id": str(i), "question": row["question"], "choices": {"text": row["choices"], "label": list(letters[: len(row["choices"])])}, "answerKey": letters[row["answer"]]}
    for i, row in enumerate(items)
])
mmlu = write("mmlu.jsonl", [{**row, "subject": "general_knowledge"} for row in items])

common = {"dataset_path": "json", "test_split": "test"}
tasks = {
    "our_gsm8k": {
        **common, "dataset_kwargs": {"data_files": {"test": str(questions)}}, "output_type": "generate_until",
        "doc_to_text": shots + "Question: {{question}}\nAnswer:", "doc_to_target": "{{answer.split('####')[-1].strip()}}",
        "generation_kwargs": {"until": ["\nQuestion:"], "do_sample": False, "max_gen_toks": tokens},
        "metric_list": [{"metric": "exact_match", "ignore_case": True, "regexes_to_ignore": [",", "\\$", "\\.$"]}],
        "filter_list": [
            {"name": "strict-match", "filter": [{"function": "regex", "regex_pattern": "#### (\\-?[0-9\\.\\,]+)"}, {"function": "take_first"}]},
            {"name": "flexible-extract", "filter": [{"function": "regex", "group_select": -1, "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)"}, {"function": "take_first"}]},
        ],
    },
    "our_arc": {
        **common, "dataset_kwargs": {"data_files": {"test": str(arc)}}, "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:", "doc_to_choice": "{{choices.text}}", "doc_to_target": "{{choices.label.index(answerKey)}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "our_mmlu": {
        **common, "dataset_kwargs": {"data_files": {"test": str(mmlu)}}, "output_type": "multiple_choice",
        "doc_to_text": "The following are multiple choice questions (with answers) about general knowledge.\n\n{{question.strip()}}\n"
                       "A. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nD. {{choices[3]}}\nAnswer:",
        "doc_to_choice": ["A", "B", "C", "D"], "doc_to_target": "answer", "metric_list": [{"metric": "acc"}],
    },
}
if tokens == 0:
    del tasks["our_gsm8k"]
for name, task in tasks.items():
    (folder / f"{name}.yaml").write_text(json.dumps({"task": name, "num_fewshot": 0, **task}))

found = lm_eval.simple_evaluate(
    model=HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=8),
    tasks=list(tasks), task_manager=TaskManager(include_path=str(folder), include_defaults=False), limit=count,
    log_samples=True, bootstrap_iters=0, verbosity="ERROR",
)
samples = found["samples"]
good = True


def multiple_choice(task, suite, path):
    global good
    mine = ours(suite, path)
    theirs = sorted(samples[task], key=lambda sample: sample["doc_id"])
    same = normed = 0
    worst = 0.0
    for ours_item, sample in zip(mine, theirs):
        scores = [float(response[0][0]) for response in sample["resps"]]
        worst = max(worst, *(abs(a - b) for a, b in zip(scores, ours_item["log_probabilities"])))
        equal = ours_item["correct"] == bool(sample["acc"])
        same += equal
        if "acc_norm" in sample:
            normed += (ours_item["chosen_per_byte"] == ours_item["right"]) == bool(sample["acc_norm"])
        if not equal:
            # a tie within rounding is a reason; anything else is not
            top = sorted(scores)[-2:]
            tie = math.isclose(*top, abs_tol=1e-3)
            good &= tie
            print(f"{suite} {ours_item['id']}: ours {ours_item['log_probabilities']}, lm-eval's {scores}{' (a tie)' if tie else ''}")
    right = sum(item["correct"] for item in mine)
    print(f"{suite}: {same} of {len(mine)} items judged alike{f', {normed} by length' if 'acc_norm' in theirs[0] else ''}; {right} right; log-probabilities differ by {worst:.2e} at most")


multiple_choice("our_arc", "arc", arc)
multiple_choice("our_mmlu", "mmlu", mmlu)

if tokens == 0:
    sys.exit(0 if good else 1)
mine = ours("gsm8k", questions, "--shots", str(examples_before), "--max-tokens", str(tokens))
by_filter = {}
for sample in samples["our_gsm8k"]:
    by_filter.setdefault(sample["filter"], {})[sample["doc_id"]] = sample
texts = strict = flexible = 0
for index, item in enumerate(mine):
    one, other = by_filter["strict-match"][index], by_filter["flexible-extract"][index]
    text = one["resps"][0][0]
    texts += text == item["answer"]
    strict += item["correct"] == bool(one["exact_match"])
    flexible += item["correct"] == bool(other["exact_match"])
    if item["correct"] != bool(one["exact_match"]) or text != item["answer"]:
        reason = "other text" if text != item["answer"] else f"ours takes {item['extracted']} by `{item['rule']}`, lm-eval's strict filter {one['filtered_resps'][0]}"
        known = text == item["answer"] and item["rule"] != "####"
        good &= known or item["correct"] == bool(one["exact_match"])
        print(f"gsm8k {index}: ours {item['correct']}, strict {bool(one['exact_match'])}, flexible {bool(other['exact_match'])}: {reason}")
print(f"gsm8k: {texts} of {len(mine)} answers are the same text; {strict} judged as by the strict filter, {flexible} as by the flexible one")
sys.exit(0 if good else 1)
