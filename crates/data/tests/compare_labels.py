"""Compares a prepared held_out.arrow with transformers' ids and TRL's prompt-completion labels. Not part of `make test`.

    cargo build --release -p synapse-data --example prepare
    target/release/examples/prepare MODEL_DIR OUT_DIR 400 FILE...
    python crates/data/tests/compare_labels.py MODEL_DIR OUT_DIR

TRL trains everything after the prompt; we leave out the newline after the end of the turn, and the first label of a
document. Rows of several turns are left out, and those that spell a control token: there we differ on purpose.
"""

import json
import sys
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedTokenizerFast


def main(model, folder):
    # Not AutoTokenizer: see crates/chat/tests/compare_tokens.py.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    control = [token.content for token in tokenizer.added_tokens_decoder.values()
               if token.special or (token.content.startswith("<|") and token.content.endswith("|>"))]
    document_end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    packed = Dataset.from_file(str(Path(folder) / "train.arrow"))
    held_out = Dataset.from_file(str(Path(folder) / "held_out.arrow"))
    rows = [json.loads(line) for line in (Path(folder) / "held_out.jsonl").read_text().rstrip("\n").split("\n")]
    length = json.loads((Path(folder) / "manifest.json").read_text())["max_seq_len"]
    assert len(rows) == len(held_out)
    assert all(sum(row["seq_lengths"]) == len(row["input_ids"]) <= length for row in packed)

    def encode(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    compared = different = 0
    for row, ours in zip(rows, held_out):
        messages = [{"role": m["role"], "content": m["content"]} for m in row.get("messages", [])]
        texts = [m["content"] for m in messages] or [row["text"]]
        if any(name in text for name in control for text in texts) or len(messages) > 3:
            continue
        if messages:
            prompt = encode(tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False))
            ids = encode(tokenizer.apply_chat_template(messages, tokenize=False))
            labels = [-100] * len(prompt) + ids[len(prompt):-1] + [-100]
        else:
            ids = encode(row["text"]) + [document_end]
            labels = [-100] + ids[1:]
        compared += 1
        different += (ids[:length], labels[:length]) != (ours["input_ids"], ours["labels"])
    print(f"{folder}: {compared} of {len(rows)} held-out rows compared, {different} different; {len(packed)} packed rows")
    return different > 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:3]))
