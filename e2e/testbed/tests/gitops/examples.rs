//! The examples are what Argo CD, Flux, Kthena and this repository take.

use std::collections::BTreeMap;

use kthena_bridge_api::annotation::is_ours;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_api::model_exposure::ModelExposure;
use kthena_bridge_core::{Config, Exposure};
use kube::Resource as _;
use serde_json::Value;
use testbed::document::in_repository;
use testbed::health::{APPLICATION_HEALTH, EXPOSURE_HEALTH, KUSTOMIZATIONS, MODEL_HEALTH};
use testbed::{Helm, OPERATOR, OPERATOR_NAMESPACE, config, documents, kustomize, parts};

use crate::{bed, kubectl, read};

const APPLICATIONS: &str = "config/argo-cd/applications.yaml";
const SAMPLE: &str = "config/samples/modelbooster.yaml";
const KTHENA: &str = "config/flux/kthena/helm-release.yaml";
/// Where this repository is, for the examples that install the operator from it.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found = objects
        .iter()
        .filter(|o| o["kind"] == kind && o["metadata"]["name"] == name);
    let only = found.next();
    assert!(found.next().is_none(), "{kind} {name} twice");
    only.unwrap_or_else(|| panic!("no {kind} is called {name}"))
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|o| o["kind"] == kind).collect()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// Against the definitions that Argo CD, Flux and Kthena publish, by a real API server.
#[tokio::test]
async fn the_api_server_takes_every_example() {
    let bed = bed().await;
    let mut taken = 0;
    // It refuses a namespaced object where there is no namespace.
    for namespace in ["argocd", "flux-system"] {
        let args = ["create", "namespace", namespace];
        // Another test may have made it.
        let made = kubectl::run(bed, &args, "").await;
        assert!(made.is_ok() || made.unwrap_err().contains("AlreadyExists"));
    }
    for file in [APPLICATIONS, KUSTOMIZATIONS, KTHENA, SAMPLE] {
        for mut object in documents(&read(file)).unwrap() {
            if object["metadata"]["namespace"].is_null() {
                object["metadata"]["namespace"] = "default".into();
            }
            bed.dry_run(&object).await.unwrap();
            taken += 1;
        }
    }
    assert_eq!(taken, 17);
    // It would say so if one were wrong.
    let mut wrong = documents(&read(APPLICATIONS)).unwrap().remove(0);
    wrong["spec"]["syncPolicy"]["automatic"] = true.into();
    let refused = bed.dry_run(&wrong).await.unwrap_err().to_string();
    assert!(refused.contains("automatic"), "{refused}");
}

#[test]
fn each_wave_holds_what_the_next_one_needs() {
    let all = documents(&read(APPLICATIONS)).unwrap();
    let wave = |application: &Value| -> i32 {
        let text = application["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"].as_str();
        text.unwrap().parse().unwrap()
    };
    let mut waves: BTreeMap<i32, Vec<&str>> = BTreeMap::new();
    for application in &all {
        waves
            .entry(wave(application))
            .or_default()
            .push(name(application));
    }
    let in_order: Vec<Vec<&str>> = waves.into_values().collect();
    assert_eq!(
        in_order,
        [
            vec!["gateway-api", "inference-extension"],
            vec!["kthena"],
            vec!["kthena-bridge"],
            vec!["models"],
        ]
    );
}

#[test]
fn whoever_is_depended_on_exists_and_waits() {
    let all = documents(&read(KUSTOMIZATIONS)).unwrap();
    let mut depends = BTreeMap::new();
    for kustomization in of_kind(&all, "Kustomization") {
        let on = kustomization["spec"]["dependsOn"].as_array();
        let on: Vec<&str> = on
            .into_iter()
            .flatten()
            .map(|on| on["name"].as_str().unwrap())
            .collect();
        for on in &on {
            let on = named(&all, "Kustomization", on);
            // Without it, it is ready when it is applied, and not when it works.
            assert_eq!(on["spec"]["wait"], true, "{}", name(on));
        }
        depends.insert(name(kustomization), on);
        let source = &kustomization["spec"]["sourceRef"];
        named(
            &all,
            source["kind"].as_str().unwrap(),
            source["name"].as_str().unwrap(),
        );
    }
    assert_eq!(
        depends["kthena-bridge"],
        ["gateway-api", "inference-extension", "kthena"]
    );
    assert_eq!(depends["models"], ["kthena-bridge"]);
    let models = named(&all, "Kustomization", "models");
    assert_eq!(models["spec"]["wait"], true);

    let of_kthena = documents(&read(KTHENA)).unwrap();
    let release = named(&of_kthena, "HelmRelease", "kthena");
    let source = &release["spec"]["chart"]["spec"]["sourceRef"];
    named(
        &of_kthena,
        source["kind"].as_str().unwrap(),
        source["name"].as_str().unwrap(),
    );
}

