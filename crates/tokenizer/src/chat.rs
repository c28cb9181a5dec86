//! The tokenizer, template and stop tokens of one model folder, and the ways text becomes tokens.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};
use synapse_checkpoint::ModelFiles;
use tokenizers::Tokenizer;

use crate::byte_level::ByteLevel;
use crate::control::ControlTokens;
use crate::folder::{Files, Settings};
use crate::pieces::{Inner, ids};
use crate::spans::locate;
use crate::template::{Conversation, Template};
use crate::vocabulary::Spelling;
use crate::{ChatError, Detokenizer, Message, Result, tools};

/// Token ids and, for each, whether training learns it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// As long as `ids`: whether the token at this place is a training target (not shifted).
    pub trained: Vec<bool>,
}

/// Tokenizer, template and stop tokens of one model folder; cheap to clone.
#[derive(Clone)]
pub struct Chat {
    pub(crate) inner: Arc<Inner>,
}

/// Tokens that end a document, by model family; the first one that the tokenizer has is taken.
const DOCUMENT_ENDS: [&str; 4] = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"];

impl std::fmt::Debug for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chat")
            .field("folder", &self.inner.folder)
            .finish_non_exhaustive()
    }
}

impl Chat {
    /// Opens a model folder: tokenizer.json is required; tokenizer_config.json, chat_template.jinja (which wins over
    /// the `chat_template` in tokenizer_config.json), generation_config.json and config.json are read if they exist.
    ///
    /// # Errors
    /// A file that is missing, unreadable or malformed, by name.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::of(Files::Folder(folder))
    }

    /// The same of a model in either form: a GGUF file says in its metadata what those files would.
    ///
    /// # Errors
    /// As [`Chat::open`], and a tokenizer that GGUF names but this crate does not know.
    pub fn of_model(model: &ModelFiles) -> Result<Self> {
        match model {
            ModelFiles::Folder(folder) => Self::open(folder.path()),
            ModelFiles::Gguf(file) => Self::of(Files::Made(file.path(), &file.side_files()?)),
        }
    }

    fn of(files: Files<'_>) -> Result<Self> {
        let path = files.path("tokenizer.json");
        let source = files
            .text("tokenizer.json")?
            .ok_or_else(|| ChatError::invalid(&path, "not found; a model folder needs the tokenizer in this file"))?;
        let mut tokenizer: Tokenizer = source
            .parse()
            .map_err(|error| ChatError::invalid(&path, format!("not a tokenizer: {error}")))?;
        // Some published files carry a truncation left over from training: it would cut texts silently.
        tokenizer.with_truncation(None).map_err(ChatError::Tokenizer)?;
        tokenizer.with_padding(None);

        let settings = Settings::read(files)?;
        let control = ControlTokens::of(&tokenizer)?;
        let id_of = |name: &str| tokenizer.token_to_id(name);
        let eos = settings.named_tokens.get("eos_token").and_then(|token| id_of(token));
        let mut stop_ids = settings.eos_ids;
        stop_ids.extend(eos);
        let document_end = DOCUMENT_ENDS.iter().find_map(|name| id_of(name)).or(eos);
        let mut document_start = tokenizer
            .encode_fast("", true)
            .map_err(ChatError::Tokenizer)?
            .get_ids()
            .to_vec();
        document_start.retain(|id| !stop_ids.contains(id) && Some(*id) != document_end);
        let largest_added = tokenizer.get_added_tokens_decoder().into_keys().max();
        let vocab_size = tokenizer
            .get_vocab_size(true)
            .max(largest_added.map_or(0, |id| id as usize + 1));
        let template_hash = settings.template.as_deref().map(sha256).unwrap_or_default();
        let has_call_tags = settings.template.as_deref().is_some_and(tools::has_call_tags);
        let template = match settings.template {
            Some(source) => Some(Template::compile(&source, settings.named_tokens)?),
            None => None,
        };
        let spelling = Spelling::of(&tokenizer);
        let mut inner = Inner {
            folder: files.origin().to_owned(),
            byte_level: ByteLevel::of(&source, &tokenizer),
            spelling,
            tokenizer,
            plain: OnceLock::new(),
            control,
            template,
            document_start,
            document_end,
            stop_ids: Vec::new(),
            vocab_size,
            has_call_tags,
            template_hash,
            tokenizer_hash: sha256(&source),
        };
        stop_ids.extend(inner.end_of_turn());
        stop_ids.sort_unstable();
        stop_ids.dedup();
        inner.stop_ids = stop_ids;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Renders a conversation with the model's template, to the letter as `transformers` does.
    ///
    /// # Errors
    /// No template, or one that refuses these messages.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.inner.template()?.render(messages.into(), add_generation_prompt)
    }

    /// Raw text in which control tokens are plain text; nothing is added before or after.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        Ok(ids(self.inner.plain_pieces(text)?))
    }

    /// Raw text as the tokenizer takes it by default: control tokens are recognized, and what the tokenizer puts
    /// before a text (such as `<s>`) is put there.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn encode_raw(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .tokenizer
            .encode_fast(text, true)
            .map_err(ChatError::Tokenizer)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// A conversation up to where the model answers; control tokens inside contents are plain text.
    ///
    /// # Errors
    /// The template refuses, or rewrites a content that contains a control token.
    pub fn encode_prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.encode_prompt_with_tools(messages, &[])
    }

    /// As [`Self::encode_prompt`], for a model that may call functions: `tools` are shown to it as its template has it.
    /// Each is an object `{"type": "function", "function": {"name", "description", "parameters"}}`.
    ///
    /// # Errors
    /// As [`Self::encode_prompt`]; a template that does not show tools, calls or results to the model; a control token
    /// in a tool or a call, which cannot be kept apart.
    pub fn encode_prompt_with_tools(&self, messages: &[Message], tools: &[serde_json::Value]) -> Result<Vec<u32>> {
        let conversation = Conversation { messages, tools };
        let template = self.inner.template()?;
        let hostile = self.inner.hostile(messages)?;
        tools::check(template, &self.inner.control, conversation)?;
        let rendered = locate(template, conversation, true, &hostile)?;
        Ok(ids(self.inner.pieces(messages, &rendered, &hostile)?))
    }

    /// A whole conversation, in which the assistant may call `tools` (as [`Self::encode_prompt_with_tools`] takes them).
    /// Trained are the assistant's contents and calls (where `train` is set), each with the token that ends the turn,
    /// and not what the template writes after that.
    ///
    /// # Errors
    /// The template refuses, hides where a content stands, or ends an answer without a control token; it does not show
    /// tools, calls or results to the model; a control token stands in a tool or a call.
    pub fn encode_training(&self, messages: &[Message], tools: &[serde_json::Value]) -> Result<Encoded> {
        let conversation = Conversation { messages, tools };
        let template = self.inner.template()?;
        let hostile = self.inner.hostile(messages)?;
        tools::check(template, &self.inner.control, conversation)?;
        let wanted: Vec<bool> = messages
            .iter()
            .zip(&hostile)
            .map(|(m, hostile)| *hostile || m.is_trained())
            .collect();
        let rendered = locate(template, conversation, false, &wanted)?;
        let pieces = self.inner.pieces(messages, &rendered, &hostile)?;
        let mut encoded = Encoded {
            trained: vec![false; pieces.len()],
            ids: Vec::with_capacity(pieces.len()),
        };
        for (index, _) in messages.iter().enumerate().filter(|(_, message)| message.is_trained()) {
            let span = self.inner.trained_span(conversation, index, &rendered)?;
            let first = pieces.partition_point(|(_, range)| range.end <= span.start);
            let tokens = pieces[first..].iter().take_while(|(_, range)| range.start < span.end);
            let count = tokens.count();
            encoded.trained[first..first + count].fill(true);
        }
        encoded.ids = ids(pieces);
        Ok(encoded)
    }

    /// A plain document for continued pre-training: every token is trained, the end of the document too. Control
    /// tokens in the text are plain text.
    ///
    /// # Errors
    /// The tokenizer has no token that ends a document.
    pub fn encode_document(&self, text: &str) -> Result<Encoded> {
        let end = self.inner.document_end.ok_or_else(|| ChatError::NoDocumentEnd {
            tried: DOCUMENT_ENDS.join(", "),
        })?;
        let mut all = self.inner.document_start.clone();
        all.extend(self.inner.plain_pieces(text)?.into_iter().map(|(id, _)| id));
        all.push(end);
        Ok(Encoded {
            trained: vec![true; all.len()],
            ids: all,
        })
    }

    /// Ids to text; ids that the tokenizer does not know give nothing.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner
            .tokenizer
            .decode(ids, skip_special)
            .map_err(ChatError::Tokenizer)
    }

    /// The text of one token, control tokens by name; a token that is part of a character gives U+FFFD.
    #[must_use]
    pub fn token_text(&self, id: u32) -> String {
        self.inner.tokenizer.decode(&[id], false).unwrap_or_default()
    }

    /// The bytes that one token stands for, control tokens by name; they need not be whole characters. `None` for an id
    /// that the tokenizer does not know, and for all ids of a tokenizer whose tokens mean different bytes in different
    /// places.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        self.inner.spelling.bytes(&self.inner.tokenizer, id)
    }

    /// Ids that end an answer, ascending: those of generation_config.json, config.json and the tokenizer, and the
    /// token with which the template ends a turn.
    #[must_use]
    pub fn stop_ids(&self) -> &[u32] {
        &self.inner.stop_ids
    }

    /// The token that ends a plain document, if there is one.
    #[must_use]
    pub fn document_end(&self) -> Option<u32> {
        self.inner.document_end
    }

    /// Whether this id steers the model instead of standing for text.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        self.inner.control.contains_id(id)
    }

    /// Whether a text spells a control token, which [`Self::encode_training`] and the like keep as text.
    #[must_use]
    pub fn spells_control(&self, text: &str) -> bool {
        self.inner.control.occur_in(text)
    }

    /// Whether the folder has a chat template.
    #[must_use]
    pub fn has_template(&self) -> bool {
        self.inner.template.is_some()
    }

    /// Whether the template has the model write its calls as Qwen and Hermes do: a JSON object with `name` and
    /// `arguments` between `<tool_call>` and `</tool_call>`.
    #[must_use]
    pub fn has_call_tags(&self) -> bool {
        self.inner.has_call_tags
    }

    /// Number of ids the tokenizer knows, added tokens included; a model's embedding may have more rows.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.vocab_size
    }

    /// sha256 of the template's source, empty without one.
    #[must_use]
    pub fn template_hash(&self) -> &str {
        &self.inner.template_hash
    }

    /// sha256 of tokenizer.json.
    #[must_use]
    pub fn tokenizer_hash(&self) -> &str {
        &self.inner.tokenizer_hash
    }

    /// A fresh incremental detokenizer.
    #[must_use]
    pub fn detokenizer(&self) -> Detokenizer {
        Detokenizer::new(self.clone())
    }

    /// Whether [`Self::decode_known`] passes over this token.
    pub(crate) fn is_skipped(&self, id: u32) -> bool {
        let tokenizer = &self.inner.tokenizer;
        let token = tokenizer.id_to_token(id);
        token.is_none_or(|token| tokenizer.get_added_vocabulary().is_special_token(&token))
    }

    /// Text without control tokens; for the detokenizer, which has nobody to tell of an error.
    pub(crate) fn decode_known(&self, ids: &[u32]) -> String {
        self.inner.tokenizer.decode(ids, true).unwrap_or_default()
    }
}

fn sha256(text: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(text.as_bytes())
        .iter()
        .fold(String::new(), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}
