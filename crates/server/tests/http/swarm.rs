//! The swarm: where a conversation goes, what the answer says about it, and what is kept.

use serde_json::{Value, json};
use synapse_server::{ServerError, Swarm, SwarmLabel};

use crate::client::{Server, Setup};
use crate::schema::Document;
use crate::support::{ADAPTER_WORDS, BASE_WORDS, CALL_WORDS, MockModel, Speech};

const CHAT: &str = "/v1/chat/completions";

fn label(label: &str, answer: &str, adapter: Option<&str>) -> SwarmLabel {
    SwarmLabel {
        label: label.to_owned(),
        answer: answer.to_owned(),
        adapter: adapter.map(str::to_owned),
    }
}

/// `second` is the coordinator. What its script does not have is the likelier the lower its id, and `!` comes before `~`.
fn swarm() -> Swarm {
    Swarm {
        name: "synapse-swarm".to_owned(),
        coordinator: "second".to_owned(),
        system_prompt: "Route.".to_owned(),
        labels: vec![label("sums", "!!!!!!", Some("first")), label("talk", "~~~~~~", None)],
        threshold: 0.5,
        multi_domain: None,
    }
}

fn serve(swarm: Swarm, speech: Speech) -> Server {
    let mut setup = Setup {
        model: MockModel::new(speech, 2),
        ..Setup::default()
    };
    setup.server.swarm = Some(swarm);
    setup.start()
}

fn ask(turns: &[&str]) -> Value {
    let roles = ["user", "assistant"].into_iter().cycle();
    let messages: Vec<Value> = roles
        .zip(turns)
        .map(|(role, content)| json!({ "role": role, "content": content }))
        .collect();
    json!({ "model": "synapse-swarm", "messages": messages, "max_tokens": 40 })
}

#[test]
fn a_conversation_goes_where_the_coordinator_sends_it_and_the_answer_says_so() {
    let server = serve(swarm(), Speech::Script);
    let document = Document::of(&server);
    let answer = server.post(CHAT, &ask(&["What is 2 + 3?"]));
    assert_eq!(answer.header("x-synapse-adapter"), Some("first"));
    let body = answer.json();
    document.answer("post", CHAT, &body).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], ADAPTER_WORDS.concat());
    assert_eq!(body["model"], "synapse-swarm:first");
    let routing = &body["synapse"];
    assert_eq!(
        (&routing["adapter"], &routing["reason"], &routing["label"]),
        (&json!("first"), &json!("routed"), &json!("sums"))
    );
    assert!(routing["scores"]["sums"].as_f64().unwrap() > 0.99, "{routing}");

    let mut streamed = ask(&["And 3 + 4?"]);
    streamed["stream"] = true.into();
    let stream = server.stream(CHAT, &streamed);
    assert_eq!(stream.header("x-synapse-adapter"), Some("first"));
    let chunks = stream.chunks();
    assert_eq!(chunks[0]["synapse"]["adapter"], "first");
    document.named("ChatCompletionChunk", &chunks[0]).unwrap();
    assert!(chunks[1..].iter().all(|chunk| chunk.get("synapse").is_none()));

    let decisions = server.get("/v1/router/decisions").json();
    document.answer("get", "/v1/router/decisions", &decisions).unwrap();
    let old_path = server.get("/v1/routing/trace").json();
    assert_eq!(old_path, decisions, "the deprecated path answers the same");
    let turns: Vec<&Value> = decisions["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["turn"])
        .collect();
    assert_eq!(turns, ["And 3 + 4?", "What is 2 + 3?"], "newest first");
    let metrics = server.get("/metrics").body;
    assert!(
        metrics.contains(r#"synapse_routed_total{adapter="first",reason="routed"} 2"#),
        "{metrics}"
    );
}

/// The page lists models without a parent first, in reverse order, and selects the first one.
#[test]
fn the_swarm_is_the_first_choice_of_the_chat_page() {
    let server = serve(swarm(), Speech::Script);
    let page = server.get("/").body;
    let order = page.split("function pickerOrder(models) {").nth(1).unwrap();
    let order = order.split("\n}").next().unwrap();
    let expected = "\n  const roots = models.filter(({ parent }) => !parent).reverse();\n  return [...roots, ...models.filter(({ parent }) => parent)];";
    assert_eq!(order, expected);
    assert!(page.contains("modelPicker.replaceChildren(...pickerOrder(data).map("));
    let models = server.get("/v1/models").json();
    let roots = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|card| card["parent"].is_null());
    let roots: Vec<&Value> = roots.map(|card| &card["id"]).collect();
    assert_eq!(roots, ["mock", "synapse-swarm"]);
}

