"""Compares our rendered text and token ids with transformers', with a full tokenizer. Not part of `make test`.

    cargo build --release -p synapse-tokenizer --example encode
    python crates/tokenizer/tests/compare_tokens.py MODEL_DIR [--rows MESSAGES.jsonl]

Each line of MESSAGES.jsonl is {"messages": [{"role", "content"}, …]}; without it the committed conversations are
compared. Contents that spell a control token are counted and left out: there we differ on purpose.
"""

import argparse
import json
import subprocess
from pathlib import Path

from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--rows")
    parser.add_argument("--encode", default=str(HERE.parents[2] / "target/release/examples/encode"))
    options = parser.parse_args()
    if options.rows:
        rows = [json.loads(line)["messages"] for line in open(options.rows)]
    else:
        rows = [row["messages"] for row in json.loads((HERE / "fixtures/conversations.json").read_text())]

    # Not AutoTokenizer: transformers 5 rebuilds a `GPT2Tokenizer` (SmolLM2's class) from vocabulary and merges and
    # forgets the digit splitting of tokenizer.json, with which the model was trained.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(options.model)
    control = [token.content for token in tokenizer.added_tokens_decoder.values()
               if token.special or (token.content.startswith("<|") and token.content.endswith("|>"))]
    clean = [row for row in rows if not any(name in m["content"] for m in row for name in control)]
    asked = [(row, generation) for row in clean for generation in (False, True)]
    lines = "".join(json.dumps({"messages": row, "generation": generation}) + "\n" for row, generation in asked)
    ours = subprocess.run([options.encode, options.model], input=lines, stdout=subprocess.PIPE, text=True, check=True)

    different = tokens = 0
    for (row, generation), line in zip(asked, ours.stdout.rstrip("\n").split("\n"), strict=True):
        messages = [{"role": m["role"], "content": m["content"]} for m in row]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        tokens += len(ids)
        our = json.loads(line)
        if (our["text"], our["ids"]) != (text, ids):
            different += 1
            print("DIFFERENT:", json.dumps(row)[:300])
    print(f"{options.model}: {len(asked)} renderings of {len(clean)} conversations, {tokens} tokens, "
          f"{len(rows) - len(clean)} left out, {different} different")
    raise SystemExit(different > 0)


main()
