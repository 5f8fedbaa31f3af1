//! The Envoy process and the files that it reads.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::{Child, Command};

use crate::{Config, error::Error, xds, xds::Xds};

/// A running Envoy, which is killed when this is dropped.
pub(crate) struct Envoy {
    process: Child,
    log: PathBuf,
}

impl Envoy {
    /// Starts it on the files that are there.
    pub(crate) fn start(config: &Config) -> Result<Self, Error> {
        let bootstrap = config.dir.join("bootstrap.json");
        replace(
            &config.dir,
            &bootstrap,
            &xds::bootstrap(&config.dir, config.admin_port).to_string(),
        )?;
        let log = fs::File::create(&config.log).map_err(|source| Error::Write {
            path: config.log.clone(),
            source,
        })?;
        let failed = |source| Error::Start {
            path: config.envoy.clone(),
            source,
        };
        let process = Command::new(&config.envoy)
            .arg("--config-path")
            .arg(&bootstrap)
            // Hot restart would share memory between all Envoys of the machine.
            .args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "info",
            ])
            // A listener that goes is gone for its clients as well, not only after ten minutes.
            .args(["--drain-time-s", "1", "--drain-strategy", "immediate"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        Ok(Self {
            process,
            log: config.log.clone(),
        })
    }

    /// Waits for it to end, which it should not.
    pub(crate) async fn ended(&mut self) -> Error {
        match self.process.wait().await {
            Ok(status) => Error::Exited {
                status,
                log: self.log.clone(),
            },
            Err(source) => Error::Start {
                path: self.log.clone(),
                source,
            },
        }
    }
}

/// The xDS files as they are on disk.
pub(crate) struct Files {
    dir: PathBuf,
    written: BTreeMap<PathBuf, String>,
}

impl Files {
    pub(crate) fn new(dir: &Path) -> Result<Self, Error> {
        for folder in ["eds", "rds", "new"] {
            let path = dir.join(folder);
            fs::create_dir_all(&path).map_err(|source| Error::Write { path, source })?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            written: BTreeMap::new(),
        })
    }

    /// Writes what differs, and removes what nothing refers to any more.
    ///
    /// The files are small and few, so this blocks.
    pub(crate) fn write(&mut self, xds: &Xds) -> Result<(), Error> {
        let mut kept = BTreeMap::new();
        for (path, content) in xds.files(&self.dir) {
            let content = content.to_string();
            if self.written.get(&path) != Some(&content) {
                replace(&self.dir, &path, &content)?;
            }
            kept.insert(path, content);
        }
        for path in self.written.keys().filter(|path| !kept.contains_key(*path)) {
            match fs::remove_file(path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::Write {
                        path: path.clone(),
                        source,
                    });
                }
                _ => {}
            }
        }
        self.written = kept;
        Ok(())
    }
}

/// Moves a file into its place: Envoy reads a file again only when one is moved there.
/// <https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/core/v3/config_source.proto>
fn replace(dir: &Path, path: &Path, content: &str) -> Result<(), Error> {
    let failed = |source| Error::Write {
        path: path.to_owned(),
        source,
    };
    let new = dir.join("new").join("file");
    fs::write(&new, content).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}
