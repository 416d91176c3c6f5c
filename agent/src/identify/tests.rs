use proptest::prelude::*;

use super::{ContainerId, locate};

const UID: &str = "d6b3f2a0-1c2d-4e5f-8a9b-0c1d2e3f4a5b";
const STATIC: &str = "0123456789abcdef0123456789abcdef";

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// One layout: the path, the pod it names, the container's digit, components below.
struct Row(&'static str, String, Option<(&'static str, Option<char>, usize)>);

fn row(what: &'static str, path: &str, expected: Option<(&'static str, Option<char>, usize)>) -> Row {
    let path = path
        .replace("UID_", &UID.replace('-', "_"))
        .replace("UID", UID)
        .replace("STATIC", STATIC)
        .replace("AAA", &id('a'))
        .replace("BBB", &id('b'));
    Row(what, path, expected)
}

/// Every row of the layout table in the collector contract, and the names that only look like one.
fn rows() -> Vec<Row> {
    let base = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice";
    let at = |rest: &str| format!("{base}/{rest}");
    let container = Some((UID, Some('a'), 0));
    let pod = Some((UID, None, 0));
    vec![
        row("systemd + containerd", &at("cri-containerd-AAA.scope"), container),
        row("systemd, the pod", base, pod),
        row(
            "systemd, guaranteed",
            "/kubepods.slice/kubepods-podUID_.slice/cri-containerd-AAA.scope",
            container,
        ),
        row("systemd + CRI-O", &at("crio-AAA.scope"), container),
        row(
            "CRI-O's monitor is the pod's, not a container",
            &at("crio-conmon-AAA.scope"),
            Some((UID, None, 1)),
        ),
        row("CRI-O's sandbox has no .scope", &at("crio-AAA"), container),
        row("crun's child folds", &at("crio-AAA.scope/container"), Some((UID, Some('a'), 1))),
        row("systemd + docker", &at("docker-AAA.scope"), container),
        row("cgroupfs + containerd", "/kubepods/burstable/podUID/AAA", container),
        row("cgroupfs, guaranteed", "/kubepods/podUID/AAA", container),
        row("cgroupfs + CRI-O", "/kubepods/besteffort/podUID/crio-AAA", container),
        row("cgroupfs, the pod", "/kubepods/podUID", pod),
        row(
            "driver mismatch",
            "/system.slice/containerd.service/kubepods-burstable-podUID_.slice:cri-containerd:AAA",
            container,
        ),
        row(
            "driver mismatch with a prefix",
            "/kubelet-kubepods-podUID_.slice:cri-containerd:AAA/init",
            Some((UID, Some('a'), 1)),
        ),
        row(
            "--cgroup-root",
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/\
             kubelet-kubepods-burstable-podUID_.slice/cri-containerd-AAA.scope",
            container,
        ),
        row(
            "nested kind: the outer container is no container of the cluster",
            "/docker/BBB/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID_.slice/\
             cri-containerd-AAA.scope",
            container,
        ),
        row("nested k3d", "/system.slice/docker-BBB.scope/kubepods/podUID/AAA", container),
        row("nested k3d, the pod", "/system.slice/docker-BBB.scope/kubepods/podUID", pod),
        row(
            "a cluster in a pod: the last kubepods counts",
            "/kubepods/podSTATIC/BBB/kubepods/burstable/podUID/AAA",
            container,
        ),
        row("static pod", "/kubepods.slice/kubepods-podSTATIC.slice", Some((STATIC, None, 0))),
        row("static pod, cgroupfs", "/kubepods/podSTATIC/AAA", Some((STATIC, Some('a'), 0))),
        row("Kata: one sandbox cgroup", &at("kata_overhead"), Some((UID, None, 1))),
        row(
            "systemd in a container",
            &at("cri-containerd-AAA.scope/system.slice/x.service"),
            Some((UID, Some('a'), 2)),
        ),
        row("docker in a container", &at("cri-containerd-AAA.scope/docker/BBB"), Some((UID, Some('a'), 2))),
        row("a mount unit", &at("var-lib-x.mount"), Some((UID, None, 1))),
        row("the root of all pods", "/kubepods.slice", None),
        row("a QoS class", "/kubepods.slice/kubepods-burstable.slice", None),
        row("outside", "/system.slice/docker-AAA.scope", None),
        row("docker's own", "/docker/AAA", None),
        row("kubepods as part of a name", "/mykubepods/podUID/AAA", None),
        row("no dash before kubepods.slice", "/xkubepods.slice/podUID", None),
        row("UID of a wrong length", "/kubepods/podd6b3f2a0/AAA", None),
        row("UID with other letters", "/kubepods/podZ6b3f2a0-1c2d-4e5f-8a9b-0c1d2e3f4a5b", None),
        row("a container outside a pod", "/kubepods/AAA", None),
        row("pod only above kubepods", "/podUID/kubepods/AAA", None),
        row(
            "container id of 63 digits",
            &format!("/kubepods/podUID/{}", &id('a')[1..]),
            Some((UID, None, 1)),
        ),
        row("container id in capitals", &format!("/kubepods/podUID/{}", id('A')), Some((UID, None, 1))),
        row("mismatch without kubepods", "/x-podUID_.slice:cri-containerd:AAA", None),
        row("empty", "", None),
        row("slashes", "////", None),
        row("doubled slashes", "//kubepods//podUID//AAA/", container),
        row("another script", "/kubepods/pod½½½½½½½½½½½½½½½½/AAA", None),
    ]
}

