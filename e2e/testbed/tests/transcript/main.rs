//! The commands of README.md and docs/, run as a new user would: all of them, literally, in their order, in a
//! shell with kubectl, helm and kthena-bridge. In a test binary of its own, since they install the operator, and
//! uninstall it.
//!
//! A command has to succeed. A block whose commands begin with `$ ` shows what they say, too: it is compared, with
//! `…` for anything. What cannot be run says why, in an HTML comment above the block: `<!-- not run: ... -->`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

mod reasons;
mod script;

use std::path::{Path, PathBuf};

use script::{Command, commands};
use testbed::document::{Block, blocks, documents_for_users, in_repository, read};
use testbed::{Namespace, Printed, Shell, TestBed};

/// In the order in which they are run; what one leaves, the next one finds.
const FOLLOWED: [&str; 5] = [
    "README.md",
    "docs/annotations.md",
    "docs/commands.md",
    "docs/configuration.md",
    "docs/operations.md",
];
/// Followed before the last one: its commands have placeholders, and some of them break what they are about.
const REASONS: &str = "docs/reasons.md";
/// Run by other tests: on a bed with Argo CD's and Flux's kinds.
const ELSEWHERE: [&str; 1] = ["docs/gitops.md"];

/// A Gateway of the namespace that documents call `infra`, which takes routes of all namespaces.
const INFRA: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: infra}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: inference-gateway, namespace: infra}
spec:
  gatewayClassName: istio
  listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
";
/// What somebody has put a Model behind a Gateway with.
const BY_HAND: &str = include_str!("../bed/by-hand.yaml");
/// A configuration with the mistake that docs/configuration.md shows.
const MISTAKE: &str = "endpointPicker: {resources: {requests: {cpu: one}}}\n";

/// A user in front of a terminal.
struct User<'a> {
    namespace: &'a Namespace<'a>,
    shell: Shell,
    folder: PathBuf,
}

impl<'a> User<'a> {
    async fn new(bed: &'a TestBed, namespace: &'a Namespace<'a>) -> Self {
        let home = bed.dir().join("home");
        let folder = home.join("kthena-bridge");
        std::fs::create_dir_all(&folder).unwrap();
        // What commands write stays out of the checkout.
        for part in ["charts", "config", "docs", "README.md"] {
            let part = (
                in_repository(part).canonicalize().unwrap(),
                folder.join(part),
            );
            std::os::unix::fs::symlink(part.0, part.1).unwrap();
        }
        let kubeconfig = home.join("kubeconfig");
        std::fs::copy(bed.kubeconfig(), &kubeconfig).unwrap();
        let mut shell = bed.shell(&folder, &home, &kubeconfig).await.unwrap();
        let name = namespace.name();
        let own = format!("kubectl config set-context --current --namespace={name}");
        assert_eq!(shell.run(&own).await.unwrap().code, 0);
        Self {
            namespace,
            shell,
            folder,
        }
    }

    async fn run(&mut self, place: &str, command: &Command, exit_code: i32) {
        eprintln!("{place}: {}", command.line);
        let said = self.shell.run(&command.line).await;
        let said = said.map_err(|e| format!("{place}: {e}")).unwrap();
        let Printed { code, output } = said;
        let told = format!("{place}: {}\nended with {code}:\n{output}", command.line);
        assert_eq!(code, exit_code, "{told}");
        if let Some(shown) = &command.output {
            assert!(
                script::is_as_shown(shown, &output),
                "{told}\nand the document has:\n{shown}"
            );
        }
    }

    async fn follow(&mut self, document: &str) {
        for block in blocks(&read(document).unwrap()) {
            if block.language != "console" {
                continue;
            }
            let exit_code = match Expected::of(&block).map_err(|e| format!("{document}: {e}")) {
                Ok(Expected::NotRun) => continue,
                Ok(Expected::ExitCode(code)) => code,
                Err(problem) => panic!("{problem}"),
            };
            self.prepare(document, &block).await;
            for command in commands(&block.text) {
                let place = format!("{document}:{}", block.line);
                self.run(&place, &command, exit_code).await;
            }
        }
    }

