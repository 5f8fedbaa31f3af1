//! The CustomResourceDefinitions of Kthena, the inference extension, Gateway API and Istio, and those of the
//! Prometheus operator, which only some tests install.

use std::{path::Path, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};

use crate::{
    FIELD_MANAGER, document,
    error::{Context as _, Error, Result},
    wait,
};

/// Of Istio's many kinds this is the only one that the bridge writes.
const ISTIO: &str = "destinationrules.networking.istio.io";
const FOLDERS: [&str; 4] = ["kthena", "inference-extension", "gateway-api", "istio"];

/// One definition: its name and its YAML as the project published it.
pub(crate) struct Definition {
    pub(crate) name: String,
    yaml: String,
}

/// The definitions that every bed begins with.
pub(crate) fn read(parts: &Path) -> Result<Vec<Definition>> {
    let mut all = Vec::new();
    for folder in FOLDERS {
        all.extend(read_folder(parts, folder)?);
    }
    all.retain(|d| !d.name.ends_with(".istio.io") || d.name == ISTIO);
    Ok(all)
}

/// The definitions of one project, by the name of its folder among the parts.
pub(crate) fn read_folder(parts: &Path, folder: &str) -> Result<Vec<Definition>> {
    let mut all = Vec::new();
    let dir = parts.join("crds").join(folder);
    let entries = std::fs::read_dir(&dir).context(|| format!("reading {}", dir.display()))?;
    for entry in entries {
        let path = entry
            .context(|| format!("reading {}", dir.display()))?
            .path();
        let text =
            std::fs::read_to_string(&path).context(|| format!("reading {}", path.display()))?;
        all.extend(definitions(&text));
    }
    Ok(all)
}

/// The project's own.
pub(crate) fn read_own() -> Result<Vec<Definition>> {
    let text = document::read("crds/modelexposures.yaml")?;
    Ok(definitions(&text).collect())
}

/// The documents of a file. They are not parsed: the API server does that, and these are megabytes.
fn definitions(text: &str) -> impl Iterator<Item = Definition> {
    text.split("\n---").filter_map(|yaml| {
        let name = yaml
            .lines()
            .find_map(|line| line.strip_prefix("  name: "))?;
        Some(Definition {
            name: name.trim_matches(['"', '\'']).to_owned(),
            yaml: yaml.to_owned(),
        })
    })
}

/// Applies definitions and waits until each is served.
pub(crate) async fn install(client: &Client, definitions: Vec<Definition>) -> Result<()> {
    let names: Vec<String> = definitions.iter().map(|d| d.name.clone()).collect();
    stream::iter(definitions)
        .map(|d| apply(client, d))
        .buffer_unordered(4)
        .try_collect::<()>()
        .await?;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in names {
        let what = format!("CustomResourceDefinition {name} is established");
        wait::until(
            || Ok(()),
            &what,
            Duration::from_secs(20),
            async || {
                let crd = api.get(&name).await.map_err(|e| e.to_string())?;
                let conditions = crd.status.and_then(|s| s.conditions).unwrap_or_default();
                if conditions
                    .iter()
                    .any(|c| c.type_ == "Established" && c.status == "True")
                {
                    return Ok(());
                }
                Err(format!("{conditions:?}"))
            },
        )
        .await?;
    }
    Ok(())
}

async fn apply(client: &Client, definition: Definition) -> Result<()> {
    let Definition { name, yaml } = definition;
    let what = || format!("applying CustomResourceDefinition {name}");
    // Server-side apply, since ModelServing's definition is too large for the annotation of the other
    // kind; and its body is YAML by specification.
    let url = <CustomResourceDefinition as kube::Resource>::url_path(&(), None);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let request = kube::core::Request::new(url)
        .patch(&name, &params, &Patch::Apply(()))
        .map_err(|e| Error::Other(format!("{}: {e}", what())))?;
    let request = request.map(|_| yaml.into_bytes());
    let applied: CustomResourceDefinition = client.request(request).await.context(what)?;
    tracing::debug!(name = applied.name_any(), "applied");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_names_of_all_documents() {
        let text = "# generated\nkind: X\nmetadata:\n  annotations:\n    a: b\n  name: a.example\nspec:\n  names:\n    \
                    name: no\n---\nmetadata:\n  name: \"b.example\"\n---\n";
        let names: Vec<String> = definitions(text).map(|d| d.name).collect();
        assert_eq!(names, ["a.example", "b.example"]);
    }
}
