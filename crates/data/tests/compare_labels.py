"""Compares a prepared held_out.arrow with transformers' ids and TRL's prompt-completion labels. Not part of `make test`.

    cargo build --release -p synapse-data --example prepare
    target/release/examples/prepare MODEL_DIR OUT_DIR 400 FILE...
    python crates/data/tests/compare_labels.py MODEL_DIR OUT_DIR

Conversations go through TRL's own SFTTrainer (its preparation of `prompt` and `completion`; nothing is trained), plain text
through the fast tokenizer. TRL trains everything after the prompt; we leave out the newline after the end of the turn, and the
first label of a document. Rows of several turns are left out, and those that spell a control token: there we differ on purpose.
"""

import json
import sys
import tempfile
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import SFTConfig, SFTTrainer


def prepared_by_trl(tokenizer, conversations):
    """TRL's ids and labels of conversations whose last turn is the completion."""
    tiny = Qwen2Config(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
                       num_key_value_heads=1)
    rows = Dataset.from_list([{"prompt": c[:-1], "completion": c[-1:]} for c in conversations])
    with tempfile.TemporaryDirectory() as out:
        config = SFTConfig(output_dir=out, max_length=None, packing=False, report_to=[], use_cpu=True, bf16=False)
        trainer = SFTTrainer(Qwen2ForCausalLM(tiny), args=config, train_dataset=rows, processing_class=tokenizer)
        for row in trainer.train_dataset:
            yield row["input_ids"], row["labels"]


def main(model, folder):
    # Not AutoTokenizer: see crates/tokenizer/tests/compare_tokens.py.
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

    pairs, conversations = [], []
    for row, ours in zip(rows, held_out):
        messages = [{"role": m["role"], "content": m["content"]} for m in row.get("messages", [])]
        texts = [m["content"] for m in messages] or [row["text"]]
        if any(name in text for name in control for text in texts) or len(messages) > 3:
            continue
        pairs.append((None if messages else row["text"], ours))
        if messages:
            conversations.append(messages)
    by_trl = prepared_by_trl(tokenizer, conversations) if conversations else iter(())
    different = 0
    for text, ours in pairs:
        if text is None:
            ids, labels = next(by_trl)
            labels = labels[:-1] + [-100]
        else:
            ids = encode(text) + [document_end]
            labels = [-100] + ids[1:]
        different += (ids[:length], labels[:length]) != (ours["input_ids"], ours["labels"])
    compared = len(pairs)
    print(f"{folder}: {compared} of {len(rows)} held-out rows compared, {different} different; {len(packed)} packed rows")
    return different > 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:3]))
