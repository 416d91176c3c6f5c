//! Cgroup paths: their components are named by the kubelet, by runtimes, and by whoever has a writable cgroupfs.

use waggle_agent::identify::{Identity, locate};

use crate::{Target, owned};

pub const TARGET: Target = Target {
    name: "agent-paths",
    run,
    seeds: || {
        let id = "0123456789abcdef".repeat(4);
        let (pod, slice) = ("d6b3f2a0-1c2d-4e5f-8a9b-0c1d2e3f4a5b", "d6b3f2a0_1c2d_4e5f_8a9b_0c1d2e3f4a5b");
        owned(&[
            &format!("/kubepods/burstable/pod{pod}/{id}"),
            &format!("/kubepods/pod{pod}"),
            &format!("/kubepods.slice/kubepods-pod{slice}.slice/cri-containerd-{id}.scope"),
            &format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{slice}.slice/crio-{id}.scope/container"
            ),
            &format!("/kubepods.slice/kubepods-pod{slice}.slice/crio-conmon-{id}.scope"),
            &format!(
                "/system.slice/containerd.service/kubepods-burstable-pod{slice}.slice:cri-containerd:{id}"
            ),
            &format!("/docker/{id}/kubelet/kubepods/burstable/pod{}/{id}", "0123456789abcdef".repeat(2)),
            "/system.slice/sshd.service",
        ])
    },
    words: &[
        "/",
        "kubepods",
        "kubepods.slice",
        "kubelet-kubepods.slice",
        "kubepods-besteffort.slice",
        "/pod",
        "-pod",
        ".slice",
        ".scope",
        ":cri-containerd:",
        "crio-conmon-",
        "d6b3f2a0-1c2d-4e5f-8a9b-0c1d2e3f4a5b",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ],
};

fn run(bytes: &[u8]) {
    let Ok(path) = std::str::from_utf8(bytes) else { return };
    let found = locate(path).map(|location| location.identity);
    if let Some(identity) = &found {
        check(identity, path);
    }
    // What stands around a pod's cgroup does not change whose it is.
    let nested = locate(&format!("/outer.slice/{path}")).map(|location| location.identity);
    assert_eq!(nested, found, "below another cgroup: {path:?}");
    let inside = locate(&format!("{path}/init.scope")).map(|location| location.identity);
    assert_eq!(inside, found, "a cgroup in it: {path:?}");
    let doubled = locate(&path.replace('/', "//")).map(|location| location.identity);
    assert_eq!(doubled, found, "empty components: {path:?}");
}

/// An identity is of the documented form, and taken from the path: nothing is made up.
fn check(identity: &Identity, path: &str) {
    let uid = identity.pod.as_str();
    let digits = |text: &str| text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let groups: Vec<&str> = uid.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    assert!(lengths == [32] || lengths == [8, 4, 4, 4, 12], "{uid:?} in {path:?}");
    assert!(groups.iter().all(|group| digits(group)), "{uid:?} in {path:?}");
    assert!(path.replace('_', "-").contains(&format!("pod{uid}")), "{uid:?} in {path:?}");
    if let Some(container) = identity.container {
        let id = container.to_string();
        assert!(id.len() == 64 && digits(&id) && path.contains(&id), "{id:?} in {path:?}");
    }
}
