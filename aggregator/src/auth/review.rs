//! Reviews posted to the API server, tried again where that can help.

use std::time::Duration;

use http::Request;
use kube::Client;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{sleep, timeout};

/// Per try; the server is told too.
const PER_TRY: Duration = Duration::from_secs(10);
const TRIES: u32 = 5;

/// Posts a review and reads the answer. Up to five tries, 500 ms × 1.5 with jitter between them, only where the connection
/// was lost or the server said that it is its own trouble (`pkg/util/webhook/webhook.go`). The error says why the last
/// one failed.
pub(super) async fn post<R: Serialize, A: DeserializeOwned>(
    client: &Client,
    path: &str,
    review: &R,
) -> Result<A, String> {
    let body = serde_json::to_vec(review).map_err(|error| error.to_string())?;
    let mut pause = Duration::from_millis(500);
    let mut tries = 1;
    loop {
        let request = Request::post(format!("{path}?timeout=10s"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.clone())
            .map_err(|error| error.to_string())?;
        // As text: kube logs a body that it cannot read, and a TokenReview has the token in it.
        let failure = match timeout(PER_TRY, client.request_text(request)).await {
            Ok(Ok(text)) => return serde_json::from_str(&text).map_err(|error| error.to_string()),
            Ok(Err(error)) if !passes(&error) => return Err(describe(&error)),
            Ok(Err(error)) => describe(&error),
            Err(_) => return Err(format!("no answer from the API server in {PER_TRY:?}")),
        };
        if tries == TRIES {
            return Err(failure);
        }
        tries += 1;
        sleep(pause.mul_f64(1.0 + 0.2 * fastrand::f64())).await;
        pause = pause.mul_f64(1.5);
    }
}

/// What the API server said, or what was in the way.
fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("the API server answered {}: {}", status.code, status.message),
        other => other.to_string(),
    }
}

/// Whether it may pass.
fn passes(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => {
            let asked = status.details.as_ref().is_some_and(|details| details.retry_after_seconds > 0);
            asked || matches!(status.code, 429 | 500 | 504)
        }
        kube::Error::HyperError(_) | kube::Error::Service(_) => true,
        _ => false,
    }
}
