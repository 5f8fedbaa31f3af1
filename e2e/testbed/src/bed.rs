use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use process_kubelet::ImageMap;
use tokio::{
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::{
    audit,
    control_plane::{self, ControlPlane},
    crds,
    error::{Context as _, Error, Result},
    gateway, images,
    model::read_exposed_by,
    process::{Processes, tail},
    ready_pods,
    sandbox::Sandbox,
    wait,
};

const PARTS: &str = "KTHENA_BRIDGE_PARTS";
const NODE: &str = "testbed";
const KTHENA: &str = "kthena-controller-manager";

/// The folder with the real components, for what needs no bed.
pub fn parts() -> Result<PathBuf> {
    std::env::var(PARTS).map(PathBuf::from).map_err(|_| {
        Error::Other(format!(
            "{PARTS} is not set: it names the folder that e2e/parts/fetch prints"
        ))
    })
}

/// What a bed is to contain.
#[derive(Default)]
pub struct Options {
    /// Definitions that are not installed at the start, by full name
    /// (`inferenceobjectives.inference.networking.x-k8s.io`). [`TestBed::install_crds`] adds them later.
    pub leave_out_crds: Vec<String>,
    /// Images beside those that the bed knows by itself; they come first.
    pub images: Vec<ImageMap>,
    /// Whether pods are not run: each says at once that it is ready. For what is about objects only.
    pub ready_pods: bool,
    /// Whether nobody acts on pods, routes and pools: no kubelet and no gateway. For who writes their statuses.
    pub objects_only: bool,
    /// Controllers of kube-controller-manager that are not run, such as `deployment-controller`.
    pub without_controllers: Vec<String>,
    /// How large etcd's data may grow, in bytes; its own limit of 2 GiB where it is not given.
    pub etcd_quota: Option<u64>,
}

/// Where a bed is.
struct Place {
    sandbox: Sandbox,
    dir: PathBuf,
    parts: PathBuf,
}

/// A running cluster. Everything ends when it is dropped.
pub struct TestBed {
    place: Place,
    control_plane: ControlPlane,
    config: kube::Config,
    processes: Arc<Processes>,
    took: Duration,
    runtime: Handle,
    /// Ends the bed's thread when it is dropped, and with it all components.
    _stop: oneshot::Sender<()>,
}

impl TestBed {
    /// The bed of this test binary, started on first use.
    pub fn shared() -> Result<&'static Self, &'static Error> {
        static SHARED: OnceLock<Result<TestBed>> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::start(Options::default()))
            .as_ref()
    }

    /// Starts a bed. Blocks until it is ready.
    pub fn start(options: Options) -> Result<Self> {
        let (report, started) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        // The components are children of this thread, and they are killed with it.
        let thread = std::thread::Builder::new()
            .name("testbed".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build();
                match runtime.context(|| "starting a runtime".to_owned()) {
                    Ok(runtime) => runtime.block_on(async {
                        let handle = runtime.handle().clone();
                        let started = Self::start_components(options, handle, stop).await;
                        if report.send(started).is_ok() {
                            // An error means that the bed was dropped, which is what is waited for.
                            let _ = stopped.await;
                        }
                    }),
                    Err(error) => drop(report.send(Err(error))),
                }
            });
        thread.context(|| "starting a thread".to_owned())?;
        started
            .recv()
            .unwrap_or_else(|_| Err(Error::Other("starting the test bed panicked".to_owned())))
    }

    async fn start_components(
        options: Options,
        runtime: Handle,
        stop: oneshot::Sender<()>,
    ) -> Result<Self> {
        let began = Instant::now();
        read_exposed_by()?;
        let sandbox = Sandbox::enter().await?;
        let parts = parts()?;
        let dir = std::env::temp_dir().join(format!("testbed-{}", std::process::id()));
        let processes = Processes::new(dir.join("logs"))?;
        let place = Place {
            sandbox,
            dir,
            parts,
        };
        match bring_up(&place, options, &processes, began).await {
            Ok((control_plane, config)) => Ok(Self {
                place,
                control_plane,
                config,
                processes: Arc::new(processes),
                took: began.elapsed(),
                runtime,
                _stop: stop,
            }),
            Err(error) => Err(Error::Other(format!("{error}\n{}", processes.tails(15)))),
        }
    }

    /// A client with all rights, on the runtime of the caller (see the crate's documentation).
    pub fn client(&self) -> Result<Client> {
        Client::try_from(self.config.clone()).context(|| "making a client".to_owned())
    }

    /// A client that has the rights of a user.
    pub fn client_of(&self, user: String) -> Result<Client> {
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(user);
        Client::try_from(config).context(|| "making a client".to_owned())
    }

    /// A kubeconfig with all rights. It is valid inside the sandbox only.
    pub fn kubeconfig(&self) -> &Path {
        &self.control_plane.kubeconfig
    }

    /// The folder with the real components.
    pub fn parts(&self) -> &Path {
        &self.place.parts
    }

    /// The sandbox that the bed runs in.
    pub fn sandbox(&self) -> &Sandbox {
        &self.place.sandbox
    }

    /// How long the start took.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Installs the definitions of the Prometheus operator, which a bed does not begin with.
    pub async fn install_prometheus_operator_crds(&self) -> Result<()> {
        let definitions = crds::read_folder(&self.place.parts, "prometheus-operator")?;
        crds::install(&self.client()?, definitions).await
    }

    /// Installs the project's own definitions, which come with the operator wherever that is installed.
    pub async fn install_own_crds(&self) -> Result<()> {
        crds::install(&self.client()?, crds::read_own()?).await
    }

    /// Installs definitions that [`Options::leave_out_crds`] left out, and waits until they are served.
    pub async fn install_crds(&self, names: &[&str]) -> Result<()> {
        let mut wanted = crds::read(&self.place.parts)?;
        wanted.retain(|d| names.contains(&d.name.as_str()));
        crds::install(&self.client()?, wanted).await
    }

    /// Kills the API server.
    pub async fn stop_api_server(&self) -> Result<()> {
        self.processes.stop(control_plane::API_SERVER).await
    }

    /// Starts the API server again, and waits until it is ready.
    pub async fn start_api_server(&self) -> Result<()> {
        let (processes, binaries) = (Arc::clone(&self.processes), self.place.parts.join("bin"));
        let plane = self.control_plane.clone();
        self.start_component(control_plane::API_SERVER, move || {
            plane.start_api_server(&processes, &binaries)
        })
        .await?;
        let client = self.client()?;
        let what = "kube-apiserver is ready again";
        self.wait_for(what, control_plane::READY, async || {
            control_plane::ready(&client).await
        })
        .await
    }

    /// Has etcd refuse what takes space, as it does at the end of its quota.
    /// <https://etcd.io/docs/v3.6/op-guide/maintenance/#space-quota>
    pub async fn fill_etcd(&self) -> Result<()> {
        self.alarm("ACTIVATE").await
    }

    /// Has etcd take everything again.
    pub async fn empty_etcd(&self) -> Result<()> {
        self.alarm("DEACTIVATE").await
    }

    async fn alarm(&self, action: &str) -> Result<()> {
        let url = format!("http://{}/v3/maintenance/alarm", control_plane::ETCD);
        let asked = serde_json::json!({"action": action, "alarm": "NOSPACE"});
        match self.post(&url, &[], &asked).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(Error::Other(format!("{action} of etcd's alarm: {other:?}"))),
        }
    }

    /// Ends Kthena's controller-manager.
    pub async fn stop_kthena(&self) -> Result<()> {
        self.processes.stop(KTHENA).await
    }

    /// Starts Kthena's controller-manager again.
    pub async fn start_kthena(&self) -> Result<()> {
        let processes = Arc::clone(&self.processes);
        let (binaries, kubeconfig) = (
            self.place.parts.join("bin"),
            self.control_plane.kubeconfig.clone(),
        );
        self.start_component(KTHENA, move || {
            start_kthena(&processes, &binaries, &kubeconfig)
        })
        .await
    }

    /// Starts a component where it is not killed with a thread that ends before the bed.
    async fn start_component(
        &self,
        name: &str,
        start: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let started = self.runtime.spawn(async { start() });
        let started = started.await;
        started.map_err(|e| Error::Other(format!("starting {name}: {e}")))?
    }

    /// Looks until `look` gives a value, and fails when it has not within `deadline`, or when a component
    /// ended meanwhile. What `look` gives as an error is the state seen: the time-out's message shows it.
    pub async fn wait_for<T>(
        &self,
        what: impl AsRef<str>,
        deadline: Duration,
        look: impl AsyncFnMut() -> Result<T, String>,
    ) -> Result<T> {
        wait::until(|| self.check(), what.as_ref(), deadline, look).await
    }

    /// Fails when a component has ended.
    pub fn check(&self) -> Result<()> {
        self.processes.check()
    }

    /// Waits for Ctrl-C or SIGTERM; an error if a component ends before.
    pub async fn until_stopped(&self) -> Result<()> {
        let mut terminated =
            signal(SignalKind::terminate()).context(|| "listening to SIGTERM".to_owned())?;
        let mut look = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return Ok(()),
                _ = terminated.recv() => return Ok(()),
                _ = look.tick() => self.check()?,
            }
        }
    }

    /// The whole log of a component, such as `kube-apiserver`.
    pub fn log(&self, component: &str) -> String {
        tail(&self.processes.log_of(component), usize::MAX)
    }

    /// The log of a pod's container, over all its restarts.
    pub fn container_log(&self, namespace: &str, pod: &str, container: &str) -> String {
        tail(
            &process_kubelet::log_path(&self.place.dir.join("kubelet"), namespace, pod, container),
            usize::MAX,
        )
    }

    /// The ends of all logs: of the components, and of the containers of one namespace.
    pub fn tails(&self, namespace: &str, lines: usize) -> String {
        let mut text = self.processes.tails(lines);
        for path in process_kubelet::logs_of(&self.place.dir.join("kubelet"), namespace) {
            let _ = writeln!(text, "--- {}\n{}", path.display(), tail(&path, lines));
        }
        text
    }

    /// What the operator asked the API server for so far, whoever of it asked.
    pub fn audit(&self) -> Result<Vec<audit::Request>> {
        audit::read(&self.control_plane.audit_log)
    }

    /// The same as it comes, from the beginning.
    pub fn audit_tail(&self) -> audit::Tail {
        audit::Tail::of(self.control_plane.audit_log.clone())
    }

    /// The folder of all files of the bed, logs included.
    pub fn dir(&self) -> &Path {
        &self.place.dir
    }

    pub(crate) fn config(&self) -> &kube::Config {
        &self.config
    }

    /// Runs a task on the bed's own runtime.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }
}

