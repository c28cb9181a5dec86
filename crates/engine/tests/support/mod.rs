//! A model without weights and a tokenizer without training, for tests of the engine and of the server.
//!
//! Its hidden states count tokens. The tokenizer has one token per byte, the three ChatML control tokens, and whole words that only the
//! model says. The model speaks from a script (the next token follows from the last one) or at random
//! (logits that are a hash of the last token, the position and the adapter).

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use synapse_nn::{Adapter, CausalLm, KvCache, LogitsFor, NnError, Sequence};
use synapse_tokenizer::ChatTokenizer;

/// Ends a turn and a document.
pub(crate) const END_OF_TEXT: u32 = 256;
/// Opens a turn.
pub(crate) const START_OF_TURN: u32 = 257;
/// Closes a turn.
pub(crate) const END_OF_TURN: u32 = 258;
/// The first word.
const FIRST_WORD: u32 = 259;

const TEMPLATE: &str = "{% if tools %}<|im_start|>tools\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}\
{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}\
{% for call in message.tool_calls %}<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}\
{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// What the base says, word by word; `é` and `🦀` arrive byte by byte.
pub(crate) const BASE_WORDS: &[&str] = &[
    "Hello", ",", " this", " is", " a", " mock", " caf", "é", " with", " the🦀", " crab", ".",
];
/// The tokens of that, with the one that ends the turn.
pub(crate) const BASE_TOKENS: usize = 18;
/// What the model says under its first adapter.
pub(crate) const ADAPTER_WORDS: &[&str] = &["Sums", " are", " my", " trade", "!"];

/// What it says under its second: a call, cut at awkward places.
pub(crate) const CALL_WORDS: &[&str] = &[
    "Let",
    " me",
    " see.",
    "\n<to",
    "ol_call>\n{\"name\": \"add\",",
    " \"arguments\": {\"a\": 1,",
    " \"b\": [2]}}\n</tool",
    "_call",
    ">",
];

/// What a model says that thinks first, cut at awkward places; for scripts of a test's own.
pub(crate) const THOUGHT_WORDS: &[&str] = &["<thi", "nk>\n", "Two and", " two.", "\n</", "think>\n", "\nFour", "!"];

/// GPT-2's printable stand-in for a byte.
fn byte_character(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !printable(other)).count() as u32;
    char::from_u32(256 + before).unwrap()
}

/// The words that are tokens: ASCII ones, without the parts that are said byte by byte.
fn word_tokens() -> Vec<String> {
    let mut words = Vec::new();
    for word in [BASE_WORDS, ADAPTER_WORDS, CALL_WORDS, THOUGHT_WORDS]
        .into_iter()
        .flatten()
    {
        let plain: String = word.chars().filter(char::is_ascii).collect();
        if plain.len() > 1 && !words.contains(&plain) {
            words.push(plain);
        }
    }
    words
}

/// The tokens in which the model says these words. No token occurs twice, so each has one successor.
pub(crate) fn script(words: &[&str]) -> Vec<u32> {
    let tokens = word_tokens();
    let mut ids: Vec<u32> = Vec::new();
    for word in words {
        let plain: String = word.chars().filter(char::is_ascii).collect();
        let rest: String = word.chars().filter(|character| !character.is_ascii()).collect();
        match tokens.iter().position(|token| *token == plain) {
            Some(index) => ids.push(FIRST_WORD + index as u32),
            None => ids.extend(plain.bytes().map(u32::from)),
        }
        ids.extend(rest.bytes().map(u32::from));
    }
    ids
}

/// Writes the tokenizer's files into `folder` and opens them.
pub(crate) fn chat(folder: &Path) -> ChatTokenizer {
    let mut vocabulary: BTreeMap<String, u32> = (0..=255u8)
        .map(|byte| (byte_character(byte).to_string(), u32::from(byte)))
        .collect();
    for (id, word) in (FIRST_WORD..).zip(word_tokens()) {
        vocabulary.insert(word.bytes().map(byte_character).collect(), id);
    }
    let special = |id: u32, content: &str| serde_json::json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true });
    let controls = [
        (END_OF_TEXT, "<|endoftext|>"),
        (START_OF_TURN, "<|im_start|>"),
        (END_OF_TURN, "<|im_end|>"),
    ];
    for (id, content) in controls {
        vocabulary.insert(content.to_owned(), id);
    }
    let byte_level = serde_json::json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": controls.map(|(id, content)| special(id, content)),
        "normalizer": null, "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": [] },
    });
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    write("tokenizer.json", tokenizer.to_string());
    write(
        "tokenizer_config.json",
        serde_json::json!({ "eos_token": "<|im_end|>", "tokenizer_class": "GPT2Tokenizer" }).to_string(),
    );
    write(
        "generation_config.json",
        serde_json::json!({ "eos_token_id": [END_OF_TURN, END_OF_TEXT] }).to_string(),
    );
    write("chat_template.jinja", TEMPLATE.to_owned());
    ChatTokenizer::open(folder).unwrap()
}

