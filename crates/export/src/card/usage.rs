//! How to run what the card describes, as commands that can be copied.

use super::data::{CardData, CardKind};

pub(super) fn section(card: &CardData) -> String {
    let location = &card.location;
    let base = &card.base.id;
    let prompt = "What is the capital of France?";
    let (load, serve, vllm) = match card.kind {
        CardKind::Adapter => (
            format!(
                "model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(\"{base}\", dtype=\"auto\"), \"{location}\")"
            ),
            serve_adapter(card),
            format!(
                "vllm serve {base} --enable-lora --lora-modules {}={location}",
                card.name
            ),
        ),
        CardKind::Merge | CardKind::Tuned => (
            format!("model = AutoModelForCausalLM.from_pretrained(\"{location}\", dtype=\"auto\")"),
            format!("synapse-train serve {location}"),
            format!("vllm serve {location}"),
        ),
    };
    let (import, tokenizer) = match card.kind {
        CardKind::Adapter => ("from peft import PeftModel\n", base),
        CardKind::Merge | CardKind::Tuned => ("", location),
    };
    let name = served_name(card);
    let mut text = format!(
        r#"## Use

Serve it behind an OpenAI-compatible API and ask it something:

```sh
{serve}
curl http://127.0.0.1:6900/v1/chat/completions -H 'Content-Type: application/json' \
  -d '{{"model": "{name}", "messages": [{{"role": "user", "content": "{prompt}"}}]}}'
```

transformers:

```python
{import}from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{tokenizer}")
{load}
inputs = tokenizer.apply_chat_template(
    [{{"role": "user", "content": "{prompt}"}}],
    add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0][inputs["input_ids"].shape[1]:]))
```

vLLM:

```sh
{vllm}
```
"#
    );
    if let Some(file) = card.gguf_files.first() {
        text.push_str(&format!(
            "\nllama.cpp:\n\n```sh\nllama-cli -m {file} -p \"{prompt}\"\n```\n"
        ));
    }
    text
}

/// The base comes first: `serve` takes folders.
fn serve_adapter(card: &CardData) -> String {
    let (base, name, location) = (&card.base.id, &card.name, &card.location);
    if card.base.local {
        format!("synapse-train serve {base} --adapter {name}={location}")
    } else {
        format!("synapse-train pull {base} --out base\nsynapse-train serve base --adapter {name}={location}")
    }
}

/// The name a server gives the model: its folder's, or the adapter's own.
fn served_name(card: &CardData) -> &str {
    match card.kind {
        CardKind::Adapter => &card.name,
        CardKind::Merge | CardKind::Tuned => card
            .location
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or(&card.name),
    }
}
