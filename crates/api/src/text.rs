//! The forms of text in the operator's configuration and in a ModelExposure. What a form allows is a pattern, which
//! is in the schema as well.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// For a message: in quotes, control characters escaped, and shortened.
pub fn quote(value: &str) -> String {
    const SHOWN: usize = 80;
    let mut text: String = value
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if value.chars().nth(SHOWN).is_some() {
        text.push('…');
    }
    format!("\"{text}\"")
}

macro_rules! texts {
    ($( $(#[$doc:meta])* $name:ident, $is:literal, $longest:literal, $pattern:expr; )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(String);

        impl $name {
            /// What every value matches.
            pub const PATTERN: &'static str = $pattern;
            /// What every value is, as the end of a sentence about one that is not.
            pub const FORM: &'static str = $is;

            /// The text, where it has this form.
            ///
            /// # Errors
            /// What is allowed, as a sentence about the text.
            pub fn new(text: &str) -> Result<Self, String> {
                static PATTERN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new($name::PATTERN).ok());
                let fits = PATTERN.as_ref().is_some_and(|pattern| pattern.is_match(text));
                if fits && text.chars().count() <= $longest {
                    return Ok(Self(text.to_owned()));
                }
                Err(format!("{} is not {}", quote(text), $is))
            }

            /// A text that is known to have this form.
            pub fn known(text: &'static str) -> Self {
                Self(text.to_owned())
            }

            /// As it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(&String::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": Self::PATTERN, "maxLength": $longest})
            }
        }
    )* };
}

// The grammars are Kubernetes' own:
// https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
// https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
texts! {
    /// The name of a namespace: a DNS-1123 label.
    NamespaceName, "a namespace's name: lower-case letters, digits and '-', at most 63 characters", 63,
        r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$";
    /// The name of an object: a DNS-1123 subdomain.
    ObjectName, "an object's name: lower-case letters, digits, '-' and '.', at most 253 characters", 253,
        r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$";
    /// The name of a Service, here one that may also begin with a digit: a DNS-1123 label.
    ServiceName, "a Service's name: lower-case letters, digits and '-', at most 63 characters", 63,
        r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$";
    /// A host name in Gateway API: an asterisk only as the whole first label.
    /// <https://gateway-api.sigs.k8s.io/reference/spec/#hostname>
    Hostname, "a DNS name in lower case, such as models.example.com or *.example.com", 253,
        r"^(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$";
    /// The name of a model in a request's body.
    ModelName, "a model name: at most 253 characters, none of them white space or a control character", 253,
        r"^[^\x00-\x20\x7f-\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]+$";
    /// A duration in Gateway API: up to four parts, each up to five digits and h, m, s or ms.
    /// <https://gateway-api.sigs.k8s.io/geps/gep-2257/>
    Duration, "a duration such as 300s, 1m30s or 500ms (0s: no limit)", 32,
        r"^([0-9]{1,5}(h|m|s|ms)){1,4}$";
    /// The name of a role, which may have colons.
    RoleName, "a role's name: letters, digits, '-', '.', '_' and ':', at most 253 characters", 253,
        r"^[A-Za-z0-9][A-Za-z0-9:._-]*$";
    /// A DNS name without a dot at its end.
    DomainName, "a DNS name in lower case, such as cluster.local", 253,
        r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$";
    /// A label's key, with or without a prefix.
    LabelKey, "a label's key, such as pool or example.com/pool", 317,
        r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$";
    /// A label's value, which may be empty.
    LabelValue, "a label's value: letters, digits, '-', '_' and '.', at most 63 characters", 63,
        r"^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$";
    /// The name of an environment variable.
    EnvName, "the name of an environment variable: letters, digits and '_', no digit first", 253,
        r"^[A-Za-z_][A-Za-z0-9_]*$";
    /// The path of a field of a Pod. <https://kubernetes.io/docs/concepts/workloads/pods/downward-api/>
    PodField, "a field of a Pod, such as metadata.namespace or status.podIP", 400,
        r"^(metadata\.(name|namespace|uid|(labels|annotations)\['[A-Za-z0-9./_-]+'\])|spec\.(nodeName|serviceAccountName)|status\.(hostIPs?|podIPs?))$";
    /// A flag of the endpoint picker, in one word.
    Argument, "a flag in one word, such as --v=4", 4096,
        r"^--?[a-z][a-z0-9-]*=[^\r\n]*$";
    /// The name of a compute resource.
    /// <https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/>
    ResourceName, "a resource: cpu, memory, ephemeral-storage, or one such as example.com/device", 317,
        r"^(cpu|memory|ephemeral-storage|[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)$";
    /// A container image: its registry, its path, and its tag, digest, or both.
    /// <https://github.com/distribution/reference>
    Image, "an image, such as registry.example.com/team/epp:v1.5.0 or with @sha256:… behind it", 512,
        r"^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?$";
    /// A version: its major and minor number, and what there is behind them.
    Version, "a version, such as v1.5.0", 64,
        r"^v?[0-9]{1,4}\.[0-9]{1,4}(\.[0-9]+)?([-+][A-Za-z0-9.+-]+)?$";
    /// Gateways: a namespace and a name, each with asterisks for what does not matter. Without a
    /// namespace, those of the Model's own.
    GatewayPattern, "of the form [namespace/]name, in which '*' stands for anything", 317,
        r"^([a-z0-9*]([a-z0-9*-]*[a-z0-9*])?/)?[a-z0-9*]([a-z0-9*.-]*[a-z0-9*])?$";
    /// What is logged: a level, and other levels for parts of the program.
    LogLevel, "off, error, warn, info, debug, trace, or a list of target=level with commas between", 1024,
        r"^([A-Za-z0-9_]+(::[A-Za-z0-9_]+)*=)?(off|error|warn|info|debug|trace)(,([A-Za-z0-9_]+(::[A-Za-z0-9_]+)*=)?(off|error|warn|info|debug|trace))*$";
    /// A range of IP addresses.
    Cidr, "a range of addresses, such as 10.0.0.0/8", 64,
        r"^([0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}|[0-9a-fA-F:]*:[0-9a-fA-F:.]*/[0-9]{1,3})$";
    /// A host name with places to fill in.
    HostnameTemplate, "a host name in lower case, in which only {namespace} and {name} are filled in", 253,
        r"^(\*\.)?([a-z0-9.-]|\{namespace\}|\{name\})+$";
    /// A path with places to fill in.
    PathTemplate, "a path from '/' on, in which only {namespace} and {name} are filled in", 1024,
        r"^/([A-Za-z0-9._~!$&'()*+,;=:@%/-]|\{namespace\}|\{name\})*$";
    /// The Gateways of a Model that names none.
    DefaultGateway, "of the form [namespace/]name[:listener], with commas between several", 4096,
        r"^[a-z0-9.:/, -]+$";
}

