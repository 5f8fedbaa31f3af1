//! The loop: whenever something changes, translate everything and write what differs.

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use futures::StreamExt as _;
use jiff::Timestamp;
use kube::{
    Api, Client,
    api::PostParams,
    core::{DynamicObject, ObjectMeta, TypeMeta},
};
use serde_json::json;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use crate::{
    Config,
    address::{self, Addresses},
    envoy::{Envoy, Files},
    error::Error,
    status::StatusWrite,
    translate,
    watch::Watches,
    xds::{Options, Xds},
};

/// One apply of several objects makes several events; longer than this would be seen in latencies.
const COALESCE: Duration = Duration::from_millis(5);
/// How long a status may take to be written before it is tried again.
const WRITE: Duration = Duration::from_secs(5);
/// How many statuses are written at a time.
const WRITES: usize = 8;

/// Where distributions keep the CA certificates.
const SYSTEM_CA: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Serves until `shutdown`, or until it can't. Envoy ends with it, also when this future is dropped.
pub async fn run(
    client: Client,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let system_ca = SYSTEM_CA
        .iter()
        .find(|path| Path::new(path).exists())
        .ok_or(Error::NoSystemCa(SYSTEM_CA))?;
    let options = Options {
        dir: config.dir.clone(),
        system_ca: system_ca.into(),
    };
    let mut files = Files::new(&config.dir)?;
    // Envoy wants the files that it subscribes to to be there.
    files.write(&Xds::default())?;
    let mut envoy = Envoy::start(&config)?;
    tokio::select! {
        () = shutdown => Ok(()),
        error = envoy.ended() => Err(error),
        result = serve(&client, &config, &options, files) => result,
    }
}

async fn serve(
    client: &Client,
    config: &Config,
    options: &Options,
    mut files: Files,
) -> Result<(), Error> {
    let changed = Arc::new(Notify::new());
    let watches = Watches::start(client, &changed);
    let mut addresses = Addresses::new(config.addresses.clone());
    loop {
        changed.notified().await;
        sleep(COALESCE).await;
        let Some(mut snapshot) = watches.snapshot() else {
            continue;
        };
        let moved = addresses.update(&snapshot);
        for address in &moved.added {
            address::add(*address, &config.interface).await?;
        }
        snapshot.addresses.clone_from(addresses.assigned());
        snapshot.now = Timestamp::now();

        let (xds, writes) = translate(&snapshot, options);
        files.write(&xds)?;
        for address in &moved.removed {
            if let Err(error) = address::remove(*address, &config.interface).await {
                tracing::warn!(%error, "an address that no Gateway has any more stays");
            }
        }
        let written: Vec<bool> = futures::stream::iter(writes)
            .map(|status| write(client, status))
            .buffer_unordered(WRITES)
            .collect()
            .await;
        if written.contains(&false) {
            retry(&changed);
        }
    }
}

/// Starts over a moment later, without waiting for a change.
fn retry(changed: &Arc<Notify>) {
    let changed = Arc::clone(changed);
    tokio::spawn(async move {
        sleep(Duration::from_millis(500)).await;
        changed.notify_one();
    });
}

/// Whether the status is there now, or needs no other try.
async fn write(client: &Client, status: StatusWrite) -> bool {
    let StatusWrite {
        kind,
        key,
        resource_version,
        status,
    } = status;
    let resource = kind.resource();
    let api: Api<DynamicObject> = if key.namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), &key.namespace, &resource)
    };
    let object = DynamicObject {
        types: Some(TypeMeta {
            api_version: resource.api_version.clone(),
            kind: resource.kind.clone(),
        }),
        metadata: ObjectMeta {
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            resource_version: Some(resource_version),
            ..ObjectMeta::default()
        },
        data: json!({"status": status}),
    };
    let kind = resource.kind;
    match timeout(
        WRITE,
        api.replace_status(&key.name, &PostParams::default(), &object),
    )
    .await
    {
        Ok(Ok(_)) => true,
        // The object has changed or gone, and its event is under way.
        Ok(Err(kube::Error::Api(error))) if error.code == 409 || error.code == 404 => true,
        Ok(Err(error)) => {
            tracing::warn!(kind, %key, %error, "writing a status");
            false
        }
        Err(_) => {
            tracing::warn!(kind, %key, "writing a status takes too long");
            false
        }
    }
}
