//! The volumes of a pod, as folders below its own one. Containers get them bind-mounted.

use std::{
    collections::BTreeMap,
    os::unix::fs::symlink,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
        core::v1::{
            ConfigMap, ConfigMapVolumeSource, Container, DownwardAPIVolumeFile, KeyToPath, Pod,
            Secret, ServiceAccount, ServiceAccountTokenProjection, Volume,
        },
    },
};
use kube::{Api, Client, api::PostParams};
use serde::de::DeserializeOwned;
use tokio::sync::broadcast::error::RecvError;

use crate::env::pod_field;

/// Of a service account token's life, how much may pass before it is replaced.
const REFRESH_AFTER: f64 = 0.8;
const DEFAULT_TOKEN_LIFE: u32 = 3600;

/// Where a pod's ConfigMaps and Secrets come from.
pub(crate) struct Source {
    client: Client,
    namespace: String,
}

impl Source {
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
        }
    }

    /// An object by name; nothing when it is missing and may be.
    pub(crate) async fn find<K>(
        &self,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Option<K>, String>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api
            .get_opt(name)
            .await
            .map_err(|e| format!("{} {name:?}: {e}", K::kind(&())))?;
        if found.is_none() && optional != Some(true) {
            return Err(format!(
                "{} {name:?} not found",
                K::kind(&()).to_lowercase()
            ));
        }
        Ok(found)
    }
}

/// A service account token in a volume.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    file: PathBuf,
    audience: Option<String>,
    life: u32,
}

/// What a pod's volumes have become.
#[derive(Clone, Debug, Default)]
pub(crate) struct Volumes {
    dirs: BTreeMap<String, PathBuf>,
    pub(crate) tokens: Vec<Token>,
    config_maps: Vec<ConfigMapVolume>,
}

/// A ConfigMap that is a volume by itself, which follows it.
#[derive(Clone, Debug)]
struct ConfigMapVolume {
    dir: PathBuf,
    from: ConfigMapVolumeSource,
}

/// A folder or file that a container finds at a path of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) from: PathBuf,
    pub(crate) to: String,
    pub(crate) read_only: bool,
}