#[test]
fn every_layout() {
    for Row(what, path, expected) in rows() {
        let found = locate(&path);
        let found = found.as_ref().map(|l| (l.identity.pod.as_str(), l.identity.container, l.below));
        let expected = expected
            .map(|(pod, digit, below)| (pod, digit.and_then(|d| ContainerId::from_hex(&id(d))), below));
        assert_eq!(found, expected, "{what}: {path}");
    }
}

#[test]
fn classes_are_told_from_pods_and_others() {
    for class in ["burstable", "besteffort", "kubepods-burstable.slice", "kubelet-kubepods-besteffort.slice"]
    {
        assert!(super::is_class(class), "{class}");
    }
    let pod = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
    for other in ["", "guaranteed", "kubepods", "kubepods.slice", "x-burstable", "burstable.service", &pod] {
        assert!(!super::is_class(other), "{other}");
    }
}

#[test]
fn a_container_id_reads_back() {
    let text = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    assert_eq!(ContainerId::from_hex(text).unwrap().to_string(), text);
}

/// Components that mean something to the parser, and some that do not.
fn component() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("kubepods".to_owned()),
        Just("kubepods.slice".to_owned()),
        Just("kubelet-kubepods.slice".to_owned()),
        Just("burstable".to_owned()),
        Just(format!("pod{UID}")),
        Just(format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"))),
        Just(format!("kubepods-pod{UID}.slice:cri-containerd:{}", id('c'))),
        Just(format!("crio-conmon-{}.scope", id('d'))),
        Just(format!("cri-containerd-{}.scope", id('a'))),
        Just(id('b')),
        "[-_:.a-zµ€]{0,12}",
    ]
}

proptest! {
    #[test]
    fn any_text_is_taken(path in "\\PC{0,200}") {
        let _ = locate(&path);
    }

    /// What lies below a container belongs to it, however deep and however named, unless another kubepods begins there.
    #[test]
    fn a_containers_descendants_are_the_container(
        parts in proptest::collection::vec(component(), 0..8),
        deeper in proptest::collection::vec("[a-z0-9:.-]{1,70}", 0..4),
    ) {
        let path = format!("/{}", parts.join("/"));
        prop_assume!(deeper.iter().all(|part| !super::is_kubepods(part)));
        if let Some(above) = locate(&path).filter(|found| found.identity.container.is_some()) {
            let below = locate(&format!("{path}/{}", deeper.join("/"))).unwrap();
            prop_assert_eq!(&below.identity, &above.identity);
            prop_assert_eq!(below.below, above.below + deeper.len());
        }
    }

    /// The prefix that ends at the naming component names the same, with nothing below.
    #[test]
    fn the_naming_prefix_names_the_same(parts in proptest::collection::vec(component(), 0..8)) {
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        if let Some(found) = locate(&parts.join("/")) {
            let prefix = locate(&parts[..parts.len() - found.below].join("/")).unwrap();
            prop_assert_eq!(prefix.identity, found.identity);
            prop_assert_eq!(prefix.below, 0);
        }
    }
}
