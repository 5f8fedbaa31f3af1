//! The conditions that kthena-bridge writes on a Model, and every reason that they can have.

use std::fmt;

/// A condition type of ours on a Model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// The request is valid, allowed and ours to serve.
    Accepted,
    /// A request sent to the Gateway now reaches a ready pod of this Model.
    ///
    /// Stricter than the condition of the same name in Gateway API, which speaks of configuration only.
    Programmed,
    /// A request through the Gateway was answered. Only where the operator is configured to send one.
    Reachable,
}

/// A condition of a ModelExposure that sums up the others, for tools that look for this one. Its reason is that of the
/// first of them that does not hold.
/// <https://github.com/kubernetes-sigs/cli-utils/blob/v0.37.2/pkg/kstatus/README.md>
pub const READY: &str = "Ready";

impl ConditionType {
    /// Every condition type of ours, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Accepted, Self::Programmed, Self::Reachable];

    /// As it stands in `status.conditions[].type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Programmed => "Programmed",
            Self::Reachable => "Reachable",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A condition's `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It holds.
    True,
    /// It does not hold; the reason names the one thing to change.
    False,
    /// Not known yet, or nobody says.
    Unknown,
}

impl Status {
    /// As it stands in `status.conditions[].status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! reasons {
    ($( $(#[$doc:meta])* $condition:ident $status:ident $name:ident, )*) => {
        /// Why a condition has the status that it has. A reason belongs to one condition and one status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $( $(#[$doc])* $name, )* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// As it stands in `status.conditions[].reason`.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$name => stringify!($name), )* }
            }

            /// The reason of this name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
            }

            /// The condition that this is a reason of.
            pub fn condition(self) -> ConditionType {
                match self { $( Self::$name => ConditionType::$condition, )* }
            }

            /// The status that the condition has with this reason.
            pub fn status(self) -> Status {
                match self { $( Self::$name => Status::$status, )* }
            }
        }
    };
}

reasons! {
    /// Valid, allowed, and being served.
    Accepted True Accepted,
    /// An annotation's key or value is not understood.
    Accepted False InvalidAnnotation,
    /// A field of a ModelExposure is not understood.
    Accepted False InvalidSpec,
    /// The target of a ModelExposure does not exist.
    Accepted False TargetNotFound,
    /// Something else exposes the Model.
    Accepted False AlreadyExposed,
    /// No Gateway is named and there is not exactly one in the Model's namespace.
    Accepted False GatewayNotSpecified,
    /// A Gateway that is named does not exist.
    Accepted False GatewayNotFound,
    /// The operator's configuration does not allow a Gateway.
    Accepted False GatewayNotAllowed,
    /// A Gateway has no listener of the name that is given.
    Accepted False ListenerNotFound,
    /// No listener takes an HTTPRoute of the Model's namespace.
    Accepted False NotAllowedByListeners,
    /// No listener serves any of the host names.
    Accepted False HostnameNotAllowed,
    /// Another route has the host, path and header already.
    Accepted False RouteConflict,
    /// An object of the needed name exists and is not ours.
    Accepted False NameConflict,
    /// The Model's pods cannot be chosen by one selector.
    Accepted False UnsupportedTopology,
    /// A kind that is needed is not installed.
    Accepted False MissingKind,
    /// The API server refuses a request of ours for want of a right.
    Accepted False Forbidden,
    /// Whether it is allowed depends on something that the operator may not read.
    Accepted Unknown NotReadable,

    /// A request sent now reaches a ready pod.
    Programmed True Programmed,
    /// Kthena has not made the Model active yet.
    Programmed False WaitingForModel,
    /// Kthena reports that the Model failed.
    Programmed False ModelFailed,
    /// The name under which the engine serves the Model cannot be found out.
    Programmed False ServedNameUnknown,
    /// No pod that the pool selects is ready.
    Programmed False NoReadyEndpoints,
    /// The ready pods serve on another port.
    Programmed False PortNotServed,
    /// The endpoint picker has no ready replica.
    Programmed False EndpointPickerNotReady,
    /// The Gateway or its listener is not programmed, or is gone.
    Programmed False GatewayNotProgrammed,
    /// A Gateway refuses the HTTPRoute.
    Programmed False RouteNotAccepted,
    /// A reference of the HTTPRoute cannot be resolved.
    Programmed False RouteNotResolved,
    /// Another route wins the requests for this host, path and header.
    Programmed False RouteOutranked,
    /// A Gateway refuses the InferencePool.
    Programmed False PoolNotAccepted,
    /// A reference of the InferencePool cannot be resolved.
    Programmed False PoolNotResolved,
    /// An object could not be written.
    Programmed False ApplyFailed,
    /// Something has not reported yet.
    Programmed Unknown Pending,
    /// This gateway never reports, or has not for 30 seconds.
    Programmed Unknown NotReported,

    /// A request was answered.
    Reachable True Reachable,
    /// A request was answered with an error.
    Reachable False RequestFailed,
    /// No request was sent yet.
    Reachable Unknown NotRequested,
    /// The Gateway's address cannot be connected to from the operator.
    Reachable Unknown ConnectionFailed,
    /// The listener's certificate is not one that the operator trusts.
    Reachable Unknown CertificateNotTrusted,
    /// The Gateway wants to know who asks.
    Reachable Unknown AuthenticationRequired,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
