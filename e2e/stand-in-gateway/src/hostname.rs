//! Hostnames of listeners and routes, both of which may be wildcards.
//!
//! <https://gateway-api.sigs.k8s.io/reference/spec/#httproutespec>

/// Stands for every hostname.
pub(crate) const ANY: &str = "*";

/// The hostnames that both patterns stand for, itself a pattern.
pub(crate) fn intersection<'a>(listener: &'a str, route: &'a str) -> Option<&'a str> {
    if covers(listener, route) {
        Some(route)
    } else if covers(route, listener) {
        Some(listener)
    } else {
        None
    }
}

/// Whether every hostname of `narrow` is one of `wide`.
fn covers(wide: &str, narrow: &str) -> bool {
    if wide == ANY || wide == narrow {
        return true;
    }
    // `*.example.com` stands for one label or more before `.example.com`.
    wide.strip_prefix('*')
        .is_some_and(|suffix| narrow.strip_prefix('*').unwrap_or(narrow).ends_with(suffix))
        && narrow != ANY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrower_of_two_hostnames_is_their_intersection() {
        for (listener, route, both) in [
            (ANY, "a.example.com", Some("a.example.com")),
            (ANY, ANY, Some(ANY)),
            ("a.example.com", ANY, Some("a.example.com")),
            ("a.example.com", "a.example.com", Some("a.example.com")),
            ("*.example.com", "a.example.com", Some("a.example.com")),
            ("*.example.com", "b.a.example.com", Some("b.a.example.com")),
            ("a.example.com", "*.example.com", Some("a.example.com")),
            ("*.example.com", "*.a.example.com", Some("*.a.example.com")),
            ("*.a.example.com", "*.example.com", Some("*.a.example.com")),
            ("*.example.com", ANY, Some("*.example.com")),
            ("*.example.com", "example.com", None),
            ("*.example.com", "aexample.com", None),
            ("a.example.com", "b.example.com", None),
            ("*.example.com", "*.example.org", None),
        ] {
            assert_eq!(
                intersection(listener, route),
                both,
                "{listener} and {route}"
            );
        }
    }
}
