//! Structured output: which tokens a grammar allows next, by llguidance over the bytes of the tokens.

use std::sync::{Arc, OnceLock};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::Value;
use synapse_tokenizer::ChatTokenizer;

use crate::schema;
use crate::{EngineError, Result};

/// Whitespace allowed between two parts of a JSON value: one space, or a line break with an indent. Without a limit, a
/// model that the grammar keeps from its preferred tokens may generate spaces until `max_tokens`.
const WHITESPACE: &str = r"\x20|\x0D?\x0A[\x20\x09]{0,24}";

/// The memory limit of one completion, in lexer states.
const MAX_LEXER_STATES: usize = 20_000;

/// The stack of a compilation: llguidance follows a schema's nesting and references recursively.
const COMPILER_STACK: usize = 64 << 20;

/// The form of a completion.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// A JSON value that is valid under this JSON Schema, an object. An object in the value has the properties that its schema
    /// names, and others only if the schema asks for them. A keyword that cannot be followed is an error that names its
    /// place; an overlapping `oneOf` is followed as `anyOf`.
    Json(Value),
    /// One of these.
    OneOf(Vec<StructuralTag>),
    /// One or several of these, with this text between them.
    Repeated(Vec<StructuralTag>, String),
}

/// A JSON value between two fixed texts.
#[derive(Debug, Clone, PartialEq)]
pub struct StructuralTag {
    /// What the value is for, for error messages; a tool's name, for example.
    pub name: String,
    /// The text before the value.
    pub begin: String,
    /// The value's JSON Schema, an object; references in it are resolved within it.
    pub schema: Value,
    /// The text after the value.
    pub end: String,
}

impl Grammar {
    fn to_llguidance(&self) -> std::result::Result<TopLevelGrammar, String> {
        match self {
            Self::Json(schema) => Ok(TopLevelGrammar::from_json_schema(prepared(schema)?)),
            Self::OneOf(tags) => Ok(TopLevelGrammar::from_lark(lark("tag", tags)?)),
            Self::Repeated(tags, separator) => {
                let start = format!("tag ({} tag)*", literal(separator));
                Ok(TopLevelGrammar::from_lark(lark(&start, tags)?))
            }
        }
    }
}

/// A grammar in llguidance's dialect of Lark.
fn lark(start: &str, tags: &[StructuralTag]) -> std::result::Result<String, String> {
    let names: Vec<String> = (0..tags.len()).map(|index| format!("tag_{index}")).collect();
    let mut text = format!("start: {start}\ntag: {}\n", names.join(" | "));
    for (name, tag) in names.iter().zip(tags) {
        let (begin, end) = (literal(&tag.begin), literal(&tag.end));
        let schema = prepared(&tag.schema).map_err(|problem| format!("the schema of `{}`: {problem}", tag.name))?;
        text += &format!("{name}: {begin} value_{name} {end}\nvalue_{name}: %json {schema}\n");
    }
    Ok(text)
}

/// Lark writes strings as JSON does.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

/// The schema with llguidance's options in it.
fn prepared(schema: &Value) -> std::result::Result<Value, String> {
    let mut schema = Value::from(schema::prepare(schema)?);
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

/// Compiles grammars for one tokenizer. Its vocabulary is read when the first grammar is compiled.
pub(crate) struct GrammarCompiler {
    chat: ChatTokenizer,
    vocab_size: usize,
    factory: OnceLock<std::result::Result<ParserFactory, String>>,
}

impl std::fmt::Debug for GrammarCompiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrammarCompiler").finish_non_exhaustive()
    }
}

impl GrammarCompiler {
    pub(crate) fn new(chat: ChatTokenizer, vocab_size: usize) -> Self {
        Self {
            chat,
            vocab_size,
            factory: OnceLock::new(),
        }
    }

    pub(crate) fn compile(&self, grammar: &Grammar) -> Result<Constraint> {
        let factory = self.factory.get_or_init(|| self.factory());
        let factory = factory.as_ref().map_err(|message| invalid(message.clone()))?;
        let compile = || {
            let parser = factory.create_parser(grammar.to_llguidance()?);
            parser.map_err(|error| first_line(&format!("{error:#}")))
        };
        let parser = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(COMPILER_STACK);
            let thread = thread.spawn_scoped(scope, compile);
            let thread = thread.map_err(|error| format!("no thread to compile it on: {error}"))?;
            thread
                .join()
                .unwrap_or_else(|_| Err("the grammar compiler panicked".into()))
        });
        Ok(Constraint {
            matcher: Matcher::new(Ok(parser.map_err(invalid)?)),
        })
    }

    fn factory(&self) -> std::result::Result<ParserFactory, String> {
        let ids = 0..self.vocab_size as u32;
        let bytes: Vec<Vec<u8>> = ids.map(|id| self.bytes(id)).collect();
        if bytes.iter().all(|bytes| bytes.is_empty() || is_special(bytes)) {
            return Err(
                "this model's tokenizer does not map its tokens to bytes, which structured output needs".into(),
            );
        }
        let mut stops = self.chat.stop_ids().to_vec();
        stops.retain(|&id| (id as usize) < self.vocab_size);
        let Some(&stop) = stops.first() else {
            return Err("this model has no stop token, which structured output needs".into());
        };
        let info = TokRxInfo::new(self.vocab_size as u32, stop);
        let trie = TokTrie::from(&info, &bytes).with_eos_tokens(&stops);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(|error| first_line(&format!("{error:#}")))?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        // A state takes one or two kilobytes; typical schemas have hundreds.
        limits.max_lexer_states = MAX_LEXER_STATES;
        Ok(factory)
    }

    /// The bytes of a token as llguidance expects them: empty for an unused id, with a marker for a special token.
    fn bytes(&self, id: u32) -> Vec<u8> {
        let bytes = self.chat.token_bytes(id).unwrap_or_default();
        if self.chat.is_special_token(id) || self.chat.stop_ids().contains(&id) {
            return [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes.as_slice()].concat();
        }
        bytes
    }
}

fn is_special(bytes: &[u8]) -> bool {
    bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER)
}

/// llguidance's messages continue with a dump of its state.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim().to_owned()
}

/// A compiled grammar and the state of one completion in it. Each completion follows its own clone.
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
    /// Sets the logits of tokens that the grammar does not allow to negative infinity.
    ///
    /// # Errors
    /// The grammar exceeded its memory limit, or allows none of the tokens.
    pub(crate) fn mask(&mut self, logits: &mut [f32]) -> std::result::Result<(), String> {
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
            Err("no token of the vocabulary continues the completion as its grammar requires".into())
        }
    }

    /// Advances by the sampled token. Returns whether the completion is complete.
    ///
    /// # Errors
    /// As [`Self::mask`].
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
                "the grammar of the completion could not be followed any further: {reason}"
            ))
        }
    }
}
