//! kubeconfig files for users of the stand-in. Written as JSON, which is YAML too.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::pki::Identity;

pub(crate) fn with_certificate(url: &str, ca_pem: &str, identity: &Identity) -> String {
    let user = json!({
        "client-certificate-data": STANDARD.encode(&identity.certificate_pem),
        "client-key-data": STANDARD.encode(&identity.key_pem),
    });
    render(url, ca_pem, &user)
}

pub(crate) fn with_token(url: &str, ca_pem: &str, token: &str) -> String {
    render(url, ca_pem, &json!({"token": token}))
}

fn render(url: &str, ca_pem: &str, user: &Value) -> String {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": "stand-in",
        "clusters": [{"name": "stand-in", "cluster": {
            "server": url, "certificate-authority-data": STANDARD.encode(ca_pem),
        }}],
        "users": [{"name": "stand-in", "user": user}],
        "contexts": [{"name": "stand-in", "context": {"cluster": "stand-in", "user": "stand-in"}}],
    });
    format!("{config:#}\n")
}
