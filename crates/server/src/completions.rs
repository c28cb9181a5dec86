//! `POST /v1/completions`: continues raw text or token ids; special tokens in the text are recognized. With `echo` and
//! `logprobs` it also scores the prompts, as evaluation harnesses ask for.

mod logprobs;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use synapse_engine::{Engine, FinishReason, MAX_TOP_LOGPROBS, Token, TokenLogprob, Usage};

use crate::body::{BodyPolicy, RawBody};
use crate::echo::Echo;
use crate::encoding::{Encoded, Prompt, blocking, check_lengths, encode_with_grammar};
use crate::error::ApiError;
use crate::generation::{Completions, GenerationOptions};
use crate::params::Params;
use crate::reservation::Reservation;
use crate::sampling::{Streaming, read_n};
use crate::sse::{self, ChunkWriter};
use crate::wire::{Envelope, finish_reason};
use crate::{ServerState, fields, prompts, sampling, target};

use logprobs::Logprobs;

/// OpenAI's default on this route.
const DEFAULT_MAX_TOKENS: usize = 16;
/// The field of the prompts.
const PROMPT: &str = "prompt";
/// The `object` of a response and of a chunk.
const OBJECT: &str = "text_completion";

/// Continues one or several prompts.
pub(crate) async fn create(State(state): State<ServerState>, body: RawBody) -> Result<Response, ApiError> {
    let (engine, body) = body.read(&state, BodyPolicy::AssumeJson, fields::COMPLETIONS)?;
    let CompletionRequest {
        prompts,
        options,
        echo,
        streaming,
    } = CompletionRequest::read(&body, &state, &engine)?;
    let model = options.adapter.as_ref().unwrap_or(&state.options().model);
    let mut writer = CompletionWriter {
        envelope: Envelope::new("cmpl-", model.clone(), streaming.include_usage),
        logprobs: options.sampling.logprobs.is_some(),
        echoes: Vec::new(),
        n: options.n,
        offsets: Vec::new(),
        engine: Arc::clone(&engine),
    };
    let count = prompts.len() * options.n;
    let reservation = Reservation::new(&engine, count, 0, PROMPT, state.accept()?)?;
    let (encoded, echoes) = encode_and_echo(&state, &engine, prompts, echo).await?;
    writer.echoes = echoes;
    let completions = Completions::submit(&engine, &options, encoded, reservation)?;
    if streaming.stream {
        return Ok(sse::respond(completions, writer, state.options().keep_alive));
    }
    writer.whole(completions).await
}

/// Encodes the prompts, refuses those that are too long, and repeats them if they are echoed.
async fn encode_and_echo(
    state: &ServerState,
    engine: &Arc<Engine>,
    prompts: Vec<Prompt>,
    echo: bool,
) -> Result<(Encoded, Vec<Echo>), ApiError> {
    let sent = if echo { prompts.clone() } else { Vec::new() };
    let encoded = encode_with_grammar(engine, prompts, PROMPT, None).await?;
    check_lengths(state, &encoded.prompts, PROMPT)?;
    if !echo {
        return Ok((encoded, Vec::new()));
    }
    blocking(engine, move |engine| {
        let outside = |id: &u32| *id as usize >= engine.chat().vocab_size();
        let echo = |(prompt, tokens): (&Prompt, &Vec<u32>)| {
            // The engine refuses such a prompt.
            let known: Vec<u32> = tokens.iter().copied().filter(|id| !outside(id)).collect();
            Echo::new(engine.chat(), prompt, &known).map_err(|error| ApiError::from_chat(&error, PROMPT))
        };
        let echoes = sent.iter().zip(&encoded.prompts).map(echo).collect::<Result<_, _>>()?;
        Ok((encoded, echoes))
    })
    .await
}

/// A request, read and validated.
struct CompletionRequest {
    prompts: Vec<Prompt>,
    options: GenerationOptions,
    echo: bool,
    streaming: Streaming,
}

impl CompletionRequest {
    fn read(body: &Map<String, Value>, state: &ServerState, engine: &Engine) -> Result<Self, ApiError> {
        let params = Params::new(body);
        let adapter = target::adapter(params.text("model")?, state, engine)?;
        let prompts = prompts::read(params, PROMPT)?;
        let streaming = Streaming::read(params)?;
        let n = read_n(params, prompts.len(), state.options().max_choices)?;
        if params.count("best_of")?.is_some_and(|best_of| best_of != n) {
            let problem = "may only be equal to `n`: choosing among hidden completions is not implemented; ask for `n`";
            return Err(ApiError::field("best_of", problem).code("unsupported_parameter"));
        }
        let echo = params.boolean("echo")?.unwrap_or(false);
        let max_tokens = params.count("max_tokens")?.unwrap_or(DEFAULT_MAX_TOKENS);
        let mut sampling = sampling::read(params, state.options().defaults)?;
        sampling.logprobs = params.count("logprobs")?;
        if let Some(top) = sampling.logprobs.filter(|&top| top > MAX_TOP_LOGPROBS) {
            let problem = format!("must be between 0 and {MAX_TOP_LOGPROBS}, found {top}");
            return Err(ApiError::field("logprobs", problem));
        }
        if echo {
            // Without log-probabilities an echo of nothing but the prompt still is a request to the engine.
            let only_prompt = (max_tokens == 0).then_some(0);
            sampling.prompt_logprobs = sampling.logprobs.or(only_prompt);
        } else if max_tokens == 0 {
            return Err(ApiError::field(
                "max_tokens",
                "must be at least 1, or 0 with `echo: true`",
            ));
        }
        let options = GenerationOptions {
            prompt_param: PROMPT,
            n,
            sampling,
            max_tokens: Some(max_tokens),
            adapter,
        };
        Ok(Self {
            prompts,
            options,
            echo,
            streaming,
        })
    }
}

