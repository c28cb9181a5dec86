//! Reads `tools`, `tool_choice` and `response_format`: what a completion may call, and its required form.

use serde_json::{Map, Value, json};
use synapse_engine::{Grammar, StructuralTag};

use crate::calls::{CALL_BEGIN, CALL_END, Forced};
use crate::error::ApiError;
use crate::params::Params;

/// OpenAI's limit.
const MAX_TOOLS: usize = 128;
/// Bytes of a tool's name (OpenAI's limit).
const MAX_NAME: usize = 64;

/// The keywords by which an object without named properties has some.
const OTHER_PARAMETERS: [&str; 9] = [
    "$ref",
    "allOf",
    "anyOf",
    "oneOf",
    "required",
    "patternProperties",
    "additionalProperties",
    "unevaluatedProperties",
    "minProperties",
];

/// Whether the completion calls tools.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ToolChoice {
    None,
    Auto,
    Required,
    Named(String),
}

/// The tools of a request.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    definitions: Vec<Value>,
    choice: ToolChoice,
    parallel: bool,
}

impl Tools {
    pub(crate) fn read(params: Params<'_>) -> Result<Self, ApiError> {
        let definitions = definitions(params)?;
        let choice = choice(params, &definitions)?;
        let parallel = params.boolean("parallel_tool_calls")?.unwrap_or(true);
        Ok(Self {
            definitions,
            choice,
            parallel,
        })
    }

    /// The tools that the model is shown; empty if it must not call any.
    pub(crate) fn shown(&self) -> &[Value] {
        match self.choice {
            ToolChoice::None => &[],
            _ => &self.definitions,
        }
    }

    /// Whether the completion is parsed for calls.
    pub(crate) fn may_be_called(&self) -> bool {
        !self.shown().is_empty()
    }

    /// Whether the completion is held to calls.
    pub(crate) fn forced(&self) -> Forced {
        match &self.choice {
            ToolChoice::None | ToolChoice::Auto => Forced::No,
            ToolChoice::Required => Forced::Any,
            ToolChoice::Named(name) => Forced::Named(name.clone()),
        }
    }

    /// The grammar of a completion that must call a tool; `None` if the model may choose.
    pub(crate) fn grammar(&self) -> Option<Grammar> {
        let wanted = |name: &str| match &self.choice {
            ToolChoice::Named(named) => named == name,
            _ => true,
        };
        let calls = self.definitions.iter().map(|tool| &tool["function"]);
        let calls: Vec<StructuralTag> = calls.filter(|function| wanted(name_of(function))).map(call).collect();
        match self.choice {
            ToolChoice::None | ToolChoice::Auto => None,
            ToolChoice::Required if self.parallel => Some(Grammar::Repeated(calls, "\n".into())),
            ToolChoice::Required | ToolChoice::Named(_) => Some(Grammar::OneOf(calls)),
        }
    }
}

fn name_of(function: &Value) -> &str {
    function["name"].as_str().unwrap_or_default()
}

/// A call of this function, as the models of the supported templates write it.
fn call(function: &Value) -> StructuralTag {
    let quoted = Value::from(name_of(function));
    let mut schema = match &function["parameters"] {
        Value::Object(schema) => schema.clone(),
        _ => Map::new(),
    };
    let no_parameters = schema.is_empty()
        || schema
            .get("properties")
            .and_then(Value::as_object)
            .is_some_and(Map::is_empty);
    let asks_for_more = OTHER_PARAMETERS
        .iter()
        .any(|name| schema.get(*name).is_some_and(|value| !value.is_null()));
    if no_parameters && !asks_for_more {
        // "Omitting `parameters` defines a function with an empty parameter list."
        schema.insert("additionalProperties".into(), json!(false));
    }
    // Arguments are an object whether or not the schema says so.
    schema.entry("type").or_insert_with(|| json!("object"));
    StructuralTag {
        name: name_of(function).to_owned(),
        begin: format!("{CALL_BEGIN}\n{{\"name\": {quoted}, \"arguments\": "),
        schema: schema.into(),
        end: format!("}}\n{CALL_END}"),
    }
}

