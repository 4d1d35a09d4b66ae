//! Asking the client, in the modern era: an answer that says what is missing, and the same request again with it.
//!
//! Nothing is kept between two rounds, and each may reach another front end: which round it is comes back with the request,
//! sealed, because clients can write whatever they like.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rmcp::{
    ErrorData, RoleServer,
    model::{ClientCapabilities, InputRequiredResult, InputResponses},
    service::RequestContext,
};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    client::{elicitation, sampling},
    server::model,
};

/// What states are sealed with. All front ends have the same; this one guards nothing.
const KEY: &[u8] = b"the same on every front end";

/// What is asked at once, each under the name of its answer.
type Questions = Vec<(&'static str, Value)>;

/// What a tool or prompt has to know before it answers.
pub(crate) struct Rounds {
    name: String,
    /// One after the other.
    questions: Vec<Questions>,
    sealed: bool,
}

/// How it goes on.
pub(crate) enum Next {
    Ask(InputRequiredResult),
    /// With the answers of the last round.
    Done(InputResponses),
}

/// What a tool or prompt of this name asks; `None` if it asks nothing.
pub(crate) fn of(name: &str, context: &RequestContext<RoleServer>) -> Option<Rounds> {
    let ask =
        |message: &str, field: &str, kind: &str| elicitation(message, &json!({ field: { "type": kind } }), &[field]);
    let who = || ("user_name", ask("What is your name?", "name", "string"));
    let roots = || ("client_roots", json!({ "method": "roots/list", "params": {} }));
    let greeting = || ("greeting", sampling("Generate a greeting"));
    let confirm = || vec![vec![("confirm", ask("Please confirm", "ok", "boolean"))]];
    let (rounds, sealed) = match name.strip_prefix("test_input_required_result_") {
        Some("elicitation") => (vec![vec![who()]], false),
        Some("sampling") => (vec![vec![("capital_question", sampling("What is the capital of France?"))]], false),
        Some("list_roots") => (vec![vec![roots()]], false),
        Some("prompt") => {
            let question = ask("What context should the prompt use?", "context", "string");
            (vec![vec![("user_context", question)]], false)
        }
        Some("request_state" | "tampered_state") => (confirm(), true),
        Some("multiple_inputs") => (vec![vec![who(), greeting(), roots()]], true),
        Some("multi_round") => {
            let one = ("step1", ask("Step 1: What is your name?", "name", "string"));
            let two = ("step2", ask("Step 2: What is your favorite color?", "color", "string"));
            (vec![vec![one], vec![two]], true)
        }
        Some("capabilities") => (vec![vec![who(), greeting()]], false),
        _ if name == "test_streaming_elicitation" => (vec![vec![who()]], false),
        _ => return None,
    };
    let client = context.client_capabilities().unwrap_or_default();
    let answerable = |questions: Questions| questions.into_iter().filter(|(_, it)| is_able(&client, it)).collect();
    Some(Rounds { name: name.to_owned(), questions: rounds.into_iter().map(answerable).collect(), sealed })
}

/// Whether a client has said that it answers such questions: others must not be asked.
fn is_able(client: &ClientCapabilities, question: &Value) -> bool {
    match question["method"].as_str() {
        Some("elicitation/create") => client.elicitation.is_some(),
        Some("sampling/createMessage") => client.sampling.is_some(),
        _ => json!(client).get("roots").is_some(),
    }
}

impl Rounds {
    /// From what a request brings to how it goes on. Answers nobody asked for are not looked at.
    pub(crate) fn next(&self, answers: Option<InputResponses>, state: Option<&str>) -> Result<Next, ErrorData> {
        let round = match state {
            Some(state) => {
                self.open(state).ok_or_else(|| ErrorData::invalid_params("requestState is not ours", None))?
            }
            None => 0,
        };
        let questions = &self.questions[round];
        let answers = answers.filter(|_| state.is_some() || !self.sealed).unwrap_or_default();
        let has =
            |(name, question): &(&str, Value)| answers.get(*name).is_some_and(|answer| answers_it(question, answer));
        if !questions.iter().all(has) {
            Ok(Next::Ask(self.ask(round)))
        } else if round + 1 < self.questions.len() {
            Ok(Next::Ask(self.ask(round + 1)))
        } else {
            Ok(Next::Done(answers))
        }
    }

    fn ask(&self, round: usize) -> InputRequiredResult {
        let questions: serde_json::Map<_, _> =
            self.questions[round].iter().map(|(name, question)| ((*name).to_owned(), question.clone())).collect();
        let mut result = json!({ "resultType": "input_required", "inputRequests": questions });
        if self.sealed {
            result["requestState"] = json!(format!("{round}.{}", self.seal(round)));
        }
        model(result)
    }

    fn seal(&self, round: usize) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.mac(round).finalize().into_bytes())
    }

    /// The round of a state that we have sealed for this name.
    fn open(&self, state: &str) -> Option<usize> {
        let (round, seal) = state.split_once('.')?;
        let round = round.parse().ok().filter(|round| *round < self.questions.len())?;
        let seal = BASE64_URL_SAFE_NO_PAD.decode(seal).ok()?;
        self.mac(round).verify_slice(&seal).is_ok().then_some(round)
    }

    fn mac(&self, round: usize) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(KEY).expect("HMAC takes keys of any length");
        mac.update(format!("{}:{round}", self.name).as_bytes());
        mac
    }
}

/// Whether an answer has the form that its question wants.
fn answers_it(question: &Value, answer: &Value) -> bool {
    match question["method"].as_str() {
        Some("elicitation/create") => answer["action"].is_string(),
        Some("sampling/createMessage") => answer["content"].is_object(),
        _ => answer["roots"].is_array(),
    }
}
