//! Answers that follow a grammar: which tokens may come next, by llguidance over the bytes that tokens stand for.

use std::sync::{Arc, OnceLock};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::Value;
use synapse_tokenizer::Chat;

use crate::{EngineError, Result};

/// Whitespace that an answer may put between two parts of a JSON value, one space or a new line's indent: a model that
/// is kept from everything else it wants to say may write spaces for ever, and people's tokens go into them.
const WHITESPACE: &str = r"\x20|\x0D?\x0A[\x20\x09]{0,24}";

/// What one answer may need of memory, in states of its lexer.
const MAX_LEXER_STATES: usize = 20_000;

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// A JSON value that this JSON Schema, an object, admits. What the schema says and cannot be kept is an error.
    Json(Value),
    /// One of these.
    Framed(Vec<Framed>),
    /// One or several of these, with this text between them.
    Repeated(Vec<Framed>, String),
}

/// A JSON value between two texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Framed {
    /// What comes before it.
    pub before: String,
    /// The value's JSON Schema, an object; references in it are resolved within it.
    pub schema: Value,
    /// What comes after it.
    pub after: String,
}

impl Grammar {
    fn to_llguidance(&self) -> Result<TopLevelGrammar> {
        match self {
            Self::Json(schema) => Ok(TopLevelGrammar::from_json_schema(with_whitespace(schema)?)),
            Self::Framed(parts) => Ok(TopLevelGrammar::from_lark(lark("part", parts)?)),
            Self::Repeated(parts, separator) => {
                let start = format!("part ({} part)*", literal(separator));
                Ok(TopLevelGrammar::from_lark(lark(&start, parts)?))
            }
        }
    }
}

/// A grammar in llguidance's dialect of Lark.
fn lark(start: &str, parts: &[Framed]) -> Result<String> {
    let names: Vec<String> = (0..parts.len()).map(|index| format!("part_{index}")).collect();
    let mut text = format!("start: {start}\npart: {}\n", names.join(" | "));
    for (name, part) in names.iter().zip(parts) {
        let (before, after) = (literal(&part.before), literal(&part.after));
        let schema = with_whitespace(&part.schema)?;
        text += &format!("{name}: {before} value_{name} {after}\nvalue_{name}: %json {schema}\n");
    }
    Ok(text)
}

/// Lark writes strings as JSON does.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

fn with_whitespace(schema: &Value) -> Result<Value> {
    if !schema.is_object() {
        return Err(invalid("the schema must be an object".into()));
    }
    let mut schema = schema.clone();
    let options = JsonCompileOptions {
        whitespace_pattern: Some(WHITESPACE.to_owned()),
        ..JsonCompileOptions::default()
    };
    options.apply_to(&mut schema);
    Ok(schema)
}

fn invalid(message: String) -> EngineError {
    EngineError::InvalidGrammar { message }
}

/// Compiles grammars for one tokenizer, whose vocabulary is looked through when the first one comes.
pub(crate) struct Grammars {
    chat: Chat,
    vocab_size: usize,
    factory: OnceLock<std::result::Result<ParserFactory, String>>,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl Grammars {
    pub(crate) fn new(chat: Chat, vocab_size: usize) -> Self {
        Self {
            chat,
            vocab_size,
            factory: OnceLock::new(),
        }
    }

    pub(crate) fn compile(&self, grammar: &Grammar) -> Result<Constraint> {
        let factory = self.factory.get_or_init(|| self.factory());
        let factory = factory.as_ref().map_err(|message| invalid(message.clone()))?;
        let parser = factory.create_parser(grammar.to_llguidance()?);
        let parser = parser.map_err(|error| invalid(first_line(&format!("{error:#}"))))?;
        Ok(Constraint {
            matcher: Matcher::new(Ok(parser)),
        })
    }

    fn factory(&self) -> std::result::Result<ParserFactory, String> {
        let ids = 0..self.vocab_size as u32;
        let bytes: Vec<Vec<u8>> = ids.map(|id| self.bytes(id)).collect();
        if bytes.iter().all(|bytes| bytes.is_empty() || is_special(bytes)) {
            return Err("this model's tokenizer does not say which bytes its tokens stand for".into());
        }
        let mut stops = self.chat.stop_ids().to_vec();
        stops.retain(|&id| (id as usize) < self.vocab_size);
        let Some(&stop) = stops.first() else {
            return Err("this model has no token that ends an answer".into());
        };
        let info = TokRxInfo::new(self.vocab_size as u32, stop);
        let trie = TokTrie::from(&info, &bytes).with_eos_tokens(&stops);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(|error| first_line(&format!("{error:#}")))?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        // A state weighs a kilobyte or two; schemas people write have hundreds.
        limits.max_lexer_states = MAX_LEXER_STATES;
        Ok(factory)
    }

    /// The bytes of a token as the library wants them: none for an id without text, marked where it is no text.
    fn bytes(&self, id: u32) -> Vec<u8> {
        let bytes = self.chat.token_bytes(id).unwrap_or_default();
        if self.chat.is_control(id) || self.chat.stop_ids().contains(&id) {
            return [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes.as_slice()].concat();
        }
        bytes
    }
}

fn is_special(bytes: &[u8]) -> bool {
    bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER)
}

/// The library's messages go on with a dump of its state.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim().to_owned()
}

/// A compiled grammar and how far an answer has come in it. Each answer follows a clone of its own.
#[derive(Clone)]
pub struct Constraint {
    matcher: Matcher,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").finish_non_exhaustive()
    }
}

impl Constraint {
    /// Makes the tokens that must not come next impossible.
    ///
    /// # Errors
    /// The grammar became too costly to follow, or admits none of the tokens.
    pub(crate) fn forbid(&mut self, logits: &mut [f32]) -> std::result::Result<(), String> {
        let allowed = self.matcher.compute_mask_or_eos();
        let allowed = allowed.map_err(|error| first_line(&format!("{error:#}")))?;
        let mut any = false;
        for (index, logit) in logits.iter_mut().enumerate() {
            if index < allowed.len() && allowed.get(index) {
                any = true;
            } else {
                *logit = f32::NEG_INFINITY;
            }
        }
        if any {
            Ok(())
        } else {
            Err("no token continues the answer as its grammar demands".into())
        }
    }

    /// Takes the token that came; gives whether the answer is complete.
    ///
    /// # Errors
    /// As [`Self::forbid`].
    pub(crate) fn accept(&mut self, id: u32) -> std::result::Result<bool, String> {
        let taken = self.matcher.consume_token(id);
        taken.map_err(|error| first_line(&format!("{error:#}")))?;
        if !self.matcher.is_stopped() {
            return Ok(false);
        }
        let reason = self.matcher.stop_reason();
        if reason.is_ok() {
            Ok(true)
        } else {
            Err(format!(
                "the answer's grammar could not be followed any further: {reason}"
            ))
        }
    }
}
