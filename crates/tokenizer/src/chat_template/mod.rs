//! The chat template: Jinja as `transformers` runs it.
//!
//! It has the same whitespace rules, Python's string methods, `raise_exception`, `strftime_now` and Python's `tojson`.
//! `{% generation %}` tags are accepted and ignored: [`answer_span`] finds the answers with or without them.

mod answer_span;
mod content_spans;
mod python;
mod strftime;
mod tools;

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde_json::Map;

use crate::{Message, Result, TokenizerError};

pub(crate) use answer_span::{TurnBorders, answer_span};
pub(crate) use content_spans::{RenderedConversation, render_with_spans};
pub(crate) use tools::{check_tools, has_call_tags};

const NAME: &str = "chat_template";

/// The input of a template.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conversation<'a> {
    pub(crate) messages: &'a [Message],
    /// The functions the model may call, each as OpenAI describes it.
    pub(crate) tools: &'a [serde_json::Value],
    /// Further variables of the template, such as `enable_thinking`.
    pub(crate) arguments: &'a Map<String, serde_json::Value>,
}

impl<'a> From<&'a [Message]> for Conversation<'a> {
    fn from(messages: &'a [Message]) -> Self {
        static NONE: LazyLock<Map<String, serde_json::Value>> = LazyLock::new(Map::new);
        Self {
            messages,
            tools: &[],
            arguments: &NONE,
        }
    }
}

/// Variables that a conversation sets by itself.
const OWN_VARIABLES: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

/// A compiled chat template.
#[derive(Debug)]
pub(crate) struct Template {
    environment: Environment<'static>,
    named_tokens: BTreeMap<String, String>,
}

impl Template {
    pub(crate) fn compile(source: &str, named_tokens: BTreeMap<String, String>) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| describe(&error))?);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_formatter(python::print);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", python::tojson);
        environment.add_function("strftime_now", strftime::strftime_now);
        environment.add_function(
            "raise_exception",
            |message: String| -> std::result::Result<Value, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| describe(&error))?;
        Ok(Self {
            environment,
            named_tokens,
        })
    }

    /// The variables that may be set from outside: those that the template reads and nobody sets.
    pub(crate) fn arguments(&self) -> HashSet<String> {
        let Ok(template) = self.environment.get_template(NAME) else {
            return HashSet::new();
        };
        let mut names = template.undeclared_variables(false);
        // A variable that only some branches set counts as undeclared. It is the template's own, unless the template asks first
        // whether it was given.
        let source = without_comments(template.source());
        for tag in source.split("{%").skip(1) {
            let tag = tag.trim_start_matches(['-', '+']).trim_start();
            if let Some((targets, _)) = tag.strip_prefix("set ").and_then(|rest| rest.split_once(['=', '%'])) {
                for name in targets.split(',').map(str::trim) {
                    if is_asked_for(&source, name) {
                        names.insert(name.to_owned());
                    } else {
                        names.remove(name);
                    }
                }
            }
        }
        names.retain(|name| !OWN_VARIABLES.contains(&name.as_str()) && !self.named_tokens.contains_key(name));
        names.retain(|name| self.environment.globals().all(|(global, _)| global != name));
        names
    }

    /// Renders a conversation.
    pub(crate) fn render(&self, conversation: Conversation<'_>, add_generation_prompt: bool) -> Result<String> {
        let messages: Vec<Value> = conversation.messages.iter().map(message_value).collect();
        let tools = match conversation.tools {
            [] => Value::from(()),
            tools => Value::from(Serde(tools)),
        };
        let mut context: BTreeMap<&str, Value> = BTreeMap::from([
            ("messages", Value::from(messages)),
            ("tools", tools),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
        ]);
        for (name, value) in conversation.arguments {
            context.insert(name, Value::from(Serde(value)));
        }
        for (name, token) in &self.named_tokens {
            context.insert(name, Value::from(token.as_str()));
        }
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(context))
            .map_err(|error| describe(&error))
    }
}

/// A message as templates expect it. Absent fields are left out, because templates test whether they are defined.
fn message_value(message: &Message) -> Value {
    let mut fields = BTreeMap::from([
        ("role", Value::from(message.role.as_str())),
        ("content", Value::from(message.content.as_str())),
    ]);
    if let Some(reasoning) = &message.reasoning_content {
        fields.insert("reasoning_content", Value::from(reasoning.as_str()));
    }
    if !message.tool_calls.is_empty() {
        let call = |call: &crate::ToolCall| {
            let function =
                minijinja::context! { name => call.name.as_str(), arguments => Value::from(Serde(&call.arguments)) };
            minijinja::context! { type => "function", id => call.id.as_str(), function => function }
        };
        let calls: Vec<Value> = message.tool_calls.iter().map(call).collect();
        fields.insert("tool_calls", Value::from(calls));
    }
    if let Some(id) = &message.tool_call_id {
        fields.insert("tool_call_id", Value::from(id.as_str()));
    }
    Value::from_pairs(fields)
}

