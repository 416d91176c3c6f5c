//! The self-managed CA: it lives in a Secret, its bundle in a ConfigMap and in the `caBundle` of both APIServices, the serving
//! key in the memory of each replica only. Rules are pure ([`next_step`]), what the Secret holds is [`Contents`]; here
//! they are followed: look, take one step, look again. Replicas agree through the Secret's resource version. Losing the API
//! server ends nothing: what is served goes on being served.

mod authority;
mod contents;
mod metrics;
mod objects;
mod plan;
#[cfg(test)]
mod simulation;
mod status;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use tokio::sync::Notify;

pub use authority::{Authority, CaCertificate, SignError};
pub use contents::{Contents, ContentsError, Next, Old};
pub use metrics::Metrics;
pub use objects::{API_SERVICES, BUNDLE_KEY, ObjectError};
pub use plan::{Held, Leaf, Seen, Slot, Spans, Step, next_step};
pub use status::Status;

use super::{Live, PORTS};
use crate::client::{self, Patience, Source, follow};
use objects::{Objects, Place};

/// More steps than any change needs: what goes on after this many is a fight with another writer, and has time.
const STEPS: usize = 16;
/// Between two looks, however many events come.
const BREATH: Duration = Duration::from_millis(100);
const FIRST_BACKOFF: Duration = Duration::from_millis(500);

/// How the CA is cared for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Namespace of the Secret, the ConfigMap and both Services.
    pub namespace: String,
    /// The Secret's name.
    pub secret: String,
    /// The ConfigMap's name.
    pub config_map: String,
    /// The Service that the APIServices point to.
    pub service: String,
    /// DNS names of the serving certificate.
    pub names: Vec<String>,
    /// Spans of time.
    pub spans: Spans,
    /// Between two looks when no event comes.
    pub interval: Duration,
}

/// The DNS names under which a Service of this namespace is reached.
pub fn dns_names(services: &[&str], namespace: &str, cluster_domain: &str) -> Vec<String> {
    let of = |service: &&str| {
        let short = format!("{service}.{namespace}");
        [format!("{short}.svc"), format!("{short}.svc.{cluster_domain}"), short]
    };
    services.iter().flat_map(of).collect()
}

#[derive(Debug, thiserror::Error)]
enum CareError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl CareError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Object(error) => error.reason(),
            Self::Sign(_) => "sign",
        }
    }
}

/// Cares for the CA and the serving certificate of this replica.
pub struct SelfManaged {
    settings: Settings,
    objects: Objects,
    live: Live,
    status: Status,
    metrics: Metrics,
    tls_metrics: super::Metrics,
    leaf: Option<Leaf>,
    remembered: Vec<CaCertificate>,
    complaint: Option<String>,
}

impl SelfManaged {
    /// Nothing is read or served yet.
    pub fn new(
        client: Client,
        settings: Settings,
        live: Live,
        metrics: Metrics,
        tls_metrics: super::Metrics,
    ) -> Self {
        let (namespace, secret) = (settings.namespace.clone(), settings.secret.clone());
        let (config_map, service) = (settings.config_map.clone(), settings.service.clone());
        let objects = Objects::new(client, namespace, secret, config_map, service);
        Self {
            settings,
            objects,
            live,
            status: Status::default(),
            metrics,
            tls_metrics,
            leaf: None,
            remembered: Vec::new(),
            complaint: None,
        }
    }