/// The expressions are for the kind that is read.
#[test]
fn the_health_checks_are_for_models() {
    let all = documents(&read(KUSTOMIZATIONS)).unwrap();
    let check = &named(&all, "Kustomization", "models")["spec"]["healthCheckExprs"][0];
    assert_eq!(check["kind"], ModelBooster::kind(&()).as_ref());
    assert_eq!(check["apiVersion"], ModelBooster::api_version(&()).as_ref());
}

#[tokio::test]
async fn the_operator_is_installed_from_what_is_here() {
    let argo_cd = documents(&read(APPLICATIONS)).unwrap();
    let flux = documents(&read(KUSTOMIZATIONS)).unwrap();

    let application = &named(&argo_cd, "Application", OPERATOR)["spec"];
    let source = &application["source"];
    assert_eq!(source["repoURL"], REPOSITORY);
    assert_eq!(source["helm"]["releaseName"], OPERATOR);
    assert_eq!(application["destination"]["namespace"], OPERATOR_NAMESPACE);
    let values = std::env::temp_dir().join("application.values.yaml");
    std::fs::write(&values, source["helm"]["valuesObject"].to_string()).unwrap();
    let chart = in_repository(source["path"].as_str().unwrap());
    let args = [
        "template",
        OPERATOR,
        chart.to_str().unwrap(),
        "--values",
        values.to_str().unwrap(),
    ];
    let rendered = Helm::without_cluster().unwrap().run(&args).await.unwrap();
    let image = &source["helm"]["valuesObject"]["image"]["repository"];
    assert!(rendered.contains(image.as_str().unwrap()), "{rendered}");

    let repository = named(&flux, "GitRepository", OPERATOR);
    assert_eq!(repository["spec"]["url"], REPOSITORY);
    let version = format!("v{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(repository["spec"]["ref"]["tag"], *version);
    assert_eq!(source["targetRevision"], *version);
    let kustomization = &named(&flux, "Kustomization", OPERATOR)["spec"];
    // The folder that `kustomize` reads.
    assert_eq!(kustomization["path"], "./config");
    let manifests = kustomize(&parts().unwrap(), &config()).await.unwrap();
    let replaced = kustomization["images"][0]["name"].as_str().unwrap();
    assert!(
        manifests.contains(&format!("image: {replaced}:")),
        "{manifests}"
    );
    let patched = with_patches_of(kustomization).await;
    let image = kustomization["images"][0]["newName"].as_str().unwrap();
    assert!(patched.contains(&format!("image: {image}:v")), "{patched}");
    let patched = documents(&patched).unwrap();
    let role = named(&patched, "ClusterRole", "kthena-bridge-endpoint-picker");
    let prune = &role["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/prune"];
    assert_eq!(*prune, "disabled");
    let kthena = &named(&flux, "Kustomization", "kthena")["spec"];
    assert_eq!(kthena["sourceRef"]["name"], OPERATOR);
    let path = kthena["path"].as_str().unwrap();
    let file = in_repository(path).join("helm-release.yaml");
    assert!(file.is_file(), "{}", file.display());
}

/// The manifests of `config/` with what a Kustomization of Flux changes in them, which it has kustomize do.
async fn with_patches_of(kustomization: &Value) -> String {
    let folder = std::env::temp_dir().join("kustomization");
    std::fs::create_dir_all(&folder).unwrap();
    let config = in_repository("config").canonicalize().unwrap();
    // Only relative paths lead out of the folder.
    let up = "../".repeat(folder.components().count() - 1);
    let overlay = serde_json::json!({
        "resources": [format!("{up}{}", config.strip_prefix("/").unwrap().display())],
        "images": kustomization["images"],
        "patches": kustomization["patches"],
    });
    std::fs::write(folder.join("kustomization.yaml"), overlay.to_string()).unwrap();
    let binary = parts().unwrap().join("bin/kubectl");
    let mut command = tokio::process::Command::new(binary);
    let output = command
        .arg("kustomize")
        .arg(&folder)
        .output()
        .await
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// Where Argo CD and Flux get something from others, it is what the test bed runs, in the same version.
#[test]
fn the_versions_are_those_that_are_tested() {
    let pinned = |module: &str, part: &str| {
        let text = read(&format!("e2e/parts/{part}/go.mod"));
        let mut versions = text.lines().filter_map(|line| {
            let line = line.trim().trim_start_matches("require ");
            let (name, version) = line.split_once(' ')?;
            (name == module).then(|| version.split(' ').next().unwrap_or_default().to_owned())
        });
        versions.next().unwrap()
    };
    let argo_cd = documents(&read(APPLICATIONS)).unwrap();
    let mut flux = documents(&read(KUSTOMIZATIONS)).unwrap();
    flux.extend(documents(&read(KTHENA)).unwrap());
    let others = [
        ("gateway-api", "sigs.k8s.io/gateway-api", "crds"),
        (
            "inference-extension",
            "sigs.k8s.io/gateway-api-inference-extension",
            "inference-extension",
        ),
        ("kthena", "github.com/volcano-sh/kthena", "kthena"),
    ];
    for (name, module, part) in others {
        let version = pinned(module, part);
        let application = named(&argo_cd, "Application", name);
        assert_eq!(application["spec"]["source"]["targetRevision"], *version);
        let repository = named(&flux, "GitRepository", name);
        assert_eq!(repository["spec"]["ref"]["tag"], *version);
        assert_eq!(
            repository["spec"]["url"],
            application["spec"]["source"]["repoURL"]
        );
    }
}

/// The definitions and Kthena outlive whoever takes the examples back: with them, all routes and Models would go.
#[test]
fn what_others_use_too_is_not_pruned() {
    let argo_cd = documents(&read(APPLICATIONS)).unwrap();
    let flux = documents(&read(KUSTOMIZATIONS)).unwrap();
    for name in ["gateway-api", "inference-extension"] {
        let automated = &named(&argo_cd, "Application", name)["spec"]["syncPolicy"]["automated"];
        assert!(automated.is_object() && automated["prune"].is_null());
        let kustomization = named(&flux, "Kustomization", name);
        assert_eq!(kustomization["spec"]["prune"], false);
    }
}

#[test]
fn the_sample_is_exposed_as_it_stands() {
    let model: ModelBooster = serde_yaml::from_str(&read(SAMPLE)).unwrap();
    let annotations = model.metadata.annotations.unwrap();
    let ours = annotations.keys().filter(|key| is_ours(key)).count();
    assert_eq!(ours, annotations.len(), "{annotations:?}");
    let name = model.metadata.name.unwrap();
    let exposure = Exposure::parse("default", &name, &annotations, &Config::default());
    let exposure = exposure.unwrap().expect("the sample is exposed");
    assert_eq!(exposure.path, "/demo");
    assert_eq!(exposure.gateways.len(), 1);
}

/// Under the keys that Argo CD looks for, in the ConfigMap that it reads; what stands there already is kept.
#[tokio::test]
async fn the_config_map_of_argo_cd_gets_the_scripts() {
    let bed = bed().await;
    let folder = in_repository("config/argo-cd");
    let args = ["kustomize", folder.to_str().unwrap()];
    let made = kubectl::run(bed, &args, "").await.unwrap();
    let made = documents(&made).unwrap();
    let [map] = &made[..] else {
        panic!("one object: {made:#?}")
    };
    assert_eq!(map["metadata"]["name"], "argocd-cm");
    assert_eq!(map["metadata"]["namespace"], "argocd");
    let data = map["data"].as_object().unwrap();
    let key = |group: &str, kind: &str| format!("resource.customizations.health.{group}_{kind}");
    let model = key(&ModelBooster::group(&()), &ModelBooster::kind(&()));
    let application = key("argoproj.io", "Application");
    let exposure = key(&ModelExposure::group(&()), &ModelExposure::kind(&()));
    assert_eq!(data.len(), 3);
    assert_eq!(data[&model], read(MODEL_HEALTH));
    assert_eq!(data[&exposure], read(EXPOSURE_HEALTH));
    assert_eq!(data[&application], read(APPLICATION_HEALTH));
    // Argo CD takes what is behind the last underscore for the kind.
    assert_eq!(model.rsplit_once('_').unwrap().1, "ModelBooster");
}
