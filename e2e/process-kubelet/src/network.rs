//! A network namespace per pod, with one end of a veth pair in it and the other on the bridge.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::command::{self, Failed};

/// The prefix of the names of network namespaces, by which leftovers are known.
const PREFIX: &str = "pod-";

/// Hands out addresses and makes the networks of pods.
pub(crate) struct Network {
    bridge: String,
    gateway: Ipv4Addr,
    prefix: u8,
    first: u32,
    count: u32,
    next: AtomicU32,
}

/// The network of one pod.
#[derive(Clone, Debug)]
pub(crate) struct PodNetwork {
    pub(crate) namespace: String,
    pub(crate) address: Ipv4Addr,
    link: String,
}

impl Network {
    pub(crate) fn new(
        bridge: String,
        gateway: Ipv4Addr,
        prefix: u8,
        (first, last): (Ipv4Addr, Ipv4Addr),
    ) -> Self {
        let first = u32::from(first);
        let count = u32::from(last).saturating_sub(first) + 1;
        Self {
            bridge,
            gateway,
            prefix,
            first,
            count,
            next: AtomicU32::new(0),
        }
    }

    /// Removes the networks that a kubelet before this one has left.
    pub(crate) async fn remove_leftovers(&self) {
        let entries = std::fs::read_dir("/run/netns")
            .into_iter()
            .flatten()
            .flatten();
        for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
            if name.starts_with(PREFIX) {
                delete(&name).await;
            }
        }
    }

    /// Makes the network of a pod.
    pub(crate) async fn add(&self, uid: &str) -> Result<PodNetwork, Failed> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let network = PodNetwork {
            namespace: format!("{PREFIX}{uid}"),
            // An address comes up again only after all others: neighbours may still know the old owner.
            // Octets 0 and 255 are skipped, since some programs take them for network addresses.
            address: self.address(number),
            link: format!("veth{number:x}"),
        };
        let PodNetwork {
            namespace,
            address,
            link,
        } = &network;
        let outside = format!(
            "netns add {namespace}\n\
             link add {link} type veth peer name eth0 netns {namespace}\n\
             link set {link} master {} up\n",
            self.bridge
        );
        let inside = format!(
            "link set lo up\naddress add {address}/{} dev eth0\nlink set eth0 up\nroute add default via {}\n",
            self.prefix, self.gateway
        );
        let made = async {
            command::run("ip", &["-batch", "-"], &outside).await?;
            command::run("ip", &["-netns", namespace, "-batch", "-"], &inside).await
        };
        if let Err(error) = made.await {
            self.remove(&network).await;
            return Err(error);
        }
        Ok(network)
    }

    /// Removes the network of a pod whose processes have ended.
    pub(crate) async fn remove(&self, network: &PodNetwork) {
        // The kernel removes the pair with the namespace, but only some time after its last process.
        let _ = command::run("ip", &["link", "delete", &network.link], "").await;
        delete(&network.namespace).await;
    }

    fn address(&self, number: u32) -> Ipv4Addr {
        let usable = self.count / 256 * 254 + (self.count % 256).min(254);
        let number = number % usable.max(1);
        Ipv4Addr::from(self.first + number / 254 * 256 + number % 254)
    }
}

async fn delete(namespace: &str) {
    if let Err(error) = command::run("ip", &["netns", "delete", namespace], "").await {
        tracing::debug!(%error, "removing a network namespace");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_skip_the_ends_of_each_256_and_start_over() {
        let range = (Ipv4Addr::new(10, 99, 1, 1), Ipv4Addr::new(10, 99, 2, 254));
        let network = Network::new("br0".to_owned(), Ipv4Addr::new(10, 99, 0, 1), 16, range);
        let at = |n| network.address(n).to_string();
        assert_eq!(at(0), "10.99.1.1");
        assert_eq!(at(253), "10.99.1.254");
        assert_eq!(at(254), "10.99.2.1");
        assert_eq!(at(507), "10.99.2.254");
        assert_eq!(at(508), "10.99.1.1");
    }
}
