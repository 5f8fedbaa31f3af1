//! Versions, as far as they are compared.

use std::fmt;

/// Major, minor and patch; what comes behind, such as `-rc.0`, does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32, pub(crate) u32);

impl Version {
    /// Reads `v1.2.3`, `1.2`, `v1.36.3+build` and the like.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(['-', '+', '_']).unwrap_or(text.len());
        let mut numbers = text[..end].split('.').map(str::parse);
        let major = numbers.next()?.ok()?;
        let minor = numbers.next()?.ok()?;
        let patch = numbers.next().unwrap_or(Ok(0)).ok()?;
        Some(Self(major, minor, patch))
    }

    /// The version that the tag of an image says.
    pub(crate) fn of_image(image: &str) -> Option<Self> {
        Self::parse(tag(image)?)
    }

    /// Without the patch.
    pub(crate) fn minor(self) -> (u32, u32) {
        (self.0, self.1)
    }
}

/// The tag of an image.
pub(crate) fn tag(image: &str) -> Option<&str> {
    let name = image.split('@').next()?.rsplit('/').next()?;
    name.split_once(':').map(|(_, tag)| tag)
}

/// The last part of an image's name, without its tag.
pub(crate) fn base(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    let name = name.rsplit('/').next().unwrap_or(name);
    name.split(':').next().unwrap_or(name)
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_in_every_form_that_tags_have() {
        for (text, version) in [
            ("v1.36.3", Some(Version(1, 36, 3))),
            ("1.31.0-rc.0", Some(Version(1, 31, 0))),
            ("v1.33.2+k3s1", Some(Version(1, 33, 2))),
            ("v1.5", Some(Version(1, 5, 0))),
            ("latest", None),
            ("v1", None),
            ("", None),
        ] {
            assert_eq!(Version::parse(text), version, "{text}");
        }
    }

    #[test]
    fn images_have_registries_with_ports_and_digests() {
        let image = "localhost:5000/a/epp:v1.5.0@sha256:0123";
        assert_eq!((base(image), tag(image)), ("epp", Some("v1.5.0")));
        assert_eq!(
            (base("localhost:5000/epp"), tag("localhost:5000/epp")),
            ("epp", None)
        );
        assert_eq!(Version::of_image("epp@sha256:0123"), None);
    }
}
