//! The endpoint picker.

use kthena_bridge_api::DOMAIN;
use kthena_bridge_api::child::ChildKind;
use serde_json::{Value, json};

use super::config_map::{FILE, PLUGINS};
use super::{HEALTH_PORT, Input, METRICS_PORT, picker_labels};
use crate::exposure::ENDPOINT_PICKER_PORT;
use crate::names::short_hash;
use crate::observe::Cluster;

pub(super) fn build(input: &Input<'_>, cluster: &impl Cluster) -> Value {
    let names = &input.topology.names;
    let namespace = &input.topology.owner.namespace;
    let picker = &input.config.endpoint_picker;
    let labels = picker_labels(&input.topology.names.picker);
    let mut template_labels = json!(labels);
    // A sidecar would encrypt what the Gateway encrypts already.
    template_labels["sidecar.istio.io/inject"] = "false".into();

    let port =
        |name: &str, port: u16| json!({"name": name, "containerPort": port, "protocol": "TCP"});
    let probe = |period: u16| {
        json!({
            "grpc": {"port": HEALTH_PORT, "service": "inference-extension"},
            "periodSeconds": period,
            "timeoutSeconds": 1,
            "successThreshold": 1,
            "failureThreshold": 3,
        })
    };
    let mut liveness = probe(10);
    liveness["initialDelaySeconds"] = 5.into();
    // It is well by its own account before it has made its certificate and listens for the Gateway, which
    // fails every request meanwhile.
    let startup = json!({
        "tcpSocket": {"port": ENDPOINT_PICKER_PORT},
        "periodSeconds": 1,
        "timeoutSeconds": 1,
        "successThreshold": 1,
        "failureThreshold": 120,
    });
    let mut annotations = json!({format!("{DOMAIN}/config-hash"): config_hash(cluster)});
    // It forgets the rewrites and objectives of a pool that goes, and does not read them again when the
    // pool comes back: with another pool it has to be started anew.
    if let Some(pool) = input
        .topology
        .owner
        .child(ChildKind::InferencePool, cluster)
    {
        annotations[format!("{DOMAIN}/pool-uid")] = pool.uid().into();
    }
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    let mut object = input.head(ChildKind::Deployment, &names.picker);
    object["spec"] = json!({
        "replicas": 1,
        // Two pickers at once would each see half of the load.
        "strategy": {"type": "Recreate"},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {
                "labels": template_labels,
                "annotations": annotations,
            },
            "spec": {
                "serviceAccountName": names.picker,
                "serviceAccount": names.picker,
                "terminationGracePeriodSeconds": 130,
                "restartPolicy": "Always",
                "dnsPolicy": "ClusterFirst",
                "schedulerName": "default-scheduler",
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "epp",
                    "image": picker.image,
                    "imagePullPolicy": "IfNotPresent",
                    // One word each: v1.0 to v1.2 stop reading at the first word that is no flag.
                    "args": [
                        format!("--pool-name={}", names.model),
                        format!("--pool-namespace={namespace}"),
                        format!("--pool-group={}", ChildKind::InferencePool.group()),
                        "--zap-encoder=json",
                        format!("--config-file=/config/{FILE}"),
                        "--v=1",
                        "--tracing=false",
                        "--metrics-endpoint-auth=false",
                    ],
                    "env": [
                        field("NAMESPACE", "metadata.namespace"),
                        field("POD_NAME", "metadata.name"),
                    ],
                    "ports": [
                        port("grpc", ENDPOINT_PICKER_PORT),
                        port("grpc-health", HEALTH_PORT),
                        port("metrics", METRICS_PORT),
                    ],
                    "startupProbe": startup,
                    "livenessProbe": liveness,
                    "readinessProbe": probe(2),
                    "resources": {"requests": {"cpu": picker.cpu, "memory": picker.memory}},
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "readOnlyRootFilesystem": true,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                    "volumeMounts": [{"name": "config", "mountPath": "/config"}],
                }],
                "volumes": [{"name": "config", "configMap": {"name": names.picker, "defaultMode": 420}}],
            },
        },
    });
    object
}

/// The picker reads its configuration, and which kinds are served, once at its start: when either
/// changes it has to be started anew.
fn config_hash(cluster: &impl Cluster) -> String {
    let mut text = PLUGINS.to_owned();
    for kind in [
        ChildKind::InferenceObjective,
        ChildKind::InferenceModelRewrite,
    ] {
        if cluster.serves(kind) {
            text.push_str(kind.as_str());
        }
    }
    short_hash(text.as_bytes())
}
