//! What of a request's selectors authorization may know. Pure.

use super::{FieldSelector, LabelSelector};
use crate::{
    api::query::Query,
    auth::{Attributes, Selectors},
};

/// The selectors of a list or watch. One that does not parse narrows nothing: the request is refused for it later, by whoever
/// was allowed to ask.
pub fn narrowing(attributes: &Attributes, query: &Query) -> Selectors {
    let Attributes::Resource { verb, .. } = attributes else { return Selectors::default() };
    if !matches!(verb.as_str(), "list" | "watch" | "deletecollection") {
        return Selectors::default();
    }
    let text = |key| query.get(key).filter(|text| !text.is_empty());
    let fields = text("fieldSelector").and_then(|text| FieldSelector::parse(text).ok());
    let labels = text("labelSelector").and_then(|text| LabelSelector::parse(text).ok());
    Selectors {
        fields: fields.map(|fields| fields.requirements()).unwrap_or_default(),
        labels: labels.map(|labels| labels.reviewed()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::{
        api::request,
        auth::{Operator, Requirement},
    };

    fn of(path: &str, query: &str) -> Selectors {
        let query = Query::parse(query);
        let (_, attributes) = request::parse(&Method::GET, path, &query).unwrap();
        narrowing(&attributes, &query)
    }

    fn requirement(key: &str, operator: Operator, values: &[&str]) -> Requirement {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Requirement { key: key.to_owned(), operator, values }
    }

    #[test]
    fn every_operator_becomes_the_reviews() {
        let pods = "/apis/metrics.k8s.io/v1/pods";
        let found = of(
            pods,
            "labelSelector=a%3Db,c!%3Dd,e+in+(g,f),h+notin+(i),j,!k,l%3E1&fieldSelector=metadata.name!%3Dx",
        );
        assert_eq!(
            found.labels,
            [
                requirement("a", Operator::In, &["b"]),
                requirement("c", Operator::NotIn, &["d"]),
                requirement("e", Operator::In, &["f", "g"]),
                requirement("h", Operator::NotIn, &["i"]),
                requirement("j", Operator::Exists, &[]),
                requirement("k", Operator::DoesNotExist, &[]),
            ]
        );
        assert_eq!(found.fields, [requirement("metadata.name", Operator::NotIn, &["x"])]);
    }

    #[test]
    fn only_lists_and_watches_are_narrowed() {
        assert!(!of("/apis/metrics.k8s.io/v1/pods", "watch=1&labelSelector=a").is_empty());
        for (path, query) in [
            ("/apis/metrics.k8s.io/v1/namespaces/a/pods/b", "labelSelector=a"),
            ("/apis/metrics.k8s.io/v1/pods", "labelSelector=&fieldSelector="),
            ("/apis/metrics.k8s.io/v1/pods", "labelSelector=a%20b&fieldSelector=spec.nodeName%3Dx"),
            ("/version", "labelSelector=a"),
        ] {
            assert!(of(path, query).is_empty(), "{path}?{query}");
        }
    }
}
