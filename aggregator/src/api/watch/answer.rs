//! Answers about nodes and pods where there are versions: watches, and lists and single objects that fit to them.

use std::sync::Arc;

use http::{HeaderValue, Response};

use super::{Feed, Key, Selection, WatchOptions, Watched, Watches, Writer};
use crate::api::{
    Api, Body, Gate,
    discovery::Version,
    negotiate::{Accept, Representation},
    nodes::NodeMetrics,
    pods::PodMetrics,
    query::Query,
    refusal::Refusal,
    request::Route,
    respond,
    status::Failure,
};

impl<G: Gate> Api<G> {
    /// The answer, if the route is one of nodes or pods.
    pub(in crate::api) fn versioned(
        &self,
        watches: &Watches,
        route: &Route,
        query: &Query,
        accept: &Accept<'_>,
    ) -> Result<Option<Response<Body>>, Refusal> {
        let now = (self.settings.now)().instant;
        let answer = match route {
            Route::Nodes(version, None) => {
                let about =
                    About { feed: watches.nodes(), version: *version, namespace: None, resource: "nodes" };
                self.list_or_watch(watches, &about, query, accept)?
            }
            Route::Pods(version, namespace) => {
                let namespace = namespace.as_deref();
                let about = About { feed: watches.pods(), version: *version, namespace, resource: "pods" };
                self.list_or_watch(watches, &about, query, accept)?
            }
            Route::Nodes(version, Some(name)) => {
                // What the log does not have yet is answered all the same, without a version.
                let live = NodeMetrics::get(&self.source, name, now)?;
                let known = watches.nodes().get(&Key { namespace: "".into(), name: name.as_str().into() });
                self.one(*version, known.unwrap_or(live), query, accept)?
            }
            Route::Pod(version, namespace, name) => {
                let live = PodMetrics::get(&self.source, namespace, name, now)?;
                let key = Key { namespace: namespace.as_str().into(), name: name.as_str().into() };
                self.one(*version, watches.pods().get(&key).unwrap_or(live), query, accept)?
            }
            _ => return Ok(None),
        };
        Ok(Some(answer))
    }

    fn one<T: Watched>(
        &self,
        version: Version,
        object: T,
        query: &Query,
        accept: &Accept<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let (encoder, representation) = self.encoder(version, accept, query, false)?;
        self.count(vec![object.clone()].into_iter());
        Ok(respond::one(&encoder, representation, object))
    }

    fn list_or_watch<T: Watched>(
        &self,
        watches: &Watches,
        about: &About<'_, T>,
        query: &Query,
        accept: &Accept<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let About { feed, version, namespace, resource } = *about;
        let is_watch = query.is_true("watch");
        let (mut encoder, representation) = self.encoder(version, accept, query, !is_watch)?;
        let options = query.selectors()?;
        let selection = Selection { namespace: namespace.map(ToOwned::to_owned), options };
        if !is_watch {
            let (at, objects) = feed.list(namespace, |object| selection.selects(object));
            encoder.at = Some(at);
            let objects = objects.into_iter();
            self.count(objects.clone());
            return Ok(respond::list(&encoder, representation, objects));
        }
        let options = WatchOptions::parse(query, resource)?;
        if representation == Representation::Yaml {
            return Err(Failure::no_stream().into());
        }
        // A Table's columns are the same to the end of the watch.
        let swap = encoder.swap && feed.any(|object| object.total().swap.is_some());
        let kind = HeaderValue::from_static(Writer::content_type(encoder.shape));
        let writer = Writer::new(encoder, swap);
        let body = watches.open(feed, selection, options, writer, self.settings.now);
        Ok(respond::with_type(kind, body.map_err(|_| Refusal::TooMany)?))
    }
}

/// Which objects a request is about.
struct About<'a, T> {
    feed: &'a Arc<Feed<T>>,
    version: Version,
    namespace: Option<&'a str>,
    resource: &'static str,
}
