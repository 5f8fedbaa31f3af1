//! What `e2e/sandbox` has prepared, and the addresses that the bed hands out in it.

use std::{net::Ipv4Addr, ops::RangeInclusive};

use tokio::process::Command;

use crate::error::{Context as _, Error, Result};

/// The variable by which the script says that this is a sandbox: `BRIDGE,ADDRESS/PREFIX,PID`.
const VARIABLE: &str = "KTHENA_BRIDGE_SANDBOX";

/// The sandbox that this process runs in.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The bridge of the pods.
    pub bridge: String,
    /// The bridge's own address, where kube-apiserver listens.
    pub address: Ipv4Addr,
    /// The prefix length of its network.
    pub prefix: u8,
    /// The pid of the script, as seen from outside: what `e2e/sandbox --join` takes.
    pub pid: u32,
}

impl Sandbox {
    /// Reads what the script has said, and removes what an earlier test binary left on the bridge.
    pub(crate) async fn enter() -> Result<Self> {
        let told = std::env::var(VARIABLE)
            .map_err(|_| Error::NotInSandbox(format!("{VARIABLE} is not set")))?;
        let sandbox = Self::parse(&told)
            .ok_or_else(|| Error::NotInSandbox(format!("{VARIABLE} is {told:?}")))?;
        // Gateways' addresses are secondary ones of the bridge.
        let own = format!("{}/{}", sandbox.address, sandbox.prefix);
        ip(&[
            "address",
            "flush",
            "dev",
            &sandbox.bridge,
            "scope",
            "global",
        ])
        .await?;
        ip(&["address", "add", &own, "dev", &sandbox.bridge]).await?;
        Ok(sandbox)
    }

    fn parse(told: &str) -> Option<Self> {
        let mut fields = told.split(',');
        let bridge = fields.next()?.to_owned();
        let (address, prefix) = fields.next()?.split_once('/')?;
        let pid = fields.next()?.parse().ok()?;
        Some(Self {
            bridge,
            address: address.parse().ok()?,
            prefix: prefix.parse().ok()?,
            pid,
        })
    }

    /// The addresses of Gateways.
    pub(crate) fn gateway_addresses(&self) -> RangeInclusive<Ipv4Addr> {
        let [a, b, ..] = self.address.octets();
        Ipv4Addr::new(a, b, 200, 1)..=Ipv4Addr::new(a, b, 200, 254)
    }

    /// The addresses of pods: all third octets of the sandbox's /16 below those of the Gateways.
    pub(crate) fn pod_addresses(&self) -> (Ipv4Addr, Ipv4Addr) {
        let [a, b, ..] = self.address.octets();
        (Ipv4Addr::new(a, b, 1, 1), Ipv4Addr::new(a, b, 199, 254))
    }
}

async fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(args)
        .output()
        .await
        .context(|| "running ip".to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::NotInSandbox(format!(
        "ip {}: {}",
        args.join(" "),
        said.trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_script_says() {
        let sandbox = Sandbox::parse("br0,10.99.0.1/16,4711").unwrap();
        assert_eq!(
            (sandbox.bridge.as_str(), sandbox.prefix, sandbox.pid),
            ("br0", 16, 4711)
        );
        assert_eq!(sandbox.pod_addresses().0, Ipv4Addr::new(10, 99, 1, 1));
        assert!(Sandbox::parse("1").is_none());
    }
}
