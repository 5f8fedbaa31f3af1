//! Which local binary stands for which image.

use std::path::PathBuf;

/// A rule: containers of such an image and name run this binary. The first rule that fits is used.
#[derive(Clone, Debug)]
pub struct ImageMap {
    /// The image, where `*` stands for anything.
    pub image: String,
    /// The container's name, where `*` stands for anything.
    pub container: String,
    /// The binary. It must need nothing but the host's libraries.
    pub binary: PathBuf,
    /// How its arguments come from the container's command and args.
    pub arguments: Arguments,
    /// Whether `POD_NAME` is set where the pod does not set it itself.
    pub sets_pod_name: bool,
}

/// How a binary's arguments come from a container's command and args.
#[derive(Clone, Copy, Debug)]
pub enum Arguments {
    /// The binary is the image's entrypoint, or the program that the command names.
    AsGiven,
    /// A function of command and args. When it gives nothing, the rule does not fit.
    Rule(fn(&[String]) -> Option<Vec<String>>),
}

impl ImageMap {
    /// A rule for all containers of an image that pass their arguments as they are.
    pub fn as_given(image: &str, binary: PathBuf) -> Self {
        Self {
            image: image.to_owned(),
            container: "*".to_owned(),
            binary,
            arguments: Arguments::AsGiven,
            sets_pod_name: false,
        }
    }
}

/// The first rule that fits a container, and the arguments that it gives to its binary.
pub(crate) fn resolve<'a>(
    maps: &'a [ImageMap],
    image: &str,
    container: &str,
    command: &[String],
    args: &[String],
) -> Option<(&'a ImageMap, Vec<String>)> {
    maps.iter()
        .filter(|map| fits(&map.image, image) && fits(&map.container, container))
        .find_map(|map| {
            let arguments = match map.arguments {
                Arguments::AsGiven => [command.get(1..).unwrap_or_default(), args].concat(),
                Arguments::Rule(rule) => rule(&[command, args].concat())?,
            };
            Some((map, arguments))
        })
}

/// Whether `text` fits a pattern in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|start| text.strip_prefix(start)) else {
        return false;
    };
    let Some(end) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_star_stands_for_anything() {
        assert!(fits(
            "registry.example/epp:*",
            "registry.example/epp:v1.5.0"
        ));
        assert!(fits("*vllm*", "public.example/x/vllm-cpu:latest"));
        assert!(fits("*", ""));
        assert!(fits("a*b*c", "abbc"));
        assert!(!fits("a*bc*c", "abc"));
        assert!(!fits("epp", "epp:v1"));
        assert!(!fits("epp:*", "x/epp:v1"));
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let refuse = ImageMap {
            arguments: Arguments::Rule(|_| None),
            ..ImageMap::as_given("a*", "first".into())
        };
        let reverse = ImageMap {
            arguments: Arguments::Rule(|words| Some(words.iter().rev().cloned().collect())),
            ..ImageMap::as_given("ab", "second".into())
        };
        let maps = [refuse, reverse, ImageMap::as_given("a*", "third".into())];
        let resolved = |image| {
            let (map, arguments) = resolve(&maps, image, "c", &words("cmd 1"), &words("2"))?;
            Some((map.binary.to_str()?, arguments))
        };
        assert_eq!(resolved("ab"), Some(("second", words("2 1 cmd"))));
        assert_eq!(resolved("ac"), Some(("third", words("1 2"))));
        assert_eq!(resolved("b"), None);
    }

    #[test]
    fn without_a_command_the_args_go_to_the_entrypoint() {
        let maps = [ImageMap::as_given("a", "bin".into())];
        let (_, arguments) = resolve(&maps, "a", "c", &[], &words("1 2")).unwrap();
        assert_eq!(arguments, words("1 2"));
    }
}
