//! What each value of the chart does: a table.

use serde_json::{Value, json};

const AGGREGATOR: &str = "Deployment waggle-system/waggle-aggregator";
const AGENT: &str = "DaemonSet waggle-system/waggle-agent";
const SPEC: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";
const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";

/// A value, what it is set to, and what is then at a place of an object (or among the entries there).
pub type Effect = (String, Value, &'static str, String, Value);

#[allow(clippy::too_many_lines, reason = "a table")]
pub fn effects() -> Vec<Effect> {
    let mut effects = Vec::new();
    let mut add =
        |path: String, value, object, at: &str, is| effects.push((path, value, object, at.to_owned(), is));
    let inside = |at: &str| format!("{CONTAINER}/{at}");
    let in_pod = |at: &str| format!("{SPEC}/{at}");
    let digest = format!("sha256:{}", "ab".repeat(32));
    for (component, object) in [("aggregator", AGGREGATOR), ("agent", AGENT)] {
        let image = |value: &str| format!("images.{component}.{value}");
        let own = |value: &str| format!("{component}.{value}");
        let name = format!("waggle.local/waggle-{component}");
        let elsewhere = format!("registry.example:5000/{component}");
        add(
            image("repository"),
            json!(elsewhere),
            object,
            &inside("image"),
            json!(format!("{elsewhere}:0.1.0")),
        );
        add(image("tag"), json!("9.9"), object, &inside("image"), json!(format!("{name}:9.9")));
        add(image("digest"), json!(digest), object, &inside("image"), json!(format!("{name}@{digest}")));
        add(
            own("resources.requests.cpu"),
            json!("7m"),
            object,
            &inside("resources/requests/cpu"),
            json!("7m"),
        );
        add(
            own("resources.requests.memory"),
            json!("7Mi"),
            object,
            &inside("resources/requests/memory"),
            json!("7Mi"),
        );
        add(
            own("resources.limits.memory"),
            json!("70Mi"),
            object,
            &inside("resources/limits/memory"),
            json!("70Mi"),
        );
        add(own("priorityClassName"), json!("mine"), object, &in_pod("priorityClassName"), json!("mine"));
        add(
            own("nodeSelector.kubernetes.io/os"),
            json!("plan9"),
            object,
            &in_pod("nodeSelector/kubernetes.io~1os"),
            json!("plan9"),
        );
        let toleration = json!({"key": "a", "operator": "Exists"});
        add(own("tolerations"), json!([toleration]), object, &in_pod("tolerations"), toleration);
        add(
            own("podLabels"),
            json!({"team": "x"}),
            object,
            "/spec/template/metadata/labels/team",
            json!("x"),
        );
        add(
            own("podAnnotations"),
            json!({"team": "x"}),
            object,
            "/spec/template/metadata/annotations/team",
            json!("x"),
        );
        add(own("extraArgs"), json!(["--more=1"]), object, &inside("args"), json!("--more=1"));
    }
    let mut flag = |path: &str, value, object, flag: &str| {
        effects.push((path.to_owned(), value, object, format!("{CONTAINER}/args"), json!(flag)));
    };
    flag("aggregator.window", json!("30s"), AGGREGATOR, "--window=30s");
    flag("aggregator.maxAge", json!("2m"), AGGREGATOR, "--max-age=2m");
    flag("aggregator.interval", json!("2s"), AGGREGATOR, "--interval=2s");
    flag("aggregator.drain", json!("20s"), AGGREGATOR, "--drain=20s");
    flag("aggregator.swap", json!(false), AGGREGATOR, "--swap=false");
    flag("aggregator.enableWatch", json!(true), AGGREGATOR, "--enable-watch");
    flag("aggregator.compatibilityMetrics", json!(true), AGGREGATOR, "--compatibility-metrics");
    flag("clusterDomain", json!("example.org"), AGGREGATOR, "--cluster-domain=example.org");
    flag("log.format", json!("json"), AGGREGATOR, "--log-format=json");
    flag("log.format", json!("json"), AGENT, "--log-format=json");
    flag("agent.interval", json!("2s"), AGENT, "--interval=2s");
    flag("agent.collector", json!("cgroupfs"), AGENT, "--collector=cgroupfs");
    let mut add = |path: &str, value, object, at: &str, is| {
        effects.push((path.to_owned(), value, object, at.to_owned(), is));
    };
    add("aggregator.drain", json!("1m30s"), AGGREGATOR, &in_pod("terminationGracePeriodSeconds"), json!(205));
    let debug = json!({"name": "RUST_LOG", "value": "debug"});
    for object in [AGGREGATOR, AGENT] {
        add("log.filter", json!("debug"), object, &inside("env"), debug.clone());
        add("images.pullPolicy", json!("Always"), object, &inside("imagePullPolicy"), json!("Always"));
        let secrets = in_pod("imagePullSecrets");
        add("images.pullSecrets", json!(["s"]), object, &secrets, json!({"name": "s"}));
        let scrape = "/spec/template/metadata/annotations";
        add("prometheus.annotations", json!(false), object, scrape, Value::Null);
    }
    let affinity = json!({"nodeAffinity": {}});
    add("aggregator.affinity", affinity.clone(), AGGREGATOR, &in_pod("affinity"), affinity);
    add("aggregator.replicas", json!(3), AGGREGATOR, "/spec/replicas", json!(3));
    let budget = "PodDisruptionBudget waggle-system/waggle-aggregator";
    add("aggregator.replicas", json!(2), budget, "/spec/minAvailable", json!(1));
    add(
        "agent.cgroupRoot",
        json!("/sys/fs/x"),
        AGENT,
        &in_pod("volumes/0/hostPath/path"),
        json!("/sys/fs/x"),
    );
    let life = in_pod("volumes/2/projected/sources/0/serviceAccountToken/expirationSeconds");
    add("agent.tokenExpirationSeconds", json!(600), AGENT, &life, json!(600));
    let unavailable = "/spec/updateStrategy/rollingUpdate/maxUnavailable";
    add("agent.maxUnavailable", json!(3), AGENT, unavailable, json!(3));
    let linux = json!({"type": "spc_t"});
    add("agent.seLinuxOptions", linux.clone(), AGENT, &inside("securityContext/seLinuxOptions"), linux);
    let policy = "NetworkPolicy waggle-system/waggle-agent";
    add("networkPolicy.enabled", json!(false), policy, "", Value::Null);
    let registration = "APIService v1.metrics.k8s.io";
    add("apiServices.create", json!(false), registration, "", Value::Null);
    add("apiServices.annotations", json!({"a": "b"}), registration, "/metadata/annotations/a", json!("b"));
    let monitor = "ServiceMonitor waggle-system/waggle-aggregator";
    add("prometheus.monitors", json!(true), monitor, "/spec/endpoints/0/scheme", json!("https"));
    let rule = "PrometheusRule waggle-system/waggle";
    add("prometheus.rules", json!(true), rule, "/spec/groups/0/name", json!("waggle"));
    let dashboard = "ConfigMap waggle-system/waggle-dashboard";
    add("grafana.dashboard", json!(true), dashboard, "/metadata/labels/grafana_dashboard", json!("1"));
    let check = "Pod waggle-system/waggle-check";
    add("tests.nodeName", json!("node-a"), check, "/spec/nodeName", json!("node-a"));
    let issued = "Certificate waggle-system/waggle-serving";
    add("certificates.source", json!("cert-manager"), issued, "/spec/secretName", json!("waggle-serving"));
    effects
}

/// Values that say something only beside others: the others, and as an [`Effect`].
pub fn effects_beside() -> Vec<(Vec<(&'static str, Value)>, Effect)> {
    let mine = json!({"kind": "ClusterIssuer", "name": "mine"});
    let secret = |name: &str, ca: &str| {
        vec![
            ("certificates.source", json!("secret")),
            ("certificates.secret.name", json!(name)),
            ("certificates.secret.ca", json!(ca)),
        ]
    };
    let effect = |path: &str, value: &Value, object, at: &str, is: &Value| {
        (path.to_owned(), value.clone(), object, at.to_owned(), is.clone())
    };
    let encoded = json!("LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1BPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=");
    vec![
        (
            vec![("certificates.source", json!("cert-manager"))],
            effect(
                "certificates.certManager.issuerRef",
                &mine,
                "Certificate waggle-system/waggle-serving",
                "/spec/issuerRef",
                &mine,
            ),
        ),
        (
            secret("", AUTHORITY),
            effect(
                "certificates.secret.name",
                &json!("mine"),
                AGGREGATOR,
                &format!("{SPEC}/volumes/0/secret/secretName"),
                &json!("mine"),
            ),
        ),
        (
            secret("mine", ""),
            effect(
                "certificates.secret.ca",
                &json!(AUTHORITY),
                "APIService v1.metrics.k8s.io",
                "/spec/caBundle",
                &encoded,
            ),
        ),
        (
            secret("mine", ""),
            effect(
                "certificates.secret.ca",
                &json!(AUTHORITY),
                "ConfigMap waggle-system/waggle-ca",
                "/data/ca.crt",
                &json!(AUTHORITY),
            ),
        ),
        (
            vec![("prometheus.rules", json!(true))],
            effect(
                "prometheus.labels",
                &json!({"release": "x"}),
                "PrometheusRule waggle-system/waggle",
                "/metadata/labels/release",
                &json!("x"),
            ),
        ),
    ]
}
