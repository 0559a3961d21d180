//! The answers to kubelets, and metrics.

use std::{sync::Arc, time::Duration};

use hyper::StatusCode;
use observe::metrics::CONTENT_TYPE;
use tokio::sync::watch;

use crate::{
    Shared,
    server::{Answer, Answers},
};

/// Whoever oversees slices turns every ten seconds at least. Longer than anything takes it that goes well.
const SILENCE: Duration = Duration::from_secs(60);

/// Whoever asks is answered on the same thread that does all the work: that there is an answer says that it turns.
pub(crate) fn answers(shared: &Arc<Shared>, stopping: &watch::Sender<bool>) -> Answers {
    let (shared, stopping) = (shared.clone(), stopping.subscribe());
    Arc::new(move |request| {
        let answer = answer(&shared, *stopping.borrow(), request.uri().path());
        Box::pin(std::future::ready(answer))
    })
}

fn answer(shared: &Shared, is_stopping: bool, path: &str) -> Answer {
    match path {
        "/healthz" | "/livez" => match shared.metrics.oversight.silence() {
            silence if silence < SILENCE => Answer::text(StatusCode::OK, "ok\n"),
            silence => {
                let text = format!("the overseer has said nothing for {} s\n", silence.as_secs());
                Answer::text(StatusCode::SERVICE_UNAVAILABLE, text)
            }
        },
        "/readyz" => {
            let troubles = troubles(shared, is_stopping);
            match troubles.is_empty() {
                true => Answer::text(StatusCode::OK, "ok\n"),
                false => Answer::text(StatusCode::SERVICE_UNAVAILABLE, troubles.join("\n") + "\n"),
            }
        }
        "/metrics" => Answer {
            status: StatusCode::OK,
            content_type: CONTENT_TYPE,
            body: shared.metrics.text().into_bytes(),
        },
        _ => Answer::text(StatusCode::NOT_FOUND, "there are /healthz, /livez, /readyz and /metrics\n"),
    }
}

/// Why API servers had better ask another controller.
fn troubles(shared: &Shared, is_stopping: bool) -> Vec<String> {
    let mut troubles = Vec::new();
    if is_stopping {
        troubles.push("it was told to stop".to_owned());
    }
    match shared.served.validity() {
        None => troubles.push("there is no certificate yet; the log says why".to_owned()),
        Some(valid) if !valid.has(shared.clock.now()) => {
            troubles.push(format!("the certificate counts from {} to {} only", valid.from, valid.to));
        }
        Some(_) => {}
    }
    if !shared.policies.are_known() {
        troubles.push("the policies of the cluster are not known yet; the log says why".to_owned());
    }
    troubles
}