impl Volumes {
    /// Fills a folder per volume below `dir`. An error says what is still missing; trying again is fine.
    pub(crate) async fn prepare(pod: &Pod, dir: &Path, source: &Source) -> Result<Self, String> {
        let mut volumes = Self::default();
        // Not an iterator with a closure: that must not live across an await in a spawned task.
        let asked = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref());
        for volume in asked.unwrap_or_default() {
            let path = dir.join(&volume.name);
            let failed =
                |e: String| format!("MountVolume.SetUp failed for volume {:?}: {e}", volume.name);
            std::fs::create_dir_all(&path).map_err(|e| failed(e.to_string()))?;
            volumes
                .fill(volume, pod, &path, source)
                .await
                .map_err(failed)?;
            volumes.dirs.insert(volume.name.clone(), path);
        }
        for token in &volumes.tokens {
            token.write(pod, source).await?;
        }
        Ok(volumes)
    }

    async fn fill(
        &mut self,
        volume: &Volume,
        pod: &Pod,
        dir: &Path,
        source: &Source,
    ) -> Result<(), String> {
        if let Some(from) = &volume.config_map {
            let volume = ConfigMapVolume {
                dir: dir.to_owned(),
                from: from.clone(),
            };
            if let Some(map) = source.find(&from.name, from.optional).await? {
                volume.publish(map)?;
            }
            self.config_maps.push(volume);
            Ok(())
        } else if let Some(from) = &volume.secret {
            let name = from.secret_name.as_deref().unwrap_or_default();
            secret(name, from.optional, from.items.as_deref(), dir, source).await
        } else if let Some(from) = &volume.downward_api {
            downward_api(from.items.as_deref(), pod, dir)
        } else if let Some(from) = &volume.projected {
            for projection in from.sources.iter().flatten() {
                if let Some(from) = &projection.config_map {
                    config_map(
                        &from.name,
                        from.optional,
                        from.items.as_deref(),
                        dir,
                        source,
                    )
                    .await?;
                } else if let Some(from) = &projection.secret {
                    secret(
                        &from.name,
                        from.optional,
                        from.items.as_deref(),
                        dir,
                        source,
                    )
                    .await?;
                } else if let Some(from) = &projection.downward_api {
                    downward_api(from.items.as_deref(), pod, dir)?;
                } else if let Some(from) = &projection.service_account_token {
                    self.tokens.push(Token::new(from, dir)?);
                } else {
                    return Err(
                        "this kind of projection is not supported by this kubelet".to_owned()
                    );
                }
            }
            Ok(())
        } else if volume.empty_dir.is_some() || volume.host_path.is_some() {
            Ok(())
        } else {
            Err("this kind of volume is not supported by this kubelet".to_owned())
        }
    }

    /// Brings the volumes of a ConfigMap that changed up to date; all of them when changes were missed.
    pub(crate) async fn update(
        &self,
        changed: Result<ConfigMap, RecvError>,
        source: &Source,
    ) -> Result<(), String> {
        match changed {
            Ok(map) => {
                let of_map = |volume: &&ConfigMapVolume| {
                    map.metadata.name.as_deref() == Some(&volume.from.name)
                        && map.metadata.namespace.as_deref() == Some(&source.namespace)
                };
                for volume in self.config_maps.iter().filter(of_map) {
                    volume.publish(map.clone())?;
                }
            }
            Err(_) => {
                for volume in &self.config_maps {
                    if let Some(map) = source.find(&volume.from.name, Some(true)).await? {
                        volume.publish(map)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The mounts that a container asks for.
    pub(crate) fn mounts(&self, container: &Container) -> Result<Vec<Mount>, String> {
        let mounts = container.volume_mounts.iter().flatten().map(|mount| {
            let dir = self
                .dirs
                .get(&mount.name)
                .ok_or_else(|| format!("volume {:?} not found", mount.name))?;
            let from = match &mount.sub_path {
                Some(sub) => {
                    let path = inside(dir, sub)?;
                    if !path.exists() {
                        std::fs::create_dir_all(&path).map_err(|e| e.to_string())?;
                    }
                    path
                }
                None => dir.clone(),
            };
            Ok(Mount {
                from,
                to: mount.mount_path.clone(),
                read_only: mount.read_only == Some(true),
            })
        });
        mounts.collect()
    }

    /// How long the tokens may be used before they are to be written again.
    pub(crate) fn refresh_after(&self) -> Option<Duration> {
        let life = self.tokens.iter().map(|token| token.life).min()?;
        Some(Duration::from_secs_f64(f64::from(life) * REFRESH_AFTER))
    }
}

impl Token {
    fn new(from: &ServiceAccountTokenProjection, dir: &Path) -> Result<Self, String> {
        let life = from
            .expiration_seconds
            .and_then(|seconds| u32::try_from(seconds).ok());
        Ok(Self {
            file: inside(dir, &from.path)?,
            audience: from.audience.clone(),
            life: life.unwrap_or(DEFAULT_TOKEN_LIFE),
        })
    }

    /// Asks for a token that is bound to the pod, and puts it in place of the old one at once.
    pub(crate) async fn write(&self, pod: &Pod, source: &Source) -> Result<(), String> {
        let account = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.as_deref())
            .unwrap_or("default");
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: self.audience.clone().into_iter().collect(),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
                expiration_seconds: Some(self.life.into()),
            },
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(source.client.clone(), &source.namespace);
        let answer = api
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .map_err(|e| format!("a token of service account {account:?}: {e}"))?;
        let token = answer.status.ok_or("the API server gave no token")?.token;
        let fresh = self.file.with_extension("new");
        std::fs::write(&fresh, token)
            .and_then(|()| std::fs::rename(&fresh, &self.file))
            .map_err(|e| format!("{}: {e}", self.file.display()))
    }
}

impl ConfigMapVolume {
    /// Shows what a ConfigMap has now, all of it at once, as the kubelet does: each file is a link into the
    /// folder `..data`, which is a link itself that is pointed elsewhere.
    /// <https://github.com/kubernetes/kubernetes/blob/v1.36.3/pkg/volume/util/atomic_writer.go>
    fn publish(&self, map: ConfigMap) -> Result<(), String> {
        let failed = |e: std::io::Error| format!("{}: {e}", self.dir.display());
        let version = map.metadata.resource_version.clone().unwrap_or_default();
        let (current, fresh) = (self.dir.join("..data"), format!("..{version}"));
        let before = std::fs::read_link(&current).ok();
        if before.as_deref() == Some(Path::new(&fresh)) {
            return Ok(());
        }
        let folder = self.dir.join(&fresh);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let items = self.from.items.as_deref();
        write_keys(&keys(map), self.from.optional, items, &folder)?;
        let link = self.dir.join("..data_tmp");
        let _ = std::fs::remove_file(&link);
        symlink(&fresh, &link).map_err(failed)?;
        std::fs::rename(&link, &current).map_err(failed)?;
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let shown = self.dir.join(&name);
            if shown.symlink_metadata().is_err() {
                symlink(Path::new("..data").join(&name), shown).map_err(failed)?;
            }
        }
        for entry in std::fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            // A key that is gone leaves a link to nothing.
            if path.is_symlink() && !path.exists() {
                std::fs::remove_file(&path).map_err(failed)?;
            }
        }
        match before {
            Some(before) => std::fs::remove_dir_all(self.dir.join(before)).map_err(failed),
            None => Ok(()),
        }
    }
}