    /// What the document takes for granted.
    async fn prepare(&self, document: &str, block: &Block) {
        let bed = self.namespace.bed();
        if block.text.contains("infra/inference-gateway") {
            bed.apply("", INFRA).await.unwrap();
            let infra = bed.gateway_address("infra", "inference-gateway").await;
            infra.unwrap();
        }
        if document == "docs/commands.md" && block.text.contains("migrate demo") {
            // The names are free then.
            let model = self.namespace.model_named("demo").unwrap();
            model.wait_until_withdrawn().await.unwrap();
            let host = format!("{}.svc", self.namespace.name());
            let manifests = BY_HAND.replace("NAMESPACE.svc", &host);
            self.namespace.apply(&manifests).await.unwrap();
            let gateway = "inference-gateway";
            let address = bed
                .gateway_address(self.namespace.name(), gateway)
                .await
                .unwrap();
            answers(bed, &format!("http://{address}")).await;
        }
        if document == "docs/configuration.md" {
            std::fs::write(self.folder.join("config.yaml"), MISTAKE).unwrap();
        }
    }
}

/// What is to become of a block.
enum Expected {
    /// Each command ends with this.
    ExitCode(i32),
    /// It says why.
    NotRun,
}

impl Expected {
    fn of(block: &Block) -> Result<Self, String> {
        let Some(mark) = &block.mark else {
            return Ok(Self::ExitCode(0));
        };
        if let Some(reason) = mark.strip_prefix("not run: ") {
            return if reason.is_empty() {
                Err(format!("line {}: say why it is not run", block.line))
            } else {
                Ok(Self::NotRun)
            };
        }
        let code = mark
            .strip_prefix("exits with ")
            .and_then(|c| c.parse().ok());
        let code =
            code.ok_or_else(|| format!("line {}: the mark {mark:?} means nothing", block.line))?;
        Ok(Self::ExitCode(code))
    }
}

/// Waits until a Model is answered for by the name that its engine does not serve.
async fn answers(bed: &TestBed, url: &str) {
    let question = serde_json::json!({"model": "demo", "prompt": "Who are you?"});
    let url = format!("{url}/v1/completions");
    let limit = std::time::Duration::from_secs(40);
    let looked = bed.wait_for("the Model answers", limit, async || {
        let answer = bed.post(&url, &[], &question).await?;
        (answer.status == 200)
            .then_some(())
            .ok_or_else(|| format!("{answer:?}"))
    });
    looked.await.unwrap();
}

#[test]
fn every_block_is_run_or_says_why_not() {
    for document in documents_for_users().unwrap() {
        let known = FOLLOWED.contains(&document.as_str())
            || ELSEWHERE.contains(&document.as_str())
            || document == REASONS;
        for block in blocks(&read(&document).unwrap()) {
            let place = format!("{document}:{}", block.line);
            let languages = ["console", "json", "mermaid", "yaml"];
            assert!(
                languages.contains(&block.language.as_str()),
                "{place}: {:?} is none of {languages:?}",
                block.language
            );
            if block.language == "console" {
                Expected::of(&block)
                    .map_err(|e| format!("{place}: {e}"))
                    .unwrap();
                assert!(known, "{place}: no test runs the commands of {document}");
            }
        }
    }
}

#[tokio::test]
async fn the_documents_can_be_followed() {
    let bed = TestBed::shared().unwrap();
    let namespace = bed.namespace("user").await.unwrap();
    // "In a cluster with ... a Gateway inference-gateway and Kthena's example Model demo beside it".
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    let mut user = User::new(bed, &namespace).await;
    let (last, before) = FOLLOWED.split_last().unwrap();
    for document in before {
        user.follow(document).await;
    }
    reasons::follow(&mut user).await;
    user.follow(last).await;
    model.wait_until_withdrawn().await.unwrap();
}

/// The folder of the user has what the commands name.
#[test]
fn the_users_folder_has_what_is_named() {
    for document in FOLLOWED {
        for block in blocks(&read(document).unwrap()) {
            for word in block.text.split_whitespace() {
                if word.starts_with("charts/") || word.starts_with("config/") {
                    assert!(
                        Path::new(&in_repository(word)).exists(),
                        "{document}: {word}"
                    );
                }
            }
        }
    }
}
