//! Tokens, and what kube-apiserver's TokenReview says about them. Tokens look like service-account JWTs, but validity
//! is a look-up in memory: the signature part is random.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    Error,
    caller::Caller,
    random,
    store::{Kind, Store},
};

/// The audience of kube-apiserver itself.
pub const API_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

/// A service-account token to issue.
#[derive(Debug, Clone)]
pub struct TokenSpec {
    /// Namespace of the service account and of the pod.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// Name and UID of the pod that the token is bound to.
    pub pod: Option<(String, String)>,
    /// Name and UID of the node at the time of issue.
    pub node: Option<(String, String)>,
    /// Audiences; empty means [`API_AUDIENCE`].
    pub audiences: Vec<String>,
    /// How long it lives.
    pub ttl: Duration,
}

#[derive(Debug, Clone)]
struct Issued {
    caller: Caller,
    audiences: Vec<String>,
    expires: SystemTime,
    pod: Option<(String, String, String)>,
}

/// All tokens ever issued.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    issued: Mutex<HashMap<String, Issued>>,
}

/// The verdict on a token.
pub(crate) enum Verdict {
    /// Good: whose it is, and the audiences that both sides have in common.
    Good(Caller, Vec<String>),
    /// Not good, with the text for `status.error`.
    Bad(String),
}

impl Tokens {
    pub(crate) fn issue(&self, spec: &TokenSpec) -> Result<String, Error> {
        let id = random::uuid()?;
        let username = format!("system:serviceaccount:{}:{}", spec.namespace, spec.service_account);
        let mut extra =
            vec![("authentication.kubernetes.io/credential-id".to_owned(), vec![format!("JTI={id}")])];
        let mut claims =
            json!({"namespace": spec.namespace, "serviceaccount": {"name": spec.service_account}});
        let mut bind = |what: &str, bound: &Option<(String, String)>| {
            if let Some((name, uid)) = bound {
                extra.push((format!("authentication.kubernetes.io/{what}-name"), vec![name.clone()]));
                extra.push((format!("authentication.kubernetes.io/{what}-uid"), vec![uid.clone()]));
                claims[what] = json!({"name": name, "uid": uid});
            }
        };
        bind("node", &spec.node);
        bind("pod", &spec.pod);
        let caller = Caller {
            name: username.clone(),
            uid: format!("sa-{}-{}", spec.namespace, spec.service_account),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{}", spec.namespace),
            ],
            extra: extra.into_iter().collect(),
        };
        let audiences =
            if spec.audiences.is_empty() { vec![API_AUDIENCE.to_owned()] } else { spec.audiences.clone() };
        let now = SystemTime::now();
        let expires = now + spec.ttl;
        let claims = json!({
            "aud": audiences, "exp": unix(expires), "iat": unix(now), "nbf": unix(now), "jti": id,
            "iss": API_AUDIENCE, "sub": username, "kubernetes.io": claims,
        });
        let pod = spec.pod.clone().map(|(name, uid)| (spec.namespace.clone(), name, uid));
        self.keep(&claims, Issued { caller, audiences, expires, pod })
    }

    /// A token for any user at all, as from kube-apiserver's static token file: for the API server, for a day.
    pub(crate) fn issue_for(&self, user: &str, groups: &[String]) -> Result<String, Error> {
        let caller = Caller {
            name: user.to_owned(),
            uid: String::new(),
            groups: groups.to_vec(),
            ..Caller::default()
        };
        let expires = SystemTime::now() + Duration::from_hours(24);
        let claims = json!({"sub": user, "exp": unix(expires), "jti": random::uuid()?});
        self.keep(&claims, Issued { caller, audiences: vec![API_AUDIENCE.to_owned()], expires, pod: None })
    }

    fn keep(&self, claims: &Value, issued: Issued) -> Result<String, Error> {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"stand-in"}"#);
        let token = format!("{header}.{}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()), random::secret()?);
        self.issued.lock().insert(token.clone(), issued);
        Ok(token)
    }

    /// Revokes a token: it is unknown from now on.
    pub(crate) fn revoke(&self, token: &str) {
        self.issued.lock().remove(token);
    }

    /// Judges a token for these audiences (empty: the API server's own).
    pub(crate) fn review(&self, token: &str, audiences: &[String], store: &Store) -> Verdict {
        let bad = |text: &str| Verdict::Bad(format!("[invalid bearer token, {text}]"));
        let Some(issued) = self.issued.lock().get(token).cloned() else {
            return Verdict::Bad("invalid bearer token".to_owned());
        };
        let own = [API_AUDIENCE.to_owned()];
        let wanted = if audiences.is_empty() { &own[..] } else { audiences };
        let common: Vec<String> = issued.audiences.iter().filter(|a| wanted.contains(a)).cloned().collect();
        if common.is_empty() {
            let text = format!(
                "token audiences {:?} is invalid for the target audiences {wanted:?}",
                issued.audiences
            );
            return bad(&text);
        }
        if issued.expires <= SystemTime::now() {
            return bad("service account token has expired");
        }
        if let Some((namespace, name, uid)) = &issued.pod {
            let pod = store.get(Kind::Pod, namespace, name);
            if pod.is_none_or(|pod| pod["metadata"]["uid"] != **uid) {
                return bad("service account token has been invalidated");
            }
        }
        Verdict::Good(issued.caller.authenticated(), common)
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
