//! The tokenizer, chat template and stop tokens of one model: how conversations, documents and raw text become tokens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use synapse_checkpoint::{ModelFiles, sha256_bytes};
use tokenizers::Tokenizer;

use crate::chat_template::{
    Conversation, Template, TurnBorders, answer_span, check_tools, has_call_tags, render_with_spans,
};
use crate::conversation::{encode_rendered, special_contents};
use crate::model_files::{TokenizerConfig, TokenizerFiles};
use crate::text_tokenizer::TextTokenizer;
use crate::token::{TokenSpan, ids};
use crate::token_bytes::TokenBytes;
use crate::{Detokenizer, Message, Result, TokenizerError};

/// Token ids with a loss mask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each of `ids`, whether the token is a training target (not shifted).
    pub loss_mask: Vec<bool>,
}

/// Tokenizer, chat template and stop tokens of one model; cheap to clone.
#[derive(Clone)]
pub struct ChatTokenizer {
    inner: Arc<Inner>,
    template_arguments: Arc<Map<String, Value>>,
    turn_borders: Arc<TurnBorders>,
}

/// Everything that was read when the model was opened.
struct Inner {
    folder: PathBuf,
    text: Arc<TextTokenizer>,
    template: Option<Template>,
    /// The tokens that the tokenizer puts before any text (`<s>` for some Llamas, none for Qwen2).
    document_start: Vec<u32>,
    document_end: Option<u32>,
    token_bytes: TokenBytes,
    stop_ids: Vec<u32>,
    vocab_size: usize,
    has_call_tags: bool,
    has_thought_tags: bool,
    template_hash: String,
    tokenizer_hash: String,
}

/// Tokens that end a document, by model family; the first one that the tokenizer has is used.
const DOCUMENT_ENDS: [&str; 4] = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"];

impl std::fmt::Debug for ChatTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTokenizer")
            .field("folder", &self.inner.folder)
            .finish_non_exhaustive()
    }
}

