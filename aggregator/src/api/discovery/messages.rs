//! The documents as messages: the legacy ones of `k8s.io.apimachinery.pkg.apis.meta.v1`, the aggregated one of
//! `k8s.io.api.apidiscovery.v2`.

use super::Version;
use crate::api::{
    protobuf::{Fields, ListMeta, Message},
    status::GROUP,
};

/// The one group in a list.
pub struct ApiGroupList<'a>(pub &'a ApiGroup);

impl Message for ApiGroupList<'_> {
    fn fields(&self, to: &mut impl Fields) {
        to.message(1, self.0);
    }
}

/// The group, its server reached at `address`.
pub struct ApiGroup {
    pub address: String,
}

impl Message for ApiGroup {
    fn fields(&self, to: &mut impl Fields) {
        let [preferred, _] = Version::ALL;
        to.text(1, GROUP);
        for version in Version::ALL {
            to.message(2, &GroupVersion(version));
        }
        to.message(3, &GroupVersion(preferred));
        to.message(4, &ServerAddress(&self.address));
    }
}

struct GroupVersion(Version);

impl Message for GroupVersion {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, self.0.api_version());
        to.text(2, self.0.name());
    }
}

struct ServerAddress<'a>(&'a str);

impl Message for ServerAddress<'_> {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, "0.0.0.0/0");
        to.text(2, self.0);
    }
}

/// The resources of a version.
pub struct ApiResourceList<'a>(pub Version, pub &'a [&'a str]);

impl Message for ApiResourceList<'_> {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, self.0.api_version());
        let verbs = self.1;
        to.message(2, &ApiResource { name: "nodes", namespaced: false, kind: "NodeMetrics", verbs });
        to.message(2, &ApiResource { name: "pods", namespaced: true, kind: "PodMetrics", verbs });
    }
}

struct ApiResource<'a> {
    name: &'static str,
    namespaced: bool,
    kind: &'static str,
    verbs: &'a [&'a str],
}

impl Message for ApiResource<'_> {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, self.name);
        to.number(2, self.namespaced.into());
        to.text(3, self.kind);
        to.message(4, &Verbs(self.verbs));
        to.text(6, "");
    }
}

struct Verbs<'a>(&'a [&'a str]);

impl Message for Verbs<'_> {
    fn fields(&self, to: &mut impl Fields) {
        for verb in self.0 {
            to.text(1, verb);
        }
    }
}

/// The aggregated document.
pub struct ApiGroupDiscoveryList<'a>(pub &'a [&'a str]);

impl Message for ApiGroupDiscoveryList<'_> {
    fn fields(&self, to: &mut impl Fields) {
        to.message(1, &ListMeta);
        to.message(2, &ApiGroupDiscovery(self.0));
    }
}

struct ApiGroupDiscovery<'a>(&'a [&'a str]);

impl Message for ApiGroupDiscovery<'_> {
    fn fields(&self, to: &mut impl Fields) {
        to.message(1, &GroupMeta);
        for version in Version::ALL {
            to.message(2, &ApiVersionDiscovery(version, self.0));
        }
    }
}

/// `ObjectMeta` of the group: its name, and the time that is always written.
struct GroupMeta;

impl Message for GroupMeta {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, GROUP);
        to.message(8, &ListMeta);
    }
}

struct ApiVersionDiscovery<'a>(Version, &'a [&'a str]);

impl Message for ApiVersionDiscovery<'_> {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, self.0.name());
        let verbs = self.1;
        to.message(2, &ApiResourceDiscovery { name: "nodes", scope: "Cluster", kind: "NodeMetrics", verbs });
        to.message(2, &ApiResourceDiscovery { name: "pods", scope: "Namespaced", kind: "PodMetrics", verbs });
        to.text(3, "Current");
    }
}

struct ApiResourceDiscovery<'a> {
    name: &'static str,
    scope: &'static str,
    kind: &'static str,
    verbs: &'a [&'a str],
}

impl Message for ApiResourceDiscovery<'_> {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, self.name);
        to.message(2, &ResponseKind(self.kind));
        to.text(3, self.scope);
        to.text(4, "");
        for verb in self.verbs {
            to.text(5, verb);
        }
    }
}

struct ResponseKind(&'static str);

impl Message for ResponseKind {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, "");
        to.text(2, "");
        to.text(3, self.0);
    }
}
