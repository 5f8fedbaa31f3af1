//! Addresses of Gateways: who has which, and putting them on an interface.

use std::{collections::BTreeMap, net::Ipv4Addr, ops::RangeInclusive};

use serde_json::Value;
use tokio::process::Command;

use crate::{
    api::Gateway,
    error::Error,
    snapshot::{Key, Snapshot},
    status::requested_address,
};

/// The addresses that are handed out, and to whom.
pub(crate) struct Addresses {
    pool: RangeInclusive<Ipv4Addr>,
    assigned: BTreeMap<Key, Ipv4Addr>,
    /// The one that was handed out last.
    last: Option<Ipv4Addr>,
}

/// What is to be done on the interface after an update.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) added: Vec<Ipv4Addr>,
    pub(crate) removed: Vec<Ipv4Addr>,
}

impl Addresses {
    pub(crate) fn new(pool: RangeInclusive<Ipv4Addr>) -> Self {
        Self {
            pool,
            assigned: BTreeMap::new(),
            last: None,
        }
    }

    pub(crate) fn assigned(&self) -> &BTreeMap<Key, Ipv4Addr> {
        &self.assigned
    }

    /// Gives each Gateway that is to have an address one, which it keeps for as long as it lives.
    pub(crate) fn update(&mut self, snapshot: &Snapshot) -> Changes {
        let usable = |key: &Key, gateway: &Gateway| {
            requested_address(&snapshot.services, key, gateway).is_usable()
        };
        let wanting: Vec<_> = snapshot
            .served_gateways()
            .filter(|(key, gateway)| usable(key, gateway))
            .collect();
        let mut changes = Changes::default();
        self.assigned.retain(|key, address| {
            let stays = wanting.iter().any(|(wanted, _)| *wanted == key);
            if !stays {
                changes.removed.push(*address);
            }
            stays
        });
        for (key, gateway) in wanting {
            if !self.assigned.contains_key(key)
                && let Some(address) = self.free(gateway)
            {
                self.assigned.insert(key.clone(), address);
                self.last = Some(address);
                changes.removed.retain(|removed| *removed != address);
                changes.added.push(address);
            }
        }
        changes
    }

    /// The one that its status names, from an earlier run, or else the next that nobody has. One that was
    /// given back comes last: whoever still asks it should get no answer of another Gateway.
    fn free(&self, gateway: &Gateway) -> Option<Ipv4Addr> {
        let status = gateway.status.as_ref();
        let before = status
            .and_then(|status| status.pointer("/addresses/0/value"))
            .and_then(Value::as_str);
        let before = before
            .and_then(|address| address.parse().ok())
            .filter(|address| self.pool.contains(address));
        let (first, end) = (u32::from(*self.pool.start()), u32::from(*self.pool.end()));
        let next = self.last.map_or(first, |last| u32::from(last) + 1);
        before
            .into_iter()
            .chain((next..=end).chain(first..=end).map(Ipv4Addr::from))
            .find(|address| !self.assigned.values().any(|a| a == address))
    }
}

/// Puts an address on the interface, or finds it there.
pub(crate) async fn add(address: Ipv4Addr, interface: &str) -> Result<(), Error> {
    ip("replace", address, interface).await
}

/// Takes an address from the interface.
pub(crate) async fn remove(address: Ipv4Addr, interface: &str) -> Result<(), Error> {
    ip("del", address, interface).await
}

async fn ip(verb: &str, address: Ipv4Addr, interface: &str) -> Result<(), Error> {
    let arguments = ["address", verb, &format!("{address}/32"), "dev", interface];
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .await
        .map_err(Error::Ip)?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Address {
        command: arguments.join(" "),
        message,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tests::{gateway, gateway_class};

    fn cluster(gateways: &[&str]) -> Snapshot {
        Snapshot {
            gateway_classes: crate::snapshot::objects([Arc::new(gateway_class())]),
            gateways: crate::snapshot::objects(
                gateways.iter().map(|name| Arc::new(gateway("infra", name))),
            ),
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_gateway_keeps_its_address_and_gives_it_back() {
        let [first, second] = [1, 2].map(|last| Ipv4Addr::new(10, 0, 0, last));
        let mut addresses = Addresses::new(first..=second);
        assert_eq!(addresses.update(&cluster(&["b"])).added, [first]);
        assert_eq!(addresses.update(&cluster(&["a", "b"])).added, [second]);
        assert_eq!(addresses.update(&cluster(&["a", "b"])), Changes::default());
        // The pool is exhausted.
        assert_eq!(
            addresses.update(&cluster(&["a", "b", "c"])),
            Changes::default()
        );
        assert_eq!(addresses.update(&cluster(&["a"])).removed, [first]);
        assert_eq!(addresses.update(&cluster(&["a", "d"])).added, [first]);
        // An address that changes hands stays on the interface.
        let changes = addresses.update(&cluster(&["a", "e"]));
        assert_eq!(
            changes,
            Changes {
                added: vec![first],
                removed: Vec::new()
            }
        );
    }

    #[test]
    fn a_gateway_gets_the_address_of_its_status_again() {
        let mut snapshot = cluster(&[]);
        let mut known = gateway("infra", "b");
        known.status =
            Some(serde_json::json!({"addresses": [{"type": "IPAddress", "value": "10.0.0.7"}]}));
        snapshot.gateways = crate::snapshot::objects([Arc::new(known)]);
        let mut addresses = Addresses::new(Ipv4Addr::new(10, 0, 0, 1)..=Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(
            addresses.update(&snapshot).added,
            [Ipv4Addr::new(10, 0, 0, 7)]
        );
    }
}