fn describe(error: &Error) -> TokenizerError {
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    TokenizerError::Template(format!("{line}{reason}"))
}

/// A template without what is between `{#` and `#}`.
fn without_comments(source: &str) -> String {
    let mut parts = source.split("{#");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once("#}").map_or("", |(_, rest)| rest)
    })
}

/// Whether the template asks if a variable is defined, or has a default for it.
fn is_asked_for(source: &str, name: &str) -> bool {
    source.match_indices(name).any(|(place, _)| {
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let (before, after) = (&source[..place], &source[place + name.len()..]);
        if before.ends_with(is_part) || after.starts_with(is_part) {
            return false;
        }
        let after = after.trim_start();
        let word = |text: &str, word: &str| text.strip_prefix(word).map(|rest| rest.trim_start().to_owned());
        let is = word(after, "is ").is_some_and(|rest| {
            let rest = word(&rest, "not ").unwrap_or(rest);
            ["defined", "undefined", "none"]
                .iter()
                .any(|test| rest.starts_with(test))
        });
        is || word(after, "|").is_some_and(|rest| rest.starts_with("default"))
    })
}

/// Rewrites `{% generation %}` and its end tag as an `if` that is always taken, keeping whitespace control.
fn without_generation_tags(source: &str) -> String {
    let mut rewritten = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        // After the whole opening: in `{%}` the two share their sign.
        let Some(length) = rest[start + 2..].find("%}") else {
            break;
        };
        let inside = &rest[start + 2..start + 2 + length];
        let word = inside.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let replacement = match word {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => {
                rewritten.push_str(&rest[..start + 2]);
                rest = &rest[start + 2..];
                continue;
            }
        };
        rewritten.push_str(&rest[..start + 2]);
        rewritten.push_str(&inside.replacen(word, replacement, 1));
        rewritten.push_str("%}");
        rest = &rest[start + 2 + length + 2..];
    }
    rewritten.push_str(rest);
    rewritten
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]
    use super::*;

    fn render(source: &str, messages: &[Message]) -> Result<String> {
        let tokens = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
        Template::compile(source, tokens)?.render(messages.into(), false)
    }

    #[test]
    fn generation_tags_are_transparent_and_keep_whitespace_control() {
        let source = "{% for m in messages %}a {%- generation -%} {{ m.content }} {% endgeneration %}\n{% endfor %}";
        assert_eq!(render(source, &[Message::new("user", "x")]).unwrap(), "ax ");
    }

    #[test]
    fn a_tag_that_opens_and_closes_at_once_is_no_tag() {
        assert!(render("{%}", &[]).is_err());
        assert!(render("{%}{% generation %}{% endgeneration %}", &[]).is_err());
        assert_eq!(render("{% generation %}a{% endgeneration %}", &[]).unwrap(), "a");
    }

    #[test]
    fn arguments_are_what_the_template_reads_and_does_not_set_itself() {
        let arguments = |source: &str| {
            let template = Template::compile(source, BTreeMap::new()).unwrap();
            let mut names: Vec<String> = template.arguments().into_iter().collect();
            names.sort_unstable();
            names
        };
        // As SmolLM3's and Llama 3.1's templates give an argument its default.
        let source = "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}\
            {% if not date_string is defined %}{% set date_string = 'x' %}{% endif %}{% set a = a | default(1) %}\
            {# {% set enable_thinking = 1 %} #}{% for m in messages %}{% if m %}{% set text = m.content %}{% endif %}{{ text }}{% endfor %}\
            {{ enable_thinking }}{{ date_string }}{{ a }}{{ b }}";
        assert_eq!(arguments(source), ["a", "b", "date_string", "enable_thinking"]);
        assert!(arguments("{# {{ a }} #}{{ messages }}{{ add_generation_prompt }}").is_empty());
    }

    #[test]
    fn python_methods_and_named_tokens_work() {
        let source =
            "{{ bos_token }}{% for m in messages if m['role'].startswith('us') %}{{ m.content.strip() }}{% endfor %}";
        assert_eq!(render(source, &[Message::new("user", " x ")]).unwrap(), "<s>x");
    }

    #[test]
    fn values_print_as_python_prints_them() {
        let source = "{{ true }} {{ none }} {{ 1e16 }} {{ 0.5 }} {{ 1e-7 }} {{ {'a': [1, 'é<']} | tojson }}";
        assert_eq!(
            render(source, &[]).unwrap(),
            "True None 1e+16 0.5 1e-07 {\"a\": [1, \"é<\"]}"
        );
        let source = "{{ {'b': 1, 'a': []} | tojson(indent=2, sort_keys=true) }}";
        assert_eq!(render(source, &[]).unwrap(), "{\n  \"a\": [],\n  \"b\": 1\n}");
    }

    #[test]
    fn a_refusal_carries_the_templates_message() {
        let error = render("\n{{ raise_exception('roles must alternate') }}", &[]).unwrap_err();
        assert_eq!(error.to_string(), "chat template: line 2: roles must alternate");
    }
}
