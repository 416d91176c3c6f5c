//! What is under `deploy/`, and what the documentation says of it: kustomize and the chart make the same objects, a real
//! kube-apiserver takes them, installing, upgrading and removing them leaves what it should; dashboard, alerts and
//! references name what the programs really have.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod admission;
mod chart;
mod lifecycle;
mod metrics;
mod migration;
mod promql;
mod reference;
mod render;
mod rights;
mod same;
mod scrape;
mod texts;
mod values;