/// Starts all components and waits for what a test relies on from its first line on.
async fn bring_up(
    place: &Place,
    options: Options,
    processes: &Processes,
    began: Instant,
) -> Result<(ControlPlane, kube::Config)> {
    let Place {
        sandbox,
        dir,
        parts,
    } = place;
    let binaries = parts.join("bin");
    let mut definitions = crds::read(parts)?;
    definitions.retain(|d| !options.leave_out_crds.contains(&d.name));

    let (control_plane, config) = ControlPlane::start(
        processes,
        &binaries,
        dir,
        sandbox.address,
        options.etcd_quota,
    )
    .await?;
    tracing::info!(after = ?began.elapsed(), "kube-apiserver is ready");
    let client = Client::try_from(config.clone()).context(|| "making a client".to_owned())?;
    crds::install(&client, definitions).await?;
    tracing::info!(after = ?began.elapsed(), "the definitions are served");

    control_plane.start_controllers(processes, &binaries, &options.without_controllers)?;
    start_kthena(processes, &binaries, &control_plane.kubeconfig)?;

    let runs_pods = !(options.ready_pods || options.objects_only);
    if options.ready_pods {
        let (first, _) = sandbox.pod_addresses();
        processes.spawn("ready-pods", ready_pods::run(client.clone(), first));
    } else if runs_pods {
        let mut known = options.images;
        known.extend(images::known(&binaries, &images::built_binaries()?));
        let kubelet = process_kubelet::Config {
            node_name: NODE.to_owned(),
            bridge: sandbox.bridge.clone(),
            address: sandbox.address,
            prefix: sandbox.prefix,
            pod_addresses: sandbox.pod_addresses(),
            dir: dir.join("kubelet"),
            images: known,
            api_server: (control_plane.address, control_plane.port),
            max_grace: Duration::from_secs(3),
        };
        let kubelet = process_kubelet::run(client.clone(), kubelet, std::future::pending());
        processes.spawn("kubelet", kubelet);
    }

    if !options.objects_only {
        let gateway = gateway::config(
            &binaries.join("envoy"),
            dir,
            &processes.log_of("gateway"),
            sandbox,
        )?;
        processes.spawn(
            "gateway",
            stand_in_gateway::run(client.clone(), gateway, std::future::pending()),
        );
    }
    if !options
        .leave_out_crds
        .iter()
        .any(|name| name == gateway::CLASS_CRD)
    {
        gateway::create_class(&client).await?;
    }

    let what = "the node is there if there is to be one, and the namespace default has its service account and CA";
    wait::until(
        || processes.check(),
        what,
        Duration::from_secs(30),
        async || {
            crate::namespace::usable(&client, "default").await?;
            if !runs_pods {
                return Ok(());
            }
            Api::<Node>::all(client.clone())
                .get(NODE)
                .await
                .map(drop)
                .map_err(|e| e.to_string())
        },
    )
    .await?;
    tracing::info!(after = ?began.elapsed(), "the test bed is up");
    Ok((control_plane, config))
}

/// Starts Kthena's controller-manager. Must run on a thread that lives as long as the bed.
fn start_kthena(processes: &Processes, binaries: &Path, kubeconfig: &Path) -> Result<()> {
    let args = [
        format!("--kubeconfig={}", kubeconfig.display()),
        "--enable-webhook=false".to_owned(),
        "--controllers=modelserving,modelbooster".to_owned(),
        "--leader-elect=false".to_owned(),
        // Its default of 5 requests a second would be most of a test's time.
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=500".to_owned(),
    ];
    processes.start(KTHENA, &binaries.join(KTHENA), &args)
}
