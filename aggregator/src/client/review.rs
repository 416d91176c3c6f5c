//! Reviews posted to the API server, tried again where that can help. No error and no log line shows a body: that of a
//! TokenReview has the token in it, and the API server repeats it in its answer.

use std::time::Duration;

use http::{Request, StatusCode, header};
use kube::Client;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::{sleep, timeout};

pub(crate) const TOKENS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
pub(crate) const ACCESS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// Per try; the server is told too.
const PER_TRY: Duration = Duration::from_secs(10);
const TRIES: u32 = 5;
/// A server that asks for a longer pause than this will not be there in time.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why a try failed, and whether another may not.
struct Failure {
    cause: String,
    passes: bool,
    /// What the server asked for.
    pause: Duration,
}

/// Posts a review and reads the answer. Up to five tries, 500 ms × 1.5 with jitter between them or longer where the server
/// asks for it, only where the connection was lost or the server said that it is its own trouble
/// (`pkg/util/webhook/webhook.go`). The error says why the last one failed.
pub(crate) async fn post<A: DeserializeOwned>(
    client: &Client,
    path: &str,
    body: Vec<u8>,
) -> Result<A, String> {
    let mut pause = Duration::from_millis(500);
    let mut tries = 1;
    loop {
        let failure = match timeout(PER_TRY, exchange(client, path, body.clone())).await {
            Ok(Ok(answer)) => return serde_json::from_slice(&answer).map_err(|error| unreadable(&error)),
            Ok(Err(failure)) => failure,
            Err(_) => return Err(format!("no answer from the API server in {PER_TRY:?}")),
        };
        if tries == TRIES || !failure.passes || failure.pause > LONGEST_PAUSE {
            return Err(failure.cause);
        }
        tries += 1;
        sleep(pause.mul_f64(1.0 + 0.2 * fastrand::f64()).max(failure.pause)).await;
        pause = pause.mul_f64(1.5);
    }
}

/// serde quotes values that it does not expect.
fn unreadable(error: &serde_json::Error) -> String {
    format!("the API server's answer cannot be read at line {}, column {}", error.line(), error.column())
}

/// One try. The answer is read here and not by kube, which logs a body that it cannot read.
async fn exchange(client: &Client, path: &str, body: Vec<u8>) -> Result<bytes::Bytes, Failure> {
    let lost = |error: &kube::Error| {
        let passes = matches!(error, kube::Error::HyperError(_) | kube::Error::Service(_));
        Failure { cause: error.to_string(), passes, pause: Duration::ZERO }
    };
    let request = Request::post(format!("{path}?timeout=10s"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.into())
        .map_err(|error| Failure { cause: error.to_string(), passes: false, pause: Duration::ZERO })?;
    let response = client.send(request).await.map_err(|error| lost(&error))?;
    let code = response.status();
    let seconds =
        response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let answer = response.into_body().collect_bytes().await.map_err(|error| lost(&error))?;
    if code.is_success() {
        return Ok(answer);
    }
    Err(failure(code, seconds, &answer))
}

/// What the API server said.
fn failure(code: StatusCode, retry_after: Option<u64>, answer: &[u8]) -> Failure {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Status {
        message: String,
        details: Details,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Details {
        retry_after_seconds: u64,
    }
    // What is no Status has nothing to say.
    let status: Status = serde_json::from_slice(answer).unwrap_or_default();
    let asked = retry_after.unwrap_or(status.details.retry_after_seconds);
    Failure {
        cause: format!("the API server answered {}: {}", code.as_u16(), status.message),
        passes: asked > 0 || matches!(code.as_u16(), 429 | 500 | 504),
        pause: Duration::from_secs(asked),
    }
}
