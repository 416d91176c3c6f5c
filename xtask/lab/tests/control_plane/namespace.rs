//! What a namespace waits for.

use std::time::Duration;

use tokio::time::sleep;

use crate::world::{FLAGS, behind, wait};

/// The namespace controller asks every API for what is in a namespace before it lets it go, and cannot know what an API
/// holds that does not answer.
#[test]
#[ignore = "needs a real control plane: cargo xtask test"]
fn a_namespace_deleted_while_nobody_serves_goes_once_somebody_does() {
    behind(async |plane| {
        plane.kubectl(&["create", "namespace", "leaving"]).await.unwrap();
        assert!(plane.kill_aggregator().unwrap());
        wait(plane, "the API server sees that nobody serves", Duration::from_mins(1), async || {
            let object =
                plane.get("/apis/apiregistration.k8s.io/v1/apiservices/v1.metrics.k8s.io").await.unwrap();
            object["status"]["conditions"].as_array().unwrap().iter().any(|one| one["status"] == "False")
        })
        .await;
        plane.kubectl(&["delete", "namespace", "leaving", "--wait=false"]).await.unwrap();
        let path = "/api/v1/namespaces/leaving";
        wait(plane, "the namespace says why it waits", Duration::from_secs(30), async || {
            let object = plane.get(path).await.unwrap();
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|one| {
                one["type"] == "NamespaceDeletionDiscoveryFailure"
                    && one["status"] == "True"
                    && one["message"].to_string().contains("metrics.k8s.io")
            })
        })
        .await;
        sleep(Duration::from_secs(2)).await;
        assert_eq!(plane.get(path).await.unwrap()["status"]["phase"], "Terminating");

        plane.start_aggregator(&FLAGS).await.unwrap();
        plane.wait_available().await.unwrap();
        wait(plane, "the namespace goes", Duration::from_mins(1), async || plane.get(path).await.is_err())
            .await;
    });
}
