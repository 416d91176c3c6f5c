//! Who may do what: rules in memory that answer like RBAC.

use parking_lot::RwLock;

use crate::caller::Caller;

/// One permission for one user or group.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    subject: String,
    verbs: Vec<String>,
    group: String,
    resources: Vec<String>,
    names: Vec<String>,
    namespace: Option<String>,
    selecting: Option<(String, String)>,
    paths: Vec<String>,
}

impl Rule {
    /// `subject` (a user or a group) may do these things (`*` for all) with these resources of an API group, in all
    /// namespaces.
    pub fn resources(subject: &str, verbs: &[&str], group: &str, resources: &[&str]) -> Self {
        Self {
            subject: subject.to_owned(),
            verbs: owned(verbs),
            group: group.to_owned(),
            resources: owned(resources),
            ..Self::default()
        }
    }

    /// `subject` may do these things with these paths (a trailing `*` matches any rest).
    pub fn paths(subject: &str, verbs: &[&str], paths: &[&str]) -> Self {
        Self { subject: subject.to_owned(), verbs: owned(verbs), paths: owned(paths), ..Self::default() }
    }

    /// Only in this namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Only objects of these names.
    #[must_use]
    pub fn named(mut self, names: &[&str]) -> Self {
        self.names = owned(names);
        self
    }

    /// Only lists and watches that select objects with this value of a field or label, and nothing else.
    #[must_use]
    pub fn selecting(mut self, key: &str, value: &str) -> Self {
        self.selecting = Some((key.to_owned(), value.to_owned()));
        self
    }

    fn covers(&self, wish: &Wish<'_>) -> bool {
        let within = |list: &[String], item: &str| list.iter().any(|x| x == "*" || x == item);
        if !within(&self.verbs, wish.verb) {
            return false;
        }
        match wish.object {
            Object::Path(path) => self.paths.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => pattern == path,
            }),
            Object::Resource { group, resource, namespace, name } => {
                (self.group == "*" || self.group == group)
                    && within(&self.resources, resource)
                    && (self.names.is_empty() || self.names.iter().any(|x| x == name))
                    && self.namespace.as_deref().is_none_or(|only| only == namespace)
                    && self.selecting.as_ref().is_none_or(|only| wish.selected.contains(only))
            }
        }
    }
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) verb: &'a str,
    pub(crate) object: Object<'a>,
    /// Fields and labels that are selected by one value.
    pub(crate) selected: &'a [(String, String)],
}

/// With what.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Object<'a> {
    Path(&'a str),
    /// `resource` holds the subresource too, after a slash.
    Resource {
        group: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
    },
}

#[derive(Debug)]
pub(crate) struct Policy {
    rules: RwLock<Vec<Rule>>,
}

impl Policy {
    /// The rules that every cluster has, and those of Waggle's own manifests.
    pub(crate) fn bootstrap(aggregator: &str) -> Self {
        let discovery = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"];
        let public = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
        let rules = vec![
            Rule::paths("system:authenticated", &["get"], &discovery),
            Rule::paths("system:authenticated", &["get"], &public),
            Rule::paths("system:unauthenticated", &["get"], &public),
            Rule::resources(aggregator, &["create"], "authentication.k8s.io", &["tokenreviews"]),
            Rule::resources(aggregator, &["create"], "authorization.k8s.io", &["subjectaccessreviews"]),
            Rule::resources(aggregator, &["list", "watch"], "", &["pods", "nodes"]),
            Rule::resources(aggregator, &["get", "list", "watch"], "", &["configmaps"])
                .in_namespace("kube-system")
                .named(&["extension-apiserver-authentication"]),
            Rule::resources(
                aggregator,
                &["get", "list", "watch", "update", "patch"],
                "",
                &["secrets", "configmaps"],
            )
            .in_namespace("waggle-system")
            .named(&["waggle-ca"]),
            Rule::resources(aggregator, &["get", "patch"], "apiregistration.k8s.io", &["apiservices"])
                .named(&["v1.metrics.k8s.io", "v1beta1.metrics.k8s.io"]),
        ];
        Self { rules: RwLock::new(rules) }
    }

    pub(crate) fn add(&self, rule: Rule) {
        self.rules.write().push(rule);
    }

    /// Removes every rule of a user or group.
    pub(crate) fn remove(&self, subject: &str) {
        self.rules.write().retain(|rule| rule.subject != subject);
    }

    /// The reason why it is allowed; `None` when it is not.
    pub(crate) fn allows(&self, caller: &Caller, wish: &Wish<'_>) -> Option<String> {
        if caller.is_master() {
            return Some("RBAC: allowed by ClusterRoleBinding \"cluster-admin\"".to_owned());
        }
        let rules = self.rules.read();
        let rule = rules.iter().find(|rule| {
            let subject = &rule.subject;
            (*subject == caller.name || caller.groups.contains(subject)) && rule.covers(wish)
        })?;
        Some(format!("RBAC: allowed by a rule of the stand-in for \"{}\"", rule.subject))
    }
}

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|item| (*item).to_owned()).collect()
}
