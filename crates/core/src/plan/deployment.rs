//! The endpoint picker.

use std::collections::BTreeMap;

use kthena_bridge_api::DOMAIN;
use kthena_bridge_api::child::ChildKind;
use serde::Serialize;
use serde_json::{Value, json};

use super::config_map::{self, FILE};
use super::{HEALTH_PORT, Input, METRICS_PORT, picker_labels};
use crate::config::{EndpointPickerConfig, EnvVar};
use crate::exposure::ENDPOINT_PICKER_PORT;
use crate::names::short_hash;
use crate::observe::Cluster;

pub(super) fn build(input: &Input<'_>, cluster: &impl Cluster) -> Value {
    let names = &input.topology.names;
    let picker = &input.picker;
    let labels = picker_labels(&names.picker);
    let mut template_labels = json!(labels);
    // A sidecar would encrypt what the Gateway encrypts already.
    template_labels["sidecar.istio.io/inject"] = "false".into();
    let mut annotations = json!({format!("{DOMAIN}/config-hash"): config_hash(input, cluster)});
    // It forgets the rewrites and objectives of a pool that goes, and does not read them again when the
    // pool comes back: with another pool it has to be started anew.
    if let Some(pool) = input
        .topology
        .owner
        .child(ChildKind::InferencePool, cluster)
    {
        annotations[format!("{DOMAIN}/pool-uid")] = pool.uid().into();
    }
    let mut pod = json!({
        "serviceAccountName": names.picker,
        "serviceAccount": names.picker,
        "terminationGracePeriodSeconds": 130,
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container(input)],
        "volumes": [{"name": "config", "configMap": {"name": names.picker, "defaultMode": 420}}],
    });
    schedule(&mut pod, picker, &labels);
    let mut object = input.head(ChildKind::Deployment, &names.picker);
    object["spec"] = json!({
        "replicas": picker.replicas,
        // Two pickers at once would each see half of the load. And a new one of several is ready only when
        // the old leader is gone, which a rolling update would wait for.
        "strategy": {"type": "Recreate"},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {
                "labels": template_labels,
                "annotations": annotations,
            },
            "spec": pod,
        },
    });
    object
}

fn container(input: &Input<'_>) -> Value {
    let picker = &input.picker;
    let port =
        |name: &str, port: u16| json!({"name": name, "containerPort": port, "protocol": "TCP"});
    // Of several, one leads; the others are alive and not ready.
    let probe = |of_several: &str, period: u16| {
        let service = if picker.replicas.get() > 1 {
            of_several
        } else {
            "inference-extension"
        };
        json!({
            "grpc": {"port": HEALTH_PORT, "service": service},
            "periodSeconds": period,
            "timeoutSeconds": 1,
            "successThreshold": 1,
            "failureThreshold": 3,
        })
    };
    let mut liveness = probe("liveness", 10);
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
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    let mut env = vec![
        field("NAMESPACE", "metadata.namespace"),
        field("POD_NAME", "metadata.name"),
    ];
    env.extend(picker.env.iter().map(variable));
    json!({
        "name": "epp",
        "image": picker.image(),
        "imagePullPolicy": picker.image_pull_policy,
        "args": arguments(input),
        "env": env,
        "ports": [
            port("grpc", ENDPOINT_PICKER_PORT),
            port("grpc-health", HEALTH_PORT),
            port("metrics", METRICS_PORT),
        ],
        "startupProbe": startup,
        "livenessProbe": liveness,
        "readinessProbe": probe("readiness", 2),
        "resources": without_empty(&picker.resources),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": [{"name": "config", "mountPath": "/config"}],
    })
}

/// What decides where its pods run, and whether they may.
fn schedule(pod: &mut Value, picker: &EndpointPickerConfig, labels: &BTreeMap<String, String>) {
    if !picker.image_pull_secrets.is_empty() {
        pod["imagePullSecrets"] = json!(picker.image_pull_secrets);
    }
    if !picker.node_selector.is_empty() {
        pod["nodeSelector"] = json!(picker.node_selector);
    }
    if !picker.tolerations.is_empty() {
        pod["tolerations"] = picker.tolerations.iter().map(without_empty).collect();
    }
    if let Some(class) = &picker.priority_class_name {
        pod["priorityClassName"] = json!(class);
    }
    if picker.replicas.get() > 1 {
        // A node that fails takes as few of them as can be.
        pod["topologySpreadConstraints"] = json!([{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": labels},
        }]);
    }
}

/// The picker's flags, one word each: v1.0 to v1.2 stop reading at the first word that is no flag. Where one
/// comes twice, what the configuration gives is meant.
fn arguments(input: &Input<'_>) -> Vec<String> {
    let picker = &input.picker;
    let mut arguments = vec![
        format!("--pool-name={}", input.topology.names.model),
        format!("--pool-namespace={}", input.topology.owner.namespace),
        format!("--pool-group={}", ChildKind::InferencePool.group()),
        "--zap-encoder=json".to_owned(),
        format!("--config-file=/config/{FILE}"),
        "--v=1".to_owned(),
    ];
    if picker.has_metrics_flags() {
        arguments.push("--tracing=false".to_owned());
        arguments.push("--metrics-endpoint-auth=false".to_owned());
    }
    if !picker.has_metrics_extractor() {
        let flags = input.topology.engine.metrics_flags();
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    }
    if picker.replicas.get() > 1 {
        arguments.push("--ha-enable-leader-election=true".to_owned());
    }
    for given in &picker.args {
        let same = |ours: &String| ours.starts_with(&format!("--{}=", given.flag()));
        arguments.retain(|ours| !same(ours));
    }
    let given = picker.args.iter().map(|given| given.as_str().to_owned());
    arguments.extend(given);
    arguments
}

/// A part of the configuration without what the API server leaves out.
fn without_empty(part: &impl Serialize) -> Value {
    let mut value = json!(part);
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| *value != json!("") && *value != json!({}));
    }
    value
}

/// A variable as the API server writes it.
fn variable(variable: &EnvVar) -> Value {
    let mut object = without_empty(variable);
    if let Some(field) = object.pointer_mut("/valueFrom/fieldRef") {
        field["apiVersion"] = "v1".into();
    }
    object
}

/// The picker reads its configuration, and which kinds are served, once at its start: when either
/// changes it has to be started anew.
fn config_hash(input: &Input<'_>, cluster: &impl Cluster) -> String {
    let picker = &input.picker;
    let mut text = config_map::text(picker, input.topology.engine);
    for kind in [picker.flavour.objective(), picker.flavour.model_rewrite()] {
        if cluster.serves(kind) {
            text.push_str(kind.as_str());
        }
    }
    short_hash(text.as_bytes())
}
