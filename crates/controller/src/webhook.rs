//! The answers to API servers: `/default` gives policies what they lack, `/validate` says whether they may be written.
//!
//! What is answered is [`api::policy::admission`]'s; here is what is around it. Whoever asks before the policies of the cluster
//! are known waits a little, and is then turned away with the advice to try again: a policy that was let in though its frontend
//! is taken can't be taken back, while a refused one is only late. It is rare, for who is not ready gets no requests.

use std::{sync::Arc, time::Duration};

use api::policy::admission;
use base64::{Engine, prelude::BASE64_STANDARD};
use http_body_util::{BodyExt, Limited};
use hyper::{Method, Request, StatusCode, body::Incoming};
use kube::core::{
    DynamicObject, Status,
    admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation},
};
use serde_json::Value;

use crate::{
    Shared, metrics,
    server::{Answer, Answers},
};

/// Two objects of the largest size that etcd takes by default, escaped; more is no policy.
const LARGEST: usize = 8 << 20;
/// API servers wait for 10 s by default.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which of the two is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Webhook {
    Default,
    Validate,
}

/// Answers what API servers ask.
pub(crate) fn answers(shared: &Arc<Shared>) -> Answers {
    let shared = shared.clone();
    Arc::new(move |request| {
        let shared = shared.clone();
        Box::pin(async move { answer(&shared, request).await })
    })
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Answer {
    let webhook = match request.uri().path() {
        "/default" => Webhook::Default,
        "/validate" => Webhook::Validate,
        _ => return Answer::text(StatusCode::NOT_FOUND, "there are /default and /validate\n"),
    };
    if request.method() != Method::POST {
        return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "POST an AdmissionReview\n");
    }
    let body = match Limited::new(request.into_body(), LARGEST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            return Answer::text(StatusCode::BAD_REQUEST, format!("reading the request: {error}\n"));
        }
    };
    let (review, verdict) = match understand(&body) {
        Ok(request) => review(shared, webhook, &request).await,
        Err(error) => return Answer::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    shared.metrics.answered(&metrics::Request {
        webhook: match webhook {
            Webhook::Default => "default",
            Webhook::Validate => "validate",
        },
        kind: verdict.kind,
        operation: verdict.operation,
        verdict: verdict.name,
    });
    match text(review) {
        Ok(body) => Answer { status: StatusCode::OK, content_type: "application/json", body },
        Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// With the patch in base64, as the API has it: kube writes a list of numbers, which only Go takes for bytes.
fn text(response: AdmissionResponse) -> Result<Vec<u8>, serde_json::Error> {
    let patch = response.patch.as_deref().map(|patch| BASE64_STANDARD.encode(patch));
    let mut review = serde_json::to_value(response.into_review())?;
    if let Some(patch) = patch {
        review["response"]["patch"] = patch.into();
    }
    serde_json::to_vec(&review)
}

fn understand(body: &[u8]) -> Result<AdmissionRequest<DynamicObject>, String> {
    let review: AdmissionReview<DynamicObject> =
        serde_json::from_slice(body).map_err(|error| format!("it is no AdmissionReview: {error}"))?;
    review.try_into().map_err(|_| "the AdmissionReview has no request".to_owned())
}

/// What was answered, for the metrics.
struct Verdict {
    name: &'static str,
    kind: &'static str,
    operation: &'static str,
}

async fn review(
    shared: &Shared,
    webhook: Webhook,
    request: &AdmissionRequest<DynamicObject>,
) -> (AdmissionResponse, Verdict) {
    let response = AdmissionResponse::from(request);
    let kind = ["LocalRedirectPolicy", "BalancingPolicy"].into_iter().find(|kind| request.kind.kind == *kind);
    let operation = match request.operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete | Operation::Connect => "",
    };
    let verdict = |name| Verdict { name, kind: kind.unwrap_or_default(), operation };
    let object = request.object.as_ref().and_then(|object| serde_json::to_value(object).ok());
    let former = request.old_object.as_ref().and_then(|object| serde_json::to_value(object).ok());
    // Deletions are nobody's business, whatever a configuration says; nor are other kinds.
    let (Some(policy), Some(_), false) = (object, kind, operation.is_empty()) else {
        return (response, verdict("allowed"));
    };
    let former = former.as_ref();
    if !admission::is_to_be_judged(&policy, former) {
        return (response, verdict("allowed"));
    }
    if !shared.policies.known_within(PATIENCE).await {
        let problem =
            "the controller does not know the policies of the cluster yet; try again in a few seconds";
        return (refused(response, 503, "ServiceUnavailable", problem), verdict("not-ready"));
    }
    if webhook == Webhook::Default {
        return match shared.policies.with(|others| admission::default(&policy, former, others)) {
            Some(patch) => (patched(response, patch), verdict("patched")),
            None => (response, verdict("allowed")),
        };
    }
    let wrong = shared.policies.with(|others| admission::validate(&policy, former, others));
    if wrong.is_empty() {
        return (response, verdict("allowed"));
    }
    let problems: Vec<String> = wrong.into_iter().map(|it| format!("{}: {}", it.field, it.problem)).collect();
    (refused(response, 422, "Invalid", &problems.join("; ")), verdict("refused"))
}

fn patched(response: AdmissionResponse, patch: Value) -> AdmissionResponse {
    let patched = serde_json::from_value(patch).ok().map(|patch| response.clone().with_patch(patch));
    // Without an id a policy is as right as with one.
    patched.and_then(Result::ok).unwrap_or(response)
}

fn refused(response: AdmissionResponse, code: u16, reason: &str, problem: &str) -> AdmissionResponse {
    let mut response = response.deny(problem);
    response.result = Status::failure(problem, reason).with_code(code);
    response
}
