//! The sampling fields that both completion routes share.

use std::collections::BTreeMap;

use synapse_engine::SamplingOptions;

use crate::error::ApiError;
use crate::identity;
use crate::options::SamplingDefaults;
use crate::params::Params;

/// Reads the sampling fields, except `max_tokens`, whose default depends on the route.
pub(crate) fn read(params: Params<'_>, defaults: SamplingDefaults) -> Result<SamplingOptions, ApiError> {
    let base = defaults.options();
    Ok(SamplingOptions {
        temperature: params.float("temperature")?.unwrap_or(base.temperature),
        top_p: params.float("top_p")?.unwrap_or(base.top_p),
        top_k: params.count("top_k")?.unwrap_or(base.top_k),
        min_p: params.float("min_p")?.unwrap_or(base.min_p),
        seed: params.seed("seed")?.unwrap_or_else(identity::random),
        stop: params.texts("stop")?,
        repetition_penalty: params.float("repetition_penalty")?.unwrap_or(base.repetition_penalty),
        presence_penalty: params.float("presence_penalty")?.unwrap_or(base.presence_penalty),
        frequency_penalty: params.float("frequency_penalty")?.unwrap_or(base.frequency_penalty),
        logit_bias: logit_bias(params)?,
        ignore_eos: params.boolean("ignore_eos")?.unwrap_or(false),
        ..base
    })
}

/// `{"token id": bias}`.
fn logit_bias(params: Params<'_>) -> Result<BTreeMap<u32, f32>, ApiError> {
    let Some(object) = params.object("logit_bias")? else {
        return Ok(BTreeMap::new());
    };
    let entries = Params::at(object, "logit_bias");
    let read = |name: &str| {
        // In one spelling, so that no id stands there twice.
        let id = name.parse::<u32>().ok().filter(|id| id.to_string() == name);
        let problem = || format!("has the key `{name}`, which is not a token id");
        let id = id.ok_or_else(|| ApiError::field("logit_bias", problem()))?;
        Ok((id, entries.float(name)?.unwrap_or(0.0)))
    };
    entries.names().map(read).collect()
}

/// Whether a request streams, and whether its stream ends with the usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Streaming {
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
}

impl Streaming {
    pub(crate) fn read(params: Params<'_>) -> Result<Self, ApiError> {
        let stream = params.boolean("stream")?.unwrap_or(false);
        let Some(object) = params.object("stream_options")? else {
            return Ok(Self {
                stream,
                include_usage: false,
            });
        };
        if !stream {
            return Err(ApiError::field("stream_options", "is only allowed with `stream: true`"));
        }
        let options = Params::at(object, "stream_options");
        for name in options.names() {
            if !["include_usage", "include_obfuscation"].contains(&name) {
                return Err(ApiError::field(options.path_of(name), "is not a known field").code("unknown_parameter"));
            }
        }
        if options.boolean("include_obfuscation")?.unwrap_or(false) {
            let problem = "may only be false: streams are not padded";
            return Err(ApiError::field("stream_options.include_obfuscation", problem).code("unsupported_parameter"));
        }
        Ok(Self {
            stream,
            include_usage: options.boolean("include_usage")?.unwrap_or(false),
        })
    }
}

/// `n`, checked against the server's limit together with the number of prompts.
pub(crate) fn read_n(params: Params<'_>, prompts: usize, max_choices: usize) -> Result<usize, ApiError> {
    let n = params.count("n")?.unwrap_or(1);
    if n == 0 {
        return Err(ApiError::field("n", "must be at least 1, found 0"));
    }
    if n.saturating_mul(prompts) > max_choices {
        return Err(ApiError::field(
            "n",
            format!("times the number of prompts may be at most {max_choices}, found {n} x {prompts}"),
        ));
    }
    Ok(n)
}