/// What a path prefix may be, and what is said of one that is none.
/// <https://gateway-api.sigs.k8s.io/reference/spec/#httppathmatch>
pub mod path {
    /// How long it may be, in characters.
    pub const LONGEST: usize = 1024;
    /// A character that may not be in it.
    pub const OTHER: &str = "[^A-Za-z0-9._~!$&'()*+,;=:@%/-]";
    /// Parts that may not be in it, in lower case.
    pub const PARTS: [&str; 4] = ["//", "/./", "/../", "%2f"];
    /// It does not begin as a path does.
    pub const NO_BEGINNING: &str =
        "does not start with a slash; a path is, for example, /models/demo";
    /// What is said behind a character that may not be in it.
    pub const CHARACTERS: &str =
        "where a path allows only letters, digits, -._~!$&'()*+,;=:@/ and %XX";
    /// What is said behind a part that may not be in it.
    pub const NO_PART: &str = "in it, which Gateway API does not allow in a path";
    /// It ends in a relative part.
    pub const NO_END: &str = "ends in a relative part, which Gateway API does not allow in a path";
}

impl Version {
    /// Its major and minor number.
    pub fn numbers(&self) -> (u32, u32) {
        let mut numbers = self
            .0
            .trim_start_matches('v')
            .split(['.', '-', '+'])
            .map(|number| number.parse().unwrap_or(0));
        (
            numbers.next().unwrap_or_default(),
            numbers.next().unwrap_or_default(),
        )
    }
}

impl Image {
    /// The version that its tag says it is of.
    pub fn version(&self) -> Option<Version> {
        let without_digest = self.0.split('@').next().unwrap_or_default();
        let name = without_digest.rsplit('/').next().unwrap_or_default();
        Version::new(name.split_once(':')?.1).ok()
    }
}

impl Argument {
    /// The flag's name.
    pub fn flag(&self) -> &str {
        let flag = self.0.split('=').next().unwrap_or_default();
        flag.trim_start_matches('-')
    }
}

impl GatewayPattern {
    /// Whether it stands for the Gateway `namespace`/`name`, for a Model of the namespace `own`.
    pub fn fits(&self, namespace: &str, name: &str, own: &str) -> bool {
        let (pattern, wanted) = self.0.split_once('/').unwrap_or((own, &self.0));
        glob(pattern, namespace) && glob(wanted, name)
    }
}

/// Whether a text is what a pattern with asterisks stands for.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(start) else {
        return false;
    };
    (0..=text.len()).any(|at| text.is_char_boundary(at) && glob(rest, &text[at..]))
}
