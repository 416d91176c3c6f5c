//! The legacy documents as messages of `k8s.io.apimachinery.pkg.apis.meta.v1`.

use super::Version;
use crate::api::{
    protobuf::{Fields, Message},
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
