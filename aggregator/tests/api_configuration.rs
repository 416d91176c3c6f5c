//! The real binary refuses a bad configuration with a text, exit code 64 and nothing bound.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

use waggle_stand_in::Authority;

/// Runs with a good configuration, in which `change` replaces values or adds flags.
fn run(directory: &Path, change: &[(&str, &str)]) -> Output {
    let pair = Authority::new("ca").unwrap().serving(&["waggle.waggle-system.svc"]).unwrap();
    std::fs::write(directory.join("tls.crt"), &pair.certificate_pem).unwrap();
    std::fs::write(directory.join("tls.key"), &pair.key_pem).unwrap();
    let other = Authority::new("ca").unwrap().serving(&["waggle.waggle-system.svc"]).unwrap();
    std::fs::write(directory.join("other.key"), &other.key_pem).unwrap();
    std::fs::write(directory.join("empty"), "").unwrap();
    std::fs::write(directory.join("text"), "not: [a kubeconfig").unwrap();
    let config = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: '{}'}}}}]\nusers: \
         [{{name: u, user: {{}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
        "https://127.0.0.1:1"
    );
    std::fs::write(directory.join("kubeconfig"), config).unwrap();
    let mut flags = vec![
        ("--kubeconfig", "kubeconfig"),
        ("--api-cert-file", "tls.crt"),
        ("--api-key-file", "tls.key"),
        ("--ingest-cert-file", "tls.crt"),
        ("--ingest-key-file", "tls.key"),
        ("--api-bind", "127.0.0.1:0"),
        ("--ingest-bind", "127.0.0.1:0"),
    ];
    for (flag, value) in change {
        flags.retain(|(known, _)| known != flag);
        flags.push((flag, value));
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_waggle-aggregator"));
    command.current_dir(directory).env_remove("KUBERNETES_SERVICE_HOST");
    for (flag, value) in flags.into_iter().filter(|(_, value)| *value != "-") {
        command.arg(flag);
        if !value.is_empty() {
            command.arg(value);
        }
    }
    command.output().unwrap()
}

#[test]
fn bad_configuration_ends_with_64_before_anything_is_bound() {
    let directory = tempfile::tempdir().unwrap();
    // Held: whoever tried to bind it would fail with another text and exit code 1.
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    for (flag, value, says) in [
        ("--api-cert-file", "missing.crt", "cannot read certificate file missing.crt"),
        ("--api-cert-file", "empty", "certificate file empty"),
        ("--api-key-file", "other.key", "cannot serve with certificate tls.crt and key other.key"),
        ("--ingest-key-file", "missing.key", "cannot read key file missing.key"),
        ("--ingest-key-file", "other.key", "cannot serve with certificate tls.crt and key other.key"),
        ("--api-cert-file", "-", "but without --api-cert-file: give all four files, or none"),
        ("--ingest-key-file", "-", "cannot serve with --api-cert-file but without --ingest-key-file"),
        ("--kubeconfig", "missing", "kubeconfig missing"),
        ("--kubeconfig", "text", "kubeconfig text"),
        ("--kubeconfig", "-", "--kubeconfig"),
        ("--window", "soon", "invalid duration \"soon\": expected e.g. 500ms, 15s or 1m"),
        ("--window", "2m", "the window must not be longer"),
        ("--interval", "10s", "at least twice as long"),
        ("--agent-service-account", "agent", "must be NAMESPACE/NAME"),
        ("--no-such-flag", "", "--no-such-flag"),
    ] {
        let output =
            run(directory.path(), &[("--api-bind", &address), ("--ingest-bind", &address), (flag, value)]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{flag} {value}: {text}");
        assert!(text.contains(says), "{flag} {value}: {text}");
    }
}

#[test]
fn a_port_that_is_taken_is_another_failure() {
    let directory = tempfile::tempdir().unwrap();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let output = run(directory.path(), &[("--api-bind", &address)]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("cannot bind the API port to {address}")), "{text}");
}

#[test]
fn help_and_version_are_answers() {
    for flag in ["--help", "--version"] {
        let output = Command::new(env!("CARGO_BIN_EXE_waggle-aggregator")).arg(flag).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("waggle-aggregator"));
    }
}