#[test]
fn a_name_pins_a_member_and_unknown_ones_are_told_what_there_is() {
    let server = serve(swarm(), Speech::Script);
    let say = |model: &str| {
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": "Hi" }] });
        let answer = server.post(CHAT, &body);
        assert!(answer.header("x-synapse-adapter").is_none() && answer.json().get("synapse").is_none());
        answer.json()["choices"][0]["message"]["content"].clone()
    };
    assert_eq!(say("synapse-swarm:first"), ADAPTER_WORDS.concat());
    assert_eq!(say("synapse-swarm:second"), CALL_WORDS.concat());
    assert_eq!(say("synapse-swarm:base"), BASE_WORDS.concat());
    let card = server.get("/v1/models/synapse-swarm").json();
    assert_eq!((&card["id"], &card["parent"]), (&json!("synapse-swarm"), &Value::Null));
    for unknown in ["synapse-swarm:third", "synapse-swarmer", "synapse-swarm:"] {
        let body = json!({ "model": unknown, "messages": [{ "role": "user", "content": "Hi" }] });
        let (status, message, ..) = server.post(CHAT, &body).error();
        assert_eq!(status, 404);
        assert!(
            message.ends_with("there are: mock, first, second, synapse-swarm"),
            "{message}"
        );
    }
    let (status, message, param, _) = server
        .post("/v1/completions", &json!({ "model": "synapse-swarm", "prompt": "x" }))
        .error();
    assert_eq!((status, param.as_deref()), (400, Some("model")));
    assert!(message.contains("routes conversations only"), "{message}");
    let nobody_asks = json!({ "model": "synapse-swarm", "messages": [{ "role": "system", "content": "Hi" }] });
    assert!(
        server
            .post(CHAT, &nobody_asks)
            .error()
            .1
            .contains("a user message to route by")
    );
}

/// At random, how long a turn is decides how clear it is: one that is and one that is not are looked for.
#[test]
fn an_unclear_turn_stays_where_the_conversation_was() {
    let unclear_below = 0.9;
    let server = serve(
        Swarm {
            threshold: unclear_below,
            labels: vec![label("a", "A", Some("first")), label("b", "B", Some("second"))],
            ..swarm()
        },
        Speech::Random,
    );
    let routing = |turns: &[&str]| server.post(CHAT, &ask(turns)).json()["synapse"].clone();
    let lengths: Vec<String> = (1..60).map(|length| "x".repeat(length)).collect();
    let find = |reason: &str| {
        lengths
            .iter()
            .find(|turn| routing(&[turn])["reason"] == reason)
            .unwrap()
    };
    let (clear, unclear) = (find("routed"), find("unsure"));

    let alone = routing(&[unclear]);
    assert_eq!(
        (&alone["adapter"], &alone["reason"]),
        (&json!("base"), &json!("unsure"))
    );
    assert!(
        alone["scores"]
            .as_object()
            .unwrap()
            .values()
            .all(|score| score.as_f64().unwrap() < unclear_below)
    );
    let first = routing(&[clear]);
    let kept = routing(&[clear, "…", unclear]);
    assert_eq!(kept["reason"], "kept");
    assert_eq!(
        (&kept["adapter"], &kept["scores"]),
        (&first["adapter"], &first["scores"])
    );
    assert_eq!(
        kept["scores"],
        routing(&[clear, "…", unclear])["scores"],
        "it follows from the conversation alone"
    );
    let changed = routing(&[unclear, "…", clear]);
    assert_eq!(
        (&changed["reason"], &changed["adapter"]),
        (&json!("routed"), &first["adapter"])
    );
    // Five turns back is too far.
    let long = [clear.as_str(), "…", unclear, "…", unclear, "…", unclear, "…", unclear];
    assert_eq!(routing(&long)["reason"], "unsure");
}

#[test]
fn a_swarm_without_its_members_does_not_start() {
    let ready = |swarm: Swarm| {
        let mut setup = Setup {
            ready: false,
            ..Setup::default()
        };
        setup.server.swarm = Some(swarm);
        let server = setup.start();
        server.state.ready(server.engine.clone())
    };
    let missing = Swarm {
        coordinator: "third".to_owned(),
        ..swarm()
    };
    assert!(matches!(ready(missing), Err(ServerError::NoSuchMember { name }) if name == "third"));
    let taken = Swarm {
        name: "first".to_owned(),
        ..swarm()
    };
    assert!(matches!(ready(taken), Err(ServerError::SwarmNameTaken { name }) if name == "first"));
    assert!(ready(swarm()).is_ok());
}
