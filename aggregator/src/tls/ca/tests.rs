use std::time::Duration;

use k8s_openapi::ByteString;
use rustls_pki_types::{ServerName, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{authority::*, contents::*, plan::*, *};

const DAY: Duration = Duration::from_hours(24);

fn spans() -> Spans {
    Spans { ca_life: DAY * 3650, serving_life: DAY * 90, overlap: Duration::from_mins(10) }
}

fn start() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn authority() -> Authority {
    Authority::make(start(), spans().ca_life).unwrap()
}

fn later(span: Duration) -> Timestamp {
    start().checked_add(span).unwrap()
}

#[test]
fn a_ca_is_what_it_says() {
    let authority = authority();
    let pem = authority.certificate().pem();
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&block.contents).unwrap();
    let constraints = certificate.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    assert_eq!(authority.certificate().not_before(), later(Duration::ZERO) - Duration::from_mins(5));
    assert_eq!(authority.certificate().not_after(), later(DAY * 3650));
    let name = certificate.subject().to_string();
    assert!(name.starts_with("CN=waggle-ca-"), "{name}");
    let other = Authority::make(start(), spans().ca_life).unwrap();
    assert_ne!(
        CaCertificate::read_all(other.certificate().pem().as_bytes()).unwrap()[0],
        *authority.certificate()
    );
    assert!(!format!("{authority:?}").contains("PRIVATE"), "keys are not printed");
}

#[test]
fn a_leaf_proves_the_names_of_both_services_and_nothing_else() {
    let authority = authority();
    let names = dns_names(&["waggle-aggregator", "waggle-ingest"], "waggle-system", "cluster.local");
    assert_eq!(
        names,
        [
            "waggle-aggregator.waggle-system.svc",
            "waggle-aggregator.waggle-system.svc.cluster.local",
            "waggle-aggregator.waggle-system",
            "waggle-ingest.waggle-system.svc",
            "waggle-ingest.waggle-system.svc.cluster.local",
            "waggle-ingest.waggle-system",
        ]
    );
    let serving = authority.sign(&names, start(), spans().serving_life).unwrap();
    assert_eq!(serving.not_before(), start() - Duration::from_mins(5));
    assert_eq!(serving.not_after(), later(DAY * 90));
    let chain = serving.chain();
    assert_eq!(chain.len(), 1);
    let leaf = EndEntityCert::try_from(&chain[0]).unwrap();
    for name in &names {
        leaf.verify_is_valid_for_subject_name(&ServerName::try_from(name.as_str()).unwrap()).unwrap();
    }
    for name in ["localhost", "waggle-aggregator", "kubernetes.default.svc"] {
        leaf.verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap()).unwrap_err();
    }
    let ca = x509_parser::pem::parse_x509_pem(authority.certificate().pem().as_bytes()).unwrap().1.contents;
    let ca = ca.into();
    let anchors = [anchor_from_trusted_cert(&ca).unwrap()];
    let verify = |seconds: i64, usage| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds.unsigned_abs()));
        leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &[], time, usage, None, None).map(|_| ())
    };
    let second = start().as_second();
    verify(second, KeyUsage::server_auth()).unwrap();
    verify(second - 299, KeyUsage::server_auth()).unwrap();
    verify(second - 301, KeyUsage::server_auth()).unwrap_err();
    verify(second + 90 * 86400 + 1, KeyUsage::server_auth()).unwrap_err();
    verify(second, KeyUsage::client_auth()).unwrap_err();
}

#[test]
fn a_leaf_does_not_outlive_its_ca() {
    let authority = Authority::make(start(), DAY * 10).unwrap();
    let serving = authority.sign(&["a.b.svc".to_owned()], later(DAY), DAY * 90).unwrap();
    assert_eq!(serving.not_after(), later(DAY * 10));
}

#[test]
fn the_secret_reads_back_as_written() {
    let (first, second, third) = (authority(), authority(), authority());
    let old = Old {
        certificates: vec![second.certificate().clone(), third.certificate().clone()],
        until: later(DAY),
    };
    let whole = Contents {
        current: Some(first.clone()),
        next: Some(Next { authority: second.clone(), published: Some(start()) }),
        old: Some(old),
        rotate: true,
    };
    let next = Some(Next { authority: second.clone(), published: None });
    for contents in [
        Contents::default(),
        Contents { current: Some(first.clone()), ..Contents::default() },
        Contents { next, ..whole.clone() },
        whole,
    ] {
        assert_eq!(Contents::read(&contents.write()), Ok(contents));
    }
    let data = Contents { current: Some(first), ..Contents::default() }.write();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["ca.crt", "ca.key"]);
}

