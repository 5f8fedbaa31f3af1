//! The test bed: etcd, kube-apiserver, kube-controller-manager, Kthena's controller-manager, a kubelet
//! that runs pods as local processes, and a gateway, all in the namespaces that `e2e/sandbox` makes.
//!
//! ```console
//! cargo build -p sim-vllm && cargo test -p testbed --no-run
//! KTHENA_BRIDGE_PARTS=$(e2e/parts/fetch) e2e/sandbox cargo test --offline -p testbed
//! ```
//!
//! The sandbox has no network, so what is needed is built and fetched before. A test says
//! `let bed = TestBed::shared().unwrap();` and makes a namespace of its own with [`TestBed::namespace`]; all tests
//! of a test binary share one bed, and it ends with the binary. A test that needs other [`Options`]
//! belongs in a test binary of its own, since a sandbox holds one bed at a time.
//!
//! **Clients are made per test**: a client's connections are driven by tasks on the runtime that made
//! them, and each `#[tokio::test]` has its own. The bed's own tasks live on a runtime of the bed.

pub mod audit;
mod bed;
mod command_line;
mod control_plane;
mod crds;
pub mod document;
mod error;
mod gateway;
pub mod health;
mod helm;
mod images;
mod kthena_router;
mod model;
mod namespace;
mod operated;
mod operator;
mod pods;
mod process;
mod ready_pods;
mod requests;
mod sandbox;
mod shell;
mod tool;
mod wait;

pub use bed::{Options, TestBed, parts};
pub use command_line::{Said, kthena_bridge};
pub use error::{Error, Result};
pub use gateway::Answer;
pub use helm::{Helm, Release, chart};
pub use images::built_binaries;
pub use kthena_router::KTHENA_ROUTER_NAMESPACE;
pub use model::{Model, exposed_by};
pub use namespace::{Namespace, documents};
pub use operated::Operated;
pub use operator::{OPERATOR, OPERATOR_NAMESPACE, config, kustomize};
pub use pods::is_ready;
pub use process_kubelet as kubelet;
pub use requests::Requests;
pub use sandbox::Sandbox;
pub use shell::{Printed, Shell};
pub use tool::tool;

/// The field manager of what the bed and its tests write.
pub const FIELD_MANAGER: &str = "testbed";
