//! What the kubelet promises a pod.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{Api, api::DeleteParams};
use testbed::{Namespace, TestBed};

use crate::LIMIT;

async fn start(prefix: &str, yaml: &str) -> (&'static TestBed, Namespace<'static>, Api<Pod>) {
    let bed = TestBed::shared().unwrap();
    let namespace = bed.namespace(prefix).await.unwrap();
    namespace.apply(yaml).await.unwrap();
    let pods = Api::namespaced(bed.client().unwrap(), namespace.name());
    (bed, namespace, pods)
}

/// Waits until the pod `p` is as `fits` says.
async fn wait_for(bed: &TestBed, pods: &Api<Pod>, what: &str, fits: impl Fn(&Pod) -> bool) -> Pod {
    bed.wait_for(what, LIMIT, async || {
        let pod = pods.get("p").await.map_err(|e| e.to_string())?;
        if fits(&pod) {
            Ok(pod)
        } else {
            Err(format!("{:#?}", pod.status))
        }
    })
    .await
    .unwrap()
}

fn containers(pod: &Pod) -> &[ContainerStatus] {
    pod.status
        .as_ref()
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default()
}

fn is_ready(pod: &Pod) -> bool {
    !containers(pod).is_empty() && containers(pod).iter().all(|container| container.ready)
}

fn waits_for(pod: &Pod, reason: &str) -> bool {
    containers(pod).iter().any(|container| {
        let waiting = container
            .state
            .as_ref()
            .and_then(|state| state.waiting.as_ref());
        waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some(reason))
    })
}

