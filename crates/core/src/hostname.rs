//! Host names of listeners and routes, which may begin with `*.`; empty is every host.
//! <https://gateway-api.sigs.k8s.io/reference/spec/#hostname>

/// The hosts that both serve, if there are any.
pub(crate) fn intersection<'a>(a: &'a str, b: &'a str) -> Option<&'a str> {
    if covers(a, b) {
        Some(b)
    } else {
        covers(b, a).then_some(a)
    }
}

/// Whether every host of `narrow` is one of `wide`. A wildcard stands for one label or more.
pub(crate) fn covers(wide: &str, narrow: &str) -> bool {
    if wide.is_empty() || wide == narrow {
        return true;
    }
    wide.strip_prefix('*')
        .is_some_and(|suffix| narrow.ends_with(suffix) && narrow.len() > suffix.len())
}

/// The host names that cover this one, it included, from the narrowest on.
pub(crate) fn covering(host: &str) -> Vec<String> {
    if host.is_empty() {
        return vec![String::new()];
    }
    let mut all = vec![host.to_owned()];
    let mut rest = host.strip_prefix("*.").unwrap_or(host);
    while let Some((_, parent)) = rest.split_once('.') {
        all.push(format!("*.{parent}"));
        rest = parent;
    }
    all.push(String::new());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrower_of_two_hosts_is_what_both_serve() {
        assert_eq!(intersection("", "a.b"), Some("a.b"));
        assert_eq!(intersection("a.b", ""), Some("a.b"));
        assert_eq!(intersection("*.b.c", "x.a.b.c"), Some("x.a.b.c"));
        assert_eq!(intersection("*.a.b.c", "*.b.c"), Some("*.a.b.c"));
        assert_eq!(intersection("*.b.c", "b.c"), None);
        assert_eq!(intersection("a.b", "a.c"), None);
    }

    #[test]
    fn what_covers_a_host_is_found_without_looking_at_all() {
        assert_eq!(covering("a.b.c"), ["a.b.c", "*.b.c", "*.c", ""]);
        assert_eq!(covering("*.b.c"), ["*.b.c", "*.c", ""]);
        for wide in covering("x.y.example.com") {
            assert!(covers(&wide, "x.y.example.com"), "{wide}");
        }
    }
}
