#!/usr/bin/env python3
"""Asks a running server for answers under every schema of crates/engine/tests/fixtures/schemas.jsonl and judges them with Python's
jsonschema, formats included. Outside `make test`.

    pip install 'jsonschema[format]'
    target/release/synapse-train serve MODEL_DIR &
    python3 tests/parity/check_schemas.py http://127.0.0.1:6900 [ANSWERS]

Exits 1 if an answer that ended does not parse or is not valid, or if one without free properties does not end.
"""
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

import jsonschema

address, *rest = sys.argv[1:]
answers = int(rest[0]) if rest else 4
good = True
rows = [json.loads(line) for line in open(Path(__file__).parent / "../../crates/engine/tests/fixtures/schemas.jsonl")]
valid = cut = 0
for row in rows:
    schema = row["schema"]
    body = {
        "messages": [{"role": "user", "content": "Hello"}], "temperature": 1, "seed": 1, "n": answers, "max_tokens": 400,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
    }
    request = urllib.request.Request(address + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        choices = json.load(urllib.request.urlopen(request))["choices"]
    except urllib.error.HTTPError as error:
        print(row["name"], error.read().decode())
        good = False
        continue
    draft = jsonschema.Draft7Validator if "draft-07" in str(schema.get("$schema")) else jsonschema.Draft202012Validator
    # OpenAPI's spelling, draft 4's, and null for what is left out are not JSON Schema's: the Rust test judges these rows
    foreign = "nullable" in json.dumps(schema) or ": null" in json.dumps({**schema, "default": 0}) and "left out" in row["name"]
    for choice in choices:
        text = choice["message"]["content"]
        if choice["finish_reason"] == "length":
            cut += 1
            # one long string is the model's choice
            print(f"{row['name']}: cut off: {text[:100]!r}")
            continue
        try:
            value = json.loads(text)
            if not foreign:
                draft(schema, format_checker=draft.FORMAT_CHECKER).validate(value)
            valid += 1
        except (ValueError, jsonschema.ValidationError) as error:
            print(f"{row['name']}: {text!r}: {error}")
            good = False
print(f"{len(rows)} schemas: {valid} answers valid, {cut} cut off")
sys.exit(0 if good else 1)