/// The keys of a ConfigMap, whichever kind of data they have.
fn keys(map: ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map
        .data
        .into_iter()
        .flatten()
        .map(|(key, value)| (key, value.into_bytes()));
    let binary = map
        .binary_data
        .into_iter()
        .flatten()
        .map(|(key, value)| (key, value.0));
    text.chain(binary).collect()
}

async fn config_map(
    name: &str,
    optional: Option<bool>,
    items: Option<&[KeyToPath]>,
    dir: &Path,
    source: &Source,
) -> Result<(), String> {
    let Some(map) = source.find::<ConfigMap>(name, optional).await? else {
        return Ok(());
    };
    write_keys(&keys(map), optional, items, dir)
}

async fn secret(
    name: &str,
    optional: Option<bool>,
    items: Option<&[KeyToPath]>,
    dir: &Path,
    source: &Source,
) -> Result<(), String> {
    let Some(secret) = source.find::<Secret>(name, optional).await? else {
        return Ok(());
    };
    let data = secret
        .data
        .into_iter()
        .flatten()
        .map(|(key, value)| (key, value.0));
    write_keys(&data.collect(), optional, items, dir)
}

/// Writes all keys, or those of `items` to the paths that they name.
fn write_keys(
    data: &BTreeMap<String, Vec<u8>>,
    optional: Option<bool>,
    items: Option<&[KeyToPath]>,
    dir: &Path,
) -> Result<(), String> {
    let Some(items) = items else {
        return data
            .iter()
            .try_for_each(|(key, value)| write(dir, key, value));
    };
    for item in items {
        match data.get(&item.key) {
            Some(value) => write(dir, &item.path, value)?,
            None if optional == Some(true) => {}
            None => return Err(format!("references non-existent key: {}", item.key)),
        }
    }
    Ok(())
}

fn downward_api(
    items: Option<&[DownwardAPIVolumeFile]>,
    pod: &Pod,
    dir: &Path,
) -> Result<(), String> {
    for item in items.unwrap_or_default() {
        let field = item
            .field_ref
            .as_ref()
            .ok_or("only fieldRef is supported by this kubelet")?;
        write(
            dir,
            &item.path,
            pod_field(pod, &field.field_path)?.as_bytes(),
        )?;
    }
    Ok(())
}

fn write(dir: &Path, path: &str, content: &[u8]) -> Result<(), String> {
    let file = inside(dir, path)?;
    let parent = file.parent().unwrap_or(dir);
    std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::write(&file, content))
        .map_err(|e| format!("{}: {e}", file.display()))
}

/// `path` below `dir`, which it can't leave.
fn inside(dir: &Path, path: &str) -> Result<PathBuf, String> {
    if Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    {
        return Ok(dir.join(path));
    }
    Err(format!(
        "{path:?} must be relative and must not contain '..'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_inside_its_volume() {
        assert_eq!(inside(Path::new("/v"), "a/b"), Ok(PathBuf::from("/v/a/b")));
        assert!(inside(Path::new("/v"), "../a").is_err());
        assert!(inside(Path::new("/v"), "/a").is_err());
    }

    #[test]
    fn a_config_map_is_shown_anew_at_once() {
        let dir = std::env::temp_dir().join(format!("process-kubelet-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let volume = ConfigMapVolume {
            dir: dir.clone(),
            from: ConfigMapVolumeSource::default(),
        };
        let map = |version: &str, data: &[(&str, &str)]| {
            let data = data.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            let mut map = ConfigMap {
                data: Some(data.collect()),
                ..ConfigMap::default()
            };
            map.metadata.resource_version = Some(version.to_owned());
            map
        };
        let shown = || {
            let entries = std::fs::read_dir(&dir).unwrap();
            let mut files: Vec<_> = entries
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.is_file())
                .map(|path| {
                    let name = path.file_name().unwrap().to_string_lossy().into_owned();
                    (name, std::fs::read_to_string(path).unwrap())
                })
                .collect();
            files.sort();
            files
        };
        let owned = |files: &[(&str, &str)]| {
            let files = files
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            files.collect::<Vec<_>>()
        };
        for (version, data) in [
            ("1", &[("a", "1"), ("b", "1")][..]),
            ("2", &[("a", "2"), ("c", "2")]),
            ("2", &[("a", "2"), ("c", "2")]),
            ("3", &[]),
        ] {
            volume.publish(map(version, data)).unwrap();
            assert_eq!(shown(), owned(data), "{version}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_token_is_replaced_well_before_it_ends() {
        let token = |life| Token {
            file: PathBuf::new(),
            audience: None,
            life,
        };
        let volumes = Volumes {
            tokens: vec![token(3607), token(600)],
            ..Volumes::default()
        };
        assert_eq!(volumes.refresh_after(), Some(Duration::from_mins(8)));
    }
}
