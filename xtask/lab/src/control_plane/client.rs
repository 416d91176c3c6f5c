//! What users of a control plane do: ask, apply, read, and wait for the registrations.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use super::{API_SERVICES, ControlPlane, START};
use crate::central::{self, NAMESPACE};

impl ControlPlane {
    /// Makes a user with a client certificate, in at most two groups; its kubeconfig.
    pub fn user(&self, name: &str, groups: &[&str]) -> Result<PathBuf> {
        self.pki.user(self.addresses.api_server, name, groups)
    }

    /// The same for whoever reaches kube-apiserver at another address.
    pub fn user_at(&self, server: SocketAddr, name: &str, groups: &[&str]) -> Result<PathBuf> {
        self.pki.user(server, name, groups)
    }

    /// An administrator's client. It belongs to the runtime that it was made in.
    pub async fn client(&self) -> Result<kube::Client> {
        let text =
            fs::read_to_string(&self.kubeconfig).context("cannot read the administrator's kubeconfig")?;
        central::client(&text).await
    }

    /// Runs kubectl as an administrator; its output. An exit code other than 0 is an error with what it said.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let output = self.kubectl_as(&self.kubeconfig, args).await?;
        if !output.status.success() {
            bail!(
                "kubectl {}: {}\n{}",
                args.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs kubectl as the user of that kubeconfig, however it ends.
    pub async fn kubectl_as(&self, kubeconfig: &Path, args: &[&str]) -> Result<Output> {
        Command::new(self.places.programs.join("kubectl"))
            .args(args)
            .env("KUBECONFIG", kubeconfig)
            .env("KUBECACHEDIR", self.folder.join("kubectl-cache"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot start kubectl: run cargo xtask setup")
    }

    /// Applies Waggle's objects, as at the start: what `deploy/base` says, with the overlay of the lab.
    pub async fn apply_manifests(&self) -> Result<()> {
        let folder = self.folder.join("manifests");
        self.kubectl(&["apply", "-k", &folder.display().to_string()]).await.map(drop)
    }

    /// Applies objects; each with `apiVersion` and `kind`. Status is not applied: kube-apiserver leaves it out.
    pub async fn apply(&self, objects: &[Value]) -> Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let path = self.folder.join("apply.json");
        fs::write(&path, list.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
        self.kubectl(&["apply", "-f", &path.display().to_string()]).await.map(drop)
    }

    /// Reads an object, or whatever is answered at this path, as an administrator.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let request = http::Request::get(path).body(Vec::new()).context("an odd path")?;
        self.client().await?.request(request).await.with_context(|| format!("GET {path}"))
    }

    /// Merges `status` into the status of the object at `path`, as its kubelet or controller would.
    pub async fn patch_status(&self, path: &str, status: &Value) -> Result<()> {
        let body = json!({ "status": status }).to_string().into_bytes();
        let request = http::Request::patch(format!("{path}/status"))
            .header("content-type", "application/merge-patch+json")
            .body(body)
            .context("an odd path")?;
        let answer = self.client().await?.request::<Value>(request).await;
        answer.map(drop).with_context(|| format!("PATCH {path}/status"))
    }

    /// Every key that etcd holds, read from etcd itself.
    pub async fn etcd_keys(&self) -> Result<Vec<String>> {
        let uri = format!("http://{}", self.addresses.etcd).parse().context("an odd address")?;
        let client =
            kube::Client::try_from(kube::Config::new(uri)).context("cannot make a client of etcd")?;
        // From the least key there is, `\0`, to no end, which etcd writes as `\0` too.
        let all = STANDARD.encode([0]);
        let body = json!({"key": all, "range_end": all, "keys_only": true}).to_string().into_bytes();
        let request = http::Request::post("/v3/kv/range").body(body).context("an odd path")?;
        let answer: Value = client.request(request).await.context("cannot read etcd's keys")?;
        let keys = answer["kvs"].as_array().context("etcd has no keys")?;
        keys.iter()
            .map(|entry| {
                let key = entry["key"].as_str().context("an entry without key")?;
                String::from_utf8(STANDARD.decode(key).context("an odd key")?).context("an odd key")
            })
            .collect()
    }

    /// Waits until both APIServices are Available.
    pub async fn wait_available(&self) -> Result<()> {
        let client = self.client().await?;
        let begun = Instant::now();
        loop {
            let mut seen = Vec::new();
            for name in API_SERVICES {
                seen.push(available(&client, name).await?);
            }
            if seen.iter().all(|(available, _)| *available) {
                return Ok(());
            }
            if begun.elapsed() > START {
                bail!("metrics.k8s.io is not Available: {seen:?}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// A token of a service account as the kubelet would ask for it: for an audience, bound to a pod. `lifetime` is at
    /// least 10 minutes.
    pub async fn token(
        &self,
        (namespace, account): (&str, &str),
        audience: Option<&str>,
        pod: Option<(&str, &str)>,
        lifetime: Duration,
    ) -> Result<String> {
        let mut spec = json!({"expirationSeconds": lifetime.as_secs()});
        if let Some(audience) = audience {
            spec["audiences"] = json!([audience]);
        }
        if let Some((name, uid)) = pod {
            spec["boundObjectRef"] = json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
        }
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let request = http::Request::post(&path)
            .header("content-type", "application/json")
            .body(body.to_string().into_bytes())
            .context("an odd path")?;
        let answer: Value =
            self.client().await?.request(request).await.with_context(|| format!("POST {path}"))?;
        let token = answer["status"]["token"].as_str();
        token.map(str::to_owned).with_context(|| format!("no token in {answer}"))
    }

    /// The token of an agent's pod in `waggle-system`, good for an hour: what the agent sends to the aggregator.
    pub async fn agent_token(&self, pod: &str, uid: &str) -> Result<String> {
        let account = (NAMESPACE, central::AGENT_ACCOUNT);
        let hour = Duration::from_hours(1);
        self.token(account, Some("waggle.aggregator"), Some((pod, uid)), hour).await
    }
}

/// Whether an APIService is Available, and its condition's message.
pub(super) async fn available(client: &kube::Client, name: &str) -> Result<(bool, String)> {
    let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}");
    let request = http::Request::get(&path).body(Vec::new()).context("an odd path")?;
    let object: Value = client.request(request).await.with_context(|| format!("GET {path}"))?;
    let conditions = object["status"]["conditions"].as_array();
    let condition = conditions.into_iter().flatten().find(|condition| condition["type"] == "Available");
    let Some(condition) = condition else { return Ok((false, "no condition yet".to_owned())) };
    let message = format!("{}: {}", condition["reason"], condition["message"]);
    Ok((condition["status"] == "True", message))
}
