//! The counters and histograms of one server and its engine, for Prometheus.
//!
//! Durations are measured at the engine's steps, without the client's connection. No content of a request is recorded, and
//! labels have few values.

pub(crate) mod http;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use synapse_engine::{EngineLoad, EngineObserver, FinishReason, StepStats};

use crate::router::Decision;

/// Seconds until the first token, and seconds in the queue.
const WAITS: [f64; 16] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];
/// Seconds between two tokens.
const GAPS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.4, 0.75, 1.5, 3.0,
];
/// Sequences in a step.
const SIZES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    path: String,
    status: u16,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FinishLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Routing {
    adapter: String,
    reason: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Drafter {
    adapter: String,
}

/// The metrics of one server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Route, Counter>,
    answers: Family<FinishLabel, Counter>,
    routed: Family<Routing, Counter>,
    drafts: Family<Drafter, Counter>,
    router: Histogram,
    prompt_tokens: Counter,
    cached_prompt_tokens: Counter,
    generated_tokens: Counter,
    first_token: Histogram,
    next_token: Histogram,
    waited: Histogram,
    batch: Histogram,
    running: Gauge,
    waiting: Gauge,
    cached: Gauge,
    cache_limit: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("synapse");
        let requests = Family::default();
        registry.register(
            "http_requests",
            "Requests answered, by route and status",
            requests.clone(),
        );
        let answers = Family::default();
        registry.register("answers", "Answers ended, by reason", answers.clone());
        let routed = Family::default();
        registry.register(
            "routed",
            "Conversations that the swarm sent to an adapter or the base, by what decided",
            routed.clone(),
        );
        let drafts = Family::default();
        registry.register(
            "drafts",
            "Drafts that specialists were asked for, where a request needed several",
            drafts.clone(),
        );
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let prompt_tokens = counter("prompt_tokens", "Prompt tokens read");
        let cached_prompt_tokens = counter("cached_prompt_tokens", "Prompt tokens known from an earlier prompt");
        let generated_tokens = counter("generated_tokens", "Tokens sampled");
        let mut histogram = |name: &str, help: &str, buckets: &[f64]| {
            let histogram = Histogram::new(buckets.iter().copied());
            registry.register(name, help, histogram.clone());
            histogram
        };
        let first_token = histogram(
            "time_to_first_token_seconds",
            "From an answer's submission to its first token",
            &WAITS,
        );
        let next_token = histogram("inter_token_seconds", "Between two tokens of an answer", &GAPS);
        let waited = histogram("queue_seconds", "From a submission to its first step", &WAITS);
        let router = histogram("router_seconds", "From a conversation to the swarm's decision", &WAITS);
        let batch = histogram("batch_sequences", "Sequences in a forward pass", &SIZES);
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let running = gauge("sequences_running", "Sequences in the batch");
        let waiting = gauge("sequences_waiting", "Sequences that wait for a place in the batch");
        let cached = gauge("kv_cache_tokens", "Positions whose keys and values are held");
        let cache_limit = gauge("kv_cache_tokens_limit", "Positions that a full batch would hold");
        Arc::new(Self {
            registry,
            requests,
            answers,
            routed,
            drafts,
            router,
            prompt_tokens,
            cached_prompt_tokens,
            generated_tokens,
            first_token,
            next_token,
            waited,
            batch,
            running,
            waiting,
            cached,
            cache_limit,
        })
    }

    /// Counts an HTTP response by its route.
    pub(crate) fn answered(&self, path: String, status: u16) {
        self.requests.get_or_create(&Route { path, status }).inc();
    }

    /// Counts a decision of the swarm. The number of adapters is limited, so the label has few values.
    pub(crate) fn routed(&self, decision: &Decision) {
        self.router.observe(decision.milliseconds / 1e3);
        let (adapter, reason) = (decision.target().to_owned(), decision.reason.id());
        self.routed.get_or_create(&Routing { adapter, reason }).inc();
    }

    /// Counts an adapter that is asked for a draft.
    pub(crate) fn drafting(&self, adapter: &str) {
        let adapter = adapter.to_owned();
        self.drafts.get_or_create(&Drafter { adapter }).inc();
    }

    fn end(&self, reason: &'static str) {
        self.answers.get_or_create(&FinishLabel { reason }).inc();
    }

    pub(crate) fn text(&self, load: Option<EngineLoad>) -> Result<String, std::fmt::Error> {
        if let Some(load) = load {
            let set = |gauge: &Gauge, value: usize| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            set(&self.running, load.running);
            set(&self.waiting, load.waiting);
            set(&self.cached, load.cached_tokens);
            set(&self.cache_limit, load.cache_limit);
        }
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl EngineObserver for Metrics {
    fn started(&self, waited: Duration, cached_tokens: usize) {
        self.waited.observe(waited.as_secs_f64());
        self.cached_prompt_tokens.inc_by(cached_tokens as u64);
    }

    fn first_token(&self, since_submission: Duration) {
        self.first_token.observe(since_submission.as_secs_f64());
        self.generated_tokens.inc();
    }

    fn next_token(&self, since_last: Duration) {
        self.next_token.observe(since_last.as_secs_f64());
        self.generated_tokens.inc();
    }

    fn step(&self, step: StepStats) {
        self.batch.observe(step.sequences as f64);
        self.prompt_tokens.inc_by(step.prompt_tokens as u64);
    }

    fn finished(&self, reason: FinishReason) {
        self.end(match reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
        });
    }

    fn failed(&self) {
        self.end("failed");
    }
}
