//! The tokenizer, template and stop tokens of one model folder, and the ways text becomes tokens.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use crate::control::ControlTokens;
use crate::folder::{Settings, read_text};
use crate::spans::{Rendered, locate};
use crate::template::Template;
use crate::{ChatError, Detokenizer, Message, Result};

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
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    tokenizer: Tokenizer,
    /// The same without special tokens; made when a text first contains one.
    plain: OnceLock<Tokenizer>,
    control: ControlTokens,
    template: Option<Template>,
    /// What the tokenizer puts before any text (`<s>` for some Llamas, nothing for Qwen2).
    document_start: Vec<u32>,
    document_end: Option<u32>,
    stop_ids: Vec<u32>,
    vocab_size: usize,
    template_hash: String,
    tokenizer_hash: String,
}

/// A token and the bytes of the text it stands for.
type Piece = (u32, Range<usize>);

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
        let path = folder.join("tokenizer.json");
        let source = read_text(&path)?.ok_or_else(|| {
            ChatError::invalid(
                &path,
                "not found; a model folder needs the tokenizer in this file",
            )
        })?;
        let mut tokenizer: Tokenizer = source
            .parse()
            .map_err(|error| ChatError::invalid(&path, format!("not a tokenizer: {error}")))?;
        // Some published files carry a truncation left over from training: it would cut texts silently.
        tokenizer
            .with_truncation(None)
            .map_err(ChatError::Tokenizer)?;
        tokenizer.with_padding(None);

        let settings = Settings::read(folder)?;
        let control = ControlTokens::of(&tokenizer)?;
        let id_of = |name: &str| tokenizer.token_to_id(name);
        let eos = settings
            .named_tokens
            .get("eos_token")
            .and_then(|token| id_of(token));
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
        let template = match settings.template {
            Some(source) => Some(Template::compile(&source, settings.named_tokens)?),
            None => None,
        };
        let mut inner = Inner {
            folder: folder.to_owned(),
            tokenizer,
            plain: OnceLock::new(),
            control,
            template,
            document_start,
            document_end,
            stop_ids: Vec::new(),
            vocab_size,
            template_hash,
            tokenizer_hash: sha256(&source),
        };
        stop_ids.extend(inner.end_of_turn());
        stop_ids.sort_unstable();
        stop_ids.dedup();
        inner.stop_ids = stop_ids;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Renders a conversation with the model's template, to the letter as `transformers` does.
    ///
    /// # Errors
    /// No template, or one that refuses these messages.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.inner
            .template()?
            .render_messages(messages, add_generation_prompt)
    }

    /// Raw text in which control tokens are plain text; nothing is added before or after.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        Ok(ids(self.inner.plain_pieces(text)?))
    }

    /// Raw text as the tokenizer takes it by default: control tokens are recognised, and what the tokenizer puts
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
        let hostile = self.inner.hostile(messages)?;
        let rendered = locate(self.inner.template()?, messages, true, &hostile)?;
        Ok(ids(self.inner.pieces(messages, &rendered, &hostile)?))
    }

    /// A whole conversation. Trained are the assistant's contents (where `train` is set), each with the token that
    /// ends the turn, and not what the template writes after that.
    ///
    /// # Errors
    /// The template refuses, hides where a content stands, or ends an answer without a control token.
    pub fn encode_training(&self, messages: &[Message]) -> Result<Encoded> {
        let hostile = self.inner.hostile(messages)?;
        let wanted: Vec<bool> = messages
            .iter()
            .zip(&hostile)
            .map(|(m, hostile)| *hostile || m.is_trained())
            .collect();
        let rendered = locate(self.inner.template()?, messages, false, &wanted)?;
        let pieces = self.inner.pieces(messages, &rendered, &hostile)?;
        let mut encoded = Encoded {
            trained: vec![false; pieces.len()],
            ids: Vec::with_capacity(pieces.len()),
        };
        for (index, _) in messages
            .iter()
            .enumerate()
            .filter(|(_, message)| message.is_trained())
        {
            let span = self.inner.trained_span(messages, index, &rendered)?;
            let first = pieces.partition_point(|(_, range)| range.end <= span.start);
            let tokens = pieces[first..]
                .iter()
                .take_while(|(_, range)| range.start < span.end);
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
        let end = self
            .inner
            .document_end
            .ok_or_else(|| ChatError::NoDocumentEnd {
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
        self.inner
            .tokenizer
            .decode(&[id], false)
            .unwrap_or_default()
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

    /// Whether the folder has a chat template.
    #[must_use]
    pub fn has_template(&self) -> bool {
        self.inner.template.is_some()
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

    /// A fresh incremental detokeniser.
    #[must_use]
    pub fn detokenizer(&self) -> Detokenizer {
        Detokenizer::new(self.clone())
    }

    /// Text without control tokens; for the detokeniser, which has nobody to tell of an error.
    pub(crate) fn decode_known(&self, ids: &[u32]) -> String {
        self.inner.tokenizer.decode(ids, true).unwrap_or_default()
    }
}

impl Inner {
    fn template(&self) -> Result<&Template> {
        self.template.as_ref().ok_or_else(|| ChatError::NoTemplate {
            folder: self.folder.clone(),
        })
    }

    /// Which messages contain control tokens as text.
    fn hostile(&self, messages: &[Message]) -> Result<Vec<bool>> {
        let check = |(index, message): (usize, &Message)| {
            if self.control.occur_in(&message.role) {
                return Err(ChatError::message(
                    index,
                    &message.role,
                    "a role must not contain a control token",
                ));
            }
            Ok(self.control.occur_in(&message.content))
        };
        messages.iter().enumerate().map(check).collect()
    }

    /// The tokens of a rendered conversation.
    fn pieces(
        &self,
        messages: &[Message],
        rendered: &Rendered,
        hostile: &[bool],
    ) -> Result<Vec<Piece>> {
        let text = rendered.text.as_str();
        if !hostile.contains(&true) {
            return encode(&self.tokenizer, text, 0);
        }
        let mut contents = Vec::new();
        for (index, spans) in rendered
            .contents
            .iter()
            .enumerate()
            .filter(|(index, _)| hostile[*index])
        {
            if spans.is_empty() {
                let reason = "contains a control token as text, and the template hides where the content stands, so it \
                              cannot be kept apart; remove the control token";
                return Err(ChatError::message(index, &messages[index].role, reason));
            }
            contents.extend(spans.iter().cloned());
        }
        contents.sort_by_key(|span| span.start);

        // Control tokens count only between those contents; all other text is plain.
        let mut pieces = Vec::new();
        let mut plain_from = 0;
        let mut segment_from = 0;
        for segment_to in contents.iter().map(|span| span.start).chain([text.len()]) {
            let content_end = contents
                .iter()
                .find(|span| span.start == segment_to)
                .map_or(text.len(), |span| span.end);
            for control in self.control.find(&text[segment_from..segment_to]) {
                let (start, end) = (
                    segment_from + control.range.start,
                    segment_from + control.range.end,
                );
                pieces.extend(shifted(
                    self.plain_pieces(&text[plain_from..start])?,
                    plain_from,
                ));
                pieces.push((control.id, start..end));
                plain_from = end;
            }
            segment_from = content_end;
        }
        pieces.extend(shifted(self.plain_pieces(&text[plain_from..])?, plain_from));
        Ok(pieces)
    }

    /// Tokens of a text in which no control token is recognised.
    fn plain_pieces(&self, text: &str) -> Result<Vec<Piece>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        if !self.control.occur_in(text) {
            return encode(&self.tokenizer, text, 0);
        }
        let plain = self.plain.get_or_init(|| {
            let mut plain = self.tokenizer.clone();
            plain.set_encode_special_tokens(true);
            plain
        });
        let pieces = encode(plain, text, 0)?;
        if !pieces.iter().any(|(id, _)| self.control.contains_id(*id)) {
            return Ok(pieces);
        }
        // Control tokens that are not marked special, or are in the model's own vocabulary: cut them in two.
        let mut pieces = Vec::new();
        for (start, part) in self.control.cut_inside(text) {
            pieces.extend(encode(plain, part, start)?);
        }
        Ok(pieces)
    }

    /// From the first byte of an answer's content to the last of the token that ends its turn.
    fn trained_span(
        &self,
        messages: &[Message],
        index: usize,
        rendered: &Rendered,
    ) -> Result<Range<usize>> {
        let problem = |reason: &str| ChatError::message(index, &messages[index].role, reason);
        let endless = "the template ends this answer with no control token, so the model would never learn to stop";
        match rendered.contents[index].as_slice() {
            [content] => {
                let rest = &rendered.text[content.end..];
                let space = rest.len() - rest.trim_start().len();
                let token = self
                    .control
                    .length_at_start(&rest[space..])
                    .ok_or_else(|| problem(endless))?;
                Ok(content.start..content.end + space + token)
            }
            [] => {
                // The template rewrites contents: what it adds for this turn, by comparing prefixes.
                let template = self.template()?;
                let before = template.render_messages(&messages[..index], true)?;
                let through = template.render_messages(&messages[..=index], false)?;
                if !(through.starts_with(&before) && rendered.text.starts_with(&through)) {
                    return Err(problem(
                        "the template rewrites this answer and earlier text, so its tokens cannot be told apart; train \
                         on single-turn rows or use a template that leaves contents alone",
                    ));
                }
                let turn = &through[before.len()..];
                let end = self
                    .control
                    .find(turn)
                    .pop()
                    .ok_or_else(|| problem(endless))?
                    .range
                    .end;
                if turn[end..].trim().is_empty() {
                    Ok(before.len()..before.len() + end)
                } else {
                    Err(problem(endless))
                }
            }
            _ => Err(problem("the template writes this answer more than once")),
        }
    }

    /// The token with which the template ends an assistant's turn, if it can be asked.
    fn end_of_turn(&self) -> Option<u32> {
        let probe = [Message::new("user", "a"), Message::new("assistant", "b")];
        let rendered = locate(self.template.as_ref()?, &probe, false, &[false, true]).ok()?;
        let span = self.trained_span(&probe, 1, &rendered).ok()?;
        self.control
            .find(&rendered.text[span])
            .pop()
            .map(|control| control.id)
    }
}

fn encode(tokenizer: &Tokenizer, text: &str, offset: usize) -> Result<Vec<Piece>> {
    let encoding = tokenizer
        .encode(text, false)
        .map_err(ChatError::Tokenizer)?;
    let ranges = encoding
        .get_offsets()
        .iter()
        .map(|&(start, end)| start + offset..end + offset);
    Ok(encoding.get_ids().iter().copied().zip(ranges).collect())
}

fn shifted(pieces: Vec<Piece>, by: usize) -> impl Iterator<Item = Piece> {
    pieces
        .into_iter()
        .map(move |(id, range)| (id, range.start + by..range.end + by))
}

fn ids(pieces: Vec<Piece>) -> Vec<u32> {
    pieces.into_iter().map(|(id, _)| id).collect()
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
