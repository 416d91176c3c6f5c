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
pub struct ApiResourceList(pub Version);

impl Message for ApiResourceList {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, self.0.api_version());
        to.message(2, &ApiResource { name: "nodes", namespaced: false, kind: "NodeMetrics" });
        to.message(2, &ApiResource { name: "pods", namespaced: true, kind: "PodMetrics" });
    }
}

struct ApiResource {
    name: &'static str,
    namespaced: bool,
    kind: &'static str,
}

impl Message for ApiResource {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, self.name);
        to.number(2, self.namespaced.into());
        to.text(3, self.kind);
        to.message(4, &Verbs);
        to.text(6, "");
    }
}

struct Verbs;

impl Message for Verbs {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, "get");
        to.text(1, "list");
    }
}

/// The aggregated document.
pub struct ApiGroupDiscoveryList;

impl Message for ApiGroupDiscoveryList {
    fn fields(&self, to: &mut impl Fields) {
        to.message(1, &ListMeta);
        to.message(2, &ApiGroupDiscovery);
    }
}

struct ApiGroupDiscovery;

impl Message for ApiGroupDiscovery {
    fn fields(&self, to: &mut impl Fields) {
        to.message(1, &GroupMeta);
        for version in Version::ALL {
            to.message(2, &ApiVersionDiscovery(version));
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

struct ApiVersionDiscovery(Version);

impl Message for ApiVersionDiscovery {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, self.0.name());
        to.message(2, &ApiResourceDiscovery { name: "nodes", scope: "Cluster", kind: "NodeMetrics" });
        to.message(2, &ApiResourceDiscovery { name: "pods", scope: "Namespaced", kind: "PodMetrics" });
        to.text(3, "Current");
    }
}

struct ApiResourceDiscovery {
    name: &'static str,
    scope: &'static str,
    kind: &'static str,
}

impl Message for ApiResourceDiscovery {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, self.name);
        to.message(2, &ResponseKind(self.kind));
        to.text(3, self.scope);
        to.text(4, "");
        to.text(5, "get");
        to.text(5, "list");
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
