//! Section 7: Tables.

use serde_json::{Value, json};

use crate::world::{BASE, World, header};

#[test]
fn tables_are_those_of_the_contract() {
    World::shared().table("section 7", async |rows, client| {
        let columns = json!([
            {"name": "Name", "type": "string", "format": "name", "description": "Name of the resource", "priority": 0},
            {"name": "cpu", "type": "string", "format": "quantity", "description": "", "priority": 0},
            {"name": "memory", "type": "string", "format": "quantity", "description": "", "priority": 0},
            {"name": "Window", "type": "string", "format": "duration", "description": "", "priority": 0},
        ]);
        for meta in ["v1", "v1beta1"] {
            let ask = async |path: &str| {
                let accept = format!("application/json;as=Table;v={meta};g=meta.k8s.io");
                client.accepting(&format!("{BASE}/v1beta1/{path}"), &accept).await
            };
            let table = ask("namespaces/shop/pods").await;
            rows.same("type", header(&table, "content-type"), "application/json");
            let table = table.json();
            rows.same("kind", table["kind"].clone(), json!("Table"));
            rows.same("version", table["apiVersion"].clone(), json!(format!("meta.k8s.io/{meta}")));
            rows.same("columns", table["columnDefinitions"].clone(), columns.clone());
            let cells: Vec<Value> =
                table["rows"].as_array().unwrap().iter().map(|row| row["cells"].clone()).collect();
            // 3145732Ki + 4Ki + 12Ki, and 1234624492n + 0 + 1 + 1500u.
            let expected = [json!(["db-0", "250m", "50Mi", "2s"]), json!(["web-0", "2236124492n", "3145748Ki", "2s"])];
            rows.same("cells are sums", &*cells, &expected);
            let one = ask("nodes/node-a").await.json();
            rows.same("a node's cells", one["rows"][0]["cells"].clone(), json!(["node-a", "500m", "512Mi", "2s"]));

            let object = async |mode: &str| {
                let table = ask(&format!("namespaces/shop/pods/web-0?includeObject={mode}")).await.json();
                table["rows"][0].get("object").cloned()
            };
            for mode in ["", "Metadata"] {
                let partial = object(mode).await.unwrap();
                rows.same("metadata: kind", partial["kind"].clone(), json!("PartialObjectMetadata"));
                let version = json!(format!("meta.k8s.io/{meta}"));
                rows.same("metadata: version", partial["apiVersion"].clone(), version);
                rows.same("metadata: name", partial["metadata"]["name"].clone(), json!("web-0"));
                rows.same("metadata: no values", partial.get("containers"), None);
            }
            rows.same("None", object("None").await, Some(Value::Null));
            let whole = object("Object").await.unwrap();
            rows.same("Object", whole["containers"].as_array().unwrap().len(), 4);
            rows.same("Object: kind", whole["kind"].clone(), json!("PodMetrics"));

            let empty = ask("namespaces/nowhere/pods").await.json();
            rows.same("empty: columns", empty.get("columnDefinitions"), Some(&Value::Null));
            rows.same("empty: rows", empty.get("rows"), Some(&Value::Null));
        }
        let protobuf = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io";
        let refused = client.accepting(&format!("{BASE}/v1/pods"), protobuf).await;
        rows.same("as protobuf", refused.status.as_u16(), 406);
    });
}

#[test]
fn a_table_comes_as_yaml_too() {
    World::shared().table("section 7, YAML", async |rows, client| {
        let accept = "application/yaml;as=Table;v=v1;g=meta.k8s.io";
        let table = client.accepting(&format!("{BASE}/v1/nodes"), accept).await;
        rows.same("status", table.status.as_u16(), 200);
        rows.same("type", header(&table, "content-type"), "application/yaml");
        for line in ["apiVersion: meta.k8s.io/v1", "kind: Table"] {
            rows.holds(line, table.body.lines().any(|known| known == line), &table.body);
        }
    });
}
