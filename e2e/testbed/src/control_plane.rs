//! etcd, kube-apiserver and kube-controller-manager.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::{
    error::{Context as _, Error, Result},
    process::Processes,
    wait,
};

const PORT: u16 = 6443;
pub(crate) const ETCD: &str = "127.0.0.1:2379";
pub(crate) const API_SERVER: &str = "kube-apiserver";
/// How long the API server may take to be ready.
pub(crate) const READY: Duration = Duration::from_secs(30);
/// Distinct from the pods' network. Nothing routes these: there is no kube-proxy.
const SERVICE_RANGE: &str = "10.96.0.0/16";
/// kube-apiserver takes the first address of the range for the Service `kubernetes`.
const KUBERNETES_SERVICE: &str = "10.96.0.1";

/// Those that a Deployment, a Service, a namespace, a quota and owner references need. Nodes are kept by
/// the kubelet, so the node controllers, which would miss its lease, are left out.
const CONTROLLERS: &str = "clusterrole-aggregation-controller,deployment-controller,disruption-controller,\
    endpointslice-controller,garbage-collector-controller,job-controller,namespace-controller,\
    replicaset-controller,resourcequota-controller,root-ca-certificate-publisher-controller,\
    serviceaccount-controller,serviceaccount-token-controller,statefulset-controller";

/// What the API server records: the operator's requests, and nobody else's.
const AUDIT_POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, users: ["system:serviceaccount:kthena-bridge-system:kthena-bridge"]}
- {level: None}
"#;

/// How the API server is reached.
#[derive(Clone)]
pub(crate) struct ControlPlane {
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) ca: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) audit_log: PathBuf,
    service_account_key: PathBuf,
    dir: PathBuf,
}

impl ControlPlane {
    /// Starts etcd and kube-apiserver and waits until the latter is ready.
    pub(crate) async fn start(
        processes: &Processes,
        binaries: &Path,
        dir: &Path,
        address: Ipv4Addr,
        etcd_quota: Option<u64>,
    ) -> Result<(Self, kube::Config)> {
        let dir = dir.join("control-plane");
        std::fs::create_dir_all(&dir).context(|| format!("creating {}", dir.display()))?;
        let plane = Self {
            address,
            port: PORT,
            ca: dir.join("ca.crt"),
            kubeconfig: dir.join("kubeconfig"),
            audit_log: dir.join("audit.log"),
            service_account_key: dir.join("service-account.key"),
            dir,
        };
        let dir = &plane.dir;
        let token = plane.write_credentials(dir)?;
        // An earlier test binary's API server may still be ending.
        wait::until(
            || Ok(()),
            "the ports of etcd and kube-apiserver are free",
            Duration::from_secs(5),
            async || {
                let in_use = [ETCD.to_owned(), format!("0.0.0.0:{PORT}")]
                    .into_iter()
                    .find_map(|address| {
                        std::net::TcpListener::bind(&address)
                            .err()
                            .map(|error| format!("{address}: {error}"))
                    });
                in_use.map_or(Ok(()), Err)
            },
        )
        .await?;
        processes.start("etcd", &binaries.join("etcd"), &etcd_args(dir, etcd_quota))?;
        plane.start_api_server(processes, binaries)?;
        let config = plane.client_config(&token).await?;
        let client =
            kube::Client::try_from(config.clone()).context(|| "making a client".to_owned())?;
        wait::until(
            || processes.check(),
            "kube-apiserver is ready",
            READY,
            async || ready(&client).await,
        )
        .await?;
        Ok((plane, config))
    }

    /// Starts kube-apiserver. Must run on a thread that lives as long as the bed.
    pub(crate) fn start_api_server(&self, processes: &Processes, binaries: &Path) -> Result<()> {
        processes.start(
            API_SERVER,
            &binaries.join(API_SERVER),
            &self.apiserver_args(),
        )
    }

    /// Starts kube-controller-manager. The kinds that its garbage collector is to know must be served
    /// by then: it looks for new ones only every 30 s.
    pub(crate) fn start_controllers(
        &self,
        processes: &Processes,
        binaries: &Path,
        without: &[String],
    ) -> Result<()> {
        let controllers: Vec<&str> = CONTROLLERS
            .split(',')
            .map(str::trim)
            .filter(|name| !without.iter().any(|left_out| left_out == name))
            .collect();
        let args = [
            format!("--kubeconfig={}", self.kubeconfig.display()),
            format!("--controllers={}", controllers.join(",")),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            format!("--root-ca-file={}", self.ca.display()),
            format!(
                "--service-account-private-key-file={}",
                self.service_account_key.display()
            ),
        ];
        processes.start(
            "kube-controller-manager",
            &binaries.join("kube-controller-manager"),
            &args,
        )
    }