#[tokio::test]
async fn a_pod_has_its_environment_volumes_and_service_account() {
    let yaml = r#"
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: settings}
        data: {color: green, other: ignored}
        ---
        apiVersion: v1
        kind: Pod
        metadata: {name: p, labels: {a: b}}
        spec:
          initContainers: [{name: skipped, image: no.such/image}]
          containers:
          - name: one
            image: busybox:1
            workingDir: /srv/dir
            command: [sh, -c]
            args:
            - |
              set -ex
              test "$IP" = "$(hostname -I | tr -d ' ')"
              test "$LABEL $COLOR $HOSTNAME $(hostname)" = "b green p p"
              test "$(cat /etc/settings/a/shade)" = green
              test ! -e /etc/settings/other
              test "$(pwd)" = /srv/dir
              ! touch /usr/x
              ! touch /x
              echo hello >/shared/file
              cd /var/run/secrets/kubernetes.io/serviceaccount
              test -s token -a -s ca.crt -a "$(cat namespace)" = "$NAMESPACE"
              echo "expanded: $(GREETING)"
              sleep 1000
            env:
            - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
            - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
            - {name: LABEL, valueFrom: {fieldRef: {fieldPath: "metadata.labels['a']"}}}
            - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
            - {name: GREETING, value: "dear $(COLOR)"}
            securityContext: {readOnlyRootFilesystem: true}
            volumeMounts:
            - {name: settings, mountPath: /etc/settings}
            - {name: shared, mountPath: /shared}
            - {name: shared, mountPath: /srv/dir, subPath: sub}
          - name: two
            image: busybox:1
            command: [sh, -c, sleep 1000]
            readinessProbe: {exec: {command: [sh, -c, "test $(cat /dev/shm/file) = hello"]}}
            volumeMounts: [{name: shared, mountPath: /dev/shm}]
          volumes:
          - {name: settings, configMap: {name: settings, items: [{key: color, path: a/shade}]}}
          - {name: shared, emptyDir: {}}
    "#;
    let (bed, namespace, pods) = start("environment", &dedent(yaml)).await;
    let pod = wait_for(bed, &pods, "both containers are ready", is_ready).await;
    let status = pod.status.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.host_ip, Some(bed.sandbox().address.to_string()));
    bed.wait_for(
        "the checks of the first container pass",
        LIMIT,
        async || {
            let log = bed.container_log(namespace.name(), "p", "one");
            if log.contains("\nexpanded: dear green") {
                Ok(())
            } else {
                Err(log)
            }
        },
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn probes_by_port_name_and_by_tcp_work_and_liveness_waits_for_startup() {
    let yaml = "
        apiVersion: v1
        kind: Pod
        metadata: {name: p}
        spec:
          containers:
          - name: c
            image: vllm/vllm-openai:latest
            command: [bash, -c, 'python3 -m vllm.entrypoints.openai.api_server --model m --port 8123']
            ports: [{name: http, containerPort: 8123}]
            startupProbe: {tcpSocket: {port: http}, failureThreshold: 10}
            livenessProbe: {httpGet: {path: /health, port: http}, failureThreshold: 1}
            readinessProbe: {httpGet: {path: /health, port: 8123}, initialDelaySeconds: 180}
    ";
    let (bed, _namespace, pods) = start("probes", &dedent(yaml)).await;
    let pod = wait_for(bed, &pods, "the server is ready", is_ready).await;
    assert_eq!(
        (
            containers(&pod)[0].started,
            containers(&pod)[0].restart_count
        ),
        (Some(true), 0)
    );
}

#[tokio::test]
async fn a_container_that_fails_is_restarted_with_growing_pauses() {
    let yaml = "
        apiVersion: v1
        kind: Pod
        metadata: {name: p}
        spec:
          containers: [{name: c, image: 'busybox:1', command: [sh, -c, exit 3]}]
    ";
    let (bed, _namespace, pods) = start("crash", &dedent(yaml)).await;
    let pod = wait_for(bed, &pods, "the container crashes in a loop", |pod| {
        waits_for(pod, "CrashLoopBackOff") && containers(pod)[0].restart_count >= 2
    })
    .await;
    let last = containers(&pod)[0]
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    assert_eq!(last.map(|end| end.exit_code), Some(3));
}

#[tokio::test]
async fn a_container_that_is_not_alive_is_restarted() {
    let yaml = "
        apiVersion: v1
        kind: Pod
        metadata: {name: p}
        spec:
          containers:
          - name: c
            image: busybox:1
            command: [sh, -c, 'trap : TERM; while :; do sleep 0.1; done']
            livenessProbe: {exec: {command: ['false']}, failureThreshold: 1}
    ";
    let (bed, _namespace, pods) = start("liveness", &dedent(yaml)).await;
    let pod = wait_for(bed, &pods, "the container is restarted", |pod| {
        containers(pod).iter().any(|c| c.restart_count >= 1)
    })
    .await;
    // It does not end by itself, so it was killed after the grace period.
    let last = containers(&pod)[0]
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    assert_eq!(
        last.map(|end| (end.exit_code, end.signal)),
        Some((137, Some(9)))
    );
}

#[tokio::test]
async fn an_unknown_image_is_never_pulled() {
    let yaml = "
        apiVersion: v1
        kind: Pod
        metadata: {name: p}
        spec: {containers: [{name: c, image: no.such/image}]}
    ";
    let (bed, _namespace, pods) = start("image", &dedent(yaml)).await;
    let pod = wait_for(bed, &pods, "the pull fails", |pod| {
        waits_for(pod, "ImagePullBackOff")
    })
    .await;
    assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Pending"));
}

#[tokio::test]
async fn a_pod_ends_as_its_restart_policy_says() {
    let yaml = "
        apiVersion: v1
        kind: Pod
        metadata: {name: p}
        spec:
          restartPolicy: Never
          containers: [{name: c, image: 'busybox:1', command: [sh, -c, exit 0]}]
    ";
    let (bed, _namespace, pods) = start("completed", &dedent(yaml)).await;
    wait_for(bed, &pods, "the pod succeeds", |pod| {
        pod.status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            == Some("Succeeded")
    })
    .await;
}

#[tokio::test]
async fn a_deleted_pod_is_gone_with_its_network() {
    let yaml = "
        apiVersion: v1
        kind: Pod
        metadata: {name: p}
        spec:
          terminationGracePeriodSeconds: 300
          containers: [{name: c, image: 'busybox:1', command: [sh, -c, 'trap : TERM; while :; do sleep 0.1; done']}]
    ";
    for params in [
        DeleteParams::default(),
        DeleteParams::default().grace_period(0),
    ] {
        let (bed, _namespace, pods) = start("deleted", &dedent(yaml)).await;
        let pod = wait_for(bed, &pods, "the container runs", is_ready).await;
        let network = format!("/run/netns/pod-{}", pod.metadata.uid.unwrap());
        assert!(std::path::Path::new(&network).exists());
        pods.delete("p", &params).await.unwrap();
        bed.wait_for("the pod and its network are gone", LIMIT, async || {
            if let Some(pod) = pods.get_opt("p").await.map_err(|e| e.to_string())? {
                return Err(format!("{:#?}", pod.status));
            }
            if std::path::Path::new(&network).exists() {
                Err(format!("{network} exists"))
            } else {
                Ok(())
            }
        })
        .await
        .unwrap();
    }
}

/// Removes the indentation that YAML has inside a test.
fn dedent(yaml: &str) -> String {
    yaml.lines()
        .flat_map(|line| [line.strip_prefix("        ").unwrap_or(line.trim()), "\n"])
        .collect()
}

/// Otherwise pods do not reach Gateways for as long as they know them by the old one.
#[tokio::test]
async fn the_bridge_keeps_its_hardware_address_while_pods_come_and_go() {
    async fn ip(arguments: &str) -> String {
        let mut command = tokio::process::Command::new("ip");
        let said = command.args(arguments.split(' ')).output().await.unwrap();
        assert!(said.status.success(), "ip {arguments}: {said:?}");
        String::from_utf8(said.stdout).unwrap()
    }
    let bed = TestBed::shared().unwrap();
    let bridge = &bed.sandbox().bridge;
    let address = async || {
        let link = ip(&format!("-o link show {bridge}")).await;
        let (_, address) = link.split_once("link/ether ").unwrap();
        address.split(' ').next().unwrap().to_owned()
    };
    let before = address().await;
    // The lowest that a pod can have.
    ip("link add lowest address 02:00:00:00:00:01 type veth peer name pods").await;
    ip(&format!("link set lowest master {bridge} up")).await;
    let with = address().await;
    ip("link delete lowest").await;
    assert_eq!((with, address().await), (before.clone(), before));
}
