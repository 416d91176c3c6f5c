//! Which certificates are served with, from the command line: files, all four of them, or the self-managed CA where none is
//! given.

use std::{path::PathBuf, time::Duration};

use waggle_proto::duration::flag as duration;

use super::{
    ca::{self, Spans, dns_names},
    load::Files,
};

/// Flags about certificates.
#[derive(Debug, Clone, clap::Args)]
#[command(
    next_help_heading = "Certificates: from files, or of a CA of its own where none of the four files is given"
)]
pub struct Flags {
    /// Certificate chain of the API port, PEM
    #[arg(long, value_name = "FILE")]
    api_cert_file: Option<PathBuf>,
    /// Private key of the API port, PEM
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Certificate chain of the agents' port, PEM
    #[arg(long, value_name = "FILE")]
    ingest_cert_file: Option<PathBuf>,
    /// Private key of the agents' port, PEM
    #[arg(long, value_name = "FILE")]
    ingest_key_file: Option<PathBuf>,
    /// Time between two looks at the certificate files
    #[arg(long, value_name = "DURATION", default_value = "45s", value_parser = duration)]
    file_interval: Duration,
    /// Namespace of the Secret, the ConfigMap and both Services
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE", default_value = "waggle-system")]
    namespace: String,
    /// Secret that keeps the CA; it must exist
    #[arg(long, value_name = "NAME", default_value = "waggle-ca")]
    ca_secret: String,
    /// ConfigMap that the CA bundle is published in; it must exist
    #[arg(long, value_name = "NAME", default_value = "waggle-ca")]
    ca_config_map: String,
    /// Service in front of the API port
    #[arg(long, value_name = "NAME", default_value = "waggle-aggregator")]
    api_service: String,
    /// Service in front of the agents' port
    #[arg(long, value_name = "NAME", default_value = "waggle-ingest")]
    ingest_service: String,
    /// The cluster's DNS domain
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Time that the slowest reader of the CA bundle may take to see a change
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    ca_overlap: Duration,
    /// Time between two looks at the Secret and the places where the bundle is published, at most
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    ca_interval: Duration,
    /// Validity of a CA; replaced at two thirds
    #[arg(long, value_name = "DURATION", default_value = "87600h", value_parser = duration)]
    ca_life: Duration,
    /// Validity of a serving certificate; replaced at two thirds
    #[arg(long, value_name = "DURATION", default_value = "2160h", value_parser = duration)]
    serving_life: Duration,
}

/// Where the serving certificates come from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// From files that somebody else keeps.
    Files {
        /// The API port's.
        api: Files,
        /// The agents' port's.
        ingest: Files,
        /// Between two looks at them.
        interval: Duration,
    },
    /// From a CA of our own.
    SelfManaged(ca::Settings),
}

/// Flags about certificates that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// Some of the files, not all.
    #[error(
        "cannot serve with --{present} but without --{missing}: give all four files, or none for a CA of its own"
    )]
    SomeFiles {
        /// A flag that was given.
        present: &'static str,
        /// One that was not.
        missing: &'static str,
    },
    /// What a CA signs at the end of its time must end before it.
    #[error(
        "cannot replace a CA in time that is valid for --ca-life {ca_life:?}: that must be more than three times --serving-life \
         {serving_life:?} and --ca-overlap {overlap:?} together"
    )]
    ShortLife {
        /// `--ca-life`
        ca_life: Duration,
        /// `--serving-life`
        serving_life: Duration,
        /// `--ca-overlap`
        overlap: Duration,
    },
}

impl Flags {
    /// What the flags say.
    pub fn origin(self) -> Result<Origin, FlagError> {
        let files = [
            ("api-cert-file", self.api_cert_file),
            ("api-key-file", self.api_key_file),
            ("ingest-cert-file", self.ingest_cert_file),
            ("ingest-key-file", self.ingest_key_file),
        ];
        let present = files.iter().find(|(_, file)| file.is_some()).map(|(flag, _)| *flag);
        let missing = files.iter().find(|(_, file)| file.is_none()).map(|(flag, _)| *flag);
        if let (Some(present), Some(missing)) = (present, missing) {
            return Err(FlagError::SomeFiles { present, missing });
        }
        if let [Some(certificate), Some(key), Some(ingest_certificate), Some(ingest_key)] =
            files.map(|(_, file)| file)
        {
            return Ok(Origin::Files {
                api: Files { certificate, key },
                ingest: Files { certificate: ingest_certificate, key: ingest_key },
                interval: self.file_interval,
            });
        }
        let (ca_life, serving_life, overlap) = (self.ca_life, self.serving_life, self.ca_overlap);
        // Rotation begins at two thirds: a third is left for the overlap and for all that is signed until then.
        if serving_life.saturating_add(overlap).saturating_mul(3) >= ca_life {
            return Err(FlagError::ShortLife { ca_life, serving_life, overlap });
        }
        let names =
            dns_names(&[&self.api_service, &self.ingest_service], &self.namespace, &self.cluster_domain);
        Ok(Origin::SelfManaged(ca::Settings {
            namespace: self.namespace,
            secret: self.ca_secret,
            config_map: self.ca_config_map,
            service: self.api_service,
            names,
            spans: Spans { ca_life, serving_life, overlap },
            interval: self.ca_interval,
        }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn origin(flags: &[&str]) -> Result<Origin, FlagError> {
        let line = std::iter::once(&"waggle-aggregator").chain(flags);
        Line::try_parse_from(line).unwrap().flags.origin()
    }

    const FILES: [&str; 8] = [
        "--api-cert-file",
        "a.crt",
        "--api-key-file",
        "a.key",
        "--ingest-cert-file",
        "i.crt",
        "--ingest-key-file",
        "i.key",
    ];

    #[test]
    fn all_files_or_none() {
        let Ok(Origin::Files { api, ingest, .. }) = origin(&FILES) else { panic!("files") };
        assert_eq!((api.certificate, api.key), ("a.crt".into(), "a.key".into()));
        assert_eq!((ingest.certificate, ingest.key), ("i.crt".into(), "i.key".into()));
        for missing in [0, 2, 4, 6] {
            let mut some = FILES.to_vec();
            let flag = some.drain(missing..missing + 2).next().unwrap();
            let error = origin(&some).unwrap_err().to_string();
            assert!(error.contains(&format!("but without {flag}: give all four files, or none")), "{error}");
        }
    }

    #[test]
    fn a_ca_of_its_own_has_the_names_of_the_manifests() {
        let Ok(Origin::SelfManaged(settings)) = origin(&["--cluster-domain", "example.org"]) else {
            panic!("self-managed")
        };
        assert_eq!((&*settings.secret, &*settings.config_map), ("waggle-ca", "waggle-ca"));
        assert_eq!(settings.spans.overlap, Duration::from_mins(10));
        assert_eq!(settings.spans.serving_life, Duration::from_hours(24 * 90));
        assert_eq!(settings.spans.ca_life, Duration::from_hours(24 * 3650));
        assert_eq!(settings.names[1], "waggle-aggregator.waggle-system.svc.example.org");
    }

    #[test]
    fn a_ca_outlives_what_it_signs() {
        let error = origin(&["--ca-life", "6480h"]).unwrap_err().to_string();
        assert!(error.contains("more than three times --serving-life"), "{error}");
        origin(&["--ca-life", "6481h"]).unwrap();
    }
}