    /// Writes the authority, the serving certificate, the key that signs service account tokens and
    /// the administrator's token and kubeconfig. Returns the token.
    fn write_credentials(&self, dir: &Path) -> Result<String> {
        let certificates = certificates(self.address)
            .map_err(|e| Error::Other(format!("making certificates: {e}")))?;
        let token = std::fs::read_to_string("/proc/sys/kernel/random/uuid")
            .context(|| "making a token".to_owned())?;
        let token = token.trim().to_owned();
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: testbed\n\
             clusters: [{{name: testbed, cluster: {{server: 'https://{}:{}', certificate-authority: '{}'}}}}]\n\
             users: [{{name: admin, user: {{token: '{token}'}}}}]\n\
             contexts: [{{name: testbed, context: {{cluster: testbed, user: admin}}}}]\n",
            self.address,
            self.port,
            self.ca.display(),
        );
        let files = [
            (self.ca.clone(), certificates.ca),
            (dir.join("serving.crt"), certificates.serving),
            (dir.join("serving.key"), certificates.serving_key),
            (
                self.service_account_key.clone(),
                certificates.service_account_key,
            ),
            (
                dir.join("service-account.pub"),
                certificates.service_account_public_key,
            ),
            (
                dir.join("tokens.csv"),
                format!("{token},admin,admin,system:masters\n"),
            ),
            (self.kubeconfig.clone(), kubeconfig),
            (dir.join("audit.yaml"), AUDIT_POLICY.to_owned()),
        ];
        for (path, content) in files {
            std::fs::write(&path, content).context(|| format!("writing {}", path.display()))?;
        }
        Ok(token)
    }

    async fn client_config(&self, token: &str) -> Result<kube::Config> {
        let kubeconfig = kube::config::Kubeconfig::read_from(&self.kubeconfig)
            .map_err(|e| Error::Other(format!("reading {}: {e}", self.kubeconfig.display())))?;
        let mut config = kube::Config::from_custom_kubeconfig(
            kubeconfig,
            &kube::config::KubeConfigOptions::default(),
        )
        .await
        .map_err(|e| {
            Error::Other(format!(
                "{} with token {token}: {e}",
                self.kubeconfig.display()
            ))
        })?;
        // The sandbox has no network that a proxy of the environment could be in.
        config.proxy_url = None;
        // Retrying is up to those who wait, and the pauses of the default grow to minutes.
        config.default_retry = false;
        Ok(config)
    }

    fn apiserver_args(&self) -> Vec<String> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        vec![
            format!("--etcd-servers=http://{ETCD}"),
            "--bind-address=0.0.0.0".to_owned(),
            format!("--advertise-address={}", self.address),
            format!("--secure-port={}", self.port),
            format!("--tls-cert-file={}", file("serving.crt")),
            format!("--tls-private-key-file={}", file("serving.key")),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("service-account.pub")),
            format!(
                "--service-account-signing-key-file={}",
                self.service_account_key.display()
            ),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            format!("--audit-policy-file={}", file("audit.yaml")),
            format!("--audit-log-path={}", self.audit_log.display()),
            // In MiB. Without it the log is moved away when it has 100, and who reads it misses what comes then.
            "--audit-log-maxsize=16384".to_owned(),
            "--allow-privileged=true".to_owned(),
        ]
    }
}

fn etcd_args(dir: &Path, quota: Option<u64>) -> Vec<String> {
    let url = format!("http://{ETCD}");
    let mut args = vec![
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        // One member that is thrown away: durability would only cost time.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    args.extend(quota.map(|bytes| format!("--quota-backend-bytes={bytes}")));
    args
}

pub(crate) async fn ready(client: &kube::Client) -> Result<(), String> {
    let request = kube::core::Request::new("").get("readyz", &kube::api::GetParams::default());
    let request = request.map_err(|e| e.to_string())?;
    client
        .request_text(request)
        .await
        .map(drop)
        .map_err(|e| e.to_string())
}

struct Certificates {
    ca: String,
    serving: String,
    serving_key: String,
    service_account_key: String,
    service_account_public_key: String,
}

fn certificates(address: Ipv4Addr) -> Result<Certificates, rcgen::Error> {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    ca.distinguished_name.push(DnType::CommonName, "testbed");
    let ca_key = KeyPair::generate()?;
    let ca_certificate = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);

    let names = [
        address.to_string(),
        "127.0.0.1".to_owned(),
        KUBERNETES_SERVICE.to_owned(),
        "localhost".to_owned(),
        "kubernetes".to_owned(),
        "kubernetes.default".to_owned(),
        "kubernetes.default.svc".to_owned(),
        "kubernetes.default.svc.cluster.local".to_owned(),
    ];
    let mut serving = CertificateParams::new(names)?;
    serving
        .distinguished_name
        .push(DnType::CommonName, "kube-apiserver");
    serving.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    serving.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let serving_key = KeyPair::generate()?;
    let serving_certificate = serving.signed_by(&serving_key, &issuer)?;

    let service_account_key = KeyPair::generate()?;
    Ok(Certificates {
        ca: ca_certificate.pem(),
        serving: serving_certificate.pem(),
        serving_key: serving_key.serialize_pem(),
        service_account_public_key: service_account_key.public_key_pem(),
        service_account_key: service_account_key.serialize_pem(),
    })
}
