//! The credential of a simulated agent: a token for the pod that the agent runs as, asked for as a kubelet does, written
//! into the file that the agent reads for each connection, and renewed before it ends.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams};

use super::Assigned;
use crate::simulate::{Fleet, SimulatedNode};

const AUDIENCE: &str = "waggle.aggregator";
const LIFETIME: Duration = Duration::from_hours(1);
/// Pause after a token could not be had.
const AGAIN: Duration = Duration::from_secs(1);

/// Starts the node's agent once it has a token, and renews the token at four fifths of its life, until aborted.
pub async fn run(client: Client, fleet: Arc<Fleet>, node: SimulatedNode, pod: Assigned, file: PathBuf) {
    let mut started = false;
    loop {
        let pause = match write(&client, &pod, &file).await {
            Ok(()) => {
                if !started {
                    fleet.start(&pod.node, &node, file.clone());
                    started = true;
                }
                LIFETIME.mul_f64(0.8)
            }
            Err(error) => {
                tracing::warn!(node = pod.node, error = format!("{error:#}"), "no token for the agent");
                AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn write(client: &Client, pod: &Assigned, file: &std::path::Path) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &pod.namespace);
    let spec = TokenRequestSpec {
        audiences: vec![AUDIENCE.to_owned()],
        bound_object_ref: Some(BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.clone()),
        }),
        expiration_seconds: Some(i64::try_from(LIFETIME.as_secs()).unwrap_or(i64::MAX)),
    };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts
        .create_token_request(&pod.account, &PostParams::default(), &request)
        .await
        .with_context(|| format!("cannot ask for a token of {}/{}", pod.namespace, pod.account))?;
    let token = answer.status.context("the API server answered without a token")?.token;
    // Whoever reads meanwhile finds the old one or the new one.
    let new = file.with_extension("new");
    tokio::fs::write(&new, token).await.with_context(|| format!("cannot write {}", new.display()))?;
    tokio::fs::rename(&new, file).await.with_context(|| format!("cannot write {}", file.display()))
}
