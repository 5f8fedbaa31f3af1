//! The Kubernetes kinds that kthena-bridge reads and writes, its annotations and its condition reasons.
//!
//! Kinds of other projects are small hand-written types with only the fields that are used: the same
//! type reads every version of them, and an object that has more never fails to decode. Tests prove that
//! every field path named here exists in the schemas that those projects publish.

pub mod annotation;
pub mod child;
pub mod condition;
pub mod gateway;
pub mod kthena;
#[expect(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "structs that KubeSchema derives; columns, each with a name and a type"
)]
pub mod model_exposure;
pub mod plugins_config;
pub mod text;

/// The prefix of every annotation and label of ours, without the slash.
pub const DOMAIN: &str = "kthena-bridge.io";

/// Our field manager in `metadata.managedFields`, on everything that we write.
/// <https://kubernetes.io/docs/reference/using-api/server-side-apply/#managers>
pub const FIELD_MANAGER: &str = "kthena-bridge";