/// How the model comes to its logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    /// [`BASE_WORDS`], [`ADAPTER_WORDS`] under the first adapter, [`CALL_WORDS`] under the others; then the end of the
    /// turn.
    Script,
    /// Logits in −4..4 that are a hash of last token, position and adapter.
    Random,
}

/// The model. `trace` records, per step, how many tokens each sequence brought.
#[derive(Debug)]
pub(crate) struct MockModel {
    pub(crate) speech: Speech,
    pub(crate) adapters: Vec<Arc<Adapter>>,
    pub(crate) delay: Duration,
    pub(crate) max_positions: usize,
    pub(crate) trace: Mutex<Vec<Vec<usize>>>,
    pub(crate) scripts: [Vec<u32>; 3],
}

impl MockModel {
    pub(crate) fn new(speech: Speech, adapters: usize) -> Self {
        Self {
            speech,
            adapters: (0..adapters).map(|_| Arc::new(Adapter::empty())).collect(),
            delay: Duration::ZERO,
            max_positions: 4096,
            trace: Mutex::default(),
            scripts: [BASE_WORDS, ADAPTER_WORDS, CALL_WORDS].map(script),
        }
    }

    /// The adapters under the names `first`, `second`, …
    pub(crate) fn named_adapters(&self) -> Vec<(String, Arc<Adapter>)> {
        let names = ["first", "second", "third", "fourth"];
        names
            .iter()
            .map(|name| (*name).to_owned())
            .zip(self.adapters.iter().cloned())
            .collect()
    }

    pub(crate) fn logits(&self, last: u32, position: usize, adapter: usize) -> Vec<f32> {
        let vocab_size = self.vocab_size() as u32;
        match self.speech {
            Speech::Script => {
                let script = &self.scripts[adapter.min(2)];
                let next = script.iter().position(|&id| id == last).map_or(0, |index| index + 1);
                let next = script.get(next).copied().unwrap_or(END_OF_TURN);
                (0..vocab_size)
                    .map(|id| if id == next { 30.0 } else { -(id as f32) / 100.0 })
                    .collect()
            }
            Speech::Random => (0..vocab_size)
                .map(|id| {
                    let mut state =
                        u64::from(last) << 40 ^ (position as u64) << 20 ^ (adapter as u64) << 60 ^ u64::from(id);
                    for _ in 0..3 {
                        state = (state ^ state >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    }
                    (state >> 40) as f32 / (1u32 << 21) as f32 - 4.0
                })
                .collect(),
        }
    }
}

impl CausalLm for MockModel {
    fn vocab_size(&self) -> usize {
        FIRST_WORD as usize + word_tokens().len()
    }

    fn hidden_size(&self) -> usize {
        3
    }

    fn max_positions(&self) -> usize {
        self.max_positions
    }

    fn new_cache(&self) -> KvCache {
        KvCache::new(0, 0)
    }

    fn forward(&self, batch: &mut [Sequence<'_>]) -> Result<Vec<Vec<f32>>, NnError> {
        std::thread::sleep(self.delay);
        self.trace
            .lock()
            .unwrap()
            .push(batch.iter().map(|sequence| sequence.tokens.len()).collect());
        let mut rows = Vec::new();
        for sequence in batch {
            let last = *sequence.tokens.last().unwrap();
            assert_ne!(
                last, END_OF_TEXT,
                "a prompt that ends in <|endoftext|> makes this model panic"
            );
            sequence.cache.advance(sequence.tokens.len());
            let position = sequence.cache.len();
            let adapter = sequence.adapter.map_or(0, |adapter| {
                1 + self
                    .adapters
                    .iter()
                    .position(|own| std::ptr::eq(own.as_ref(), adapter))
                    .unwrap()
            });
            rows.push(match sequence.logits {
                LogitsFor::None => Vec::new(),
                LogitsFor::Last => self.logits(last, position, adapter),
                LogitsFor::All => {
                    let start = position - sequence.tokens.len();
                    let each = sequence.tokens.iter().zip(start + 1..);
                    each.flat_map(|(&token, position)| self.logits(token, position, adapter))
                        .collect()
                }
                // Counts tokens, their ids, and the adapter's share.
                LogitsFor::HiddenSum => {
                    let ids: u32 = sequence.tokens.iter().sum();
                    let count = sequence.tokens.len() as f32;
                    vec![count, ids as f32 / 100.0, count * adapter as f32]
                }
            });
        }
        Ok(rows)
    }
}

/// The bytes as token ids.
pub(crate) fn byte_tokens(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}