/// Writes completions in OpenAI's format.
struct CompletionWriter {
    envelope: Envelope,
    logprobs: bool,
    /// The prompts, if they are repeated before their completions.
    echoes: Vec<Echo>,
    /// Completions per prompt.
    n: usize,
    /// Characters that each choice has so far.
    offsets: Vec<usize>,
    engine: Arc<Engine>,
}

impl CompletionWriter {
    async fn whole(&mut self, completions: Completions) -> Result<Response, ApiError> {
        let (completions, total) = completions.collect().await?;
        self.offsets = vec![0; completions.len()];
        let mut choices = Vec::new();
        for (index, completion) in completions.into_iter().enumerate() {
            let mut text = String::new();
            let mut logprobs = Logprobs::default();
            if let Some(echo) = self.echo(index) {
                text = echo.text.clone();
                logprobs = self.of_prompt(index, completion.prompt_logprobs);
            }
            text += &completion.text;
            self.add(&mut logprobs, index, &completion.tokens);
            choices.push(json!({
                "text": text,
                "index": index,
                "logprobs": self.written(logprobs),
                "finish_reason": finish_reason(completion.finish_reason),
            }));
        }
        Ok(Json(self.envelope.whole(OBJECT, &choices.into(), total)).into_response())
    }

    /// The prompt of a choice, if it is repeated.
    fn echo(&self, choice: usize) -> Option<&Echo> {
        self.echoes.get(choice / self.n)
    }

    /// `null` unless requested.
    fn written(&self, logprobs: Logprobs) -> Value {
        if self.logprobs {
            logprobs.into_json()
        } else {
            Value::Null
        }
    }

    /// The log-probabilities of a repeated prompt. Its first token has none.
    fn of_prompt(&mut self, choice: usize, of_tokens: Vec<TokenLogprob>) -> Logprobs {
        let mut logprobs = Logprobs::default();
        let Some(echo) = self.echoes.get(choice / self.n) else {
            return logprobs;
        };
        self.offsets[choice] += echo.text.chars().count();
        if self.logprobs {
            for token in echo.tokens(of_tokens) {
                logprobs.push(self.engine.chat(), token.id, token.logprob.as_ref(), token.offset);
            }
        }
        logprobs
    }

    /// Adds generated tokens.
    fn add(&mut self, logprobs: &mut Logprobs, choice: usize, tokens: &[Token]) {
        for token in tokens {
            let offset = self.offsets[choice];
            self.offsets[choice] += token.text.chars().count();
            if let Some(logprob) = &token.logprob {
                logprobs.push(self.engine.chat(), token.id, Some(logprob), offset);
            }
        }
    }

    fn choice_chunk(&self, choice: usize, text: &str, logprobs: &Value, reason: Option<&str>) -> Value {
        let choice = json!({ "text": text, "index": choice, "logprobs": logprobs, "finish_reason": reason });
        self.envelope.chunk(OBJECT, &json!([choice]))
    }
}

impl ChunkWriter for CompletionWriter {
    fn opening(&mut self, choices: usize) -> Vec<Value> {
        self.offsets = vec![0; choices];
        if self.logprobs {
            // The prompts follow with their log-probabilities.
            return Vec::new();
        }
        let echoed = (0..choices).filter_map(|choice| {
            let echo = self.echo(choice)?;
            Some(self.choice_chunk(choice, &echo.text, &Value::Null, None))
        });
        echoed.collect()
    }

    fn prompt(&mut self, choice: usize, of_tokens: Vec<TokenLogprob>) -> Vec<Value> {
        if !self.logprobs {
            return Vec::new();
        }
        let logprobs = self.of_prompt(choice, of_tokens).into_json();
        let text = self.echo(choice).map_or("", |echo| &echo.text);
        vec![self.choice_chunk(choice, text, &logprobs, None)]
    }

    fn token(&mut self, choice: usize, token: &Token) -> Vec<Value> {
        if token.text.is_empty() && token.logprob.is_none() {
            return Vec::new();
        }
        let mut logprobs = Logprobs::default();
        self.add(&mut logprobs, choice, std::slice::from_ref(token));
        let logprobs = self.written(logprobs);
        vec![self.choice_chunk(choice, &token.text, &logprobs, None)]
    }

    fn finish(&mut self, choice: usize, reason: FinishReason) -> Vec<Value> {
        vec![self.choice_chunk(choice, "", &Value::Null, Some(finish_reason(reason)))]
    }

    fn closing(&mut self, total: Usage) -> Option<Value> {
        self.envelope.usage_chunk(OBJECT, total)
    }
}