    /// For health checks.
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// Cares forever: at every change of the Secret or the ConfigMap, and every interval.
    pub async fn run(mut self, patience: Patience, watches: client::Metrics) {
        let changed = Notify::new();
        let (api, fields) = self.objects.secrets();
        let secret = Source::<Secret> { api, fields: fields.into(), resource: "secrets" };
        let (api, fields) = self.objects.config_maps();
        let config_map = Source::<ConfigMap> { api, fields: fields.into(), resource: "configmaps" };
        let secret = follow(secret, patience, watches.clone(), |_| changed.notify_one());
        let config_map = follow(config_map, patience, watches, |_| changed.notify_one());
        let care = async {
            let mut backoff = FIRST_BACKOFF;
            loop {
                let pause = match self.turn(Timestamp::now).await {
                    Ok(()) => {
                        self.complaint = None;
                        backoff = FIRST_BACKOFF;
                        self.settings.interval
                    }
                    Err(error) => {
                        self.complain(&error, backoff);
                        let pause = backoff;
                        backoff = (backoff * 2).min(self.settings.interval.max(FIRST_BACKOFF));
                        pause
                    }
                };
                tokio::time::sleep(BREATH.min(pause)).await;
                // An interval apart at the latest; a little less, so that replicas do not stay in step.
                let pause = pause.mul_f64(1.0 - fastrand::f64() / 4.0);
                tokio::select! {
                    () = changed.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        };
        tokio::join!(care, secret, config_map);
    }

    fn complain(&mut self, error: &CareError, pause: Duration) {
        self.metrics.errors.get_or_create(&[("reason", error.reason())]).inc();
        let text = error.to_string();
        if self.complaint.as_ref() != Some(&text) {
            tracing::error!(%error, serving = self.leaf.is_some(), "cannot care for the CA, trying again in {pause:?}");
            self.complaint = Some(text);
        }
    }

    /// Steps until nothing is left to do.
    async fn turn(&mut self, now: impl Fn() -> Timestamp) -> Result<(), CareError> {
        for _ in 0..STEPS {
            match self.step(now()).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // Somebody else was first: see what he did.
                Err(CareError::Object(ObjectError::Conflict(_))) => {
                    self.metrics.errors.get_or_create(&[("reason", "conflict")]).inc();
                    tokio::time::sleep(BREATH.mul_f64(fastrand::f64())).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Looks once and takes one step; whether there may be more. The places are read before the Secret: what was published
    /// after a change of the Secret is then never judged by the Secret from before it.
    async fn step(&mut self, now: Timestamp) -> Result<bool, CareError> {
        let config_map = self.objects.read_config_map().await;
        let [first, second] = API_SERVICES;
        let (first, second) =
            tokio::join!(self.objects.read_api_service(first), self.objects.read_api_service(second));
        let stored = self.objects.read_secret().await?;
        let api_services = [held(&first), held(&second)];
        let seen = Seen {
            now,
            contents: &stored.contents,
            config_map: &held(&config_map),
            api_services: &api_services,
            leaf: self.leaf,
            remembered: &self.remembered,
        };
        let step = next_step(&self.settings.spans, &seen);
        self.status.take(&seen, &self.metrics);
        let again = !matches!(step, Step::Rest);
        match step {
            Step::Make(slot, mut contents) => {
                let authority = Authority::make(now, self.settings.spans.ca_life)?;
                match slot {
                    Slot::Current => contents.current = Some(authority),
                    Slot::Next => contents.next = Some(Next { authority, published: None }),
                }
                self.objects.write_secret(&stored, &contents).await?;
                self.metrics.secret_writes.get_or_create(&[("did", "made")]).inc();
                tracing::info!(?slot, "made a CA");
            }
            Step::Write(contents) => {
                self.objects.write_secret(&stored, &contents).await?;
                self.metrics.secret_writes.get_or_create(&[("did", "changed")]).inc();
                tracing::info!("took the rotation of the CA one step on");
            }
            Step::Publish(bundle) => self.publish(&bundle, &config_map, [&first, &second]).await?,
            Step::Sign(slot) => self.sign(&stored.contents, slot, now)?,
            Step::Rest => {
                // What could not be read was worked around; it is an error all the same.
                for place in [config_map, first, second] {
                    place?;
                }
            }
        }
        if !stored.contents.is_empty() {
            self.remembered = stored.contents.trusted();
        }
        Ok(again)
    }

    /// Writes the bundle where another one is. A place that refuses it does not keep the others from having it.
    async fn publish(
        &self,
        bundle: &str,
        config_map: &Result<Place, ObjectError>,
        api_services: [&Result<Place, ObjectError>; 2],
    ) -> Result<(), ObjectError> {
        let stale = |place: &&Place| place.bundle != bundle;
        let mut results = Vec::new();
        if let Some(place) = config_map.as_ref().ok().filter(stale) {
            results.push(("config-map", self.objects.publish_config_map(place, bundle).await));
        }
        for (name, place) in API_SERVICES.into_iter().zip(api_services) {
            if let Some(place) = place.as_ref().ok().filter(stale) {
                results.push(("api-service", self.objects.publish_api_service(name, place, bundle).await));
            }
        }
        for (place, _) in results.iter().filter(|(_, result)| result.is_ok()) {
            self.metrics.publications.get_or_create(&[("place", *place)]).inc();
        }
        results.into_iter().try_for_each(|(_, result)| result)
    }

    fn sign(&mut self, contents: &Contents, slot: Slot, now: Timestamp) -> Result<(), CareError> {
        let authority = match slot {
            Slot::Current => contents.current.as_ref(),
            Slot::Next => contents.next.as_ref().map(|next| &next.authority),
        };
        let Some(authority) = authority else { return Ok(()) };
        let serving = authority.sign(&self.settings.names, now, self.settings.spans.serving_life)?;
        let not_after = serving.not_after();
        self.leaf = Some(Leaf { issuer: authority.certificate().fingerprint(), signed: now, not_after });
        self.live.replace(serving);
        for port in PORTS {
            self.tls_metrics.loaded(port, not_after);
        }
        tracing::info!(%not_after, "serving with a new certificate of the CA");
        Ok(())
    }
}

fn held(place: &Result<Place, ObjectError>) -> Held {
    match place {
        Ok(place) => Held::Bundle(place.bundle.clone()),
        Err(ObjectError::Missing(_) | ObjectError::Foreign(..)) => Held::Absent,
        Err(_) => Held::Unknown,
    }
}
