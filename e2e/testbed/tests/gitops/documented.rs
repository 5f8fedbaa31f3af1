//! `docs/gitops.md` says what is: its snippets stand in the files of `config/`, and its commands work.

use std::path::Path;

use kthena_bridge_api::FIELD_MANAGER;
use testbed::document::{blocks, in_repository};

use crate::kubectl::{self, run_any};
use crate::{LIMIT, bed, read};

const DOCUMENT: &str = "docs/gitops.md";

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn every_snippet_stands_in_a_file() {
    let files = files_below(&in_repository("config"));
    let texts = files
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap());
    let texts: Vec<String> = texts.collect();
    let snippets = blocks_of("yaml");
    assert!(snippets.len() >= 3, "{snippets:?}");
    for snippet in snippets {
        // Whole lines of it, one after the other.
        let found = texts
            .iter()
            .any(|text| format!("\n{text}").contains(&format!("\n{snippet}")));
        assert!(found, "this is in no file of config/:\n{snippet}");
    }
}

/// The texts of the blocks of a language.
fn blocks_of(language: &str) -> Vec<String> {
    let all = blocks(&read(DOCUMENT)).into_iter();
    all.filter(|block| block.language == language)
        .map(|block| block.text)
        .collect()
}

/// In their order, in the namespace of a Model that is served.
#[tokio::test]
async fn every_command_works() {
    let bed = bed().await;
    let namespace = bed.namespace("documented").await.unwrap();
    namespace.gateway("inference-gateway").await.unwrap();

    // An Argo CD that has settings already.
    let made = kubectl::run(bed, &["create", "namespace", "argocd"], "").await;
    assert!(made.is_ok() || made.unwrap_err().contains("AlreadyExists"));
    let settings = ["create", "configmap", "argocd-cm", "--namespace=argocd"];
    let settings = [
        &settings[..],
        &["--from-literal=url=https://argocd.example"],
    ]
    .concat();
    kubectl::run(bed, &settings, "").await.unwrap();

    // The commands name no namespace.
    let kubeconfig = bed.dir().join("documented.kubeconfig");
    std::fs::copy(bed.kubeconfig(), &kubeconfig).unwrap();
    let own = format!("--kubeconfig={}", kubeconfig.display());
    let here = format!("--namespace={}", namespace.name());
    let args = ["config", "set-context", "--current", &here, &own];
    kubectl::run(bed, &args, "").await.unwrap();

    let mut ran = 0;
    for block in blocks_of("console") {
        for command in block.lines() {
            let script = format!("export KUBECONFIG={}; {command}", kubeconfig.display());
            let script = ["-euo", "pipefail", "-c", &script];
            let what = format!("{command} succeeds");
            let looked = bed.wait_for(what, LIMIT, async || {
                let said = run_any(bed, "bash", &script, "").await;
                let silent = !command.contains(" diff ") || said.output.is_empty();
                (said.code == Some(0) && silent)
                    .then_some(())
                    .ok_or_else(|| format!("{:?} {} {}", said.code, said.output, said.complaint))
            });
            looked.await.unwrap();
            ran += 1;
        }
        // What the first block applies is served when the next one comes.
        let model = namespace.model_named("demo").unwrap();
        model
            .wait_for_condition("Programmed", "True")
            .await
            .unwrap();
    }
    assert_eq!(ran, 3);

    let settings = kubectl::get(bed, "argocd", "configmaps", "argocd-cm")
        .await
        .unwrap();
    assert_eq!(settings["data"]["url"], "https://argocd.example");
    assert_eq!(settings["data"].as_object().unwrap().len(), 4);
    assert_eq!(FIELD_MANAGER, "kthena-bridge", "the document names it");
}