/// The array `tools`, validated; empty if it is missing.
pub(crate) fn definitions(params: Params<'_>) -> Result<Vec<Value>, ApiError> {
    let items = params.array("tools")?.unwrap_or_default();
    if items.len() > MAX_TOOLS {
        let problem = format!("may hold at most {MAX_TOOLS} tools, found {}", items.len());
        return Err(ApiError::field("tools", problem));
    }
    let mut names: Vec<String> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let name = definition(item, &format!("tools[{index}]"))?;
        if names.contains(&name) {
            let problem = format!("is `{name}`, which is already the name of another tool");
            return Err(ApiError::field(format!("tools[{index}].function.name"), problem));
        }
        names.push(name);
    }
    Ok(items.to_vec())
}

/// Checks one tool; gives its name.
fn definition(item: &Value, path: &str) -> Result<String, ApiError> {
    let tool = Params::of(item, path)?;
    tool.only(&["type", "function"])?;
    function_type(tool)?;
    let path = tool.path_of("function");
    let function = Params::of(tool.require("function")?, &path)?;
    function.only(&["name", "description", "parameters", "strict"])?;
    let name = function.require("name").and(function.text("name"))?.unwrap_or_default();
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_allowed) {
        let problem = format!("must be 1 to {MAX_NAME} letters, digits, `_` or `-`, found `{name}`");
        return Err(ApiError::field(function.path_of("name"), problem));
    }
    function.text("description")?;
    function.object("parameters")?;
    function.boolean("strict")?;
    Ok(name.to_owned())
}

/// There is one type of tool.
fn function_type(params: Params<'_>) -> Result<(), ApiError> {
    match params.require("type").and(params.text("type"))? {
        Some("function") => Ok(()),
        other => {
            let problem = format!("may only be `function`, found `{}`", other.unwrap_or_default());
            Err(ApiError::field(params.path_of("type"), problem).code("unsupported_parameter"))
        }
    }
}

fn choice(params: Params<'_>, tools: &[Value]) -> Result<ToolChoice, ApiError> {
    let needs_tools = |choice: ToolChoice| match tools {
        [] => Err(ApiError::field("tool_choice", "needs `tools` to choose from")),
        _ => Ok(choice),
    };
    match params.get("tool_choice") {
        None if tools.is_empty() => Ok(ToolChoice::None),
        None => Ok(ToolChoice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "none" => Ok(ToolChoice::None),
            "auto" => Ok(ToolChoice::Auto),
            "required" => needs_tools(ToolChoice::Required),
            other => {
                let problem = format!("must be none, auto, required or a function, found `{other}`");
                Err(ApiError::field("tool_choice", problem))
            }
        },
        Some(Value::Object(fields)) => {
            let choice = Params::at(fields, "tool_choice");
            choice.only(&["type", "function"])?;
            function_type(choice)?;
            let path = "tool_choice.function";
            let function = Params::of(choice.require("function")?, path)?;
            function.only(&["name"])?;
            let name = function.require("name").and(function.text("name"))?.unwrap_or_default();
            if !tools.iter().any(|tool| name_of(&tool["function"]) == name) {
                let problem = format!("is `{name}`, which is none of the tools");
                return Err(ApiError::field("tool_choice.function.name", problem));
            }
            Ok(ToolChoice::Named(name.to_owned()))
        }
        Some(other) => Err(params.mismatch("tool_choice", "must be a string or an object", other)),
    }
}

