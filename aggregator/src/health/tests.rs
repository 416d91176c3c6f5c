use super::*;

/// Fails the checks that it names.
struct Failing(&'static [Check]);

impl Probe for Failing {
    fn check(&self, check: Check) -> Result<(), String> {
        if self.0.contains(&check) { Err("a cause".to_owned()) } else { Ok(()) }
    }
}

fn body(probe: &Failing, path: &str, verbose: bool, exclude: &[&str]) -> (bool, String) {
    let report = report(probe, path, verbose, exclude.iter().copied()).unwrap();
    (report.healthy, report.body)
}

#[test]
fn verbose_bodies_are_those_of_the_upstream_suite() {
    let head = "[+]ping ok\n[+]log ok\n[+]poststarthook/max-in-flight-filter ok\n\
                [+]poststarthook/storage-object-count-tracker-hook ok\n";
    for (path, tail) in [
        (
            "/readyz",
            "[+]metric-storage-ready ok\n[+]metric-informer-sync ok\n[+]metadata-informer-sync ok\n[+]shutdown ok\n\
             readyz check passed\n",
        ),
        ("/livez", "[+]metric-collection-timely ok\n[+]metadata-informer-sync ok\nlivez check passed\n"),
        ("/healthz", "[+]metadata-informer-sync ok\nhealthz check passed\n"),
    ] {
        assert_eq!(body(&Failing(&[]), path, true, &[]), (true, format!("{head}{tail}")), "{path}");
        assert_eq!(body(&Failing(&[]), path, false, &[]), (true, "ok".to_owned()), "{path}");
    }
}

#[test]
fn failures_are_always_verbose_and_withhold_their_reason() {
    let failing = Failing(&[Check::Shutdown, Check::StorageReady]);
    let expected = "[+]ping ok\n[+]log ok\n[+]poststarthook/max-in-flight-filter ok\n\
                    [+]poststarthook/storage-object-count-tracker-hook ok\n\
                    [-]metric-storage-ready failed: reason withheld\n[+]metric-informer-sync ok\n\
                    [+]metadata-informer-sync ok\n[-]shutdown failed: reason withheld\nreadyz check failed\n";
    assert_eq!(body(&failing, "/readyz", false, &[]), (false, expected.to_owned()));
    assert_eq!(body(&failing, "/livez", false, &[]).1, "ok");
}

#[test]
fn checks_can_be_excluded() {
    let failing = Failing(&[Check::PodsSynced]);
    let expected = "[+]ping ok\n[+]log excluded: ok\n[+]poststarthook/max-in-flight-filter ok\n\
                    [+]poststarthook/storage-object-count-tracker-hook ok\n[+]metadata-informer-sync excluded: ok\n\
                    warn: some health checks cannot be excluded: no matches for \"\",\"x\"\nhealthz check passed\n";
    let exclude = ["metadata-informer-sync", "log", "x", ""];
    assert_eq!(body(&failing, "/healthz", true, &exclude), (true, expected.to_owned()));
}

#[test]
fn each_check_has_a_path() {
    let failing = Failing(&[Check::AgentListener]);
    assert_eq!(body(&failing, "/readyz/ping", false, &[]), (true, "ok".to_owned()));
    assert_eq!(
        body(&failing, "/livez/poststarthook/max-in-flight-filter", false, &[]),
        (true, "ok".to_owned())
    );
    let (healthy, text) = body(&failing, "/readyz/agent-listener-ready", false, &[]);
    assert_eq!((healthy, &*text), (false, "internal server error: a cause\n"));
    for path in ["/readyz/nope", "/nope", "/nope/ping", "readyz"] {
        assert_eq!(report(&failing, path, false, std::iter::empty()), None, "{path}");
    }
}