impl ChatTokenizer {
    /// Opens a model folder: tokenizer.json is required; tokenizer_config.json, chat_template.jinja (which wins over
    /// the `chat_template` in tokenizer_config.json), generation_config.json and config.json are read if they exist.
    ///
    /// # Errors
    /// A missing, unreadable or malformed file, by name.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::of(TokenizerFiles::Folder(folder))
    }

    /// Opens a model in either form: a GGUF file has the content of those files in its metadata.
    ///
    /// # Errors
    /// As [`ChatTokenizer::open`]; a GGUF tokenizer of an unknown kind.
    pub fn of_model(model: &ModelFiles) -> Result<Self> {
        match model {
            ModelFiles::Folder(folder) => Self::open(folder.path()),
            ModelFiles::Gguf(file) => Self::of(TokenizerFiles::Gguf(file.path(), &file.side_files()?)),
        }
    }

    fn of(files: TokenizerFiles<'_>) -> Result<Self> {
        let path = files.path("tokenizer.json");
        let source = files.text("tokenizer.json")?.ok_or_else(|| {
            TokenizerError::invalid(&path, "not found; a model folder needs the tokenizer in this file")
        })?;
        let mut tokenizer: Tokenizer = source
            .parse()
            .map_err(|error| TokenizerError::invalid(&path, format!("not a tokenizer: {error}")))?;
        // Some published files carry a truncation setting left over from training; it would shorten texts silently.
        tokenizer.with_truncation(None).map_err(TokenizerError::Tokenizer)?;
        tokenizer.with_padding(None);

        let config = TokenizerConfig::read(files)?;
        let id_of = |name: &str| tokenizer.token_to_id(name);
        let eos = config.named_tokens.get("eos_token").and_then(|token| id_of(token));
        let mut stop_ids = config.eos_ids;
        stop_ids.extend(eos);
        let document_end = DOCUMENT_ENDS.iter().find_map(|name| id_of(name)).or(eos);
        let mut document_start = tokenizer
            .encode_fast("", true)
            .map_err(TokenizerError::Tokenizer)?
            .get_ids()
            .to_vec();
        document_start.retain(|id| !stop_ids.contains(id) && Some(*id) != document_end);
        let largest_added = tokenizer.get_added_tokens_decoder().into_keys().max();
        let vocab_size = tokenizer
            .get_vocab_size(true)
            .max(largest_added.map_or(0, |id| id as usize + 1));
        let template_hash = config
            .template
            .as_deref()
            .map(str::as_bytes)
            .map(sha256_bytes)
            .unwrap_or_default();
        let has_call_tags = config.template.as_deref().is_some_and(has_call_tags);
        let has_thought_tags = config
            .template
            .as_deref()
            .is_some_and(|source| source.contains("<think>") && source.contains("</think>"));
        let template = match config.template {
            Some(source) => Some(Template::compile(&source, config.named_tokens)?),
            None => None,
        };
        let token_bytes = TokenBytes::of(&tokenizer);
        let text = TextTokenizer::new(&source, tokenizer)?;
        let borders = template
            .as_ref()
            .map(|template| TurnBorders::new(template, &text.special, &Map::new()));
        stop_ids.extend(borders.as_ref().and_then(TurnBorders::end));
        stop_ids.sort_unstable();
        stop_ids.dedup();
        let inner = Inner {
            folder: files.origin().to_owned(),
            text: Arc::new(text),
            template,
            document_start,
            document_end,
            token_bytes,
            stop_ids,
            vocab_size,
            has_call_tags,
            has_thought_tags,
            template_hash,
            tokenizer_hash: sha256_bytes(source.as_bytes()),
        };
        Ok(Self {
            inner: Arc::new(inner),
            template_arguments: Arc::default(),
            turn_borders: Arc::new(borders.unwrap_or_default()),
        })
    }

    /// This tokenizer with further variables of its template, such as `enable_thinking`; transformers calls them the
    /// keyword arguments of `apply_chat_template`. They are added to those that were set before.
    ///
    /// # Errors
    /// The template does not read one of them; the message names those that it does read.
    pub fn with_template_arguments(&self, arguments: &Map<String, Value>) -> Result<Self> {
        let known = self
            .inner
            .template
            .as_ref()
            .map(Template::arguments)
            .unwrap_or_default();
        if let Some(name) = arguments.keys().find(|name| !known.contains(*name)) {
            let mut known: Vec<String> = known.into_iter().collect();
            known.sort_unstable();
            let reason = if known.is_empty() {
                "this model's chat template takes no arguments".to_owned()
            } else {
                format!(
                    "this model's chat template does not read it; it reads {}",
                    known.join(", ")
                )
            };
            return Err(TokenizerError::TemplateArgument {
                name: name.clone(),
                reason,
            });
        }
        let mut all = (*self.template_arguments).clone();
        all.extend(arguments.iter().map(|(name, value)| (name.clone(), value.clone())));
        let borders = self
            .inner
            .template
            .as_ref()
            .map(|template| TurnBorders::new(template, &self.inner.text.special, &all));
        Ok(Self {
            inner: Arc::clone(&self.inner),
            template_arguments: Arc::new(all),
            turn_borders: Arc::new(borders.unwrap_or_default()),
        })
    }

    /// Whether the template reads a variable of this name that may be set from outside.
    #[must_use]
    pub fn takes_template_argument(&self, name: &str) -> bool {
        let template = self.inner.template.as_ref();
        template.is_some_and(|template| template.arguments().contains(name))
    }

    fn conversation<'a>(&'a self, messages: &'a [Message], tools: &'a [Value]) -> Conversation<'a> {
        Conversation {
            messages,
            tools,
            arguments: &self.template_arguments,
        }
    }

    fn template(&self) -> Result<&Template> {
        self.inner.template.as_ref().ok_or_else(|| TokenizerError::NoTemplate {
            folder: self.inner.folder.clone(),
        })
    }

    /// Renders a conversation with the model's template, exactly as `transformers` does.
    ///
    /// # Errors
    /// There is no template, or it refuses these messages.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.template()?
            .render(self.conversation(messages, &[]), add_generation_prompt)
    }

    /// Encodes text in which special tokens are plain text; adds nothing before or after.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        Ok(ids(&self.inner.text.encode_plain(text)?))
    }

    /// Encodes text with the tokenizer's defaults: special tokens are recognized, and tokens that the tokenizer puts
    /// before a text (such as `<s>`) are added.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn encode_raw(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .text
            .library
            .encode_fast(text, true)
            .map_err(TokenizerError::Tokenizer)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Encodes a conversation up to the generation prompt; special tokens inside contents are plain text.
    ///
    /// # Errors
    /// The template refuses the conversation, or rewrites a content that contains a special token.
    pub fn encode_prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.encode_prompt_with_tools(messages, &[])
    }

    /// As [`Self::encode_prompt`], for a model that may call functions. The template shows it the `tools`, each an
    /// object `{"type": "function", "function": {"name", "description", "parameters"}}`.
    ///
    /// # Errors
    /// As [`Self::encode_prompt`]; a template that does not show tools, calls or results to the model; a special token
    /// in a tool or a call, where it cannot be kept as text.
    pub fn encode_prompt_with_tools(&self, messages: &[Message], tools: &[Value]) -> Result<Vec<u32>> {
        let conversation = self.conversation(messages, tools);
        let (template, tokenizer) = (self.template()?, &*self.inner.text);
        let special_contents = special_contents(&tokenizer.special, messages)?;
        check_tools(template, &tokenizer.special, conversation)?;
        let rendered = render_with_spans(template, conversation, true, &special_contents)?;
        Ok(ids(&encode_rendered(
            tokenizer,
            messages,
            &rendered,
            &special_contents,
        )?))
    }

    /// Encodes a whole conversation, in which the assistant may call `tools` (as in [`Self::encode_prompt_with_tools`]).
    /// The targets are the assistant's contents and calls (where `train` is set), each with the token that ends the
    /// turn, but without the text that the template writes after that.
    ///
    /// # Errors
    /// The template refuses the conversation, rewrites an answer so that it cannot be found, or ends an answer without
    /// a special token; it does not show tools, calls or results to the model; a tool or a call has a special token.
    pub fn encode_training(&self, messages: &[Message], tools: &[Value]) -> Result<Encoding> {
        let conversation = self.conversation(messages, tools);
        let (template, tokenizer) = (self.template()?, &*self.inner.text);
        let special_contents = special_contents(&tokenizer.special, messages)?;
        check_tools(template, &tokenizer.special, conversation)?;
        let wanted: Vec<bool> = messages
            .iter()
            .zip(&special_contents)
            .map(|(message, special)| *special || message.is_target())
            .collect();
        let rendered = render_with_spans(template, conversation, false, &wanted)?;
        let tokens = encode_rendered(tokenizer, messages, &rendered, &special_contents)?;
        let mut loss_mask = vec![false; tokens.len()];
        for (index, _) in messages.iter().enumerate().filter(|(_, message)| message.is_target()) {
            let span = answer_span(
                template,
                &tokenizer.special,
                &self.turn_borders,
                conversation,
                (index, &rendered),
            )?;
            let first = tokens.partition_point(|token| token.range.end <= span.start);
            let inside = |token: &&TokenSpan| token.range.start < span.end;
            let count = tokens[first..].iter().take_while(inside).count();
            loss_mask[first..first + count].fill(true);
        }
        Ok(Encoding {
            ids: ids(&tokens),
            loss_mask,
        })
    }

    /// Encodes a plain document for continued pre-training: every token is a target, including the one that ends the
    /// document. Special tokens in the text are plain text.
    ///
    /// # Errors
    /// The tokenizer has no token that ends a document.
    pub fn encode_document(&self, text: &str) -> Result<Encoding> {
        let end = self.inner.document_end.ok_or_else(|| TokenizerError::NoDocumentEnd {
            tried: DOCUMENT_ENDS.join(", "),
        })?;
        let mut all = self.inner.document_start.clone();
        all.extend(ids(&self.inner.text.encode_plain(text)?));
        all.push(end);
        Ok(Encoding {
            loss_mask: vec![true; all.len()],
            ids: all,
        })
    }

    /// Decodes ids to text; unknown ids give no text.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner
            .text
            .library
            .decode(ids, skip_special)
            .map_err(TokenizerError::Tokenizer)
    }

    /// The text of one token, special tokens by name; a token that is part of a character gives U+FFFD.
    #[must_use]
    pub fn token_text(&self, id: u32) -> String {
        self.inner.text.library.decode(&[id], false).unwrap_or_default()
    }

    /// The bytes of one token, special tokens by name; they need not be whole characters. `None` for an unknown id, and
    /// for every id of a tokenizer whose tokens stand for different bytes depending on their neighbors.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        self.inner.token_bytes.get(&self.inner.text.library, id)
    }

    /// Ids that end an answer, ascending: those of generation_config.json, config.json and the tokenizer, and the token
    /// with which the template ends a turn.
    #[must_use]
    pub fn stop_ids(&self) -> &[u32] {
        &self.inner.stop_ids
    }

    /// The token that ends a plain document, if there is one.
    #[must_use]
    pub fn document_end(&self) -> Option<u32> {
        self.inner.document_end
    }

    /// Whether this token controls the model instead of standing for text.
    #[must_use]
    pub fn is_special_token(&self, id: u32) -> bool {
        self.inner.text.special.contains_id(id)
    }

    /// Whether a text contains the spelling of a special token, which [`Self::encode_training`] keeps as text.
    #[must_use]
    pub fn contains_special_tokens(&self, text: &str) -> bool {
        self.inner.text.special.occur_in(text)
    }

    /// Whether the folder has a chat template.
    #[must_use]
    pub fn has_template(&self) -> bool {
        self.inner.template.is_some()
    }

    /// Whether the template writes calls as Qwen and Hermes do: a JSON object with `name` and `arguments` between
    /// `<tool_call>` and `</tool_call>`.
    #[must_use]
    pub fn has_call_tags(&self) -> bool {
        self.inner.has_call_tags
    }

    /// Whether the template knows a model's thoughts, between `<think>` and `</think>`.
    #[must_use]
    pub fn has_thought_tags(&self) -> bool {
        self.inner.has_thought_tags
    }

    /// Whether the prompt of a conversation ends with the tag that opens thoughts, so that the answer begins among them.
    #[must_use]
    pub fn begins_in_thoughts(&self, messages: &[Message], tools: &[Value]) -> bool {
        let asked = self.conversation(messages, tools);
        let prompt = self.template().and_then(|template| template.render(asked, true));
        prompt.is_ok_and(|prompt| prompt.trim_end().ends_with("<think>"))
    }

    /// This tokenizer with `enable_thinking: false`, where the template reads it: for answers that are scored rather than
    /// written, which have no place for thoughts.
    #[must_use]
    pub fn without_thoughts(&self) -> Self {
        let off = Map::from_iter([("enable_thinking".to_owned(), Value::Bool(false))]);
        self.with_template_arguments(&off).unwrap_or_else(|_| self.clone())
    }

    /// Number of ids, added tokens included; a model's embedding may have more rows.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.vocab_size
    }

    /// sha256 of the template's source, and of its arguments where there are some; empty without a template.
    #[must_use]
    pub fn template_hash(&self) -> String {
        if self.template_arguments.is_empty() {
            return self.inner.template_hash.clone();
        }
        let arguments = Value::Object((*self.template_arguments).clone());
        sha256_bytes(format!("{}{arguments}", self.inner.template_hash).as_bytes())
    }

    /// sha256 of tokenizer.json.
    #[must_use]
    pub fn tokenizer_hash(&self) -> &str {
        &self.inner.tokenizer_hash
    }

    /// A new incremental detokenizer.
    #[must_use]
    pub fn detokenizer(&self) -> Detokenizer {
        Detokenizer::new(self.inner.text.clone())
    }
}