#[test]
fn a_torn_or_foreign_secret_is_named() {
    let (first, second) = (authority(), authority());
    let next = Some(Next { authority: second.clone(), published: Some(start()) });
    let good = Contents { current: Some(first), next, ..Contents::default() }.write();
    let text = |text: &str| Some(ByteString(text.as_bytes().to_vec()));
    for (key, value, says) in [
        ("ca.key", None, r#"it has "ca.crt" without "ca.key""#),
        ("ca.crt", None, r#"it has "ca.key" without "ca.crt""#),
        (
            "ca.key",
            text(second.key_pem()),
            r#""ca.crt" cannot be read: the key is not that of the certificate"#,
        ),
        ("ca.key", text("torn"), r#""ca.crt" cannot be read: the key cannot be read"#),
        ("ca.crt", text("torn"), r#""ca.crt" cannot be read: there must be one certificate"#),
        ("ca.crt", text(&second.certificate().pem()[..300]), r#""ca.crt" cannot be read"#),
        ("next.published", text("yesterday"), r#""next.published" cannot be read"#),
        ("old.crt", text(&second.certificate().pem()), r#"it has "old.crt" without "old.until""#),
        ("tls.crt", text("x"), r#"it has a key "tls.crt", which is none of Waggle's"#),
    ] {
        let mut data = good.clone();
        match value {
            Some(value) => data.insert(key.to_owned(), value),
            None => data.remove(key),
        };
        let error = Contents::read(&data).unwrap_err().to_string();
        assert!(error.starts_with(says), "{key}: {error}");
    }
    let leaf = authority().sign(&["a.b.svc".to_owned()], start(), DAY).unwrap();
    let leaf = CaCertificate::read_all(pem_of(&leaf).as_bytes()).unwrap_err();
    assert_eq!(leaf, "certificate 1: it is not the certificate of a CA");
}

fn pem_of(serving: &crate::tls::Serving) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(&serving.chain()[0]);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// One replica's world, changed by the steps that it takes.
struct World {
    now: Timestamp,
    contents: Contents,
    config_map: Held,
    api_services: [Held; 2],
    leaf: Option<Leaf>,
    remembered: Vec<CaCertificate>,
}

impl World {
    fn shipped() -> Self {
        let empty = || Held::Bundle(String::new());
        Self {
            now: start(),
            contents: Contents::default(),
            config_map: empty(),
            api_services: [empty(), empty()],
            leaf: None,
            remembered: Vec::new(),
        }
    }

    fn next(&self) -> Step {
        let seen = Seen {
            now: self.now,
            contents: &self.contents,
            config_map: &self.config_map,
            api_services: &self.api_services,
            leaf: self.leaf,
            remembered: &self.remembered,
        };
        next_step(&spans(), &seen)
    }

    /// Takes steps until there is none, and says which.
    fn settle(&mut self) -> Vec<&'static str> {
        let mut taken = Vec::new();
        loop {
            let step = self.next();
            assert!(taken.len() < 10, "{taken:?} and then {step:?}");
            taken.push(match step {
                Step::Make(slot, mut contents) => {
                    let authority = Authority::make(self.now, spans().ca_life).unwrap();
                    match slot {
                        Slot::Current => contents.current = Some(authority),
                        Slot::Next => contents.next = Some(Next { authority, published: None }),
                    }
                    self.contents = contents;
                    "make"
                }
                Step::Write(contents) => {
                    self.contents = contents;
                    "write"
                }
                Step::Publish(bundle) => {
                    for held in self.api_services.iter_mut().chain([&mut self.config_map]) {
                        if matches!(held, Held::Bundle(_)) {
                            *held = Held::Bundle(bundle.clone());
                        }
                    }
                    "publish"
                }
                Step::Sign(slot) => {
                    let issuer = match slot {
                        Slot::Current => self.contents.current.as_ref().unwrap(),
                        Slot::Next => &self.contents.next.as_ref().unwrap().authority,
                    };
                    let issuer = issuer.certificate().fingerprint();
                    let not_after = self.now.checked_add(spans().serving_life).unwrap();
                    self.leaf = Some(Leaf { issuer, signed: self.now, not_after });
                    "sign"
                }
                Step::Rest => return taken,
            });
        }
    }

    fn wait(&mut self, span: Duration) {
        self.now = self.now.checked_add(span).unwrap();
    }

    fn signer(&self) -> Fingerprint {
        self.contents.current.as_ref().unwrap().certificate().fingerprint()
    }
}

#[test]
fn the_first_start_makes_publishes_and_only_then_signs() {
    let mut world = World::shipped();
    assert_eq!(world.settle(), ["make", "publish", "sign"]);
    assert_eq!(world.leaf.unwrap().issuer, world.signer());
    world.wait(DAY * 59);
    assert!(world.settle().is_empty());
    world.wait(DAY);
    assert_eq!(world.settle(), ["sign"], "at two thirds of its life");
}

#[test]
fn a_second_replica_only_signs() {
    let mut first = World::shipped();
    first.settle();
    let mut second = World { leaf: None, ..first };
    assert_eq!(second.settle(), ["sign"]);
}

#[test]
fn nothing_is_signed_before_it_is_published_everywhere() {
    let mut world = World::shipped();
    world.api_services[1] = Held::Unknown;
    assert_eq!(world.settle(), ["make", "publish"]);
    assert_eq!(world.leaf, None);
    world.api_services[1] = Held::Absent;
    assert_eq!(world.settle(), ["sign"], "nobody reads what does not exist");
}

#[test]
fn renewal_under_the_same_ca_waits_for_nobody() {
    let mut world = World::shipped();
    world.settle();
    world.wait(DAY * 61);
    world.config_map = Held::Unknown;
    assert_eq!(world.settle(), ["sign"]);
}

#[test]
fn a_rotation_overlaps() {
    let mut world = World::shipped();
    world.settle();
    let (first, leaf) = (world.signer(), world.leaf);
    world.contents.rotate = true;
    assert_eq!(world.settle(), ["make", "publish", "write"]);
    assert!(!world.contents.rotate, "one request, one rotation");
    assert_eq!((world.signer(), world.leaf), (first, leaf), "the next one signs nothing yet");
    assert_eq!(world.contents.trusted().len(), 2);
    world.wait(Duration::from_secs(599));
    assert!(world.settle().is_empty());
    world.wait(Duration::from_secs(1));
    assert_eq!(world.settle(), ["write", "sign"], "everybody knows it already");
    assert_ne!(world.signer(), first);
    assert_eq!(world.leaf.unwrap().issuer, world.signer());
    assert!(world.contents.trusted().iter().any(|old| old.fingerprint() == first));
    world.wait(spans().overlap + DAY * 59);
    assert!(world.settle().is_empty());
    world.wait(DAY * 31 + Duration::from_secs(1));
    let steps = world.settle();
    assert_eq!(steps, ["write", "publish", "sign"], "the old one's last leaf has ended, the own one is due");
    assert_eq!(world.contents.trusted().len(), 1);
}

#[test]
fn a_ca_is_replaced_at_two_thirds() {
    let mut world = World::shipped();
    world.settle();
    let first = world.signer();
    world.wait(DAY * 2400);
    world.settle();
    assert!(world.contents.next.is_none());
    world.wait(DAY * 34);
    assert_eq!(world.settle().first(), Some(&"make"));
    world.wait(spans().overlap);
    world.settle();
    assert_ne!(world.signer(), first);
}

#[test]
fn drift_is_written_over() {
    let mut world = World::shipped();
    world.settle();
    for place in 0..3 {
        let held = if place == 2 { &mut world.config_map } else { &mut world.api_services[place] };
        let good = std::mem::replace(held, Held::Bundle(String::new()));
        assert_eq!(world.settle(), ["publish"]);
        let held = if place == 2 { &world.config_map } else { &world.api_services[place] };
        assert_eq!(*held, good);
    }
}

#[test]
fn a_lost_secret_makes_a_new_ca_and_keeps_trusting_the_old_one() {
    for remembers in [true, false] {
        let mut world = World::shipped();
        world.settle();
        let (first, leaf) = (world.contents.trusted(), world.leaf);
        world.contents = Contents::default();
        if remembers {
            // Somebody reset everything at once; the replica still knows.
            world.remembered.clone_from(&first);
            world.config_map = Held::Bundle(String::new());
            world.api_services = [Held::Bundle(String::new()), Held::Bundle(String::new())];
        }
        assert_eq!(world.settle(), ["make", "publish", "write"]);
        assert_eq!(world.leaf, leaf, "what is served goes on being served");
        assert!(world.contents.current.is_none());
        assert!(world.contents.trusted().contains(&first[0]));
        let mut fresh = World { leaf: None, contents: world.contents.clone(), ..World::shipped() };
        (fresh.config_map, fresh.api_services) = (world.config_map.clone(), world.api_services.clone());
        assert_eq!(fresh.settle(), ["sign"], "a replica without any certificate takes the new CA");
        world.wait(spans().overlap);
        assert_eq!(world.settle(), ["write", "sign"]);
        assert!(world.contents.trusted().contains(&first[0]), "leaves of the old one may still be served");
        world.wait(DAY * 91);
        world.settle();
        assert_eq!(world.contents.trusted().len(), 1);
    }
}

#[test]
fn a_ca_that_only_one_kind_of_place_has_is_not_taken_over() {
    let mut world = World::shipped();
    let stranger = authority().certificate().pem();
    world.config_map = Held::Bundle(stranger.clone());
    assert_eq!(world.settle(), ["make", "publish", "sign"]);
    assert!(!matches!(&world.config_map, Held::Bundle(text) if text.contains(&stranger)));
}