/// The grammar that `response_format` requires; `None` for plain text.
pub(crate) fn response_format(params: Params<'_>) -> Result<Option<Grammar>, ApiError> {
    let Some(fields) = params.object("response_format")? else {
        return Ok(None);
    };
    let format = Params::at(fields, "response_format");
    match format.require("type").and(format.text("type"))?.unwrap_or_default() {
        "text" => format.only(&["type"]).map(|()| None),
        "json_object" => {
            format.only(&["type"])?;
            Ok(Some(Grammar::Json(json!({ "type": "object" }))))
        }
        "json_schema" => {
            format.only(&["type", "json_schema"])?;
            let path = "response_format.json_schema";
            let inner = Params::of(format.require("json_schema")?, path)?;
            inner.only(&["name", "description", "schema", "strict"])?;
            inner.require("name").and(inner.text("name"))?;
            inner.text("description")?;
            inner.boolean("strict")?;
            inner.require("schema").and(inner.object("schema"))?;
            Ok(Some(Grammar::Json(inner.require("schema")?.clone())))
        }
        other => {
            let problem = format!("must be text, json_object or json_schema, found `{other}`");
            Err(ApiError::field("response_format.type", problem))
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn tool(name: &str) -> Value {
        json!({ "type": "function", "function": { "name": name, "parameters": { "properties": {} } } })
    }

    fn read(body: &Value) -> Result<Tools, Option<String>> {
        Tools::read(Params::new(body.as_object().unwrap())).map_err(|error| error.param)
    }

    #[test]
    fn a_choice_decides_what_is_shown_and_what_is_forced() {
        let tools = json!([tool("a"), tool("b")]);
        let with = |choice: Value, parallel: bool| {
            read(&json!({ "tools": tools, "tool_choice": choice, "parallel_tool_calls": parallel })).unwrap()
        };
        assert!(read(&json!({})).unwrap().grammar().is_none());
        let auto = with(Value::Null, true);
        assert!(auto.grammar().is_none() && auto.may_be_called() && auto.shown().len() == 2);
        assert!(!with(json!("none"), true).may_be_called());
        let counts = |grammar: Option<Grammar>| match grammar.unwrap() {
            Grammar::Repeated(calls, _) => (calls.len(), true),
            Grammar::OneOf(calls) => (calls.len(), false),
            Grammar::Json(_) => panic!("no call"),
        };
        assert_eq!(counts(with(json!("required"), true).grammar()), (2, true));
        assert_eq!(counts(with(json!("required"), false).grammar()), (2, false));
        let named = json!({ "type": "function", "function": { "name": "b" } });
        assert_eq!(counts(with(named, true).grammar()), (1, false));
    }

    #[test]
    fn a_function_without_parameters_takes_no_arguments() {
        let schema = |parameters: Value| call(&json!({ "name": "f", "parameters": parameters })).schema;
        let nothing = |schema: &Value| schema["additionalProperties"] == false && schema["type"] == "object";
        assert!(nothing(&call(&json!({ "name": "f" })).schema));
        for parameters in [json!(null), json!({}), json!({ "type": "object", "properties": {} })] {
            assert!(nothing(&schema(parameters)));
        }
        for parameters in [
            json!({ "type": "object" }),
            json!({ "properties": {}, "additionalProperties": true }),
            json!({ "properties": { "a": {} } }),
            json!({ "properties": {}, "$ref": "#/$defs/a" }),
        ] {
            assert!(!nothing(&schema(parameters)));
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        let named = |name: &str| json!({ "type": "function", "function": { "name": name } });
        for (body, path) in [
            (json!({ "tools": {} }), "tools"),
            (json!({ "tools": [1] }), "tools[0]"),
            (json!({ "tools": [{ "type": "custom" }] }), "tools[0].type"),
            (json!({ "tools": [{ "type": "function" }] }), "tools[0].function"),
            (
                json!({ "tools": [{ "type": "function", "function": {} }] }),
                "tools[0].function.name",
            ),
            (json!({ "tools": [tool("a b")] }), "tools[0].function.name"),
            (json!({ "tools": [tool("a"), tool("a")] }), "tools[1].function.name"),
            (json!({ "tools": vec![tool("a"); 129] }), "tools"),
            (json!({ "tool_choice": "required" }), "tool_choice"),
            (json!({ "tool_choice": "maybe" }), "tool_choice"),
            (json!({ "tool_choice": 3 }), "tool_choice"),
            (json!({ "tool_choice": named("a") }), "tool_choice.function.name"),
            (
                json!({ "tools": [tool("a")], "tool_choice": { "type": "allowed_tools" } }),
                "tool_choice.type",
            ),
        ] {
            assert_eq!(read(&body).unwrap_err().as_deref(), Some(path), "{body}");
        }
    }
}
