//! `docs/gitops.md` says what is: its snippets stand in the files of `config/`, and its commands work.

use std::path::Path;

use kthena_bridge_api::FIELD_MANAGER;

use crate::kubectl::{self, run_any};
use crate::{LIMIT, bed, in_repository, read};

const DOCUMENT: &str = "docs/gitops.md";

/// The code blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut inside: Option<(bool, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut inside) {
            (Some(found), None) => inside = Some((found == language, String::new())),
            (Some(_), Some(_)) => {
                let (wanted, block) = inside.take().unwrap();
                blocks.extend(wanted.then_some(block));
            }
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

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
    let snippets = blocks(&read(DOCUMENT), "yaml");
    assert!(snippets.len() >= 3, "{snippets:?}");
    for snippet in snippets {
        // Whole lines of it, one after the other.
        let found = texts
            .iter()
            .any(|text| format!("\n{text}").contains(&format!("\n{snippet}")));
        assert!(found, "this is in no file of config/:\n{snippet}");
    }
}

#[test]
fn every_link_leads_to_a_file() {
    let text = read(DOCUMENT);
    let links: Vec<&str> = text
        .split("](")
        .skip(1)
        .map(|rest| rest.split(')').next().unwrap())
        .filter(|link| !link.starts_with("http"))
        .collect();
    assert!(links.len() >= 6, "{links:?}");
    for link in links {
        let path = in_repository("docs").join(link);
        assert!(path.is_file(), "{} does not exist", path.display());
    }
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
    for block in blocks(&read(DOCUMENT), "console") {
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
    assert_eq!(settings["data"].as_object().unwrap().len(), 3);
    assert_eq!(FIELD_MANAGER, "kthena-bridge", "the document names it");
}
